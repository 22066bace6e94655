"""Seed 004: a front end of Walrus, unchanged, against the door."""

import re
import threading
import time
import unittest

import harness
import parallel
import wire
from client_walrus import Walrus
from harness import Door, secret, token_toml

load_tests = parallel.load_tests

BLOB = "Rk9vQmFyLWJsb2ItaWQtMTIzNDU2Nzg5MGFiY2RlZmc"
OBJECT = "0x" + "5c" * 32


class Machines(Door):
    FLEET = harness.OPEN + harness.ALL_TARGETS + harness.QUICK

    def setUp(self):
        super().setUp()
        self.client = Walrus(self.local.url, seconds=60)
        harness.eventually("none is listed", lambda: self.client.all().json["total"] == 0)
        self.before = self.launches()

    def launches(self):
        return self.local.count("ec2:RunInstances")

    def tearDown(self):
        for instance in self.client.all().json["instances"]:
            if instance.get("instance_id"):
                self.client.delete(instance["instance_id"])
        harness.eventually("all are gone", lambda: not self.running())

    def running(self):
        machines = self.local.control("GET", "/machines")["machines"]
        return [it["id"] for it in machines if it["launch"] and it["state"] not in ("terminated", "shutting-down")]

    def detail(self, reply, *statuses):
        """An error as FastAPI says it."""
        self.assertIn(reply.status, statuses, reply)
        self.assertIn("json", reply.headers["content-type"])
        self.assertTrue(reply.json["detail"], reply)
        return reply.json["detail"]


class Life(Machines):
    def test_create_list_look_and_delete(self):
        self.assertEqual(self.client.all().json, {"total": 0, "instances": []})
        made = self.client.create(BLOB)
        self.assertEqual(made.status, 201, made)
        said = made.json
        self.assertRegex(said["instance_id"], r"^i-[0-9a-f]{8,17}$")
        self.assertRegex(said["public_ip"], r"^[0-9]+(\.[0-9]+){3}$")
        self.assertEqual(said["status"], "ready")
        self.assertEqual(said["blob_id"], BLOB)
        self.assertTrue(said["message"])
        instance = said["instance_id"]

        every = self.client.all()
        self.assertEqual(every.status, 200)
        self.assertEqual(every.json["total"], 1)
        self.assertEqual(every.json["instances"][0]["instance_id"], instance)

        one = self.client.one(instance)
        self.assertEqual(one.status, 200, one)
        for field in ("blob_id", "processing_status", "created_at", "error"):
            self.assertIn(field, one.json)
        self.assertEqual(one.json["processing_status"], "ready")
        self.assertEqual(one.json["blob_id"], BLOB)
        self.assertIsNone(one.json["error"])
        name = self.local.machine(instance)["name"]
        self.assertTrue(re.match(r"^walrus-vm-\d{8}-\d{6}", name), name)

        gone = self.client.delete(instance)
        self.assertEqual(gone.status, 200, gone)
        self.assertIsInstance(gone.json, dict)
        self.assertEqual(self.local.machine(instance)["state"], "terminated")
        self.assertEqual(self.client.all().json["total"], 0, "it is removed when it is terminated")
        self.detail(self.client.delete("i-0123456789abcdef0"), 404)
        self.assertEqual(self.launches(), self.before + 1)

    def test_an_object_id(self):
        made = self.client.create(OBJECT, key="object_id")
        self.assertEqual(made.status, 201, made)
        self.assertEqual(made.json["status"], "ready")
        # What the seed's client calls a blob id may be an object's.
        made = self.client.create(OBJECT, key="blob_id")
        self.assertEqual(made.status, 201, made)

    def test_health(self):
        health = self.client.health()
        self.assertEqual(health.status, 200, health)
        self.assertIsInstance(health.json, dict)

    def test_a_page_asks_from_elsewhere_and_is_answered_without_a_star(self):
        reply = self.client.ask("GET", "/api/instances", headers={"Origin": "https://evil.example"})
        self.assertNotIn("access-control-allow-origin", reply.headers)


class Refusals(Machines):
    def test_what_is_missing_or_too_much(self):
        for body in [
            {}, {"blob_id": ""}, {"blob_id": None}, {"blob_id": ["a"]}, {"blob_id": {"a": 1}},
            {"blob_id": BLOB, "user_data": "#!/bin/sh"},
            {"blob_id": BLOB, "instance_type": "p5.48xlarge"}, {"blobid": BLOB},
        ]:  # fmt: skip
            with self.subTest(body=body):
                self.detail(self.client.ask("POST", "/api/instances", body), 400, 422)
        for body in [b"", b"{", b"[]", b"null", b"blob_id=x"]:
            with self.subTest(body=body):
                self.detail(self.client.ask("POST", "/api/instances", body), 400, 422)
        self.assertEqual(self.launches(), self.before)

    def test_ids_that_once_went_into_a_root_shell(self):
        for blob in [
            "$(reboot)", "`id`", "a;id", "a|id", "a&id", "a\nid", "a\0id", "../../etc", "a b", "a'b", 'a"b', "-o/etc/x",
            "é" * 40, "a" * 20_000,
        ]:  # fmt: skip
            for key in ("blob_id", "object_id"):
                with self.subTest(key=key, blob=blob[:20]):
                    self.detail(self.client.create(blob, key), 400, 422)
        self.assertEqual(self.launches(), self.before)

    def test_instances_that_are_not_ours(self):
        for instance in [
            "i-0123456789abcdef0", harness.KEEPER, harness.PYELLI, "walrus.0000000000000000", "position-keeper", "x" * 300,
            "%2e%2e", "i-%00", "..%2f..",
            "i-1%0d%0aX:y",
        ]:  # fmt: skip
            with self.subTest(instance=instance):
                self.detail(self.client.one(instance), 400, 404, 422)
                self.detail(self.client.delete(instance), 400, 404, 422)
        self.assertEqual(self.local.count("ec2:TerminateInstances"), 0)
        self.assertEqual(self.local.count("ec2:StopInstances"), 0)

    def test_methods(self):
        for method, path in [
            ("PUT", "/api/instances"), ("DELETE", "/api/instances"), ("POST", "/api/instances/i-1"), ("PATCH", "/"),
        ]:  # fmt: skip
            with self.subTest(method=method, path=path):
                self.detail(self.client.ask(method, path), 404, 405)


class Retries(Machines):
    FLEET = harness.OPEN + harness.ALL_TARGETS.replace("limit = 4", 'limit = 4\ndedupe = "blob_id"') + harness.QUICK

    def test_the_same_blob_is_the_same_machine(self):
        replies = self.side_by_side(4, lambda _: Walrus(self.local.url, seconds=60).create(BLOB))
        for reply in replies:
            self.assertEqual(getattr(reply, "status", reply), 201, reply)
        self.assertEqual(len({reply.json["instance_id"] for reply in replies}), 1)
        self.assertEqual(self.launches(), self.before + 1)

    def test_the_same_key_is_the_same_machine(self):
        key = {"Idempotency-Key": "create-1"}
        first = self.client.create(OBJECT, "object_id", **key)
        again = self.client.create(OBJECT, "object_id", **key)
        self.assertEqual((first.status, again.status), (201, 201), again)
        self.assertEqual(first.json["instance_id"], again.json["instance_id"])
        self.assertEqual(self.launches(), self.before + 1)
        self.detail(self.client.create(BLOB, **key), 409, 422)
        self.assertEqual(self.launches(), self.before + 1)

    def test_a_client_that_goes_away_leaves_nothing_behind(self):
        """The launch goes on, and whoever asks again with the same blob gets that machine."""
        with self.local.connect() as connection:
            connection.send(wire.request("POST", "/api/instances", {"blob_id": f"x{BLOB}"}))
            harness.eventually("it is asked", lambda: self.launches() == self.before + 1)
        again = self.client.create(f"x{BLOB}")
        self.assertEqual(again.status, 201, again)
        self.assertEqual(self.launches(), self.before + 1)


class Waiting(Machines):
    FLEET = harness.OPEN + harness.ALL_TARGETS + harness.QUICK.replace('bootstrap = "500ms"', 'bootstrap = "4s"')

    def test_it_answers_when_it_is_ready_and_no_sooner(self):
        began = time.monotonic()
        made = self.client.create(BLOB)
        self.assertEqual(made.status, 201, made)
        self.assertGreater(time.monotonic() - began, 4)
        self.assertEqual(self.client.one(made.json["instance_id"]).json["processing_status"], "ready")

    def test_on_the_way_its_states_are_the_documents(self):
        """waiting_for_instance → waiting_for_ssm → fetching_blob → ready"""
        done = []
        creating = threading.Thread(target=lambda: done.append(self.client.create(BLOB)), daemon=True)
        creating.start()
        seen = []
        while not done:
            for it in Walrus(self.local.url, seconds=60).all().json["instances"]:
                state = it.get("processing_status") or it.get("status")
                if state and (not seen or seen[-1] != state):
                    seen.append(state)
            time.sleep(0.05)
        creating.join()
        order = ["waiting_for_instance", "waiting_for_ssm", "fetching_blob", "ready"]
        self.assertLessEqual(set(seen), set(order), seen)
        self.assertIn("fetching_blob", seen)
        self.assertEqual(seen, sorted(seen, key=order.index))

    def test_respond_async_gives_a_place_to_ask(self):
        for prefer in ("respond-async", "wait=1"):
            with self.subTest(prefer=prefer):
                began = time.monotonic()
                accepted = self.client.create(BLOB, **{"Prefer": prefer})
                self.assertEqual(accepted.status, 202, accepted)
                self.assertLess(time.monotonic() - began, 4)
                where = accepted.headers["location"]
                self.assertTrue(where.startswith("/"), where)

                def ready(where=where):
                    found = self.client.ask("GET", where)
                    self.assertLess(found.status, 400, found)
                    return found.status == 200 and (
                        found.json.get("processing_status") == "ready" or found.json.get("state") == "done"
                    )

                harness.eventually("it is ready", ready)


class Broken(Machines):
    FLEET = harness.OPEN + harness.ALL_TARGETS + harness.QUICK + "bootstrap_exit = 7\n"

    def test_a_failure_says_so_and_ends_its_machine(self):
        reply = self.client.create(BLOB)
        self.detail(reply, 500, 502, 503, 504)
        self.assertEqual(self.launches(), self.before + 1)
        harness.eventually("its machine is gone", lambda: not self.running())


class Full(Machines):
    FLEET = harness.OPEN + harness.ALL_TARGETS.replace("limit = 4", "limit = 2") + harness.QUICK

    def test_no_more_than_the_limit(self):
        replies = self.side_by_side(5, lambda index: Walrus(self.local.url, seconds=60).create(f"{BLOB}{index}"))
        statuses = sorted(reply.status for reply in replies)
        self.assertEqual(statuses[:2], [201, 201], replies)
        for reply in replies:
            if reply.status != 201:
                self.detail(reply, 409, 429, 503)
        self.assertEqual(self.launches(), self.before + 2)


class WithTokens(Door):
    FLEET = (
        '[http]\nauth = "tokens"\ncompat = ["walrus"]\nprefix = "/v2"\norigins = ["https://app.example.com"]\n'
        + harness.NO_LIMITS
        + token_toml("front", ["read", "command"], targets=["walrus", "walrus.*"])
        + token_toml("other", ["read", "command"], targets=["pyelli"])
        + harness.ALL_TARGETS
        + harness.QUICK
    )

    def test_only_its_own_token_may(self):
        url = f"{self.local.url}/v2"
        self.assertEqual(Walrus(url).create(BLOB).status, 401)
        self.assertEqual(Walrus(url).all().status, 401)
        self.assertIn(Walrus(url, secret("other")).create(BLOB).status, (403, 404))
        self.assertEqual(self.local.count("ec2:RunInstances"), 0)
        front = Walrus(url, secret("front"), headers={"Origin": "https://app.example.com"})
        made = front.create(BLOB)
        self.assertEqual(made.status, 201, made)
        self.assertEqual(made.headers["access-control-allow-origin"], "https://app.example.com")
        instance = made.json["instance_id"]
        other = Walrus(url, secret("other"))
        self.assertIn(other.one(instance).status, (403, 404))
        self.assertIn(other.delete(instance).status, (403, 404))
        listed = other.all()
        self.assertTrue(listed.status == 403 or listed.json["total"] == 0, listed)
        self.assertEqual(front.delete(instance).status, 200)


if __name__ == "__main__":
    unittest.main()
