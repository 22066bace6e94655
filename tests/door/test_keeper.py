"""Seed 000: the position keeper's callers, unchanged, against the door."""

import time
import unittest

import harness
import parallel
from client_keeper import GATEWAY_SECONDS, PositionKeeper, Refused, Unexpected
from harness import Door, bearer, secret, token_toml

load_tests = parallel.load_tests

HTTP = (
    '[http]\nauth = "tokens"\ncompat = ["position-keeper"]\nprefix = "/v2"\n'
    + harness.NO_LIMITS
    + token_toml("gateway", ["read", "command"], targets=["position-keeper"], holder="*")
    + token_toml("alice", ["read", "command"])
    + token_toml("viewer", ["read"], holder="*")
    + token_toml("elsewhere", ["command", "read"], targets=["pyelli"], holder="*")
)


class Keeper(Door):
    FLEET = HTTP + harness.KEEPER_TOML + harness.PYELLI_TOML + harness.QUICK

    def caller(self, user, token="gateway", prefix="/v2", seconds=GATEWAY_SECONDS):
        return PositionKeeper(f"{self.local.url}{prefix}", secret(token), user, seconds)

    def starts(self):
        return self.local.count("ec2:StartInstances")

    def setUp(self):
        super().setUp()
        self.before = self.starts()

    def tearDown(self):
        self.local.no_faults()
        self.local.ask("POST", "/v1/commands?wait=20", {"action": "kill", "target": "position-keeper"}, bearer("gateway"))


class Day(Keeper):
    """A working day of two users."""

    def test_a_day(self):
        alice, bob = self.caller("alice"), self.caller("bob")
        status = alice.status()
        self.assertEqual(status["lock_status"], "idle")
        self.assertEqual(
            status["instance_status"], {"ec2_state": "stopped", "service_state": "n/a", "overall_status": "stopped"}
        )
        self.assertIsNone(status["expires_at"])
        before = self.starts()

        started = alice.start()
        self.assertIs(started["started"], True)
        self.assertTrue(started["message"])
        self.assertEqual(started["current_state"], "running")
        status = alice.status()
        self.assertEqual(status["lock_status"], "running")
        self.assertEqual(status["instance"], harness.KEEPER)
        self.assertEqual(
            status["instance_status"], {"ec2_state": "running", "service_state": "active", "overall_status": "running"}
        )

        with self.assertRaises(Refused) as again:
            alice.start()
        self.assertEqual(again.exception.holder, "alice")
        with self.assertRaises(Refused) as locked:
            bob.start()
        self.assertTrue(locked.exception.body["error"])
        self.assertIn("status", locked.exception.body)
        self.assertIn("expires_at", locked.exception.body)
        self.assertEqual(locked.exception.holder, "alice")

        # Once, anyone's stop took the lock of someone else away.
        self.assertIs(bob.stop()["stopped"], False)
        self.assertEqual(alice.status()["lock_status"], "running")

        stopped = alice.stop()
        self.assertIs(stopped["stopped"], True)
        self.assertTrue(stopped["message"])
        self.assertEqual(stopped["previous_state"], "running")
        self.assertEqual(alice.status()["instance_status"]["overall_status"], "stopped")
        again = alice.stop()
        self.assertIs(again["stopped"], False)
        self.assertEqual(self.starts(), before + 1)

        self.assertIs(bob.start()["started"], True)
        self.assertIs(bob.stop()["stopped"], True)
        self.assertEqual(self.starts(), before + 2)

    def test_retried_starts_start_once(self):
        before = self.starts()
        answers = self.side_by_side(6, lambda _: self.caller("alice").start())
        won = [answer for answer in answers if isinstance(answer, dict)]
        lost = [answer for answer in answers if isinstance(answer, Refused)]
        self.assertEqual(len(won) + len(lost), 6, answers)
        self.assertGreaterEqual(len(won), 1, answers)
        for answer in lost:
            self.assertEqual(answer.holder, "alice")
        self.assertEqual(self.starts(), before + 1)

    def test_the_same_key_is_the_same_start(self):
        headers = {**bearer("gateway"), "X-Current-User-Id": "alice", "Idempotency-Key": "of-alice"}
        answers = [self.ask("POST", "/v2/position-keeper/start", headers=headers) for _ in range(2)]
        self.assertEqual([answer.status for answer in answers], [201, 201], answers)
        self.assertEqual(answers[0].json, answers[1].json)
        other = self.ask("POST", "/v2/position-keeper/stop", headers=headers)
        self.assertIn(other.status, (409, 422), other)
        self.assertEqual(self.caller("alice").status()["lock_status"], "running")
        self.assertEqual(self.starts(), self.before + 1)

    def test_of_two_users_at_once_one_gets_it(self):
        answers = self.side_by_side(4, lambda index: self.caller(f"user-{index}").start())
        won = [answer for answer in answers if isinstance(answer, dict)]
        self.assertEqual(len(won), 1, answers)
        holder = self.caller("x").status()
        for answer in answers:
            if answer is not won[0]:
                self.assertIsInstance(answer, Refused, answers)
                self.assertRegex(answer.holder or "", "^user-[0-3]$", answer.body)
        self.assertEqual(holder["lock_status"], "running")

    def test_a_user_who_gave_up_waiting_finds_it_on(self):
        """The client's own timeout ends the connection; the start goes on."""
        with self.assertRaises((TimeoutError, OSError)):
            self.caller("alice", seconds=0.05).start()
        self.caller("alice").until("running", 20)
        self.assertIs(self.caller("alice").stop()["stopped"], True)


class Callers(Keeper):
    """Who says it, and how."""

    def refused(self, status, work):
        before = self.starts()
        with self.assertRaises(Unexpected) as refused:
            work()
        self.assertEqual(refused.exception.status, status)
        self.assertIsInstance(refused.exception.body, dict)
        self.assertEqual(self.starts(), before)

    def test_a_wrong_token_is_401_and_a_right_that_is_lacking_403(self):
        self.refused(401, self.caller("alice", "nobody").start)
        self.refused(401, self.caller("alice", "nobody").status)
        self.refused(401, self.caller("alice", "nobody").stop)
        self.refused(403, self.caller("alice", "viewer").start)
        self.refused(403, self.caller("alice", "viewer").stop)
        self.assertEqual(self.caller("alice", "viewer").status()["lock_status"], "idle")
        for verb in ("start", "stop", "status"):
            with self.subTest(verb), self.assertRaises(Unexpected) as refused:
                getattr(self.caller("alice", "elsewhere"), verb)()
            self.assertIn(refused.exception.status, (403, 404))
        self.assertEqual(self.starts(), self.before)

    def test_without_the_prefix_there_is_nothing(self):
        self.refused(404, self.caller("alice", prefix="").start)
        self.refused(404, self.caller("alice", prefix="/v2/v2").start)
        self.refused(404, self.caller("alice", prefix="/V2").start)

    def test_a_token_that_speaks_for_one_holder_speaks_for_no_other(self):
        try:
            answer = self.caller("bob", "alice").start()
        except Unexpected as refused:
            self.assertEqual(refused.status, 403)
            self.assertEqual(self.starts(), self.before)
        else:
            self.assertIs(answer["started"], True)
        holds = self.local.target("position-keeper", bearer("gateway"))["holds"]
        self.assertNotIn("bob", str(holds))
        # Its own name goes, said or not.
        for user in ("alice", ""):
            try:
                self.caller(user, "alice").start()
            except Refused as held:
                self.assertEqual(held.holder, "alice")
        holds = self.local.target("position-keeper", bearer("gateway"))["holds"]
        self.assertIn("alice", str(holds))
        self.assertEqual(len(holds), 1, holds)

    def test_strange_users(self):
        """Each is refused or is exactly the holder; none becomes another line, header or holder."""
        for user in ["a b", "ü", "x" * 300, "<script>", "';--", "..", "a\tb", "%0d%0aX: y"]:
            with self.subTest(user=user[:20]):
                answer = self.ask(
                    "POST", "/v2/position-keeper/start", headers={**bearer("gateway"), "X-Current-User-Id": user.encode()}
                )
                self.assertIn(answer.status, (201, 400, 422), answer)
                if answer.status == 201:
                    holds = self.local.target("position-keeper", bearer("gateway"))["holds"]
                    self.assertEqual([hold["holder"] for hold in holds], [user])
                    self.assertEqual(self.caller(user.encode().decode("latin-1")).stop()["stopped"], True)

    def test_two_users_in_one_request_are_none(self):
        head = (
            f"POST /v2/position-keeper/start HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {secret('gateway')}\r\n"
            "X-Current-User-Id: alice\r\nX-Current-User-Id: bob\r\nContent-Length: 0\r\n\r\n"
        )
        answer = self.local.raw(head.encode())
        self.assertIn(answer.status, (400, 422, 403), answer)
        self.assertEqual(self.starts(), self.before)


class Lease(Keeper):
    """An expired lock must not keep anyone out."""

    FLEET = HTTP + harness.KEEPER_TOML + 'max_hold = "8s"\n' + harness.PYELLI_TOML + harness.QUICK

    def test_an_expired_hold_frees_the_keeper(self):
        alice, bob = self.caller("alice"), self.caller("bob")
        alice.start()
        self.assertIsNotNone(alice.status()["expires_at"])
        with self.assertRaises(Refused) as held:
            bob.start()
        self.assertIsNotNone(held.exception.expires_at)
        alice.until("stopped", 40)
        self.assertEqual(bob.status()["lock_status"], "idle")
        self.assertIs(bob.start()["started"], True)


class SlowBoot(Keeper):
    """A gateway waits 29 s; the machine takes 40."""

    FLEET = HTTP + harness.KEEPER_TOML + harness.PYELLI_TOML + harness.QUICK.replace('boot = "300ms"', 'boot = "40s"', 1)

    def test_no_gateway_waits_in_vain(self):
        began = time.monotonic()
        answer = self.ask(
            "POST", "/v2/position-keeper/start", headers={**bearer("gateway"), "X-Current-User-Id": "alice"}, seconds=60
        )
        took = time.monotonic() - began
        self.assertLess(took, 29, answer)
        self.assertEqual(answer.status, 202, answer)
        self.assertGreater(took, 15, "it did not wait at all")
        said = answer.json
        for field in ("message", "started", "current_state"):
            self.assertIn(field, said)
        self.assertEqual(said["current_state"], "pending")
        self.assertEqual(self.caller("bob").status()["instance_status"]["overall_status"], "starting")
        with self.assertRaises(Refused) as pending:
            self.caller("bob").start()
        self.assertEqual(pending.exception.holder, "alice")
        # The gateway's client tries again: it is told that it is pending, or waits for its own start.
        try:
            self.assertEqual(self.caller("alice").start()["current_state"], "running")
        except Refused as again:
            self.assertEqual(again.holder, "alice")
        seen = self.caller("alice").until("running", 60, every=1)
        self.assertEqual(seen[-1], "running")
        self.assertEqual(self.starts(), 1)


class Broken(Keeper):
    """The unit fails after boot: that is no 201, and the machine does not go on costing money."""

    FLEET = Keeper.FLEET + '[local.machines.position-keeper.units.positionkeeper]\nafter_boot = "failed"\n'

    def test_a_unit_that_fails_is_no_start(self):
        with self.assertRaises(Unexpected) as failed:
            self.caller("alice").start()
        self.assertGreaterEqual(failed.exception.status, 500, failed.exception)
        self.assertIn("error", failed.exception.body)
        harness.eventually("it is off", lambda: self.local.machine(harness.KEEPER)["state"] == "stopped")
        # And its lock is gone with it.
        self.assertEqual(self.caller("alice").status()["lock_status"], "idle")


if __name__ == "__main__":
    unittest.main()
