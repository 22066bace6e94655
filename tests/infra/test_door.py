"""The HTTP door's stack: its template, what is refused, its deployment against another team's emulator.

The door itself is started as the task's definition says it, with the fleet as ECS would give it, and is asked through
the emulator's balancer; and once under its policy, which must be enough for it and no more.

*What is not shown here*: that Fargate runs it, TLS by ACM's certificates, the name in Cloud Map (the emulator's services
take none; the template is read instead), that metrics come and alarms ring, and IAM's own judgement.
"""

import datetime
import fnmatch
import hashlib
import http.client
import http.server
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import unittest
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from unittest import mock

import boto3
from botocore.exceptions import ClientError
from harness import ROOT, binary, end, eventually
from test_deploy import NETWORK, WithAccount

sys.path.insert(0, str(ROOT / "infra"))
import beside  # noqa: E402
import door  # noqa: E402
import fleet as fleets  # noqa: E402
import stack  # noqa: E402

TEMPLATE = stack.template(stack.DOOR)
RESOURCES = TEMPLATE["Resources"]
FIRST = stack.template()
# What the door has from the first stack, and from the alarms.
SHARED = {**FIRST["Parameters"], **beside.own_parameters(stack.ALARMS, FIRST["Parameters"])}
CERTIFICATE = "arn:aws:acm:us-east-1:000000000000:certificate/11111111-2222-3333-4444-555555555555"
TOKEN = "not-a-secret"
KNOWN = {"sha256": hashlib.sha256(TOKEN.encode()).hexdigest(), "may": ["read", "command"]}
# Tokens in a secret, as the door's role may read it.
SECRET = "ours/tokens"
# The keys of links, likewise.
LINKS_SECRET = "ours/links"
LINK_KEYS = json.dumps({"current": "1f" * 32})
HTTP = f'[http]\nauth = "tokens"\nproxies = 1\ntokens_secret = "{SECRET}"\nlinks_secret = "{LINKS_SECRET}"\n'
WITHOUT_TOKENS = {"auth": "none", "hosts": ["door.example.com"]}
IMAGE = ["--worker-image", "000000000000.dkr.ecr.us-east-1.amazonaws.com/lamplighter-x:abc"]


def properties(logical_id):
    return RESOURCES[logical_id]["Properties"]


class Template(unittest.TestCase):
    def test_each_parameter_has_one_source_and_means_the_same(self):
        own = door.own_parameters(SHARED)
        shared = set(TEMPLATE["Parameters"]) - set(own) - set(door.OUTPUTS) - door.WRITTEN
        # scripts/deploy has one name space of options.
        self.assertEqual(set(own) & {*SHARED, *FIRST["Outputs"]}, set())
        self.assertLessEqual(set(door.OUTPUTS), set(FIRST["Outputs"]))
        self.assertLessEqual(shared, set(SHARED))
        # What is no option and has no default must come from elsewhere.
        for name, spec in own.items():
            self.assertIn("Default", spec, name)
        for name in ("LogRetentionDays", "AlarmTopicArn", "AssignPublicIp"):
            mine, theirs = TEMPLATE["Parameters"][name], SHARED[name]
            self.assertEqual({**mine, "Description": ""}, {**theirs, "Description": ""}, name)

    def test_its_task_is_the_workers_image_by_another_verb_and_writes_nothing(self):
        container, workers = (
            resources["Task"]["Properties"]["ContainerDefinitions"][0] for resources in (RESOURCES, FIRST["Resources"])
        )
        self.assertEqual(container["Command"], ["serve", "--listen", "0.0.0.0:8080"])
        for same in ("Image", "User", "ReadonlyRootFilesystem", "LinuxParameters", "Secrets"):
            self.assertEqual(container[same], workers[same])
        for variable in container["Environment"]:
            self.assertIn(variable, workers["Environment"])
        self.assertIs(container["ReadonlyRootFilesystem"], True)
        self.assertNotIn("HealthCheck", container)
        task = properties("Task")
        self.assertEqual((task["Cpu"], task["Memory"], task["RuntimePlatform"]["CpuArchitecture"]), ("256", "512", "ARM64"))

    def test_one_port_leads_to_it(self):
        container = properties("Task")["ContainerDefinitions"][0]
        port = container["PortMappings"][0]["ContainerPort"]
        self.assertTrue(container["Command"][-1].endswith(f":{port}"))
        self.assertEqual(properties("Targets")["Port"], port)
        self.assertEqual(properties("Service")["LoadBalancers"]["Fn::If"][1][0]["ContainerPort"], port)
        for rule in (properties("Inlet"), properties("BalancerGroup")["SecurityGroupEgress"][0]):
            self.assertEqual((rule["FromPort"], rule["ToPort"]), (port, port))

    def test_groups_let_through_what_is_needed_and_no_more(self):
        outlets = properties("DoorGroup")["SecurityGroupEgress"]
        self.assertEqual([(it["FromPort"], it["ToPort"]) for it in outlets], [(443, 443)])
        self.assertNotIn("SecurityGroupIngress", properties("DoorGroup"))
        inlet = properties("Inlet")
        self.assertEqual(inlet["SourceSecurityGroupId"]["If"][1], {"GetAtt": "BalancerGroup.GroupId"})
        # A network that nobody named is nobody's.
        self.assertEqual(inlet["CidrIp"]["If"][2], {"If": ["NoNetwork", "127.0.0.1/32", {"Ref": "DoorCidr"}]})
        plain, secure = properties("BalancerGroup")["SecurityGroupIngress"]
        self.assertEqual((plain["ToPort"], secure["Fn::If"][0], secure["Fn::If"][1]["ToPort"]), (80, "Secure", 443))
        outlets = properties("BalancerGroup")["SecurityGroupEgress"]
        self.assertEqual([it["DestinationSecurityGroupId"] for it in outlets], [{"GetAtt": "DoorGroup.GroupId"}])

    def test_tls_is_the_balancers_and_http_is_sent_on_to_it(self):
        listener = properties("SecureListener")
        self.assertEqual((listener["Protocol"], listener["Certificates"]), ("HTTPS", [{"CertificateArn": {"Ref": "CertificateArn"}}]))
        self.assertRegex(listener["SslPolicy"], r"^ELBSecurityPolicy-TLS13-1-2-Res-")
        condition, secure, plain = properties("PlainListener")["DefaultActions"][0]["Fn::If"]
        self.assertEqual((condition, secure["Type"], secure["RedirectConfig"]["Protocol"]), ("Secure", "redirect", "HTTPS"))
        self.assertEqual(plain["Type"], "forward")

    def test_the_balancer_waits_for_ten_minutes_and_appends_who_calls(self):
        given = [it for it in properties("Balancer")["LoadBalancerAttributes"] if "Key" in it]
        attributes = {it["Key"]: it["Value"] for it in given}
        self.assertGreater(int(attributes["idle_timeout.timeout_seconds"]), 600)
        self.assertEqual(attributes["routing.http.drop_invalid_header_fields.enabled"], "true")
        self.assertEqual(attributes["routing.http.xff_header_processing.mode"], "append")
        targets = properties("Targets")
        self.assertEqual((targets["HealthCheckPath"], targets["Matcher"]), ("/healthz", {"HttpCode": "200"}))

    def test_another_scheme_is_another_name_and_each_fits(self):
        """A balancer that is replaced stands beside its successor for a while, and so do their target groups."""
        longest = "e" * 20
        stack.check_value("Env", TEMPLATE["Parameters"]["Env"], longest)
        for logical_id in ("Balancer", "Targets"):
            condition, one, other = properties(logical_id)["Name"]["If"]
            self.assertEqual(condition, "OnTheInternet")
            self.assertNotEqual(one, other)
            for name in (one["Sub"], other["Sub"]):
                self.assertLessEqual(len(name.replace("${Env}", longest)), 32)
                self.assertFalse(name.startswith("internal-") or name.endswith("-"))


class Values(unittest.TestCase):
    """What --door and its options say, beside the fleet, the first stack's values and what the door's stack had."""

    def made(self, before=None, env="prod", **said):
        own = door.own_parameters(SHARED)
        args = SimpleNamespace(env=env, door="yes", door_without_tokens=False, **dict.fromkeys(own))
        vars(args).update(said)
        self.said = []
        made = door.Door(None, args, self.said.append, SHARED, None)
        made.stack.found = lambda: before and {
            "Parameters": [{"ParameterKey": key, "ParameterValue": value} for key, value in before.items()]
        }
        return made

    def resolved(self, http=None, first=None, before=None, **said):
        made = self.made(before, **said)
        made.choose()
        known = {"VpcId": "vpc-0a1b2c3d", "SubnetIds": "subnet-0a1b2c3d,subnet-0a1b2c3e", "FleetParameter": "/f/1"}
        made.resolve({**known, **(first or {})}, {"http": {"proxies": 1, **(http or {})}}, "f.toml")
        return made

    def refused(self, words, **more):
        with self.assertRaisesRegex((stack.OptionError, fleets.FleetError), words):
            self.resolved(**more)

    def test_there_is_a_door_as_it_is_said_or_as_it_was(self):
        was = {"DoorReach": "private"}
        rows = [(None, None, False), (was, None, True), (None, "yes", True), (was, "no", False), (was, "yes", True)]
        for before, said, expected in rows:
            made = self.made(before, door=said)
            made.choose()
            self.assertEqual((made.is_there, made.wanted), (before is not None, expected), (before, said))
        for said in (None, "no"):
            with self.assertRaisesRegex(stack.OptionError, "--door-tasks would have no effect without a door"):
                self.made(door=said, DoorTasks="2").choose()

    def test_what_is_not_said_stays(self):
        before = {"DoorCidr": "10.1.0.0/16", "DoorTasks": "3", "FleetParameter": "/f/0"}
        secrets = {"tokens_secret": "ours/tokens", "links_secret": "ours/links"}
        values = self.resolved(before=before, DoorTasks="4", http=secrets).values
        self.assertEqual((values["DoorCidr"], values["DoorTasks"], values["DoorReach"]), ("10.1.0.0/16", "4", "load-balancer"))
        self.assertEqual((values["TokensSecret"], values["LinksSecret"]), ("ours/tokens", "ours/links"))

    def test_the_rest_is_what_the_first_stack_tells(self):
        made = self.resolved(DoorCidr="10.0.0.0/8")
        first = dict.fromkeys(SHARED, "of the first")
        planned = made.values_with(first, {})
        self.assertEqual(set(planned), set(TEMPLATE["Parameters"]))
        self.assertEqual((planned["CommandQueue"], planned["Env"]), ("lamplighter-prod-commands", "prod"))
        self.assertEqual(planned["WorkerImage"], "of the first")
        self.assertEqual(made.values_with(first, {"TableName": "t"})["TableName"], "t")

    def test_without_http_in_the_fleet_there_is_no_door(self):
        made = self.made(DoorCidr="10.0.0.0/8")
        made.choose()
        with self.assertRaisesRegex(fleets.FleetError, r"f.toml has no \[http\], .* or --door no"):
            made.resolve({"FleetParameter": "/f/1"}, {}, "f.toml")

    def test_a_network_is_needed(self):
        self.refused("VpcId is empty, .* expected --vpc-id", first={"VpcId": ""}, DoorCidr="10.0.0.0/8")
        self.refused("SubnetIds is empty, .* expected --subnet-ids", first={"SubnetIds": ""}, DoorCidr="10.0.0.0/8")
        one = {"first": {"SubnetIds": "subnet-0a1b2c3d"}, "DoorCidr": "10.0.0.0/8"}
        self.refused("needs subnets in two zones, .* expected --door-subnet-ids", **one)
        self.resolved(**one, DoorSubnetIds="subnet-0a1b2c3d,subnet-0a1b2c3e")
        self.resolved(**one, DoorReach="private")

    def test_whom_it_lets_in_is_said(self):
        self.refused("DoorCidr is empty")
        self.refused("DoorCidr is empty", DoorReach="private")
        self.resolved(DoorScheme="internet-facing", CertificateArn=CERTIFICATE)
        # Behind an internal balancer: all who reach that.
        self.resolved(DoorCidr="0.0.0.0/0")

    def test_tokens_do_not_cross_the_internet_in_plain_http(self):
        self.refused("needs a certificate", DoorScheme="internet-facing")
        for network in ("0.0.0.0/0", "203.0.0.0/8", "8.8.8.8/32"):
            self.refused("is not private", DoorReach="private", DoorCidr=network)
        for network in ("10.0.0.0/8", "172.16.5.0/20", "192.168.1.7/24", "100.64.0.0/10"):
            self.resolved(DoorReach="private", DoorCidr=network)
        # Kept from the time before.
        before = {"DoorCidr": "0.0.0.0/0", "FleetParameter": "/f/1"}
        self.refused("is not private", before=before, DoorReach="private")

    def test_a_door_without_tokens_is_opened_to_the_internet_only_in_so_many_words(self):
        public = {"http": WITHOUT_TOKENS, "DoorScheme": "internet-facing", "CertificateArn": CERTIFICATE}
        self.refused(r'\[http\] auth is "none" in f.toml, and .* --door-without-tokens', **public)
        self.resolved(**public, door_without_tokens=True)
        self.assertIn("whoever reaches the door", self.said[0])
        self.resolved(http=WITHOUT_TOKENS, DoorCidr="10.0.0.0/8")
        self.assertIn("whoever reaches the door", self.said[0])
        # It was said of this fleet; of another, and of a door that was not public, it was not.
        before = {
            "DoorReach": "load-balancer", "DoorScheme": "internet-facing", "CertificateArn": CERTIFICATE, "FleetParameter": "/f/1",
        }  # fmt: skip
        self.resolved(http=WITHOUT_TOKENS, before=before, DoorTasks="2")
        self.refused("in so many words", http=WITHOUT_TOKENS, before={**before, "FleetParameter": "/f/0"})
        self.refused("in so many words", **public, before={**before, "DoorScheme": "internal"})
        self.refused("in so many words", **public, DoorReach="load-balancer", before={**before, "DoorReach": "private"})

    def test_a_door_without_tokens_names_its_hosts(self):
        """Else a page of a stranger could make its own name lead there."""
        for hosts in ({}, {"hosts": []}):
            self.refused(r'auth is "none" in f.toml, and there are no hosts', http={"auth": "none", **hosts}, DoorCidr="10.0.0.0/8")

    def test_what_only_a_balancer_has_is_refused_without_one(self):
        private = {"DoorReach": "private", "DoorCidr": "10.0.0.0/8"}
        self.refused("--certificate-arn would have no effect without a balancer", **private, CertificateArn=CERTIFICATE)
        self.refused("--door-scheme, --door-hostname would", **private, DoorScheme="internal", DoorHostname="a.example.com")
        # Kept from the time before, it waits for the next balancer.
        before = {"CertificateArn": CERTIFICATE, "FleetParameter": "/f/1"}
        self.assertEqual(self.resolved(**private, before=before).values["CertificateArn"], CERTIFICATE)

    def test_proxies_that_do_not_fit_are_told(self):
        rows = [("load-balancer", 0, "expected proxies = 1"), ("load-balancer", 1, None), ("load-balancer", 2, None),
                ("private", 0, None), ("private", 1, "expected proxies = 0")]  # fmt: skip
        for reach, proxies, words in rows:
            self.resolved(http={"proxies": proxies}, DoorReach=reach, DoorCidr="10.0.0.0/8")
            self.assertEqual(len(self.said), 0 if words is None else 1, (reach, proxies))
            self.assertIn(words or "", "".join(self.said))

    def test_names_that_a_balancer_could_not_have_are_refused(self):
        self.refused('--env "prod-" is not valid', env="prod-", DoorCidr="10.0.0.0/8")
        self.refused("--tokens-secret", http={"tokens_secret": "a b"}, DoorCidr="10.0.0.0/8")


class Answers(http.server.BaseHTTPRequestHandler):
    """What a door behind a balancer answers, one after the other, the last for ever; and what it was asked."""

    def do_GET(self):
        self.server.asked.append((self.path, self.headers["Host"]))
        statuses = self.server.statuses
        self.send_response(statuses.pop(0) if len(statuses) > 1 else statuses[0])
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *words):
        pass


class Smoke(unittest.TestCase):
    """GET /healthz: who answers, who cannot be reached, and whose fault that is."""

    def setUp(self):
        looking = mock.patch.object(door, "LOOK_EVERY_SECONDS", 0.05)
        looking.start()
        self.addCleanup(looking.stop)

    def server(self, *statuses, certificate=None):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Answers)
        server.statuses, server.asked = list(statuses), []
        if certificate:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
            server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        return server

    def smoke(self, port, seconds=1, **values):
        """What it said, of a balancer at this port of this machine."""
        args = SimpleNamespace(env="prod", door=None, door_without_tokens=False)
        for name in door.own_parameters(SHARED):
            setattr(args, name, None)
        said = []
        asked = door.Door(None, args, said.append, SHARED, None)
        known = {"DoorReach": "load-balancer", "DoorScheme": "internal", "DoorCidr": "10.0.0.0/8", "CertificateArn": "", "DoorHostname": ""}
        asked.stack.parameters = lambda: {**known, **values}
        asked.stack.outputs = lambda: {"DoorUrl": "http://the-door"} | ({"BalancerAddress": "127.0.0.1"} if port else {})
        connect = door.socket.create_connection
        with mock.patch.object(door.socket, "create_connection", lambda address, wait: connect((address[0], port), wait)):
            asked.smoke(seconds)
        return "\n".join(said)

    PUBLIC = {"DoorScheme": "internet-facing", "DoorCidr": ""}

    def test_it_waits_until_the_door_is_well(self):
        server = self.server(503, 502, 200)
        self.assertIn("http://the-door/healthz answered 200", self.smoke(server.server_port, 10))
        self.assertEqual(server.asked, [("/healthz", "127.0.0.1")] * 3)

    def test_a_door_that_answers_and_is_not_well_is_a_failure_for_whoever_asks(self):
        for values in (self.PUBLIC, {}):
            with self.assertRaisesRegex(door.DoorError, "still answers 503 after 0.2 s; scripts/logs door -e prod"):
                self.smoke(self.server(503).server_port, 0.2, **values)

    def test_what_cannot_be_reached_is_a_failure_only_where_everybody_may_reach_it(self):
        server = self.server(200)
        server.shutdown()
        server.server_close()
        for values in (self.PUBLIC, {**self.PUBLIC, "DoorCidr": "0.0.0.0/0"}):
            with self.assertRaisesRegex(door.DoorError, "cannot be reached after 0.2 s .*refused"):
                self.smoke(server.server_port, 0.2, **values)
        for values in ({}, {**self.PUBLIC, "DoorCidr": "203.0.113.0/24"}):
            said = self.smoke(server.server_port, 0.2, **values)
            self.assertRegex(said, r"cannot be reached from here \(.*refused\), and need not be: it is for (10|203)\.")

    def test_without_a_balancer_nobody_is_asked(self):
        self.assertIn("is not asked: the door has no balancer", self.smoke(None, DoorReach="private"))

    @unittest.skipUnless(shutil.which("openssl"), "openssl makes the certificate")
    def test_the_certificate_is_looked_at_in_the_doors_name(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        at = Path(folder.name)
        words = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=door.example.com"]
        names = ["-addext", "subjectAltName=DNS:door.example.com", "-keyout", str(at / "key.pem"), "-out", str(at / "cert.pem")]
        subprocess.run([*words, *names], check=True, capture_output=True)
        server = self.server(200, certificate=at)
        secure = {**self.PUBLIC, "CertificateArn": CERTIFICATE}
        with self.assertRaisesRegex(door.DoorError, "self.signed"):
            self.smoke(server.server_port, **secure)
        with mock.patch.dict("os.environ", SSL_CERT_FILE=str(at / "cert.pem")):
            for hostname in ("door.example.com", ""):
                said = self.smoke(server.server_port, **secure, DoorHostname=hostname)
                self.assertIn("answered 200", said)
                self.assertEqual(server.asked.pop(), ("/healthz", hostname or "127.0.0.1"))
            with self.assertRaisesRegex(door.DoorError, "(?i)hostname mismatch"):
                self.smoke(server.server_port, **secure, DoorHostname="other.example.com")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def ask(address, method, path, body=None, token=TOKEN, **headers):
    """Status and body of one request at HOST:PORT."""
    connection = http.client.HTTPConnection(address, timeout=60)
    with closing(connection):
        given = {"Content-Type": "application/json", "Authorization": f"Bearer {token}", **headers}
        connection.request(method, path, body and json.dumps(body), given)
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


class Rights(unittest.TestCase):
    """The door under its policy, at `lamplighter local`, which denies by default and tells of each call what its
    caller's policy was asked for."""

    def test_the_policy_is_just_what_serving_needs(self):
        self.folder = Path(tempfile.mkdtemp(prefix="lamplighter-rights-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        fleet = self.folder / "lamplighter.toml"
        fleet.write_text(
            '[targets.plain]\nkind = "ec2-instance"\ninstance_id = "i-0123456789"\nmax_hold = "1h"\nsettle = "1s"\n'
            '[templates.models]\nkind = "ec2-template"\nlaunch_template = "lt-0123456789abcdef0"\nbootstrap = "walrus"\n'
            'limit = 3\nmax_lifetime = "1h"\n[local]\nboot = "500ms"\nagent = "300ms"\n'
        )
        local = self.run_beside("local", "--aws-port", "0", "--http-port", "0", "--json", "--fleet", str(fleet))
        endpoint = json.loads(local.stdout.readline())["endpoint"]
        self.address = endpoint.removeprefix("http://")
        self.aws = {"region_name": "us-east-1", "endpoint_url": endpoint, "aws_access_key_id": "test", "aws_secret_access_key": "x"}
        policy = self.bound()
        secrets = boto3.client("secretsmanager", **self.aws)
        secrets.create_secret(Name=SECRET, SecretString=json.dumps({"me": {**KNOWN, "may": ["admin"]}}))
        secrets.create_secret(Name=LINKS_SECRET, SecretString=LINK_KEYS)
        with_http = self.folder / "door.toml"
        with_http.write_text(fleet.read_text() + HTTP)
        door_at = f"127.0.0.1:{free_port()}"
        more = {"AWS_ENDPOINT_URL": endpoint, "AWS_REGION": "us-east-1", "AWS_ACCESS_KEY_ID": "door", "AWS_SECRET_ACCESS_KEY": "x"}
        self.run_beside("serve", "--listen", door_at, "--fleet", str(with_http), **more)
        self.everything_is_asked(door_at)
        self.nothing_was_denied_and_all_was_used(policy)

    def run_beside(self, *words, **more):
        kept = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR", "LAMPLIGHTER_TEST_RUN") if name in os.environ}
        quiet = {"AWS_EC2_METADATA_DISABLED": "true", "AWS_CONFIG_FILE": os.devnull, "AWS_SHARED_CREDENTIALS_FILE": os.devnull}
        with open(self.folder / f"{words[0]}.log", "wb") as log:
            process = subprocess.Popen(
                [binary(), *words], env={**kept, **quiet, **more}, cwd=self.folder, stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE, stderr=log, text=True,
            )  # fmt: skip
        self.addCleanup(process.stdout.close)
        self.addCleanup(end, process)
        return process

    def bound(self):
        """The shipped policy, with the endpoint's own names, for one access key."""
        marks = [
            ("REGION", "us-east-1"), ("ACCOUNT", "000000000000"), ("COMMAND_QUEUE", "lamplighter-commands"),
            ("DEAD_LETTER_QUEUE", "lamplighter-dead-letters"), ("TABLE", "lamplighter"), ("TOKENS_SECRET", SECRET),
            ("LINKS_SECRET", LINKS_SECRET),
        ]  # fmt: skip
        text = (ROOT / "infra" / "door-policy.json").read_text(encoding="utf-8")
        for mark, value in marks:
            text = text.replace(mark, value)
        policy = json.loads(text)
        status, said = ask(self.address, "PUT", "/_lamplighter/policy?access_key=door", policy)
        self.assertLess(status, 300, said)
        return policy["Statement"]

    def everything_is_asked(self, door_at):
        def well(status, *words):
            found, said = ask(door_at, *words)
            self.assertEqual(found, status, said)
            return json.loads(said)

        def listens():
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", int(door_at.split(":")[1]))) == 0

        eventually("the door is open", listens)
        well(200, "GET", "/readyz")
        done = well(200, "POST", "/v1/commands?wait=60", {"action": "start", "target": "plain", "for": "10m"})
        self.assertEqual(done["state"], "done", done)
        well(200, "GET", f"/v1/commands/{done['id']}")
        for path in ("/v1/targets", "/v1/targets/plain", "/v1/targets/plain/why", "/v1/targets/plain/history"):
            well(200, "GET", path)
        sqs = boto3.client("sqs", **self.aws)
        sqs.send_message(QueueUrl=sqs.get_queue_url(QueueName="lamplighter-commands")["QueueUrl"], MessageBody="poison")
        letters = eventually("the poison is parked", lambda: well(200, "GET", "/v1/dead-letters")["messages"])
        self.assertEqual(len(letters), 1)
        self.assertEqual(well(200, "POST", "/v1/dead-letters/replay", {"all": True})["replayed"], 1)

    def nothing_was_denied_and_all_was_used(self, statements):
        status, said = ask(self.address, "GET", "/_lamplighter/calls?since=0")
        self.assertEqual(status, 200, said)
        calls = [call for call in json.loads(said)["calls"] if call["access_key"] == "door"]
        denied = [call for call in calls if re.search("Denied|Unauthorized", str(call["outcome"]))]
        self.assertEqual(denied, [])
        asked = {tuple(right.split(" ", 1)) for call in calls for right in call["rights"]}
        for statement in statements:
            covered = {action for action, arn in asked if fnmatch.fnmatchcase(arn, statement["Resource"])}
            unused = set(statement["Action"]) - covered
            self.assertEqual(unused, set(), f"{statement['Sid']} allows what serving never does")


class Deployed(WithAccount):
    """The same script, the same emulator, a stack beside the first one."""

    def door(self, env):
        return self.stack(f"{env}-door")

    def values(self, env):
        return {it["ParameterKey"]: it["ParameterValue"] for it in self.door(env)["Parameters"]}

    def outputs(self, env):
        return {it["OutputKey"]: it["OutputValue"] for it in self.door(env)["Outputs"]}

    def groups(self, env):
        prefix = f"lamplighter-{env}-"
        found = self.account.client("ec2").describe_security_groups()["SecurityGroups"]
        return {it["GroupName"].removeprefix(prefix): it for it in found if it["GroupName"].startswith(prefix)}

    def service(self, env):
        name = f"lamplighter-{env}-door"
        return self.account.client("ecs").describe_services(cluster=name, services=[name])["services"][0]

    def listeners(self, env):
        elb = self.account.client("elbv2")
        balancers = [it for it in elb.describe_load_balancers()["LoadBalancers"] if it["LoadBalancerName"].startswith(f"lamp-{env}-")]
        if not balancers:
            return None, {}
        (balancer,) = balancers
        found = elb.describe_listeners(LoadBalancerArn=balancer["LoadBalancerArn"])["Listeners"]
        return balancer, {it["Port"]: it for it in found}

    def test_from_nothing_to_nothing(self):
        fleet, _ = self.account.fleet("one", HTTP)
        first = ["--fleet", fleet, *NETWORK, *IMAGE]
        self.a_plan_shows_both_and_leaves_nothing(first)
        self.an_internal_door_is_made_of_what_the_first_stack_made(first)
        self.its_role_has_the_rights_of_its_file()
        self.a_later_deploy_says_only_what_changes()
        # One for both: what polls for a worker that has ended may still take a message in the emulator.
        worker = self.worker("one")
        self.the_smoke_test_says_what_it_cannot_reach()
        self.a_command_goes_through_the_balancer_and_the_door_to_a_worker()
        end(worker)
        self.its_log_is_shown()
        self.the_internet_gets_tls()
        self.the_private_network_gets_a_name()
        self.without_http_it_is_refused()
        self.the_door_goes_alone()
        self.destroy_takes_the_door_first(first)

    def a_plan_shows_both_and_leaves_nothing(self, first):
        said = self.account.deploy("one", "-a", "plan", *first, "--door", "yes", "--door-cidr", "10.0.0.0/16")
        for expected in ("cfn-lint: no findings", "Add     WorkerRole", "== changes of the door", "Add     DoorRole", "Add     Balancer "):
            self.assertIn(expected, said)
        self.assertIsNone(self.stack("one"))
        self.assertIsNone(self.door("one"))

    def an_internal_door_is_made_of_what_the_first_stack_made(self, first):
        self.account.deploy("one", *first, "--no-smoke")
        self.assertIsNone(self.door("one"))
        said = self.account.deploy("one", *IMAGE, "--door", "yes", "--door-cidr", "10.0.0.0/16", "--no-smoke")
        self.assertRegex(said, r"== changes\n  none\n")
        self.assertRegex(said, r"Its door: http://lamp-one-inside-\S+\n$")
        outputs = {it["OutputKey"]: it["OutputValue"] for it in self.stack("one")["Outputs"]}
        before = {it["ParameterKey"]: it["ParameterValue"] for it in self.stack("one")["Parameters"]}
        values = self.values("one")
        for name in ("CommandQueue", "DeadLetterQueue", "TableName"):
            self.assertEqual(values[name], outputs[name])
        for name in ("WorkerImage", "FleetParameter", "VpcId", "SubnetIds", "AssignPublicIp", "LogRetentionDays"):
            self.assertEqual(values[name], before[name])
        service = self.service("one")
        self.assertEqual((service["desiredCount"], service["launchType"]), (1, "FARGATE"))
        task = self.account.client("ecs").describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        container = task["containerDefinitions"][0]
        self.assertEqual((container["image"], container["command"][0], container["user"]), (IMAGE[1], "serve", "65532:65532"))
        balancer, listeners = self.listeners("one")
        self.assertEqual((balancer["Scheme"], list(listeners)), ("internal", [80]))
        self.assertEqual(listeners[80]["DefaultActions"][0]["TargetGroupArn"], service["loadBalancers"][0]["targetGroupArn"])
        groups = self.groups("one")
        (outlet,) = groups["balancer"]["IpPermissionsEgress"]
        self.assertEqual([it["GroupId"] for it in outlet["UserIdGroupPairs"]], [groups["door"]["GroupId"]])
        (inlet,) = groups["door"]["IpPermissions"]
        self.assertEqual((inlet["FromPort"], inlet["IpRanges"]), (8080, []))
        self.assertEqual([it["GroupId"] for it in inlet["UserIdGroupPairs"]], [groups["balancer"]["GroupId"]])
        attributes = self.account.client("elbv2").describe_load_balancer_attributes(LoadBalancerArn=balancer["LoadBalancerArn"])
        self.assertIn({"Key": "idle_timeout.timeout_seconds", "Value": "900"}, attributes["Attributes"])

    def its_role_has_the_rights_of_its_file(self):
        """With this environment's own names; the file is under test elsewhere."""
        marks = {
            "REGION": "us-east-1", "ACCOUNT": "000000000000", "DEAD_LETTER_QUEUE": "lamplighter-one-dead-letters",
            "COMMAND_QUEUE": "lamplighter-one-commands", "TOKENS_SECRET": SECRET, "LINKS_SECRET": LINKS_SECRET, "table/TABLE": "table/lamplighter-one",
        }  # fmt: skip
        text = (ROOT / "infra" / "door-policy.json").read_text(encoding="utf-8")
        for mark, value in marks.items():
            text = text.replace(mark, value)
        role = self.account.client("iam").get_role_policy(RoleName="lamplighter-one-door", PolicyName="door")
        self.assertEqual(role["PolicyDocument"]["Statement"], json.loads(text)["Statement"])

    def a_later_deploy_says_only_what_changes(self):
        said = self.account.deploy("one", "-a", "plan", *IMAGE)
        self.assertEqual(len(re.findall(r"== changes( of the door)?\n  none\n", said)), 2, said)
        said = self.account.deploy("one", *IMAGE, "--door-tasks", "2", "--door-dead-letters", "false", "--no-smoke")
        self.assertIn("  Modify  Service ", said)
        self.assertNotIn("Remove", said)
        self.assertEqual(self.service("one")["desiredCount"], 2)
        self.assertEqual(self.values("one")["DoorCidr"], "10.0.0.0/16")
        role = self.account.client("iam").get_role_policy(RoleName="lamplighter-one-door", PolicyName="door")
        sids = [it["Sid"] for it in role["PolicyDocument"]["Statement"]]
        self.assertEqual(sids, ["SendCommands", "ReadRecords", "ReadTheTokens", "ReadTheLinkKeys"])

    def the_smoke_test_says_what_it_cannot_reach(self):
        said = self.account.deploy("one", "-a", "smoke", "--smoke-seconds", "20")
        self.assertIn("a worker took the command", said)
        self.assertRegex(said, r"http://lamp-one-inside-\S+/healthz cannot be reached from here .* it is for 10\.0\.0\.0/16")

    def a_command_goes_through_the_balancer_and_the_door_to_a_worker(self):
        self.account.client("secretsmanager").create_secret(Name=SECRET, SecretString=json.dumps({"me": KNOWN}))
        self.account.client("secretsmanager").create_secret(Name=LINKS_SECRET, SecretString=LINK_KEYS)
        service, (balancer, _) = self.service("one"), self.listeners("one")
        task = self.account.client("ecs").describe_task_definition(taskDefinition=service["taskDefinition"])["taskDefinition"]
        port = free_port()
        verb = [word.replace("0.0.0.0:8080", f"127.0.0.1:{port}") for word in task["containerDefinitions"][0]["command"]]
        text = self.fleets("one")[self.values("one")["FleetParameter"]]
        serving = self.account.spawn("door-one", binary(), *verb, LAMPLIGHTER_FLEET_TOML=text, LAMPLIGHTER_LOG_FORMAT="json")
        group = service["loadBalancers"][0]["targetGroupArn"]
        self.account.client("elbv2").register_targets(TargetGroupArn=group, Targets=[{"Id": "127.0.0.1", "Port": port}])

        def through(*words, **more):
            return ask(self.account.endpoint.removeprefix("http://"), *words, Host=balancer["DNSName"], **more)

        eventually("the door is open", lambda: through("GET", "/healthz")[0] == 200)
        self.assertEqual(through("GET", "/readyz")[0], 200)
        self.assertEqual(through("GET", "/v1/targets", token="another")[0], 401)
        status, said = through("POST", "/v1/commands?wait=60", {"action": "status", "target": "plain"})
        self.assertEqual((status, json.loads(said)["state"]), (200, "done"), said)
        end(serving)
        self.assertEqual(serving.returncode, 0)

    def its_log_is_shown(self):
        logs = self.account.client("logs")
        group = self.outputs("one")["DoorLogGroup"]
        logs.create_log_stream(logGroupName=group, logStreamName="one")
        at = int(datetime.datetime.now().timestamp() * 1000)
        logs.put_log_events(logGroupName=group, logStreamName="one", logEvents=[{"timestamp": at, "message": "knock"}])
        self.assertIn("knock", self.account.run(str(ROOT / "scripts" / "logs"), "door", "-e", "one"))

    def the_internet_gets_tls(self):
        words = [*IMAGE, "--door-scheme", "internet-facing", "--no-smoke"]
        self.assertIn("needs a certificate", self.account.deploy("one", *words, code=2))
        said = self.account.deploy(
            "one", *words, "--certificate-arn", CERTIFICATE, "--door-hostname", "door.example.com", "--door-cidr", ""
        )
        self.assertIn("Its door: https://door.example.com\n", said)
        balancer, listeners = self.listeners("one")
        self.assertEqual((balancer["LoadBalancerName"], balancer["Scheme"]), ("lamp-one-public", "internet-facing"))
        self.assertEqual(sorted(listeners), [80, 443])
        self.assertEqual(listeners[80]["DefaultActions"][0]["Type"], "redirect")
        self.assertEqual(listeners[443]["Certificates"], [{"CertificateArn": CERTIFICATE}])
        self.assertIn("TLS13", listeners[443]["SslPolicy"])
        self.assertEqual(listeners[443]["DefaultActions"][0]["TargetGroupArn"], self.service("one")["loadBalancers"][0]["targetGroupArn"])
        inlets = self.groups("one")["balancer"]["IpPermissions"]
        self.assertEqual({(it["FromPort"], it["IpRanges"][0]["CidrIp"]) for it in inlets}, {(80, "0.0.0.0/0"), (443, "0.0.0.0/0")})

    def the_private_network_gets_a_name(self):
        said = self.account.deploy("one", *IMAGE, "--door-reach", "private", "--door-cidr", "10.0.0.0/8", "--no-smoke")
        self.assertIn("expected proxies = 0", said)
        self.assertEqual(self.outputs("one")["DoorUrl"], "http://door.lamplighter-one.internal:8080")
        self.assertEqual(self.listeners("one"), (None, {}))
        groups = self.groups("one")
        self.assertNotIn("balancer", groups)
        (inlet,) = groups["door"]["IpPermissions"]
        self.assertEqual((inlet["FromPort"], [it["CidrIp"] for it in inlet["IpRanges"]]), (8080, ["10.0.0.0/8"]))
        names = self.account.client("servicediscovery")
        (space,) = names.list_namespaces()["Namespaces"]
        self.assertEqual((space["Name"], space["Type"]), ("lamplighter-one.internal", "DNS_PRIVATE"))
        self.assertEqual([it["Name"] for it in names.list_services()["Services"]], ["door"])

    def without_http_it_is_refused(self):
        before = self.stack("one")["Parameters"]
        plain, _ = self.account.fleet("one")
        said = self.account.deploy("one", "--fleet", plain, *IMAGE, code=2)
        self.assertRegex(said, r"one.toml has no \[http\], and without it the door would let nobody in; .* --door no")
        self.assertEqual(self.stack("one")["Parameters"], before)

    def the_door_goes_alone(self):
        said = self.account.deploy("one", *IMAGE, "--door", "no", "--no-smoke", code=1)
        self.assertIn("--door no takes the door away with its log; --yes allows it", said)
        self.assertIn("lamplighter-one-door would be deleted", self.account.deploy("one", "-a", "plan", *IMAGE, "--door", "no"))
        self.assertIsNotNone(self.door("one"))
        said = self.account.deploy("one", *IMAGE, "--door", "no", "--no-smoke", "--yes")
        self.assertIn("the stack lamplighter-one-door is deleted", said)
        self.assertIsNone(self.door("one"))
        self.assertIsNotNone(self.stack("one"))
        # And it stays away.
        self.assertNotIn("Its door", self.account.deploy("one", *IMAGE, "--no-smoke"))

    def destroy_takes_the_door_first(self, first):
        self.account.fleet("one", HTTP)
        self.account.deploy("one", *first, "--door", "yes", "--door-cidr", "10.0.0.0/16", "--no-smoke")
        said = self.account.deploy("one", "--destroy", "--yes")
        self.assertRegex(said, r"(?s)the stack lamplighter-one-door is deleted\n.*the stack lamplighter-one is deleted\n")
        for env in ("one", "one-door"):
            self.assertIsNone(self.stack(env))
        self.assertEqual(self.fleets("one"), {})
        self.assertEqual(self.listeners("one"), (None, {}))
        roles = [role["RoleName"] for role in self.account.client("iam").list_roles()["Roles"]]
        self.assertEqual([name for name in roles if name.startswith("lamplighter-one")], [])
        self.assertIn("was not there", self.account.deploy("one", "--destroy", "--yes"))

    def test_it_stands_on_fargate_wherever_the_worker_is(self):
        fleet, _ = self.account.fleet("two", HTTP)
        words = ["--fleet", fleet, "--worker-host", "none", "--door", "yes", "--door-cidr", "10.0.0.0/16", "--no-smoke"]
        self.assertIn("VpcId is empty, and the door needs a network; expected --vpc-id", self.account.deploy("two", *words, code=2))
        self.account.deploy("two", *words, *NETWORK, *IMAGE)
        self.assertEqual(self.service("two")["desiredCount"], 1)
        self.account.deploy("two", "--destroy", "--yes")

    def test_the_template_refuses_the_same_to_whoever_goes_without_the_script(self):
        client = self.account.client("cloudformation")
        common = {
            "Env": "bare", "CommandQueue": "c", "DeadLetterQueue": "d", "TableName": "ttt", "WorkerImage": "x/y:1",
            "FleetParameter": "/f", "VpcId": "vpc-0a1b2c3d", "SubnetIds": "subnet-0a1b2c3d,subnet-0a1b2c3e",
        }  # fmt: skip
        rows = [
            ("CertificateArn is empty", {"DoorScheme": "internet-facing"}),
            ("DoorCidr is empty", {"DoorScheme": "internal"}),
            ("DoorCidr is empty", {"DoorReach": "private", "DoorScheme": "internet-facing"}),
        ]
        for words, more in rows:
            given = [{"ParameterKey": key, "ParameterValue": value} for key, value in {**common, **more}.items()]
            with self.assertRaisesRegex(ClientError, words):
                client.create_stack(
                    StackName="bare", TemplateBody=stack.body(stack.DOOR), Parameters=given, Capabilities=["CAPABILITY_NAMED_IAM"]
                )

    def test_refusals_come_before_anything_is_made(self):
        fleet, _ = self.account.fleet("bad", HTTP)
        common = ["--fleet", fleet, *NETWORK, *IMAGE]
        rows = [
            ("--door-tasks would have no effect without a door", ["--door-tasks", "2"]),
            ('--door-tasks "11" is not valid; expected a whole number from 1 to 10', ["--door", "yes", "--door-tasks", "11"]),
            ("invalid choice", ["--door", "perhaps"]),
            ("DoorCidr is empty", ["--door", "yes"]),
            ("needs a certificate", ["--door", "yes", "--door-scheme", "internet-facing"]),
            ("is not private", ["--door", "yes", "--door-reach", "private", "--door-cidr", "0.0.0.0/0"]),
        ]
        for words, arguments in rows:
            self.assertIn(words, self.account.deploy("bad", *common, *arguments, code=2))
        path = self.account.folder / "open.toml"
        path.write_text(Path(fleet).read_text(encoding="utf-8").replace(HTTP, '[http]\nauth = "none"\nhosts = ["a.example"]\n'))
        public = ["--door", "yes", "--door-scheme", "internet-facing", "--certificate-arn", CERTIFICATE]
        said = self.account.deploy("bad", "--fleet", str(path), *NETWORK, *IMAGE, *public, code=2)
        self.assertIn("in so many words, --door-without-tokens", said)
        for env in ("bad", "bad-door"):
            self.assertIsNone(self.stack(env))
        said = self.account.deploy("bad-door", *common, code=2)
        self.assertIn('--env "bad-door" is not valid: that is what the door of bad is called', said)


if __name__ == "__main__":
    unittest.main()
