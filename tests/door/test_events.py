"""The stream of server-sent events: all there is, then what changes, for as long as somebody listens."""

import os
import time
import unittest

import harness
import parallel
import wire
from harness import Door

load_tests = parallel.load_tests


class Stream(Door):
    def listen(self, path="/v1/events", **headers):
        events = wire.Events(self.local.address, path, headers)
        self.addCleanup(events.close)
        return events

    def command(self, action, target="pyelli"):
        answer = self.local.ask("POST", "/v1/commands?wait=20", {"action": action, "target": target})
        self.assertEqual((answer.status, answer.json.get("state")), (200, "done"), answer)


class Changes(Stream):
    def test_everything_then_ready_then_changes(self):
        events = self.listen()
        self.assertEqual(events.status, 200)
        self.assertEqual(events.headers["content-type"].split(";")[0], "text/event-stream")
        self.assertIn("no-", events.headers["cache-control"])
        self.assertEqual(events.headers["x-content-type-options"], "nosniff")
        self.assertNotIn("content-length", events.headers)
        snapshot = events.until(lambda name, _: name == "ready")
        first = {data["target"]: data for name, data in snapshot if name == "target"}
        # A machine that has just gone may still be told, since it was looked at a moment ago.
        listed = {it["target"] for it in self.local.ask("GET", "/v1/targets").json["targets"]}
        self.assertEqual({name for name in first if not name.startswith("walrus.")}, listed)
        self.assertEqual(first["pyelli"]["phase"], "off")

        self.command("start")
        seen = events.until(lambda name, data: name == "target" and data["target"] == "pyelli" and data["phase"] == "on")
        phases = [data["phase"] for name, data in seen if name == "target" and data["target"] == "pyelli"]
        self.assertEqual(phases[-1], "on")
        revs = [data["rev"] for name, data in seen if name == "target" and data["target"] == "pyelli"]
        self.assertEqual(revs, sorted(revs), "time goes forward only")
        self.assertEqual(
            {data["target"] for name, data in seen if name == "target"}, {"pyelli"}, "what did not change is not said"
        )
        self.command("kill")
        events.until(lambda name, data: name == "target" and data["target"] == "pyelli" and data["phase"] == "off")

        # What it says is what a look says, sooner or later.
        looked = self.local.target("pyelli")
        late = self.listen()
        seen = late.until(lambda _, data: data and data["target"] == "pyelli" and data["rev"] >= looked["rev"])
        self.assertEqual(set(seen[-1][1]), set(looked))

    def test_a_machine_that_comes_is_told(self):
        events = self.listen()
        events.until(lambda name, _: name == "ready")
        made = self.local.ask("POST", "/v1/commands?wait=25", {"action": "create", "template": "walrus", "blob_id": "abcdefgh"})
        self.assertEqual((made.status, made.json.get("state")), (200, "done"), made)
        name = made.json["outcome"]["answer"]["target"]
        events.until(lambda kind, data: kind == "target" and data["target"] == name, 30)
        self.command("destroy", name)

        def leaves(kind, data):
            return isinstance(data, dict) and data.get("target") == name and (kind == "gone" or data["phase"] != "on")

        events.until(leaves, 30)

    def test_it_is_kept_alive_by_comments(self):
        time.sleep(2)  # Whatever the test before it did is told.
        events = self.listen()
        events.until(lambda name, _: name == "ready")
        began = time.monotonic()
        seen = events.until(lambda name, _: name is None, 25)
        self.assertLess(time.monotonic() - began, 20)
        told = [(name, data["target"]) for name, data in seen if name == "target" and not data["target"].startswith("walrus.")]
        self.assertEqual(told, [], "nothing happened, nothing is told")


class Listeners(Stream):
    def descriptors(self):
        folder = f"/proc/{self.local.process.pid}/fd"
        if not os.path.isdir(folder):
            self.skipTest("there is no /proc here")
        return len(os.listdir(folder))

    def test_who_goes_is_freed(self):
        before = self.descriptors()
        listeners = [self.listen() for _ in range(50)]
        for events in listeners:
            events.until(lambda name, _: name == "ready")
        reads = self.local.counts("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan")
        time.sleep(5)
        reads = self.local.counts("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan") - reads
        self.assertLess(reads, 100, "one looks for all who listen")
        for events in listeners:
            events.close()
        # Some are noticed only when they are to be told something: the next comment is within 15 s.
        harness.eventually("their sockets are closed", lambda: self.descriptors() <= before + 5, 40)
        print(f"events: {reads} reads in 5 s for 50 listeners")
        # And once nobody listens nobody looks.
        quiet = self.local.counts("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan")
        time.sleep(5)
        after = self.local.counts("dynamodb:GetItem", "dynamodb:BatchGetItem", "dynamodb:Query", "dynamodb:Scan") - quiet
        print(f"events: {after} reads in 5 s for none")
        self.assertLess(after, 20)

    def test_a_listener_that_does_not_read_holds_nobody_up(self):
        slow = [self.listen() for _ in range(10)]
        quick = self.listen()
        quick.until(lambda name, _: name == "ready")
        for action in ("start", "kill"):
            self.command(action)
        quick.until(lambda name, data: name == "target" and data["target"] == "pyelli" and data["phase"] == "off")
        for events in slow:
            events.close()
        self.lives()

    def test_what_the_table_missed_is_told_later(self):
        events = self.listen()
        events.until(lambda name, _: name == "ready")
        self.local.faults({"service": "dynamodb", "kind": "before"})
        time.sleep(3)
        self.local.no_faults()
        self.command("start")
        try:
            events.until(lambda name, data: name == "target" and data["target"] == "pyelli" and data["phase"] == "on", 30)
        except wire.Closed:
            # It may end the stream: a browser comes again by itself, and is told all.
            again = self.listen()
            told = again.until(lambda name, _: name == "ready", 20)
            self.assertTrue(
                any(name == "target" and data["target"] == "pyelli" and data["phase"] == "on" for name, data in told)
            )
        self.command("kill")


if __name__ == "__main__":
    unittest.main()
