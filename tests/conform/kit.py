"""The conformance kit: facts about AWS, each one small check, and the run that asks an endpoint for them.

A fact is a function with a sentence, a source and calls. It ends in one of four ways: it returns (the fact holds),
it raises `Differs` (the endpoint does something else), `Skip` (the endpoint cannot be asked), or anything else, which
is a mistake of the check and counts as a difference. What a fact creates carries the run's prefix and tag and is
removed by the run, whatever ends it.
"""

import contextlib
import dataclasses
import datetime
import os
import secrets
import threading
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

PREFIX = "lamplighter-conform"
TAG = "lamplighter-conform"
HOLDS, DIFFERS, SKIPPED = "holds", "differs", "skipped"
# Calls that an endpoint answers like this are calls that it does not have.
NOT_THERE = ("InvalidAction", "UnknownOperation", "UnknownOperationException", "NotImplemented", "UnsupportedOperation")
# What a report quotes of one answer.
SEEN_CHARS_MAX = 300


class Differs(Exception):
    """The endpoint does not do what the fact says."""


class Skip(Exception):
    """The endpoint cannot be asked; the text says why."""


class Stopped(Exception):
    """The run is over: its time, or the user."""


@dataclasses.dataclass(frozen=True)
class Fact:
    service: str
    name: str
    sentence: str
    source: str
    ask: Callable

    @property
    def id(self):
        return f"{self.service}/{self.name}"


FACTS: list[Fact] = []


def facts_of(service):
    """The decorator by which a file of `facts` registers its checks."""

    def fact(sentence, source):
        def register(ask):
            FACTS.append(Fact(service, ask.__name__.replace("_", "-"), sentence, source, ask))
            return ask

        return register

    return fact


@dataclasses.dataclass
class Result:
    fact: Fact
    status: str
    seen: list[str]
    calls: list[str]
    seconds: float
    reason: str = ""


@dataclasses.dataclass
class Given:
    """What the user has that a run does not create itself."""

    service: str | None = None  # CLUSTER/NAME of an ECS service whose count a run may change
    profile: str | None = None  # an instance profile with which the SSM agent registers
    subnet: str | None = None
    local: bool = False  # the endpoint has Lamplighter's control API


class Run:
    """One run against one endpoint: its clients, its names, its clean-up and its results."""

    def __init__(self, endpoint=None, region=None, minutes=25.0, given=None, patience=600.0, credentials=None):
        self.endpoint, self.given = endpoint, given or Given()
        self.is_aws = endpoint is None or ".amazonaws.com" in endpoint
        self.id = secrets.token_hex(4)
        self.prefix = f"{PREFIX}-{self.id}"
        self.tags = {TAG: self.id, "Name": self.prefix}
        self.until = time.monotonic() + minutes * 60
        # The longest wait for one thing; AWS is given what the fact says.
        self.patience = patience
        self.stopping = threading.Event()
        self.results, self.unremoved = [], []
        self._clients, self._undo, self._shared = {}, [], {}
        self._lock = threading.RLock()
        self._seen_by = threading.local()
        session = {"region_name": region} if region else {}
        self.session = boto3.Session(**session, **(credentials or {}))
        self.region = self.session.region_name or "us-east-1"
        self.account = None

    def client(self, service, credentials=None):
        with self._lock:
            key = (service, credentials and credentials["aws_access_key_id"])
            if key not in self._clients:
                config = Config(
                    connect_timeout=5, read_timeout=60 if self.is_aws else 150, retries={"mode": "standard", "total_max_attempts": 3},
                    parameter_validation=False,  # Some facts are about what AWS itself refuses.
                )  # fmt: skip
                client = self.session.client(
                    service, endpoint_url=self.endpoint, region_name=self.region, config=config, **(credentials or {})
                )
                client.meta.events.register("after-call", self._note_call)
                client.meta.events.register("before-call", self._still_running)
                self._clients[key] = client
            return self._clients[key]

    def _still_running(self, **_):
        if getattr(self._seen_by, "asking", False):
            self.check_time()

    def _note_call(self, http_response, parsed, model, **_):
        calls = getattr(self._seen_by, "calls", None)
        if calls is not None:
            code = (parsed.get("Error") or {}).get("Code")
            word = code if http_response.status_code >= 300 and code else str(http_response.status_code)
            line = f"{model.service_model.endpoint_prefix}:{model.name} → {word}"
            if calls and calls[-1].split(" ×")[0] == line:
                times = int(calls[-1].split(" ×")[1]) if " ×" in calls[-1] else 1
                calls[-1] = f"{line} ×{times + 1}"
            else:
                calls.append(line)

    def check_time(self):
        if self.stopping.is_set() or time.monotonic() > self.until:
            raise Stopped("the run was stopped or its time is over")

    # -- Clean-up ---------------------------------------------------------------------------------------------------

    def later(self, what, undo, *args, **kwargs):
        """Removes `what` at the end, the newest first."""
        with self._lock:
            self._undo.append((what, undo, args, kwargs))

    def shared(self, name, make):
        """Something that several facts of one service use: made once."""
        with self._lock:
            entry = self._shared.setdefault(name, [threading.Lock()])
        with entry[0]:
            if len(entry) == 1:
                try:
                    entry.append((make(), None))
                except (Skip, Differs, ClientError, BotoCoreError) as error:
                    entry.append((None, error))
            value, error = entry[1]
            if error is not None:
                kind = Skip if isinstance(error, Skip) else Differs
                raise kind(f"needs {name}: {brief(error)}")
            return value

    def remove(self, patience=90.0):
        """Removes all that was made; what cannot be removed is kept in `unremoved`."""
        until = time.monotonic() + patience
        with self._lock:
            undo, self._undo = self._undo[::-1], []
        for what, function, args, kwargs in undo:
            while True:
                try:
                    function(*args, **kwargs)
                    break
                except Exception as error:  # noqa: BLE001: whatever it is, the rest is to be removed as well
                    code = code_of(error) or ""
                    if is_gone(code):
                        break
                    if time.monotonic() > until or code in NOT_THERE:
                        self.unremoved.append(f"{what}: {brief(error)}")
                        break
                    time.sleep(2)

    # -- Asking -----------------------------------------------------------------------------------------------------

    def ask_all(self, facts, told=lambda result: None):
        """Asks; the facts of one service one after the other, the services side by side."""
        services: dict[str, list[Fact]] = {}
        for fact in facts:
            services.setdefault(fact.service, []).append(fact)

        def ask_service(facts):
            for fact in facts:
                result = self.ask(fact)
                with self._lock:
                    self.results.append(result)
                    told(result)

        with ThreadPoolExecutor(max(1, len(services))) as pool:
            try:
                for done in [pool.submit(ask_service, facts) for facts in services.values()]:
                    done.result()
            except BaseException:
                self.stopping.set()
                raise
        order = {fact.id: at for at, fact in enumerate(facts)}
        self.results.sort(key=lambda it: order[it.fact.id])

    def ask(self, fact):
        began = time.monotonic()
        it = Asking(self)
        self._seen_by.calls, self._seen_by.asking = it.calls, True
        status, reason = HOLDS, ""
        try:
            self.check_time()
            fact.ask(it)
        except Skip as skip:
            status, reason = SKIPPED, str(skip)
        except Stopped as stopped:
            status, reason = SKIPPED, str(stopped)
        except Differs as differs:
            status, reason = DIFFERS, str(differs)
        except (ClientError, BotoCoreError) as error:
            code = code_of(error)
            word = "the endpoint does not have this call" if code in NOT_THERE else "unexpected error"
            status, reason = DIFFERS, f"{word}: {brief(error)}"
        except Exception as error:  # noqa: BLE001: a check must not end the run
            place = traceback.extract_tb(error.__traceback__)[-1]
            where = f"{os.path.basename(place.filename)}:{place.lineno}"
            status, reason = DIFFERS, f"the answer could not be read: {type(error).__name__}: {error} ({where})"
        finally:
            self._seen_by.calls, self._seen_by.asking = None, False
        return Result(fact, status, it.noted, it.calls, time.monotonic() - began, reason)


class Asking:
    """What a fact is asked with. Attributes such as `it.sqs` are clients."""

    def __init__(self, run):
        self.run, self.noted, self.calls = run, [], []

    def __getattr__(self, name):
        services = {"events": "events", "scaling": "application-autoscaling", "secrets": "secretsmanager"}
        if name.startswith("_"):
            raise AttributeError(name)
        return self.run.client(services.get(name, name))

    @property
    def given(self):
        return self.run.given

    def name(self, what):
        return f"{self.run.prefix}-{what}"

    def note(self, what):
        self.noted.append(str(what)[:SEEN_CHARS_MAX])

    def same(self, what, seen, *expected):
        """The fact is that `seen` is one of `expected`."""
        self.note(f"{what}: {seen!r}")
        if seen not in expected:
            wanted = " or ".join(repr(it) for it in expected)
            raise Differs(f"{what}: expected {wanted}, saw {str(seen)!r:.200}")

    def true(self, what, seen, holds):
        self.note(f"{what}: {seen!r}")
        if not holds:
            raise Differs(f"{what} does not hold: saw {str(seen)!r:.200}")

    def refused(self, codes, call, **kwargs):
        """The fact is that AWS refuses the call with one of these codes; the error."""
        codes = (codes,) if isinstance(codes, str) else codes
        try:
            call(**kwargs)
        except ClientError as error:
            code = code_of(error)
            self.note(f"refused: {brief(error)}")
            if code not in codes:
                raise Differs(f"expected {' or '.join(codes)}, saw {brief(error)}") from None
            return error
        raise Differs(f"expected {' or '.join(codes)}, but the call was accepted")

    def pause(self, seconds):
        self.run.check_time()
        if self.run.stopping.wait(max(0.0, seconds)):
            self.run.check_time()

    def eventually(self, what, probe, seconds=60.0, every=0.5):
        """What `probe` answers as soon as it is true; it is a difference if that is never."""
        seconds = min(seconds, self.run.patience)
        began = time.monotonic()
        while True:
            seen = probe()
            if seen:
                self.note(f"{what}: after {time.monotonic() - began:.1f} s")
                return seen
            if time.monotonic() - began > seconds:
                raise Differs(f"{what}: not within {seconds:.0f} s; last seen {str(seen)!r:.120}")
            self.pause(every)
            every = min(every * 1.3, 5.0)

    def shared(self, name, make):
        return self.run.shared(name, make)

    def later(self, what, undo, *args, **kwargs):
        self.run.later(what, undo, *args, **kwargs)


def code_of(error):
    """AWS's code; of SQS both its own and the one of the query protocol are seen, and both are compared by the first."""
    if not isinstance(error, ClientError):
        return None
    code = error.response["Error"].get("Code", "")
    code = code.split("#")[-1]
    return {
        "AWS.SimpleQueueService.NonExistentQueue": "QueueDoesNotExist",
        "QueueAlreadyExists": "QueueNameExists",
    }.get(code, code.removeprefix("AWS.SimpleQueueService."))


def is_gone(code):
    words = ("NotFound", "DoesNotExist", "NonExistent", "ResourceNotFound", "NoSuchEntity", "ServiceNotActive")
    return any(word in code for word in words)


def brief(error):
    if isinstance(error, ClientError):
        words = error.response["Error"].get("Message") or ""
        # A page of HTML is no message of AWS.
        words = "a page of HTML" if words.lstrip().startswith("<") else words
        text = f"{code_of(error)}: {words}"
    elif isinstance(error, Skip | Differs):
        text = str(error)
    else:
        text = f"{type(error).__name__}: {error}"
    return " ".join(text.split())[:SEEN_CHARS_MAX]


@contextlib.contextmanager
def quiet(*codes):
    """Passes over an error of these codes; of any code where none is named."""
    try:
        yield
    except ClientError as error:
        if codes and code_of(error) not in codes:
            raise


def now():
    return datetime.datetime.now(datetime.UTC)
