"""A host and an aggregator of Walrus, for the tests of this folder.

The host is a folder: its PATH holds links to this machine's tools and stand-ins for systemd and apt, so that no
script reaches the real ones. The stand-in for systemd keeps one unit, as `systemd-run --remain-after-exit` does.
*What is not shown here*: systemd, journald, apt and dnf themselves, and SSM's agent.
"""

import base64
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SOURCES = Path(__file__).resolve().parents[2] / "worker" / "aws" / "src"
WRAPPER = (SOURCES / "guard.sh").read_text() + (SOURCES / "bootstrap.sh").read_text()
WALRUS = SOURCES / "bootstraps" / "walrus.sh"
WALRUS_CHECK = SOURCES / "bootstraps" / "walrus_check.sh"

TOOLS = """
awk base64 bash cat chmod curl cut dash date df env find grep head id kill ls mkdir mkfifo mktemp mv od python3 rm
rmdir sed setsid sh sleep tail timeout touch tr true unzip wc yes
""".split()
MISSING = [tool for tool in TOOLS if not shutil.which(tool)]

STAND_INS = {
    "systemd-run": r"""#!/bin/sh
echo "$*" >>"$HOST/systemd-run.asked"
if [ -e "$HOST/unit.pid" ]; then
    echo 'Failed to start transient service unit: Unit walrus-model.service was already loaded' >&2
    exit 1
fi
while [ "$1" != -- ]; do
    case $1 in --working-directory=*) cd "${1#*=}" || exit 1 ;; esac
    shift
done
shift
rm -f "$HOST/unit.status"
setsid sh -c '"$@"; echo "$?" >"$HOST/unit.new"; mv "$HOST/unit.new" "$HOST/unit.status"' unit "$@" \
    </dev/null >>"$HOST/journal" 2>&1 &
echo "$!" >"$HOST/unit.pid"
""",
    "systemctl": r"""#!/bin/sh
echo "$*" >>"$HOST/systemctl.asked"
status=
[ ! -e "$HOST/unit.status" ] || status=$(cat "$HOST/unit.status")
case $1 in
    show)
        if [ ! -e "$HOST/unit.pid" ]; then
            printf 'LoadState=not-found\nActiveState=inactive\nResult=success\nExecMainStatus=0\n'
        elif [ "${status:-0}" -eq 0 ]; then
            printf 'LoadState=loaded\nActiveState=active\nResult=success\nExecMainStatus=0\n'
        else
            printf 'LoadState=loaded\nActiveState=failed\nResult=exit-code\nExecMainStatus=%s\n' "$status"
        fi ;;
    stop)
        [ -e "$HOST/unit.pid" ] || { echo 'Unit walrus-model.service not loaded.' >&2; exit 5; }
        if [ "${status:-0}" -eq 0 ]; then
            kill -- "-$(cat "$HOST/unit.pid")" 2>/dev/null
            rm -f "$HOST/unit.pid" "$HOST/unit.status"
        fi ;;
    reset-failed)
        [ "${status:-0}" -eq 0 ] || rm -f "$HOST/unit.pid" "$HOST/unit.status" ;;
esac
""",
    "journalctl": '#!/bin/sh\ntail -n 1 "$HOST/journal"\n',
    # Everything that is needed is there.
    "apt-get": '#!/bin/sh\necho "$*" >>"$HOST/apt.asked"\n',
    "apt-cache": "#!/bin/sh\nexit 100\n",
    "dpkg-query": "#!/bin/sh\nprintf installed\n",
}


def base64_of(text):
    return base64.b64encode(text if isinstance(text, bytes) else text.encode()).decode()


class Host:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lamplighter-bootstrap-"))
        self.bin = self.folder / "bin"
        self.bin.mkdir()
        for tool in TOOLS:
            (self.bin / tool).symlink_to(sys.executable if tool == "python3" else shutil.which(tool))
        for name, text in STAND_INS.items():
            self.stand_in(name, text)
        self.run_dir = self.folder / "run"
        self.model = self.folder / "tmp" / "model"
        self.model.parent.mkdir()

    def stand_in(self, name, text):
        path = self.bin / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)

    def env(self, **more):
        kept = {name: value for name, value in os.environ.items() if name.startswith("LAMPLIGHTER_TEST_")}
        return {
            **kept, "PATH": str(self.bin), "HOST": str(self.folder), "TMPDIR": str(self.folder),
            "LAMPLIGHTER_RUN_DIR": str(self.run_dir), "LAMPLIGHTER_MODEL_DIR": str(self.model), **more,
        }  # fmt: skip

    def asked(self, name):
        path = self.folder / f"{name}.asked"
        return path.read_text().splitlines() if path.exists() else []

    def spawn(self, shell, file, **more):
        return subprocess.Popen(
            [str(self.bin / shell), str(file)], env=self.env(**more), stdin=subprocess.DEVNULL, cwd=self.folder,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        )  # fmt: skip

    def processes(self):
        """Those that live and were started on this host, whatever group or session they moved to."""
        mark = f"HOST={self.folder}".encode()
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                if mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((int(entry.name), (entry / "cmdline").read_bytes()))
            except OSError:
                pass  # It has just ended.
        return found

    def end_processes(self):
        for process, _ in self.processes():
            try:
                os.kill(process, signal.SIGKILL)
            except ProcessLookupError:
                pass

    def close(self):
        self.end_processes()
        shutil.rmtree(self.folder)


class Aggregator:
    """Serves `pages`: a path's status, headers and body, or a function that answers by itself."""

    def __init__(self):
        self.pages = {}
        self.asked = []
        self.closing = threading.Event()
        aggregator = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                aggregator.asked.append(self.path)
                page = aggregator.pages.get(self.path, (404, {}, b'{"error": "BLOB_NOT_FOUND"}'))
                if callable(page):
                    page(self)
                    return
                status, headers, body = page
                self.send_response(status)
                for name, value in {"Content-Length": str(len(body)), **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:
                    pass  # The client had enough.

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=lambda: self.server.serve_forever(0.05), daemon=True).start()

    def blob(self, name, body, status=200, **headers):
        self.pages[f"/v1/blobs/{name}"] = (status, headers, body)

    def close(self):
        self.closing.set()
        self.server.shutdown()
        self.server.server_close()


@unittest.skipIf(MISSING, f"this machine has no {' '.join(MISSING)}")
class OnAHost(unittest.TestCase):
    def setUp(self):
        self.host = Host()
        self.addCleanup(self.host.close)

    def eventually(self, what, probe, seconds=20):
        until = time.monotonic() + seconds
        while not probe():
            self.assertLess(time.monotonic(), until, f"never: {what}")
            time.sleep(0.05)

    def nothing_runs(self):
        self.eventually(f"nothing runs, but {self.host.processes()}", lambda: not self.host.processes(), 3)
