"""Shows CloudWatch logs of the worker, of the door or of a target, and follows them; scripts/logs is its door.

Theory. CloudWatch takes lines late and out of order, so following looks back over a window and leaves out
what was shown. Only that window is remembered.

Not here: searching over days; CloudWatch's own console does that better.
"""

import argparse
import json
import os
import re
import sys
import time
from collections import OrderedDict
from datetime import datetime, timezone
from pathlib import Path

import boto3
import fleet as fleets
from botocore.exceptions import BotoCoreError, ClientError
from stack import Stack

# How late a line may come and still be shown.
WINDOW_SECONDS = 60
LOOK_EVERY_SECONDS = 2
# So many lines of the window are remembered at most; beyond them a line may be shown twice.
REMEMBERED_MAX = 50_000
# What the stacks run; no target of the fleet.
OURS = ["worker", "door"]
UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class LogError(Exception):
    """Why there is nothing to show."""


def seconds(text):
    found = re.fullmatch(r"([0-9]{1,6})([smhd])", text)
    if not found:
        raise argparse.ArgumentTypeError(f'"{text}" is no duration; expected such as 90s, 10m, 2h or 1d')
    return int(found[1]) * UNITS[found[2]]


def arguments_of(argv):
    parser = argparse.ArgumentParser(prog="scripts/logs", description="Shows CloudWatch logs.", allow_abbrev=False)
    parser.add_argument(
        "what", metavar="TARGET|worker|door", help="a target with a log_group in the fleet file, the worker or the door"
    )
    parser.add_argument("-e", "--env", metavar="ENV", help="the environment: whose worker or door, and whose fleet file")
    parser.add_argument("--fleet", metavar="FILE", help="the fleet file; default: ENV's, without -e ./lamplighter.toml")
    parser.add_argument("-f", "--follow", action="store_true", help="goes on until Ctrl-C")
    parser.add_argument("--since", type=seconds, default=600, metavar="DURATION", help="default: 10m")
    parser.add_argument("--filter", metavar="PATTERN", help="CloudWatch's filter pattern, such as ERROR")
    parser.add_argument("--raw", action="store_true", help="shows the lines as they are")
    return parser.parse_args(argv)


def fleet_of(args, session):
    """The fleet file's tables, and what it is called."""
    if args.fleet or not args.env:
        path = Path(args.fleet or "lamplighter.toml")
        try:
            return fleets.read(path.read_text(encoding="utf-8"), str(path)), str(path)
        except (OSError, UnicodeDecodeError) as error:
            raise LogError(f"cannot read the fleet file {path}: {error}; -e ENV takes the deployed one") from error
    stack = Stack(session.client("cloudformation"), args.env, print)
    stored = stack.parameters().get("FleetParameter")
    if not stored:
        raise LogError(f"{stack.name} has no fleet in {session.region_name}: is it deployed?")
    text = session.client("ssm").get_parameter(Name=stored, WithDecryption=True)["Parameter"]["Value"]
    return fleets.read(text, stored), f"the fleet of {args.env}"


def group_of(args, session):
    if args.what in OURS:
        if not args.env:
            raise LogError(f"whose {args.what}? expected -e ENV")
        return f"/lamplighter/{args.env}/{args.what}"
    fleet, where = fleet_of(args, session)
    targets = fleet.get("targets", {})
    if args.what not in targets:
        known = ", ".join([*OURS, *sorted(targets)])
        raise LogError(f'no target of {where} is named "{args.what}"; expected one of {known}')
    group = targets[args.what].get("log_group")
    if not group:
        raise LogError(f'the target "{args.what}" of {where} has no log_group')
    return group


def line_of(event, raw):
    """One line for people; the worker's own JSON is unfolded."""
    message = event["message"].rstrip("\n")
    if raw:
        return message
    when = datetime.fromtimestamp(event["timestamp"] / 1000, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
    try:
        fields = json.loads(message)
        level, said = fields.pop("level"), fields.pop("message")
    except (ValueError, KeyError, AttributeError, TypeError):
        return f"{when} {event['logStreamName']}: {message}"
    for noise in ("timestamp", "target"):
        fields.pop(noise, None)
    rest = "".join(f" {key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in fields.items())
    return f"{when} {level:<5} {said}{rest}"


def show(client, group, args):
    """Prints what is there, and what comes."""
    started = int((time.time() - args.since) * 1000)
    since, shown = started, OrderedDict()
    pages = client.get_paginator("filter_log_events")
    more = {"filterPattern": args.filter} if args.filter else {}
    while True:
        events = []
        for page in pages.paginate(logGroupName=group, startTime=since, **more):
            events += [event for event in page["events"] if event["eventId"] not in shown]
        for event in sorted(events, key=lambda event: (event["timestamp"], event["eventId"])):
            print(line_of(event, args.raw), flush=True)
            shown[event["eventId"]] = event["timestamp"]
        if not args.follow:
            return
        since = max(started, int((time.time() - WINDOW_SECONDS) * 1000))
        for event_id in [event_id for event_id, at in shown.items() if at < since]:
            del shown[event_id]
        while len(shown) > REMEMBERED_MAX:
            shown.popitem(last=False)
        time.sleep(LOOK_EVERY_SECONDS)


def run(argv):
    args = arguments_of(argv)
    session = boto3.Session(region_name=os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION"))
    if not session.region_name:
        raise LogError("no AWS region is configured: set AWS_REGION, or `region` in the profile (AWS_PROFILE)")
    group = group_of(args, session)
    try:
        show(session.client("logs"), group, args)
    except ClientError as error:
        if error.response["Error"]["Code"] == "ResourceNotFoundException":
            raise LogError(f"there is no log group {group} in {session.region_name}") from error
        raise


def main(argv):
    try:
        run(argv)
    except (LogError, fleets.FleetError) as error:
        print(f"scripts/logs: {error}", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"scripts/logs: AWS: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 0
    except BrokenPipeError:
        # Whoever read has enough; the interpreter would complain once more at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
