"""scripts/conform: asks AWS, or an endpoint that speaks for it, whether what Lamplighter believes of AWS is so."""

import argparse
import fnmatch
import ipaddress
import os
import signal
import sys
import urllib.parse

import boto3
from botocore.exceptions import BotoCoreError, ClientError

import facts  # noqa: F401: registers them
import kit
import report
import sweep

COST = """\
It makes queues, a DynamoDB table on demand, rules, a schedule, log groups, secrets, roles, about eight t4g.nano
instances and one or two Fargate tasks of 0.25 vCPU, each for minutes, under the prefix {prefix},
and removes all of them. Together that costs less than one US dollar; about 20 cents are usual."""
ABOUT = f"""\
Every fact about AWS on which Lamplighter's code rests, as one small check: a sentence, its source among AWS's pages,
the calls, and what was seen.

{COST.format(prefix=kit.PREFIX + "-RUN")}

Exit codes: 0 all facts hold or were skipped; 1 a fact differs, or something could not be removed; 2 wrong usage;
130 interrupted (what was made is removed all the same)."""


def parse(arguments):
    parser = argparse.ArgumentParser(
        "scripts/conform", description=ABOUT, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--endpoint", metavar="URL", default=os.environ.get("AWS_ENDPOINT_URL"), help="ask this instead of AWS")
    add("--account", metavar="ID", help="the real account that is asked: twelve digits; required unless the endpoint "
        "is on this machine")  # fmt: skip
    add("--region", help="before AWS_REGION and the profile's")
    add("--yes", action="store_true", help="do not ask before anything is created")
    add("--only", metavar="PATTERN", action="append", help="facts such as sqs/* or ec2/a-client-token*; may be repeated")
    add("--list", action="store_true", help="list the facts and ask nothing")
    add("--minutes", type=float, default=25, help="the bound on the run; what is left then is skipped (25)")
    add("--clean", action="store_true", help="remove what earlier runs left behind, and ask nothing")
    add("--subnet", help="where instances and tasks are launched; without it the default VPC's")
    add("--instance-profile", metavar="NAME", help="one with which SSM's agent registers; without it facts about "
        "running commands are skipped")  # fmt: skip
    add("--service", metavar="CLUSTER/NAME", help="an ECS service whose count may change; without it one is made")
    add("--json", metavar="FILE", help="write the report as JSON; - is stdout")
    add("--markdown", metavar="FILE", help="write the report as Markdown; - is stdout")
    args = parser.parse_args(arguments)
    if args.service and args.service.count("/") != 1:
        parser.error(f"--service {args.service!r}: expected CLUSTER/NAME")
    if args.account and not (args.account.isdigit() and len(args.account) == 12):
        parser.error(f"--account {args.account!r}: expected twelve digits")
    if not 0 < args.minutes <= 120:
        parser.error("--minutes: expected more than 0 and at most 120")
    if args.endpoint and urllib.parse.urlsplit(args.endpoint).scheme not in ("http", "https"):
        parser.error(f"--endpoint {args.endpoint!r}: expected http:// or https:// and a host")
    if args.json == "-" and args.markdown == "-":
        parser.error("--json - and --markdown -: only one of them can be stdout")
    return args


def is_here(endpoint):
    host = urllib.parse.urlsplit(endpoint or "").hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def chosen(patterns):
    patterns = patterns or ["*"]
    return [fact for fact in kit.FACTS if any(fnmatch.fnmatchcase(fact.id, pattern) for pattern in patterns)]


def tell(text):
    print(text, file=sys.stderr, flush=True)


def credentials_for(endpoint):
    """Those of the environment; an endpoint on this machine takes any."""
    if is_here(endpoint) and boto3.Session().get_credentials() is None:
        return {"aws_access_key_id": "conform", "aws_secret_access_key": "conform"}
    return None


def agreed(args, run):
    """Whether something may be created: on this machine always, elsewhere in the account that the user named."""
    if is_here(args.endpoint):
        return True
    try:
        caller = run.client("sts").get_caller_identity()
    except (ClientError, BotoCoreError) as error:
        tell(f"scripts/conform: who is asking is not known: {kit.brief(error)}")
        return False
    run.account = caller["Account"]
    if args.account != run.account:
        given = f"--account {args.account}" if args.account else "no --account"
        tell(f"scripts/conform: these credentials belong to account {run.account}, and there is {given}. A real account "
             f"is asked only with --account {run.account}.")  # fmt: skip
        return False
    if args.yes:
        return True
    what = "removes what earlier runs left behind" if args.clean else COST.format(prefix=run.prefix)
    tell(f"Account {run.account}, region {run.region}.\n{what}")
    if not sys.stdin.isatty():
        tell("scripts/conform: nobody is there to ask: --yes agrees")
        return False
    tell("Type yes to go on:")
    return sys.stdin.readline().strip() == "yes"


def write(path, text):
    if path == "-":
        print(text)
    else:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text + "\n")


def interrupt(*_):
    raise KeyboardInterrupt


def progress(result):
    tell(f"{report.WORDS[result.status]:8} {result.fact.id} ({result.seconds:.1f} s)"
         + (f": {report.redact(result.reason)}" if result.status == kit.DIFFERS else ""))  # fmt: skip


def main(arguments=None):
    args = parse(arguments)
    asked = chosen(args.only)
    if args.list:
        for fact in asked:
            print(f"{fact.id}: {fact.sentence}\n    {fact.source}")
        return 0
    if not asked:
        tell(f"scripts/conform: no fact is named like {', '.join(args.only)}; --list shows all")
        return 2
    given = kit.Given(service=args.service, profile=args.instance_profile, subnet=args.subnet)
    run = kit.Run(args.endpoint, args.region, args.minutes, given, credentials=credentials_for(args.endpoint))
    given.local = sweep.is_lamplighter_local(args.endpoint) if is_here(args.endpoint) else False
    if given.local:
        given.subnet = given.subnet or "subnet-00000000000000001"
        given.profile = given.profile or "conform"
    if not agreed(args, run):
        return 2
    if args.clean:
        return clean(run)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, interrupt)
    interrupted = False
    try:
        run.ask_all(asked, progress)
    except KeyboardInterrupt:
        interrupted = True
        tell("interrupted: removing what was made")
    finally:
        # What was made is removed first; a second Ctrl-C must not leave it.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        run.remove()
    data = report.as_data(run, args.endpoint or "AWS")
    if args.json:
        write(args.json, report.as_json(data))
    if args.markdown:
        write(args.markdown, report.as_markdown(data))
    if "-" not in (args.json, args.markdown):
        print(report.as_text(data))
    if interrupted:
        return 130
    return 1 if data["counts"][kit.DIFFERS] or run.unremoved else 0


def clean(run):
    removed, left = sweep.clean(run)
    for what in removed:
        tell(f"removed {report.redact(what, run.account)}")
    for what in left:
        tell(f"NOT REMOVED: {report.redact(what, run.account)}")
    tell(f"{len(removed)} removed, {len(left)} left")
    return 1 if left else 0


if __name__ == "__main__":
    sys.exit(main())
