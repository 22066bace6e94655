"""Fluidity's agent on someone's machine, and its operator with `curl` and `aws lambda invoke`.

Written from the seed's document alone. `curl -d` says `application/x-www-form-urlencoded` whatever it sends, so the
agent's JSON goes out under that name. The document answers wake with `action` and `desiredCount`; the function
itself said `status` and the counts: the agent reads the count, which both have.
"""

import json
import time
import urllib.error
import urllib.request

CURL_TYPE = "application/x-www-form-urlencoded"


class Failed(Exception):
    def __init__(self, status, text):
        super().__init__(f"{status}: {text}")
        self.status = status
        self.text = text


class Agent:
    def __init__(self, url, cluster, service, token=None, seconds=30):
        self.url = url.rstrip("/")
        self.payload = {"clusterName": cluster, "serviceName": service}
        self.headers = {"User-Agent": "curl/8.5.0", "Accept": "*/*"}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"
        self.seconds = seconds

    def _ask(self, method, path, data=None, content_type=CURL_TYPE):
        request = urllib.request.Request(f"{self.url}{path}", method=method, headers=dict(self.headers))
        if data is not None:
            request.data = data
            request.add_header("Content-Type", content_type)
        try:
            with urllib.request.urlopen(request, timeout=self.seconds) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise Failed(error.code, error.read().decode()) from None

    def _curl(self, path):
        """`curl -X POST URL -d '{…}'`."""
        return self._ask("POST", path, json.dumps(self.payload, separators=(",", ":")).encode())

    def wake(self):
        answer = self._curl("/wake")
        if answer["desiredCount"] != 1:
            raise Failed(200, answer)
        return answer

    def kill(self):
        answer = self._curl("/kill")
        if answer["desiredCount"] != 0:
            raise Failed(200, answer)
        return answer

    def status(self):
        return self._ask("GET", "/status")

    def invoke(self, function, payload):
        """`aws lambda invoke --payload`: the event itself, as JSON; None is no payload at all."""
        data = b"" if payload is None else json.dumps(payload).encode()
        return self._ask("POST", f"/{function}", data, "application/json")

    def function_url_event(self, function, payload):
        """What a function URL made of a request: the payload is a *string* in `body`."""
        path = f"/{function}"
        event = {
            "version": "2.0",
            "routeKey": "$default",
            "rawPath": path,
            "headers": {"content-type": "application/json"},
            "requestContext": {"http": {"method": "POST", "path": path}},
            "body": json.dumps(payload),
            "isBase64Encoded": False,
        }
        return self.invoke(function, event)

    def run(self, seconds, every=0.2):
        """The agent's own start: wake, then wake again until the server runs, as a retrying client does."""
        answers = []
        until = time.monotonic() + seconds
        while True:
            answers.append(self.wake())
            if answers[-1].get("runningCount") == 1:
                return answers
            if time.monotonic() > until:
                raise TimeoutError(f"never running: {answers[-1]}")
            time.sleep(every)
