"""The template, the policies and the generated fleet, without any AWS."""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import unittest
from pathlib import Path
from unittest import mock

from harness import ROOT, binary

sys.path.insert(0, str(ROOT / "infra"))
import fleet  # noqa: E402
import policies  # noqa: E402
import stack  # noqa: E402

TEMPLATE = stack.template()
RESOURCES = TEMPLATE["Resources"]


def defaults(**more):
    values = {name: str(spec.get("Default", "")) for name, spec in TEMPLATE["Parameters"].items()}
    return {**values, "Env": "prod", **more}


def seed_001(**more):
    return defaults(ECSClusterName="fluidity-prod", ECSServiceName="fluidity-server-prod", **more)


class Rights(unittest.TestCase):
    def statements(self, logical_id):
        properties = RESOURCES[logical_id]["Properties"]
        document = properties.get("PolicyDocument") or properties["Policies"][0]["PolicyDocument"]
        # What is there under a condition counts as there.
        return [entry["Fn::If"][1] if "Fn::If" in entry else entry for entry in document["Statement"]]

    def check(self, logical_id, file, sids=None):
        """The role's statements are the file's, one by one, each placeholder by the template's own word."""
        expected = json.loads((ROOT / "infra" / file).read_text())["Statement"]
        expected = [statement for statement in expected if sids is None or statement["Sid"] in sids]
        found = self.statements(logical_id)
        self.assertEqual([one["Sid"] for one in found], [one["Sid"] for one in expected])
        words = {
            "${AWS::Partition}": "aws", "${AWS::Region}": "REGION", "${AWS::AccountId}": "ACCOUNT",
            "${Commands.QueueName}": "COMMAND_QUEUE", "${DeadLetters.QueueName}": "DEAD_LETTER_QUEUE",
            "${Table}": "TABLE", "${EventBusName}": "BUS", "${SecretName}": "SECRET_NAME",
            "${ECSClusterName}": "CLUSTER", "${ECSServiceName}": "SERVICE",
            "${LaunchTemplateId}": "LAUNCH_TEMPLATE", "${InstanceProfileRole}": "INSTANCE_PROFILE_ROLE",
            "${BootstrapDocument}": "BOOTSTRAP_DOCUMENT",
        }  # fmt: skip
        for mine, theirs in zip(found, expected, strict=True):
            text = json.dumps(mine)
            for word, mark in words.items():
                text = text.replace(word, mark)
            unfolded = json.loads(text, object_hook=lambda it: it["Sub"] if set(it) == {"Sub"} else it)
            self.assertEqual(unfolded, theirs)

    def test_each_role_has_the_statements_of_its_file(self):
        self.check("WorkerRole", "worker-policy.json")
        self.check("OperatorPolicy", "operator-policy.json")
        self.check("SenderPolicy", "operator-policy.json", sids=["SendCommands"])

    def test_machines_are_bound_to_their_tag_and_documents_are_named(self):
        rights = self.statements("WorkerRole")
        for statement in rights:
            for action in statement["Action"]:
                if action in ("ec2:StartInstances", "ec2:StopInstances"):
                    self.assertEqual(statement["Condition"]["StringEquals"], {"ec2:ResourceTag/lamplighter:managed": "true"})
                if action == "ssm:SendCommand":
                    text = json.dumps(statement)
                    named = re.search(r"document/(AWS-\w+|\$\{BootstrapDocument\})", text)
                    self.assertTrue("lamplighter:managed" in text or named, text)
                if action in ("ec2:RunInstances", "ec2:CreateTags", "ec2:TerminateInstances", "iam:PassRole"):
                    self.check_launch(action, statement)

    def check_launch(self, action, statement):
        """A launch stands on its template, a tag on its launch, an end on the owner's tag, a role on whom it is for."""
        text = json.dumps(statement["Condition"] if "Condition" in statement else statement["Resource"])
        words = {
            "ec2:RunInstances": "launch-template/${LaunchTemplateId}",
            "ec2:CreateTags": '"ec2:CreateAction": "RunInstances"',
            "ec2:TerminateInstances": "ec2:ResourceTag/lamplighter:owner",
            "iam:PassRole": '"iam:PassedToService": "ec2.amazonaws.com"',
        }
        self.assertIn(words[action], text, statement["Sid"])

    def test_nothing_may_be_launched_where_no_template_is_given(self):
        document = RESOURCES["WorkerRole"]["Properties"]["Policies"][0]["PolicyDocument"]
        found = {}
        for entry in document["Statement"]:
            condition, statement = entry["Fn::If"][:2] if "Fn::If" in entry else (None, entry)
            for action in statement["Action"]:
                found.setdefault(action, set()).add(condition)
        self.assertEqual(found["ec2:RunInstances"], {"HasLaunchTemplate"})
        self.assertEqual(found["iam:PassRole"], {"HasInstanceProfileRole"})

    def test_aws_s_signals_are_those_of_setup(self):
        source = (ROOT / "worker/aws/src/setup.rs").read_text()
        patterns = [json.loads(text) for text in re.findall(r'r#"(\{"source".*?\})"#', source)]
        rules = [it["Properties"] for it in RESOURCES.values() if it["Type"] == "AWS::Events::Rule"]
        rules = [rule["EventPattern"] for rule in rules if "EventPattern" in rule]
        self.assertEqual(sorted(patterns, key=str), sorted(rules, key=str))

    def test_what_is_written_by_hand_is_found(self):
        text = policies.TEMPLATE.read_text(encoding="utf-8")
        self.assertEqual(policies.generated(text), text)
        more = text.replace("sqs:ReceiveMessage", "sqs:ReceiveMessage, sqs:PurgeQueue", 1)
        self.assertNotEqual(more, text)
        self.assertEqual(policies.generated(more), text)
        with self.assertRaisesRegex(policies.PolicyError, "# end sender"):
            policies.generated(text.replace("# end sender", ""))

    def test_a_placeholder_that_nobody_knows_is_refused(self):
        self.assertEqual(policies.filled("x", "arn:aws:ssm:REGION::document/AWS-RunShellScript"),
                         "arn:${AWS::Partition}:ssm:${AWS::Region}::document/AWS-RunShellScript")  # fmt: skip
        self.assertEqual(policies.filled("x", "arn:aws:sqs:REGION:ACCOUNT:DEAD_LETTER_QUEUE"),
                         "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${DeadLetters.QueueName}")  # fmt: skip
        for text in ("arn:aws:s3:::BUCKET", "arn:aws:x:REGION:ACCOUNT:TABLE_NAME"):
            with self.assertRaisesRegex(policies.PolicyError, "Here"):
                policies.filled("Here", text)

    def test_the_script_compares_and_writes(self):
        script = str(ROOT / "infra" / "policies.py")
        self.assertEqual(subprocess.run([sys.executable, script, "--check"], check=False).returncode, 0)
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "lamplighter.yaml"
            copy.write_text(policies.TEMPLATE.read_text().replace("sqs:DeleteMessage", "sqs:PurgeQueue"))
            with mock.patch.object(policies, "TEMPLATE", copy), mock.patch("builtins.print"):
                self.assertEqual([policies.main(["--check"]), policies.main([]), policies.main(["--check"])], [1, 0, 0])
            self.assertEqual(copy.read_text(), policies.TEMPLATE.read_text())


class Shape(unittest.TestCase):
    def test_the_environment_is_in_every_name(self):
        names = {
            "QueueName", "TableName", "RoleName", "ManagedPolicyName", "LogGroupName", "GroupName", "ClusterName",
            "Family", "ServiceName", "InstanceProfileName", "LaunchTemplateName", "AutoScalingGroupName",
            "AlarmName", "DashboardName",
        }  # fmt: skip
        seen = 0
        for logical_id, resource in RESOURCES.items():
            for key, value in resource["Properties"].items():
                # What refers to another resource has its name.
                if isinstance(value, dict) and "Ref" in value:
                    continue
                if key in names or (key == "Name" and resource["Type"] == "AWS::Events::Rule"):
                    self.assertIn("${Env}", json.dumps(value), f"{logical_id}.{key}")
                    seen += 1
        self.assertGreaterEqual(seen, 20)

    def test_what_holds_records_is_encrypted_recoverable_and_forgets(self):
        table = RESOURCES["Table"]["Properties"]
        self.assertEqual(table["SSESpecification"], {"SSEEnabled": True})
        self.assertEqual(table["PointInTimeRecoverySpecification"], {"PointInTimeRecoveryEnabled": True})
        # As `lamplighter setup`: its own constant is the attribute.
        source = (ROOT / "worker/aws/src/setup_table.rs").read_text()
        attribute = re.search(r'const EXPIRES: &str = "(\w+)"', source)[1]
        self.assertEqual(table["TimeToLiveSpecification"], {"AttributeName": attribute, "Enabled": True})
        for queue in ("Commands", "DeadLetters"):
            self.assertIs(RESOURCES[queue]["Properties"]["SqsManagedSseEnabled"], True)

    def test_every_alarm_tells_the_topic_and_says_what_to_do(self):
        scaling = {"Busy", "Calm"}
        alarms = {key: it for key, it in RESOURCES.items() if it["Type"] == "AWS::CloudWatch::Alarm" and key not in scaling}
        self.assertEqual(set(alarms), {"DeadLetterAlarm", "OldestMessageAlarm", "WorkerMissingAlarm", "ErrorAlarm"})
        readme = (ROOT / "infra" / "README.md").read_text()
        for key, alarm in alarms.items():
            self.assertIn("AlarmTopicArn", json.dumps(alarm["Properties"]["AlarmActions"]), key)
            name = alarm["Properties"]["AlarmName"]["Sub"].removeprefix("lamplighter-${Env}-")
            self.assertTrue(f"`{name}`" in readme, f"infra/README.md does not tell of {name}")

    def test_the_errors_are_what_the_worker_logs(self):
        filter_pattern = RESOURCES["ErrorCount"]["Properties"]["FilterPattern"]
        field, level = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', filter_pattern).groups()
        source = (ROOT / "worker/src/telemetry_setup.rs").read_text()
        self.assertIn(".json().flatten_event(true)", source)
        self.assertEqual((field, level), ("level", "ERROR"))

    def test_the_task_gets_the_fleet_in_the_variable_that_the_worker_reads(self):
        secret = RESOURCES["Task"]["Properties"]["ContainerDefinitions"][0]["Secrets"][0]
        source = (ROOT / "worker/src/config/mod.rs").read_text()
        self.assertEqual(secret["Name"], re.search(r'const TEXT_VARIABLE: &str = "(\w+)"', source)[1])
        self.assertTrue(secret["ValueFrom"]["Sub"].endswith(":parameter${FleetParameter}"))
        rights = RESOURCES["ExecutionRole"]["Properties"]["Policies"][0]["PolicyDocument"]["Statement"]
        self.assertIn(secret["ValueFrom"], [statement["Resource"] for statement in rights])

    def test_the_dashboard_is_json(self):
        body = re.sub(r"\$\{[^}]*\}", "x", RESOURCES["Dashboard"]["Properties"]["DashboardBody"]["Sub"])
        self.assertGreaterEqual(len(json.loads(body)["widgets"]), 5)

    def test_the_machines_script_is_bash(self):
        text = RESOURCES["Machine"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Sub"]
        text = re.sub(r"\$\{[^}]*\}", "x", text)
        self.assertTrue(text.startswith("#!/bin/bash\n"))
        self.assertEqual(subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode, 0)
        agent = re.search(r"<<'AGENT'\n(.*?)\nAGENT\n", text, re.S)[1]
        self.assertIn("logs", json.loads(agent))
        self.check_unit(re.search(r"<<'UNIT'\n(.*?)\nUNIT\n", text, re.S)[1])

    def check_unit(self, unit):
        """By systemd's own judgement, with a program and a user that are there."""
        if not shutil.which("systemd-analyze"):
            return
        unit = unit.replace("/usr/local/bin/lamplighter ", "/bin/true ").replace("User=lamplighter", "User=root")
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "lamplighter.service"
            path.write_text(unit + "\n")
            answer = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))

    def test_every_parameter_is_an_option_and_is_told(self):
        rows = {
            "ECSClusterName": "--ecs-cluster-name", "IdleThresholdMinutes": "--idle-threshold-minutes",
            "SleepCheckInterval": "--sleep-check-interval", "VpcId": "--vpc-id", "AlarmTopicArn": "--alarm-topic-arn",
        }  # fmt: skip
        for name, expected in rows.items():
            self.assertEqual(stack.option(name), expected)
        readme = (ROOT / "infra" / "README.md").read_text()
        for name, spec in TEMPLATE["Parameters"].items():
            self.assertIn("Description", spec, name)
            self.assertTrue(f"`{name}`" in readme, f"infra/README.md does not tell of {name}")

    def test_values_are_refused_before_aws_is_asked(self):
        rows = [
            ("Env", "prod", True), ("Env", "Prod", False), ("Env", "a" * 21, False),
            ("DailyKillTime", "", True), ("DailyKillTime", "23:00", True), ("DailyKillTime", "24:00", False),
            ("DailyKillTime", "7:30", False), ("SleepCheckInterval", "5", True), ("SleepCheckInterval", "0", False),
            ("SleepCheckInterval", "5 min", False), ("SleepEnabled", "false", True), ("SleepEnabled", "no", False),
            ("SubnetIds", "subnet-0a1b2c3d,subnet-0123456789abcdef0", True), ("SubnetIds", "subnet-1, subnet-2", False),
            ("VpcId", "vpc-0a1b2c3d", True), ("VpcId", "0a1b2c3d", False), ("SecurityGroupId", "sg-1", False),
            ("WorkerBinary", "s3://bucket/a/b", True), ("WorkerBinary", "s3://bucket/a'; rm -rf /", False),
            ("FleetParameter", "/a'b", False), ("LogRetentionDays", "30", True), ("LogRetentionDays", "31", False),
            ("InstanceType", "t4g.nano", True), ("InstanceType", "t3.nano", False),
            ("SecretName", "lamplighter/*", True), ("SecretName", "a b", False),
            ("LaunchTemplateId", "lt-0123456789abcdef0", True), ("LaunchTemplateId", "*", True),
            ("LaunchTemplateId", "mine", False), ("InstanceProfileRole", "models/walrus-*", True),
            ("InstanceProfileRole", "arn:aws:iam::1:role/x", False), ("BootstrapDocument", "Ours-Models", True),
        ]  # fmt: skip
        for name, value, fits in rows:
            with self.subTest(name=name, value=value):
                try:
                    stack.check_value(name, TEMPLATE["Parameters"][name], value)
                    self.assertTrue(fits)
                except stack.OptionError as error:
                    self.assertFalse(fits, error)
                    self.assertIn(stack.option(name), str(error))


class Body(unittest.TestCase):
    def test_what_is_sent_says_the_same_in_fewer_bytes(self):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "sent.yaml"
            copy.write_text(stack.body(), encoding="utf-8")
            with mock.patch.object(stack, "TEMPLATE", copy):
                self.assertEqual(stack.template(), TEMPLATE)
        self.assertNotIn("\n  # --", stack.body())
        self.assertIn("# Installs the worker.", stack.body())
        # Room for what comes next.
        self.assertLess(len(stack.body().encode()), 0.97 * stack.TEMPLATE_BYTES_MAX)


class Losses(unittest.TestCase):
    def test_what_holds_records_is_not_lost_without_a_yes(self):
        rows = [
            ("Remove", "False", "AWS::DynamoDB::Table", True),
            ("Modify", "True", "AWS::SQS::Queue", True),
            ("Modify", "False", "AWS::SQS::Queue", False),
            ("Remove", "False", "AWS::Events::Rule", False),
            ("Modify", "True", "AWS::ECS::TaskDefinition", False),
            ("Add", "False", "AWS::Logs::LogGroup", False),
        ]
        for action, replacement, kind, lost in rows:
            change = {"Action": action, "Replacement": replacement, "ResourceType": kind, "LogicalResourceId": "X"}
            found = stack.Stack.losses({"changes": [change]})
            self.assertEqual(found, ["X"] if lost else [], change)


class Fleet(unittest.TestCase):
    def read(self, **more):
        return tomllib.loads(fleet.generated("prod", seed_001(**more)))

    def test_seed_001s_parameters_make_its_fleet(self):
        found = self.read(DailyKillTime="23:00")
        self.assertEqual(found["queue"]["commands"], "lamplighter-prod-commands")
        target = found["targets"]["fluidity"]
        self.assertEqual(
            (target["kind"], target["cluster"], target["service"]), ("ecs-service", "fluidity-prod", "fluidity-server-prod")
        )
        self.assertEqual(target["idle"]["after"], "15m")
        metrics = [(it["namespace"], it["name"], it["statistic"]) for it in target["idle"]["metrics"]]
        self.assertEqual(
            metrics, [("Fluidity", "ActiveConnections", "Average"), ("Fluidity", "LastActivityEpochSeconds", "Maximum")]
        )
        self.assertEqual([it.get("idle_when") or it["reads"] for it in target["idle"]["metrics"]], ["== 0", "epoch"])
        schedules = found["schedules"]
        self.assertEqual(schedules["prod-idle-check"]["expression"], "rate(5 minutes)")
        self.assertEqual(schedules["prod-nightly"]["expression"], "cron(0 23 * * ? *)")
        self.assertEqual(schedules["prod-nightly"]["command"], {"action": "kill", "target": "fluidity"})

    def test_each_parameter_says_one_thing(self):
        self.assertEqual(self.read(IdleThresholdMinutes="30")["targets"]["fluidity"]["idle"]["after"], "30m")
        self.assertEqual(self.read(SleepCheckInterval="1")["schedules"]["prod-idle-check"]["expression"], "rate(1 minute)")
        self.assertEqual(list(self.read()["schedules"]), ["prod-idle-check"])
        self.assertNotIn("schedules", self.read(SleepEnabled="false"))
        self.assertEqual(self.read(DailyKillTime="07:05")["schedules"]["prod-nightly"]["expression"], "cron(5 7 * * ? *)")
        self.assertEqual(self.read(EventBusName="ours")["events"]["bus"], "ours")

    def test_lamplighter_takes_what_is_generated(self):
        text = fleet.generated("prod", seed_001(DailyKillTime="23:00"))
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(text)
            file.flush()
            answer = subprocess.run([binary(), "check", file.name], capture_output=True, text=True, check=False)
        self.assertEqual(answer.returncode, 0, answer.stdout + answer.stderr)

    def test_a_file_must_name_what_the_stack_makes(self):
        names = fleet.names_only("prod")
        self.assertEqual(fleet.check_fits("prod", names, "f.toml")["store"]["table"], "lamplighter-prod")
        url = names.replace('"lamplighter-prod-commands"', '"https://sqs.eu-central-1.amazonaws.com/1/lamplighter-prod-commands"')
        fleet.check_fits("prod", url, "f.toml")
        rows = [
            (fleet.names_only("test"), r'\[store\] table = "lamplighter-prod", found "lamplighter-test"'),
            ("", "found nothing"),
            ("a = ", "not TOML"),
            (names + "# " + "x" * fleet.BYTES_MAX, "at most 8192"),
            (names + '# {{ssm}}', "SSM refuses"),
        ]
        for text, words in rows:
            with self.subTest(words), self.assertRaisesRegex(fleet.FleetError, words):
                fleet.check_fits("prod", text, "f.toml")

    def test_without_cluster_or_service_there_is_none(self):
        for more in ({}, {"ECSClusterName": "c"}, {"ECSServiceName": "s"}):
            with self.assertRaisesRegex(fleet.FleetError, "--fleet FILE"):
                fleet.generated("prod", defaults(**more))

    def test_secrets_are_named_without_arn_and_suffix(self):
        arn = "arn:aws:secretsmanager:us-east-2:316490106381:secret:PandaDbSecretCache-pdzjei"
        found = {"targets": {
            "a": {"instance_id": {"secret": arn, "key": "K"}}, "b": {"instance_id": {"secret": "ours/box", "key": "K"}},
            "c": {"instance_id": "i-0123456789"}, "d": {},
        }}  # fmt: skip
        self.assertEqual(fleet.secret_names(found), ["PandaDbSecretCache", "ours/box"])

    def test_launch_templates_and_documents_are_those_of_the_templates(self):
        found = {"templates": {
            "a": {"launch_template": "lt-0123456789abcdef0", "bootstrap": "walrus"},
            "b": {"launch_template": "ours", "bootstrap": {"document": "arn:aws:ssm:eu-central-1:1:document/Models"}},
            "c": {"launch_template": "ours", "bootstrap": {"document": "AWS-RunRemoteScript"}},
        }}  # fmt: skip
        self.assertEqual(fleet.launch_templates(found), ["lt-0123456789abcdef0", "ours"])
        self.assertEqual(fleet.documents(found), ["AWS-RunRemoteScript", "Models"])
        self.assertEqual((fleet.launch_templates({}), fleet.documents({})), ([], []))

    def test_another_text_is_another_parameter(self):
        one, two = fleet.parameter_name("prod", "a"), fleet.parameter_name("prod", "b")
        self.assertNotEqual(one, two)
        self.assertRegex(one, r"^/lamplighter/prod/fleet/[0-9a-f]{16}$")


if __name__ == "__main__":
    unittest.main()
