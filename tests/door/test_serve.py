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


class Served:
    """A door of its own in front of a `local` that has a worker."""

    def __init__(self, local, fleet, name, *arguments):
        path = local.folder / f"{name}.toml"
        path.write_text(fleet)
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            self.address = listener.getsockname()
        self.log = local.folder / f"{name}.log"
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [harness.binary(), "serve", "--fleet", str(path), *(arguments or ("--listen", f"127.0.0.1:{self.address[1]}"))],
                env={
                    **harness.environment(), "AWS_ENDPOINT_URL": local.endpoint, "AWS_REGION": "us-east-1",
                    "AWS_ACCESS_KEY_ID": "door", "AWS_SECRET_ACCESS_KEY": "door", "LAMPLIGHTER_LOG": "info",
                },
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
