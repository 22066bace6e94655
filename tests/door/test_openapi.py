"""Schemathesis against the door's own description: what it answers is what it says that it answers."""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import harness
import parallel
from harness import Door

load_tests = parallel.load_tests

SECONDS = int(os.environ.get("LAMPLIGHTER_SCHEMATHESIS_SECONDS", "60"))
CHECKS = [
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "negative_data_rejection", "unsupported_method", "allow_header_conformance",
]  # fmt: skip
# A wait is the caller's own time; one second of it is enough to try.
CONFIG = """
[parameters]
"query.wait" = 1
"""


@unittest.skipUnless(importlib.util.find_spec("schemathesis"), "schemathesis is not installed: infra/venv")
class Described(Door):
    FLEET = '[defaults]\ntarget = "pyelli"\n' + harness.OPEN + harness.ALL_TARGETS + harness.QUICK

    def test_what_it_answers_is_what_it_describes(self):
        folder = Path(tempfile.mkdtemp(dir=self.local.folder))
        (folder / "schemathesis.toml").write_text(CONFIG)
        # One thread: Python before 3.11.5 may lose count in `ast.parse` where there are more.
        words = [
            sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"), "--no-color",
            "run", f"{self.local.url}/openapi.json", "--checks", ",".join(CHECKS), "--max-time", str(SECONDS), "--seed", "1",
            "--phases", "examples,coverage,fuzzing", "--max-examples", "30", "--request-timeout", "20", "--warnings", "off",
            "--exclude-path", "/v1/events", "--workers", "1", "--suppress-health-check", "all",
        ]  # fmt: skip
        environment = {
            name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LAMPLIGHTER_TEST_RUN") if name in os.environ
        }
        ended = subprocess.run(
            words, cwd=folder, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=3 * SECONDS
        )
        report = ended.stdout + ended.stderr
        self.assertEqual(ended.returncode, 0, report[-12_000:])
        self.lives()

    def test_the_description_is_whole(self):
        """Each operation says what it answers, errors as problems, and each reference leads somewhere."""
        spec = self.ask("GET", "/openapi.json").json

        def references(value):
            if isinstance(value, dict):
                if isinstance(value.get("$ref"), str):
                    yield value["$ref"]
                for child in value.values():
                    yield from references(child)
            elif isinstance(value, list):
                for child in value:
                    yield from references(child)

        for reference in set(references(spec)):
            with self.subTest(reference=reference):
                self.assertTrue(reference.startswith("#/"), reference)
                at = spec
                for step in reference[2:].split("/"):
                    at = at[step.replace("~1", "/").replace("~0", "~")]
        names = set()
        for path, operations in spec["paths"].items():
            for method, operation in operations.items():
                if method not in ("get", "post", "put", "delete", "patch", "head", "options"):
                    continue
                with self.subTest(path=path, method=method):
                    self.assertTrue(operation.get("summary") or operation.get("description"))
                    self.assertNotIn(operation.get("operationId"), names)
                    names.add(operation.get("operationId"))
                    self.assertTrue(operation["responses"])
                    if path.startswith("/v1/"):
                        self.assertIn("401", operation["responses"])
        self.assertIn("securitySchemes", spec["components"], json.dumps(spec["components"])[:300])


if __name__ == "__main__":
    unittest.main()
