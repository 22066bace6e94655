"""Seed 001: Fluidity's agent and its operator, unchanged, against the door."""

import time
import unittest

import harness
import parallel
from client_fluidity import Agent, Failed
from harness import Door, bearer, secret, token_toml

load_tests = parallel.load_tests


class Fluidity(Door):
    FLEET = harness.OPEN + harness.ALL_TARGETS + harness.QUICK

    def agent(self, cluster="fluidity-prod", service="fluidity-server-prod", **more):
        return Agent(self.local.url, cluster, service, **more)

    def raises(self):
        """How often the count was set to 1."""
        calls = self.local.control("GET", "/calls")["calls"]
        return sum(it["operation"] == "UpdateService" and "desiredCount 1" in it["target"] for it in calls)

    def tearDown(self):
        self.agent().kill()
        self.local.until_phase("fluidity", "off")


class Life(Fluidity):
    def test_the_life_of_an_agent(self):
        agent, before = self.agent(), self.raises()
        status = agent.status()
        self.assertEqual(status["desiredCount"], 0)
        self.assertEqual(status["runningCount"], 0)

        began = time.monotonic()
        first = agent.wake()
        self.assertLess(time.monotonic() - began, 5, "wake answers at once")
        self.assertEqual(first["action"], "wake")
        self.assertIn(first["status"], ("waking", "starting", "already_running"))
        self.assertNotEqual(first["status"], "already_running")
        for field in ("runningCount", "pendingCount", "estimatedStartTime", "message"):
            self.assertIn(field, first)

        answers = agent.run(20)
        self.assertEqual(answers[-1]["status"], "already_running")
        self.assertLessEqual({it["status"] for it in answers}, {"waking", "starting", "already_running"})
        # `desired + 1` started two under a client that tries again.
        self.assertEqual(self.raises(), before + 1)
        self.assertEqual(agent.status()["runningCount"], 1)

        killed = agent.kill()
        self.assertEqual(killed["action"], "kill")
        self.assertEqual(killed["status"], "killed")
        self.assertTrue(killed["message"])
        status = agent.status()
        self.assertEqual((status["desiredCount"], status["runningCount"]), (0, 0))
        self.assertEqual(agent.kill()["desiredCount"], 0)

    def test_fifty_agents_wake_one_service(self):
        before = self.raises()
        answers = self.side_by_side(50, lambda _: self.agent().wake())
        for answer in answers:
            # On a busy machine some are only on the queue after 10 s (202, and nothing to read a count from).
            self.assertIsInstance(answer, (dict, KeyError), answer)
        self.agent().run(20)
        self.assertEqual(self.raises(), before + 1)

    def test_a_wake_after_a_kill_is_not_lost(self):
        agent = self.agent()
        agent.run(20)
        killing = self.side_by_side(2, lambda index: agent.kill() if index else (time.sleep(0.15), agent.wake())[1])
        for answer in killing:
            self.assertIsInstance(answer, dict, answer)
        harness.eventually("it runs again", lambda: agent.status()["runningCount"] == 1)


class Payloads(Fluidity):
    def test_payloads_of_aws_lambda_invoke(self):
        agent = self.agent()
        for payload in [
            {"clusterName": "fluidity-prod", "serviceName": "fluidity-server-prod"},
            {"cluster_name": "fluidity-prod", "service_name": "fluidity-server-prod"},
            {},
            None,
        ]:
            with self.subTest(payload=payload):
                self.assertEqual(agent.invoke("wake", payload)["desiredCount"], 1)
                harness.eventually("it runs", lambda: agent.status()["runningCount"] == 1)
                self.assertEqual(agent.invoke("kill", payload)["desiredCount"], 0)

    def test_a_function_urls_event_is_unpacked_or_refused(self):
        """Nobody sends the envelope over HTTP; whatever is made of it, it wakes this service or nothing."""
        agent = self.agent()
        try:
            answer = agent.function_url_event("wake", agent.payload)
        except Failed as refused:
            self.assertIn(refused.status, (400, 422))
            self.assertEqual(self.started(), 0)
        else:
            self.assertEqual(answer.get("desiredCount"), 1, answer)
            self.assertEqual(self.local.count("ec2:StartInstances"), 0)

    def test_actions_that_the_payload_names(self):
        """One URL for all, as with the function's own: `POST /`, told apart by the body."""
        agent = self.agent()
        self.assertEqual(agent.invoke("", {"action": "wake", **agent.payload})["desiredCount"], 1)
        harness.eventually("it runs", lambda: agent.status()["runningCount"] == 1)
        self.assertEqual(agent.invoke("", {"action": "kill", **agent.payload})["desiredCount"], 0)

    def test_a_path_and_a_payload_that_disagree(self):
        agent = self.agent()
        with self.assertRaises(Failed) as refused:
            agent.invoke("kill", {"action": "wake", **agent.payload})
        self.assertIn(refused.exception.status, (400, 409, 422))
        self.assertEqual(self.started(), 0)

    def test_other_peoples_services_are_not_touched(self):
        for cluster, service in [
            ("fluidity-prod", "other"), ("other", "fluidity-server-prod"), ("", ""), ("fluidity-prod/../x", "y"), ("*", "*"),
        ]:  # fmt: skip
            with self.subTest(cluster=cluster, service=service), self.assertRaises(Failed) as refused:
                self.agent(cluster, service).wake()
            self.assertIn(refused.exception.status, (400, 403, 404, 422))
        with self.assertRaises(Failed) as refused:
            self.agent().invoke("wake", {"clusterName": "fluidity-prod"})
        self.assertIn(refused.exception.status, (400, 404, 422))
        self.assertEqual(self.started(), 0)

    def test_a_payload_that_names_another_target(self):
        """`/wake` is Fluidity's path: a payload must not reach a machine of another team through it."""
        for payload in [{"target": "position-keeper"}, {"instance_id": harness.KEEPER}, {"target": "walrus"}]:
            with self.subTest(payload=payload), self.assertRaises(Failed) as refused:
                self.agent().invoke("wake", payload)
            self.assertIn(refused.exception.status, (400, 403, 404, 409, 422))
        self.assertEqual(self.started(), 0)

    def test_what_is_no_json(self):
        for data in [b"not json", b"[]", b'"x"', b"1", b'{"clusterName": "fluidity-prod"', b"clusterName=a&serviceName=b"]:
            with self.subTest(data=data):
                answer = self.ask("POST", "/wake", data, {"Content-Type": "application/x-www-form-urlencoded"})
                self.assertIn(answer.status, (400, 422), answer)
                self.assertEqual(answer.media.rsplit("+")[-1].rsplit("/")[-1], "json", answer)
        self.assertEqual(self.started(), 0)


class WithTokens(Door):
    FLEET = (
        '[http]\nauth = "tokens"\ncompat = ["fluidity"]\n'
        + harness.NO_LIMITS
        + token_toml("agent", ["command"], targets=["fluidity"])
        + token_toml("both", ["command", "read"], targets=["fluidity"])
        + harness.FLUIDITY_TOML
        + harness.QUICK
    )

    def test_rights(self):
        asked = Agent(self.local.url, "fluidity-prod", "fluidity-server-prod", secret("agent"))
        self.assertEqual(asked.wake()["desiredCount"], 1)
        both = Agent(self.local.url, "fluidity-prod", "fluidity-server-prod", secret("both"))
        harness.eventually("it runs", lambda: both.status()["runningCount"] == 1)
        with self.assertRaises(Failed) as refused:
            Agent(self.local.url, "fluidity-prod", "fluidity-server-prod").wake()
        self.assertEqual(refused.exception.status, 401)
        # `kill` is everyone's hold; the right `command` has it.
        self.assertEqual(asked.kill()["desiredCount"], 0)
        self.assertEqual(self.local.ask("GET", "/v1/targets/fluidity", headers=bearer("both")).json["phase"], "off")

    def test_paths_that_were_not_asked_for_are_not_there(self):
        for method, path in [
            ("POST", "/position-keeper/start"), ("POST", "/"), ("POST", "/api/instances"), ("GET", "/api/instances"),
        ]:  # fmt: skip
            with self.subTest(path=path):
                answer = self.ask(method, path, {"action": "start"} if method == "POST" else None, bearer("both"))
                self.problem(answer, 404, 405)


class Slow(Fluidity):
    """ECS that takes its time: `kill` answers before a gateway gives up."""

    def tearDown(self):
        self.local.no_faults()
        super().tearDown()

    def test_kill_answers_in_time(self):
        agent = self.agent()
        agent.run(20)
        self.local.faults({"service": "ecs", "operation": "UpdateService", "kind": "throttle"})
        began = time.monotonic()
        answer = self.ask("POST", "/kill", agent.payload, seconds=60)
        self.assertLess(time.monotonic() - began, 29, answer)
        self.assertEqual(answer.status, 202, answer)
        self.assertIn("desiredCount", answer.json)


if __name__ == "__main__":
    unittest.main()
