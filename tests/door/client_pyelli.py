"""PyElli's Streamlit app, and the rule that EventBridge runs for it.

Written from the seed's document alone: the app looks at the backend's `/health`, posts `{"action": "start"}` *once* to
`BACKEND_START_LAMBDA_URL`, which has no authentication, and then polls `/health` every 5 s for up to 180 s.
"""

import json
import socket
import time
import urllib.error
import urllib.request


class Orchestrator:
    """The function URL: one path for everything, told apart by the body."""

    def __init__(self, url, seconds=30):
        self.url = url
        self.seconds = seconds

    def post(self, body, content_type="application/json"):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request(self.url, data, {"Content-Type": content_type}, method="POST")
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as response:
                return response.status, json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.loads(error.read())

    def check_idle(self):
        """EventBridge's constant input."""
        return self.post({"action": "check_idle"})


class StreamlitApp:
    def __init__(self, function_url, backend, every=5.0, limit=180.0):
        self.orchestrator = Orchestrator(function_url)
        self.backend = backend.rstrip("/")
        self.every = every
        self.limit = limit
        self.started = []

    def healthy(self):
        try:
            with urllib.request.urlopen(f"{self.backend}/health", timeout=5) as response:
                return response.status == 200
        except (urllib.error.URLError, socket.timeout, ConnectionError):
            return False

    def grid_search(self):
        """The user presses the button: how long it took until the backend could be used."""
        began = time.monotonic()
        if self.healthy():
            return 0.0
        status, answer = self.orchestrator.post({"action": "start"})
        self.started.append((status, answer))
        if status != 200:
            raise RuntimeError(f"the backend cannot be started: {status} {answer}")
        while time.monotonic() - began < self.limit:
            if self.healthy():
                return time.monotonic() - began
            time.sleep(self.every)
        raise TimeoutError(f"the backend did not come within {self.limit} s")
