"""Stacks that were there before, stacks beside the first one, and templates that are too long for a call."""

import json
import re
import sys
import tempfile
import unittest
from pathlib import Path
from unittest import mock

import boto3
from botocore.exceptions import ClientError
from harness import REGION, ROOT, Account

sys.path.insert(0, str(ROOT / "infra"))
import bucket  # noqa: E402
import stack  # noqa: E402

NETWORK = ["--vpc-id", "vpc-0a1b2c3d", "--subnet-ids", "subnet-0a1b2c3d,subnet-0a1b2c3e"]
# The first stack's template as the release before this one had it.
PREVIOUS = ROOT / "tests" / "infra" / "previous" / "lamplighter.yaml"
# What CloudFormation replaces a resource for, of what holds something (its guide, "Update requires: Replacement").
KEPT = {
    "AWS::SQS::Queue": ["QueueName", "FifoQueue"],
    "AWS::DynamoDB::Table": ["TableName", "KeySchema", "LocalSecondaryIndexes", "ImportSourceSpecification"],
    "AWS::Logs::LogGroup": ["LogGroupName", "LogGroupClass"],
}


class WithAccount(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.account = Account()
        cls.addClassCleanup(cls.account.close)

    def stack(self, name):
        try:
            return self.account.client("cloudformation").describe_stacks(StackName=name)["Stacks"][0]
        except ClientError:
            return None

    def resources(self, name):
        found = self.account.client("cloudformation").describe_stack_resources(StackName=name)["StackResources"]
        return {it["LogicalResourceId"]: (it["ResourceType"], it["PhysicalResourceId"]) for it in found}


class InPlace(WithAccount):
    def test_what_holds_something_keeps_what_it_would_be_replaced_for(self):
        before, now = stack.template(PREVIOUS)["Resources"], stack.template()["Resources"]
        held = [name for name, it in before.items() if it["Type"] in stack.HOLDING]
        self.assertEqual(sorted(held), ["Commands", "DeadLetters", "Table", "WorkerLog"])
        for name in held:
            kind = before[name]["Type"]
            self.assertEqual(now[name]["Type"], kind)
            for key in KEPT[kind]:
                self.assertEqual(now[name]["Properties"].get(key), before[name]["Properties"].get(key), f"{name}.{key}")
            # And where it is replaced all the same, the old one stays.
            self.assertEqual(now[name]["UpdateReplacePolicy"], "Retain")

    def test_a_stack_of_the_previous_release_goes_on_with_its_records_and_messages(self):
        fleet, _ = self.account.fleet("old")
        stacks = self.account.client("cloudformation")
        values = {"Env": "old", "WorkerHost": "none", "OldestMessageSeconds": "600", "AlarmTopicArn": "arn:aws:sns:us-east-1:000000000000:x"}
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "previous.yaml"
            copy.write_text(PREVIOUS.read_text(encoding="utf-8"), encoding="utf-8")
            body = stack.body(copy)
        stacks.create_stack(
            StackName="lamplighter-old",
            TemplateBody=body,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in values.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stacks.get_waiter("stack_create_complete").wait(StackName="lamplighter-old", WaiterConfig={"Delay": 1})
        before = self.resources("lamplighter-old")
        table, sqs = self.account.client("dynamodb"), self.account.client("sqs")
        item = {"pk": {"S": "TARGET#plain"}, "sk": {"S": "RECORD"}, "kept": {"S": "yes"}}
        table.put_item(TableName="lamplighter-old", Item=item)
        url = sqs.get_queue_url(QueueName="lamplighter-old-dead-letters")["QueueUrl"]
        sqs.send_message(QueueUrl=url, MessageBody="kept")

        # Nobody is asked, since nothing is lost.
        said = self.account.deploy("old", "--fleet", fleet, "--worker-host", "none", "--no-smoke")
        first = re.search(r"== changes\n(.*?)\n\n== ", said, re.S)[1]
        touched = [line for line in first.splitlines() if re.search(r" (Table|Commands|DeadLetters|WorkerLog) ", line)]
        self.assertEqual([line for line in touched if "Remove" in line or "replaced" in line], [])
        after = self.resources("lamplighter-old")
        for name in ("Table", "Commands", "DeadLetters", "WorkerLog"):
            self.assertEqual(after[name], before[name])
        found = table.get_item(TableName="lamplighter-old", Key={key: item[key] for key in ("pk", "sk")})
        self.assertEqual(found["Item"], item)
        got = sqs.receive_message(QueueUrl=url)["Messages"]
        self.assertEqual([message["Body"] for message in got], ["kept"])

        # The alarms moved, with their settings.
        alarms = {name: it for name, it in before.items() if it[0] == "AWS::CloudWatch::Alarm"}
        self.assertGreaterEqual(len(alarms), 4)
        self.assertEqual(set(alarms) & set(after), set())
        moved = self.resources("lamplighter-old-alarms")
        self.assertLessEqual(set(alarms), set(moved))
        told = {it["ParameterKey"]: it["ParameterValue"] for it in self.stack("lamplighter-old-alarms")["Parameters"]}
        self.assertEqual({key: told[key] for key in ("OldestMessageSeconds", "AlarmTopicArn")},
                         {key: values[key] for key in ("OldestMessageSeconds", "AlarmTopicArn")})  # fmt: skip
        names = {alarm["AlarmName"] for alarm in self.account.client("cloudwatch").describe_alarms()["MetricAlarms"]}
        self.assertIn("lamplighter-old-worker-missing", names)
        self.assertRegex(self.account.deploy("old", "-a", "plan"), r"== changes of the alarms\n  none\n")


class Endpoints(WithAccount):
    def words(self, env, fleet):
        return ["--fleet", fleet, *NETWORK, "--worker-image", "x/y:1", "--assign-public-ip", "DISABLED", "--no-smoke"]

    def test_a_network_without_a_way_out_gets_what_the_worker_calls(self):
        fleet, _ = self.account.fleet("net")
        words = [*self.words("net", fleet), "--endpoints", "yes", "--endpoint-cidr", "10.0.0.0/16"]
        more = ["--endpoint-route-table-ids", "rtb-0a1b2c3d", "--endpoint-ssm-messages", "true"]
        without = {"Ec2", "Ssm", "Ecs", "Scaling", "Metrics", "Events", "Secrets", "Logs", "Sts", "EcrApi"}
        more += [word for name in sorted(without) for word in (stack.option(f"Endpoint{name}"), "false")]
        said = self.account.deploy("net", *words, *more)
        # A worker behind them needs them.
        self.assertLess(said.index("== deploy the endpoints"), said.index("== deploy\n"))
        made = self.resources("lamplighter-net-endpoints")
        self.assertEqual(set(made), {"Group", "DynamoDb", "S3", "Sqs", "SsmMessages", "EcrDkr"})
        found = self.account.client("ec2").describe_vpc_endpoints()["VpcEndpoints"]
        names = sorted(it["ServiceName"].removeprefix("com.amazonaws.us-east-1.") for it in found)
        self.assertEqual(names, ["dynamodb", "ecr.dkr", "s3", "sqs", "ssmmessages"])
        # They stay as they are, and go.
        later = ["--worker-image", "x/y:1", "--no-smoke"]
        self.assertRegex(self.account.deploy("net", *later), r"== changes of the endpoints\n  none\n")
        self.account.deploy("net", "--endpoints", "no", *later)
        self.assertIsNone(self.stack("lamplighter-net-endpoints"))

    def test_by_default_there_is_one_for_each_service_that_the_worker_calls(self):
        """The SDK's crates are the services; what images, logs and the fleet need is beside."""
        manifest = (ROOT / "worker" / "aws" / "Cargo.toml").read_text(encoding="utf-8")
        crates = set(re.findall(r"^aws-sdk-([a-z0-9]+)\.workspace", manifest, re.M))
        # Scheduler is called by whoever deploys.
        called = {"applicationautoscaling": "application-autoscaling", "cloudwatch": "monitoring", "cloudwatchlogs": "logs",
                  "dynamodb": None, "ec2": "ec2", "ecs": "ecs", "eventbridge": "events", "scheduler": None,
                  "secretsmanager": "secretsmanager", "sqs": "sqs", "ssm": "ssm", "sts": "sts"}  # fmt: skip
        self.assertLessEqual(crates, set(called))
        template = stack.template(stack.ENDPOINTS)
        services = set()
        for name, resource in template["Resources"].items():
            service = resource["Properties"].get("ServiceName", {"Sub": ""})["Sub"].rsplit("${AWS::Region}.", 1)[-1]
            if template["Parameters"].get(f"Endpoint{name}", {}).get("Default") == "true":
                services.add(service)
        needed = {called[crate] for crate in crates} - {None} | {"ecr.api", "ecr.dkr", "logs", "ssm", "sts", "secretsmanager"}
        self.assertEqual(services, needed)

    def test_what_would_have_no_effect_or_no_network_is_refused(self):
        fleet, _ = self.account.fleet("no")
        rows = [
            ([*self.words("no", fleet), "--endpoint-cidr", "10.0.0.0/16"], "expected --endpoints yes beside"),
            ([*self.words("no", fleet), "--endpoints", "yes"], "EndpointCidr is empty"),
            (["--fleet", fleet, "--worker-host", "none", "--endpoints", "yes"], "VpcId is empty"),
        ]
        for words, expected in rows:
            self.assertIn(expected, self.account.deploy("no", *words, code=2))
        self.assertIsNone(self.stack("lamplighter-no"))


class LongTemplates(WithAccount):
    """A template of twice its length goes by S3; CloudFormation there, as in AWS, takes 51,200 bytes with a call."""

    def setUp(self):
        self.said = []
        session = boto3.Session(aws_access_key_id="test", aws_secret_access_key="test", region_name=REGION)
        client, s3 = session.client, {"endpoint_url": self.account.endpoint}
        self.session = mock.Mock(region_name=REGION, client=lambda name: client(name, **s3))
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.path = Path(folder.name) / "lamplighter.yaml"
        text = stack.TEMPLATE.read_text(encoding="utf-8")
        outputs = "".join(f'  More{n}: {{ Description: "{"x" * 900}", Value: "{n}" }}\n' for n in range(60))
        self.path.write_text(text.replace("\nOutputs:\n", f"\nOutputs:\n{outputs}"), encoding="utf-8")
        self.assertGreater(len(stack.body(self.path)), 1.9 * stack.TEMPLATE_BYTES_MAX)

    def deployed(self, env, uploads):
        with mock.patch.object(stack, "TEMPLATE", self.path):
            one = stack.Stack(self.session.client("cloudformation"), env, self.said.append, self.path, uploads)
        one.validate()
        values = {name: str(spec.get("Default", "")) for name, spec in stack.template()["Parameters"].items()}
        change_set = one.change_set({**values, "Env": env, "WorkerHost": "none"})
        one.execute(change_set)
        return one

    def test_it_is_deployed_from_a_bucket_that_is_made_for_it(self):
        uploads = bucket.Uploads(self.session, None, self.said.append)
        one = self.deployed("long", uploads)
        self.assertEqual(one.outputs()["More59"], "59")
        s3, name = self.session.client("s3"), "lamplighter-templates-000000000000-us-east-1"
        keys = [entry["Key"] for entry in s3.list_objects_v2(Bucket=name)["Contents"]]
        self.assertEqual(len(keys), 1)
        self.assertRegex(keys[0], r"^long/[0-9a-f]{16}-lamplighter\.yaml$")
        policy = json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])
        self.assertEqual(policy, bucket.only_tls(name, REGION))
        self.assertTrue(all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()))
        rules = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        self.assertEqual([rule["Expiration"]["Days"] for rule in rules], [bucket.KEPT_DAYS])
        # Another environment's are left, and the bucket with them.
        self.deployed("longer", uploads)
        uploads.forget("long")
        self.assertEqual([entry["Key"].split("/")[0] for entry in s3.list_objects_v2(Bucket=name)["Contents"]], ["longer"])
        uploads.forget("longer")
        with self.assertRaises(ClientError):
            s3.head_bucket(Bucket=name)
        uploads.forget("longer")

    def test_a_bucket_that_is_given_is_used_and_one_that_is_not_there_is_refused(self):
        with self.assertRaisesRegex(bucket.BucketError, "ours-not does not exist; expected one of this account"):
            self.deployed("given", bucket.Uploads(self.session, "ours-not", self.said.append))
        self.session.client("s3").create_bucket(Bucket="ours")
        uploads = bucket.Uploads(self.session, "ours", self.said.append)
        self.deployed("given", uploads)
        uploads.forget("given")
        self.assertEqual(len(self.session.client("s3").list_objects_v2(Bucket="ours")["Contents"]), 1)

    def test_a_bucket_of_somebody_else_s_is_not_used(self):
        """The name can be guessed, so each call says whose it must be."""
        denied = ClientError({"Error": {"Code": "403"}}, "HeadBucket")
        s3 = mock.Mock(**{"head_bucket.side_effect": denied})
        clients = {"s3": s3, "sts": mock.Mock(**{"get_caller_identity.return_value": {"Account": "123456789012"}})}
        uploads = bucket.Uploads(mock.Mock(region_name=REGION, client=clients.get), None, self.said.append)
        with self.assertRaisesRegex(bucket.BucketError, "is not this account's"):
            uploads.url("prod", "x.yaml", "text")
        s3.head_bucket.assert_called_once_with(Bucket="lamplighter-templates-123456789012-us-east-1", ExpectedBucketOwner="123456789012")
        s3.put_object.assert_not_called()

    def test_without_a_bucket_or_beyond_a_million_bytes_it_says_so(self):
        with self.assertRaisesRegex(stack.StackError, "at most 51200 are taken"):
            self.deployed("no", None)
        with self.assertRaisesRegex(bucket.BucketError, "at most 1000000"):
            bucket.Uploads(self.session, None, self.said.append).url("no", "x.yaml", "x" * 1_000_001)


if __name__ == "__main__":
    unittest.main()
