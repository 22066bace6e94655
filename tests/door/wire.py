"""HTTP/1 by hand: what a client library would tidy up is sent as it is, and each answer is judged strictly.

An answer that is not well-formed is a failure of the test that asked, whatever it asked: `BadAnswer` is an
`AssertionError`.
"""

import json
import re
import select
import socket
import time

TOKEN = re.compile(rb"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")
STATUS = re.compile(rb"^HTTP/1\.([01]) ([1-5][0-9][0-9]) ([\x20-\x7e]*)$")
SINGLE = {
    "content-length", "content-type", "location", "retry-after", "access-control-allow-origin", "www-authenticate",
    "content-security-policy", "x-content-type-options", "referrer-policy", "cache-control", "date",
}  # fmt: skip


class BadAnswer(AssertionError):
    """What came back is no HTTP answer as it should be."""


class Closed(Exception):
    """The connection ended before an answer began."""


class Answer:
    def __init__(self, status, fields, body, version, whole):
        self.status = status
        self.fields = fields
        self.body = body
        self.version = version
        self.whole = whole
        self.headers = {}
        for name, value in fields:
            if name in self.headers and name in SINGLE:
                raise BadAnswer(f"{name} stands twice: {fields}")
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value

    @property
    def text(self):
        return self.body.decode("utf-8")

    @property
    def json(self):
        try:
            return json.loads(self.text)
        except ValueError as error:
            raise BadAnswer(f"{self.status} is no JSON ({error}): {self.body[:300]!r}") from None

    @property
    def media(self):
        return self.headers.get("content-type", "").split(";")[0].strip().lower()

    def __repr__(self):
        return f"<{self.status} {self.headers} {self.body[:600]!r}>"


class Connection:
    """One socket to the door; `ask` may be called again on it while the server keeps it open."""

    def __init__(self, address, seconds=35.0):
        self.seconds = seconds
        self.socket = socket.create_connection(address, timeout=seconds)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.read = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data):
        """Sends; whether all of it was taken (a server may answer and close before it has read everything)."""
        try:
            self.socket.sendall(data)
            return True
        except (BrokenPipeError, ConnectionResetError):
            return False

    def finish(self):
        """Says that nothing more will be sent."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # The server has closed it already.

    def _more(self, until):
        left = until - time.monotonic()
        if left <= 0:
            raise TimeoutError(f"nothing more came; so far {self.read[:300]!r}")
        self.socket.settimeout(left)
        try:
            data = self.socket.recv(65536)
        except (TimeoutError, socket.timeout):
            raise TimeoutError(f"nothing more came; so far {self.read[:300]!r}") from None
        except ConnectionResetError:
            data = b""
        self.read += data
        return bool(data)

    def head(self, until):
        while b"\r\n\r\n" not in self.read:
            if not self._more(until):
                if not self.read:
                    raise Closed
                raise BadAnswer(f"the headers end early: {self.read[:500]!r}")
        head, self.read = self.read.split(b"\r\n\r\n", 1)
        lines = head.split(b"\r\n")
        status = STATUS.match(lines[0])
        if not status:
            raise BadAnswer(f"no status line: {lines[0]!r}")
        fields = []
        for line in lines[1:]:
            name, colon, value = line.partition(b":")
            if not colon or not TOKEN.match(name):
                raise BadAnswer(f"no header: {line!r}")
            if re.search(rb"[\x00-\x08\x0a-\x1f\x7f]", value):
                raise BadAnswer(f"a control character in a header: {line!r}")
            fields.append((name.decode().lower(), value.strip().decode("latin-1")))
        return int(status[2]), fields, int(status[1])

    def _take(self, count, until):
        while len(self.read) < count:
            if not self._more(until):
                raise BadAnswer(f"the body ends early: {len(self.read)} of {count}")
        taken, self.read = self.read[:count], self.read[count:]
        return taken

    def line(self, until):
        while b"\r\n" not in self.read:
            if not self._more(until):
                raise BadAnswer(f"a line ends early: {self.read[:100]!r}")
        line, self.read = self.read.split(b"\r\n", 1)
        return line

    def chunk(self, until):
        size = self.line(until).split(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,8}", size):
            raise BadAnswer(f"no chunk size: {size!r}")
        data = self._take(int(size, 16), until)
        if data:
            if self._take(2, until) != b"\r\n":
                raise BadAnswer("a chunk does not end with its line")
        else:
            while self.line(until):
                pass
        return data

    def answer(self, method="GET", seconds=None):
        """The next answer on this connection."""
        until = time.monotonic() + (seconds or self.seconds)
        status, fields, version = self.head(until)
        if 100 <= status < 200:
            return self.answer(method, seconds)
        headers = dict(fields)
        lengths = [value for name, value in fields if name == "content-length"]
        chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        if len(lengths) > 1 or (lengths and "transfer-encoding" in headers):
            raise BadAnswer(f"its length is said twice: {fields}")
        whole = True
        if method == "HEAD" or status in (204, 304):
            if status == 204 and (lengths not in ([], ["0"]) or chunked):
                raise BadAnswer(f"a 204 with a body: {fields}")
            body = b""
        elif chunked:
            parts = []
            while part := self.chunk(until):
                parts.append(part)
            body = b"".join(parts)
        elif lengths:
            if not lengths[0].isdigit():
                raise BadAnswer(f"no length: {lengths[0]}")
            body = self._take(int(lengths[0]), until)
        else:
            while self._more(until):
                pass
            body, self.read, whole = self.read, b"", False
        return Answer(status, fields, body, version, whole)

    def ask(self, method, path, body=None, headers=(), seconds=None):
        if not self.send(request(method, path, body, headers)):
            pass  # What it answered before it closed may still be there.
        return self.answer(method, seconds)

    def is_open(self):
        """Whether the server still keeps the connection, without waiting."""
        readable, _, _ = select.select([self.socket], [], [], 0)
        if not readable:
            return True
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except OSError:
            return False


def request(method, path, body=None, headers=()):
    """A request as bytes; a header given here replaces what would be sent by itself, None leaves it out."""
    given = dict(headers)
    names = {name.lower() for name in given}
    lines = []
    if "host" not in names:
        lines.append(b"Host: 127.0.0.1")
    if body is not None:
        if isinstance(body, (dict, list)):
            body = json.dumps(body)
            if "content-type" not in names:
                lines.append(b"Content-Type: application/json")
        if isinstance(body, str):
            body = body.encode()
        if not names & {"content-length", "transfer-encoding"}:
            lines.append(b"Content-Length: %d" % len(body))
    for name, value in given.items():
        if value is not None:
            value = value if isinstance(value, bytes) else str(value).encode("latin-1")
            lines.append(name.encode() + b": " + value)
    path = path if isinstance(path, bytes) else path.encode()
    head = b"\r\n".join([method.encode() + b" " + path + b" HTTP/1.1", *lines])
    return head + b"\r\n\r\n" + (body or b"")


def exchange(address, data, seconds=35.0, method="GET"):
    """Sends bytes on a connection of their own; the first answer, or None where it was closed without a word."""
    with Connection(address, seconds) as connection:
        connection.send(data)
        try:
            return connection.answer(method)
        except Closed:
            return None


class Events:
    """A stream of server-sent events, read as the standard has it."""

    def __init__(self, address, path="/v1/events", headers=(), seconds=10.0):
        self.connection = Connection(address, seconds)
        self.connection.send(request("GET", path, headers={"Accept": "text/event-stream", **dict(headers)}))
        until = time.monotonic() + seconds
        self.status, self.fields, _ = self.connection.head(until)
        self.headers = dict(self.fields)
        self.text = b""

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.connection.close()

    def _line(self, until):
        while b"\n" not in self.text:
            if self.headers.get("transfer-encoding", "").lower() == "chunked":
                part = self.connection.chunk(until)
                if not part:
                    raise Closed
                self.text += part
            else:
                if not self.connection.read and not self.connection._more(until):
                    raise Closed
                self.text += self.connection.read
                self.connection.read = b""
        line, self.text = self.text.split(b"\n", 1)
        return line.rstrip(b"\r").decode("utf-8")

    def next(self, seconds=10.0):
        """(event, data), or (None, comment) for a comment alone."""
        until = time.monotonic() + seconds
        name, data, comments = "message", [], []
        while True:
            line = self._line(until)
            if line.startswith(":"):
                comments.append(line[1:].strip())
            elif line:
                field, _, value = line.partition(":")
                value = value.removeprefix(" ")
                if field == "event":
                    name = value
                elif field == "data":
                    data.append(value)
                elif field not in ("id", "retry"):
                    raise BadAnswer(f"no field of a stream: {line!r}")
            elif data:
                return name, json.loads("\n".join(data))
            elif comments:
                return None, " ".join(comments)
            elif name != "message":
                return name, None

    def until(self, wanted, seconds=20.0):
        """Everything up to and with the first (event, data) that `wanted` takes."""
        until = time.monotonic() + seconds
        seen = []
        while True:
            seen.append(self.next(max(0.05, until - time.monotonic())))
            if wanted(*seen[-1]):
                return seen
