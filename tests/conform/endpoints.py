"""The endpoints that the tests ask: `lamplighter local`, ministack and moto, each on a port of its own."""

import ctypes
import dataclasses
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from pathlib import Path

import kit

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}
# What `lamplighter local` is given: a service whose count may change, and everything quick.
FLEET = """
[targets.conform]
kind = "ecs-service"
cluster = "conform"
service = "conform"
[local]
boot = "1s"
agent = "500ms"
stop = "2s"
terminate = "500ms"
command = "300ms"
placement = "300ms"
task_start = "500ms"
task_stop = "500ms"
"""


def binary():
    built = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "lamplighter"
    path = Path(os.environ.get("LAMPLIGHTER_BINARY", built)).resolve()
    if not path.is_file():
        raise RuntimeError(f"{path} is not there: cargo build -p lamplighter, or say LAMPLIGHTER_BINARY")
    return str(path)


def environment(**more):
    """Nothing of the caller's environment that AWS's libraries or the binary would read."""
    kept = ("PATH", "HOME", "TMPDIR", "LAMPLIGHTER_TEST_RUN")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_REGION": REGION,
        **more,
    }


def ends_with_its_parent():
    try:
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    except (AttributeError, OSError):
        pass  # Elsewhere than on Linux only `close` ends it.


def free_port():
    with socket.socket() as it:
        it.bind(("127.0.0.1", 0))
        return it.getsockname()[1]


@dataclasses.dataclass
class Process:
    """A program of a test, its folder and its log."""

    folder: Path
    process: subprocess.Popen
    log: Path

    @classmethod
    def start(cls, command, folder=None, stdout=subprocess.DEVNULL, name="log", **env):
        folder = folder or Path(tempfile.mkdtemp(prefix="lamplighter-conform-"))
        log = folder / name
        with open(log, "wb") as stderr:
            process = subprocess.Popen(
                command, env=environment(TMPDIR=str(folder), **env), cwd=folder, stdin=subprocess.DEVNULL,
                stdout=stdout, stderr=stderr, preexec_fn=ends_with_its_parent,
            )  # fmt: skip
        return cls(folder, process, log)

    def close(self, folder=True):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.process.stdout:
            self.process.stdout.close()
        if folder:
            shutil.rmtree(self.folder, ignore_errors=True)


def until_it_listens(process, port, seconds=60):
    until = time.monotonic() + seconds
    while time.monotonic() < until and process.process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    words = process.log.read_text(errors="replace")[-3000:]
    process.close()
    raise RuntimeError(f"it never listened on {port}; its log:\n{words}")


class Local:
    """`lamplighter local` without its worker."""

    def __init__(self, fleet=FLEET, *arguments):
        folder = Path(tempfile.mkdtemp(prefix="lamplighter-conform-"))
        (folder / "lamplighter.toml").write_text(fleet)
        command = [binary(), "local", "--json", "--no-worker", "--aws-port", "0", "--http-port", "0",
                   "--fleet", str(folder / "lamplighter.toml"), *arguments]  # fmt: skip
        self.process = Process.start(command, folder, stdout=subprocess.PIPE)
        lines = queue.Queue()
        threading.Thread(target=self._read, args=(lines,), daemon=True).start()
        try:
            self.url = json.loads(lines.get(timeout=60))["endpoint"]
        except (queue.Empty, ValueError):
            words = self.process.log.read_text(errors="replace")[-3000:]
            self.process.close()
            raise RuntimeError(f"`lamplighter local` was never ready; its log:\n{words}") from None
        self.given = kit.Given(service="conform/conform", profile="conform", subnet="subnet-00000000000000001", local=True)

    def _read(self, lines):
        for line in self.process.process.stdout:
            lines.put(line)
        lines.put(b"")

    def control(self, method, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(f"{self.url}/_lamplighter{path}", data, method=method)
        with urllib.request.urlopen(request, timeout=20) as response:
            return json.loads(response.read())

    def close(self):
        self.process.close()


class Ministack:
    def __init__(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        self.process = Process.start(
            [sys.executable, "-m", "ministack"], GATEWAY_PORT=str(port), BIND_HOST="127.0.0.1",
            MINISTACK_HOST="127.0.0.1",
        )  # fmt: skip
        until_it_listens(self.process, port)
        self.given = kit.Given()

    def close(self):
        self.process.close()


class Moto:
    def __init__(self):
        port = free_port()
        self.url = f"http://127.0.0.1:{port}"
        serve = "from moto.server import main; main()"
        self.process = Process.start([sys.executable, "-c", serve, "-H", "127.0.0.1", "-p", str(port)])
        until_it_listens(self.process, port)
        self.given = kit.Given()

    def close(self):
        self.process.close()


ALL = {"local": Local, "ministack": Ministack, "moto": Moto}
