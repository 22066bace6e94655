"""The kit against the endpoints of this machine: what they do otherwise than AWS is listed, and the list is true."""

import concurrent.futures
import io
import json
import os
import signal
import subprocess
import sys
import time
import tomllib
import unittest
import unittest.mock
from pathlib import Path

import endpoints
import facts  # noqa: F401: registers them
import kit
import main
import report
import sweep

HERE = Path(__file__).resolve().parent
GAPS = tomllib.loads((HERE / "gaps.toml").read_text())
# The most that one wait may take here. What an emulator does, it does at once; our own takes its time as AWS does.
PATIENCE_SECONDS = {"local": 90, "ministack": 20, "moto": 20}


def ask(name):
    """All facts of one endpoint, and what is left there afterwards."""
    endpoint = endpoints.ALL[name]()
    try:
        run = kit.Run(endpoint.url, endpoints.REGION, 8, endpoint.given, PATIENCE_SECONDS[name], endpoints.CREDENTIALS)
        try:
            run.ask_all(kit.FACTS)
        finally:
            run.remove(30)
        left = sweep.clean(run)[0]
        return report.as_data(run, name), left
    finally:
        endpoint.close()


class Endpoints(unittest.TestCase):
    """Each endpoint is asked once, all of them side by side."""

    maxDiff = None

    @classmethod
    def setUpClass(cls):
        with concurrent.futures.ThreadPoolExecutor() as pool:
            cls.reports = dict(zip(endpoints.ALL, pool.map(ask, endpoints.ALL), strict=True))

    def check(self, name):
        data, left = self.reports[name]
        listed = GAPS[name]
        differing = {it["fact"]: it["reason"] for it in data["facts"] if it["status"] == kit.DIFFERS}
        new = {fact: reason for fact, reason in differing.items() if fact not in listed}
        self.assertEqual(new, {}, f"{name} differs from AWS's documents, and gaps.toml does not list it")
        self.assertEqual(sorted(set(listed) - set(differing)), [], f"gaps.toml lists what {name} does as AWS does")
        skipped = {it["fact"]: it["reason"] for it in data["facts"] if it["status"] == kit.SKIPPED}
        stopped = {fact: reason for fact, reason in skipped.items() if "time is over" in reason}
        self.assertEqual(stopped, {}, "the run's time was too short")
        return data, left

    def test_lamplighter_local(self):
        data, left = self.check("local")
        self.assertEqual((data["unremoved"], left), ([], []), "left behind")
        self.assertGreater(data["counts"][kit.HOLDS], 120)

    def test_ministack(self):
        data, _ = self.check("ministack")
        self.assertGreater(data["counts"][kit.HOLDS], 70)

    def test_moto(self):
        data, _ = self.check("moto")
        self.assertGreater(data["counts"][kit.HOLDS], 70)


class Facts(unittest.TestCase):
    def test_each_fact_has_a_sentence_a_source_and_a_name_of_its_own(self):
        self.assertGreaterEqual(len(kit.FACTS), 60)
        self.assertEqual(len({fact.id for fact in kit.FACTS}), len(kit.FACTS))
        for fact in kit.FACTS:
            self.assertTrue(fact.source.startswith("https://docs.aws.amazon.com/"), fact)
            self.assertGreater(len(fact.sentence), 20, fact)

    def test_each_gap_names_a_fact_and_has_a_reason(self):
        ids = {fact.id for fact in kit.FACTS}
        for endpoint, gaps in GAPS.items():
            self.assertIn(endpoint, endpoints.ALL)
            for fact, reason in gaps.items():
                self.assertIn(fact, ids, endpoint)
                self.assertGreater(len(reason), 10, (endpoint, fact))


class Kit(unittest.TestCase):
    """The kit itself, without an endpoint."""

    def run_of(self, *asks):
        run = kit.Run("http://127.0.0.1:9", endpoints.REGION, credentials=endpoints.CREDENTIALS)
        run.ask_all([kit.Fact("sqs", f"fact-{at}", "…", "…", ask) for at, ask in enumerate(asks)])
        return run

    def test_a_fact_ends_in_one_of_its_ways(self):
        def differs(it):
            it.same("what", 1, 2)

        def skips(it):
            raise kit.Skip("no agent")

        def breaks(it):
            raise KeyError("State")

        run = self.run_of(lambda it: it.note("fine"), differs, skips, breaks)
        self.assertEqual([it.status for it in run.results], [kit.HOLDS, kit.DIFFERS, kit.SKIPPED, kit.DIFFERS])
        self.assertIn("expected 2, saw '1'", run.results[1].reason)
        self.assertIn("KeyError", run.results[3].reason)

    def test_what_was_made_is_removed_newest_first_whatever_fails(self):
        removed = []

        def fails():
            raise ValueError("cannot be removed")

        def makes(it):
            it.later("first", removed.append, 1)
            it.later("stubborn", fails)
            it.later("second", removed.append, 2)

        run = self.run_of(makes)
        run.remove(patience=0)
        self.assertEqual(removed, [2, 1])
        self.assertEqual(run.unremoved, ["stubborn: ValueError: cannot be removed"])

    def test_a_run_that_is_over_asks_nothing_more(self):
        run = kit.Run("http://127.0.0.1:9", endpoints.REGION, minutes=0, credentials=endpoints.CREDENTIALS)
        asked = []
        run.ask_all([kit.Fact("sqs", "late", "…", "…", asked.append)])
        self.assertEqual((asked, run.results[0].status), ([], kit.SKIPPED))

    def test_what_several_facts_need_is_made_once_and_fails_or_skips_them_all(self):
        made = []

        def make(error):
            made.append(error)
            raise error

        for error, expected in ((kit.Differs("no"), kit.DIFFERS), (kit.Skip("no"), kit.SKIPPED)):
            ask = lambda it, error=error: it.shared("thing", lambda: make(error))
            run = self.run_of(ask, ask)
            self.assertEqual([(it.status, it.reason) for it in run.results], [(expected, "needs thing: no")] * 2)
        self.assertEqual(len(made), 2)

    def test_a_report_names_no_account(self):
        text = ("arn:aws:sqs:eu-central-1:123456789012:q i-0123456789abcdef0 123456789012 ASIAABCDEFGHIJKLMNOP "
                "https://sqs.eu-central-1.amazonaws.com/123456789012/q 10.0.0.12")  # fmt: skip
        clean = report.redact(text)
        for secret in ("123456789012", "0123456789abcdef0", "ABCDEFGHIJKLMNOP", "10.0.0.12"):
            self.assertNotIn(secret, clean)
        self.assertIn("arn:aws:sqs:eu-central-1:ACCOUNT:q", clean)

    def test_reports_of_all_forms_say_the_same(self):
        def differs(it):
            it.note("account 123456789012")
            raise kit.Differs("saw i-0123456789abcdef0 | more")

        data = report.as_data(self.run_of(differs), "AWS")
        for text in (report.as_text(data), report.as_markdown(data), report.as_json(data)):
            self.assertIn("sqs/fact-0", text)
            self.assertNotIn("123456789012", text)
            self.assertNotIn("0123456789abcdef0", text)
        self.assertEqual(json.loads(report.as_json(data))["counts"], {"holds": 0, "differs": 1, "skipped": 0})
        self.assertIn("\\|", report.as_markdown(data))


class Sweep(unittest.TestCase):
    def test_what_is_somebody_else_s_is_left_where_an_endpoint_passes_over_a_filter(self):
        names = ["default", kit.PREFIX, f"{kit.PREFIX}-1234-x", f"x{kit.PREFIX}-1"]
        found = list(sweep.named_ours(({"Name": name} for name in names), "Name"))
        self.assertEqual(found, [{"Name": f"{kit.PREFIX}-1234-x"}])
        instances = [{"Tags": [{"Key": kit.TAG, "Value": "1"}]}, {"Tags": [{"Key": "Name", "Value": kit.TAG}]}, {}]
        self.assertEqual(list(sweep.tagged_ours(instances)), instances[:1])


class CommandLine(unittest.TestCase):
    def conform(self, *arguments, **env):
        command = [sys.executable, str(HERE / "main.py"), *arguments]
        return subprocess.run(command, env=endpoints.environment(**env), capture_output=True, text=True, timeout=120,
                              stdin=subprocess.DEVNULL)  # fmt: skip

    def test_wrong_usage_says_what_was_expected(self):
        for arguments, words in [
            (["--account", "12"], "expected twelve digits"),
            (["--service", "x"], "expected CLUSTER/NAME"),
            (["--endpoint", "ftp://x"], "expected http:// or https://"),
            (["--minutes", "0"], "expected more than 0"),
            (["--only", "no/such"], "no fact is named like no/such"),
        ]:
            done = self.conform(*arguments)
            self.assertEqual(done.returncode, 2, done)
            self.assertIn(words, done.stderr)

    def test_the_list_names_each_fact_and_asks_nothing(self):
        done = self.conform("--list")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stdout.count("https://docs.aws.amazon.com/"), len(kit.FACTS))

    def test_a_real_account_is_asked_only_by_its_number_and_with_a_yes(self):
        client = unittest.mock.Mock()
        client.get_caller_identity.return_value = {"Account": "123456789012"}
        for arguments, answer, expected in [
            ([], "yes\n", False),
            (["--account", "210987654321"], "yes\n", False),
            (["--account", "123456789012"], "no\n", False),
            (["--account", "123456789012"], "yes\n", True),
            (["--account", "123456789012", "--yes"], "", True),
        ]:
            args = main.parse(arguments)
            args.endpoint = None
            run = unittest.mock.Mock(prefix="p", region="r", **{"client.return_value": client})
            typed = io.StringIO(answer)
            typed.isatty = lambda: True
            with unittest.mock.patch.object(sys, "stdin", typed), unittest.mock.patch.object(sys, "stderr", io.StringIO()):
                self.assertIs(main.agreed(args, run), expected, arguments)

    def test_ctrl_c_removes_what_was_made_and_clean_removes_what_a_kill_left(self):
        local = endpoints.Local()
        self.addCleanup(local.close)

        def tables():
            client = kit.Run(local.url, endpoints.REGION, credentials=endpoints.CREDENTIALS).client("dynamodb")
            return [name for name in client.list_tables()["TableNames"] if name.startswith(kit.PREFIX)]

        def interrupted_by(number):
            command = [sys.executable, str(HERE / "main.py"), "--endpoint", local.url, "--only", "dynamodb/*", "--only",
                       "sqs/a-long-poll*", "--only", "scheduler/the-scheduled*"]  # fmt: skip
            process = subprocess.Popen(command, env=endpoints.environment(), stdin=subprocess.DEVNULL,
                                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # fmt: skip
            until = time.monotonic() + 60
            while not tables() and time.monotonic() < until:
                time.sleep(0.1)
            self.assertTrue(tables(), "it made nothing")
            os.kill(process.pid, number)
            return process.wait(60)

        self.assertEqual(interrupted_by(signal.SIGINT), 130)
        self.assertEqual(tables(), [])
        self.assertEqual(interrupted_by(signal.SIGKILL), -signal.SIGKILL)
        self.assertEqual(len(tables()), 1)
        done = self.conform("--clean", "--endpoint", local.url)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(tables(), [])


if __name__ == "__main__":
    unittest.main()
