"""The table of AWS's errors covers every operation that worker/aws calls, as botocore's models declare them.

Needs botocore (tests/requirements.txt): `scripts/test` provides it.
"""

import json
import sys
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import declared  # noqa: E402


class DeclaredErrors(unittest.TestCase):
    def test_the_committed_file_is_what_the_models_declare(self):
        self.assertEqual(
            json.loads(declared.DECLARED.read_text()),
            declared.declared(),
            "run tests/errors/declared.py --write, and see what `decisions.txt` says of the new codes",
        )

    def test_every_request_that_the_sources_begin_names_its_operation(self):
        named = set(declared.named())
        for method, (path, operations) in declared.begun().items():
            with self.subTest(method=method):
                self.assertTrue(
                    operations & named,
                    f"{path} calls {method}, and nothing names one of {sorted(operations)}: pass its name to "
                    "`call_error`, so that its errors have a decided meaning",
                )

    def test_the_sources_are_read(self):
        # A changed layout must not leave the other tests with nothing to look at.
        self.assertGreater(len(declared.named()), 40)
        self.assertGreater(len(declared.begun()), 40)


if __name__ == "__main__":
    unittest.main()
