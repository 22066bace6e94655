"""scripts/deploy and scripts/logs against another team's emulator, and the worker on what they made.

*What is not shown here*: that Fargate or EC2 really run the worker (there are no containers and no machines
behind this endpoint), that metrics come and alarms ring, and IAM's own judgement.
"""

import base64
import json
import os
import re
import subprocess
import time
import unittest
from pathlib import Path

from botocore.exceptions import ClientError
from harness import ROOT, Account, binary, end, eventually

NETWORK = ["--vpc-id", "vpc-0a1b2c3d", "--subnet-ids", "subnet-0a1b2c3d,subnet-0a1b2c3e"]


class WithAccount(unittest.TestCase):
    fast = False

    @classmethod
    def setUpClass(cls):
        cls.account = Account(cls.fast)
        cls.addClassCleanup(cls.account.close)

    def stack(self, env):
        try:
            return self.account.client("cloudformation").describe_stacks(StackName=f"lamplighter-{env}")["Stacks"][0]
        except ClientError:
            return None

    def fleets(self, env):
        folder = f"/lamplighter/{env}/fleet"
        found = self.account.client("ssm").get_parameters_by_path(Path=folder, WithDecryption=True)["Parameters"]
        # Addresses in a fleet may hold what is nobody else's.
        self.assertLessEqual({entry["Type"] for entry in found}, {"SecureString"})
        return {entry["Name"]: entry["Value"] for entry in found}

    def worker(self, env):
        """A worker that has its fleet as ECS would give it: by the stack's own parameter, as a variable."""
        told = {it["ParameterKey"]: it["ParameterValue"] for it in self.stack(env)["Parameters"]}
        text = self.account.client("ssm").get_parameter(Name=told["FleetParameter"], WithDecryption=True)
        text = text["Parameter"]["Value"]
        return self.account.spawn(f"worker-{env}", binary(), "run", LAMPLIGHTER_FLEET_TOML=text, LAMPLIGHTER_LOG_FORMAT="json")


class TheWholeWay(WithAccount):
    """One environment from nothing to nothing, in one order: each part builds upon the one before."""

    def test_from_nothing_to_nothing(self):
        fleet, machine = self.account.fleet("test")
        common = ["--fleet", fleet, "--worker-host", "none"]
        self.a_plan_leaves_nothing(common)
        self.without_a_worker_the_smoke_test_says_so(common)
        worker = self.worker("test")
        self.addCleanup(lambda: worker.poll() is None and end(worker))
        self.assertIn("a worker took the command", self.account.deploy("test", "-a", "smoke"))
        self.a_wake_is_done(fleet, machine)
        self.setup_finds_it(fleet)
        self.the_next_deploy_says_only_what_changes()
        self.another_fleet_is_another_parameter(fleet, machine)
        self.logs_are_shown_and_followed()
        self.destroy_takes_all_of_it_back()

    def a_plan_leaves_nothing(self, common):
        said = self.account.deploy("test", "-a", "plan", *common)
        for expected in ("cfn-lint: no findings", "Add     Commands", "Add     WorkerRole"):
            self.assertIn(expected, said)
        for stack in ("test", "test-alarms"):
            self.assertIsNone(self.stack(stack))
        self.assertEqual(self.fleets("test"), {})

    def without_a_worker_the_smoke_test_says_so(self, common):
        said = self.account.deploy("test", "-a", "deploy-lambda", *common, "--smoke-seconds", "2", code=1)
        self.assertEqual(self.stack("test")["StackStatus"], "CREATE_COMPLETE")
        self.assertIn("no worker answered the status of plain with done within 2 s", said)

    def a_wake_is_done(self, fleet, machine):
        wake = ["send", "wake", "plain", "--holder", "me", "--wait", "--json", "--fleet", fleet]
        self.assertEqual(json.loads(self.account.lamplighter(*wake))["outcome"], "done")
        found = self.account.client("ec2").describe_instances(InstanceIds=[machine])
        self.assertEqual(found["Reservations"][0]["Instances"][0]["State"]["Name"], "running")

    def setup_finds_it(self, fleet):
        """What `lamplighter setup` would still make is what other names have: its rules, and their right to send."""
        steps = json.loads(self.account.lamplighter("setup", "--dry-run", "--json", "--fleet", fleet))
        missing = {step["what"] for step in steps if step["change"] != "exists"}
        rules = {what for what in missing if what.startswith("rule lamplighter-")}
        # ministack's CloudFormation makes no TTL; test_template.py compares it.
        self.assertLessEqual(missing - rules, {"policy of the command queue", "TTL of table lamplighter-test"})
        self.assertTrue(rules)

    def the_next_deploy_says_only_what_changes(self):
        said = self.account.deploy("test")
        self.assertIn("the fleet that lamplighter-test has", said)
        self.assertRegex(said, r"== changes\n  none\n")
        self.assertRegex(said, r"== changes of the alarms\n  none\n")
        said = self.account.deploy("test", "--oldest-message-seconds", "600")
        self.assertRegex(said, r"== changes\n  none\n")
        self.assertIn("  Modify  OldestMessageAlarm ", said)
        said = self.account.deploy("test", "--log-retention-days", "14")
        self.assertIn("  Modify  WorkerLog ", said)
        self.assertNotIn("Remove", said)
        group = self.account.client("logs").describe_log_groups(logGroupNamePrefix="/lamplighter/test/worker")
        self.assertEqual(group["logGroups"][0]["retentionInDays"], 14)
        self.assertRegex(self.account.deploy("test", "-a", "plan"), r"== changes\n  none\n")

    def another_fleet_is_another_parameter(self, fleet, machine):
        before = set(self.fleets("test"))
        self.account.fleet("test", "max_hold = \"8h\"\n", machine)
        self.account.deploy("test", "--fleet", fleet)
        after = self.fleets("test")
        self.assertEqual(len(set(after) - before), 1)
        # The one before stays, for a stack that rolls back.
        self.account.fleet("test", "max_hold = \"9h\"\n", machine)
        self.account.deploy("test", "--fleet", fleet)
        self.assertEqual(len(self.fleets("test")), 2)

    def logs_are_shown_and_followed(self):
        logs = self.account.client("logs")
        group = "/lamplighter/test/worker"
        logs.create_log_stream(logGroupName=group, logStreamName="one")

        def put(message, group=group):
            logs.put_log_events(
                logGroupName=group, logStreamName="one", logEvents=[{"timestamp": int(time.time() * 1000), "message": message}]
            )

        put('{"timestamp":"x","level":"WARN","message":"slow","target":"lamplighter","seconds":3}')
        script = str(ROOT / "scripts" / "logs")
        self.assertRegex(self.account.run(script, "worker", "-e", "test"), r"Z WARN  slow seconds=3\n")
        follower = self.account.spawn("follower", script, "worker", "-e", "test", "--follow")
        shown = self.account.folder / "follower.log"
        eventually("what was there is shown", lambda: "slow" in shown.read_text())
        put("not JSON")
        eventually("what comes is shown", lambda: "one: not JSON" in shown.read_text())
        end(follower)
        self.assertEqual(shown.read_text().count("slow"), 1)

        logs.create_log_group(logGroupName="/plain")
        logs.create_log_stream(logGroupName="/plain", logStreamName="one")
        put("hello", "/plain")
        self.assertIn("hello", self.account.run(script, "plain", "-e", "test"))
        self.assertIn("hello", self.account.run(script, "plain", "--fleet", str(self.account.folder / "test.toml")))
        self.assertIn("expected one of worker, door, plain", self.account.run(script, "plane", "-e", "test", code=1))
        self.assertIn("expected -e ENV", self.account.run(script, "worker", code=1))
        self.assertIn("no log group /lamplighter/prod/worker", self.account.run(script, "worker", "-e", "prod", code=1))

    def destroy_takes_all_of_it_back(self):
        said = self.account.deploy("test", "--destroy", code=1)
        self.assertIn("nothing was deleted; --yes allows it", said)
        self.assertIn("left on, with nobody to stop them: plain", said)
        self.assertIsNotNone(self.stack("test"))
        self.account.deploy("test", "--destroy", "--yes")
        for stack in ("test", "test-alarms"):
            self.assertIsNone(self.stack(stack))
        self.assertEqual(self.fleets("test"), {})
        self.assertEqual(self.account.client("cloudwatch").describe_alarms()["MetricAlarms"], [])
        self.assertNotIn("lamplighter-test", self.account.client("dynamodb").list_tables()["TableNames"])
        queues = self.account.client("sqs").list_queues(QueueNamePrefix="lamplighter-test").get("QueueUrls", [])
        self.assertEqual(queues, [])
        # Once more: nothing is there, and that is no error.
        self.assertIn("was not there", self.account.deploy("test", "--destroy", "--yes"))


class SameAsSetup(WithAccount):
    """What the template makes is what `lamplighter setup` makes, attribute by attribute."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.machine = cls.account.fleet("one")[1]
        cls.account.deploy("one", "--fleet", str(cls.account.folder / "one.toml"), "--worker-host", "none", "--no-smoke")
        other, _ = cls.account.fleet("two", machine=cls.machine)
        cls.account.lamplighter("setup", "--fleet", other)

    def attributes(self, name):
        sqs = self.account.client("sqs")
        url = sqs.get_queue_url(QueueName=name)["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        own = {"QueueArn", "CreatedTimestamp", "LastModifiedTimestamp", "Policy", "RedriveAllowPolicy"}
        found = {key: value for key, value in found.items() if key not in own and not key.startswith("Approximate")}
        if "RedrivePolicy" in found:
            found["RedrivePolicy"] = json.loads(found["RedrivePolicy"])
            self.assertRegex(found["RedrivePolicy"].pop("deadLetterTargetArn"), r":lamplighter-(one|two)-dead-letters$")
        return found

    def test_the_queues(self):
        for queue in ("commands", "dead-letters"):
            self.assertEqual(self.attributes(f"lamplighter-one-{queue}"), self.attributes(f"lamplighter-two-{queue}"))

    def test_only_the_command_queue_may_use_the_dead_letters(self):
        sqs = self.account.client("sqs")
        url = sqs.get_queue_url(QueueName="lamplighter-one-dead-letters")["QueueUrl"]
        found = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        allowed = json.loads(found["RedriveAllowPolicy"])
        commands = found["QueueArn"].replace("dead-letters", "commands")
        self.assertEqual(allowed, {"redrivePermission": "byQueue", "sourceQueueArns": [commands]})

    def test_the_table(self):
        def shape(name):
            table = self.account.client("dynamodb").describe_table(TableName=name)["Table"]
            indexes = {
                index["IndexName"]: (
                    index["KeySchema"],
                    index["Projection"]["ProjectionType"],
                    sorted(index["Projection"].get("NonKeyAttributes", [])),
                )
                for index in table["GlobalSecondaryIndexes"]
            }
            attributes = sorted((it["AttributeName"], it["AttributeType"]) for it in table["AttributeDefinitions"])
            return table["KeySchema"], attributes, indexes, table["BillingModeSummary"]["BillingMode"]

        self.assertEqual(shape("lamplighter-one"), shape("lamplighter-two"))

    def test_the_rules_hear_what_setups_hear(self):
        events = self.account.client("events")
        rules = {rule["Name"]: rule for rule in events.list_rules()["Rules"] if "EventPattern" in rule}
        queue = "arn:aws:sqs:us-east-1:000000000000:lamplighter-one-commands"
        ours = [name for name in rules if name.startswith("lamplighter-one-")]
        setups = [name for name in rules if name.startswith("lamplighter-") and name not in ours]
        self.assertGreaterEqual(len(setups), 2)
        heard = [json.loads(rules[name]["EventPattern"]) for name in ours]
        for name in setups:
            self.assertIn(json.loads(rules[name]["EventPattern"]), heard, f"{name} is not in the template")
        sqs = self.account.client("sqs")
        url = sqs.get_queue_url(QueueName="lamplighter-one-commands")["QueueUrl"]
        policy = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"])["Attributes"]["Policy"]
        allowed = json.loads(policy)["Statement"][0]["Condition"]["ArnLike"]["aws:SourceArn"]
        self.assertEqual(sorted(allowed), sorted(rules[name]["Arn"] for name in ours))
        for name in ours:
            targets = events.list_targets_by_rule(Rule=name)["Targets"]
            self.assertEqual([target["Arn"] for target in targets], [queue])


class Hosts(WithAccount):
    """Where the worker runs; neither starts here, but what would start it is there."""

    def test_on_fargate_a_small_task_gets_the_fleet_by_a_variable(self):
        fleet, _ = self.account.fleet("far")
        # An engine that fails at once, whatever this machine has.
        engine = self.account.folder / "docker"
        engine.write_text("#!/bin/sh\nexit 3\n")
        engine.chmod(0o755)
        path = f"{engine.parent}:{os.environ['PATH']}"
        self.assertIn("Add     Service", self.account.deploy("far", "-a", "plan", "--fleet", fleet, *NETWORK))
        said = self.account.deploy("far", "--fleet", fleet, *NETWORK, "--no-smoke", code=1, PATH=path)
        # What is not committed has no image either.
        self.assertRegex(said, r"ended with 3|not committed")
        self.assertIsNone(self.stack("far"))
        image = "000000000000.dkr.ecr.us-east-1.amazonaws.com/lamplighter-far:abc"
        self.account.deploy("far", "--fleet", fleet, *NETWORK, "--worker-image", image, "--no-smoke")
        ecs = self.account.client("ecs")
        service = ecs.describe_services(cluster="lamplighter-far", services=["lamplighter-far-worker"])["services"][0]
        self.assertEqual((service["desiredCount"], service["launchType"]), (1, "FARGATE"))
        task = ecs.describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        self.assertEqual((task["cpu"], task["memory"]), ("256", "512"))
        container = task["containerDefinitions"][0]
        self.assertEqual((container["image"], container["user"]), (image, "65532:65532"))
        self.assertEqual(container["command"], ["run", "--workers", "32"])
        # Which variable gets it is in the template (test_template.py): ministack tells no secrets of a task.
        told = {it["ParameterKey"]: it["ParameterValue"] for it in self.stack("far")["Parameters"]}
        self.assertIn("targets.plain", self.fleets("far")[told["FleetParameter"]])
        # Beside each other: another environment's names are its own.
        other, _ = self.account.fleet("far-two")
        self.account.deploy("far-two", "--fleet", other, "--worker-host", "none", "--no-smoke")
        self.account.deploy("far", "--destroy", "--yes")
        self.assertIsNone(self.stack("far"))
        self.assertEqual(self.stack("far-two")["StackStatus"], "CREATE_COMPLETE")

    def test_more_workers_come_by_the_age_of_messages(self):
        fleet, _ = self.account.fleet("many")
        words = ["--fleet", fleet, *NETWORK, "--worker-image", "x/y:1", "--workers-max", "5", "--no-smoke"]
        said = self.account.deploy("many", *words)
        self.assertIn("Scaling", said)
        stacks = self.account.client("cloudformation")
        made = {it["LogicalResourceId"] for it in stacks.describe_stack_resources(StackName="lamplighter-many")["StackResources"]}
        self.assertLessEqual({"Scaling", "MoreWorkers", "FewerWorkers", "Busy", "Calm"}, made)

    def test_on_ec2_a_machine_installs_it_by_systemd(self):
        fleet, _ = self.account.fleet("box")
        binary_at = "s3://artifacts/lamplighter-arm64"
        words = ["--worker-host", "ec2", *NETWORK, "--no-smoke"]
        self.assertIn("WorkerBinary is empty", self.account.deploy("box", "--fleet", fleet, *words, code=1))
        self.account.deploy("box", "--fleet", fleet, *words, "--worker-binary", binary_at)
        ec2 = self.account.client("ec2")
        found = ec2.describe_launch_template_versions(LaunchTemplateName="lamplighter-box-worker", Versions=["$Latest"])
        data = found["LaunchTemplateVersions"][0]["LaunchTemplateData"]
        script = base64.b64decode(data["UserData"]).decode()
        self.assertEqual(subprocess.run(["bash", "-n"], input=script, text=True, check=False).returncode, 0)
        self.assertIn(f"patiently aws s3 cp --only-show-errors '{binary_at}'", script)
        self.assertIn(next(iter(self.fleets("box"))), script)
        unit = re.search(r"lamplighter.service <<'UNIT'\n(.*?)\nUNIT\n", script, re.S)[1]
        self.assertIn("ExecStart=/usr/local/bin/lamplighter run --fleet", unit)
        groups = self.account.client("autoscaling").describe_auto_scaling_groups()["AutoScalingGroups"]
        self.assertEqual([(it["MinSize"], it["MaxSize"]) for it in groups], [(1, 1)])


class Refusals(WithAccount):
    """Bad input: what, where, expected; and nothing is deployed."""

    def check(self, code, words, *arguments):
        self.assertIn(words, self.account.deploy("bad", *arguments, code=code))
        self.assertIsNone(self.stack("bad"))

    def test_what_cannot_be_is_refused_before_anything_is_made(self):
        fleet, _ = self.account.fleet("bad")
        other, _ = self.account.fleet("other")
        self.check(2, "expected --fleet FILE, or --ecs-cluster-name")
        self.check(2, "ECSServiceName is empty", "--ecs-cluster-name", "c")
        self.check(2, '--daily-kill-time "25:00" is not valid; expected HH:MM', "--daily-kill-time", "25:00")
        self.check(2, 'found "lamplighter-other-commands"', "--fleet", other)
        self.check(2, "beside --fleet would have no effect", "--fleet", fleet, "--idle-threshold-minutes", "30")
        self.check(2, "--workers-max is below", "--fleet", fleet, "--workers-min", "3", "--workers-max", "2")
        self.check(2, "differ", "--fleet", fleet, "--event-bus-name", "another")
        self.check(2, "invalid choice", "-a", "dance")
        self.check(1, "cannot read the fleet file", "--fleet", "no/such.toml")
        self.check(1, "SubnetIds is empty", "--fleet", fleet, "--worker-host", "fargate", "--worker-image", "x/y:1")
        self.check(1, "there is no stack lamplighter-bad", "-a", "smoke")
        wrong = self.account.folder / "wrong.toml"
        wrong.write_text(Path(fleet).read_text(encoding="utf-8") + "colour = 1\n")
        self.check(1, "colour", "--fleet", str(wrong), "--worker-host", "none")

    def test_the_environments_name_is_checked(self):
        fleet, _ = self.account.fleet("bad")
        for name in ("bad-door", "bad-alarms", "bad-endpoints"):
            self.assertIn("of bad is called", self.account.deploy(name, "--fleet", fleet, code=2))
        self.assertIn('--env "Bad" is not valid', self.account.deploy("Bad", "--fleet", fleet, code=2))

    def test_several_secrets_need_a_pattern(self):
        fleet, _ = self.account.fleet("sec")
        more = "".join(
            f'[targets.{name}]\nkind = "ec2-instance"\ninstance_id = {{ secret = "ours/{name}", key = "K" }}\n'
            for name in ("a", "b")
        )
        path = self.account.folder / "sec.toml"
        path.write_text(Path(fleet).read_text(encoding="utf-8") + more)
        words = ["--fleet", str(path), "--worker-host", "none", "--no-smoke"]
        self.assertIn("--secret-name with a pattern", self.account.deploy("sec", *words, code=2))
        self.account.deploy("sec", *words, "--secret-name", "ours/*")
        role = self.account.client("iam").get_role_policy(RoleName="lamplighter-sec-worker", PolicyName="worker")
        statements = {it["Sid"]: it for it in role["PolicyDocument"]["Statement"]}
        self.assertRegex(statements["ReadNamedSecrets"]["Resource"], r":secret:ours/\*-\?{6}$")


class Schedules(WithAccount):
    fast = True

    def test_a_schedule_of_the_fleet_fires_and_destroy_removes_it(self):
        schedule = (
            '[schedules.tick-morning]\nexpression = "rate(1 minute)"\n'
            'command = { action = "start", target = "plain", holder = "morning" }\n'
        )
        fleet, _ = self.account.fleet("tick", schedule)
        self.account.deploy("tick", "--fleet", fleet, "--worker-host", "none", "--no-smoke")
        self.worker("tick")

        def fired():
            history = json.loads(self.account.lamplighter("history", "plain", "--json", "--fleet", fleet))
            return [it for it in history if it["what"].startswith("start by morning") and "done" in it["what"]]

        eventually("the schedule starts it", fired)
        self.account.deploy("tick", "--destroy", "--yes")
        self.assertEqual([rule["Name"] for rule in self.account.client("events").list_rules()["Rules"]], [])


if __name__ == "__main__":
    unittest.main()
