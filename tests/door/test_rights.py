"""Who may what: tokens, their rights, their targets and for whom they speak; and that no token is ever said aloud."""

import hashlib
import json
import subprocess
import unittest

import harness
import parallel
import wire
from harness import Door, bearer, secret, token_toml

load_tests = parallel.load_tests

TOKENS = {
    "reader": (["read"], {"holder": "*"}),
    "alice": (["read", "command"], {}),
    "deputy": (["command"], {"holder": "*"}),
    "ender": (["kill"], {"holder": "*"}),
    "root": (["admin"], {"holder": "*"}),
    "waiter": (["wait"], {}),
    "keeper": (["read", "command"], {"targets": ["position-keeper"], "holder": "*"}),
    "models": (["read", "command"], {"targets": ["walrus.*", "walrus"], "holder": "*"}),
    "prefix": (["read", "command"], {"targets": ["py*"], "holder": "*"}),
    "nothing": ([], {}),
}
SET = "".join(token_toml(name, may, **more) for name, (may, more) in TOKENS.items() if may)
START = {"action": "start", "target": "pyelli"}


class Rights(Door):
    FLEET = f'[http]\nauth = "tokens"\ncommand_includes_kill = false\n{harness.COMPAT}{harness.NO_LIMITS}{SET}' + harness.ALL_TARGETS + harness.QUICK

    def nothing_was_sent(self):
        self.assertEqual(self.sent(), 0)
        self.assertEqual(self.started(), 0)


class Strangers(Rights):
    """Nobody of these is let in, whatever they ask."""

    def test_headers_that_are_no_token(self):
        token = secret("alice")
        for value in [
            None, "", "Bearer", "Bearer ", f"Basic {token}", f"Token {token}", token, f"Bearer {token}x", f"Bearer {token[:-1]}",
            f"Bearer {token.upper()}", f"Bearer  {token} x", f"Bearer {token},{token}", f"Bearer: {token}", f'Bearer "{token}"',
            f"Bearer {hashlib.sha256(token.encode()).hexdigest()}", "Bearer null", "Bearer undefined", "Bearer *", "Bearer alice",
            f"bearer{token}",
            f"Bearer {'x' * 6000}", "Bearer \u00fc", f"Bearer {token}\u00a0", "Bearer ' or 1=1 --", "Digest username=alice",
            "Bearer " + "0" * 64,
        ]:  # fmt: skip
            with self.subTest(value=(value or "")[:60]):
                headers = {} if value is None else {"Authorization": value}
                self.problem(self.ask("GET", "/v1/targets", headers=headers), 401)
                self.problem(self.ask("POST", "/v1/commands", START, headers), 401)
        self.nothing_was_sent()

    def test_a_very_long_token(self):
        answer = self.local.raw(wire.request("GET", "/v1/me", headers={"Authorization": "Bearer " + "x" * 200_000}))
        self.problem(answer, 400, 401, 431, bare=True)
        self.lives()

    def test_the_schemes_name_has_no_case(self):
        """RFC 9110: a scheme's name is read whatever its case; its token is not."""
        for scheme in ("Bearer", "bearer", "BEARER"):
            with self.subTest(scheme=scheme):
                self.assertEqual(
                    self.ask("GET", "/v1/me", headers={"Authorization": f"{scheme} {secret('alice')}"}).status, 200
                )

    def test_tokens_in_other_places(self):
        token = secret("root")
        for path, headers in [
            (f"/v1/targets?token={token}", {}), (f"/v1/targets?access_token={token}", {}),
            (f"/v1/targets?authorization=Bearer%20{token}", {}),
            ("/v1/targets", {"Cookie": f"token={token}"}), ("/v1/targets", {"X-Authorization": f"Bearer {token}"}),
            ("/v1/targets", {"Proxy-Authorization": f"Bearer {token}"}), ("/v1/targets", {"X-Api-Key": token}),
            ("/v1/targets", {"X-Current-User-Id": "root", "X-Forwarded-User": "root"}),
        ]:  # fmt: skip
            with self.subTest(path=path[:30], headers=list(headers)):
                self.problem(self.ask("GET", path, headers=headers), 401)

    def test_two_authorizations(self):
        for first, second in [("alice", "reader"), ("nobody", "root"), ("root", "nobody")]:
            with self.subTest(first=first, second=second):
                lines = f"Host: 127.0.0.1\r\nAuthorization: Bearer {secret(second)}"
                whole = wire.request("POST", "/v1/commands", START, bearer(first))
                whole = whole.replace(b"Host: 127.0.0.1", lines.encode(), 1)
                self.problem(self.local.raw(whole), 400, 401)
        self.nothing_was_sent()

    def test_every_path_of_the_api_asks(self):
        for method, path in [
            ("GET", "/v1/targets"), ("GET", "/v1/targets/pyelli"), ("GET", "/v1/targets/nobody"),
            ("GET", "/v1/targets/pyelli/why"),
            ("GET", "/v1/targets/pyelli/history"), ("GET", "/v1/commands/x"), ("GET", "/v1/me"), ("GET", "/v1/events"),
            ("GET", "/v1/dead-letters"),
            ("GET", "/metrics"), ("POST", "/v1/commands"), ("POST", "/v1/dead-letters/replay"),
        ]:  # fmt: skip
            with self.subTest(path=path):
                body = {"action": "start", "target": "pyelli"} if method == "POST" else None
                self.problem(self.ask(method, path, body), 401)
        for method, path in [
            ("POST", "/position-keeper/start"), ("POST", "/position-keeper/stop"), ("GET", "/position-keeper/status"),
            ("POST", "/wake"), ("POST", "/kill"),
            ("GET", "/status"), ("POST", "/"), ("POST", "/api/instances"), ("GET", "/api/instances"),
            ("GET", "/api/instances/i-0123456789abcdef0"),
            ("DELETE", "/api/instances/i-0123456789abcdef0"),
        ]:  # fmt: skip
            with self.subTest(path=path):
                answer = self.ask(method, path, {"action": "start", "blob_id": "x"} if method == "POST" else None)
                self.assertEqual(answer.status, 401, answer)
                self.assertIn("json", answer.media)
        self.nothing_was_sent()

    def test_who_is_not_known_learns_nothing(self):
        """Whether a target, a command or a path exists is not for strangers."""
        one = self.ask("GET", "/v1/targets/pyelli")
        other = self.ask("GET", "/v1/targets/nobody")
        self.assertEqual((one.status, one.json["detail"]), (other.status, other.json["detail"]))

    def test_health_needs_no_token(self):
        self.assertEqual(self.ask("GET", "/healthz").status, 200)
        self.assertEqual(self.ask("GET", "/readyz").status, 200)
        for path in ("/healthz", "/readyz"):
            for name in ("pyelli", "i-0abc123def456", "lamplighter-commands"):
                self.assertNotIn(name, self.ask("GET", path).text)


class Roles(Rights):
    def allowed(self, name, method, path, body=None):
        answer = self.ask(method, path, body, bearer(name))
        self.assertLess(answer.status, 300, answer)
        return answer

    def denied(self, name, method, path, body=None, *statuses):
        return self.problem(self.ask(method, path, body, bearer(name)), *(statuses or (403,)))

    def test_me(self):
        self.assertEqual(
            self.allowed("alice", "GET", "/v1/me").json,
            {"auth": "tokens", "name": "alice", "may": ["read", "command", "wait"], "holder": "alice", "targets": ["*"]},
        )
        self.assertEqual(self.allowed("ender", "GET", "/v1/me").json["may"], ["kill"])
        self.assertEqual(
            self.allowed("root", "GET", "/v1/me").json["may"], ["read", "command", "kill", "admin", "wait", "link"]
        )
        me = self.allowed("keeper", "GET", "/v1/me").json
        self.assertEqual((me["holder"], me["targets"]), ("*", ["position-keeper"]))

    def test_reading(self):
        for path in ("/v1/targets", "/v1/targets/pyelli", "/v1/targets/pyelli/why", "/v1/targets/pyelli/history", "/metrics"):
            with self.subTest(path=path):
                self.allowed("reader", "GET", path)
                self.allowed("root", "GET", path)
                self.denied("waiter", "GET", path)
                self.denied("deputy", "GET", path)
        self.assertEqual(self.allowed("reader", "GET", "/v1/targets/pyelli").json["actions"], [])
        self.nothing_was_sent()

    def test_commanding(self):
        for action in ("start", "stop", "kill", "status", "check-idle", "keep-alive", "wake", "sleep", "release"):
            with self.subTest(action=action):
                self.denied("reader", "POST", "/v1/commands", {"action": action, "target": "pyelli"})
                self.denied("waiter", "POST", "/v1/commands", {"action": action, "target": "pyelli"})
        self.denied("reader", "POST", "/v1/commands", {"action": "create", "template": "walrus", "blob_id": "abcdefgh"})
        self.nothing_was_sent()
        self.allowed("deputy", "POST", "/v1/commands", {"action": "status", "target": "pyelli"})

    def test_killing(self):
        """What ends everybody's holds is a right of its own, by whichever path it is asked."""
        machine = "i-0123456789abcdef0"
        asks = [
            ("POST", "/v1/commands", {"action": "kill", "target": "pyelli"}),
            ("POST", "/v1/commands", {"action": "destroy", "target": "walrus.0123456789abcdef"}),
            ("POST", "/kill", {}), ("POST", "/", {"action": "kill"}), ("DELETE", f"/api/instances/{machine}", None),
        ]  # fmt: skip
        for name in ("reader", "waiter", "deputy", "alice"):
            for method, path, body in asks:
                with self.subTest(name=name, path=path, body=body):
                    answer = self.ask(method, path, body, bearer(name))
                    self.assertEqual(answer.status, 403, answer)
                    self.assertIn('\\"kill\\"', answer.text)
        self.assertIn("kill", self.ask("GET", "/v1/targets/pyelli", headers=bearer("root")).json["actions"])
        shown = self.ask("GET", "/v1/targets/position-keeper", headers=bearer("alice")).json["actions"]
        self.assertIn("stop", shown)
        self.assertNotIn("kill", shown)
        self.nothing_was_sent()
        # Who may kill may do that, and nothing else.
        self.denied("ender", "POST", "/v1/commands", START)
        self.denied("ender", "POST", "/v1/commands", {"action": "stop", "target": "pyelli"})
        self.denied("ender", "GET", "/v1/targets")
        self.assertEqual(self.sent(), 0)
        done = self.allowed("ender", "POST", "/v1/commands?wait=20", {"action": "kill", "target": "pyelli"}).json
        self.assertEqual(done["state"], "done", done)
        self.assertIn(self.ask("DELETE", f"/api/instances/{machine}", headers=bearer("ender")).status, (404,))

    def test_administering(self):
        for body in [
            {"action": "pause", "target": "pyelli"}, {"action": "resume", "target": "pyelli"}, {"action": "check-idle"},
            {"action": "sleep"},
        ]:  # fmt: skip
            with self.subTest(body=body):
                self.denied("deputy", "POST", "/v1/commands", body)
                self.denied("alice", "POST", "/v1/commands", body)
                self.denied("keeper", "POST", "/v1/commands", body)
        self.denied("alice", "GET", "/v1/dead-letters")
        self.denied("alice", "POST", "/v1/dead-letters/replay", {"all": True})
        self.nothing_was_sent()
        self.allowed("root", "GET", "/v1/dead-letters")
        self.allowed("root", "POST", "/v1/commands?wait=20", {"action": "pause", "target": "pyelli"})
        self.allowed("root", "POST", "/v1/commands?wait=20", {"action": "resume", "target": "pyelli"})
        self.allowed("root", "POST", "/v1/commands", {"action": "check-idle"})

    def test_targets_of_others(self):
        """By its name, by its machine, by its service: another's target is not reached."""
        listed = [it["target"] for it in self.allowed("keeper", "GET", "/v1/targets").json["targets"]]
        self.assertEqual(listed, ["position-keeper"])
        listed = [it["target"] for it in self.allowed("prefix", "GET", "/v1/targets").json["targets"]]
        self.assertEqual(listed, ["pyelli"])
        for path in ("/v1/targets/pyelli", "/v1/targets/pyelli/why", "/v1/targets/pyelli/history", "/v1/targets/nobody"):
            with self.subTest(path=path):
                self.denied("keeper", "GET", path, None, 403, 404)
        for body in [
            START, {"action": "start", "instance_id": harness.PYELLI}, {"action": "start", "instanceId": harness.PYELLI},
            {"action": "start", "cluster": "fluidity-prod", "service": "fluidity-server-prod"},
            {"action": "wake", "clusterName": "fluidity-prod", "serviceName": "fluidity-server-prod"},
            {"action": "create", "template": "walrus", "blob_id": "abcdefgh"}, {"action": "create", "blob_id": "abcdefgh"},
            {"action": "destroy", "target": "walrus.0123456789abcdef"}, {"action": "check-idle"},
        ]:  # fmt: skip
            with self.subTest(body=body):
                self.denied("keeper", "POST", "/v1/commands", body, 400, 403, 404, 422)
        for method, path, body in [
            ("POST", "/wake", {}), ("POST", "/kill", {}), ("GET", "/status", None),
            ("POST", "/", {"action": "start", "target": "pyelli"}),
            ("POST", "/", {"action": "start", "INSTANCE_ID": harness.PYELLI}),
            ("POST", "/api/instances", {"blob_id": "abcdefgh"}),
            ("DELETE", "/api/instances/i-0123456789abcdef0", None),
        ]:  # fmt: skip
            with self.subTest(path=path, body=body):
                answer = self.ask(method, path, body, bearer("keeper"))
                self.assertIn(answer.status, (400, 403, 404, 422), answer)
        self.nothing_was_sent()

    def test_what_a_payload_adds_to_a_path(self):
        """A right is asked for what is done in the end, whatever path it came by."""
        for name, path, body in [
            ("alice", "/position-keeper/start", {"holder": "bob"}), ("alice", "/position-keeper/stop", {"holder": "bob"}),
            ("keeper", "/position-keeper/start", {"target": "pyelli"}), ("keeper", "/position-keeper/start", {"instance_id": harness.PYELLI}),
            ("keeper", "/position-keeper/start", {"action": "pause"}), ("alice", "/wake", {"action": "pause"}),
            ("alice", "/", {"action": "pause"}), ("alice", "/", {"action": "resume", "target": "pyelli"}),
            ("keeper", "/", {"action": "start"}), ("keeper", "/v1/commands", {"action": "start"}),
            ("models", "/api/instances", {"blob_id": "abcdefgh", "target": "pyelli"}),
            ("models", "/api/instances", {"action": "start", "target": "pyelli"}),
        ]:  # fmt: skip
            with self.subTest(name=name, path=path, body=body):
                answer = self.ask("POST", path, body, bearer(name))
                self.assertIn(answer.status, (400, 403, 404, 422), answer)
        self.nothing_was_sent()

    def test_a_payload_that_contradicts_its_path(self):
        for path, action in [
            ("/position-keeper/start", "stop"), ("/position-keeper/start", "kill"), ("/position-keeper/stop", "start"), ("/wake", "kill"),
            ("/kill", "wake"), ("/kill", "status"), ("/api/instances", "destroy"),
        ]:  # fmt: skip
            with self.subTest(path=path, action=action):
                answer = self.ask("POST", path, {"action": action, "blob_id": "abcdefgh"}, bearer("root"))
                self.assertIn(answer.status, (400, 409, 422), answer)
                answer = self.ask("POST", path, {"action": action}, bearer("root"))
                self.assertIn(answer.status, (400, 409, 422), answer)
        self.nothing_was_sent()

    def test_commands_of_others(self):
        sent = self.allowed("deputy", "POST", "/v1/commands", {"action": "status", "target": "pyelli", "id": "of-pyelli"})
        done = self.allowed("alice", "GET", f"{sent.headers['location']}&wait=20".replace("of-pyelli&", "of-pyelli?"))
        self.assertEqual(done.json["state"], "done")
        self.assertEqual(sent.json["id"], "of-pyelli")
        self.denied("keeper", "GET", "/v1/commands/of-pyelli", None, 403, 404)
        # Nor learns anything of it by trying its id.
        answer = self.ask(
            "POST",
            "/v1/commands?wait=20",
            {"action": "status", "target": "position-keeper", "id": "of-pyelli"},
            bearer("keeper"),
        )
        self.problem(answer, 409, 422)
        self.assertNotIn("pyelli", answer.text.replace("of-pyelli", ""))

    def test_whom_it_speaks_for(self):
        body = {"action": "start", "target": "position-keeper", "holder": "bob"}
        self.denied("alice", "POST", "/v1/commands", body)
        self.denied("alice", "POST", "/v1/commands", {**body, "action": "stop"})
        self.assertEqual(self.started(), 0)
        done = self.allowed("alice", "POST", "/v1/commands?wait=20", {"action": "start", "target": "position-keeper"}).json
        self.assertEqual(done["state"], "done", done)
        target = self.local.target("position-keeper", bearer("reader"))
        self.assertEqual([hold["holder"] for hold in target["holds"]], ["alice"])
        done = self.allowed("keeper", "POST", "/v1/commands?wait=20", {**body, "holder": "bob"}).json
        self.assertEqual(done["state"], "rejected", done)
        self.assertEqual(done["outcome"]["cause"], "conflict")
        done = self.allowed("alice", "POST", "/v1/commands?wait=20", {"action": "stop", "target": "position-keeper"}).json
        self.assertEqual(done["state"], "done", done)

    def test_events_of_others(self):
        with wire.Events(self.local.address, headers=bearer("keeper")) as events:
            self.assertEqual(events.status, 200)
            seen = events.until(lambda name, _: name == "ready")
            self.assertEqual([data["target"] for name, data in seen if name == "target"], ["position-keeper"])
            # Nor is what comes later.
            self.allowed("root", "POST", "/v1/commands?wait=20", {"action": "start", "target": "pyelli"})
            self.allowed(
                "root", "POST", "/v1/commands?wait=20", {"action": "create", "template": "walrus", "blob_id": "abcdefgh"}
            )
            self.allowed("root", "POST", "/v1/commands?wait=20", {"action": "start", "target": "position-keeper"})
            seen = events.until(lambda name, data: name == "target" and data["phase"] == "on")
            self.assertEqual({data["target"] for name, data in seen if name is not None}, {"position-keeper"})
        with wire.Events(self.local.address, headers=bearer("models")) as events:
            seen = events.until(lambda name, _: name == "ready")
            names = [data["target"] for name, data in seen if name == "target"]
            self.assertEqual([name.split(".")[0] for name in names], ["walrus"])
        for target in ("pyelli", "position-keeper"):
            self.allowed("root", "POST", "/v1/commands?wait=20", {"action": "kill", "target": target})
        for name, status in [("waiter", 403), ("nobody", 401)]:
            with wire.Events(self.local.address, headers=bearer(name)) as events:
                self.assertEqual(events.status, status)


class OfBefore(Door):
    """A fleet file of the previous release: `command` includes kill and destroy, and is warned of by name."""

    FLEET = (
        f'[http]\nauth = "tokens"\n{harness.COMPAT}{harness.NO_LIMITS}'
        + token_toml("before", ["read", "command"], holder="*")
        + token_toml("after", ["read", "command", "kill"])
        + harness.ALL_TARGETS
        + harness.QUICK
    )

    def test_command_includes_kill_for_one_release(self):
        me = self.ask("GET", "/v1/me", headers=bearer("before")).json
        self.assertEqual(me["may"], ["read", "command", "kill", "wait"])
        answer = self.ask("POST", "/v1/commands?wait=20", {"action": "kill", "target": "pyelli"}, bearer("before"))
        self.assertEqual((answer.status, answer.json["state"]), (200, "done"), answer)
        warnings = [line for line in self.local.log().splitlines() if "command_includes_kill" in line]
        self.assertEqual(len(warnings), 1, warnings)
        self.assertIn("the token before", warnings[0])
        self.assertIn('"kill"', warnings[0])

    def test_check_names_the_token_and_the_right(self):
        checked = subprocess.run(
            [harness.binary(), "check", str(self.local.folder / "lamplighter.toml"), "--json"],
            env=harness.environment(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        self.assertEqual(checked.returncode, 0, checked.stderr)
        found = [it for it in json.loads(checked.stdout) if "command_includes_kill" in it["what"]]
        self.assertEqual([it["level"] for it in found], ["warn"], found)
        self.assertIn("the token before", found[0]["what"])


class Secrets(Rights):
    """What is logged, even when much is: no token, no hash of one."""

    @classmethod
    def setUpClass(cls):
        wait = '[http.wait.pyelli]\nto = ["https://app.example.com/"]\n'
        fleet = cls.FLEET.replace(harness.NO_LIMITS, wait + harness.NO_LIMITS)
        fleet = fleet.replace(harness.PYELLI_TOML, harness.PYELLI_TOML + 'max_hold = "1h"\n')
        cls.local = harness.Local(fleet, log="debug")
        cls.addClassCleanup(cls.local.close)

    def test_no_token_is_said_aloud(self):
        tokens = [secret(name) for name in TOKENS] + [secret("stranger")]
        for token in tokens:
            headers = {"Authorization": f"Bearer {token}"}
            self.local.ask("GET", "/v1/me", headers=headers)
            self.local.ask("GET", f"/v1/targets?token={token}", headers=headers)
            self.local.ask("POST", "/v1/commands", START, headers)
            self.local.ask("POST", "/v1/commands", b"{" + token.encode(), {**headers, "Content-Type": "application/json"})
            self.local.ask("GET", f"/wait/pyelli?to=https://app.example.com/&token={token}")
            self.local.ask("POST", f"/wait/pyelli?to=https://app.example.com/&token={token}", b"")
            self.local.ask("GET", f"/wait/pyelli?to=https://evil.example/&token={token}")
            self.local.ask("GET", f"/wait/pyelli/state?to=https://app.example.com/&token={token}")
            self.local.ask("GET", "/v1/targets", headers={"Authorization": f"Basic {token}"})
            self.local.raw(f"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nX : {token}\r\n\r\n".encode())
        said = self.local.log()
        self.assertGreater(len(said), 500, "nothing was logged at all")
        # A token in an address is warned of, by its name alone and once.
        warned = [line for line in said.splitlines() if "?token=" in line]
        self.assertEqual(len([line for line in warned if "waiter" in line]), 1, warned)
        for token in tokens:
            lines = [line for line in said.splitlines() if token in line]
            self.assertEqual(lines[:3], [])
            self.assertNotIn(hashlib.sha256(token.encode()).hexdigest(), said)

    def test_no_token_is_answered(self):
        for path in ("/v1/me", "/v1/targets", "/openapi.json", "/metrics", "/"):
            answer = self.local.ask("GET", path, headers=bearer("root"))
            self.assertNotIn(secret("root"), answer.text)
            self.assertNotIn(hashlib.sha256(secret("root").encode()).hexdigest(), answer.text)


class MadeForTheRun(unittest.TestCase):
    def test_a_fleet_without_http_gets_a_token(self):
        local = harness.Local(harness.PYELLI_TOML + harness.QUICK)
        self.addCleanup(local.close)
        token = local.ready["token"]
        self.assertRegex(token, r"^\S{32,}$")
        self.assertEqual(local.ask("GET", "/v1/targets").status, 401)
        headers = {"Authorization": f"Bearer {token}"}
        self.assertEqual(local.ask("GET", "/v1/targets", headers=headers).status, 200)
        self.assertEqual(local.ask("GET", "/v1/dead-letters", headers=headers).status, 200)
        self.assertEqual(local.ask("POST", "/wake", {}, headers).status, 404)
        self.assertNotIn(token, local.log())

    def test_a_fleet_with_http_gets_none(self):
        local = harness.Local(harness.BARE + harness.PYELLI_TOML + harness.QUICK)
        self.addCleanup(local.close)
        self.assertIsNone(local.ready["token"])


if __name__ == "__main__":
    unittest.main()
