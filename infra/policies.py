#!/usr/bin/env python3
"""Writes the policies of infra/*-policy.json into the templates, between their marks; --check only compares.

Theory. The JSON files are the truth about rights: tests run every job under them, and fail for a right that
is missing or not used. The templates must say the same, so nobody writes it there by hand: what stands
between `# begin NAME` and `# end NAME` is made here. A capital placeholder that is not known is refused,
since it would reach IAM as text and allow nothing.

Not here: trust policies, and the rights of what is not Lamplighter (ECS's own agent, EventBridge).
"""

import json
import re
import sys
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent

# What each placeholder of the JSON files is in any template, and what it is in one of them. Longer ones first:
# DEAD_LETTER_QUEUE is whole.
EVERYWHERE = [
    ("arn:aws:", "arn:${AWS::Partition}:"),
    ("REGION", "${AWS::Region}"),
    ("ACCOUNT", "${AWS::AccountId}"),
]
STACK_MARKS = [
    *EVERYWHERE,
    ("DEAD_LETTER_QUEUE", "${DeadLetters.QueueName}"),
    ("COMMAND_QUEUE", "${Commands.QueueName}"),
    ("TABLE", "${Table}"),
    ("BUS", "${EventBusName}"),
    ("SECRET_NAME", "${SecretName}"),
    ("LAUNCH_TEMPLATE", "${LaunchTemplateId}"),
    ("INSTANCE_PROFILE_ROLE", "${InstanceProfileRole}"),
    ("BOOTSTRAP_DOCUMENT", "${BootstrapDocument}"),
    ("IMAGE_PARAMETER", "${ImageParameter}"),
    ("CLUSTER", "${ECSClusterName}"),
    ("SERVICE", "${ECSServiceName}"),
]
DOOR_MARKS = [
    *EVERYWHERE,
    ("DEAD_LETTER_QUEUE", "${DeadLetterQueue}"),
    ("COMMAND_QUEUE", "${CommandQueue}"),
    ("TABLE", "${TableName}"),
    ("TOKENS_SECRET", "${TokensSecret}"),
    ("LINKS_SECRET", "${LinksSecret}"),
]
# A statement about something that a stack may not have, and the condition that says whether it has it.
CONDITIONS = [
    ("${SecretName}", "HasSecret"),
    ("${ECSClusterName}", "HasService"),
    ("${LaunchTemplateId}", "HasLaunchTemplate"),
    ("${InstanceProfileRole}", "HasInstanceProfileRole"),
    ("${BootstrapDocument}", "HasBootstrapDocument"),
    ("${ImageParameter}", "HasImageParameter"),
    ("${DeadLetterQueue}", "HasDeadLetters"),
    ("${TokensSecret}", "HasTokensSecret"),
    ("${LinksSecret}", "HasLinksSecret"),
]
# What looks like a placeholder and is part of a name of AWS's, or of a key of the table.
NO_PLACEHOLDERS = {"AWS", "TEMPLATE"}
# Words that YAML reads as a truth or as nothing.
NO_TEXT = {"true", "false", "yes", "no", "on", "off", "y", "n", "null"}
# Statements of operator-policy.json that a service which only sends commands needs (infra/README.md).
SENDER = ["SendCommands"]


class PolicyError(Exception):
    """A policy that cannot be written into the template."""


class Template(NamedTuple):
    """A template, its words for the placeholders, and the policies that it must have."""

    path: Path
    marks: list
    needed: set


TEMPLATES = [
    Template(HERE / "lamplighter.yaml", STACK_MARKS, {"worker", "sender", "operator"}),
    Template(HERE / "door.yaml", DOOR_MARKS, {"door"}),
]


def filled(where, text, marks):
    """The resource with the template's own words; refused where a placeholder is left."""
    for mark, value in marks:
        text = re.sub(rf"(?<![A-Z_]){re.escape(mark)}(?![A-Z_])", lambda _: value, text)
    bare = re.sub(r"\$\{[^}]*\}", "", text)
    left = set(re.findall(r"[A-Z][A-Z_]{2,}", bare)) - NO_PLACEHOLDERS
    if left:
        raise PolicyError(f"{where}: {sorted(left)} is no placeholder that infra/policies.py knows")
    return text


def scalar(text):
    """A YAML scalar; quoted, unless it is a name that no reader takes for something else."""
    plain = re.fullmatch(r"[A-Za-z][A-Za-z0-9]*(:[A-Za-z]\w*)?", text) and text.lower() not in NO_TEXT
    return text if plain else json.dumps(text)


def resource(where, text, marks):
    text = filled(where, text, marks)
    return f"!Sub {json.dumps(text)}" if "${" in text else scalar(text)


def flow(value, write):
    """A value of a statement on one line; `write` writes its texts."""
    if isinstance(value, str):
        return write(value)
    if isinstance(value, list):
        return f"[{', '.join(flow(item, write) for item in value)}]"
    inner = ", ".join(f"{scalar(key)}: {flow(item, write)}" for key, item in value.items())
    return f"{{ {inner} }}"


def statement_lines(where, statement, indent, marks):
    """The statement as an entry of a list of YAML, behind its condition where it has one. Each on as few lines as
    can be read: CloudFormation takes 51 200 bytes, and indentation would be most of them."""

    def entry(indent):
        parts = []
        for key, value in statement.items():
            fills = key in ("Resource", "Condition")
            write = (lambda text: resource(where, text, marks)) if fills else scalar
            parts.append(f"{key}: {flow(value, write)}")
        # Who and what on the first line, on what and when on lines of their own.
        head = [part for part in parts if not part.startswith(("Resource", "Condition"))]
        tail = [part for part in parts if part.startswith(("Resource", "Condition"))]
        pad = " " * (indent + 2)
        lines = [f"{' ' * indent}- {{ {', '.join(head)}", *(f"{pad}{part}" for part in tail)]
        return [*(f"{line}," for line in lines[:-1]), f"{lines[-1]} }}"]

    lines = entry(indent)
    for mark, condition in CONDITIONS:
        if any(mark in line for line in lines):
            pad = " " * indent
            head = [f"{pad}- Fn::If:", f"{pad}    - {condition}"]
            return [*head, *entry(indent + 4), f"{pad}    - !Ref AWS::NoValue"]
    return lines


def statements(name):
    """The statements of a policy by the name of its mark: `worker`, `sender`, `operator`, `door`."""
    file = "operator" if name == "sender" else name
    path = HERE / f"{file}-policy.json"
    found = json.loads(path.read_text(encoding="utf-8"))["Statement"]
    if name == "sender":
        found = [statement for statement in found if statement["Sid"] in SENDER]
        if len(found) != len(SENDER):
            raise PolicyError(f"{path.name} lacks one of {SENDER}")
    return path.name, found


def generated(template, text):
    """The template's text with every marked part made anew."""
    lines, out, made = text.split("\n"), [], []
    until = None
    for line in lines:
        begin = re.fullmatch(r"( *)# begin (\w+)(: .*)?", line)
        if until is None or line.strip() == until:
            out.append(line)
            until = None
        if begin and until is None:
            indent, name = len(begin[1]), begin[2]
            file, found = statements(name)
            for statement in found:
                out += statement_lines(f"{file}: {statement['Sid']}", statement, indent, template.marks)
            until = f"# end {name}"
            made.append(name)
    if until is not None:
        raise PolicyError(f"{template.path.name} has no `{until}`")
    missing = template.needed - set(made)
    if missing:
        raise PolicyError(f"{template.path.name} has no `# begin` of {sorted(missing)}")
    return "\n".join(out)


def main(arguments):
    if arguments not in ([], ["--check"]):
        print("usage: infra/policies.py [--check]", file=sys.stderr)
        return 2
    code = 0
    for template in TEMPLATES:
        name, old = template.path.name, template.path.read_text(encoding="utf-8")
        try:
            new = generated(template, old)
        except PolicyError as error:
            print(f"infra/policies.py: {error}", file=sys.stderr)
            return 1
        if old == new:
            continue
        if arguments:
            print(f"infra/{name} and infra/*-policy.json differ: run infra/policies.py", file=sys.stderr)
            code = 1
        else:
            template.path.write_text(new, encoding="utf-8")
            print(f"infra/{name} is written anew")
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
