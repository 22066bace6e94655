"""The queue away, the table away, the worker away: what cannot be known is said so, soon, and passes."""

import threading
import time
import unittest

import harness
import parallel
from harness import Door

load_tests = parallel.load_tests

START = {"action": "start", "target": "pyelli"}
ANSWER_SECONDS = 29


class Away(Door):
    FLEET = '[defaults]\ntarget = "pyelli"\n' + harness.OPEN + harness.ALL_TARGETS + harness.QUICK
    # What the door writes and reads, but not what the worker needs to go on.
    QUEUE = [{"service": "sqs", "operation": name, "kind": "before"} for name in ("SendMessage", "SendMessageBatch")]
    TABLE = [{"service": "dynamodb", "kind": "before"}]

    def tearDown(self):
        self.local.no_faults()
        self.local.ask("POST", "/v1/commands?wait=20", {"action": "kill", "target": "pyelli"})
        self.local.ask("POST", "/v1/commands?wait=20", {"action": "kill", "target": "position-keeper"})

    def timed(self, method, path, body=None, headers=(), seconds=45.0):
        began = time.monotonic()
        answer = self.ask(method, path, body, headers, seconds)
        self.assertLess(time.monotonic() - began, ANSWER_SECONDS, answer)
        return answer

    def back(self):
        self.local.no_faults()
        harness.eventually("it is ready again", lambda: self.local.ask("GET", "/readyz").status == 200)
        answer = self.ask("POST", "/v1/commands?wait=20", START)
        self.assertEqual((answer.status, answer.json.get("state")), (200, "done"), answer)

    def unavailable(self, answer):
        """503 in the words of a seed's path."""
        self.assertEqual(answer.status, 503, answer)
        self.assertRegex(answer.headers.get("retry-after", ""), r"^[1-9][0-9]*$")
        self.assertIsInstance(answer.json, dict)

    SEEDS = [
        ("POST", "/position-keeper/start", None), ("POST", "/position-keeper/stop", None), ("POST", "/wake", {}),
        ("POST", "/kill", {}),
        ("POST", "/", {"action": "start"}), ("POST", "/api/instances", {"blob_id": "abcdefgh"}),
    ]  # fmt: skip
    LOOKS = [
        ("GET", "/position-keeper/status", None), ("GET", "/status", None), ("GET", "/api/instances", None),
        ("GET", "/api/instances/i-0123456789abcdef0", None),
    ]  # fmt: skip


class QueueAway(Away):
    def test_the_queue_refuses(self):
        self.local.faults(*self.QUEUE)
        self.problem(self.timed("POST", "/v1/commands", START), 503)
        self.problem(self.timed("POST", "/v1/commands?wait=5", START, {"Idempotency-Key": "q-1"}), 503)
        for method, path, body in self.SEEDS:
            with self.subTest(path=path):
                self.unavailable(self.timed(method, path, body))
        self.assertEqual(self.ask("GET", "/v1/targets").status, 200, "what can be read is still read")
        self.assertEqual(self.ask("GET", "/healthz").status, 200)
        self.assertEqual(self.started(), 0)
        self.back()
        # What was refused was not sent: nothing of it comes later.
        self.assertEqual(self.started(), 1)

    def test_a_key_that_was_refused_can_be_used_again(self):
        self.local.faults(*self.QUEUE)
        self.problem(self.timed("POST", "/v1/commands", START, {"Idempotency-Key": "q-2"}), 503)
        self.local.no_faults()
        answer = self.timed("POST", "/v1/commands?wait=20", START, {"Idempotency-Key": "q-2"})
        self.assertEqual((answer.status, answer.json.get("state")), (200, "done"), answer)

    def test_the_queue_throttles_for_a_moment(self):
        self.local.faults({"service": "sqs", "operation": "SendMessage", "kind": "throttle", "count": 1})
        self.assertEqual(self.timed("POST", "/v1/commands", START).status, 202)


class QueueHangs(Away):
    def test_the_queue_answers_too_late(self):
        self.local.faults({"service": "sqs", "operation": "SendMessage", "kind": "hold"})
        answers = self.side_by_side(
            3,
            lambda index: self.timed(
                "POST", *[("/v1/commands", START), ("/position-keeper/start", None), ("/wake", {})][index]
            ),
        )
        for answer in answers:
            # What was sent all the same may be done before its answer is missed.
            self.assertIn(getattr(answer, "status", answer), (200, 201, 202, 503), answer)
        self.assertEqual(self.local.ask("GET", "/healthz").status, 200)
        self.back()


class TableAway(Away):
    def test_the_table_refuses(self):
        self.local.faults(*self.TABLE)
        self.assertEqual(self.timed("GET", "/healthz").status, 200)
        self.problem(self.timed("GET", "/readyz"), 503)
        for path in (
            "/v1/targets/pyelli",
            "/v1/targets/pyelli/why",
            "/v1/targets/pyelli/history",
            "/v1/commands/x",
            "/v1/commands/x?wait=3",
            "/v1/targets",
        ):
            with self.subTest(path=path):
                answer = self.timed("GET", path)
                self.problem(answer, 503)
        for method, path, body in self.LOOKS:
            with self.subTest(path=path):
                self.unavailable(self.timed(method, path, body))
        # A command goes to the queue: 202, its outcome not being known, or 503 before it is sent. Never both.
        before = self.local.sent()
        answer = self.timed("POST", "/v1/commands?wait=2", START)
        if answer.status == 503:
            self.problem(answer, 503)
            self.assertEqual(self.local.sent(), before)
        else:
            self.assertEqual(answer.status, 202, answer)
        self.assertEqual(self.timed("GET", "/v1/me").status, 200)
        self.back()

    def test_the_table_throttles_for_a_moment(self):
        self.local.faults({"service": "dynamodb", "kind": "throttle", "count": 2})
        self.assertEqual(self.timed("GET", "/v1/targets/pyelli").status, 200)


class TableHangs(Away):
    def test_the_table_answers_too_late(self):
        self.local.faults({"service": "dynamodb", "kind": "hold"})
        paths = ["/v1/targets", "/v1/targets/pyelli", "/v1/commands/x?wait=5", "/position-keeper/status", "/status", "/readyz"]
        answers = self.side_by_side(len(paths), lambda index: self.timed("GET", paths[index]))
        for path, answer in zip(paths, answers):
            self.assertEqual(getattr(answer, "status", answer), 503, (path, answer))
        self.assertEqual(self.timed("GET", "/healthz").status, 200)
        self.back()


class Flaky(Away):
    """What comes and goes while somebody waits."""

    def test_the_table_goes_and_comes_while_somebody_waits(self):
        self.local.faults({"service": "ec2", "operation": "StartInstances", "kind": "slow", "hold": "2s"})
        answers = []
        waiting = threading.Thread(
            target=lambda: answers.append(self.local.ask("POST", "/v1/commands?wait=25", START)), daemon=True
        )
        waiting.start()
        harness.eventually("it is asked", lambda: self.started() == 1)
        self.local.faults(*self.TABLE)
        time.sleep(2)
        self.local.no_faults()
        waiting.join(35)
        self.assertEqual([(answer.status, answer.json["state"]) for answer in answers], [(200, "done")], answers)

    def test_clients_that_try_again_start_once(self):
        """Answers lost, calls refused, twenty clients with one key: each is answered, one machine is started."""
        self.local.faults(
            {"service": "sqs", "operation": "SendMessage", "kind": "after", "probability": 0.3},
            {"service": "sqs", "operation": "SendMessage", "kind": "before", "probability": 0.3},
            {"service": "dynamodb", "kind": "throttle", "probability": 0.2},
        )

        def client(_):
            for _ in range(10):
                answer = self.local.ask("POST", "/v1/commands?wait=10", START, {"Idempotency-Key": "flaky"})
                if answer.status == 200:
                    break
                self.assertIn(answer.status, (202, 503), answer)
            return answer

        answers = self.side_by_side(20, client)
        self.local.no_faults()
        for answer in answers:
            self.assertEqual(getattr(answer, "status", answer), 200, answer)
            self.assertEqual(answer.json["outcome"], answers[0].json["outcome"])
        self.assertEqual(self.started(), 1)


class NoWorker(Door):
    """Nobody works: what is asked is taken (202), and no caller hangs."""

    FLEET = '[defaults]\ntarget = "pyelli"\n' + harness.OPEN + harness.ALL_TARGETS + harness.QUICK
    ARGUMENTS = ("--no-worker",)

    def test_no_caller_hangs(self):
        asked = [
            ("POST", "/v1/commands", START, {}, 3, (202,)), ("POST", "/v1/commands?wait=3", START, {}, 6, (202,)),
            ("POST", "/v1/commands", START, {"Prefer": "wait=2"}, 5, (202,)),
            ("POST", "/position-keeper/start", None, {"X-Current-User-Id": "alice"}, ANSWER_SECONDS, (202,)),
            ("POST", "/position-keeper/stop", None, {"X-Current-User-Id": "alice"}, ANSWER_SECONDS, (200, 202)),
            ("GET", "/position-keeper/status", None, {}, ANSWER_SECONDS, (200,)),
            ("POST", "/wake", {}, {}, ANSWER_SECONDS, (200, 202)), ("POST", "/kill", {}, {}, ANSWER_SECONDS, (200, 202)),
            ("GET", "/status", None, {}, ANSWER_SECONDS, (200,)),
            ("POST", "/", {"action": "start"}, {}, ANSWER_SECONDS, (200, 202)),
            ("POST", "/", {"action": "check_idle"}, {}, ANSWER_SECONDS, (200, 202)),
            ("POST", "/api/instances", {"blob_id": "abcdefgh"}, {"Prefer": "wait=2"}, 6, (202,)),
            ("POST", "/api/instances", {"blob_id": "abcdefgi"}, {"Prefer": "respond-async"}, 3, (202,)),
            ("GET", "/api/instances", None, {}, 5, (200,)),
            ("DELETE", "/api/instances/i-0123456789abcdef0", None, {}, ANSWER_SECONDS, (404,)),
            ("GET", "/v1/targets", None, {}, 5, (200,)),
            ("GET", "/v1/targets/pyelli", None, {}, 5, (200,)), ("GET", "/v1/targets/pyelli/history", None, {}, 5, (200,)),
            ("GET", "/v1/targets/pyelli/why", None, {}, 5, (200,)), ("GET", "/readyz", None, {}, 5, (200,)),
        ]  # fmt: skip

        def run(index):
            method, path, body, headers, _, _ = asked[index]
            began = time.monotonic()
            answer = self.local.ask(method, path, body, headers, 60)
            return answer, time.monotonic() - began

        answers = self.side_by_side(len(asked), run)
        for (method, path, _, headers, seconds, statuses), answer in zip(asked, answers):
            with self.subTest(method=method, path=path, headers=headers):
                self.assertIsInstance(answer, tuple, answer)
                self.assertIn(answer[0].status, statuses, answer[0])
                self.assertLess(answer[1], seconds)
        self.assertEqual(self.started(), 0)

    def test_a_command_that_waits_can_be_followed(self):
        answer = self.ask("POST", "/v1/commands", {**START, "id": "follow-me"})
        self.assertEqual(answer.json["state"], "sent")
        followed = self.ask("GET", answer.headers["location"])
        # Nobody has taken it: the door may say so, or that it knows no such command yet; not an error of its own.
        self.assertIn(followed.status, (200, 202, 404), followed)
        if followed.status != 404:
            self.assertEqual(followed.json["state"], "sent")
        began = time.monotonic()
        self.ask("GET", answer.headers["location"] + "?wait=2")
        self.assertLess(time.monotonic() - began, 5)


if __name__ == "__main__":
    unittest.main()
