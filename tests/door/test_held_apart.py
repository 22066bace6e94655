"""What one caller must not do to another's, nor to the schedules; and what is said of a command that may have gone out."""

import time
import unittest

import harness
import parallel
from harness import Door, bearer, token_toml

load_tests = parallel.load_tests

MACHINE = "walrus.0000000000000000"
TOKENS = {
    "one": (["read", "command"], {"targets": [MACHINE], "holder": "*"}),
    "keeper": (["read", "command"], {"targets": ["position-keeper"], "holder": "*"}),
    "gateway": (["read", "command"], {"holder": "*"}),
    "waiter": (["wait"], {"targets": ["pyelli"]}),
}
SET = "".join(token_toml(name, may, **more) for name, (may, more) in TOKENS.items())
WAIT = '[http.wait.pyelli]\nto = ["https://app.example.com/"]\n'
HELD = harness.ALL_TARGETS.replace(f'instance_id = "{harness.PYELLI}"', f'instance_id = "{harness.PYELLI}"\nmax_hold = "8h"')


class HeldApart(Door):
    FLEET = f'[http]\nauth = "tokens"\n{harness.COMPAT}{harness.NO_LIMITS}{SET}{WAIT}' + HELD + harness.QUICK

    def test_one_machine_is_not_its_template(self):
        """A create that names a machine asks for that one, whoever may have all of them."""
        create = {"action": "create", "target": MACHINE, "blob_id": "abcdefgh"}
        answer = self.ask("POST", "/v1/commands?wait=20", create, bearer("one"))
        if answer.status == 200:
            self.assertIn(answer.json["target"], (MACHINE, None), answer)
        plain = self.ask("POST", "/v1/commands", {"action": "create", "blob_id": "abcdefgh"}, bearer("one"))
        self.problem(plain, 404)
        known = self.ask("GET", "/v1/targets", headers=bearer("gateway")).json["targets"]
        made = [it["target"] for it in known if it.get("blob_id") == "abcdefgh"]
        self.assertLessEqual(set(made), {MACHINE})

    def test_a_schedules_ids_are_its_own(self):
        for key in ("tick:nightly:2026-11-26T23:00:00Z", "tick:"):
            with self.subTest(key=key):
                start = {"action": "status", "target": "position-keeper"}
                headers = {**bearer("keeper"), "Idempotency-Key": key}
                self.problem(self.ask("POST", "/v1/commands", start, headers), 400)
                self.problem(self.ask("POST", "/v1/commands", {**start, "id": key}, bearer("keeper")), 400)
        self.assertEqual(self.sent(), 0)

    def test_a_body_does_not_speak_for_another_than_its_header(self):
        headers = {**bearer("gateway"), "X-Current-User-Id": "mallory"}
        for path in ("/position-keeper/start", "/position-keeper/stop"):
            answer = self.ask("POST", path, {"holder": "victim"}, headers)
            self.assertEqual(answer.status, 400, answer)
        self.problem(self.ask("POST", "/v1/commands", {"action": "stop", "target": "pyelli", "holder": "victim"}, headers), 400)
        self.assertEqual(self.sent(), 0)
        # It has ended before the next test counts messages.
        status = {"action": "status", "target": "pyelli", "holder": "mallory"}
        same = self.ask("POST", "/v1/commands?wait=20", status, headers)
        self.assertEqual(same.status, 200, same)

    def test_what_is_anothers_is_not_known(self):
        start = {"action": "status", "target": "pyelli", "id": "of-the-gateway"}
        self.assertEqual(self.ask("POST", "/v1/commands?wait=20", start, bearer("gateway")).status, 200)
        now = int(time.time())
        for path in ("/v1/commands/{}", "/v1/commands/{}?sent=" + str(now), "/v1/commands/{}?wait=1"):
            mine = self.ask("GET", path.format("never-sent"), headers=bearer("keeper"))
            others = self.ask("GET", path.format("of-the-gateway"), headers=bearer("keeper"))
            self.assertEqual(mine.status, others.status, path)
            self.assertEqual(mine.text.replace("never-sent", "X"), others.text.replace("of-the-gateway", "X"))
        used = {"action": "status", "target": "position-keeper", "id": "of-the-gateway"}
        refused = self.ask("POST", "/v1/commands", used, bearer("keeper"))
        self.problem(refused, 422)
        self.assertNotIn("202", refused.json["detail"])

    def test_a_link_tells_neither_holders_nor_awss_words(self):
        refused = {"service": "ec2", "operation": "StartInstances", "kind": "before", "code": "InvalidParameterValue",
                   "status": 400, "message": "arn:aws:sts::316490106381:assumed-role/worker is not valid"}  # fmt: skip
        self.local.faults(refused)
        self.addCleanup(self.local.no_faults)
        path = "/wait/pyelli?to=https://app.example.com/"
        self.assertEqual(self.ask("POST", path, headers=bearer("waiter")).status, 202)
        state = "/wait/pyelli/state?to=https://app.example.com/"

        def failed():
            answer = self.ask("GET", state, headers=bearer("waiter"))
            return answer if answer.json.get("failed") else None

        answer = harness.eventually("the wait fails", failed)
        self.assertIn("invalid", answer.json["failed"])
        for word in ("arn:", "316490106381", "waiter", "worker"):
            self.assertNotIn(word, answer.text)
        full = self.ask("GET", "/v1/targets/pyelli", headers=bearer("gateway"))
        self.assertIn("316490106381", full.text)

    def test_a_repetition_is_answered_with_what_is_known(self):
        headers = {**bearer("gateway"), "Idempotency-Key": "w1"}
        body = {"blob_id": "repeated"}
        first = self.ask("POST", "/api/instances", body, headers)
        self.assertEqual(first.status, 201, first)
        again = self.ask("POST", "/api/instances", body, {**headers, "Prefer": "respond-async"})
        self.assertEqual((again.status, again.json["instance_id"]), (201, first.json["instance_id"]), again)

    def test_a_wrong_method_is_told_the_right_ones(self):
        for method, path, allowed in [
            ("DELETE", "/v1/commands", "POST"), ("POST", "/v1/targets", "GET"), ("PUT", "/wait/pyelli", "POST"),
            ("GET", "/wake", "POST"), ("DELETE", "/position-keeper/status", "GET"), ("PUT", "/api/instances", "POST"),
        ]:  # fmt: skip
            with self.subTest(path=path):
                answer = self.ask(method, path, headers=bearer("gateway"))
                self.assertEqual(answer.status, 405, answer)
                self.assertIn(allowed, answer.headers["allow"].replace(" ", "").split(","))


class Slow(Door):
    """A gateway that waits for 29 s gets an answer, however slow AWS is."""

    FLEET = harness.OPEN + harness.ALL_TARGETS + harness.QUICK
    ARGUMENTS = ("--no-worker",)

    def test_a_slow_aws_is_answered_for_in_time(self):
        slow = [{"kind": "slow", "hold": "4s", "service": service, "operation": operation}
                for service, operation in (("sqs", "SendMessage"), ("dynamodb", "GetItem"), ("dynamodb", "BatchGetItem"))]  # fmt: skip
        self.local.faults(*slow)
        self.addCleanup(self.local.no_faults)
        paths = [("/position-keeper/start", None), ("/wake", {}), ("/", {"action": "check_idle", "target": "pyelli"})]

        def timed(index):
            began = time.monotonic()
            path, body = paths[index]
            answer = self.ask("POST", path, body, seconds=45.0)
            return path, answer, time.monotonic() - began

        for path, answer, took in self.side_by_side(len(paths), timed):
            self.assertIn(answer.status, (202, 503), (path, answer))
            self.assertLess(took, 29, path)
            self.assertTrue(answer.json.get("command"), answer)

    def test_a_send_whose_answer_was_lost_may_have_gone_out(self):
        lost = {"kind": "after", "service": "sqs", "operation": "SendMessage", "count": 1}
        throttled = {"kind": "throttle", "service": "sqs", "operation": "SendMessage"}
        self.local.faults(lost, throttled)
        self.addCleanup(self.local.no_faults)
        answer = self.ask("POST", "/v1/commands", {"action": "start", "target": "pyelli"})
        self.problem(answer, 503)
        self.assertIn("may have been sent", answer.json["detail"])
        self.assertIn(answer.json["command"], answer.json["detail"])


if __name__ == "__main__":
    unittest.main()
