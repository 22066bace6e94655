"""Our own API, as somebody would use it who has read its description and nothing else."""

import datetime
import re
import time
import unittest
import urllib.parse

import harness
import parallel
from harness import Door, bearer, token_toml

load_tests = parallel.load_tests

STATES = {"sent", "accepted", "done", "rejected", "failed"}
COMMAND = {"id", "action", "target", "state", "sent_at", "accepted_at", "outcome"}
TARGET = {
    "target", "kind", "phase", "step", "wanted", "holds", "observed", "observed_age_seconds", "why", "since",
    "lock_status", "holder",
    "expires_at", "overall_status", "failure", "paused", "wake_at", "rev", "last_outcome", "usual_start_seconds", "runs",
    "actions", "stop_destroys",
}  # fmt: skip


def moment(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))


class Api(Door):
    def command(self, body, path="/v1/commands", headers=(), seconds=35.0):
        return self.ask("POST", path, body, headers, seconds)

    def commanded(self, answer, status):
        self.assertEqual(answer.status, status, answer)
        self.assertEqual(answer.media, "application/json")
        said = answer.json
        self.assertEqual(COMMAND - set(said), set(), said)
        self.assertIn(said["state"], STATES)
        moment(said["sent_at"])
        if said["state"] in ("done", "rejected", "failed"):
            self.assertEqual(said["outcome"]["outcome"], said["state"])
            self.assertEqual(said["outcome"]["command"], said["id"])
        else:
            self.assertIsNone(said["outcome"])
        if status == 202:
            where = urllib.parse.urlsplit(answer.headers["location"])
            self.assertTrue(where.path.startswith("/v1/commands/"), where)
            self.assertEqual(urllib.parse.unquote(where.path.removeprefix("/v1/commands/")), said["id"])
        return said

    def waiting(self, answer, seconds=20):
        """Where to follow a command, and for how long."""
        where = answer.headers["location"]
        return f"{where}{'&' if '?' in where else '?'}wait={seconds}"

    def tearDown(self):
        self.local.no_faults()
        self.command({"action": "kill", "target": "pyelli"}, "/v1/commands?wait=20")
        self.local.until_phase("pyelli", "off")


class Commands(Api):
    def test_a_command_is_sent_followed_and_done(self):
        began = time.monotonic()
        answer = self.command({"action": "start", "target": "pyelli", "holder": "h", "for": "2h", "reason": "a test"})
        self.assertLess(time.monotonic() - began, 3)
        sent = self.commanded(answer, 202)
        self.assertEqual((sent["action"], sent["target"]), ("start", "pyelli"))
        followed = self.ask("GET", self.waiting(answer))
        done = self.commanded(followed, 200)
        self.assertEqual(done["state"], "done")
        self.assertEqual(done["id"], sent["id"])
        # The door's clock at first, then the queue's word.
        self.assertLess(abs(moment(done["sent_at"]) - moment(sent["sent_at"])), datetime.timedelta(seconds=2))
        self.assertGreaterEqual(moment(done["accepted_at"]), moment(done["sent_at"]) - datetime.timedelta(seconds=2))
        target = self.local.target("pyelli")
        self.assertEqual(target["phase"], "on")
        self.assertEqual([hold["holder"] for hold in target["holds"]], ["h"])

    def test_it_waits_as_it_is_asked_to(self):
        """`Prefer: wait` and `?wait` wait until it is done, no longer."""
        for path, headers in [("/v1/commands?wait=25", {}), ("/v1/commands", {"Prefer": "wait=25"})]:
            with self.subTest(path=path):
                began = time.monotonic()
                done = self.commanded(self.command({"action": "start", "target": "pyelli"}, path, headers), 200)
                self.assertEqual(done["state"], "done")
                self.assertLess(time.monotonic() - began, 15)
        done = self.commanded(self.command({"action": "status", "target": "pyelli"}, "/v1/commands?wait=25"), 200)
        self.assertEqual(done["outcome"]["answer"]["instance_status"]["overall_status"], "running")

    def test_waits_that_are_none(self):
        for wait in ("-1", "601", "1e9", "abc", "", "NaN", "5s", "99999999999999999999"):
            with self.subTest(wait=wait):
                before = self.local.sent()
                answer = self.command({"action": "status", "target": "pyelli"}, f"/v1/commands?wait={wait}")
                self.problem(answer, 400, 422)
                self.assertEqual(self.local.sent(), before)
        # A preference is no demand: one that cannot be read is left aside (RFC 7240).
        for prefer in (
            "wait=-1",
            "wait=abc",
            "wait",
            "return=minimal",
            'wait="2"',
            "respond-async, wait=1",
            ";;;=",
            "wait=1e9",
        ):
            with self.subTest(prefer=prefer):
                answer = self.command({"action": "status", "target": "pyelli"}, headers={"Prefer": prefer}, seconds=20)
                self.assertIn(answer.status, (200, 202, 400, 422), answer)

    def test_what_cannot_be_done_is_an_outcome_or_an_error(self):
        """Refused by the door at once (4xx), or taken and rejected; never a start."""
        before = self.local.started()
        for body in [
            {"action": "start", "target": "nobody"}, {"action": "create", "template": "nothing"},
            {"action": "start", "target": "walrus"},
            {"action": "create", "template": "walrus", "blob_id": "$(reboot)"}, {"action": "create", "template": "walrus"},
            {"action": "destroy", "target": "pyelli"}, {"action": "start", "instance_id": "i-0fffffffffffffff0"},
            {"action": "start", "cluster": "x", "service": "y"},
            {"action": "start", "target": "pyelli", "expires": "2020-01-01T00:00:00Z"},
            {"action": "start", "target": "pyelli", "until": "2020-01-01T00:00:00Z"},
        ]:  # fmt: skip
            with self.subTest(body=body):
                answer = self.command(body, "/v1/commands?wait=20")
                if answer.status == 200:
                    self.assertIn(answer.json["state"], ("rejected", "failed"), answer)
                else:
                    self.problem(answer, 400, 403, 404, 409, 422)
        self.assertEqual(self.local.started(), before)

    def test_fields_that_are_none(self):
        before = self.local.sent()
        for body in [
            {}, {"target": "pyelli"}, {"action": "explode", "target": "pyelli"}, {"action": 7}, {"action": None},
            {"action": "start", "target": 7}, {"action": "start", "target": "../etc"},
            {"action": "start", "target": "pyelli\n"},
            {"action": "start", "target": "pyelli", "for": "2h", "until": "2099-01-01T00:00:00Z"},
            {"action": "start", "target": "pyelli", "for": 7},
            {"action": "start", "target": "pyelli", "for": "-2h"},
            {"action": "start", "target": "pyelli", "for": "99999999999h"},
            {"action": "start", "target": "pyelli", "holder": ""}, {"action": "start", "target": "pyelli", "holder": "h" * 300},
            {"action": "start", "target": "pyelli", "reason": "r" * 600},
            {"action": "start", "target": "pyelli", "reason": "a\0b"},
            {"action": "start", "target": "pyelli", "frobnicate": True},
            {"action": "start", "Action": "stop", "target": "pyelli"},
            {"action": "start", "target": "pyelli", "id": "a\r\nb"}, {"action": "start", "target": "pyelli", "id": "x" * 300},
            {"action": "start", "target": "pyelli", "id": ""}, {"action": "start", "target": "pyelli", "until": 1e308},
        ]:  # fmt: skip
            with self.subTest(body=body):
                self.problem(self.command(body), 400, 422)
        self.assertEqual(self.local.sent(), before)

    def test_what_the_queue_takes_and_a_command_is_not(self):
        """Ticks, signals and wake-ups are the worker's; nobody posts one as a command."""
        before = self.local.sent()
        for body in [
            {
                "source": "aws.ec2", "detail-type": "EC2 Instance State-change Notification",
                "detail": {"instance-id": harness.PYELLI, "state": "running"},
            },
            {"lamplighter": "wake-up", "target": "pyelli", "rev": 1}, {"body": '{"action": "start", "target": "pyelli"}'},
            {"rawPath": "/start", "body": "{}"}, {"schedule": "idle-check"},
        ]:  # fmt: skip
            with self.subTest(body=body):
                self.problem(self.command(body), 400, 422)
        self.assertEqual(self.local.sent(), before)

    def test_ids_of_any_printable_sort_can_be_followed(self):
        for index, name in enumerate(
            ["a/b", "a?b=c#d", "a b", "100%", "%2F", "..", "../v1/me", "\"'<>", "~!@$&*()+,;=:", "\\x", "wait"]
        ):
            with self.subTest(name=name):
                name = f"{name}" if index % 2 else f"x{name}"
                answer = self.command({"action": "status", "target": "pyelli", "id": name})
                self.assertEqual(self.commanded(answer, 202)["id"], name)
                self.assertRegex(answer.headers["location"], r"^/v1/commands/[!-~]+$")
                followed = self.ask("GET", self.waiting(answer))
                self.assertEqual(self.commanded(followed, 200)["id"], name)

    def test_commands_that_nobody_sent(self):
        for name in ["nothing", "x" * 256, "a%0d%0aX-Evil:%201", "%00", "%ff", "x" * 5000]:
            with self.subTest(name=name[:20]):
                answer = self.ask("GET", f"/v1/commands/{name}")
                self.problem(answer, 400, 404, 414)
                self.assertNotIn("x-evil", answer.headers)


class Repeats(Api):
    def test_the_same_key_is_the_same_command(self):
        before = self.local.count("ec2:StartInstances")
        body = {"action": "start", "target": "pyelli", "holder": "r"}
        key = {"Idempotency-Key": "repeat-1"}
        first = self.commanded(self.command(body, "/v1/commands?wait=20", key), 200)
        again = self.commanded(self.command(body, "/v1/commands?wait=20", key), 200)
        self.assertEqual(first["id"], "repeat-1")
        self.assertEqual(again["outcome"], first["outcome"])
        # The order of its fields and the spelling of its action are not its payload.
        spelled = self.command(
            '{"holder":"r","target":"pyelli","action":"START"}',
            "/v1/commands?wait=20",
            {**key, "Content-Type": "application/json"},
        )
        self.assertEqual(self.commanded(spelled, 200)["outcome"], first["outcome"])
        self.assertEqual(self.local.count("ec2:StartInstances"), before + 1)

    def test_the_same_key_at_once(self):
        before = self.local.count("ec2:StartInstances")
        body = {"action": "start", "target": "pyelli", "holder": "r"}
        answers = self.side_by_side(
            12, lambda _: self.local.ask("POST", "/v1/commands?wait=20", body, {"Idempotency-Key": "repeat-2"})
        )
        for answer in answers:
            self.assertEqual(getattr(answer, "status", answer), 200, answer)
            self.assertEqual(answer.json["outcome"], answers[0].json["outcome"])
        self.assertEqual(self.local.count("ec2:StartInstances"), before + 1)

    def test_the_key_of_another_payload(self):
        key = {"Idempotency-Key": "repeat-3"}
        self.commanded(self.command({"action": "status", "target": "pyelli"}, "/v1/commands?wait=20", key), 200)
        before = self.local.started()
        for body in [
            {"action": "start", "target": "pyelli"}, {"action": "start", "target": "position-keeper"},
            {"action": "create", "template": "walrus", "blob_id": "abcdefgh"},
        ]:  # fmt: skip
            with self.subTest(body=body):
                answer = self.command(body, "/v1/commands?wait=20", key)
                self.problem(answer, 409, 422)
        # The first one's outcome stays.
        self.assertEqual(self.ask("GET", "/v1/commands/repeat-3").json["state"], "done")
        self.assertEqual(self.local.started(), before)

    def test_keys_that_are_none(self):
        before = self.local.sent()
        for key in ["x" * 300, "", " ", "ü".encode(), b"a\tb", b"\x80"]:
            with self.subTest(key=key):
                answer = self.command({"action": "status", "target": "pyelli"}, headers={"Idempotency-Key": key})
                # An empty one may count as none.
                if key in ("", " ") and answer.status == 202:
                    continue
                self.problem(answer, 400, 422)
                self.assertEqual(self.local.sent(), before)
                before = self.local.sent()

    def test_a_key_beside_an_id(self):
        same = self.command({"action": "status", "target": "pyelli", "id": "k-1"}, headers={"Idempotency-Key": "k-1"})
        self.assertEqual(same.status, 202, same)
        before = self.local.sent()
        self.problem(
            self.command({"action": "status", "target": "pyelli", "id": "k-2"}, headers={"Idempotency-Key": "k-3"}),
            400,
            409,
            422,
        )
        self.assertEqual(self.local.sent(), before)

    def test_a_lost_answer_of_the_queue_and_a_retry_start_once(self):
        before = self.local.count("ec2:StartInstances")
        self.local.faults({"service": "sqs", "operation": "SendMessage", "kind": "cut", "count": 1})
        body, key = {"action": "start", "target": "pyelli"}, {"Idempotency-Key": "lost-1"}
        self.command(body, headers=key)
        self.local.no_faults()
        done = self.commanded(self.command(body, "/v1/commands?wait=25", key), 200)
        self.assertEqual(done["state"], "done")
        self.assertEqual(self.local.count("ec2:StartInstances"), before + 1)


class Looking(Api):
    def test_targets(self):
        answer = self.ask("GET", "/v1/targets")
        self.assertEqual(answer.status, 200, answer)
        self.assertEqual(set(answer.json), {"targets"})
        names = [it["target"] for it in answer.json["targets"]]
        self.assertEqual(sorted(names), names)
        self.assertLessEqual({"position-keeper", "pyelli", "fluidity"}, set(names))
        one = self.ask("GET", "/v1/targets/pyelli")
        self.assertEqual(one.status, 200, one)
        self.assertEqual(TARGET - set(one.json), set(), one.json)
        self.assertLessEqual({"start", "stop"}, set(one.json["actions"]))
        self.command({"action": "status", "target": "fluidity"}, "/v1/commands?wait=20")
        self.assertIn("desiredCount", self.ask("GET", "/v1/targets/fluidity").json)

    def test_what_happened_can_be_read(self):
        self.command({"action": "start", "target": "pyelli"}, "/v1/commands?wait=20")
        why = self.ask("GET", "/v1/targets/pyelli/why")
        self.assertEqual(set(why.json), {"target", "phase", "step", "why", "since", "failure", "wake_at", "rev"})
        self.assertTrue(why.json["why"])
        self.command({"action": "kill", "target": "pyelli"}, "/v1/commands?wait=20")
        history = self.ask("GET", "/v1/targets/pyelli/history").json
        self.assertEqual(set(history), {"target", "entries", "runs"})
        self.assertTrue(history["entries"])
        for entry in history["entries"]:
            self.assertEqual(set(entry), {"at", "rev", "what"})
        run = history["runs"][-1]
        self.assertLessEqual(moment(run["from"]), moment(run["ready"]))
        self.assertLessEqual(moment(run["ready"]), moment(run["until"]))
        target = self.local.target("pyelli")
        self.assertEqual(target["runs"], history["runs"])
        self.assertGreater(target["usual_start_seconds"], 0)
        self.assertIn("at", target["last_outcome"])

    def test_targets_that_are_none(self):
        for name in ["nobody", "PYELLI", "pyelli/", "pyelli/whyever", "%2e%2e", "a" * 200, "%00", "%3Cscript%3E", "pyelli%20"]:
            with self.subTest(name=name):
                self.problem(self.ask("GET", f"/v1/targets/{name}"), 400, 404)

    def test_me(self):
        me = self.ask("GET", "/v1/me").json
        self.assertEqual((me["auth"], me["name"], me["holder"], me["targets"]), ("none", None, "*", ["*"]))
        self.assertLessEqual({"read", "command", "admin"}, set(me["may"]))

    def test_health_and_readiness(self):
        for path in ("/healthz", "/readyz"):
            self.assertEqual(self.ask("GET", path).status, 200)

    def test_metrics(self):
        answer = self.ask("GET", "/metrics")
        self.assertEqual(answer.status, 200, answer)
        self.assertIn(answer.media, ("text/plain", "application/openmetrics-text"))
        if answer.media == "application/openmetrics-text":
            self.assertTrue(answer.text.endswith("\n# EOF\n"))
        sample = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-zA-Z_][a-zA-Z0-9_]*="([^"\\\n]|\\.)*",?)*\})? \S+( [0-9]+)?$')
        lines = answer.text.splitlines()
        self.assertTrue(answer.text.endswith("\n"))
        self.assertTrue(any(not line.startswith("#") for line in lines))
        typed = set()
        for line in lines:
            if line.startswith("# TYPE "):
                name = line.split()[2]
                self.assertNotIn(name, typed, "a metric's type is said once")
                typed.add(name)
            elif line and not line.startswith("#"):
                self.assertRegex(line, sample)
                float(line.rsplit(" ", 1)[1].replace("+Inf", "inf").replace("NaN", "nan"))

    def test_the_description_names_every_path(self):
        answer = self.ask("GET", "/openapi.json")
        self.assertEqual(answer.status, 200)
        self.assertTrue(answer.json["openapi"].startswith("3.1"))
        expected = {
            "/v1/commands", "/v1/commands/{id}", "/v1/targets", "/v1/targets/{name}", "/v1/targets/{name}/why",
            "/v1/targets/{name}/history", "/v1/events", "/v1/me", "/v1/dead-letters", "/v1/dead-letters/replay", "/healthz",
            "/readyz", "/metrics",
        }  # fmt: skip
        self.assertEqual(expected - set(answer.json["paths"]), set())

    def test_methods_that_a_path_has_not(self):
        for method, path in [
            ("PUT", "/v1/commands"), ("GET", "/v1/commands"), ("DELETE", "/v1/targets/pyelli"), ("POST", "/v1/targets"),
            ("POST", "/v1/events"),
            ("PATCH", "/v1/me"), ("POST", "/healthz"), ("DELETE", "/metrics"), ("TRACE", "/v1/me"), ("FROB", "/v1/me"),
            ("GET", "/v1/dead-letters/replay"),
        ]:  # fmt: skip
            with self.subTest(method=method, path=path):
                self.problem(self.ask(method, path), 405, 501)

    def test_head_is_get_without_a_body(self):
        for path in ["/v1/targets", "/v1/targets/pyelli", "/healthz", "/openapi.json", "/v1/targets/nobody"]:
            with self.subTest(path=path):
                asked, headed = self.ask("GET", path), self.ask("HEAD", path)
                self.assertEqual(headed.status, asked.status)
                self.assertEqual(headed.headers.get("content-type"), asked.headers.get("content-type"))


class DeadLetters(Api):
    FLEET = (
        '[http]\nauth = "tokens"\n'
        + harness.NO_LIMITS
        + token_toml("root", ["admin"], holder="*")
        + token_toml("user", ["read", "command"], holder="*")
        + harness.PYELLI_TOML
        + harness.QUICK
    )

    def tearDown(self):
        pass

    def poison(self, text):
        """A message on the command queue that nobody understands."""
        said = {"QueueUrl": self.local.ready["queue"], "MessageBody": text}
        return self.local.aws("AmazonSQS", "SendMessage", said)["MessageId"]

    def test_they_are_listed_and_replayed_by_who_may(self):
        marks = [f"poison-{index}" for index in range(3)]
        for mark in marks:
            self.poison(f'{{"action": "{mark}"}}')
        letters = harness.eventually(
            "they are parked",
            lambda: (
                (it := self.ask("GET", "/v1/dead-letters", headers=bearer("root")).json["messages"]) and len(it) == 3 and it
            ),
        )
        for letter in letters:
            self.assertEqual(set(letter), {"message_id", "id", "reason", "message", "sent_at", "bytes"})
            self.assertTrue(letter["reason"])
        again = self.ask("GET", "/v1/dead-letters", headers=bearer("root")).json
        self.assertEqual(
            {it["message_id"] for it in again["messages"]}, {it["message_id"] for it in letters}, "looking takes none away"
        )
        for name in ("user",):
            self.problem(self.ask("GET", "/v1/dead-letters", headers=bearer(name)), 403)
            self.problem(self.ask("POST", "/v1/dead-letters/replay", {"all": True}, bearer(name)), 403)
        self.problem(self.ask("GET", "/v1/dead-letters"), 401)
        self.problem(self.ask("POST", "/v1/dead-letters/replay", {"all": True}), 401)
        for body in [{}, {"all": False}, {"id": 7}, {"id": "x", "all": True}, [], {"everything": True}]:
            with self.subTest(body=body):
                self.problem(self.ask("POST", "/v1/dead-letters/replay", body, bearer("root")), 400, 422)
        one = self.ask("POST", "/v1/dead-letters/replay", {"id": letters[0]["message_id"]}, bearer("root"))
        self.assertEqual(one.status, 200, one)
        self.assertEqual(one.json["replayed"], 1)
        every = self.ask("POST", "/v1/dead-letters/replay", {"all": True}, bearer("root"))
        self.assertEqual(set(every.json), {"replayed", "kept", "late"})


if __name__ == "__main__":
    unittest.main()
