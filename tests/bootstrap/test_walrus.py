"""The bootstrap walrus against an aggregator on this machine: what it starts, and what it installs first."""

import os
import stat
import unittest

from harness import WALRUS, WALRUS_CHECK, WRAPPER, base64_of
from walrus import BLOB, OBJECT, RUNS, Walrus, archive, entry, link, model


class Starts(Walrus):
    def test_with_and_without_a_top_folder(self):
        inside = [
            (entry("model/", stat.S_IFDIR, 0o777), ""), ("model/script.sh", RUNS), ("model/data/a b.txt", "x"),
            ("__MACOSX/model/._script.sh", "x"),
        ]  # fmt: skip
        for body in (archive(inside), model(("data/a b.txt", "x"), ("gew\u00e4hlt.txt", "x"))):
            self.aggregator.blob(BLOB, body)
            line = self.said(0)
            self.assertEqual(line.split(" (")[0], f"walrus-model is started from {self.aggregator.url}/v1/blobs/{BLOB}")
            where = self.host.folder / "where"
            self.eventually("it runs", lambda: where.exists() and where.read_text() == f"{self.host.model}\n")
            where.unlink()
            self.assertEqual((self.host.model / "data/a b.txt").read_text(), "x")
            self.assertEqual(self.host.model.with_suffix(".zip").read_bytes(), body)
            self.assertEqual(stat.S_IMODE(self.host.model.stat().st_mode), 0o755)
            self.assertTrue(os.access(self.host.model / "script.sh", os.X_OK))
            self.assertEqual(self.checked(0), "")
        # The second took the first one's place, and its unit's.
        names = sorted(path.name for path in self.host.model.iterdir())
        self.assertEqual(names, ["data", "gew\u00e4hlt.txt", "script.sh"])
        self.eventually("one runs", lambda: self.running() == 1)
        asked = self.host.asked("systemd-run")[0]
        for words in ("--unit=walrus-model", "--remain-after-exit", f"--working-directory={self.host.model}", "--setenv=HOME="):
            self.assertIn(words, asked)

    def test_a_blob_is_tried_as_an_object_and_then_the_object(self):
        tried = [f"/v1/blobs/{BLOB}", f"/v1/blobs/by-object-id/{BLOB}", f"/v1/blobs/by-object-id/{OBJECT}"]
        self.aggregator.pages[tried[1]] = (200, {}, model())
        self.said(0)
        self.assertEqual(self.aggregator.asked, tried[:2])
        self.aggregator.asked.clear()
        self.aggregator.pages[tried[1]] = (400, {}, b"")
        self.aggregator.pages[tried[2]] = (200, {}, model())
        self.said(0, LAMPLIGHTER_OBJECT_ID=OBJECT)
        self.assertEqual(self.aggregator.asked, tried)
        self.aggregator.asked.clear()
        self.said(0, LAMPLIGHTER_OBJECT_ID=OBJECT, LAMPLIGHTER_BLOB_ID="")
        self.assertEqual(self.aggregator.asked, tried[2:])

    def test_a_redirect_is_followed_and_what_is_only_now_amiss_is_asked_again(self):
        answers = [(503, {}, b""), (302, {"Location": "/elsewhere"}, b"")]

        def busy(handler):
            status, headers, _ = answers.pop(0)
            handler.send_response(status)
            for name, value in {"Content-Length": "0", **headers}.items():
                handler.send_header(name, value)
            handler.end_headers()

        self.aggregator.pages[f"/v1/blobs/{BLOB}"] = busy
        self.aggregator.pages["/elsewhere"] = (200, {}, model())
        self.said(0)

    def test_links_that_stay_inside_are_kept(self):
        more = [
            ("lib/a/b.so.1", "x"), link("lib/a/b.so", "b.so.1"), link("lib/up", "../script.sh"),
            link("here", "./lib/a"), link("w[x]*", "lib"),
        ]  # fmt: skip
        self.aggregator.blob(BLOB, model(*more))
        self.said(0)
        self.assertEqual((self.host.model / "lib/a/b.so").read_text(), "x")
        self.assertEqual(os.readlink(self.host.model / "w[x]*"), "lib")

    def test_a_script_that_ends_at_once_is_told_by_its_status(self):
        self.aggregator.blob(BLOB, archive([("script.sh", "echo all done\n")]))
        self.said(0)
        self.assertEqual(self.checked(0), "")
        self.aggregator.blob(BLOB, archive([("script.sh", "echo no weights here; exit 3\n")]))
        line = self.said(22, LAMPLIGHTER_SETTLE_SECONDS="9")
        self.assertEqual(line, "unit: walrus-model ended with 3: no weights here")
        self.assertEqual(self.checked(1), "walrus-model.service is failed, status 3: no weights here")
        # And what failed does not stand in the way of the next.
        self.aggregator.blob(BLOB, model())
        self.said(0)

    def test_a_script_that_fails_later_is_seen_by_the_check(self):
        self.assertRegex(self.checked(1), "^walrus-model.service is inactive")
        script = "while [ ! -e $HOST/fall ]; do sleep 0.05; done; echo fell over; exit 1\n"
        self.aggregator.blob(BLOB, archive([("script.sh", script)]))
        self.said(0)
        self.assertEqual(self.checked(0), "")
        (self.host.folder / "fall").touch()
        self.eventually("it fell", (self.host.folder / "unit.status").exists)
        self.assertRegex(self.checked(1), "failed, status 1: fell over$")

    def test_the_whole_way_through_the_wrapper(self):
        self.aggregator.blob(BLOB, model())
        lines = "".join(f"{name}={base64_of(value)}\n" for name, value in self.parameters().items())
        text = (
            f"token='w1'\nbootstrap='walrus'\ntimeout_seconds=30\nenvironment_base64='{base64_of(lines)}'\n"
            f"script_base64='{base64_of(WALRUS.read_bytes())}'\ncheck_base64='{base64_of(WALRUS_CHECK.read_bytes())}'\n"
        )
        file = self.host.folder / "delivered"
        file.write_text(text + WRAPPER)
        for _ in range(2):
            process = self.host.spawn(self.shell, file)
            output, errors = process.communicate(timeout=60)
            self.assertRegex(output.decode(), r"^lamplighter-exit 0 walrus-model is started from \S+ \(\d+ bytes\)\n$", errors)
        self.assertEqual(len(self.host.asked("systemd-run")), 1)
        self.eventually("it runs on", lambda: self.running() == 1)


class StartsInBash(Starts):
    shell = "bash"


class Installs(Walrus):
    def test_what_is_missing_is_installed_while_apt_is_patiently_waited_for(self):
        self.aggregator.blob(BLOB, model())
        unzip = os.readlink(self.host.bin / "unzip")
        (self.host.bin / "unzip").unlink()
        self.host.stand_in("dpkg-query", "#!/bin/sh\nexit 1\n")
        self.host.stand_in("apt-cache", '#!/bin/sh\n[ "$*" = "show python3.12-venv" ]\n')
        self.host.stand_in("apt-get", f"""#!/bin/sh
echo "$DEBIAN_FRONTEND $*" >>"$HOST/apt.asked"
if [ "$(wc -l <"$HOST/apt.asked")" -eq 1 ]; then
    echo 'E: Could not get lock /var/lib/apt/lists/lock. It is held by process 1 (apt-get)' >&2
    exit 100
fi
[ "$2" = update ] || ln -s {unzip} "$HOST/bin/unzip"
""".replace("ln -s", "/bin/ln -s"))  # fmt: skip
        self.said(0)
        update = "noninteractive -qq update"
        self.assertEqual(self.host.asked("apt"), [update, update, "noninteractive -qq -y install unzip python3.12-venv"])

    def test_what_cannot_be_installed(self):
        (self.host.bin / "unzip").unlink()
        self.refused(11, "install: there is still no unzip")
        self.host.stand_in("apt-get", "#!/bin/sh\necho 'E: Unable to locate package unzip' >&2\nexit 100\n")
        self.refused(11, "install: E: Unable to locate package unzip")
        self.host.stand_in("apt-get", "#!/bin/sh\necho 'E: Could not get lock /var/lib/dpkg/lock' >&2\nexit 100\n")
        self.refused(11, "apt's lock is still held after 1 s", LAMPLIGHTER_INSTALL_SECONDS="1")
        self.host.stand_in("apt-get", "#!/bin/sh\nexec sleep 60\n")
        self.refused(11, "apt-get did not end within 1 s", LAMPLIGHTER_INSTALL_SECONDS="1")
        for name in ("apt-get", "systemd-run"):
            (self.host.bin / name).unlink()
        self.refused(21, "no systemd-run")
        self.host.stand_in("systemd-run", "#!/bin/sh\n")
        self.refused(11, "neither apt-get nor dnf")
        self.host.stand_in("dnf", "#!/bin/sh\necho \"$*\" >>\"$HOST/dnf.asked\"\n")
        self.refused(11, "there is still no unzip")
        self.assertEqual(self.host.asked("dnf"), ["-q -y install unzip"])


if __name__ == "__main__":
    unittest.main()
