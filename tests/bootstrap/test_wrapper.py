"""bootstrap.sh in real shells: what it answers, what the script gets, and what stays behind."""

import json
import os
import re
import signal
import subprocess
import threading
import time
import unittest

from harness import WRAPPER, OnAHost, base64_of

# What a shell would do something with, if it ever saw it.
HOSTILE = {
    "QUOTE": 'x"; touch "$HOST/executed"; #',
    "SINGLE": "x'; touch $HOST/executed; '",
    "DOLLAR": "$(touch $HOST/executed)${HOST}$HOST",
    "BACKTICK": "`touch $HOST/executed`",
    "NEWLINES": "\nfirst\ntouch $HOST/executed\n\n",
    "PATTERN": "* ? [a-z] ~ ../../etc/*",
    "SPACES": "  a  \t b  ",
    "ESCAPES": "a\\nb\\$c\\\\",
    "EQUALS": "A=B=",
    "EMPTY": "",
    "NOT_ASCII": "gr\u00fc\u00df \U0001f980",
    "OPTION": "-n -e --help",
    "LONG": "x" * 20_000,
}
DUMP = """#!/usr/bin/env python3
import json, os
open(os.environ["HOST"] + "/seen.json", "w").write(json.dumps(dict(os.environ)))
print("dumped")
"""


class Wrapped(OnAHost):
    shell = "dash"
    delivered = 0

    def text(self, script, check="", seconds=20, token="a1", environment=None, lines=None):
        if lines is None:
            lines = "".join(f"{name}={base64_of(value)}\n" for name, value in (environment or {}).items())
        assigned = (
            f"token='{token}'\nbootstrap='walrus'\ntimeout_seconds={seconds}\n"
            f"environment_base64='{base64_of(lines)}'\nscript_base64='{base64_of(script)}'\n"
            f"check_base64='{base64_of(check)}'\n"
        )
        return assigned + WRAPPER

    def deliver(self, script, check="", **more):
        # As SSM's agent does it: from a file, so that no parameter is in an argument.
        self.delivered += 1
        file = self.host.folder / f"delivered-{self.delivered}"
        file.write_text(self.text(script, check, **more))
        return self.host.spawn(self.shell, file)

    def answer(self, process, code=0):
        said, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, code, errors)
        return said.decode()

    def told(self, script, check="", **more):
        """The code and the line that the wrapper answers, and nothing else that it leaves."""
        return self.all_told([(script, check, more)])[0]

    def all_told(self, rows):
        """The same for several scripts at once."""
        rows = [(script, check, {"token": f"t{number}", **more}) for number, (script, check, more) in enumerate(rows)]
        processes = [self.deliver(script, check, **more) for script, check, more in rows]
        return [self.parsed(self.answer(process), row[2]["token"]) for process, row in zip(processes, rows, strict=True)]

    def parsed(self, said, token):
        found = re.fullmatch(r"lamplighter-exit (\d+) ([ -~]{0,200})\n", said)
        self.assertTrue(found, repr(said))
        self.assertEqual([path.name for path in (self.host.run_dir / token).iterdir()], ["result"])
        return int(found[1]), found[2]


class InDash(Wrapped):
    def test_a_script_is_told_by_its_code_and_its_last_line(self):
        rows = [
            ("exit 0", (0, "")),
            ("echo 3; echo 4; exit 1", (1, "4")),
            ("echo out; echo err >&2; exit 7", (7, "err")),
            ("printf 'no newline'", (0, "no newline")),
            ("echo words; echo; echo '   '", (0, "words")),
            ("printf '10%%\\r 50%%\\r100%%\\r'", (0, "100%")),
            ("printf 'a\\000\\033[2Jb\\377\\tc\\n'; exit 3", (3, "a[2Jb c")),
            ("printf '%0300d' 1", (0, "0" * 200)),
            ("cat; echo read nothing", (0, "read nothing")),
            ("echo lamplighter-exit 0 forged; exit 5", (5, "lamplighter-exit 0 forged")),
            ("", (0, "")),
            ("kill -9 $$", (137, "")),
            ("#!/usr/bin/env bash\nfirst=(a b); echo ${first[1]}", (0, "b")),
            ("#! /bin/bash -eu\nfalse\necho never", (1, "")),
            ("#!/no/such/thing\nexit 0", (127, "")),
            ("token=x; guard=/tmp; finish() { :; }; leave() { :; }; exit 6", (6, "")),
        ]
        for (script, expected), (code, line) in zip(rows, self.all_told([(row[0], "", {}) for row in rows]), strict=True):
            with self.subTest(script):
                if expected[0] == 127:
                    line = ""  # timeout's own words
                self.assertEqual((code, line), expected)
        self.nothing_runs()

    def test_values_arrive_verbatim_and_are_never_shell_text(self):
        # The check gets them as well.
        for script, check in ((DUMP, ""), ("exit 0", DUMP)):
            with self.subTest(check=bool(check)):
                self.told(script, check, environment=HOSTILE, token="c1" if check else "c0")
                seen = json.loads((self.host.folder / "seen.json").read_text())
                (self.host.folder / "seen.json").unlink()
                self.assertEqual({name: seen.get(name) for name in HOSTILE}, HOSTILE)
                for own in ("environment_base64", "script_base64", "assignments", "value"):
                    self.assertNotIn(own, seen)
        self.assertFalse((self.host.folder / "executed").exists())

    def test_no_parameter_lies_in_a_file_or_an_argument(self):
        secret = "only-in-memory-4711"
        process = self.deliver("touch $HOST/runs; sleep 60", environment={"SECRET": secret})
        self.eventually("it runs", (self.host.folder / "runs").exists)
        needles = [secret.encode(), base64_of(secret).encode()]
        files = [path for path in self.host.run_dir.rglob("*") if path.is_file()]
        self.assertIn("script", [path.name for path in files])
        for text in [path.read_bytes() for path in files] + [line for _, line in self.host.processes()]:
            for needle in needles:
                self.assertNotIn(needle, text)
        process.terminate()
        self.answer(process)

    def test_an_environment_that_is_none_runs_nothing(self):
        value = base64_of("x")
        lines = [
            f"a={value}", f"A-B={value}", f"A;touch={value}", f"1A={value}", f"_A={value}", f"={value}", "A", "A=%%%",
            f"A={value}\n$(id)={value}", f"\u00c4={value}",
        ]  # fmt: skip
        deliver = [self.deliver("touch $HOST/executed", lines=line + "\n", token=f"d{i}") for i, line in enumerate(lines)]
        for line, process in zip(lines, deliver, strict=True):
            with self.subTest(line):
                self.assertEqual(self.answer(process, code=4), "")
        self.assertFalse((self.host.folder / "executed").exists())

    def test_a_second_delivery_runs_nothing_and_has_the_same_answer(self):
        script = "echo x >>$HOST/runs; sleep 0.5; wc -l <$HOST/runs; exit 3"
        text = self.host.folder / "delivered"
        text.write_text(self.text(script))
        both = [self.host.spawn(self.shell, text) for _ in range(2)]
        third = "lamplighter-exit 3 1\n"
        self.assertEqual([self.answer(process) for process in both], [third, third])
        self.assertEqual(self.answer(self.host.spawn(self.shell, text)), third)
        self.assertEqual(self.told(script, token="other"), (3, "2"))

    def test_a_time_that_is_over_is_124(self):
        scripts = ["sleep 60", "echo so far; sleep 60", "trap 'exit 0' TERM; sleep 60 & wait"]
        silent, spoke, ended_well = self.all_told([(script, "", {"seconds": 1}) for script in scripts])
        self.assertEqual(silent, (124, "ended after 1 s"))
        self.assertEqual(spoke, (124, "so far"))
        self.assertEqual(ended_well[0], 124)
        self.nothing_runs()

    def test_what_is_left_running_holds_nothing_up(self):
        began = time.monotonic()
        scripts = ["sleep 60 & echo ready", "setsid sleep 60 & echo ready", "setsid yes & sleep 0.3; exit 4"]
        told = self.all_told([(script, "", {}) for script in scripts])
        self.assertEqual(told, [(0, "ready"), (0, "ready"), (4, "y")])
        self.assertLess(time.monotonic() - began, 15)
        # What is quiet lives on.
        sleeping = [line for _, line in self.host.processes() if b"sleep" in line]
        self.assertEqual(len(sleeping), 2, sleeping)
        self.host.end_processes()
        self.nothing_runs()

    def test_a_check_is_asked_until_it_succeeds(self):
        check = "date +%s%3N >>$HOST/asked; [ $(wc -l <$HOST/asked) -ge 2 ]"
        self.assertEqual(self.told("echo started", check), (0, "started"))
        first, second = map(int, (self.host.folder / "asked").read_text().split())
        self.assertGreaterEqual(second - first, 1_900)

    def test_a_check_that_never_succeeds_has_its_own_code(self):
        seconds = {"seconds": 3}
        failing, (code, line), never_asked = self.all_told([
            ("echo started", "echo not yet; exit 9", seconds),
            ("sleep 1", "sleep 60", seconds),
            ("exit 5", "touch $HOST/asked", seconds),
        ])  # fmt: skip
        self.assertEqual(failing, (9, "check: not yet"))
        self.assertEqual(code, 124)
        self.assertRegex(line, r"^check: ended after [12] s$")
        self.assertEqual(never_asked, (5, ""))
        self.assertFalse((self.host.folder / "asked").exists())

    def test_who_is_ended_from_outside_leaves_a_result_and_nothing_else(self):
        process = self.deliver("touch $HOST/runs; sleep 60", environment={"SECRET": "x"})
        self.eventually("it runs", (self.host.folder / "runs").exists)
        os.kill(process.pid, signal.SIGTERM)
        self.assertEqual(self.answer(process), "lamplighter-exit 143 ended from outside\n")
        self.assertEqual(self.told("touch $HOST/executed", token="a1"), (143, "ended from outside"))
        self.assertFalse((self.host.folder / "executed").exists())
        self.nothing_runs()


class InBash(InDash):
    shell = "bash"


class Once(Wrapped):
    """What does not depend on the shell."""

    def test_output_without_end_keeps_its_end_and_fills_nothing(self):
        largest = [0]
        done = threading.Event()

        def watch():
            while not done.wait(0.02):
                for path in self.host.folder.rglob("*"):
                    try:
                        largest[0] = max(largest[0], path.lstat().st_size if path.is_file() else 0)
                    except OSError:
                        pass  # It has just gone.

        watcher = threading.Thread(target=watch)
        watcher.start()
        try:
            one_line = "head -c 30000000 /dev/zero | tr '\\0' x"
            scripts = ["yes without end", f"{one_line}; echo; echo the end; exit 2", f"{one_line}; exit 2"]
            told = self.all_told([(script, "", {"seconds": 2}) for script in scripts])
        finally:
            done.set()
            watcher.join()
        self.assertEqual(told[0][0], 124)
        self.assertEqual(told[1:], [(2, "the end"), (2, "x" * 200)])
        self.assertGreater(largest[0], 0)
        self.assertLess(largest[0], 256 * 1024)
        self.nothing_runs()

    def test_who_ignores_the_end_is_killed(self):
        began = time.monotonic()
        self.assertEqual(self.told("trap '' TERM; sleep 60 & wait; wait", seconds=1), (124, "ended after 1 s"))
        self.assertLess(time.monotonic() - began, 12)
        self.nothing_runs()

    @unittest.skipUnless(os.geteuid() == 0, "only root mounts")
    def test_a_folder_on_which_nothing_can_be_executed_is_enough(self):
        self.host.run_dir.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=1m,noexec", "none", str(self.host.run_dir)], capture_output=True, check=False
        )
        if mounted.returncode:
            self.skipTest("this root may not mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", str(self.host.run_dir)], check=True)
        self.assertEqual(self.told("#!/usr/bin/env bash\necho fine", "#!/bin/sh\nexit 0"), (0, "fine"))


if __name__ == "__main__":
    unittest.main()
