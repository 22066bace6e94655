"""What AWS's service models declare as errors of the operations that worker/aws calls.

    tests/errors/declared.py            prints what worker/aws/errors/declared.json must be
    tests/errors/declared.py --write    writes it

The operations are read from the sources of worker/aws: each error of a call names its operation as
`service:Operation`. The models are botocore's, in the version that tests/requirements.txt brings. A test
(`test_declared.py`) compares, and another one in Rust (`disposition/table.rs`) fails for each code that has no decided
meaning.
"""

import json
import re
import sys
from functools import cache
from pathlib import Path

import botocore.session
from botocore import xform_name

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "worker/aws/src"
DECLARED = ROOT / "worker/aws/errors/declared.json"
SERVICES = (
    "application-autoscaling",
    "cloudwatch",
    "dynamodb",
    "ec2",
    "ecs",
    "events",
    "logs",
    "scheduler",
    "secretsmanager",
    "sqs",
    "ssm",
)
NAMED = re.compile(r'"([a-z0-9-]+):([A-Z][A-Za-z0-9]+)"')
# `.describe_instances()`: how a request of the SDK begins.
BEGUN = re.compile(r"\.([a-z][a-z0-9_]+)\(\)")


def sources():
    """The text of each source file that is not a test's."""
    for path in sorted(SOURCES.rglob("*.rs")):
        if path.name != "tests.rs" and "tests" not in path.relative_to(SOURCES).parts:
            yield path, path.read_text().split("#[cfg(test)]\nmod tests {")[0]


@cache
def model(service):
    return botocore.session.get_session().get_service_model(service)


def named():
    """The operations that the sources name, as `service:Operation`."""
    models = {service: set(model(service).operation_names) for service in SERVICES}
    found = set()
    for _, text in sources():
        for service, operation in NAMED.findall(text):
            if operation in models.get(service, ()):
                found.add(f"{service}:{operation}")
    return sorted(found)


def begun():
    """For each request that the sources begin: the operations that it can be."""
    by_method = {}
    for service in SERVICES:
        for operation in model(service).operation_names:
            by_method.setdefault(xform_name(operation), set()).add(f"{service}:{operation}")
    found = {}
    for path, text in sources():
        for method in BEGUN.findall(text):
            if method in by_method:
                found.setdefault(method, (path.relative_to(ROOT).as_posix(), by_method[method]))
    return found


def declared():
    """The codes that the models declare, by operation."""
    table = {}
    for name in named():
        service, operation = name.split(":")
        shapes = model(service).operation_model(operation).error_shapes
        codes = set()
        for shape in shapes:
            # SDKs see both: the shape's name in a JSON protocol's `__type`, and the code that queries carry.
            codes.update({shape.name, shape.error_code})
        table[name] = sorted(codes)
    return table


def text():
    lines = [f"  {json.dumps(name)}: {json.dumps(codes)}" for name, codes in declared().items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    if sys.argv[1:] == ["--write"]:
        DECLARED.write_text(text())
    elif sys.argv[1:]:
        sys.exit(__doc__)
    else:
        print(text(), end="")
