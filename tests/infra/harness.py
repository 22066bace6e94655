"""ministack and the scripts, for the tests of this folder.

*What is changed of ministack*, in its own process and nowhere else: it does not know the types of Application
Auto Scaling, which are in the template behind a condition and so must be known to validate it (they are taken
and make nothing), nor a security group's rule that is a resource of its own (it is put into its group), nor alarms with
metric math (they stand there on their first metric alone), and it does not read a number that
a parameter holds as text (an ECS service's count). `fast` makes its
schedules tick thirty times as fast. Its CloudFormation leaves out a table's TTL, point-in-time recovery and
encryption, and of a service its place in Cloud Map: those are compared in the template itself.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import boto3

ROOT = Path(__file__).resolve().parents[2]
REGION = "us-east-1"
# How long a test waits for what takes a second or two on an idle machine.
PATIENCE_SECONDS = 60

MINISTACK = """
from ministack.app import main
from ministack.services.cloudformation import provisioners as known

for kind in ("ScalableTarget", "ScalingPolicy"):
    name = f"AWS::ApplicationAutoScaling::{kind}"
    assert name not in known._RESOURCE_HANDLERS, f"ministack has {name} now"
    known._RESOURCE_HANDLERS[name] = {
        "create": lambda logical_id, props, stack: (f"{stack}-{logical_id}", {}),
        "delete": lambda physical_id, props: None,
    }

rule = "AWS::EC2::SecurityGroupIngress"
assert rule not in known._RESOURCE_HANDLERS, f"ministack has {rule} now"

def inlets(props):
    return known._ec2._security_groups[props["GroupId"]]["IpPermissions"]

def let_in(logical_id, props, stack):
    inlets(props).extend(known._ec2_sg_permissions([props]))
    return f"{stack}-{logical_id}", {}

def let_out(physical_id, props):
    for permission in known._ec2_sg_permissions([props]):
        if props["GroupId"] in known._ec2._security_groups and permission in inlets(props):
            inlets(props).remove(permission)

def let_others_in(physical_id, old, new, stack):
    let_out(physical_id, old)
    return let_in(physical_id, new, stack)[0], {}

known._RESOURCE_HANDLERS[rule] = {"create": let_in, "update": let_others_in, "delete": let_out}

record = known._cw_metric_alarm_record

def without_math(name, props):
    stats = [entry["MetricStat"] for entry in props.get("Metrics", []) if "MetricStat" in entry]
    if stats:
        rest = {key: value for key, value in props.items() if key != "Metrics"}
        props = {**rest, **stats[0]["Metric"], "Statistic": stats[0]["Stat"], "Period": stats[0]["Period"]}
    return record(name, props)

known._cw_metric_alarm_record = without_math

def counted(props):
    return {**props, "DesiredCount": int(props["DesiredCount"])}

service = known._RESOURCE_HANDLERS["AWS::ECS::Service"]
create_service, update_service = service["create"], service["update"]
service["create"] = lambda logical_id, props, stack: create_service(logical_id, counted(props), stack)
service["update"] = lambda physical_id, old, new, stack: update_service(physical_id, counted(old), counted(new), stack)
"""
FAST = """
from ministack.services import eventbridge, scheduler
assert eventbridge._SCHEDULER_TICK_INTERVAL == scheduler._SCHEDULE_TICK_INTERVAL == 10
eventbridge._SCHEDULER_TICK_INTERVAL = scheduler._SCHEDULE_TICK_INTERVAL = 0.3
seconds = eventbridge._parse_rate_seconds
eventbridge._parse_rate_seconds = lambda text: seconds(text) and seconds(text) / 30
"""


def binary():
    named = os.environ.get("LAMPLIGHTER_BIN")
    path = Path(named) if named else Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "debug" / "lamplighter"
    if not path.is_file():
        raise RuntimeError(f"{path} is not there: cargo build -p lamplighter")
    return str(path)


def eventually(what, probe):
    """What `probe` answers as soon as it is true."""
    until = time.monotonic() + PATIENCE_SECONDS
    while True:
        found = probe()
        if found:
            return found
        if time.monotonic() > until:
            raise AssertionError(f"never: {what}")
        time.sleep(0.1)


def end(process):
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


class Account:
    """An AWS account of its own on this machine, and the scripts against it."""

    def __init__(self, fast=False):
        self.folder = Path(tempfile.mkdtemp(prefix="lamplighter-infra-"))
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            port = listener.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{port}"
        env = dict(
            os.environ, GATEWAY_PORT=str(port), BIND_HOST="127.0.0.1", MINISTACK_HOST="127.0.0.1", TMPDIR=str(self.folder)
        )
        self.log = open(self.folder / "ministack.log", "wb")
        code = MINISTACK + (FAST if fast else "") + "main()\n"
        self.server = subprocess.Popen(
            [sys.executable, "-c", code], cwd=self.folder, env=env, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log
        )
        self.others = []
        try:
            eventually("ministack listens", lambda: self._listens(port))
        except AssertionError:
            self.close()
            raise

    def _listens(self, port):
        if self.server.poll() is not None:
            raise RuntimeError(f"ministack ended: {(self.folder / 'ministack.log').read_text()}")
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) == 0

    def close(self):
        for process in [*self.others, self.server]:
            if process.poll() is None:
                end(process)
        self.log.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def client(self, service):
        return boto3.client(
            service, region_name=REGION, endpoint_url=self.endpoint, aws_access_key_id="test", aws_secret_access_key="test"
        )

    def environment(self, **more):
        """What a user with this account alone would have."""
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LAMPLIGHTER_TEST_RUN") if name in os.environ}
        return {
            **kept,
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
            "LAMPLIGHTER_PYTHON": sys.executable,
            "LAMPLIGHTER_BIN": binary(),
            **more,
        }

    def run(self, *words, code=0, **more):
        """Runs to its end; what it said, both ways."""
        answer = subprocess.run(
            words, env=self.environment(**more), cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=180
        )
        said = answer.stdout + answer.stderr
        if answer.returncode != code:
            raise AssertionError(f"{words} ended with {answer.returncode}, expected {code}:\n{said}")
        assert "Traceback" not in said, said
        return said

    def deploy(self, env, *words, code=0, **more):
        keep = str(self.folder / "kept" / env)
        return self.run(str(ROOT / "scripts" / "deploy"), "-e", env, "--keep", keep, *words, code=code, **more)

    def lamplighter(self, *words, code=0, **more):
        return self.run(binary(), *words, code=code, **more)

    def spawn(self, name, *words, **more):
        """Runs until the account is closed; its log is NAME.log."""
        log = open(self.folder / f"{name}.log", "wb")
        process = subprocess.Popen(
            words, env=self.environment(**more), cwd=self.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        self.others.append(process)
        return process

    def fleet(self, env, more="", machine=None):
        """A fleet file of one machine that is quick; its path and the machine."""
        if machine is None:
            ec2 = self.client("ec2")
            launched = ec2.run_instances(ImageId="ami-12345678", MinCount=1, MaxCount=1)
            machine = launched["Instances"][0]["InstanceId"]
            ec2.stop_instances(InstanceIds=[machine])
        path = self.folder / f"{env}.toml"
        path.write_text(
            f'[queue]\ncommands = "lamplighter-{env}-commands"\ndead_letters = "lamplighter-{env}-dead-letters"\n'
            f'[store]\ntable = "lamplighter-{env}"\n[targets.plain]\nkind = "ec2-instance"\n'
            f'instance_id = "{machine}"\nsettle = "1s"\npoll = "1s"\nlog_group = "/plain"\n{more}'
        )
        return str(path), machine
