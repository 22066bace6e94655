"""Every request that Lamplighter sends, and every answer of `lamplighter local`, against AWS's service models.

The binary does all that it can do through a recorder, and the models of botocore say what is wrong with what was on
the wire. Which operations there are is read from the adapters' source, so that a new call cannot escape.
"""

import json
import os
import re
import subprocess
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import endpoints
import models
import recorder
import wire_errors
from botocore import xform_name

ADAPTERS = endpoints.ROOT / "worker" / "aws" / "src"
# The SDK's crates, and AWS's own names of their services.
CRATES = {
    "sqs": "sqs", "dynamodb": "dynamodb", "ec2": "ec2", "ssm": "ssm", "eventbridge": "events", "scheduler": "scheduler",
    "secretsmanager": "secretsmanager", "cloudwatchlogs": "logs", "ecs": "ecs",
    "applicationautoscaling": "application-autoscaling", "cloudwatch": "cloudwatch", "sts": "sts",
}  # fmt: skip
PATIENCE_SECONDS = 90


def operations_in_the_source():
    """Every `service:Operation` that a file of the adapters calls: each starts with a method of that name."""
    methods = {}
    for service in CRATES.values():
        for name in models.model_of(service).operation_names:
            methods.setdefault(xform_name(name), {})[service] = f"{service}:{name}"
    found = set()
    for path in ADAPTERS.rglob("*.rs"):
        text = path.read_text()
        uses = {CRATES[crate] for crate in re.findall(r"aws_sdk_(\w+)", text)}
        for method in re.findall(r"\.\s*(\w+)\(\)", text):
            services = methods.get(method, {})
            # Several services have it: those whose crate the file uses.
            found |= {name for service, name in services.items() if len(services) == 1 or service in uses}
    return found


class Backend:
    """A backend that is never idle, for probes and health checks."""

    def __init__(self):
        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_):
                pass

            def do_GET(self):  # noqa: N802: the name that http.server wants
                body = json.dumps({"last_activity": time.time()}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


TEMPLATE = "lt-0123456789abcdef0"
CREW = [f"crew-{n}" for n in range(8)]
CREW_TOML = "".join(
    f'''
[targets.{name}]
kind = "ec2-instance"
instance_id = "i-0000000000000000{n}"
settle = "200ms"
poll = "1s"
'''
    for n, name in enumerate(CREW)
)
NAMES = """
[queue]
commands = "wire-commands"
dead_letters = "wire-dead-letters"
[store]
table = "wire"
[events]
bus = "wire-bus"
"""
ROLE = """
[scheduler]
role = "arn:aws:iam::000000000000:role/sender"
"""
SCHEDULES = """
[schedules.nightly]
expression = "cron(0 23 * * ? *)"
command = { action = "kill", target = "keeper" }
[schedules.morning]
expression = "cron(0 8 ? * MON-FRI *)"
zone = "Europe/Berlin"
command = { action = "start", target = "keeper" }
"""
OTHER_SCHEDULES = SCHEDULES.replace("cron(0 8 ? * MON-FRI *)", "cron(30 8 ? * MON-FRI *)")


def targets(backend):
    return CREW_TOML + f"""
[targets.keeper]
kind = "ec2-instance"
instance_id = {{ secret = "keeper-secret", key = "PK_INSTANCE" }}
systemd_unit = "positionkeeper"
log_group = "/keeper"
settle = "200ms"
poll = "1s"
unit_check_every = "2s"
health = "{backend}/health"
[targets.keeper.idle]
after = "15m"
http = {{ url = "{backend}/last", pointer = "/last_activity" }}
cpu = "< 5"
command = {{ script = "exit 1", reads = "exit-code" }}
[targets.service]
kind = "ecs-service"
cluster = "wire"
service = "wire"
healthy = true
settle = "0s"
poll = "1s"
[targets.service.idle]
after = "15m"
metrics = [
    {{ namespace = "Wire", name = "Connections", dimensions = {{ Service = "{{service}}" }}, idle_when = "== 0" }},
]
[templates.walrus]
kind = "ec2-template"
launch_template = "{TEMPLATE}"
subnets = ["subnet-0aaaaaaaaaaaaaaa1"]
instance_types = ["t3.large"]
market = "spot-then-on-demand"
bootstrap = "walrus"
limit = 4
max_lifetime = "1h"
poll = "1s"
[local]
boot = "300ms"
agent = "200ms"
stop = "300ms"
terminate = "300ms"
command = "100ms"
placement = "200ms"
task_start = "500ms"
task_stop = "300ms"
[local.services.service]
scaling = {{ min = 1, max = 4 }}
health_check = true
[local.launch_templates.{TEMPLATE}]
boot = "300ms"
agent = "200ms"
bootstrap = "500ms"
"""


class Journey:
    """Lamplighter does all that it can do, with a recorder between it and the endpoint."""

    def __init__(self):
        self.backend = Backend()
        self.fleet_text = targets(self.backend.url)
        self.local = endpoints.Local(self.fleet_text)
        self.recorder = recorder.Recorder(self.local.url)
        self.folder = self.local.process.folder
        self.worker = None

    def write(self, schedules=""):
        path = self.folder / "wire.toml"
        path.write_text(NAMES + ROLE + self.fleet_text + schedules)
        return path

    def environment(self, **more):
        return {"AWS_ENDPOINT_URL": self.recorder.url, "LAMPLIGHTER_FLEET": str(self.folder / "wire.toml"), **more}

    def run(self, *arguments, codes=(0,), **env):
        done = subprocess.run(
            [endpoints.binary(), *arguments], env=endpoints.environment(**self.environment(**env)), cwd=self.folder,
            capture_output=True, text=True, timeout=120, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        if codes is not None and done.returncode not in codes:
            raise AssertionError(f"{arguments}: exit code {done.returncode}\n{done.stdout[-2000:]}\n{done.stderr[-3000:]}")
        return done.stdout

    def start_worker(self):
        self.worker = endpoints.Process.start(
            [endpoints.binary(), "run"], self.folder, name="worker", **self.environment()
        )

    def stop_worker(self):
        self.worker.close(folder=False)
        self.worker = None

    def send(self, *arguments, codes=(0,)):
        return self.run("send", *arguments, "--wait", "--timeout", "60s", codes=codes)

    def eventually(self, what, probe):
        until = time.monotonic() + PATIENCE_SECONDS
        while not (found := probe()):
            if time.monotonic() > until:
                raise AssertionError(f"never: {what}")
            time.sleep(0.3)
        return found

    def calls_of(self, name):
        service, operation = name.split(":")
        target = re.compile(rf"\b{operation}\b")
        return sum(
            bool(target.search(it.headers.get("x-amz-target", "") + it.path) or f"Action={operation}&".encode() in it.body)
            for it in list(self.recorder.exchanges)
        )  # fmt: skip

    def do_everything(self):
        self.write(SCHEDULES)
        self.run("setup")
        self.run("setup")
        self.run("check", "--aws", codes=None)
        self.run("schedule", "apply")
        self.run("schedule", "disable", "nightly")
        self.run("schedule", "enable", "nightly")
        self.run("schedule", "disable", "morning")
        self.write(OTHER_SCHEDULES)
        self.run("schedule", "apply")
        self.write()
        self.run("schedule", "apply")
        self.start_worker()
        # A question to a host whose answer is lost is looked for among its commands.
        lost = {"kind": "cut", "service": "ssm", "operation": "SendCommand", "count": 1}
        self.local.control("PUT", "/faults", [lost])
        self.send("start", "keeper", "--for", "1h", "--holder", "wire")
        self.send("start", "service")
        self.send("status", "keeper")
        self.send("check-idle", "keeper")
        self.send("check-idle", "service")
        self.run("probe", "keeper", codes=None)
        self.run("probe", "service", codes=None)
        self.run("check", "--aws", codes=None)
        made = json.loads(self.run("send", "create", "walrus", "--set", "blob_id=abcdefgh", "--wait", "--timeout",
                                   "60s", "--json"))  # fmt: skip
        self.run("status", "--live", "--all")
        self.run("status", "walrus")
        self.run("leaks", codes=None)
        self.send("destroy", made["answer"]["target"])
        self.send("kill", "keeper")
        self.send("stop", "service")
        self.send("start", "service")
        self.send("kill", "service")
        self.crew()
        self.dead_letters()
        self.release()
        self.stop_worker()

    def ask(self, *bodies):
        """Messages of somebody else, all at once."""
        queue = f"{self.local.url}/000000000000/wire-commands"
        entries = [{"Id": str(at), "MessageBody": body} for at, body in enumerate(bodies)]
        self.aws("sqs", "AmazonSQS.SendMessageBatch", {"QueueUrl": queue, "Entries": entries})

    def crew(self):
        """Targets that act at the same moment send their wake-ups together."""
        for action in ("start", "kill") * 5:
            self.ask(*(json.dumps({"action": action, "target": name}) for name in CREW))
            time.sleep(1)
            if self.calls_of("sqs:SendMessageBatch"):
                break
        self.ask(*(json.dumps({"action": "kill", "target": name}) for name in CREW))

    def dead_letters(self):
        self.ask("no json at all")
        self.eventually("a dead letter", lambda: "not-json" in self.run("dlq", "list", "--json"))
        self.run("dlq", "replay", "--all", codes=None)

    def release(self):
        """A call that is throttled sends its message back to the queue for a while."""
        throttled = {"kind": "throttle", "service": "dynamodb", "count": 12}
        self.local.control("PUT", "/faults", [throttled])
        self.run("send", "status", "keeper", codes=None)
        self.eventually("a message is released", lambda: self.calls_of("sqs:ChangeMessageVisibility"))
        self.local.control("DELETE", "/faults")

    def aws(self, service, target, said):
        """A call of somebody else, beside the recorder."""
        import urllib.request

        headers = {
            "Content-Type": "application/x-amz-json-1.0", "X-Amz-Target": target,
            "Authorization": f"AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/{service}/aws4_request, "
            "SignedHeaders=host, Signature=0",
        }  # fmt: skip
        request = urllib.request.Request(self.local.url, json.dumps(said).encode(), headers)
        urllib.request.urlopen(request, timeout=10).close()

    def close(self):
        if self.worker:
            self.stop_worker()
        self.recorder.close()
        self.local.close()
        self.backend.close()


class Wire(unittest.TestCase):
    maxDiff = None

    @classmethod
    def setUpClass(cls):
        journey = Journey()
        cls.addClassCleanup(journey.close)
        try:
            journey.do_everything()
        except AssertionError as error:
            words = "".join(path.read_text(errors="replace")[-3000:] for path in journey.folder.glob("worker"))
            raise AssertionError(f"{error}\nthe worker's log ends:\n{words}") from None
        cls.calls = [models.Call(exchange) for exchange in journey.recorder.exchanges]

    def test_every_operation_of_the_source_is_seen_on_the_wire_and_no_other(self):
        seen = {call.name for call in self.calls}
        source = operations_in_the_source()
        self.assertGreater(len(source), 50, "the source is not read any more")
        self.assertEqual(sorted(source - seen), sorted(wire_errors.NOT_DRIVEN), "called in the source, and not driven here")
        self.assertEqual(sorted(seen - source), [], "on the wire, and not found in the source")

    def test_requests_and_answers_are_as_the_models_say(self):
        problems = {}
        for call in self.calls:
            for text in call.problems():
                text = re.sub(r"\[\d+\]", "[]", text)
                problems.setdefault(f"{call.name} {text}", call)
        unexpected = [text for text in problems if not wire_errors.is_known(text)]
        self.assertEqual(unexpected, [])
        self.assertEqual(wire_errors.unused(problems), [], "let pass, and not seen any more")

    def test_each_error_is_declared_or_listed_with_its_source(self):
        unknown = set()
        for call in self.calls:
            code = call.error()
            if code and code not in call.declared() and code not in wire_errors.common(call.service):
                unknown.add(f"{call.name}: {code}")
        self.assertEqual(sorted(unknown), [])

    def test_enough_was_seen(self):
        """A recorder that records nothing would let everything pass."""
        self.assertGreater(len(self.calls), 200)
        self.assertTrue(any(call.error() for call in self.calls))


class Models(unittest.TestCase):
    """The checks can fail: each kind of mistake is found."""

    def found(self, service, operation, value, times=(int, float)):
        shape = models.model_of(service).operation_model(operation).input_shape
        return list(models.check(shape, value, times))

    def check(self, words, *asked):
        found = self.found(*asked)
        self.assertTrue(any(words in text for text in found), f"{words!r} is not in {found}")

    def test_each_kind_of_mistake_is_found(self):
        queue = "http://localhost/q"
        self.check("lacks MessageBody", "sqs", "SendMessage", {"QueueUrl": queue})
        self.check("has Colour", "sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": "x", "Colour": "red"})
        self.check("not a whole number", "sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": "x", "DelaySeconds": "1"})
        self.check("not a text", "sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": 5})
        self.check("is above", "ssm", "DescribeInstanceInformation", {"MaxResults": 51})
        self.check("is below", "ssm", "SendCommand", {"DocumentName": "d", "TimeoutSeconds": 29})
        self.check("characters", "ssm", "SendCommand", {"DocumentName": "d", "Comment": "c" * 101})
        self.check("not like", "ssm", "SendCommand", {"DocumentName": "a b"})
        self.check("none of", "application-autoscaling", "DescribeScalableTargets", {"ServiceNamespace": "moon"})
        self.check("not a list", "ec2", "DescribeInstances", {"InstanceIds": "i-1"}, (str,))
        self.check("not a time", "cloudwatch", "GetMetricData", {"StartTime": "now", "EndTime": 0, "MetricDataQueries": []})
        self.assertEqual(self.found("sqs", "SendMessage", {"QueueUrl": queue, "MessageBody": "x"}), [])

    def test_the_query_protocol_is_read_back(self):
        body = b"Action=RunInstances&Version=2016-11-15&MinCount=1&MaxCount=x&TagSpecification.1.Tag.1.Key=k&Odd=1"
        exchange = recorder.Exchange("POST", "/", {"authorization": "Credential=a/20260101/r/ec2/aws4_request"}, body, 200,
                                     {}, b"<RunInstancesResponse><odd>1</odd></RunInstancesResponse>")  # fmt: skip
        call = models.Call(exchange)
        self.assertEqual(call.request["TagSpecifications"], [{"Tags": [{"Key": "k"}]}])
        found = " ".join(call.problems())
        for words in ("MaxCount is 'x'", "parameter Odd", "element odd"):
            self.assertIn(words, found)

    def test_the_source_names_its_operations(self):
        found = operations_in_the_source()
        for name in ("sqs:SendMessageBatch", "ec2:RunInstances", "scheduler:ListTagsForResource", "events:ListTagsForResource"):
            self.assertIn(name, found)
        self.assertNotIn("ssm:ListTagsForResource", found)


if __name__ == "__main__":
    unittest.main()
