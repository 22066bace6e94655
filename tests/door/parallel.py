"""Classes of tests run side by side, each in a process of its own, and report as if they had run one after the other.

A module says `load_tests = parallel.load_tests`. All classes that were loaded begin when the first of them is to run;
`LAMPLIGHTER_TEST_JOBS=1` has them one after the other, in this process.
"""

import multiprocessing
import multiprocessing.connection
import os
import signal
import unittest

# Most of the time each of them waits for something to boot.
JOBS = int(os.environ.get("LAMPLIGHTER_TEST_JOBS", "5"))
CLASS_SECONDS_MAX = 200

waiting = []
running = {}
finished = {}


class Elsewhere(Exception):
    """What a test in another process said; its own traceback is the text."""


def cases(suite):
    for item in suite:
        if isinstance(item, unittest.TestSuite):
            yield from cases(item)
        else:
            yield item


class Told(unittest.TestResult):
    """Keeps (test id, how it ended, text) of each test, and of what failed beside one (setUpClass)."""

    def __init__(self):
        super().__init__()
        self.told = []

    def addSuccess(self, test):
        self.told.append((test.id(), "ok", ""))

    def addFailure(self, test, err):
        self.told.append((test.id(), "failed", self._exc_info_to_string(err, test)))

    def addError(self, test, err):
        self.told.append((test.id(), "error", self._exc_info_to_string(err, test)))

    def addSkip(self, test, reason):
        self.told.append((test.id(), "skipped", reason))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            kind = "failed" if issubclass(err[0], test.failureException) else "error"
            self.told.append((test.id(), kind, f"{subtest.id()}\n{self._exc_info_to_string(err, test)}"))


def _child(tests, pipe):
    # An interrupt is the parent's to deal with: it ends this process.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))
    told = Told()
    unittest.TestSuite(tests).run(told)
    pipe.send(told.told)
    pipe.close()


def _begin():
    context = multiprocessing.get_context("fork")
    while waiting and len(running) < JOBS:
        name, tests = waiting.pop(0)
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_child, args=(tests, theirs), name=name, daemon=True)
        process.start()
        theirs.close()
        running[ours] = (name, process)


def _wait_for(name):
    while name not in finished:
        _begin()
        ready = multiprocessing.connection.wait(list(running), CLASS_SECONDS_MAX)
        if not ready:
            for pipe, (stuck, process) in list(running.items()):
                process.kill()
                process.join()
                finished[stuck] = [(stuck, "error", f"not over after {CLASS_SECONDS_MAX} s")]
                del running[pipe]
        for pipe in ready:
            ended, process = running.pop(pipe)
            try:
                finished[ended] = pipe.recv()
            except EOFError:
                finished[ended] = [(ended, "error", "its process ended without a word")]
            process.join()
            pipe.close()


class Apart(unittest.TestSuite):
    """The tests of one class."""

    def __init__(self, name, tests):
        super().__init__(tests)
        self.name = name
        if JOBS > 1:
            waiting.append((name, list(tests)))

    def run(self, result, debug=False):
        if JOBS <= 1 or debug:
            return super().run(result, debug)
        _wait_for(self.name)
        tests = {test.id(): test for test in cases(self)}
        some = next(iter(tests.values()))
        for test in tests.values():
            said = [(how, text) for told, how, text in finished[self.name] if told == test.id()]
            result.startTest(test)
            self.tell(result, test, said)
            result.stopTest(test)
        for told, how, text in finished[self.name]:
            if told not in tests:
                self.tell(result, some, [(how, f"{told}\n{text}")])
        return result

    @staticmethod
    def tell(result, test, said):
        for how, text in said:
            error = (Elsewhere, Elsewhere(f"\n{text}"), None)
            if how == "failed":
                result.addFailure(test, error)
            elif how == "error":
                result.addError(test, error)
            elif how == "skipped":
                result.addSkip(test, text)
        if said and all(how == "ok" for how, _ in said):
            result.addSuccess(test)


def load_tests(loader, tests, pattern):
    del loader, pattern
    by_class = {}
    for test in cases(tests):
        by_class.setdefault(f"{type(test).__module__}.{type(test).__qualname__}", []).append(test)
    return unittest.TestSuite(Apart(name, found) for name, found in by_class.items())
