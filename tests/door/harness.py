"""`lamplighter local` with its door open, for the tests of this folder; and how their classes run side by side.

Each class of tests has an endpoint, a worker and a fleet of its own. The endpoint counts what was asked of it: that
is how a test knows what was started, whatever the door said.
"""

import ctypes
import hashlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.request
from pathlib import Path

import wire

ROOT = Path(__file__).resolve().parents[2]
# How long a test waits for what takes a second or two on an idle machine.
PATIENCE_SECONDS = 30
PROBLEM = "application/problem+json"

KEEPER = "i-01f5d046c86e4f36e"
PYELLI = "i-0abc123def456"
LAUNCH_TEMPLATE = "lt-0123456789abcdef0"

# What every fleet here is made of; [http] and [local] come from the test.
KEEPER_TOML = f"""
[targets.position-keeper]
kind = "ec2-instance"
instance_id = "{KEEPER}"
systemd_unit = "positionkeeper"
exclusive = true
settle = "200ms"
poll = "1s"
"""
PYELLI_TOML = f"""
[targets.pyelli]
kind = "ec2-instance"
instance_id = "{PYELLI}"
settle = "200ms"
poll = "1s"
"""
FLUIDITY_TOML = """
[targets.fluidity]
kind = "ecs-service"
cluster = "fluidity-prod"
service = "fluidity-server-prod"
settle = "0s"
poll = "1s"
"""
WALRUS_TOML = f"""
[templates.walrus]
kind = "ec2-template"
launch_template = "{LAUNCH_TEMPLATE}"
bootstrap = "walrus"
limit = 4
max_lifetime = "1h"
poll = "1s"
"""
QUICK = f"""
[local]
boot = "300ms"
agent = "200ms"
stop = "300ms"
terminate = "300ms"
command = "100ms"
placement = "200ms"
task_start = "500ms"
task_stop = "300ms"
[local.launch_templates.{LAUNCH_TEMPLATE}]
boot = "300ms"
agent = "200ms"
bootstrap = "500ms"
"""
ALL_TARGETS = KEEPER_TOML + PYELLI_TOML + FLUIDITY_TOML + WALRUS_TOML
COMPAT = 'compat = ["position-keeper", "fluidity", "pyelli", "walrus"]\n'
NO_LIMITS = "[http.limits]\nper_address = 100000\nper_token = 100000\n"
OPEN = f'[http]\nauth = "none"\n{COMPAT}{NO_LIMITS}'
# For fleets that have not all of the targets.
BARE = f'[http]\nauth = "none"\n{NO_LIMITS}'


def secret(name):
    """A token for this run's fleets: as long as a real one, and recognisable in a log."""
    return "lamp" + hashlib.sha256(f"token of {name}".encode()).hexdigest()


def token_toml(name, may, **more):
    rest = "".join(f"{key} = {json.dumps(value)}\n" for key, value in more.items())
    digest = hashlib.sha256(secret(name).encode()).hexdigest()
    return f'[http.tokens.{name}]\nsha256 = "{digest}"\nmay = {json.dumps(may)}\n{rest}'


def bearer(name):
    return {"Authorization": f"Bearer {secret(name)}"}


def binary():
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "lamplighter"
    path = Path(os.environ.get("LAMPLIGHTER_BINARY", built)).resolve()
    if not path.is_file():
        raise RuntimeError(f"{path} is not there: cargo build -p lamplighter, or say LAMPLIGHTER_BINARY")
    return str(path)


def environment():
    """Nothing of the caller's environment that the binary would read."""
    kept = ("PATH", "HOME", "TMPDIR", "LAMPLIGHTER_TEST_RUN")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }


def eventually(what, probe, seconds=PATIENCE_SECONDS, every=0.1):
    """What `probe` answers as soon as it is true."""
    until = time.monotonic() + seconds
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"never: {what}; last {found!r}")
        time.sleep(every)


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ends_with_its_parent():
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (AttributeError, OSError):
        pass  # Elsewhere than on Linux only `close` ends it.


class Local:
    """`lamplighter local`, ready; `http` is the address of its door."""

    def __init__(self, fleet, *arguments, env=None, log="info"):
        program = binary()
        self.folder = Path(tempfile.mkdtemp(prefix="lamplighter-door-"))
        (self.folder / "lamplighter.toml").write_text(fleet)
        self.stderr = open(self.folder / "stderr", "wb")
        self.process = subprocess.Popen(
            [
                program, "local", "--json", "--aws-port", "0", "--http-port", "0",
                "--fleet", str(self.folder / "lamplighter.toml"), *arguments,
            ],
            env={**environment(), "LAMPLIGHTER_LOG": log, **(env or {})},
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=self.stderr,
            preexec_fn=ends_with_its_parent,
        )  # fmt: skip
        lines = queue.Queue()
        self.reader = threading.Thread(target=self._read, args=(lines,), daemon=True)
        self.reader.start()
        try:
            self.ready = json.loads(lines.get(timeout=60))
        except (queue.Empty, ValueError):
            log = self.log()
            self.close()
            raise AssertionError(f"`lamplighter local` was never ready; its log:\n{log}") from None
        self.endpoint = self.ready["endpoint"]
        self.url = self.ready["http"]
        host, port = self.url.removeprefix("http://").rsplit(":", 1)
        self.address = (host, int(port))

    def _read(self, lines):
        for line in self.process.stdout:
            lines.put(line)
        lines.put(b"")

    def log(self):
        return (self.folder / "stderr").read_text(errors="replace")

    def close(self):
        """Ends it as an operator would; how long that took."""
        began = time.monotonic()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.reader.join(5)
        self.process.stdout.close()
        self.stderr.close()
        shutil.rmtree(self.folder, ignore_errors=True)
        return time.monotonic() - began

    # -- The endpoint: what was done, and what goes wrong ---------------------------------------------------------

    def control(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.endpoint}/_lamplighter{path}", data, method=method)
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                return json.loads(response.read())
        except urllib.error.HTTPError as error:
            with error:
                raise AssertionError(f"{method} {path}: {error.code} {error.read()!r}") from None

    def aws(self, service, operation, said):
        """One call of AWS's own, as somebody else's program would make it."""
        version = "1.0" if service == "AmazonSQS" else "1.1"
        name = {"AmazonSQS": "sqs"}.get(service, service)
        headers = {
            "Content-Type": f"application/x-amz-json-{version}",
            "X-Amz-Target": f"{service}.{operation}",
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{name}/aws4_request, "
            "SignedHeaders=host, Signature=0",
        }
        request = urllib.request.Request(self.endpoint, json.dumps(said).encode(), headers)
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read())

    def count(self, operation):
        """How often `ec2:StartInstances` and the like were asked."""
        return self.control("GET", "/counts").get(operation, 0)

    def counts(self, *operations):
        counts = self.control("GET", "/counts")
        return sum(counts.get(operation, 0) for operation in operations)

    def started(self):
        """Everything that was ever started: machines, launches, and services whose count was raised."""
        calls = self.control("GET", "/calls")["calls"]
        raised = sum(it["operation"] == "UpdateService" and "desiredCount 1" in it["target"] for it in calls)
        return self.counts("ec2:StartInstances", "ec2:RunInstances") + raised

    def sent(self):
        """How many messages went to the command queue; of targets that are on, the worker sends some itself."""
        queue = self.ready["queue"].rsplit("/", 1)[1]
        calls = self.control("GET", "/calls")["calls"]
        return sum(it["operation"].startswith("SendMessage") and it["target"].startswith(queue) for it in calls)

    def machine(self, instance):
        return self.control("GET", f"/machines/{instance}")

    def faults(self, *faults):
        self.control("PUT", "/faults", list(faults))

    def no_faults(self):
        self.control("DELETE", "/faults")

    # -- The door -------------------------------------------------------------------------------------------------

    def connect(self, seconds=35.0):
        return wire.Connection(self.address, seconds)

    def ask(self, method, path, body=None, headers=(), seconds=35.0):
        """One request on a connection of its own; its answer is well-formed or the test fails."""
        with self.connect(seconds) as connection:
            return connection.ask(method, path, body, headers)

    def raw(self, data, seconds=35.0, method="GET"):
        return wire.exchange(self.address, data, seconds, method)

    def target(self, name, headers=()):
        answer = self.ask("GET", f"/v1/targets/{name}", headers=headers)
        if answer.status != 200:
            raise AssertionError(answer)
        return answer.json

    def until_phase(self, name, phase, headers=(), seconds=PATIENCE_SECONDS):
        return eventually(
            f"{name} is {phase}",
            lambda: (it := self.target(name, headers))["phase"] == phase and it,
            seconds,
        )


class Door(unittest.TestCase):
    """A class of tests with a door of its own. `FLEET` is its fleet, `ARGUMENTS` what else `local` takes."""

    FLEET = OPEN + ALL_TARGETS + QUICK
    ARGUMENTS = ()

    @classmethod
    def setUpClass(cls):
        cls.local = Local(cls.FLEET, *cls.ARGUMENTS)
        cls.addClassCleanup(cls.local.close)

    def ask(self, method, path, body=None, headers=(), seconds=35.0):
        answer = self.local.ask(method, path, body, headers, seconds)
        self.secured(answer)
        return answer

    def setUp(self):
        """What was started and sent before this test: the class has one door for all of them."""
        self.started_before = self.local.started()
        self.sent_before = self.local.sent()

    def started(self):
        return self.local.started() - self.started_before

    def sent(self):
        return self.local.sent() - self.sent_before

    def lives(self):
        """It is there and answers quickly."""
        self.assertIsNone(self.local.process.poll(), f"it ended; its log:\n{self.local.log()[-3000:]}")
        began = time.monotonic()
        answer = self.local.ask("GET", "/healthz", seconds=10)
        self.assertEqual(answer.status, 200, answer)
        self.assertLess(time.monotonic() - began, 5, "it answers, but slowly")

    def secured(self, answer):
        """What every answer of the door's own code has."""
        headers = answer.headers
        self.assertEqual(headers.get("x-content-type-options"), "nosniff", answer)
        # A form whose page says no-referrer posts with `Origin: null`: a page of ours may say same-origin.
        allowed = ("no-referrer", "same-origin") if answer.media == "text/html" else ("no-referrer",)
        self.assertIn(headers.get("referrer-policy"), allowed, answer)
        self.assertIn("content-security-policy", headers, answer)
        self.assertNotIn("server", headers, answer)
        if answer.media == PROBLEM or answer.media == "application/json":
            self.assertIn("no-store", headers.get("cache-control", ""), answer)

    def problem(self, answer, *statuses, bare=False):
        """An error as our own API says it. `bare`: HTTP itself was broken, and the answer may be a status alone."""
        self.assertIsNotNone(answer, f"closed without a word; expected one of {statuses}")
        self.assertIn(answer.status, statuses, answer)
        if bare and not answer.body:
            return {}
        self.assertEqual(answer.media, PROBLEM, answer)
        said = answer.json
        self.assertEqual(said["status"], answer.status, answer)
        for field in ("type", "title", "detail"):
            self.assertIsInstance(said.get(field), str, answer)
            self.assertTrue(said[field], answer)
        if answer.status == 401:
            self.assertTrue(answer.headers.get("www-authenticate", "").startswith("Bearer"), answer)
        if answer.status in (429, 503):
            self.assertRegex(answer.headers.get("retry-after", ""), r"^[1-9][0-9]*$", answer)
        if answer.status == 405:
            self.assertIn("allow", answer.headers, answer)
        self.secured(answer)
        return said

    def side_by_side(self, count, work):
        """What `work(0)` to `work(count - 1)` answer, each on a thread of its own; an exception is an answer."""
        answers = [None] * count
        ready = threading.Barrier(count)

        def run(index):
            try:
                ready.wait(30)
                answers[index] = work(index)
            except Exception as error:  # noqa: BLE001
                answers[index] = error

        threads = [threading.Thread(target=run, args=(index,), daemon=True) for index in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        return answers
