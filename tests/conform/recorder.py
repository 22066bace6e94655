"""A proxy between Lamplighter and an endpoint that keeps every exchange as it was on the wire."""

import dataclasses
import http.client
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclasses.dataclass
class Exchange:
    method: str
    path: str
    headers: dict
    body: bytes
    status: int
    answer_headers: dict
    answer: bytes


class Recorder:
    def __init__(self, upstream):
        self.exchanges = []
        self.upstream = urllib.parse.urlsplit(upstream).netloc
        recorder = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def forward(self):
                length = int(self.headers.get("content-length") or 0)
                if self.headers.get("transfer-encoding"):
                    self.send_error(501, "the recorder takes no chunked request")
                    return
                recorder.forward(self, self.rfile.read(length))

            do_GET = do_POST = do_PUT = do_DELETE = forward  # noqa: N815: the names that http.server wants

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def forward(self, handler, body):
        headers = {name.lower(): value for name, value in handler.headers.items()}
        connection = http.client.HTTPConnection(self.upstream, timeout=40)
        try:
            sent = {name: value for name, value in headers.items() if name not in ("connection", "content-length")}
            connection.request(handler.command, handler.path, body, sent)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException):
            # The endpoint closed the connection, as one of its faults does: so does the recorder.
            handler.close_connection = True
            return
        finally:
            connection.close()
        answered = {name.lower(): value for name, value in answer.getheaders()}
        self.exchanges.append(
            Exchange(handler.command, handler.path, headers, body, answer.status, answered, data)
        )  # fmt: skip
        try:
            handler.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding", "content-length"):
                    handler.send_header(name, value)
            handler.send_header("Content-Length", str(len(data)))
            handler.end_headers()
            handler.wfile.write(data)
        except OSError:
            handler.close_connection = True  # The caller went away.

    def close(self):
        self.server.shutdown()
        self.server.server_close()
