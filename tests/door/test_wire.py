"""What a client library would never send: bodies, headers, framing and paths. Nothing of it starts anything.

The door has no authentication here and all the seeds' paths, so that nothing else keeps an attack out.
"""

import json
import os
import time
import unittest
from pathlib import Path

import harness
import parallel
import wire
from harness import Door
from wire import request

load_tests = parallel.load_tests

JSON = {"Content-Type": "application/json"}
START = '{"action": "start", "target": "pyelli"}'


class Attack(Door):
    FLEET = '[defaults]\ntarget = "pyelli"\n' + harness.OPEN + harness.ALL_TARGETS + harness.QUICK

    def tearDown(self):
        """Whatever was sent: the door lives, and nothing was started or even asked for."""
        self.lives()
        self.assertEqual(self.sent(), 0)
        self.assertEqual(self.started(), 0)

    def memory_kb(self):
        status = Path(f"/proc/{self.local.process.pid}/status")
        if not status.exists():
            self.skipTest("there is no /proc here")
        line = next(line for line in status.read_text().splitlines() if line.startswith("RssAnon:"))
        return int(line.split()[1])


class Bodies(Attack):
    def refused(self, body, *statuses, headers=None, path="/v1/commands"):
        answer = self.ask("POST", path, body, {**JSON, **(headers or {})})
        if path.startswith("/v1/"):
            return self.problem(answer, *(statuses or (400, 422)))
        self.assertIn(answer.status, statuses or (400, 422), answer)
        self.assertIn("json", answer.media)
        self.assertIsInstance(answer.json, dict)
        return answer.json

    def everywhere(self, body, *statuses, headers=None):
        for path in ("/v1/commands", "/", "/wake", "/api/instances", "/v1/dead-letters/replay"):
            with self.subTest(path=path, body=body[:40]):
                self.refused(body, *statuses, headers=headers, path=path)

    def test_what_is_no_json(self):
        for body in [
            "", "{", "}", "[]", "null", "1", '"start"', "NaN", "{'action': 'start'}", START[:-1], START + "}",
            START + START, "\ufeff" + START, START + "\0", "// x\n" + START, '{"action": start}', '{"action": "start",}',
        ]:  # fmt: skip
            if body or True:
                self.refused(body)

    def test_deep_and_wide_json(self):
        for body in [
            "[" * 50_000, '{"a":' * 20_000,
            '{"action": "start", "target": "pyelli", "x": ' + "[" * 5_000 + "]" * 5_000 + "}", "[" * 20_000 + "]" * 20_000,
        ]:  # fmt: skip
            self.everywhere(body, 400, 413, 422)
        wide = json.dumps({"action": "start", "target": "pyelli", **{f"k{index}": index for index in range(3_000)}})
        self.refused(wide, 400, 413, 422)
        for number in ("1e99999", "-" + "9" * 10_000, "-1", "1e18"):
            self.refused('{"action": "start", "target": "pyelli", "until": ' + number + "}")

    def test_keys_that_stand_twice(self):
        for body in [
            '{"action": "start", "target": "pyelli", "action": "stop"}',
            '{"action": "start", "Action": "stop", "target": "pyelli"}',
            '{"action": "start", "target": "pyelli", "\\u0074arget": "fluidity"}',
        ]:  # fmt: skip
            with self.subTest(body=body):
                self.refused(body)
                self.refused(body, path="/")
        self.refused(
            '{"clusterName": "fluidity-prod", "cluster_name": "x", "serviceName": "fluidity-server-prod"}', path="/wake"
        )
        self.refused('{"blob_id": "abcdefgh", "blob_id": "abcdefgi"}', path="/api/instances")

    def test_what_is_no_utf8(self):
        for raw in [
            b"\xff\xfe{", b'{"action": "start", "target": "pyelli", "reason": "\xc3\x28"}', START.encode("utf-16"),
            b'{"action": "start", "target": "pyelli", "holder": "\xed\xa0\x80"}', b"\x00" * 100,
            b"\x1f\x8b\x08\x00" + b"\x00" * 40,
        ]:  # fmt: skip
            with self.subTest(raw=raw[:20]):
                self.refused(raw)
                self.refused(raw, path="/wake")
        self.refused('{"action": "start", "target": "pyelli", "holder": "a\\u0000b"}')
        self.refused('{"action": "start", "target": "pyelli", "holder": "\\ud800"}')

    def test_content_types(self):
        for content_type in [
            "text/plain", "text/html", "application/xml", "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x", "application/jsonx", "json", "", "text/json;application/json", "a" * 3_000,
        ]:  # fmt: skip
            with self.subTest(content_type=content_type[:40]):
                self.refused(START, 415, 400, headers={"Content-Type": content_type})
        for headers in [{"Content-Encoding": "gzip"}, {"Content-Encoding": "br"}]:
            with self.subTest(headers=headers):
                self.refused(b"\x1f\x8b\x08\x00\x00\x00\x00\x00", 400, 415, 422, headers=headers)
        self.problem(self.local.raw(request("POST", "/v1/commands", START.encode(), {})), 400, 415)

    def test_huge_bodies_are_refused_before_they_are_read(self):
        for path in (
            "/v1/commands",
            "/",
            "/wake",
            "/position-keeper/start",
            "/api/instances",
            "/wait/pyelli?to=https://app.example.com/",
        ):
            with self.subTest(path=path):
                began = time.monotonic()
                head = request("POST", path, b"", {**JSON, "Content-Length": str(1 << 30)})
                answer = self.local.raw(head + b'{"action": "', seconds=10)
                self.assertIsNotNone(answer)
                self.assertIn(answer.status, (413, 404), answer)
                self.assertLess(time.monotonic() - began, 5)
        self.refused("{" + " " * 2_000_000 + START[1:], 413)
        answer = self.local.raw(request("POST", "/v1/commands", b"", {**JSON, "Content-Length": "9" * 30}), seconds=10)
        self.assertIn(answer.status if answer else 400, (400, 413), answer)

    def test_a_chunked_body_without_an_end(self):
        before = self.memory_kb()
        sent = 0
        with self.local.connect(20) as connection:
            connection.send(request("POST", "/v1/commands", None, {**JSON, "Transfer-Encoding": "chunked"}))
            part = b"10000\r\n" + b" " * 65536 + b"\r\n"
            while sent < 200 << 20 and connection.send(part):
                sent += len(part)
            try:
                answer = connection.answer(seconds=5)
            except (wire.Closed, TimeoutError):
                answer = None
        self.assertLess(sent, 64 << 20, "it reads on and on")
        if answer is not None:
            self.problem(answer, 413)
        self.assertLess(self.memory_kb() - before, 32 << 10, "it keeps what it reads")

    def test_chunks_that_are_none(self):
        for raw in [
            b"xyz\r\n", b"-1\r\n", b"ffffffffffffffff\r\n", b"10000000000000000000\r\n", b"5\r\nabc", b"5 \r\nab",
            b"0x5\r\nabcde\r\n0\r\n\r\n", b"5;" + b"x" * 100_000 + b"\r\n",
        ]:  # fmt: skip
            with self.subTest(raw=raw[:30]), self.local.connect(25) as connection:
                connection.send(request("POST", "/v1/commands", None, {**JSON, "Transfer-Encoding": "chunked"}) + raw)
                connection.finish()
                try:
                    answer = connection.answer()
                except wire.Closed:
                    continue
                self.problem(answer, 400, 408, 413, 422, bare=True)

    def test_a_body_that_ends_early(self):
        with self.local.connect(25) as connection:
            connection.send(request("POST", "/v1/commands", None, {**JSON, "Content-Length": "100"}) + START.encode())
            connection.finish()
            try:
                self.problem(connection.answer(), 400, 408, bare=True)
            except wire.Closed:
                pass

    def test_a_get_with_a_body(self):
        answer = self.ask("GET", "/v1/targets", START, JSON)
        self.assertIn(answer.status, (200, 400, 413), answer)


class Headers(Attack):
    def bare(self, data, *statuses, seconds=15):
        answer = self.local.raw(data, seconds)
        if answer is not None:
            self.problem(answer, *statuses, bare=True)
        return answer

    def test_huge_and_many_headers(self):
        self.bare(request("GET", "/v1/targets", headers={"X-Big": "x" * 2_000_000}), 400, 431)
        self.bare(request("GET", "/v1/targets", headers={f"X-{index}": "1" for index in range(5_000)}), 400, 431)
        self.bare(request("GET", "/v1/targets", headers={"X" * 100_000: "1"}), 400, 431)
        self.bare(b"GET /v1/targets HTTP/1.1\r\nHost: 127.0.0.1\r\n" + b"Cookie: a=b\r\n" * 2_000 + b"\r\n", 400, 431)
        self.bare(request("GET", "/" + "x" * 1_000_000), 400, 404, 414, 431)

    def test_headers_without_an_end_are_not_kept(self):
        before = self.memory_kb()
        with self.local.connect(20) as connection:
            connection.send(b"GET /v1/targets HTTP/1.1\r\nHost: 127.0.0.1\r\n")
            sent = 0
            while sent < 100 << 20 and connection.send(b"X-A: " + b"x" * 60_000 + b"\r\n"):
                sent += 60_000
        self.assertLess(sent, 32 << 20, "it reads on and on")
        self.assertLess(self.memory_kb() - before, 32 << 10)

    def test_request_lines_that_are_none(self):
        for line in [
            b"GET", b"GET /", b"GET / HTTP/9.9", b"GET / HTTP/1.1 x", b"GET  / HTTP/1.1", b" GET / HTTP/1.1",
            b"GET /\0 HTTP/1.1", b"GET / http/1.1",
            b"G\xc3\x9cT / HTTP/1.1", b"GET / HTTP/11", b"GET /a b HTTP/1.1",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"\0\0\0\0", b"SSH-2.0-OpenSSH_9.6",
            b"G" * 10_000 + b" / HTTP/1.1", b"GET /\x7f HTTP/1.1", b"CONNECT evil.example:443 HTTP/1.1", b"PRI * HTTP/2.0",
        ]:  # fmt: skip
            with self.subTest(line=line[:30]), self.local.connect(15) as connection:
                connection.send(line + b"\r\nHost: 127.0.0.1\r\n\r\n")
                connection.finish()
                try:
                    answer = connection.answer()
                except wire.Closed:
                    continue
                except wire.BadAnswer:
                    # HTTP/2's own preface may be answered with HTTP/2's frames.
                    self.assertTrue(line.startswith(b"PRI"), line)
                    continue
                self.assertTrue(400 <= answer.status < 500 or answer.status in (501, 505), answer)

    def test_header_lines_that_are_none(self):
        for line in [
            b"X Y: 1", b"X\0: 1", b": 1", b"X-A: a\0b", b"X-A: a\rb", b"X-A\n: b", b"\xc3\xbc: 1", b"Content-Length : 5",
            b"Transfer-Encoding : chunked", b" X: 1", b"X",
            b"Authorization: Bearer a\r b",
        ]:  # fmt: skip
            with self.subTest(line=line):
                answer = self.local.raw(b"GET /v1/targets HTTP/1.1\r\nHost: 127.0.0.1\r\n" + line + b"\r\n\r\n", 15)
                self.problem(answer, 400, bare=True)

    def test_a_bare_line_feed_in_a_value_adds_no_header(self):
        answer = self.local.raw(b"GET /v1/commands/a HTTP/1.1\r\nHost: 127.0.0.1\r\nIdempotency-Key: a\nX-Evil: 1\r\n\r\n", 15)
        if answer is not None:
            self.assertNotIn("x-evil", answer.headers)

    def test_hosts(self):
        """A browser always says one; two, or none, is no browser and no HTTP/1.1."""
        for head in [
            b"GET /v1/targets HTTP/1.1\r\n\r\n", b"GET /v1/targets HTTP/1.1\r\nHost: 127.0.0.1\r\nHost: evil.example\r\n\r\n",
            b"GET /v1/targets HTTP/1.1\r\nHost: \r\n\r\n", b"GET /v1/targets HTTP/1.1\r\nHost: a b\r\n\r\n",
            b"GET /v1/targets HTTP/1.1\r\nHost: 127.0.0.1, evil.example\r\n\r\n",
            b"GET /v1/targets HTTP/1.1\r\nHost: 127.0.0.1@evil.example\r\n\r\n",
            b"GET /v1/targets HTTP/1.1\r\nHost: evil.example#127.0.0.1\r\n\r\n",
        ]:  # fmt: skip
            with self.subTest(head=head):
                self.problem(self.local.raw(head, 15), 400, 403, 421, bare=True)


class Framing(Attack):
    """One request must never be two: the part that a proxy takes for a body is not run."""

    def smuggled(self, head, body):
        """All answers to bytes whose end would be a request that starts a machine, if it was one."""
        hidden = request("POST", "/position-keeper/start", b"", {"X-Current-User-Id": "mallory"})
        answers = []
        with self.local.connect(5) as connection:
            connection.send(head + body + hidden)
            try:
                while len(answers) < 4:
                    answers.append(connection.answer())
            except (wire.Closed, TimeoutError):
                pass
        return answers

    def head(self, *lines, path=b"/v1/me", method=b"GET"):
        return b"\r\n".join([method + b" " + path + b" HTTP/1.1", b"Host: 127.0.0.1", *lines]) + b"\r\n\r\n"

    def test_two_lengths(self):
        for lines, body in [
            ([b"Content-Length: 5", b"Transfer-Encoding: chunked"], b"0\r\n\r\n"),
            ([b"Transfer-Encoding: chunked", b"Content-Length: 5"], b"0\r\n\r\n"),
            ([b"Content-Length: 0", b"Content-Length: 200"], b""), ([b"Content-Length: 0, 200"], b""),
            ([b"Content-Length: +0"], b""), ([b"Content-Length: 0x0"], b""),
            ([b"Content-Length: -1"], b""), ([b"Content-Length: 0 0"], b""), ([b"Content-Length: "], b""),
            ([b"Content-Length: 1e1"], b""),
            ([b"Transfer-Encoding: xchunked"], b""), ([b"Transfer-Encoding: chunked, identity"], b"0\r\n\r\n"),
            ([b"Transfer-Encoding: identity"], b""),
            ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: identity"], b"0\r\n\r\n"),
            ([b"Transfer-Encoding: chunked", b"Transfer-Encoding: x"], b"0\r\n\r\n"),
            ([b"Transfer-Encoding:\x0bchunked"], b"0\r\n\r\n"),
            ([b"Transfer-Encoding: \x00chunked"], b""),
            ([b"Transfer-Encoding: chunked\r\n , identity"], b"0\r\n\r\n"), ([b"Content-Length: 0\r\n 200"], b""),
        ]:  # fmt: skip
            for method in (b"GET", b"POST"):
                with self.subTest(lines=lines, method=method):
                    answers = self.smuggled(self.head(*lines, method=method), body)
                    # Where its length is not certain it is refused, or the connection ends after it.
                    self.assertLessEqual(len(answers), 1, answers)
                    self.assertEqual(self.sent(), 0)

    def test_http_1_0(self):
        answers = self.smuggled(b"GET /v1/me HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", b"")
        self.assertEqual(len(answers), 1, "without keep-alive it ends after one")
        answer = self.local.raw(
            b"POST /v1/commands HTTP/1.0\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 10
        )
        self.problem(answer, 400, 411, 415, 422, bare=True)
        answer = self.local.raw(b"GET /healthz HTTP/1.0\r\n\r\n", 10)
        self.assertIn(answer.status, (200, 400, 403, 421), answer)

    def test_requests_in_one_go_are_answered_in_their_order(self):
        with self.local.connect(15) as connection:
            connection.send(
                request("GET", "/v1/targets/pyelli") + request("GET", "/v1/me") + request("GET", "/v1/targets/nobody")
            )
            answers = [connection.answer() for _ in range(3)]
        self.assertEqual([answer.status for answer in answers], [200, 200, 404])
        self.assertEqual(answers[0].json["target"], "pyelli")

    def test_the_whole_address_in_the_request_line(self):
        host = f"{self.local.address[0]}:{self.local.address[1]}"
        answer = self.local.raw(f"GET http://{host}/healthz HTTP/1.1\r\nHost: {host}\r\n\r\n".encode(), 10)
        self.assertEqual(answer.status, 200, answer)
        # Its authority goes before Host (RFC 9112): a stranger's is refused, whatever Host says.
        for line, named in [
            ("http://evil.example/v1/targets", host), ("http://evil.example/v1/targets", "evil.example"),
            (f"http://{host}@evil.example/v1/targets", host), ("ftp://x/v1/targets", "evil.example"),
        ]:  # fmt: skip
            with self.subTest(line=line, named=named):
                answer = self.local.raw(f"GET {line} HTTP/1.1\r\nHost: {named}\r\n\r\n".encode(), 10)
                self.problem(answer, 400, 403, 421, bare=True)

    def test_options_of_everything(self):
        answer = self.local.raw(b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 10)
        self.assertLess(answer.status, 500, answer)

    def test_an_upgrade_is_not_taken(self):
        for name in ("h2c", "websocket"):
            with self.subTest(name=name):
                answer = self.local.raw(
                    request(
                        "GET",
                        "/v1/me",
                        headers={
                            "Connection": "Upgrade, HTTP2-Settings",
                            "Upgrade": name,
                            "HTTP2-Settings": "AAMAAABkAARAAAAAAAIAAAAA",
                            "Sec-WebSocket-Key": "x",
                            "Sec-WebSocket-Version": "13",
                        },
                    ),
                    10,
                )
                self.assertEqual(answer.status, 200, answer)

    def test_expecting_to_be_told_to_go_on(self):
        with self.local.connect(10) as connection:
            connection.send(request("POST", "/v1/commands", None, {**JSON, "Content-Length": "2", "Expect": "100-continue"}))
            time.sleep(0.3)
            connection.send(b"{}")
            self.problem(connection.answer(), 400, 422)
        answer = self.local.raw(request("GET", "/v1/me", headers={"Expect": "200-maybe"}), 10)
        self.assertIn(answer.status, (200, 417, 400), answer)


class Paths(Attack):
    """Segments are compared whole: a path that merely contained `/start` once started a machine."""

    def test_paths_that_only_look_like_one(self):
        for path in [
            "/position-keeper/start/../stop", "/position-keeper/stop/../start", "/position-keeper//start",
            "//position-keeper/start", "/position-keeper/start/", "/position-keeper/start//",
            "/position-keeper/start%2f..", "/position-keeper%2fstart", "/position-keeper/start%00",
            "/position-keeper/start%0a", "/position-keeper/start%20", "/position-keeper/start;x=1",
            "/position-keeper/start.json", "/position-keeper/restart", "/position-keeper/starter",
            "/position-keeper/start/now", "/x/position-keeper/start", "/position-keeper/Start",
            "/POSITION-KEEPER/start", "/position_keeper/start", "/position-keeper/%73tart", "/position-keeper/st%61rt",
            "/./position-keeper/start", "/a/../position-keeper/start",
            "/%2e%2e/position-keeper/start", "/position-keeper/start%252f", "/position-keeper\\start", "/pyelli/start",
            "/start", "/v2/position-keeper/start", "/v1/position-keeper/start",
            "//wake", "/wake/", "/%77ake", "/Wake", "/WAKE", "/wake%00", "/wake%0a", "/wake%20", "/wake;x", "/wake.json",
            "/wake/x", "/./wake", "/a/../wake", "/api/../wake", "/%2e/wake", "/awake", "/wakeup",
            "/wake%3f", "/wake%23", "/status/../wake", "/api/instances/", "/api//instances", "/API/instances",
            "/api/instances/start", "/api/instance", "/apis/instances", "/v1/commands/", "/v1//commands", "//v1/commands",
            "/V1/commands", "/v1/commands/x", "/v1/commands/../commands", "/v2/commands", "/v1", "/v1/", "/index.html",
            "//", "/%2f", "/%", "/%zz", "/\u00ff", "/*",
        ]:  # fmt: skip
            for body, headers in [(START, JSON), ("", {})]:
                with self.subTest(path=path, body=body):
                    answer = self.local.raw(request("POST", path.encode("latin-1"), body.encode(), headers), 15)
                    self.problem(answer, 400, 404, 405, 415, bare=True)

    def test_methods_that_must_not_start(self):
        for method in ("GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "post", "Post", "POSTS"):
            for path in ("/position-keeper/start", "/wake", "/v1/commands"):
                with self.subTest(method=method, path=path):
                    answer = self.local.raw(request(method, path, START.encode(), JSON), 15, method)
                    self.assertIsNotNone(answer)
                    if method == "OPTIONS" and answer.status < 300:
                        continue
                    self.assertIn(answer.status, (400, 404, 405, 501), answer)
        for override in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
            answer = self.ask("GET", "/wake", headers={override: "POST"})
            self.assertIn(answer.status, (404, 405), answer)

    def test_queries_do_not_command(self):
        for query in ("action=start&target=pyelli", "action=start", "body=%7B%22action%22%3A%22start%22%7D"):
            with self.subTest(query=query):
                self.problem(self.ask("POST", f"/v1/commands?{query}", "{}", JSON), 400, 422)
                answer = self.ask("GET", f"/?{query}")
                self.assertEqual(answer.status, 200, answer)

    def test_rewritten_addresses_are_not_believed(self):
        for name in ("X-Original-URL", "X-Rewrite-URL", "X-Forwarded-Path", "X-Forwarded-Prefix"):
            with self.subTest(name=name):
                self.problem(self.ask("POST", "/nothing", START, {**JSON, name: "/wake"}), 404, 405)

    def test_files_beside_the_assets(self):
        for path in [
            "/assets/../Cargo.toml", "/assets/%2e%2e/Cargo.toml", "/assets/..%2fCargo.toml",
            "/assets/..%5c..%5cCargo.toml", "/assets//etc/passwd", "/assets/%2fetc%2fpasswd", "/assets/",
            "/assets", "/assets/app.js%00.css", "/assets/nothing.js", "/../../etc/passwd",
            "/assets/....//....//etc/passwd", "/.env", "/lamplighter.toml", "/assets/./app.js",
        ]:  # fmt: skip
            with self.subTest(path=path):
                answer = self.local.raw(request("GET", path), 15)
                self.problem(answer, 400, 404, bare=True)
                self.assertNotIn(b"root:", answer.body)


class Fuzz(Attack):
    """Bytes of no meaning at all, by a fixed seed, at a door that must stay."""

    def test_noise(self):
        import random

        dice = random.Random(7)
        whole = request("POST", "/v1/commands", b"{}", JSON)
        for _ in range(400):
            data = bytearray(whole)
            for _ in range(dice.randint(1, 6)):
                at = dice.randrange(len(data))
                change = dice.randrange(4)
                if change == 0:
                    data[at] = dice.randrange(256)
                elif change == 1:
                    del data[at : at + dice.randint(1, 10)]
                elif change == 2:
                    data[at:at] = dice.choice(
                        [b"\r\n", b"\0", b"\xff", b":", b" ", b"%", b"\r", b"\n", b"HTTP/1.1", os.fsencode("ü")]
                    )
                else:
                    data = data[: at + 1]
                data = data or bytearray(b"x")
            with self.local.connect(10) as connection:
                connection.send(bytes(data))
                try:
                    connection.finish()
                    answer = connection.answer(bytes(data[:4]).decode("latin-1").strip(), seconds=10)
                except (wire.Closed, OSError):
                    continue
            self.assertLess(answer.status, 506, (bytes(data), answer))
            self.assertNotIn(answer.status, (500, 502, 503), (bytes(data), answer))


if __name__ == "__main__":
    unittest.main()
