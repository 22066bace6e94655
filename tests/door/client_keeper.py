"""The position keeper's caller: the three `curl` lines of its document, and what a page around them does.

Written from the seed's document alone: `-X POST` without a body, `Authorization: Bearer`, `X-Current-User-Id`; 201 for
a start that started, 409 for one that someone else's lock refuses, 200 for status and stop.
"""

import http.client
import json
import time
import urllib.parse

GATEWAY_SECONDS = 29  # What an API gateway waits for its integration.


class Unexpected(Exception):
    def __init__(self, status, body):
        super().__init__(f"{status}: {body}")
        self.status = status
        self.body = body


class Refused(Exception):
    """409: running, starting, or locked by someone."""

    def __init__(self, body):
        super().__init__(body.get("error"))
        self.holder = body.get("holder")
        self.expires_at = body.get("expires_at")
        self.body = body


class PositionKeeper:
    def __init__(self, base, token, user, seconds=GATEWAY_SECONDS):
        parts = urllib.parse.urlsplit(base)
        self.where = (parts.hostname, parts.port)
        self.prefix = parts.path.rstrip("/")
        self.headers = {"Authorization": f"Bearer {token}", "X-Current-User-Id": user, "Accept": "*/*"}
        self.seconds = seconds
        self.slowest = 0.0

    def _ask(self, method, path):
        """One `curl -X METHOD`: no body, and no Content-Length on a POST either."""
        began = time.monotonic()
        connection = http.client.HTTPConnection(*self.where, timeout=self.seconds)
        try:
            connection.putrequest(method, f"{self.prefix}/position-keeper/{path}")
            for name, value in self.headers.items():
                connection.putheader(name, value)
            connection.endheaders()
            response = connection.getresponse()
            text = response.read()
        finally:
            self.slowest = max(self.slowest, time.monotonic() - began)
            connection.close()
        return response.status, json.loads(text)

    def status(self):
        status, body = self._ask("GET", "status")
        if status != 200:
            raise Unexpected(status, body)
        return body

    def start(self):
        status, body = self._ask("POST", "start")
        if status == 409:
            raise Refused(body)
        if status != 201:
            raise Unexpected(status, body)
        return body

    def stop(self):
        status, body = self._ask("POST", "stop")
        if status != 200:
            raise Unexpected(status, body)
        return body

    def until(self, overall, seconds, every=0.2):
        """The page's own polling; the overall states that it saw on the way."""
        seen = []
        until = time.monotonic() + seconds
        while True:
            now = self.status()["instance_status"]["overall_status"]
            if not seen or seen[-1] != now:
                seen.append(now)
            if now == overall:
                return seen
            if time.monotonic() > until:
                raise TimeoutError(f"never {overall}: {seen}")
            time.sleep(every)
