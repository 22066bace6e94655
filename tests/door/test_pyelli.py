"""Seed 002: PyElli's Streamlit app and its EventBridge rule, unchanged, against the door.

The backend is ours: it answers while its machine runs, and says when it was last used.
"""

import json
import threading
import time
import unittest
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import harness
import parallel
from client_pyelli import Orchestrator, StreamlitApp
from harness import Door

load_tests = parallel.load_tests


class Backend:
    """`running` says whether its machine is on; `last` is what it says of its last activity, as JSON text."""

    def __init__(self):
        self.running = lambda: False
        self.last = lambda: json.dumps({"last_activity": time.time()})
        self.health_asked = 0
        backend = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                if not backend.running():
                    self.send_error(503)
                    return
                if self.path == "/health":
                    backend.health_asked += 1
                body = backend.last().encode() if self.path == "/api/last-activity" else b'{"status": "ok"}'
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=lambda: self.server.serve_forever(0.05), daemon=True).start()

    def close(self):
        self.server.shutdown()
        self.server.server_close()


class PyElli(Door):
    STOP = "300ms"

    @classmethod
    def setUpClass(cls):
        cls.backend = Backend()
        cls.addClassCleanup(cls.backend.close)
        idle = (
            '[targets.pyelli.idle]\nafter = "2s"\n'
            f'http = {{ url = "{cls.backend.url}/api/last-activity", pointer = "/last_activity" }}\n'
        )
        quick = harness.QUICK.replace('stop = "300ms"', f'stop = "{cls.STOP}"', 1)
        http = harness.OPEN.replace(', "walrus"', "")
        defaults = '[defaults]\ntarget = "pyelli"\n'
        health = f'health = "{cls.backend.url}/health"\n'
        cls.FLEET = defaults + http + harness.KEEPER_TOML + harness.FLUIDITY_TOML + harness.PYELLI_TOML + health + idle + quick
        super().setUpClass()
        cls.backend.running = lambda: cls.local.machine(harness.PYELLI)["state"] == "running"

    def setUp(self):
        self.backend.last = lambda: json.dumps({"last_activity": time.time()})
        super().setUp()
        self.function = Orchestrator(f"{self.local.url}/")
        self.before = self.starts()

    def starts(self):
        return self.local.count("ec2:StartInstances")

    def tearDown(self):
        self.local.ask("POST", "/v1/commands?wait=30", {"action": "kill", "target": "pyelli"})
        self.local.until_phase("pyelli", "off")


class App(PyElli):
    def test_the_button(self):
        app = StreamlitApp(f"{self.local.url}/", self.backend.url, every=0.3, limit=30)
        self.assertFalse(app.healthy())
        began = time.monotonic()
        app.grid_search()
        self.assertEqual(len(app.started), 1, "the app posts start once")
        self.assertLess(time.monotonic() - began, 25)
        self.assertEqual(self.starts(), self.before + 1)
        # It is on: the button asks nobody.
        self.assertEqual(app.grid_search(), 0.0)
        self.assertEqual(len(app.started), 1)

    def test_start_answers_200_whatever_the_machine_does(self):
        began = time.monotonic()
        status, answer = self.function.post({"action": "start"})
        self.assertLess(time.monotonic() - began, 5, "start answers at once")
        self.assertEqual(status, 200, answer)
        self.assertIsInstance(answer, dict)
        self.assertTrue(answer.get("message"), answer)
        status, answer = self.function.post({"action": "start"})  # pending
        self.assertEqual(status, 200, answer)
        self.local.until_phase("pyelli", "on")
        status, answer = self.function.post({"action": "start"})  # running
        self.assertEqual(status, 200, answer)
        self.assertEqual(self.starts(), self.before + 1)

    def test_action_in_capitals_and_the_documents_content_type(self):
        for body, content_type in [
            ({"Action": "start"}, "application/json"),
            ({"action": "START"}, "application/json; charset=utf-8"),
        ]:
            with self.subTest(body=body):
                status, answer = self.function.post(body, content_type)
                self.assertEqual(status, 200, answer)

    def test_an_unknown_action_is_named(self):
        for body in [{"action": "explode"}, {"Action": "reboot"}, {"action": ""}, {"action": None}, {"action": 7}]:
            with self.subTest(body=body):
                status, answer = self.function.post(body)
                self.assertEqual(status, 400, answer)
                self.assertTrue(answer["error"])
                if body.get("action") in ("explode",):
                    self.assertIn("start", answer["allowed"])
                    self.assertIn("check_idle", [str(it).replace("-", "_") for it in answer["allowed"]])
        self.assertEqual(self.starts(), self.before)

    def test_without_an_action(self):
        """The document: it "defaults to start, which … is not what you want on a schedule"."""
        status, answer = self.function.post({})
        self.assertIn(status, (200, 400), answer)
        if status == 400:
            self.assertIn("error", answer)
            self.assertEqual(self.starts(), self.before)

    def test_what_is_no_json(self):
        for body in [
            b"", b"start", b"[1]", b"null", b'{"action": "start"', b'{"action": "start"} x', b"\xff\xfe",
            b"{\"action\": \"sta\0rt\"}",
        ]:  # fmt: skip
            with self.subTest(body=body):
                answer = self.ask("POST", "/", body, {"Content-Type": "application/json"})
                self.assertIn(answer.status, (400, 422), answer)
                self.assertIsInstance(answer.json, dict)
        self.assertEqual(self.starts(), self.before)

    def test_two_actions_in_one_payload(self):
        for body in [b'{"action": "check_idle", "Action": "start"}', b'{"action": "check_idle", "action": "start"}']:
            with self.subTest(body=body):
                status, answer = self.function.post(body)
                self.assertEqual(status, 400, answer)
        self.assertEqual(self.starts(), self.before)


class Idle(PyElli):
    def on(self):
        status, answer = self.function.post({"action": "start"})
        self.assertEqual(status, 200, answer)
        self.local.until_phase("pyelli", "on")

    def checked(self):
        status, answer = self.function.check_idle()
        self.assertEqual(status, 200, answer)
        for field in ("stopped", "idle_seconds", "threshold_seconds", "message"):
            self.assertIn(field, answer)
        self.assertIsInstance(answer["stopped"], bool)
        return answer

    def test_off_stays_off(self):
        self.assertIs(self.checked()["stopped"], False)
        self.assertEqual(self.starts(), self.before)

    def test_in_use_stays_on_and_idle_goes_off(self):
        self.on()
        time.sleep(2.5)
        answer = self.checked()
        self.assertIs(answer["stopped"], False)
        self.assertEqual(answer["threshold_seconds"], 2)
        self.backend.last = lambda: json.dumps({"last_activity": time.time() - 900.5})
        answer = self.checked()
        self.assertIs(answer["stopped"], True, answer)
        self.assertEqual(self.local.machine(harness.PYELLI)["state"], "stopped")

    def test_unknown_is_not_idle(self):
        self.on()
        time.sleep(2.5)
        for said in [
            "{}", "not json", '{"last_activity": null}', '{"last_activity": 0}', '{"last_activity": "yesterday"}', "[]",
        ]:  # fmt: skip
            self.backend.last = lambda said=said: said
            with self.subTest(said=said):
                self.assertIs(self.checked()["stopped"], False)
                self.assertEqual(self.local.machine(harness.PYELLI)["state"], "running")


class WhileStopping(PyElli):
    """A start during `stopping` was lost for good."""

    STOP = "3s"

    def test_a_start_while_it_stops_is_not_lost(self):
        self.function.post({"action": "start"})
        self.local.until_phase("pyelli", "on")
        status, answer = self.function.post({"action": "stop"})
        self.assertIn(status, (200, 202), answer)
        harness.eventually(
            "it is on its way down", lambda: self.local.machine(harness.PYELLI)["state"] in ("stopping", "stopped")
        )
        status, answer = self.function.post({"action": "start"})
        self.assertEqual(status, 200, answer)
        self.local.until_phase("pyelli", "on")
        self.assertEqual(self.starts(), self.before + 2)


if __name__ == "__main__":
    unittest.main()
