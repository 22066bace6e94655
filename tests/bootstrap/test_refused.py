"""What the bootstrap walrus refuses, with which words, before it has made or started anything."""

import os
import re
import stat
import subprocess
import unittest
import zipfile

from harness import WALRUS
from walrus import BLOB, RUNS, Walrus, archive, entry, link, model


class Refused(Walrus):
    def test_parameters(self):
        for words, more in [
            ("neither", {"LAMPLIGHTER_BLOB_ID": ""}),
            ("an id is letters", {"LAMPLIGHTER_BLOB_ID": 'x"; touch $HOST/executed; #'}),
            ("an id is letters", {"LAMPLIGHTER_OBJECT_ID": "../../secret"}),
            ("an id is letters", {"LAMPLIGHTER_BLOB_ID": "a\nb"}),
            ("at most 128", {"LAMPLIGHTER_BLOB_ID": "x" * 129}),
            ("no URL", {"LAMPLIGHTER_AGGREGATOR": "file:///etc/passwd?"}),
            ("no URL", {"LAMPLIGHTER_AGGREGATOR": "--upload-file=/etc/passwd"}),
            ("no URL", {"LAMPLIGHTER_AGGREGATOR": "https://$(id)"}),
            ("no number", {"LAMPLIGHTER_MAX_BYTES": "many"}),
            ("no plain path", {"LAMPLIGHTER_MODEL_DIR": "/"}),
            ("no plain path", {"LAMPLIGHTER_MODEL_DIR": "model"}),
        ]:
            with self.subTest(more):
                self.assertRegex(self.refused(10, words, **more), "^parameters: ")
        self.assertFalse((self.host.folder / "executed").exists())
        self.assertEqual(self.aggregator.asked, [])

    def test_addresses_that_give_nothing(self):
        line = self.refused(12, "fetch: blob not found (404) at ")
        self.assertTrue(line.endswith(f"/v1/blobs/by-object-id/{BLOB}"), line)
        self.aggregator.blob(BLOB, b"", 403)
        self.refused(13, "fetch: HTTP 403 at")
        self.aggregator.blob(BLOB, b"", 302, Location=f"/v1/blobs/{BLOB}")
        self.refused(13, "more than 5 redirects")
        self.aggregator.blob(BLOB, b"", 302, Location="file:///etc/passwd")
        self.refused(13, "fetch: curl: (1)")
        self.aggregator.blob(BLOB, b"PK\3\4", **{"Content-Length": "5000"})
        self.refused(13, "broke off")
        self.refused(13, "cannot reach", LAMPLIGHTER_AGGREGATOR="http://127.0.0.1:1")

    def test_an_aggregator_with_https_cannot_redirect_to_one_without(self):
        self.host.stand_in("curl", "#!/bin/sh\necho \"$*\" >>\"$HOST/curl.asked\"\necho 'curl: (60) no trust'\nexit 60\n")
        self.refused(13, "fetch: curl: (60) no trust at https://a.example/v1/blobs/", LAMPLIGHTER_AGGREGATOR="https://a.example/")
        self.assertIn(" --proto =https --proto-redir =https ", self.host.asked("curl")[0])

    def drip(self, first, rest, pause):
        def page(handler):
            handler.send_response(200)
            handler.end_headers()
            try:
                handler.wfile.write(first)
                while not self.aggregator.closing.wait(pause):
                    handler.wfile.write(rest)
            except OSError:
                pass  # The client had enough.

        self.aggregator.pages[f"/v1/blobs/{BLOB}"] = page

    def test_a_server_that_drips_is_left(self):
        self.drip(b"PK\3\4", b"x", 0.2)
        self.refused(13, "no answer in time", LAMPLIGHTER_STALL_SECONDS="1")

    def test_what_is_too_large_is_left_whether_its_length_is_told_or_not(self):
        for self.shell in ("bash", "dash"):
            self.refused(14, "more than 1000 bytes", b"x" * 1001, LAMPLIGHTER_MAX_BYTES="1000")
            self.drip(b"PK\3\4", b"x" * 65536, 0.001)
            self.refused(14, "more than 1000000 bytes", LAMPLIGHTER_MAX_BYTES="1000000")

    def test_what_is_no_zip(self):
        whole = model(("weights", os.urandom(3000)))
        self.refused(16, "archive: 0 bytes", b"")
        self.refused(16, "a web page instead of a zip", b"<!DOCTYPE html>\n<html><title>Sign in</title></html>")
        self.refused(16, "not a zip", b'{"error": 1}')
        self.refused(16, "not a whole zip", whole[:2000])
        self.refused(16, "not a whole zip", whole[:-10])
        self.refused(19, "no script.sh", archive([("other/script.sh", RUNS)]))
        self.refused(19, "no script.sh", archive([link("script.sh", "/bin/sh")]))
        self.refused(18, "unpack: unzip ended with 2", whole.replace(b"model speaks", b"model speakz"))

    def test_what_would_leave_the_folder_is_not_unpacked(self):
        for words, more in [
            ("leaves the folder: ../evil", [("../evil", "x")]),
            ("leaves the folder: a/../../evil", [("a/../../evil", "x")]),
            ("leaves the folder: a/..", [("a/..", "x")]),
            ("an absolute path: /", [(f"{self.host.folder}/evil", "x")]),
            ("a name that is none", [("a\\..\\evil", "x")]),
            ("a name that is none", [(".\x01./evil", "x")]),
            ("a name that is none", [("./a", "x")]),
            ("a link that leaves the folder: l", [link("l", "/etc")]),
            ("a link that leaves the folder: l", [link("l", "../l")]),
            ("a link that leaves the folder: l", [link("l", "..")]),
            ("a link that leaves the folder: a/l", [link("a/l", "../../etc")]),
            ("a link that leaves the folder: l", [("a/b", "x"), link("l", "a/../../etc")]),
            ("a link that leaves the folder: l", [link("l", "a\n/../..")]),
            ("a link that leaves the folder: [l]*", [link("[l]*", "/etc")]),
            ("a link that leaves the folder: -l", [link("-l", "/etc")]),
            ("a path through a link: d/x", [link("d", "a"), ("d/x", "x")]),
            ("a link and something else: d", [link("d", "a"), ("d", "x")]),
            ("neither file nor folder: pipe", [(entry("pipe", stat.S_IFIFO), "")]),
            ("neither file nor folder: disk", [(entry("disk", stat.S_IFBLK), "")]),
        ]:
            with self.subTest(more):
                self.assertRegex(self.refused(17, words, model(*more)), "^archive: ")
        # A link may not leave the folder model/ either, where that is the one which is kept.
        self.refused(17, "leaves", archive([("model/script.sh", RUNS), ("a", "x"), link("model/l", "../a")]))
        self.assertFalse((self.host.folder / "evil").exists() or (self.host.model.parent / "evil").exists())

    def test_what_unpacks_to_more_than_there_is_room(self):
        self.host.stand_in("df", "#!/bin/sh\necho head\necho 'none 2000 1000 1000 50% /tmp'\n")
        bomb = model(("big", b"0" * 3_000_000))
        self.refused(15, "disk: the zip does not fit", bomb)
        bomb = archive([("script.sh", RUNS), ("big", b"0" * 3_000_000)], zipfile.ZIP_DEFLATED)
        self.refused(15, f"disk: {3_000_000 + len(RUNS)} bytes to unpack", bomb)
        # One that says that it is small is stopped by the limit that it said.
        self.host.stand_in("df", "#!/bin/sh\necho head\necho 'none 200000 1000 100000 50% /tmp'\n")
        whole = archive([("script.sh", RUNS), ("big", b"0" * 3_000_000)], zipfile.ZIP_DEFLATED)
        unzip = os.readlink(self.host.bin / "unzip")
        self.host.stand_in("unzip", f"#!/bin/sh\nulimit -f >>$HOST/unzip.asked\nexec {unzip} \"$@\"\n")
        lies = whole.replace((3_000_000).to_bytes(4, "little"), (3_000).to_bytes(4, "little"))
        self.assertNotEqual(lies, whole)
        self.refused(17, "larger than it says", lies)
        self.assertEqual(self.host.asked("unzip")[-1], str((3_000 + len(RUNS)) // 512 + 1))

    @unittest.skipUnless(os.geteuid() == 0, "only root mounts")
    def test_a_disk_that_is_really_full(self):
        folder = self.host.model.parent
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(folder)], capture_output=True, check=False)
        if mounted.returncode:
            self.skipTest("this root may not mount a tmpfs")
        self.addCleanup(subprocess.run, ["umount", "-l", str(folder)], check=True)
        self.refused(15, "disk: the zip does not fit", model(("big", os.urandom(2_000_000))))
        self.refused(15, "bytes to unpack", model(("big", os.urandom(600_000))))
        # Even where df is wrong.
        self.host.stand_in("df", "#!/bin/sh\necho head\necho 'none 200000 1000 100000 50% /tmp'\n")
        self.refused(15, "disk: curl: (23)", model(("big", os.urandom(2_000_000))))
        self.refused(15, "disk: full while unpacking", model(("big", os.urandom(600_000))))

    def test_a_folder_that_is_not_ours_to_replace(self):
        self.aggregator.blob(BLOB, model())
        other = self.host.folder / "other"
        other.mkdir()
        (other / "script.sh").write_text("kept")
        self.host.model.symlink_to(other)
        self.assertIn("is a symlink", self.said(20))
        self.host.model.unlink()
        self.host.model.mkdir()
        (self.host.model / "precious").write_text("kept")
        self.assertIn("holds something else", self.said(20))
        if os.geteuid() == 0:
            (self.host.model / "script.sh").touch()
            os.chown(self.host.model, 65534, 65534)
            self.assertIn("not a folder of ours", self.said(20))
        self.assertEqual((self.host.model / "precious").read_text(), "kept")
        self.assertEqual((other / "script.sh").read_text(), "kept")
        self.assertEqual(self.aggregator.asked, [])

    def test_a_refusal_leaves_what_was_there(self):
        self.aggregator.blob(BLOB, model(("first", "x")))
        self.said(0)
        self.aggregator.blob(BLOB, model(("../evil", "x")))
        self.said(17)
        self.assertTrue((self.host.model / "first").exists())
        self.assertEqual(self.checked(0), "")

    def test_a_unit_that_cannot_be_started(self):
        self.aggregator.blob(BLOB, model())
        self.host.stand_in("systemd-run", "#!/bin/sh\necho 'Failed to connect to bus: No such file' >&2\nexit 1\n")
        self.assertEqual(self.said(21), "unit: Failed to connect to bus: No such file")

    def test_who_is_ended_leaves_nothing_half_done(self):
        self.drip(b"PK\3\4", b"x" * 65536, 0.05)
        process = self.host.spawn(self.shell, WALRUS, **self.parameters())
        self.eventually("it fetches", lambda: self.aggregator.asked)
        os.killpg(process.pid, 15)
        output, _ = process.communicate(timeout=20)
        self.assertEqual(process.returncode, 143, output)
        self.assertTrue(re.search(r"fetching \S+$", output.decode().strip()), output)
        self.assertEqual(list(self.host.model.parent.iterdir()), [])
        self.nothing_runs()


if __name__ == "__main__":
    unittest.main()
