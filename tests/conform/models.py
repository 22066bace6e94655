"""What AWS's own service models (botocore's) say of a recorded exchange.

A request is read back from the wire by its protocol, and compared with the operation's input: required members,
unknown members, types, patterns, lengths, ranges, enumerations. An answer likewise, and an error's code must be
declared. botocore's own `ParamValidator` knows neither patterns nor enumerations nor maxima: so all of it is here.
"""

import base64
import datetime
import gzip
import io
import json
import re
import urllib.parse
import xml.etree.ElementTree as ElementTree

import botocore.parsers
import botocore.session
from botocore.awsrequest import HeadersDict

SIGNED_AS = {"monitoring": "cloudwatch"}
SESSION = botocore.session.Session()
MODELS = {}
CREDENTIAL = re.compile(r"Credential=[^/]+/\d{8}/[^/]+/([^/]+)/aws4_request")


class Unreadable(Exception):
    """An exchange that is no call of AWS's."""


def model_of(service):
    if service not in MODELS:
        MODELS[service] = SESSION.get_service_model(service)
    return MODELS[service]


class Call:
    """An exchange with its service, operation and problems."""

    def __init__(self, exchange):
        self.exchange = exchange
        match = CREDENTIAL.search(exchange.headers.get("authorization", ""))
        if not match:
            raise Unreadable(f"{exchange.method} {exchange.path} is not signed")
        self.service = SIGNED_AS.get(match[1], match[1])
        self.model = model_of(self.service)
        body = exchange.body
        if exchange.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        self.reader = self._reader(body)
        self.operation = self.model.operation_model(self.reader.operation)
        self.name = f"{self.service}:{self.operation.name}"
        self.request = self.reader.request(self.operation)

    def _reader(self, body):
        exchange = self.exchange
        if "x-amz-target" in exchange.headers:
            return Json(exchange, body)
        if exchange.headers.get("smithy-protocol") == "rpc-v2-cbor":
            return Cbor(exchange, body)
        if self.model.metadata["protocol"] == "ec2":
            return Ec2(exchange, body)
        if self.model.metadata["protocol"] == "rest-json":
            return RestJson(exchange, body, self.model)
        raise Unreadable(f"{exchange.method} {exchange.path}: no reader for it")

    def problems(self):
        """What is wrong with the request, and what with the answer."""
        found = [f"request: {text}" for text in check(self.operation.input_shape, self.request, self.reader.times)]
        if self.exchange.status < 300:
            answer = self.reader.answer(self.operation)
            shape = self.operation.output_shape
            found += [f"answer: {text}" for text in check(shape, answer, self.reader.times)]
        found += [f"answer: {text}" for text in self._parsed()]
        return found

    def _parsed(self):
        """Whether botocore reads the answer as a client does."""
        protocol = self.reader.protocol or self.model.metadata["protocol"]
        parser = botocore.parsers.create_parser(protocol)
        answer = {"headers": HeadersDict(self.exchange.answer_headers), "status_code": self.exchange.status, "body": self.exchange.answer}
        try:
            parser.parse(answer, self.operation.output_shape)
        except Exception as error:  # noqa: BLE001: any of them is a client that fails
            yield f"botocore cannot read it: {type(error).__name__}: {error}"

    def error(self):
        """The code of an error as clients know it, or nothing where it is none."""
        return None if self.exchange.status < 300 else self.reader.error()

    def declared(self):
        """The codes of the operation's declared errors."""
        codes = set()
        for shape in self.operation.error_shapes:
            codes |= {shape.name, shape.metadata.get("error", {}).get("code") or shape.name}
        return codes


# -- Protocols ------------------------------------------------------------------------------------------------------


class Json:
    """json 1.0 and 1.1."""

    times = (int, float)
    protocol = "json"

    def __init__(self, exchange, body):
        self.exchange, self.body = exchange, body
        self.operation = exchange.headers["x-amz-target"].rsplit(".", 1)[1]

    def request(self, operation):
        return json.loads(self.body or b"{}")

    def answer(self, operation):
        return json.loads(self.exchange.answer or b"{}")

    def error(self):
        body = json.loads(self.exchange.answer or b"{}")
        code = body.get("__type") or self.exchange.answer_headers.get("x-amzn-errortype", "")
        return code.split("#")[-1].split(":")[0]


class RestJson(Json):
    protocol = "rest-json"

    def __init__(self, exchange, body, model):
        self.exchange, self.body = exchange, body
        parts = urllib.parse.urlsplit(exchange.path)
        self.query = urllib.parse.parse_qs(parts.query, keep_blank_values=True)
        for name in model.operation_names:
            http = model.operation_model(name).http
            pattern = re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(http["requestUri"]))
            match = re.fullmatch(pattern, parts.path)
            if match and http["method"] == exchange.method:
                self.operation = name
                self.labels = {key: urllib.parse.unquote(text) for key, text in match.groupdict().items()}
                return
        raise Unreadable(f"{exchange.method} {exchange.path} is none of {model.service_name}'s")

    def request(self, operation):
        found = json.loads(self.body or b"{}")
        for name, member in operation.input_shape.members.items():
            place, key = member.serialization.get("location"), member.serialization.get("name", name)
            if place == "uri" and key in self.labels:
                found[name] = self.labels.pop(key)
            elif place == "querystring" and key in self.query:
                text = self.query.pop(key)[0]
                found[name] = int(text) if member.type_name in ("integer", "long") else text
        found |= {f"label {key}": text for key, text in self.labels.items()}
        return found | {f"query {key}": text for key, text in self.query.items()}


class Cbor:
    """rpc-v2-cbor."""

    times = (datetime.datetime,)
    protocol = "smithy-rpc-v2-cbor"

    def __init__(self, exchange, body):
        self.exchange, self.body = exchange, body
        self.operation = exchange.path.rsplit("/", 1)[1]

    def _read(self, data):
        if not data:
            return {}
        parser = botocore.parsers.create_parser(self.protocol)
        stream = io.BufferedReader(io.BytesIO(data))
        value = parser.parse_data_item(stream)
        if stream.read(1):
            raise Unreadable("CBOR with something behind it")
        return value

    def request(self, operation):
        return self._read(self.body)

    def answer(self, operation):
        return self._read(self.exchange.answer)

    def error(self):
        return self._read(self.exchange.answer).get("__type", "").split("#")[-1]


class Ec2:
    """EC2's query protocol: flat names in, XML out."""

    times = (str,)
    protocol = None

    def __init__(self, exchange, body):
        self.exchange = exchange
        self.flat = dict(urllib.parse.parse_qsl(body.decode(), keep_blank_values=True))
        self.operation = self.flat.pop("Action")
        self.version = self.flat.pop("Version")

    def request(self, operation):
        left = dict(self.flat)
        found = self._structure(operation.input_shape, "", left)
        wanted = operation.service_model.api_version
        if self.version != wanted:
            found["Version"] = self.version
        return found | {f"parameter {key}": text for key, text in left.items()}

    def _structure(self, shape, prefix, left):
        found = {}
        for name, member in shape.members.items():
            key = member.serialization.get("queryName")
            if key is None:
                key = member.serialization.get("name", name)
                key = key[0].upper() + key[1:]
            value = self._value(member, f"{prefix}{key}", left)
            if value is not None:
                found[name] = value
        return found

    def _value(self, shape, key, left):
        if shape.type_name == "structure":
            here = any(name.startswith(f"{key}.") for name in left)
            return self._structure(shape, f"{key}.", left) if here else None
        if shape.type_name == "list":
            items = []
            while (item := self._value(shape.member, f"{key}.{len(items) + 1}", left)) is not None:
                items.append(item)
            return items or None
        return scalar(shape, left.pop(key)) if key in left else None

    def answer(self, operation):
        root = self._root()
        if bare(root) != f"{operation.name}Response":
            raise Unreadable(f"the answer is a {bare(root)}")
        shape = operation.output_shape
        found = self._read(shape, root) if shape else {}
        found.pop("element requestId", None)
        return found

    def _root(self):
        return ElementTree.fromstring(self.exchange.answer)

    def _read(self, shape, element):
        if shape.type_name == "structure":
            names = {member.serialization.get("name", name): name for name, member in shape.members.items()}
            found = {}
            for child in element:
                name = names.get(bare(child))
                if name is None:
                    found[f"element {bare(child)}"] = child.text or "…"
                else:
                    found[name] = self._read(shape.members[name], child)
            return found
        if shape.type_name == "list":
            wanted = shape.member.serialization.get("name", "item")
            return [
                self._read(shape.member, child) if bare(child) == wanted else f"element {bare(child)}"
                for child in element
            ]
        return scalar(shape, element.text or "")

    def error(self):
        code = next((it for it in self._root().iter() if bare(it) == "Code"), None)
        return code.text if code is not None else ""


def bare(element):
    return element.tag.split("}")[-1]


def scalar(shape, text):
    """A text of the query protocol as the value that it stands for; the text itself where it stands for none."""
    try:
        if shape.type_name in ("integer", "long"):
            return int(text)
        if shape.type_name in ("float", "double"):
            return float(text)
    except ValueError:
        return text
    if shape.type_name == "boolean":
        return {"true": True, "false": False}.get(text, text)
    return text


# -- Values ---------------------------------------------------------------------------------------------------------

TEXTS = {"string", "character"}
# Java's classes and escapes that Python writes otherwise. What is not ASCII is let pass where it may be a letter.
REWRITTEN = [
    (r"\uD800\uDC00-\uDBFF\uDFFF", r"\U00010000-\U0010ffff"),
    (r"\p{Print}", r"[^\x00-\x1f\x7f]"),
    (r"\p{IsAlphabetic}", r"a-zA-Z\u0080-\U0010ffff"),
    (r"\p{L}", r"a-zA-Z\u0080-\U0010ffff"),
    (r"\p{N}", r"\d"),
    (r"\p{Z}", r"\s"),
    (r"\p{M}", ""),
    (r"\p{S}", r"$+<=>^`|~"),
    (r"\p{P}", r"!-/:-@"),
    (r"\w-", r"\w\-"),
]


def expression(pattern):
    """Java's pattern as Python's."""
    for java, python in REWRITTEN:
        pattern = pattern.replace(java, python)
    return re.compile(pattern, re.DOTALL)


def check(shape, value, times, path=""):
    """What the model says against the value; `times` are the types in which the protocol carries a time."""
    here = path or "it"
    if shape is None:
        if value:
            yield f"{here} has no members, and has {sorted(value)}"
        return
    kind = shape.type_name
    if value is None:
        # JSON's null is a member that is not there.
        return
    if kind == "structure":
        yield from check_structure(shape, value, times, path)
    elif kind == "list":
        if not isinstance(value, list):
            yield f"{here} is {value!r:.60}, not a list"
            return
        yield from check_size(shape, len(value), here)
        for at, item in enumerate(value):
            yield from check(shape.member, item, times, f"{here}[{at}]")
    elif kind == "map":
        if not isinstance(value, dict):
            yield f"{here} is {value!r:.60}, not a map"
            return
        yield from check_size(shape, len(value), here)
        for key, item in value.items():
            yield from check(shape.key, key, times, f"{here}.{key} (its key)")
            yield from check(shape.value, item, times, f"{here}.{key}")
    elif kind in TEXTS:
        if not isinstance(value, str):
            yield f"{here} is {value!r:.60}, not a text"
            return
        yield from check_text(shape, value, here)
    elif kind in ("integer", "long", "float", "double"):
        whole = kind in ("integer", "long")
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            yield f"{here} is {value!r:.60}, not a{' whole' if whole else ''} number"
            return
        yield from check_size(shape, value, here)
    elif kind == "boolean":
        if not isinstance(value, bool):
            yield f"{here} is {value!r:.60}, not true or false"
    elif kind == "timestamp":
        if isinstance(value, bool) or not isinstance(value, times):
            yield f"{here} is {value!r:.60}, not a time of this protocol"
        elif isinstance(value, str) and not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", value):
            yield f"{here} is {value!r:.60}, not a time as ISO 8601"
    elif kind == "blob":
        if isinstance(value, str):
            try:
                base64.b64decode(value, validate=True)
            except ValueError:
                yield f"{here} is no base64"
    else:
        yield f"{here}: a {kind} cannot be checked"


def check_structure(shape, value, times, path):
    here = path or "it"
    if getattr(shape, "is_document_type", False):
        return
    if not isinstance(value, dict):
        yield f"{here} is {value!r:.60}, not a structure"
        return
    names = {}
    for name, member in shape.members.items():
        # Protocols on JSON may name a member otherwise; those of XML were renamed by their reader.
        location = member.serialization.get("location")
        names[name] = member
        if location is None and member.serialization.get("name") and name not in value:
            names[member.serialization["name"]] = member
    for name in shape.required_members:
        key = shape.members[name].serialization.get("name", name)
        if value.get(name, value.get(key)) is None:
            yield f"{here} lacks {name}"
    for name, member in value.items():
        if name not in names:
            yield f"{here} has {name}, which {shape.name} has not"
        else:
            yield from check(names[name], member, times, f"{path}.{name}" if path else name)
    if getattr(shape, "is_tagged_union", False) and len([it for it in value.values() if it is not None]) != 1:
        yield f"{here} is a union and has {sorted(value)}"


def check_size(shape, size, here):
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and size < low:
        yield f"{here}: {size} is below {low}"
    if high is not None and size > high:
        yield f"{here}: {size} is above {high}"


def check_text(shape, value, here):
    enum = getattr(shape, "enum", None)
    if enum and value not in enum:
        yield f"{here} is {value!r}, none of {', '.join(enum[:8])}"
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if low is not None and len(value) < low or high is not None and len(value) > high:
        yield f"{here} has {len(value)} characters; {low or 0} to {high} are allowed"
    pattern = shape.metadata.get("pattern")
    # AWS's services match the whole text, whether or not a pattern has anchors.
    if pattern and not expression(pattern).fullmatch(value):
        yield f"{here} is {value!r:.80}, not like {pattern}"
