"""The door as a browser meets it: other people's pages, the waiting room, and what it serves of its own."""

import base64
import hashlib
import hmac
import html.parser
import json
import re
import struct
import time
import unittest
import urllib.parse

import harness
import parallel
import wire
from harness import Door, bearer, secret, token_toml

load_tests = parallel.load_tests

APP = "https://app.example.com"
EVIL = "https://evil.example"
FORM = {"Content-Type": "application/x-www-form-urlencoded"}
START = '{"action": "start", "target": "pyelli"}'


class Parsed(html.parser.HTMLParser):
    """What a browser would load or run of a page."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.tags, self.links, self.inline, self.text = [], [], [], []
        self.inside = None
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.inside = tag if tag in ("script", "style") else self.inside
        for name, value in attributes:
            if name in ("src", "href", "action", "formaction", "srcset", "poster", "data"):
                self.links.append((tag, name, value or ""))
            if name.startswith("on") or name == "style":
                self.inline.append((tag, name, value))

    def handle_endtag(self, tag):
        if tag == self.inside:
            self.inside = None

    def handle_data(self, data):
        if self.inside == "script" and data.strip():
            self.inline.append((self.inside, "text", data))
        elif self.inside is None:
            self.text.append(data)


class Browser(Door):
    def policy(self, answer):
        """The Content-Security-Policy, taken apart."""
        parts = [part.split() for part in answer.headers["content-security-policy"].split(";") if part.strip()]
        return {part[0]: part[1:] for part in parts}

    def page(self, answer, *statuses):
        """A page of ours, as it should be."""
        self.assertIn(answer.status, statuses or (200,), answer)
        self.assertEqual(answer.media, "text/html", answer)
        self.assertIn("charset=utf-8", answer.headers["content-type"].lower().replace(" ", ""))
        policy = self.policy(answer)
        self.assertIn("default-src", policy)
        self.assertEqual(policy.get("frame-ancestors"), ["'none'"])
        for kind, sources in policy.items():
            for source in sources:
                self.assertNotIn(source, ("'unsafe-inline'", "'unsafe-eval'", "*", "https:", "http:", "blob:"), policy)
                self.assertFalse(source == "data:" and kind != "img-src", policy)
        parsed = Parsed(answer.text)
        self.assertEqual(parsed.inline, [], "its policy would not run this")
        for _, _, link in parsed.links:
            self.assertFalse(re.match(r"^\s*(//|[a-z]+:)", link) and not link.startswith(APP), f"a third party: {link}")
        return parsed


class OtherPeoplesPages(Browser):
    """Without authentication whoever reaches the door may command it: a page of a stranger in a browser must not."""

    FLEET = (
        '[defaults]\ntarget = "pyelli"\n'
        + harness.OPEN.replace("compat", f'origins = ["{APP}"]\ncompat')
        + harness.ALL_TARGETS
        + harness.QUICK
    )
    COMMANDS = [
        ("/v1/commands", START, {"Content-Type": "application/json"}), ("/wake", "{}", FORM), ("/wake", "", {}),
        ("/kill", "", {}), ("/position-keeper/start", "", FORM),
        ("/position-keeper/stop", "", {}), ("/", '{"action": "start"}', {"Content-Type": "text/plain"}),
        ("/", '{"action": "start"}', FORM),
        ("/api/instances", '{"blob_id": "abcdefgh"}', FORM),
        ("/api/instances", '{"blob_id": "abcdefgh"}', {"Content-Type": "application/json"}),
        ("/v1/dead-letters/replay", '{"all": true}', {"Content-Type": "application/json"}),
    ]  # fmt: skip

    def test_posts_across_origins(self):
        strangers = [
            {"Origin": EVIL}, {"Origin": "null"}, {"Origin": f"{APP}.evil.example"}, {"Origin": "http://app.example.com"},
            {"Origin": f"{APP}:8443"},
            {"Origin": "https://xapp.example.com"}, {"Origin": EVIL, "Sec-Fetch-Site": "cross-site"},
            {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
            {"Sec-Fetch-Site": "same-site", "Origin": "https://other.example.com"}, {"Origin": f"{APP}, {EVIL}"},
            {"Origin": ""},
        ]  # fmt: skip
        for stranger in strangers:
            for path, body, headers in self.COMMANDS:
                with self.subTest(stranger=stranger, path=path, headers=headers):
                    answer = self.ask("POST", path, body, {**headers, **stranger})
                    self.assertIn(answer.status, (400, 403, 415), answer)
                    self.assertNotIn("access-control-allow-origin", answer.headers)
        answer = self.ask("DELETE", "/api/instances/i-0123456789abcdef0", headers={"Origin": EVIL})
        self.assertEqual(answer.status, 403, answer)
        self.assertEqual(self.sent(), 0)

    def test_its_own_page_may(self):
        host = f"{self.local.address[0]}:{self.local.address[1]}"
        headers = {
            "Content-Type": "application/json",
            "Host": host,
            "Origin": f"http://{host}",
            "Sec-Fetch-Site": "same-origin",
        }
        answer = self.ask("POST", "/v1/commands", '{"action": "status", "target": "nobody"}', headers)
        self.assertNotEqual(answer.status, 403, answer)
        headers = {"Content-Type": "application/json", "Origin": APP, "Sec-Fetch-Site": "cross-site"}
        answer = self.ask("POST", "/v1/commands", '{"action": "status", "target": "nobody"}', headers)
        self.assertNotEqual(answer.status, 403, answer)
        self.assertEqual(answer.headers["access-control-allow-origin"], APP)

    def test_reading_across_origins_is_not_shared(self):
        for origin in (EVIL, "null", f"{APP}.evil.example", "http://app.example.com"):
            with self.subTest(origin=origin):
                for path in (
                    "/v1/targets",
                    "/v1/me",
                    "/status",
                    "/position-keeper/status",
                    "/api/instances",
                    "/metrics",
                    "/v1/targets/nobody",
                ):
                    self.assertNotIn("access-control-allow-origin", self.ask("GET", path, headers={"Origin": origin}).headers)
        with wire.Events(self.local.address, headers={"Origin": EVIL}) as events:
            self.assertNotIn("access-control-allow-origin", events.headers)

    def test_names_that_point_here(self):
        """DNS rebinding: a stranger's name that suddenly is 127.0.0.1 makes its page the same origin."""
        port = self.local.address[1]
        for host in [
            "evil.example", f"evil.example:{port}", f"127.0.0.1.evil.example:{port}", f"localhost.evil.example:{port}",
            f"127.0.0.1.:{port}x", "10.0.0.1", f"0.0.0.0:{port}x", "127.0.0.1:evil",
        ]:  # fmt: skip
            for method, path, body in [
                ("GET", "/v1/targets", None), ("POST", "/v1/commands", START), ("POST", "/wake", "{}"), ("GET", "/", None),
                ("GET", "/api/instances", None),
            ]:  # fmt: skip
                with self.subTest(host=host, path=path):
                    headers = {"Host": host, "Content-Type": "application/json"}
                    if body is not None:
                        headers.update({"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"})
                    answer = self.local.raw(wire.request(method, path, body, headers), 10)
                    self.problem(answer, 400, 403, 421, bare=True)
        for forwarded in ("X-Forwarded-Host", "Forwarded"):
            answer = self.local.raw(
                wire.request("GET", "/v1/targets", headers={"Host": "evil.example", forwarded: "127.0.0.1"}), 10
            )
            self.problem(answer, 400, 403, 421)
        for host in ("127.0.0.1", f"127.0.0.1:{port}", "localhost", f"localhost:{port}", f"[::1]:{port}", f"LOCALHOST:{port}"):
            with self.subTest(host=host):
                self.assertEqual(self.ask("GET", "/v1/targets", headers={"Host": host}).status, 200)
        self.assertEqual(self.sent(), 0)


class Cors(Browser):
    FLEET = (
        f'[http]\nauth = "tokens"\norigins = ["{APP}"]\n{harness.COMPAT}{harness.NO_LIMITS}'
        + token_toml("page", ["read", "command"], holder="*")
        + harness.ALL_TARGETS
        + harness.QUICK
    )

    def preflight(
        self, origin, path="/v1/commands", method="POST", headers="authorization,content-type,idempotency-key,prefer"
    ):
        asked = {"Origin": origin, "Access-Control-Request-Method": method, "Access-Control-Request-Headers": headers}
        return self.ask("OPTIONS", path, headers=asked)

    def test_an_allowed_page_is_let_in(self):
        for path, method in [
            ("/v1/commands", "POST"), ("/v1/targets", "GET"), ("/api/instances", "POST"), ("/api/instances/i-1", "DELETE"),
            ("/position-keeper/start", "POST"), ("/wake", "POST"),
        ]:  # fmt: skip
            with self.subTest(path=path):
                answer = self.preflight(APP, path, method, "authorization,content-type,x-current-user-id")
                self.assertIn(answer.status, (200, 204), answer)
                self.assertEqual(answer.headers["access-control-allow-origin"], APP)
                self.assertIn(method, answer.headers["access-control-allow-methods"])
                allowed = answer.headers["access-control-allow-headers"].lower()
                for name in ("authorization", "content-type"):
                    self.assertIn(name, allowed)
                self.assertIn("origin", answer.headers["vary"].lower())
                self.assertNotEqual(answer.headers.get("access-control-allow-credentials"), "true")
        answer = self.preflight(APP)
        for name in ("idempotency-key", "prefer"):
            self.assertIn(name, answer.headers["access-control-allow-headers"].lower())

    def test_what_an_allowed_page_may_read(self):
        answer = self.ask("POST", "/v1/commands", {"action": "status", "target": "pyelli"}, {"Origin": APP, **bearer("page")})
        self.assertEqual(answer.status, 202, answer)
        self.assertEqual(answer.headers["access-control-allow-origin"], APP)
        exposed = answer.headers["access-control-expose-headers"].lower()
        for name in ("location", "retry-after"):
            self.assertIn(name, exposed)
        self.assertIn("origin", answer.headers["vary"].lower())
        # An error too, or the page could not say what was wrong.
        answer = self.ask("GET", "/v1/targets/nobody", headers={"Origin": APP, **bearer("page")})
        self.assertEqual((answer.status, answer.headers.get("access-control-allow-origin")), (404, APP))
        answer = self.ask("GET", "/v1/targets", headers={"Origin": APP})
        self.assertEqual((answer.status, answer.headers.get("access-control-allow-origin")), (401, APP))
        with wire.Events(self.local.address, headers={"Origin": APP, **bearer("page")}) as events:
            self.assertEqual(events.headers.get("access-control-allow-origin"), APP)

    def test_a_stranger_is_not(self):
        for origin in [
            EVIL, "null", f"{APP}.evil.example", "http://app.example.com", f"{APP}:444", "https://APP.example.com.evil",
            "*", "https://app.example.com/", "https://app.example.co", f"{EVIL}#{APP}", "x" * 3000,
        ]:  # fmt: skip
            with self.subTest(origin=origin[:50]):
                answer = self.preflight(origin)
                self.assertNotIn("access-control-allow-origin", answer.headers)
                answer = self.ask("GET", "/v1/targets", headers={"Origin": origin, **bearer("page")})
                self.assertNotIn("access-control-allow-origin", answer.headers)
                self.assertIn("origin", answer.headers.get("vary", "").lower(), "a cache must not mix them up")

    def test_a_preflight_starts_nothing_and_needs_no_token(self):
        before = self.local.sent()
        self.preflight(APP, "/wake")
        self.preflight(APP, "/position-keeper/start")
        self.assertEqual(self.local.sent(), before)


class Room(Browser):
    FLEET = (
        f'[http]\nauth = "tokens"\n{harness.NO_LIMITS}'
        f'[http.wait.pyelli]\nto = ["{APP}/"]\n[http.wait.position-keeper]\nto = ["{APP}/room/"]\n'
        + token_toml("guest", ["wait"], targets=["pyelli"])
        + token_toml("keepers", ["wait"], targets=["position-keeper"])
        + token_toml("boss", ["admin"], holder="*")
        + token_toml("viewer", ["read"], holder="*")
        + token_toml("maker", ["link"], targets=["pyelli"], holder="*")
        + token_toml("ann", ["link"])
        + harness.ALL_TARGETS.replace('settle = "200ms"\n', 'settle = "200ms"\nmax_hold = "1h"\n')
        + harness.QUICK
    )

    def tearDown(self):
        self.ask("POST", "/v1/commands?wait=20", {"action": "kill", "target": "pyelli"}, bearer("boss"))

    def path(self, to=f"{APP}/", target="pyelli", token="guest", tail="", **more):
        query = {"to": to, **({"token": secret(token)} if token else {}), **more}
        said = {name: value for name, value in query.items() if value is not None}
        return f"/wait/{target}{tail}?{urllib.parse.urlencode(said)}"

    def asked(self):
        return self.local.count("ec2:StartInstances")


class WaitingRoom(Room):
    def test_a_guest_waits_and_goes_on(self):
        before = self.asked()
        parsed = self.page(self.ask("GET", self.path(f"{APP}/start?x=1&y=2#z")))
        self.assertIn("form", parsed.tags)
        # A link's preview fetches it, too: looking wakes nothing.
        self.assertEqual(self.asked(), before)
        self.assertEqual(self.local.target("pyelli", bearer("viewer"))["phase"], "off")

        to = f"{APP}/start"
        woken = self.ask("POST", self.path(to, token=None), b"", bearer("guest"))
        self.assertEqual(woken.status, 202, woken)
        again = self.ask("POST", self.path(to, token=None), b"", bearer("guest"))
        self.assertEqual(again.status, 202, again)
        for field in ("target", "phase", "step", "why", "ready", "failed", "since", "usual_seconds", "elapsed_seconds", "to"):
            self.assertIn(field, woken.json)

        def ready():
            state = self.ask("GET", self.path(to, token=None, tail="/state"), headers=bearer("guest"))
            self.assertEqual(state.status, 200, state)
            self.assertEqual(state.json["to"], to)
            self.assertIsNone(state.json["failed"])
            return state.json["ready"]

        harness.eventually("it is ready", ready)
        self.assertEqual(self.asked(), before + 1)

    def test_without_a_script(self):
        before = self.asked()
        posted = self.ask("POST", self.path(), b"", {**FORM, "Accept": "text/html", "Sec-Fetch-Site": "same-origin"})
        self.assertEqual(posted.status, 303, posted)
        where = posted.headers["location"]
        self.assertTrue(where.startswith("/wait/pyelli?"), where)
        self.assertIn("asked=1", where)
        waiting = self.ask("GET", where, headers={"Accept": "text/html"})
        if waiting.status == 200:
            self.assertRegex(waiting.text + str(waiting.headers), r"(?i)refresh")

        def gone():
            answer = self.ask("GET", where, headers={"Accept": "text/html"})
            return answer.status == 303 and answer

        answer = harness.eventually("it leads on", gone)
        self.assertEqual(answer.headers["location"], f"{APP}/")
        self.assertEqual(self.asked(), before + 1)
        # Without `asked` the page is the page, even when it is on.
        self.page(self.ask("GET", self.path()))

    def test_where_it_never_leads(self):
        before = self.asked()
        bad = [
            "//evil.example", "///evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)",
            "JaVaScRiPt:alert(1)", "java\nscript:alert(1)", "\x01javascript:alert(1)",
            "data:text/html,<script>alert(1)</script>", "vbscript:x", "file:///etc/passwd", EVIL, f"{APP}.evil.example/",
            f"{APP}@evil.example/", "https://app.example.com:x@evil.example/",
            "http://app.example.com/", f"{APP}:8443/", "https://app.example.com\\@evil.example/",
            "https://app.example.com\\.evil.example/", 
            "https://evil.example/https://app.example.com/", f"https://evil.example#{APP}/",
            f"https://evil.example?{APP}/", f" {EVIL}/", f"{EVIL}/ {APP}/",
            "https://app.example.com\t.evil.example/", "https://app.example.com\n.evil.example/",
            "https://app.example.com%2eevil.example/", "https://app.example.com%00.evil.example/",
            "https://app.example.com%40evil.example/", "https://\u0430pp.example.com/",
            "https://app\u3002example\u3002com.evil/", "https://user:pass@app.example.com/", 
            "app.example.com",
            "/", "", "x", "\r\nLocation: https://evil.example", f"{APP}/\r\nSet-Cookie: a=b", f"{APP}/\0",
            "https://[::1]/", "blob:https://app.example.com/x", f"{APP}/" + "x" * 20_000,
        ]  # fmt: skip
        asks = [
            ("GET", "", {"Accept": "text/html"}), ("POST", "", {**FORM, "Accept": "text/html"}), ("POST", "", bearer("guest")),
            ("GET", "/state", bearer("guest")),
        ]  # fmt: skip
        for to in bad:
            for method, tail, headers in asks:
                with self.subTest(to=to[:60], method=method, tail=tail):
                    answer = self.wait_raw(method, to, tail, headers)
                    self.assertTrue(400 <= answer.status < 500, answer)
                    self.assertNotIn("location", answer.headers)
                    self.assertNotIn("set-cookie", answer.headers)
                    if answer.media == "text/html":
                        links = [link for _, _, link in Parsed(answer.text).links]
                        self.assertFalse([link for link in links if "evil" in link or "script:" in link.lower()], answer)
        for query in ["", "to=", f"to={EVIL}/&to={APP}/", f"to[]={EVIL}/", "to=%ff"]:
            with self.subTest(query=query):
                path = f"/wait/pyelli?{query}&token={secret('guest')}&asked=1"
                answer = self.ask("GET", path, headers={"Accept": "text/html"})
                self.assertTrue(400 <= answer.status < 500, answer)
        self.assertEqual(self.asked(), before)
        # These are the same place as an allowed one, by a browser's own rule; the door must then say it in full.
        for to in [
            APP,
            "https:app.example.com/",
            "https:/app.example.com/x",
            "https:///app.example.com/",
            "HTTPS://APP.example.com/",
        ]:
            for method, tail, headers in asks:
                with self.subTest(to=to, method=method, tail=tail):
                    answer = self.wait_raw(method, to, tail, headers)
                    if answer.status < 400 and answer.media == "application/json":
                        self.assertTrue(answer.json["to"].startswith(f"{APP}/"), answer)
                    self.assertTrue(answer.headers.get("location", "/wait/").startswith(("/wait/", f"{APP}/")), answer)

    def wait_raw(self, method, to, tail, headers):
        body, asked = (b"", None) if method == "POST" else (None, "1")
        answer = self.local.raw(wire.request(method, self.path(to, tail=tail, asked=asked), body, headers), 15)
        self.assertIsNotNone(answer)
        return answer

    def test_a_way_out_of_a_path_that_is_allowed(self):
        for to, good in [
            (f"{APP}/room/", True), (f"{APP}/room/a?b=c", True), (f"{APP}/", False), (f"{APP}/roomy", False),
            (f"{APP}/room/../admin", False), (f"{APP}/room/%2e%2e/admin", False),
            (f"{APP}/room/.%2E/admin", False), (f"{APP}/room\\..\\admin", False), (f"{APP}/room/x\\..\\..\\admin", False),
            (f"{APP}/Room/", False),
        ]:  # fmt: skip
            with self.subTest(to=to):
                answer = self.ask("GET", self.path(to, "position-keeper", "keepers"), headers={"Accept": "text/html"})
                self.assertEqual(answer.status == 200, good, answer)

    def test_who_may_wait(self):
        before = self.asked()
        for token in (None, "nobody", "keepers", "viewer"):
            with self.subTest(token=token):
                answer = self.ask("GET", self.path(token=token), headers={"Accept": "text/html"})
                if answer.status != 200:
                    self.page(answer, 401, 403, 404)
                answer = self.ask("POST", self.path(token=token), b"", {**FORM, "Accept": "text/html"})
                self.assertIn(answer.status, (401, 403, 404), answer)
                headers = bearer(token) if token else {}
                self.problem(self.ask("POST", self.path(token=None), b"", headers), 401, 403, 404)
                self.problem(self.ask("GET", self.path(token=None, tail="/state"), headers=headers), 401, 403, 404)
        self.assertEqual(self.asked(), before)
        # A guest may wait, and nothing else.
        for method, path, body in [
            ("GET", "/v1/targets", None), ("GET", "/v1/targets/pyelli", None),
            ("POST", "/v1/commands", {"action": "start", "target": "pyelli"}), ("GET", "/metrics", None),
            ("GET", "/v1/events", None),
        ]:  # fmt: skip
            self.problem(self.ask(method, path, body, bearer("guest")), 403)
        for target in ("fluidity", "nobody", "walrus"):
            answer = self.ask("GET", self.path(target=target, token="boss"), headers={"Accept": "text/html"})
            self.page(answer, 400, 403, 404)

    def test_what_it_repeats_is_text(self):
        marks = [
            '"><script>alert(1)</script>', "'><img src=x onerror=alert(1)>", "</title><svg onload=alert(1)>", "{{7*7}}",
            "<!--", "\u2028<b>", "&lt;b&gt;",
        ]  # fmt: skip
        for mark in marks:
            quoted = urllib.parse.quote(mark, safe="")
            for path in [
                f"/wait/{quoted}?to={APP}/&token={secret('guest')}", self.path(mark), self.path(f"{APP}/{mark}"),
                self.path(token="guest", x=mark), f"/wait/pyelli?to={APP}/&token={quoted}", f"/{quoted}",
            ]:  # fmt: skip
                with self.subTest(mark=mark, path=path[:60]):
                    answer = self.ask("GET", path, headers={"Accept": "text/html"})
                    if answer.media != "text/html":
                        self.assertIn(answer.media, (harness.PROBLEM, "application/json"))
                        continue
                    self.assertNotIn("<script>alert", answer.text)
                    parsed = Parsed(answer.text)
                    self.assertEqual(parsed.inline, [])
                    self.assertNotIn("img", parsed.tags if "img" in mark else [])
                    self.assertNotIn("b", parsed.tags)

    def test_its_token_goes_nowhere(self):
        answer = self.ask("GET", self.path(f"{APP}/x"), headers={"Accept": "text/html"})
        self.assertIn(answer.headers["referrer-policy"], ("no-referrer", "same-origin"))
        self.assertIn("no-store", answer.headers["cache-control"])
        for _, name, link in Parsed(answer.text).links:
            if link.startswith(APP):
                self.assertNotIn(secret("guest"), link)


class Codes(Room):
    """Links with a signed code in place of a token."""

    def made(self, name="maker", **said):
        answer = self.ask("POST", "/v1/links", {"target": "pyelli", **said}, bearer(name))
        self.assertEqual(answer.status, 201, answer)
        return answer.json["path"]

    def code(self, path):
        return urllib.parse.parse_qs(urllib.parse.urlsplit(path).query)["code"][0]

    def with_code(self, code, target="pyelli", tail="", to=f"{APP}/"):
        return f"/wait/{target}{tail}?" + urllib.parse.urlencode({"to": to, "code": code})

    def state(self, path):
        return path.replace("?", "/state?", 1)

    def test_whoever_has_it_waits_and_goes_on(self):
        before = self.asked()
        path = self.made(to=f"{APP}/start?x=1", **{"for": "7d"})
        self.assertNotIn("token", path)
        self.assertNotIn(secret("maker"), path)
        # A link's preview fetches it, too: looking wakes nothing.
        self.page(self.ask("GET", path, headers={"Accept": "text/html"}))
        self.assertEqual((self.asked(), self.sent()), (before, 0))
        self.assertEqual(self.ask("GET", self.state(path)).json["phase"], "off")
        self.assertEqual(self.ask("POST", path, b"").status, 202)
        state = harness.eventually("it is ready", lambda: (it := self.ask("GET", self.state(path)).json)["ready"] and it)
        self.assertEqual(state["to"], f"{APP}/start?x=1")
        self.assertEqual(self.asked(), before + 1)
        # What stands in the record about holders and AWS is not for whoever has a link.
        self.assertEqual(state["why"], "it is on")
        holds = self.local.target("pyelli", bearer("boss"))["holds"]
        self.assertEqual([hold["holder"] for hold in holds], ["waiting-room"])

    def test_without_a_script(self):
        path = self.made()
        posted = self.ask("POST", path, b"", {**FORM, "Accept": "text/html", "Sec-Fetch-Site": "same-origin"})
        self.assertEqual(posted.status, 303, posted)
        where = posted.headers["location"]
        self.assertIn("code=", where)
        harness.eventually("it leads on", lambda: self.ask("GET", where, headers={"Accept": "text/html"}).status == 303)

    def test_in_whose_name(self):
        path = self.made("ann")
        self.assertEqual(self.ask("POST", path, b"").status, 202)
        holds = harness.eventually("it is held", lambda: self.local.target("pyelli", bearer("boss"))["holds"])
        self.assertEqual([hold["holder"] for hold in holds], ["ann"])
        self.problem(self.ask("POST", "/v1/links", {"target": "pyelli", "holder": "bob"}, bearer("ann")), 403)

    def test_who_may_make_one(self):
        for name, status in [("guest", 403), ("viewer", 403), ("keepers", 403), ("nobody", 401)]:
            with self.subTest(name=name):
                self.problem(self.ask("POST", "/v1/links", {"target": "pyelli"}, bearer(name)), status)
        for target in ("position-keeper", "nobody", "fluidity"):
            self.problem(self.ask("POST", "/v1/links", {"target": target}, bearer("maker")), 404)
        self.problem(self.ask("POST", "/v1/links", {"target": "fluidity"}, bearer("boss")), 404)
        for said in [
            {"to": EVIL}, {"to": "javascript:x"}, {"for": "31d"}, {"for": "1s"}, {"for": "x"}, {"until": "2030-01-01T00:00:00Z"},
            {"holder": ""}, {"purpose": "kill"},
        ]:  # fmt: skip
            with self.subTest(said=said):
                self.problem(self.ask("POST", "/v1/links", {"target": "pyelli", **said}, bearer("maker")), 400)
        # A link makes no other.
        code = self.code(self.made())
        self.problem(self.ask("POST", f"/v1/links?code={code}", {"target": "pyelli"}), 401)

    def test_a_code_is_good_for_nothing_else(self):
        code = self.code(self.made())
        before = self.local.sent()
        for method, path in [
            ("GET", "/v1/targets"), ("GET", "/v1/targets/pyelli"), ("GET", "/v1/events"), ("GET", "/v1/me"), ("GET", "/metrics"),
            ("GET", "/v1/targets/pyelli/history"), ("POST", "/v1/commands"),
        ]:  # fmt: skip
            for query, headers in [(f"?code={code}", {}), (f"?token={code}", {}), ("", {"Authorization": f"Bearer {code}"})]:
                with self.subTest(path=path, query=query[:6]):
                    body = {"action": "kill", "target": "pyelli"} if method == "POST" else None
                    self.problem(self.ask(method, path + query, body, headers), 401)
        # Nor at another target, nor does it lead elsewhere.
        for path in (self.with_code(code, "position-keeper", to=f"{APP}/room/"), self.with_code(code, "nobody")):
            self.problem(self.ask("POST", path, b""), 401)
        self.problem(self.ask("POST", self.with_code(code, to=f"{EVIL}/"), b""), 400)
        self.assertEqual(self.local.sent(), before)

    def test_codes_that_are_none(self):
        code = self.code(self.made(**{"for": "1h"}))
        version, expires, holder, mac = code.split(".")
        known = hashlib.sha256(secret("guest").encode()).digest()
        forged = base64.urlsafe_b64encode(hmac.new(known, b"wait", "sha256").digest()).decode().rstrip("=")
        before = self.local.sent()
        for changed in [
            "", ".", "...", "x", code[:-1], code + "A", code + "=", code + ".", code.replace(".", ","), f"{version}.{expires}.{holder}.",
            f"{version}.{int(expires) + 3600}.{holder}.{mac}", f"{version}.{expires}.YW5u.{mac}", f"2.{expires}.{holder}.{mac}",
            f"1.0{expires}.{holder}.{mac}", f"1.{expires}.{holder}.{forged}", secret("guest"), secret("boss"), "\0", "é", "A" * 8000,
        ]:  # fmt: skip
            for method, tail in [("GET", ""), ("POST", ""), ("GET", "/state")]:
                with self.subTest(changed=changed[:60], method=method, tail=tail):
                    answer = self.ask(method, self.with_code(changed, tail=tail), b"" if method == "POST" else None)
                    self.assertEqual(answer.status, 401, answer)
                    self.assertNotIn("expired", answer.text)
        # A token that stands beside a wrong code does not help.
        answer = self.ask("POST", self.with_code("x") + f"&token={secret('guest')}", b"", bearer("guest"))
        self.assertEqual(answer.status, 401, answer)
        self.assertEqual(self.local.sent(), before)

    def test_a_link_of_before(self):
        """With a token in it, it works for one release; the log names the token, and does not show it."""
        self.page(self.ask("GET", self.path()))
        self.ask("GET", self.path(tail="/state"))
        said = self.local.log()
        warned = [line for line in said.splitlines() if "?token=" in line]
        self.assertEqual(len(warned), 1, warned)
        self.assertIn("guest", warned[0])
        self.assertNotIn(secret("guest"), said)


class Expired(Browser):
    """A link that was good, by a clock that a test can move: the key is known, and the code is made here."""

    KEY = bytes(range(32))
    FLEET = Room.FLEET

    @classmethod
    def setUpClass(cls):
        keys = json.dumps({"current": cls.KEY.hex()})
        cls.local = harness.Local(cls.FLEET, env={"LAMPLIGHTER_LINK_KEYS": keys})
        cls.addClassCleanup(cls.local.close)

    def signed(self, expires, target="pyelli", holder="", purpose="wait", key=KEY):
        mac = hmac.new(key, digestmod="sha256")
        for field in ("lamplighter link", "1", purpose, target, str(expires), holder):
            mac.update(struct.pack(">Q", len(field.encode())) + field.encode())
        text = lambda data: base64.urlsafe_b64encode(data).decode().rstrip("=")  # noqa: E731
        return f"1.{expires}.{text(holder.encode())}.{text(mac.digest())}"

    def path(self, code, tail=""):
        return f"/wait/pyelli{tail}?" + urllib.parse.urlencode({"to": f"{APP}/", "code": code})

    def test_it_is_told_that_it_has_expired(self):
        now = int(time.time())
        self.page(self.ask("GET", self.path(self.signed(now + 60))))
        code = self.signed(now - 1)
        parsed = self.page(self.ask("GET", self.path(code), headers={"Accept": "text/html"}), 410)
        self.assertIn("This link has expired", " ".join(parsed.text))
        for method, tail in [("POST", ""), ("GET", "/state")]:
            said = self.problem(self.ask(method, self.path(code, tail), b"" if method == "POST" else None), 410)
            self.assertEqual(said["type"], "urn:lamplighter:link-expired")
        # Whoever has no key learns nothing of the times of codes; nor is one for longer than links last, or for else.
        for wrong in [
            self.signed(now - 1, key=bytes(32)), self.signed(now + 60, key=bytes(32)), self.signed(now + 60, "position-keeper"),
            self.signed(now + 60, purpose="kill"), self.signed(now + 31 * 86400 + 120), self.signed(now - 1, "other"),
        ]:  # fmt: skip
            self.assertEqual(self.ask("POST", self.path(wrong), b"").status, 401, wrong)
        self.assertEqual(self.sent(), 0)


class InVain(Room):
    """What the waiting room leads to does not come up."""

    FLEET = Room.FLEET + '[local.machines.position-keeper.units.positionkeeper]\nafter_boot = "failed"\n'

    def test_a_start_that_fails_is_said(self):
        to = f"{APP}/room/"
        woken = self.ask("POST", self.path(to, "position-keeper", token=None), b"", bearer("keepers"))
        self.assertEqual(woken.status, 202, woken)

        def failed():
            state = self.ask("GET", self.path(to, "position-keeper", token=None, tail="/state"), headers=bearer("keepers")).json
            self.assertIs(state["ready"], False)
            return state["failed"]

        self.assertIsInstance(harness.eventually("it says so", failed), str)
        answer = self.ask("GET", self.path(to, "position-keeper", "keepers", asked="1"), headers={"Accept": "text/html"})
        self.assertNotEqual(answer.status, 303, answer)
        self.page(answer, 200, 503, 502, 500)


class Pages(Browser):
    FLEET = '[defaults]\ntarget = "pyelli"\n' + harness.OPEN + harness.ALL_TARGETS + harness.QUICK

    def test_pages_and_what_they_load(self):
        for path in ("/", "/docs"):
            with self.subTest(path=path):
                answer = self.ask("GET", path, headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"})
                parsed = self.page(answer)
                for tag, name, link in parsed.links:
                    if tag in ("script", "link", "img"):
                        with self.subTest(link=link):
                            self.assertTrue(link.startswith("/assets/"), (tag, name, link))
                            asset = self.ask("GET", link)
                            self.assertEqual(asset.status, 200, asset)
                            wanted = {
                                ".js": ("text/javascript",),
                                ".css": ("text/css",),
                                ".svg": ("image/svg+xml",),
                                ".png": ("image/png",),
                                ".ico": ("image/x-icon", "image/vnd.microsoft.icon"),
                            }
                            self.assertIn(asset.media, wanted["." + link.split("?")[0].rsplit(".", 1)[1]])

    def test_the_same_path_for_a_script(self):
        """`GET /` was a health check: JSON unless HTML is asked for."""
        for accept in ("*/*", "application/json", "", "text/plain, */*"):
            with self.subTest(accept=accept):
                answer = self.ask("GET", "/", headers={"Accept": accept})
                self.assertEqual((answer.status, answer.media), (200, "application/json"), answer)
        self.assertIn("accept", self.ask("GET", "/").headers.get("vary", "").lower())

    def test_nothing_of_the_api_is_kept_by_a_cache(self):
        for path in (
            "/v1/targets",
            "/v1/me",
            "/status",
            "/position-keeper/status",
            "/api/instances",
            "/v1/targets/nobody",
            "/metrics",
        ):
            with self.subTest(path=path):
                self.assertIn("no-store", self.ask("GET", path).headers.get("cache-control", ""))

    def test_no_cookie_is_ever_set(self):
        for path in ("/", "/docs", "/v1/targets", "/wait/pyelli", "/nothing"):
            for accept in ("text/html", "*/*"):
                self.assertNotIn("set-cookie", self.ask("GET", path, headers={"Accept": accept}).headers)


if __name__ == "__main__":
    unittest.main()
