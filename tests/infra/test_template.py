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
DOOR = stack.template(stack.DOOR)
ALARMS = stack.template(stack.ALARMS)
ENDPOINTS = stack.template(stack.ENDPOINTS)
PARAMETERS = {name: spec for one in (DOOR, ENDPOINTS, ALARMS, TEMPLATE) for name, spec in one["Parameters"].items()}


def defaults(**more):
    values = {name: str(spec.get("Default", "")) for name, spec in TEMPLATE["Parameters"].items()}
    return {**values, "Env": "prod", **more}


def seed_001(**more):
    return defaults(ECSClusterName="fluidity-prod", ECSServiceName="fluidity-server-prod", **more)


def entries(resource):
    """The statements of a role's or a policy's document, as the template has them."""
    properties = resource["Properties"]
    document = properties.get("PolicyDocument") or properties["Policies"][0]["PolicyDocument"]
    return document["Statement"]


def sources(crate):
    """All Rust code of a crate: a test looks for a fact, not for the file that holds it."""
    return "".join(path.read_text() for path in sorted((ROOT / crate / "src").rglob("*.rs")))


class Rights(unittest.TestCase):
    def statements(self, logical_id, resources=RESOURCES):
        # What is there under a condition counts as there.
        return [entry["Fn::If"][1] if "Fn::If" in entry else entry for entry in entries(resources[logical_id])]

    def check(self, logical_id, file, sids=None, resources=RESOURCES):
        """The role's statements are the file's, one by one, each placeholder by the template's own word."""
        expected = json.loads((ROOT / "infra" / file).read_text())["Statement"]
        expected = [statement for statement in expected if sids is None or statement["Sid"] in sids]
        found = self.statements(logical_id, resources)
        self.assertEqual([one["Sid"] for one in found], [one["Sid"] for one in expected])
        words = {
            "${AWS::Partition}": "aws", "${AWS::Region}": "REGION", "${AWS::AccountId}": "ACCOUNT",
            "${Commands.QueueName}": "COMMAND_QUEUE", "${DeadLetters.QueueName}": "DEAD_LETTER_QUEUE",
            "${Table}": "TABLE", "${EventBusName}": "BUS", "${SecretName}": "SECRET_NAME",
            "${ECSClusterName}": "CLUSTER", "${ECSServiceName}": "SERVICE",
            "${LaunchTemplateId}": "LAUNCH_TEMPLATE", "${InstanceProfileRole}": "INSTANCE_PROFILE_ROLE",
            "${BootstrapDocument}": "BOOTSTRAP_DOCUMENT", "${ImageParameter}": "IMAGE_PARAMETER", "${CommandQueue}": "COMMAND_QUEUE",
            "${DeadLetterQueue}": "DEAD_LETTER_QUEUE", "${TableName}": "TABLE", "${TokensSecret}": "TOKENS_SECRET",
            "${LinksSecret}": "LINKS_SECRET",
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
        self.check("DoorRole", "door-policy.json", resources=DOOR["Resources"])

    def test_the_door_sends_and_reads_by_name_and_no_more(self):
        """Nothing of the table is searched, nothing is written there, and no machine is touched."""
        found = {}
        for entry in entries(DOOR["Resources"]["DoorRole"]):
            condition, statement = entry["Fn::If"][:2] if "Fn::If" in entry else ("always", entry)
            found.setdefault(condition, set()).update((statement["Sid"], action) for action in statement["Action"])
        always = {"sqs:GetQueueUrl", "sqs:SendMessage", "dynamodb:GetItem", "dynamodb:BatchGetItem"}
        self.assertEqual({action for _, action in found["always"]}, always)
        self.assertEqual({sid for sid, _ in found["HasDeadLetters"]}, {"ListAndReplayDeadLetters"})
        self.assertNotIn("sqs:SendMessage", {action for _, action in found["HasDeadLetters"]})
        self.assertEqual(found["HasTokensSecret"], {("ReadTheTokens", "secretsmanager:GetSecretValue")})
        self.assertEqual(found["HasLinksSecret"], {("ReadTheLinkKeys", "secretsmanager:GetSecretValue")})
        self.assertEqual(set(found), {"always", "HasDeadLetters", "HasTokensSecret", "HasLinksSecret"})

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
        found = {}
        for entry in entries(RESOURCES["WorkerRole"]):
            condition, statement = entry["Fn::If"][:2] if "Fn::If" in entry else (None, entry)
            for action in statement["Action"]:
                found.setdefault(action, set()).add(condition)
        self.assertEqual(found["ec2:RunInstances"], {"HasLaunchTemplate"})
        self.assertEqual(found["iam:PassRole"], {"HasInstanceProfileRole"})
        self.assertEqual(found["ssm:GetParameters"], {"HasImageParameter"})

    def test_no_queue_is_reached_without_tls(self):
        denied = {}
        for resource in RESOURCES.values():
            if resource["Type"] == "AWS::SQS::QueuePolicy":
                queue = resource["Properties"]["Queues"][0]["Ref"]
                found = [one for one in resource["Properties"]["PolicyDocument"]["Statement"] if one["Effect"] == "Deny"]
                self.assertEqual(len(found), 1, queue)
                denied[queue] = found[0]
        self.assertEqual(set(denied), {"Commands", "DeadLetters"})
        for queue, statement in denied.items():
            expected = {
                "Sid": "OnlyTls", "Effect": "Deny", "Principal": "*", "Action": "sqs:*", "Resource": {"GetAtt": f"{queue}.Arn"},
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }  # fmt: skip
            self.assertEqual(statement, expected)

    def test_aws_s_signals_are_those_of_setup(self):
        source = sources("worker/aws")
        patterns = [json.loads(text) for text in re.findall(r'r#"(\{"source".*?\})"#', source)]
        rules = [it["Properties"] for it in RESOURCES.values() if it["Type"] == "AWS::Events::Rule"]
        rules = [rule["EventPattern"] for rule in rules if "EventPattern" in rule]
        self.assertEqual(sorted(patterns, key=str), sorted(rules, key=str))

    def test_what_is_written_by_hand_is_found(self):
        for template, mark in zip(policies.TEMPLATES, ("sender", "door"), strict=True):
            text = template.path.read_text(encoding="utf-8")
            self.assertEqual(policies.generated(template, text), text)
            more = text.replace("sqs:ReceiveMessage", "sqs:ReceiveMessage, sqs:PurgeQueue", 1)
            self.assertNotEqual(more, text)
            self.assertEqual(policies.generated(template, more), text)
            with self.assertRaisesRegex(policies.PolicyError, f"{template.path.name} has no `# end {mark}`"):
                policies.generated(template, text.replace(f"# end {mark}", ""))
            with self.assertRaisesRegex(policies.PolicyError, f"{template.path.name} has no `# begin` of .*{mark}"):
                policies.generated(template, "Resources:\n")

    def test_a_placeholder_that_nobody_knows_is_refused(self):
        marks = policies.STACK_MARKS
        self.assertEqual(policies.filled("x", "arn:aws:ssm:REGION::document/AWS-RunShellScript", marks),
                         "arn:${AWS::Partition}:ssm:${AWS::Region}::document/AWS-RunShellScript")  # fmt: skip
        self.assertEqual(policies.filled("x", "arn:aws:sqs:REGION:ACCOUNT:DEAD_LETTER_QUEUE", marks),
                         "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${DeadLetters.QueueName}")  # fmt: skip
        self.assertEqual(policies.filled("x", "arn:aws:sqs:REGION:ACCOUNT:DEAD_LETTER_QUEUE", policies.DOOR_MARKS),
                         "arn:${AWS::Partition}:sqs:${AWS::Region}:${AWS::AccountId}:${DeadLetterQueue}")  # fmt: skip
        # What one template knows, another need not.
        for text in ("arn:aws:s3:::BUCKET", "arn:aws:x:REGION:ACCOUNT:TABLE_NAME", "arn:aws:x:TOKENS_SECRET"):
            with self.assertRaisesRegex(policies.PolicyError, "Here"):
                policies.filled("Here", text, marks)

    def test_the_script_compares_and_writes(self):
        script = str(ROOT / "infra" / "policies.py")
        self.assertEqual(subprocess.run([sys.executable, script, "--check"], check=False).returncode, 0)
        for template in policies.TEMPLATES:
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / template.path.name
                copy.write_text(template.path.read_text().replace("sqs:DeleteMessage", "sqs:PurgeQueue"))
                copies = [template._replace(path=copy)]
                with mock.patch.object(policies, "TEMPLATES", copies), mock.patch("builtins.print"):
                    self.assertEqual([policies.main(["--check"]), policies.main([]), policies.main(["--check"])], [1, 0, 0])
                self.assertEqual(copy.read_text(), template.path.read_text())


class Shape(unittest.TestCase):
    def test_the_environment_is_in_every_name(self):
        names = {
            "QueueName", "TableName", "RoleName", "ManagedPolicyName", "LogGroupName", "GroupName", "ClusterName",
            "Family", "ServiceName", "InstanceProfileName", "LaunchTemplateName", "AutoScalingGroupName",
            "AlarmName", "DashboardName",
        }  # fmt: skip
        named = {
            "AWS::Events::Rule", "AWS::ElasticLoadBalancingV2::LoadBalancer", "AWS::ElasticLoadBalancingV2::TargetGroup",
            "AWS::ServiceDiscovery::PrivateDnsNamespace",
        }  # fmt: skip
        for template, least in ((TEMPLATE, 16), (ALARMS, 5), (ENDPOINTS, 1), (DOOR, 15)):
            seen = 0
            for logical_id, resource in template["Resources"].items():
                for key, value in resource["Properties"].items():
                    # What refers to another resource has its name.
                    if isinstance(value, dict) and "Ref" in value:
                        continue
                    # An endpoint's service is AWS's.
                    if resource["Type"] == "AWS::EC2::VPCEndpoint":
                        continue
                    if key in names or (key == "Name" and resource["Type"] in named):
                        self.assertIn("${Env}", json.dumps(value), f"{logical_id}.{key}")
                        seen += 1
            self.assertGreaterEqual(seen, least)

    def test_what_holds_records_is_encrypted_recoverable_and_forgets(self):
        table = RESOURCES["Table"]["Properties"]
        self.assertEqual(table["SSESpecification"], {"SSEEnabled": True})
        self.assertEqual(table["PointInTimeRecoverySpecification"], {"PointInTimeRecoveryEnabled": True})
        # As `lamplighter setup`: its own constant is the attribute.
        source = sources("worker/aws")
        attribute = re.search(r'const EXPIRES: &str = "(\w+)"', source)[1]
        self.assertEqual(table["TimeToLiveSpecification"], {"AttributeName": attribute, "Enabled": True})
        for queue in ("Commands", "DeadLetters"):
            self.assertIs(RESOURCES[queue]["Properties"]["SqsManagedSseEnabled"], True)

    def test_every_alarm_tells_the_topic_and_says_what_to_do(self):
        scaling = {"Busy", "Calm"}
        of_the_stack = {"DeadLetterAlarm", "OldestMessageAlarm", "WorkerMissingAlarm", "ErrorAlarm", "UnsentEventsAlarm"}
        of_the_door = {"FaultAlarm", "UnhealthyAlarm", "MissingAlarm", "ErrorAlarm"}
        readme = (ROOT / "infra" / "README.md").read_text()
        for template, expected in ((TEMPLATE, set()), (ALARMS, of_the_stack), (DOOR, of_the_door)):
            resources = template["Resources"].items()
            alarms = {key: it for key, it in resources if it["Type"] == "AWS::CloudWatch::Alarm" and key not in scaling}
            self.assertEqual(set(alarms), expected)
            for key, alarm in alarms.items():
                self.assertIn("AlarmTopicArn", json.dumps(alarm["Properties"]["AlarmActions"]), key)
                name = alarm["Properties"]["AlarmName"]["Sub"].removeprefix("lamplighter-${Env}-")
                self.assertTrue(f"`{name}`" in readme, f"infra/README.md does not tell of {name}")

    def test_the_errors_are_what_the_worker_logs(self):
        filter_pattern = ALARMS["Resources"]["ErrorCount"]["Properties"]["FilterPattern"]
        self.assertEqual(filter_pattern, DOOR["Resources"]["ErrorCount"]["Properties"]["FilterPattern"])
        field, level = re.fullmatch(r'\{ \$\.(\w+) = "(\w+)" \}', filter_pattern).groups()
        source = sources("worker")
        self.assertIn(".json().flatten_event(true)", source)
        self.assertEqual((field, level), ("level", "ERROR"))

    def test_the_age_of_unsent_events_is_a_field_that_a_sweep_logs(self):
        unsent = ALARMS["Resources"]["UnsentEvents"]["Properties"]
        field = re.fullmatch(r"\{ \$\.(\w+) > 0 \}", unsent["FilterPattern"])[1]
        self.assertEqual(unsent["MetricTransformations"][0]["MetricValue"], f"$.{field}")
        self.assertIn(f"{field} = age.as_secs()", sources("worker/runtime"))

    def test_the_task_gets_the_fleet_in_the_variable_that_the_worker_reads(self):
        source = sources("worker")
        for resources in (RESOURCES, DOOR["Resources"]):
            secret = resources["Task"]["Properties"]["ContainerDefinitions"][0]["Secrets"][0]
            self.assertEqual(secret["Name"], re.search(r'const TEXT_VARIABLE: &str = "(\w+)"', source)[1])
            self.assertTrue(secret["ValueFrom"]["Sub"].endswith(":parameter${FleetParameter}"))
            rights = entries(resources["ExecutionRole"])
            self.assertIn(secret["ValueFrom"], [statement["Resource"] for statement in rights])

    def test_the_dashboard_is_json(self):
        body = re.sub(r"\$\{[^}]*\}", "x", ALARMS["Resources"]["Dashboard"]["Properties"]["DashboardBody"]["Sub"])
        self.assertGreaterEqual(len(json.loads(body)["widgets"]), 5)

    def test_the_machines_script_is_bash(self):
        text = RESOURCES["Machine"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Sub"]
        text = re.sub(r"\$\{[^}]*\}", "x", text)
        self.assertTrue(text.startswith("#!/bin/bash\n"))
        self.assertEqual(subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode, 0)
        agent = re.search(r"<<'AGENT'\n(.*?)\nAGENT\n", text, re.S)[1]
        self.assertIn("logs", json.loads(agent))
        units = re.findall(r"/systemd/system/(\S+) <<'UNIT'\n(.*?)\nUNIT\n", text, re.S)
        self.assertEqual([name for name, _ in units], ["lamplighter.service", "lamplighter-health.service", "lamplighter-health.timer"])
        self.check_units(units)

    def test_the_fleet_is_not_for_every_user_of_the_machine(self):
        text = RESOURCES["Machine"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Sub"]
        made = "install -m 640 -o root -g lamplighter /dev/null /etc/lamplighter/lamplighter.toml\n"
        self.assertEqual(text.count(made), 1)
        self.assertLess(text.index(made), text.index(">/etc/lamplighter/lamplighter.toml"))
        self.assertIn("get-parameter --with-decryption", text)

    def test_a_worker_that_hangs_is_replaced(self):
        """On Fargate by the container's check, on a machine by a timer: both ask the binary, by the same file."""
        container = RESOURCES["Task"]["Properties"]["ContainerDefinitions"][0]
        self.assertEqual(container["HealthCheck"]["Command"], ["CMD", "/lamplighter", "health"])
        variable = re.search(r'LIVENESS_FILE: &str = "(\w+)"', sources("worker"))[1]
        files = [it["Value"] for it in container["Environment"] if it["Name"] == variable]
        # The file system is read-only, but for this.
        self.assertEqual([Path(file).parent for file in files], [Path("/dev/shm")])
        text = RESOURCES["Machine"]["Properties"]["LaunchTemplateData"]["UserData"]["Fn::Base64"]["Sub"]
        self.assertEqual(text.count(f"Environment={variable}=/run/lamplighter/alive"), 2)
        self.assertIn("RuntimeDirectory=lamplighter\n", text)
        self.assertIn("/usr/local/bin/lamplighter health || systemctl try-restart lamplighter", text)

    def check_units(self, units):
        """By systemd's own judgement, with a program and a user that are there."""
        if not shutil.which("systemd-analyze"):
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, unit in units:
                unit = re.sub(r"ExecStart=/usr/local/bin/lamplighter ", "ExecStart=/bin/true ", unit)
                (Path(folder) / name).write_text(unit.replace("User=lamplighter", "User=root") + "\n")
            paths = [str(Path(folder) / name) for name, _ in units]
            answer = subprocess.run(["systemd-analyze", "verify", *paths], capture_output=True, text=True, check=False)
        self.assertEqual((answer.returncode, answer.stderr), (0, ""))

    def test_every_parameter_is_an_option_and_is_told(self):
        rows = {
            "ECSClusterName": "--ecs-cluster-name", "IdleThresholdMinutes": "--idle-threshold-minutes",
            "SleepCheckInterval": "--sleep-check-interval", "VpcId": "--vpc-id", "AlarmTopicArn": "--alarm-topic-arn",
            "DoorCidr": "--door-cidr", "CertificateArn": "--certificate-arn",
        }  # fmt: skip
        for name, expected in rows.items():
            self.assertEqual(stack.option(name), expected)
        readme = (ROOT / "infra" / "README.md").read_text()
        for name, spec in PARAMETERS.items():
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
            ("DoorTasks", "10", True), ("DoorTasks", "0", False), ("DoorTasks", "11", False),
            ("DoorReach", "private", True), ("DoorReach", "public", False), ("DoorScheme", "internet", False),
            ("DoorCidr", "", True), ("DoorCidr", "10.0.0.0/16", True), ("DoorCidr", "0.0.0.0/0", True),
            ("DoorCidr", "10.0.0.0", False), ("DoorCidr", "10.0.0.256/8", False), ("DoorCidr", "10.0.0.0/33", False),
            ("DoorCidr", "10/0/0/0/8", False), ("DoorCidr", "10.0.0.0.8", False), ("DoorHostname", "door.example.com", True),
            ("DoorHostname", "https://door.example.com", False), ("DoorHostname", "-a.example.com", False),
            ("DoorHostname", "Door.example.com", False), ("DoorSubnetIds", "subnet-0a1b2c3d", False),
            ("DoorSubnetIds", "subnet-0a1b2c3d,subnet-0a1b2c3e", True), ("TokensSecret", "ours/*", False),
            ("TokensSecret", "ours/tokens", True), ("LinksSecret", "ours/*", False), ("LinksSecret", "ours/links", True), ("DoorLogsBucket", "s3://logs", False), ("DoorLogsBucket", "logs", True),
            ("CertificateArn", "arn:aws:acm:eu-central-1:123456789012:certificate/0123abcd-01ab", True),
            ("CertificateArn", "arn:aws:iam::123456789012:server-certificate/x", False),
            ("ImageParameter", "aws/service/ami-amazon-linux-latest/*", True), ("ImageParameter", "/aws/service/x", False),
            ("EndpointCidr", "10.0.0.0/16", True), ("EndpointCidr", "", False), ("EndpointCidr", "10.0.0.0/33", False),
            ("EndpointSqs", "false", True), ("EndpointSqs", "no", False),
            ("EndpointRouteTableIds", "rtb-0a1b2c3d", True), ("EndpointRouteTableIds", "rtb-1", False),
        ]  # fmt: skip
        for name, value, fits in rows:
            with self.subTest(name=name, value=value):
                try:
                    stack.check_value(name, PARAMETERS[name], value)
                    self.assertTrue(fits)
                except stack.OptionError as error:
                    self.assertFalse(fits, error)
                    self.assertIn(stack.option(name), str(error))


class Body(unittest.TestCase):
    def test_what_is_sent_says_the_same_in_fewer_bytes(self):
        for path in (stack.TEMPLATE, stack.ALARMS, stack.ENDPOINTS, stack.DOOR):
            with tempfile.TemporaryDirectory() as folder:
                copy = Path(folder) / "sent.yaml"
                copy.write_text(stack.body(path), encoding="utf-8")
                self.assertEqual(stack.template(copy), stack.template(path))
            self.assertNotIn("\n  # --", stack.body(path))
            # No account needs a bucket for templates as they are; one that grows goes by S3 (test_stacks.py).
            self.assertLess(len(stack.body(path).encode()), 0.95 * stack.TEMPLATE_BYTES_MAX)
        self.assertIn("# Installs the worker.", stack.body())


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
            "e": {"health": "http://a/?t=${secret:ours/health}", "idle": {"http": {"url": "http://a/${secret:ours/idle#k}"}}},
            "f": {"idle": {"http": [{"url": f"http://a/?x=${{secret:{arn}}}&y=${{secret:ours/both}}"}, {"url": 1}, 2], "after": "1h"}},
        }, "templates": {"t": {"health": "http://{private_ip}/${secret:ours/health}"}}}  # fmt: skip
        self.assertEqual(
            fleet.secret_names(found), ["PandaDbSecretCache", "ours/both", "ours/box", "ours/health", "ours/idle"]
        )

    def test_how_the_door_is_opened_is_read_from_http(self):
        arn = "arn:aws:secretsmanager:us-east-2:316490106381:secret:ours/tokens-pdzjei"
        rows = [
            ({}, None, ""),
            ({"http": {}}, ("tokens", 0), ""),
            ({"http": {"auth": "none", "proxies": 2}}, ("none", 2), ""),
            ({"http": {"tokens_secret": "ours/tokens"}}, ("tokens", 0), "ours/tokens"),
            ({"http": {"tokens_secret": arn}}, ("tokens", 0), "ours/tokens"),
            # `lamplighter check` says what is wrong with it.
            ({"http": 1}, None, ""),
        ]
        for found, expected, secret in rows:
            with self.subTest(found=found):
                http = fleet.http_of(found)
                self.assertEqual(http and (http["auth"], http["proxies"]), expected)
                self.assertEqual(fleet.tokens_secret(found), secret)
        self.assertEqual(fleet.links_secret({"http": {"links_secret": arn}}), "ours/tokens")
        self.assertEqual(fleet.links_secret({"http": {}}), "")

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
