"""The image is built once for each commit: with an engine that only writes down what it was asked."""

import json
import re
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

from harness import ROOT, Account

sys.path.insert(0, str(ROOT / "infra"))
import image  # noqa: E402
import stack  # noqa: E402

ENGINE = """#!/usr/bin/env bash
printf '%s\\n' "$*" >>"$0.asked"
[ "$1" != login ] || cat >>"$0.password"
exit "${ENGINE_EXIT:-0}"
"""


class Containerfile(unittest.TestCase):
    """One image for the worker and for the door: the stacks say which verb."""

    def setUp(self):
        self.text = (ROOT / "infra" / "Containerfile").read_text(encoding="utf-8")

    def said(self, word):
        return re.findall(rf"^{word} (.*)$", self.text, re.M)[-1]

    def test_the_verbs_and_the_port_are_those_of_the_stacks(self):
        containers = [
            stack.template(path)["Resources"]["Task"]["Properties"]["ContainerDefinitions"][0] for path in (stack.TEMPLATE, stack.DOOR)
        ]
        # The entry point takes the verb as it is: there is no shell to read a line.
        self.assertEqual(json.loads(self.said("ENTRYPOINT")), ["/lamplighter"])
        self.assertEqual([it["Command"][0] for it in containers], ["run", "serve"])
        self.assertEqual(json.loads(self.said("CMD")), ["run"])
        self.assertEqual({it["User"] for it in containers}, {self.said("USER")})
        self.assertEqual(int(self.said("EXPOSE")), containers[1]["PortMappings"][0]["ContainerPort"])

    def test_what_is_left_out_of_it_is_local_alone(self):
        """The image is built without the default features; a door behind one of them would be missing."""
        self.assertIn("--no-default-features", self.said("RUN"))
        manifest = tomllib.loads((ROOT / "worker" / "Cargo.toml").read_text(encoding="utf-8"))
        self.assertEqual([feature for feature in manifest["features"]["local"] if "door" in feature], [])
        self.assertFalse(manifest["dependencies"].get("lamplighter-door", {}).get("optional"))


class Image(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.account = Account()
        cls.addClassCleanup(cls.account.close)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.engine = Path(folder.name) / "docker"
        self.engine.write_text(ENGINE)
        self.engine.chmod(0o755)
        self.said = []
        self.ecr = self.account.client("ecr")

    def pushed(self, commit="abc123", **environment):
        path = {"PATH": f"{self.engine.parent}:/usr/bin:/bin", **environment}
        with mock.patch.object(image, "commit", lambda: commit), mock.patch.dict("os.environ", path):
            return image.pushed(self.ecr, "lamplighter-prod", self.said.append)

    def asked(self):
        path = Path(f"{self.engine}.asked")
        return path.read_text().splitlines() if path.exists() else []

    def test_it_is_built_for_arm64_and_pushed_under_its_commit(self):
        address = self.pushed()
        self.assertRegex(address, r"^[^/]+/lamplighter-prod:abc123$")
        build, login, push = self.asked()
        self.assertEqual(build, f"build --platform linux/arm64 -f infra/Containerfile -t {address} .")
        self.assertEqual(login, f"login -u AWS --password-stdin {address.split('/')[0]}")
        self.assertEqual(push, f"push {address}")
        self.assertTrue(Path(f"{self.engine}.password").read_text())
        found = self.ecr.describe_repositories(repositoryNames=["lamplighter-prod"])["repositories"][0]
        self.assertEqual(found["imageTagMutability"], "IMMUTABLE")
        self.check_lifecycle()

    def check_lifecycle(self):
        """Each deploy leaves an image: the newest stay, and the oldest go."""
        found = self.ecr.get_lifecycle_policy(repositoryName="lamplighter-prod")["lifecyclePolicyText"]
        rules = json.loads(found)["rules"]
        self.assertEqual([rule["action"] for rule in rules], [{"type": "expire"}])
        expected = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": image.IMAGES_KEPT}
        self.assertEqual(rules[0]["selection"], expected)

    def test_what_is_there_is_not_built_again(self):
        self.pushed("first")
        before = len(self.asked())
        manifest = '{"schemaVersion": 2, "layers": []}'
        self.ecr.put_image(repositoryName="lamplighter-prod", imageManifest=manifest, imageTag="first")
        self.pushed("first")
        self.assertEqual(len(self.asked()), before)
        self.pushed("second")
        self.assertEqual(len(self.asked()), before + 3)

    def test_a_repository_of_before_gets_the_policy_too(self):
        self.pushed()
        self.ecr.delete_lifecycle_policy(repositoryName="lamplighter-prod")
        self.pushed("third")
        self.check_lifecycle()

    def test_a_build_that_fails_ends_it(self):
        with self.assertRaisesRegex(image.ImageError, "build --platform .* ended with 3"):
            self.pushed("third", ENGINE_EXIT="3")
        self.assertEqual(len(self.asked()), 1)

    def test_without_an_engine_it_says_what_to_do(self):
        self.engine.unlink()
        with mock.patch.object(image.shutil, "which", lambda name: None):
            with self.assertRaisesRegex(image.ImageError, "--worker-image"):
                self.pushed("fourth")

    def test_what_no_commit_names_is_not_built(self):
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(image, "ROOT", Path(folder)):
            git = ["git", "-C", folder, "-c", "user.name=a", "-c", "user.email=a@b"]
            subprocess.run([*git, "init", "-q"], check=True)
            (Path(folder) / "file").write_text("1")
            with self.assertRaisesRegex(image.ImageError, "not committed"):
                image.commit()
            subprocess.run([*git, "add", "-A"], check=True)
            subprocess.run([*git, "commit", "-qm", "one"], check=True)
            self.assertRegex(image.commit(), r"^[0-9a-f]{12}$")

    def test_the_repository_goes_with_the_stack(self):
        self.pushed()
        self.assertTrue(image.forget(self.ecr, "lamplighter-prod"))
        self.assertFalse(image.forget(self.ecr, "lamplighter-prod"))


if __name__ == "__main__":
    unittest.main()
