"""The report of a run: text, JSON or Markdown, without what identifies an account."""

import json
import re

import kit

WORDS = {kit.HOLDS: "holds", kit.DIFFERS: "DIFFERS", kit.SKIPPED: "skipped"}
# Account ids, the ids of what lives in an account, access keys, addresses, and hosts with a port.
PATTERNS = [
    (re.compile(r"(arn:aws[a-z-]*:[a-z0-9-]*:[a-z0-9-]*:)\d{12}"), r"\1ACCOUNT"),
    (re.compile(r"(?<![\w.])\d{12}(?![\w.])"), "ACCOUNT"),
    (re.compile(r"\b(i|lt|subnet|vpc|sg|ami|vol|eni|snap|r|eipalloc|sir)-[0-9a-f]{8,17}\b"), r"\1-REDACTED"),
    (re.compile(r"\b(AKIA|ASIA|AROA|AIDA)[A-Z0-9]{12,}\b"), r"\1REDACTED"),
    (re.compile(r"\b(?:10|127|172|192|3|18|34|35|44|52|54)(?:\.\d{1,3}){3}\b"), "ADDRESS"),
    (re.compile(r"[A-Za-z0-9+/_-]{80,}={0,2}"), "LONG-TOKEN"),
]


def redact(text, account=None):
    if account:
        text = text.replace(account, "ACCOUNT")
    for pattern, instead in PATTERNS:
        text = pattern.sub(instead, text)
    return text


def as_data(run, endpoint_name):
    """The report as data; every string in it is redacted."""
    counts = {word: sum(it.status == word for it in run.results) for word in WORDS}

    def clean(value):
        if isinstance(value, str):
            return redact(value, run.account)
        if isinstance(value, list):
            return [clean(it) for it in value]
        return value

    facts = [
        {
            "fact": it.fact.id, "sentence": it.fact.sentence, "source": it.fact.source, "status": it.status,
            "reason": clean(it.reason), "seen": clean(it.seen), "calls": clean(it.calls),
            "seconds": round(it.seconds, 1),
        }
        for it in run.results
    ]  # fmt: skip
    return {
        "endpoint": clean(endpoint_name), "region": run.region, "run": run.id, "at": kit.now().isoformat("T", "seconds"),
        "counts": counts, "facts": facts, "unremoved": clean(run.unremoved),
    }  # fmt: skip


def as_json(data):
    return json.dumps(data, indent=1, ensure_ascii=False)


def heading(data):
    counts = ", ".join(f"{count} {WORDS[word]}" for word, count in data["counts"].items())
    return f"{len(data['facts'])} facts asked of {data['endpoint']} in {data['region']}, {data['at']}: {counts}"


def as_text(data):
    lines = [heading(data), ""]
    for it in data["facts"]:
        lines.append(f"{WORDS[it['status']]:8} {it['fact']}: {it['sentence']}")
        if it["status"] != kit.HOLDS:
            lines.append(f"         {it['reason']}")
        if it["status"] == kit.DIFFERS:
            lines.append(f"         right by AWS's documents: {it['source']}")
        lines += [f"         saw {seen}" for seen in it["seen"]]
        if it["status"] == kit.DIFFERS and it["calls"]:
            lines.append(f"         calls {'; '.join(it['calls'])}")
    if data["unremoved"]:
        lines += ["", "NOT REMOVED (scripts/conform --clean tries again):", *(f"  {it}" for it in data["unremoved"])]
    return "\n".join(lines)


def cell(text):
    return text.replace("|", "\\|").replace("\n", " ")


def as_markdown(data):
    lines = [f"# {heading(data)}", "", "| fact | status | seen | calls | source |", "| --- | --- | --- | --- | --- |"]
    for it in data["facts"]:
        seen = [it["reason"]] if it["reason"] else []
        columns = [
            f"**{it['fact']}**: {it['sentence']}", WORDS[it["status"]], "; ".join(seen + it["seen"]),
            "; ".join(it["calls"]), it["source"],
        ]  # fmt: skip
        lines.append("| " + " | ".join(cell(it) for it in columns) + " |")
    if data["unremoved"]:
        lines += ["", "Not removed:", "", *(f"- {it}" for it in data["unremoved"])]
    return "\n".join(lines)
