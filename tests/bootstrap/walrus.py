"""The bootstrap walrus on a host, and the archives that it is given."""

import io
import stat
import warnings
import zipfile

from harness import WALRUS, WALRUS_CHECK, Aggregator, OnAHost

BLOB = "k5Lh3Ff-_0aBcDeFgHiJkLmNoPqRsTuVwXyZ0123456"
OBJECT = "0x" + "ab" * 32
# Says where it is and lives on.
RUNS = "pwd >\"$HOST/where\"; echo model speaks; exec sleep 60\n"


def entry(name, kind=stat.S_IFREG, mode=0o644):
    info = zipfile.ZipInfo(name)
    info.create_system = 3
    info.external_attr = (kind | mode) << 16
    return info


def archive(files, compress=zipfile.ZIP_STORED):
    """A zip of names and contents; a name may be an entry of its own kind."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as out:
        with warnings.catch_warnings(action="ignore"):  # A name may be there twice.
            for name, content in files:
                out.writestr(name, content)
    return buffer.getvalue()


def link(name, target):
    return (entry(name, stat.S_IFLNK, 0o777), target)


def model(*more):
    return archive([("script.sh", RUNS), *more])


class Walrus(OnAHost):
    shell = "dash"

    def setUp(self):
        super().setUp()
        self.aggregator = Aggregator()
        self.addCleanup(self.aggregator.close)

    def parameters(self, **more):
        return {
            "LAMPLIGHTER_BLOB_ID": BLOB, "LAMPLIGHTER_AGGREGATOR": self.aggregator.url, "LAMPLIGHTER_SETTLE_SECONDS": "0",
            **more,
        }  # fmt: skip

    def said(self, code, **more):
        """The last line, of a run that ends with this code."""
        process = self.host.spawn(self.shell, WALRUS, **self.parameters(**more))
        output, errors = process.communicate(timeout=60)
        lines = output.decode().splitlines() or [""]
        self.assertEqual(process.returncode, code, f"{lines} {errors}")
        left = [path.name for path in self.host.model.parent.iterdir() if path.name not in ("model", "model.zip")]
        self.assertEqual(left, [])
        self.assertEqual(errors, b"")
        return lines[-1]

    def refused(self, code, words, body=None, **more):
        """It fails with these words, starts nothing and makes nothing."""
        if body is not None:
            self.aggregator.blob(BLOB, body)
        line = self.said(code, **more)
        self.assertIn(words, line)
        self.assertLess(len(line), 200)
        self.assertEqual(self.host.asked("systemd-run"), [])
        self.assertFalse(self.host.model.exists() or self.host.model.with_suffix(".zip").exists())
        return line

    def running(self):
        return len([line for _, line in self.host.processes() if line.startswith(b"sleep")])

    def checked(self, code):
        process = self.host.spawn(self.shell, WALRUS_CHECK)
        output, _ = process.communicate(timeout=20)
        self.assertEqual(process.returncode, code, output)
        return output.decode().strip()
