"""A front end of Walrus: a page (cross-origin) or a script with `requests`.

Written from the seed's document alone. `POST /api/instances` is *synchronous*: it answers when the machine is ready,
which "can take 5-10 minutes"; a script that uses `requests` has no timeout of its own. Errors are FastAPI's: JSON.
"""

import http.client
import json
import urllib.parse
from dataclasses import dataclass

STATUSES = {"waiting_for_instance", "waiting_for_ssm", "fetching_blob", "ready", "failed"}


@dataclass
class Reply:
    status: int
    headers: dict
    text: str

    @property
    def json(self):
        return json.loads(self.text)

    @property
    def ok(self):
        return self.status < 400


class Walrus:
    def __init__(self, base, token=None, seconds=600, headers=None):
        parts = urllib.parse.urlsplit(base)
        self.where = (parts.hostname, parts.port)
        self.prefix = parts.path.rstrip("/")
        self.seconds = seconds
        self.headers = {"User-Agent": "python-requests/2.32.3", "Accept": "*/*", **(headers or {})}
        if token:
            self.headers["Authorization"] = f"Bearer {token}"

    def ask(self, method, path, body=None, headers=None):
        sent = {**self.headers, **(headers or {})}
        data = None
        if body is not None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            sent.setdefault("Content-Type", "application/json")
        connection = http.client.HTTPConnection(*self.where, timeout=self.seconds)
        try:
            connection.request(method, self.prefix + path, data, sent)
            response = connection.getresponse()
            text = response.read().decode()
            answered = {name.lower(): value for name, value in response.getheaders()}
            return Reply(response.status, answered, text)
        finally:
            connection.close()

    def create(self, blob, key="blob_id", **headers):
        """`requests.post(…, json={"blob_id": …})`: the whole answer, once the machine is ready."""
        return self.ask("POST", "/api/instances", {key: blob}, headers)

    def all(self):
        return self.ask("GET", "/api/instances")

    def one(self, instance):
        return self.ask("GET", f"/api/instances/{instance}")

    def delete(self, instance):
        return self.ask("DELETE", f"/api/instances/{instance}")

    def health(self):
        return self.ask("GET", "/")
