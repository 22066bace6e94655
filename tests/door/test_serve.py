"""`lamplighter serve` and `lamplighter token`: the door by itself, as it is run beside workers, twice or behind a balancer."""

import hashlib
import json
import os
import signal
import socket
import subprocess
import tomllib
import unittest

import harness
import parallel
import wire
from harness import bearer, secret, token_toml

load_tests = parallel.load_tests

FLEET = (
    '[http]\nauth = "tokens"\ncompat = ["position-keeper"]\n'
    + harness.NO_LIMITS
    + token_toml("alice", ["read", "command"])
    + harness.KEEPER_TOML
    + harness.PYELLI_TOML
    + harness.QUICK
)


def served_environment(local):
    """What a door of its own, or the command line, finds AWS by."""
    return {
        **harness.environment(), "AWS_ENDPOINT_URL": local.endpoint, "AWS_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "door", "AWS_SECRET_ACCESS_KEY": "door", "LAMPLIGHTER_LOG": "info",
    }  # fmt: skip


class Served:
    """A door of its own in front of a `local` that has a worker."""

    def __init__(self, local, fleet, name, *arguments, env=None):
        path = local.folder / f"{name}.toml"
        path.write_text(fleet)
        self.address = ("127.0.0.1", harness.free_port())
        self.log = local.folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [harness.binary(), "serve", "--fleet", str(path), *(arguments or ("--listen", f"127.0.0.1:{self.address[1]}"))],
                env={**served_environment(local), **(env or {})},
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=harness.ends_with_its_parent,
            )  # fmt: skip

    def ready(self):
        def listens():
            if self.process.poll() is not None:
                raise AssertionError(f"it ended: {self.log.read_text()[-2000:]}")
            with socket.socket() as probe:
                return probe.connect_ex(self.address) == 0

        harness.eventually("it listens", listens)
        return self

    def ask(self, method, path, body=None, headers=(), seconds=35.0):
        with wire.Connection(self.address, seconds) as connection:
            return connection.ask(method, path, body, headers)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


class Serve(harness.Door):
    FLEET = FLEET

    def serve(self, name="door", fleet=FLEET):
        served = Served(self.local, fleet, name)
        self.addCleanup(served.close)
        return served.ready()

    def tearDown(self):
        self.local.ask("POST", "/v1/commands?wait=20", {"action": "kill", "target": "pyelli"}, bearer("alice"))

    def put_secret(self, value):
        said = {"Name": "lamplighter/tokens", "SecretString": json.dumps(value), "ClientRequestToken": "0" * 32}
        self.local.aws("secretsmanager", "CreateSecret", said)

    def test_one_key_at_two_doors_starts_once(self):
        doors = [self.serve("one"), self.serve("two")]
        before = self.local.count("ec2:StartInstances")
        body = {"action": "start", "target": "pyelli"}
        headers = {"Idempotency-Key": "two-doors", **bearer("alice")}
        answers = self.side_by_side(8, lambda index: doors[index % 2].ask("POST", "/v1/commands?wait=20", body, headers))
        for answer in answers:
            self.assertEqual(getattr(answer, "status", answer), 200, answer)
            self.assertEqual(answer.json["outcome"], answers[0].json["outcome"])
        self.assertEqual(self.local.count("ec2:StartInstances"), before + 1)
        # What went in by one door is seen through the other.
        self.assertEqual(doors[1].ask("GET", "/v1/commands/two-doors", headers=bearer("alice")).json["state"], "done")

    def test_it_ends_when_it_is_told_to(self):
        door = self.serve()
        self.assertEqual(door.ask("GET", "/readyz").status, 200)
        with wire.Events(door.address, headers=bearer("alice")) as events:
            events.until(lambda name, _: name == "ready")
            door.process.send_signal(signal.SIGTERM)
            self.assertEqual(door.process.wait(20), 0, door.log.read_text()[-2000:])

    def test_tokens_of_a_secret(self):
        guest = {
            "sha256": hashlib.sha256(secret("guest").encode()).hexdigest(),
            "may": ["read"],
            "targets": ["pyelli"],
            "holder": "guest",
        }
        fleet = FLEET.replace("compat", 'tokens_secret = "lamplighter/tokens"\ncompat', 1)
        # While the secret cannot be had, the door does not open: it would be another door than the file says.
        early = Served(self.local, fleet, "early")
        self.addCleanup(early.close)
        self.assertNotEqual(early.process.wait(20), 0)
        self.assertIn("lamplighter/tokens", early.log.read_text())
        self.put_secret({"guest": guest})
        door = self.serve("late", fleet)
        answer = door.ask("GET", "/v1/me", headers=bearer("guest"))
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(
            answer.json, {"auth": "tokens", "name": "guest", "may": ["read"], "holder": "guest", "targets": ["pyelli"]}
        )
        self.assertEqual(door.ask("GET", "/v1/targets/position-keeper", headers=bearer("guest")).status in (403, 404), True)
        self.assertEqual(door.ask("GET", "/v1/me", headers=bearer("alice")).status, 200)
        self.assertEqual(door.ask("GET", "/v1/me", headers=bearer("nobody")).status, 401)
        self.assertNotIn(secret("guest"), door.log.read_text())


class OffLoopback(harness.Door):
    """Without tokens, and reached by other machines: what keeps a stranger's page out is the name that it came by."""

    FLEET = harness.PYELLI_TOML + harness.QUICK
    START = {"action": "status", "target": "pyelli"}

    def serve(self, hosts, name):
        port = harness.free_port()
        fleet = f'[http]\nauth = "none"\n{hosts}{harness.NO_LIMITS}{harness.PYELLI_TOML}'
        served = Served(self.local, fleet, name, "--listen", f"0.0.0.0:{port}")
        served.address = ("127.0.0.1", port)
        self.addCleanup(served.close)
        return served

    def ask(self, served, method, path, host, body=None, **headers):
        given = {"Host": host, "Content-Type": "application/json", **headers}
        return wire.exchange(served.address, wire.request(method, path, body, given), 15, method)

    def test_it_wants_the_names_that_it_goes_by(self):
        served = self.serve("", "nameless")
        self.assertEqual(served.process.wait(20), 2)
        said = served.log.read_text()
        for words in ('auth = "none"', "no hosts", "0.0.0.0", 'hosts = ["door.example.com"]'):
            self.assertIn(words, said)

    def test_dns_rebinding(self):
        """A stranger's name that suddenly is this address makes its page the same origin."""
        served = self.serve('hosts = ["door.internal", "10.0.1.5:8080"]\norigins = ["https://app.example.com"]\n', "named").ready()
        command = json.dumps(self.START)
        before = self.local.sent()
        strangers = [
            "evil.example", "evil.example:8080", "door.internal.evil.example", "evil-door.internal", "10.0.1.5",
            "10.0.1.5:8081", "10.0.1.50:8080", "door.internal@evil.example", "door.internal.", "127.0.0.1.evil.example",
        ]  # fmt: skip
        for host in strangers:
            for method, path, body in [("GET", "/v1/targets", None), ("GET", "/", None), ("POST", "/v1/commands", command)]:
                with self.subTest(host=host, path=path):
                    page = {"Origin": f"http://{host}", "Sec-Fetch-Site": "same-origin"} if body else {}
                    answer = self.ask(served, method, path, host, body, **page)
                    self.assertIn(answer.status, (400, 421), answer)
        self.assertEqual(self.local.sent(), before)
        for host in ("door.internal", "DOOR.internal:8080", "10.0.1.5:8080", "localhost", "127.0.0.1:9"):
            with self.subTest(host=host):
                self.assertEqual(self.ask(served, "GET", "/v1/targets", host).status, 200)
        # The balancer's question names the task's own address.
        self.assertEqual(self.ask(served, "GET", "/healthz", "10.0.1.77:8080").status, 200)

    def test_origins_of_pages(self):
        served = self.serve('hosts = ["door.internal", "10.0.1.5:8080"]\norigins = ["https://app.example.com"]\n', "pages").ready()
        command = json.dumps(self.START)
        rows = [
            ("door.internal", "https://door.internal", True), ("door.internal:8080", "http://door.internal:8080", True),
            # A proxy that names the door in its own way, before the same page.
            ("10.0.1.5:8080", "https://door.internal", True), ("door.internal", "http://10.0.1.5:8080", True),
            ("door.internal", "https://app.example.com", True),
            ("door.internal", "https://evil.example", False), ("door.internal", "http://door.internal:3000", False),
            ("door.internal", "http://10.0.1.5", False), ("door.internal", "null", False),
            ("door.internal", "https://door.internal.evil.example", False), ("door.internal", "", False),
            ("door.internal", "https://user@door.internal", False),
        ]  # fmt: skip
        for host, origin, may in rows:
            with self.subTest(host=host, origin=origin):
                answer = self.ask(served, "POST", "/v1/commands", host, command, Origin=origin)
                self.assertEqual(answer.status, 202 if may else 403, answer)


class Links(harness.Door):
    """The keys of links: in a secret or in the environment, and rotated."""

    FLEET = harness.PYELLI_TOML + harness.QUICK
    APP = "https://app.example.com/"
    HTTP = (
        '[http]\nauth = "tokens"\nlinks_secret = "lamplighter/links"\n'
        + harness.NO_LIMITS
        + token_toml("maker", ["link"], holder="*")
        + f'[http.wait.pyelli]\nto = ["{APP}"]\n'
        + harness.PYELLI_TOML
        + 'max_hold = "1h"\n'
    )
    ONE, OTHER = "1f" * 32, "2e" * 32

    def serve(self, name, fleet=None, env=None):
        served = Served(self.local, fleet or self.HTTP, name, env=env)
        self.addCleanup(served.close)
        return served

    def link(self, *arguments, fleet=None, env=None, code=0):
        path = self.local.folder / "link.toml"
        path.write_text(fleet or self.HTTP)
        ran = subprocess.run(
            [harness.binary(), "link", "--fleet", str(path), "--json", *arguments],
            env={**served_environment(self.local), **(env or {})},
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
        )  # fmt: skip
        self.assertEqual(ran.returncode, code, ran.stderr)
        return json.loads(ran.stdout)["link"].removeprefix("https://door.example.com") if code == 0 else ran.stderr

    def statuses(self, served, link):
        return [served.ask("GET", link, headers={"Accept": "text/html"}).status]

    def test_a_key_in_a_secret(self):
        # While the key cannot be had, the door does not open.
        early = self.serve("early")
        self.assertNotEqual(early.process.wait(20), 0)
        self.assertIn("lamplighter/links", early.log.read_text())
        secret_id = {"Name": "lamplighter/links", "SecretString": json.dumps({"current": self.ONE}), "ClientRequestToken": "0" * 32}
        self.local.aws("secretsmanager", "CreateSecret", secret_id)
        served = self.serve("late").ready()
        link = self.link("pyelli", "--for", "7d", "--door", "https://door.example.com/")
        self.assertTrue(link.startswith("/wait/pyelli?to=https%3A%2F%2Fapp.example.com%2F&code=1."), link)
        self.assertEqual(self.statuses(served, link), [200])
        # Another door has another key.
        keys = {"LAMPLIGHTER_LINK_KEYS": json.dumps({"current": self.OTHER})}
        bare = self.HTTP.replace('links_secret = "lamplighter/links"\n', "")
        other = self.serve("other", bare, keys).ready()
        self.assertEqual(self.statuses(other, link), [401])
        # After the rotation links of both keys are good.
        both = {"LAMPLIGHTER_LINK_KEYS": json.dumps({"current": self.OTHER, "previous": self.ONE})}
        rotated = self.serve("rotated", bare, both).ready()
        newer = self.link("pyelli", "--door", "https://door.example.com", fleet=bare, env=both)
        self.assertEqual(self.statuses(rotated, link) + self.statuses(rotated, newer), [200, 200])
        self.assertEqual(self.statuses(served, newer) + self.statuses(other, newer), [401, 200])
        for door in (served, other, rotated):
            said = door.log.read_text()
            for key in (self.ONE, self.OTHER):
                self.assertNotIn(key, said)

    def test_here_the_key_is_made_for_the_run(self):
        """`local` keeps it where an account would, so that the command line finds it; no run has another's."""
        codes = []
        for _ in range(2):
            local = harness.Local(self.HTTP + harness.QUICK)
            self.addCleanup(local.close)
            path = self.local.folder / "made.toml"
            path.write_text(self.HTTP)
            ran = subprocess.run(
                [harness.binary(), "link", "pyelli", "--fleet", str(path), "--json", "--door", local.url],
                env=served_environment(local), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            self.assertEqual(ran.returncode, 0, ran.stderr)
            link = json.loads(ran.stdout)["link"].removeprefix(local.url)
            codes.append(link)
            self.assertEqual([local.ask("GET", it).status for it in codes], [401] * (len(codes) - 1) + [200])

    def test_keys_that_are_none(self):
        bare = self.HTTP.replace('links_secret = "lamplighter/links"\n', "")
        known = hashlib.sha256(secret("maker").encode()).hexdigest()
        for index, (value, words) in enumerate([
            ("hunter2", "not as expected"), ('{"current": "hunter2"}', "64 hex digits"),
            (json.dumps({"current": known}), "SHA-256 of a token"),
            (json.dumps({"current": self.ONE, "previous": self.ONE}), "the same"),
        ]):  # fmt: skip
            with self.subTest(value=value[:30]):
                served = self.serve(f"wrong{index}", bare, {"LAMPLIGHTER_LINK_KEYS": value})
                self.assertNotEqual(served.process.wait(20), 0)
                said = served.log.read_text()
                self.assertIn(words, said)
                self.assertNotIn("hunter2", said)
                self.assertNotIn(self.ONE, said)

    def test_a_link_that_cannot_be_made(self):
        keys = {"LAMPLIGHTER_LINK_KEYS": json.dumps({"current": self.ONE})}
        bare = self.HTTP.replace('links_secret = "lamplighter/links"\n', "")
        self.assertIn("links_secret", self.link("pyelli", fleet=bare, code=2))
        self.assertIn("expected one of them", self.link("pyelli", env=keys, code=2))
        self.assertIn("http.wait.nobody", self.link("nobody", fleet=bare, env=keys, code=2))
        self.assertIn("may not lead there", self.link("pyelli", "--to", "https://evil.example/", fleet=bare, env=keys, code=2))
        self.assertIn("30 days", self.link("pyelli", "--for", "31d", fleet=bare, env=keys, code=2))

    def test_without_a_key_no_code_is_good_and_it_is_said_at_the_start(self):
        bare = self.HTTP.replace('links_secret = "lamplighter/links"\n', "")
        served = self.serve("keyless", bare).ready()
        self.assertIn("no key for links", served.log.read_text())
        link = self.link("pyelli", "--door", "https://door.example.com", fleet=bare, env={"LAMPLIGHTER_LINK_KEYS": json.dumps({"current": self.ONE})})
        self.assertEqual(self.statuses(served, link), [401])
        answer = served.ask("POST", "/v1/links", {"target": "pyelli"}, bearer("maker"))
        self.problem(answer, 404)


class Refused(harness.Door):
    """A door that would be open, or whose settings are wrong, does not open."""

    FLEET = harness.PYELLI_TOML + harness.QUICK

    def ends(self, http, *arguments, said=None):
        served = Served(self.local, http + harness.PYELLI_TOML, "wrong", *arguments)
        self.addCleanup(served.close)
        try:
            code = served.process.wait(10)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it opened: {served.log.read_text()[-1500:]}") from None
        self.assertNotEqual(code, 0)
        if said:
            self.assertIn(said, served.log.read_text())

    def test_settings_that_are_wrong(self):
        digest = "0" * 64
        for http in [
            '[http]\nauth = "basic"\n', '[http]\nauth = "tokens"\ncompat = ["foundry"]\n',
            '[http]\nauth = "tokens"\nfrobnicate = 1\n',
            '[http]\nauth = "tokens"\nprefix = "v2"\n', '[http]\nauth = "tokens"\nprefix = "/v2/../x"\n',
            '[http]\nauth = "tokens"\norigins = ["*"]\n', '[http]\nauth = "tokens"\norigins = ["app.example.com"]\n',
            '[http]\nauth = "tokens"\norigins = ["https://a/b"]\n',
            '[http]\nauth = "tokens"\n[http.tokens.x]\nsha256 = "abc"\nmay = ["read"]\n',
            f'[http]\nauth = "tokens"\n[http.tokens.x]\nsha256 = "{digest}"\nmay = ["fly"]\n',
            '[http]\nauth = "tokens"\n[http.tokens.x]\nmay = ["read"]\n',
            f'[http]\nauth = "tokens"\n[http.tokens.x]\nsha256 = "{digest}"\nmay = ["read"]\n'
            f'[http.tokens.y]\nsha256 = "{digest}"\nmay = ["admin"]\n',
            '[http]\nauth = "tokens"\n[http.wait.nobody]\nto = ["https://a.example/"]\n',
            '[http]\nauth = "tokens"\n[http.wait.pyelli]\nto = ["javascript:x"]\n',
            '[http]\nauth = "tokens"\n[http.wait.pyelli]\nto = ["https://a.example"]\n[http.limits]\nper_address = -1\n',
            '[http]\nauth = "tokens"\n[http.limits]\nper_address = 0\n',
            '[http]\nauth = "tokens"\nproxies = -1\n', '[http]\nauth = "tokens"\n[http.targets]\nposition-keeper = "nobody"\n',
        ]:  # fmt: skip
            with self.subTest(http=http):
                self.ends(http)

    def test_addresses_that_are_none(self):
        for listen in ("nonsense", "127.0.0.1", "127.0.0.1:99999", "256.0.0.1:80", ":x"):
            with self.subTest(listen=listen):
                self.ends('[http]\nauth = "none"\n', "--listen", listen)
        taken = f"127.0.0.1:{self.local.address[1]}"
        self.ends('[http]\nauth = "none"\n', "--listen", taken)


def token(name):
    environment = {"PATH": os.environ["PATH"], "HOME": os.environ.get("HOME", "")}
    words = [harness.binary(), "token", name]
    return subprocess.run(words, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)


class Token(unittest.TestCase):
    def test_a_new_token_and_its_hash(self):
        said = [token("bob") for _ in range(2)]
        texts = [it.stdout + it.stderr for it in said]
        self.assertEqual([it.returncode for it in said], [0, 0], texts)
        self.assertNotEqual(texts[0], texts[1])
        at = texts[0].index("[http.tokens.")
        lines = [line for line in texts[0][at:].splitlines() if line.startswith("[") or "=" in line]
        digest = tomllib.loads("\n".join(lines))["http"]["tokens"]["bob"]["sha256"]
        words = [word.strip("\"'`") for word in texts[0].split()]
        found = [word for word in words if hashlib.sha256(word.encode()).hexdigest() == digest]
        self.assertEqual(len(found), 1, "the token is said once, and the hash is its own")
        self.assertGreaterEqual(len(found[0]), 32)


if __name__ == "__main__":
    unittest.main()
