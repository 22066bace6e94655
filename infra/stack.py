"""One CloudFormation stack of an environment: its parameters, outputs, change sets, waiting, deleting.

Theory. Nothing is changed but by a change set that was shown. Everything is waited for with a bound, and
what failed is told by CloudFormation's own words, resource by resource.

Not here: what the values are (fleet.py), and in which order things are done (deploy.py).
"""

import re
import time
from pathlib import Path

import yaml
from botocore.exceptions import ClientError, WaiterError

TEMPLATE = Path(__file__).resolve().parent / "lamplighter.yaml"
ALARMS = TEMPLATE.with_name("alarms.yaml")
ENDPOINTS = TEMPLATE.with_name("endpoints.yaml")
DOOR = TEMPLATE.with_name("door.yaml")
# CloudFormation's limit for a template that is sent with the call; a longer one goes by S3 (bucket.py).
TEMPLATE_BYTES_MAX = 51_200
# A service whose tasks never come up is given up by ECS's circuit breaker within about ten minutes; an
# instance group takes less.
WAIT_SECONDS = 1800
LOOK_EVERY_SECONDS = 3
# What loses what it holds when it is removed or replaced.
HOLDING = {"AWS::DynamoDB::Table", "AWS::SQS::Queue", "AWS::Logs::LogGroup"}


class StackError(Exception):
    """What CloudFormation refused, or could not do."""


class OptionError(Exception):
    """A parameter's value that cannot be."""


# libyaml's, where PyYAML has it, is ten times as fast.
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _Tags(_Loader):
    """Reads CloudFormation's short forms as what they stand for, unresolved."""


_Tags.add_multi_constructor("!", lambda loader, suffix, node: {suffix: _plain(loader, node)})


def _plain(loader, node):
    if isinstance(node, yaml.ScalarNode):
        return loader.construct_scalar(node)
    if isinstance(node, yaml.SequenceNode):
        return loader.construct_sequence(node, deep=True)
    return loader.construct_mapping(node, deep=True)


def template(path=TEMPLATE):
    """The template as data."""
    return yaml.load(path.read_text(encoding="utf-8"), _Tags)  # noqa: S506 - a SafeLoader


def body(path=TEMPLATE):
    """The template as it is sent: comments that have a line of their own would count, too."""
    text = path.read_text(encoding="utf-8")
    # What looks like a comment within a script is part of it.
    scalars = [token for token in yaml.scan(text, Loader=_Loader) if isinstance(token, yaml.ScalarToken)]
    kept = {line for token in scalars for line in range(token.start_mark.line, token.end_mark.line + 1)}

    def counts(number, line):
        return number in kept or (line.strip() and not line.lstrip().startswith("#"))

    return "".join(f"{line}\n" for number, line in enumerate(text.splitlines()) if counts(number, line))


def option(name):
    """The option of scripts/deploy for a parameter: ECSClusterName is --ecs-cluster-name."""
    words = re.sub(r"([a-z0-9])([A-Z])|([A-Z]+)([A-Z][a-z])", r"\1\3-\2\4", name)
    return "--" + words.lower()


def check_value(name, spec, value):
    """Refuses a value before CloudFormation does, by the template's own rules."""
    expected = None
    if spec["Type"] == "Number":
        low, high = spec.get("MinValue"), spec.get("MaxValue")
        fits = re.fullmatch(r"[0-9]{1,9}", value) is not None
        fits = fits and (low is None or low <= int(value)) and (high is None or int(value) <= high)
        expected = f"a whole number from {low} to {high}" if low is not None else "a whole number"
    else:
        fits = re.fullmatch(spec.get("AllowedPattern", "(?s).*"), value) is not None
        expected = spec.get("ConstraintDescription", f"what fits {spec.get('AllowedPattern')}")
    if "AllowedValues" in spec:
        allowed = [str(one) for one in spec["AllowedValues"]]
        fits, expected = value in allowed, "one of " + ", ".join(allowed)
    if not fits:
        raise OptionError(f'{option(name)} "{value}" is not valid; expected {expected}')


class Stack:
    """A stack of one environment: the first one, or one beside it with a template of its own."""

    def __init__(self, client, env, say, path=TEMPLATE, uploads=None):
        self.client = client
        self.path = path
        self.uploads = uploads
        # One that holds nothing is made anew where it could not be made.
        self.is_made_anew = False
        self.name = f"lamplighter-{env}" if path == TEMPLATE else f"lamplighter-{env}-{path.stem}"
        self.env = env
        self.say = say
        # What takes back this stack alone, where it could not be made.
        self.undo = "--destroy" if path == TEMPLATE else f"--{path.stem} no"

    def found(self):
        """The stack, or None where there is none (a change set that was only looked at leaves a shell)."""
        try:
            stacks = self.client.describe_stacks(StackName=self.name)["Stacks"]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise
        return stacks[0] if stacks[0]["StackStatus"] != "REVIEW_IN_PROGRESS" else None

    def parameters(self):
        """The values of the stack as it is; empty where there is none."""
        stack = self.found() or {}
        return {entry["ParameterKey"]: entry["ParameterValue"] for entry in stack.get("Parameters", [])}

    def outputs(self):
        """What the stack tells of what it made; empty where there is none."""
        stack = self.found() or {}
        return {entry["OutputKey"]: entry["OutputValue"] for entry in stack.get("Outputs", [])}

    def _template(self):
        """The template as an argument of a call: itself, or where it lies if it is too long."""
        text = body(self.path)
        if len(text.encode()) <= TEMPLATE_BYTES_MAX:
            return {"TemplateBody": text}
        if self.uploads is None:
            raise StackError(f"{self.path.name} has {len(text.encode())} bytes, at most {TEMPLATE_BYTES_MAX} are taken")
        return {"TemplateURL": self.uploads.url(self.env, self.path.name, text)}

    def validate(self):
        self.client.validate_template(**self._template())

    def change_set(self, values):
        """Makes a change set; None where nothing would change."""
        stack = self.found()
        status = stack["StackStatus"] if stack else ""
        failed = status in ("ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "CREATE_FAILED", "DELETE_FAILED")
        if failed and self.is_made_anew:
            self.say(f"  {self.name} is {status}, and is made anew")
            self.delete()
            stack = None
        elif failed:
            raise StackError(
                f"the stack {self.name} is {status}: its creation or removal failed; run scripts/deploy -e {self.env} {self.undo}"
            )
        if status.endswith("_IN_PROGRESS"):
            raise StackError(f"the stack {self.name} is {status}: somebody is at work on it; try again later")
        name = f"deploy-{int(time.time() * 1000)}"
        created = self.client.create_change_set(
            StackName=self.name,
            ChangeSetName=name,
            ChangeSetType="UPDATE" if stack else "CREATE",
            **self._template(),
            Parameters=[{"ParameterKey": key, "ParameterValue": values[key]} for key in sorted(values)],
            Capabilities=["CAPABILITY_NAMED_IAM"],
            # CloudFormation gives them to every resource that takes tags.
            Tags=[{"Key": "lamplighter:env", "Value": self.env}],
        )
        change_set = {"id": created["Id"], "new": stack is None, "changes": []}
        until = time.monotonic() + WAIT_SECONDS
        while True:
            told = self.client.describe_change_set(ChangeSetName=created["Id"], StackName=self.name)
            if told["Status"] in ("CREATE_COMPLETE", "FAILED"):
                break
            if time.monotonic() > until:
                raise StackError(f"the change set {name} is {told['Status']} after {WAIT_SECONDS} s")
            time.sleep(1)
        if told["Status"] == "FAILED":
            reason = told.get("StatusReason", "no reason was told")
            self.forget(change_set)
            if "didn't contain changes" in reason or "No updates are to be performed" in reason:
                return None
            raise StackError(f"the change set was refused: {reason}")
        pages = self.client.get_paginator("describe_change_set")
        for page in pages.paginate(ChangeSetName=created["Id"], StackName=self.name):
            change_set["changes"] += [entry["ResourceChange"] for entry in page.get("Changes", [])]
        return change_set

    def show(self, change_set):
        """One line for each change."""
        for change in change_set["changes"]:
            replaced = change.get("Replacement", "False")
            note = {"True": "  (replaced)", "Conditional": "  (may be replaced)"}.get(replaced, "")
            details = {d["Target"].get("Name") for d in change.get("Details", []) if d.get("Target", {}).get("Name")}
            what = f"  {', '.join(sorted(details))}" if details else ""
            self.say(f"  {change['Action']:<7} {change['LogicalResourceId']:<20} {change['ResourceType']}{note}{what}")

    @staticmethod
    def losses(change_set):
        """What would be removed or replaced and holds something."""
        return [
            change["LogicalResourceId"]
            for change in change_set["changes"]
            if change["ResourceType"] in HOLDING
            and (change["Action"] == "Remove" or change.get("Replacement") == "True")
        ]

    def forget(self, change_set):
        """Deletes a change set, and the empty shell of a stack that a first one makes."""
        self.client.delete_change_set(ChangeSetName=change_set["id"], StackName=self.name)
        if change_set["new"]:
            self.client.delete_stack(StackName=self.name)

    def execute(self, change_set):
        began = time.time()
        self.client.execute_change_set(ChangeSetName=change_set["id"], StackName=self.name)
        status = self._wait(lambda status: status.endswith(("_COMPLETE", "_FAILED")) and status != "REVIEW_IN_PROGRESS")
        if status not in ("CREATE_COMPLETE", "UPDATE_COMPLETE"):
            raise StackError(f"the stack {self.name} is {status}:\n{self._failures(began)}")

    def delete(self):
        """True where there was a stack."""
        stack = self._described(self.name)
        if stack is None:
            return False
        began = time.time()
        self.client.delete_stack(StackName=self.name)
        # By its id it is told even after it is gone.
        status = self._wait(lambda status: status in ("DELETE_COMPLETE", "DELETE_FAILED", ""), stack["StackId"])
        if status == "DELETE_FAILED":
            raise StackError(f"the stack {self.name} is {status}:\n{self._failures(began)}")
        return True

    def _described(self, name):
        try:
            return self.client.describe_stacks(StackName=name)["Stacks"][0]
        except ClientError as error:
            if "does not exist" in error.response["Error"]["Message"]:
                return None
            raise

    def _wait(self, over, name=None):
        until = time.monotonic() + WAIT_SECONDS
        pause, told = 0.2, None
        while True:
            stack = self._described(name or self.name)
            status = stack["StackStatus"] if stack else ""
            if status != told:
                self.say(f"  {self.name}: {status or 'gone'}")
                told = status
            if over(status):
                return status
            if time.monotonic() > until:
                raise StackError(f"the stack {self.name} is {status} after {WAIT_SECONDS} s")
            time.sleep(pause)
            pause = min(LOOK_EVERY_SECONDS, pause * 2)

    def _failures(self, began):
        lines = []
        events = self.client.get_paginator("describe_stack_events")
        try:
            for page in events.paginate(StackName=self.name):
                for event in page["StackEvents"]:
                    recent = event["Timestamp"].timestamp() >= began - 5
                    if recent and event["ResourceStatus"].endswith("_FAILED"):
                        reason = event.get("ResourceStatusReason", "")
                        lines.append(f"  {event['LogicalResourceId']}: {event['ResourceStatus']}: {reason}")
        except (ClientError, WaiterError):
            pass
        return "\n".join(reversed(lines)) or "  no resource told why"
