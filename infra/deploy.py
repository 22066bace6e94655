"""Deploys Lamplighter for one environment; scripts/deploy is what people call.

Theory. One order, and each step may be done again: build, validate, store the fleet, show the change set,
execute it, apply the schedules, try it. The stacks beside the first one go the same way: VPC endpoints before it,
since a worker behind them needs them; alarms and the door after it, since they look at what it makes. The stacks
remember their parameters, so that a later deploy says only what changes. `plan` stops after it has shown, and
leaves nothing behind.

Invariants. Nothing that holds records or messages is removed or replaced without a yes. What AWS is reached
by (credentials, region, AWS_ENDPOINT_URL) is read as every AWS tool reads it.

Not here: rights of whoever deploys (infra/README.md).
"""

import argparse
import json
import os
import re
import subprocess
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import beside
import boto3
import bucket
import door as doors
import fleet as fleets
import image
from botocore.exceptions import BotoCoreError, ClientError
from stack import ALARMS, DOOR, ENDPOINTS, TEMPLATE, OptionError, Stack, StackError, check_value, option, template

ROOT = Path(__file__).resolve().parent.parent
# A folder that git ignores: what is generated is kept here.
KEPT = ROOT / ".lamplighter" / "deploy"
ACTIONS = ["validate", "plan", "deploy", "smoke", "destroy"]
# Seed 001's word: it deployed its functions by it.
ALIASES = {"deploy-lambda": "deploy"}
# Parameters that are no option: what -e says, and what storing the fleet makes.
WRITTEN = {"Env", "FleetParameter"}
# It has no `python -m`, and its script need not be on the PATH.
CFN_LINT = "import sys; from cfnlint.runner import main; sys.exit(main())"
# Fargate takes a minute or two to start a task; a machine takes longer.
SMOKE_SECONDS = 600
# The fleet before the present one stays, so that a stack that rolls back finds it.
FLEETS_KEPT = 2


class DeployError(Exception):
    """Why it stopped, in one sentence."""


def say(text=""):
    print(text, flush=True)


def heading(text):
    say(f"\n== {text}")


def shared_parameters(parameters):
    """Those of the first stack and of the alarms: what the door has, too."""
    return {**parameters, **beside.own_parameters(ALARMS, parameters)}


def arguments_of(parameters, argv):
    """The command line; an option for each parameter of the templates."""
    parser = argparse.ArgumentParser(
        prog="scripts/deploy",
        description="Builds, validates, shows the change set, deploys, applies the schedules, and tries it.",
        epilog="Each parameter that is left out stays as it is; at first it has its default.",
        allow_abbrev=False,
    )
    parser.add_argument("-e", "--env", required=True, metavar="ENV", help="the environment; part of every name")
    parser.add_argument(
        "-a", "--action", choices=[*ACTIONS, *ALIASES], default="deploy", help="default: deploy; deploy-lambda is the same"
    )
    parser.add_argument("--destroy", action="store_true", help="takes everything back; as -a destroy")
    parser.add_argument("--fleet", metavar="FILE", help="the fleet file; without one it is generated, or stays as it is")
    parser.add_argument("--keep", metavar="DIR", help="where the fleet file is kept; default: .lamplighter/deploy/ENV")
    parser.add_argument("--yes", action="store_true", help="asks nothing")
    parser.add_argument("--no-smoke", action="store_true", help="does not try the worker at the end")
    parser.add_argument("--smoke-target", metavar="TARGET", help="whose status is asked for; default: the first of the fleet")
    parser.add_argument("--smoke-seconds", metavar="N", type=int, default=SMOKE_SECONDS, help=f"default: {SMOKE_SECONDS}")
    parser.add_argument("--door", choices=["yes", "no"], help="whether there is an HTTP door; default: as it is, at first no")
    parser.add_argument(
        "--door-without-tokens", action="store_true", help='lets the internet in where the fleet says [http] auth = "none"'
    )
    parser.add_argument("--endpoints", choices=["yes", "no"], help="whether there are VPC endpoints; default: as it is, at first no")
    parser.add_argument(
        "--template-bucket", metavar="BUCKET", help="for a template that is too long for a call; default: one is made where it is needed"
    )
    for title, specs in [
        ("the stack", parameters),
        ("the alarms", beside.own_parameters(ALARMS, parameters)),
        ("the endpoints", beside.own_parameters(ENDPOINTS, parameters)),
        ("the door", doors.own_parameters(shared_parameters(parameters))),
    ]:
        group = parser.add_argument_group(f"parameters of {title}")
        for name, spec in specs.items():
            if name not in WRITTEN:
                default = f" (default: {spec['Default']})" if spec.get("Default", "") != "" else ""
                help_text = (spec["Description"] + default).replace("%", "%%")
                group.add_argument(option(name), dest=name, metavar="VALUE", help=help_text)
    args = parser.parse_args(argv)
    args.action = "destroy" if args.destroy else ALIASES.get(args.action, args.action)
    return args


class Deployment:
    """What is deployed: an environment, its stack, its fleet and its door."""

    def __init__(self, args, parameters):
        self.args, self.env, self.specs = args, args.env, parameters
        check_value("Env", parameters["Env"], args.env)
        for what in ("door", "alarms", "endpoints"):
            if args.env.endswith(f"-{what}"):
                other = args.env.removesuffix(f"-{what}")
                raise OptionError(f'--env "{args.env}" is not valid: that is what the {what} of {other} is called')
        region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
        self.session = boto3.Session(region_name=region)
        if not self.session.region_name:
            raise DeployError("no AWS region is configured: set AWS_REGION, or `region` in the profile (AWS_PROFILE)")
        self.ssm = self.session.client("ssm")
        self.uploads = bucket.Uploads(self.session, args.template_bucket, say)
        stacks = self.session.client("cloudformation")
        self.stack = Stack(stacks, self.env, say, uploads=self.uploads)
        self.alarms = beside.Alarms(stacks, args, say, parameters, self.uploads)
        self.endpoints = beside.Endpoints(stacks, args, say, parameters, self.uploads)
        self.door = doors.Door(stacks, args, say, shared_parameters(parameters), self.uploads)
        self.folder = Path(args.keep).resolve() if args.keep else KEPT / self.env
        self.given = {name: getattr(args, name) for name in parameters if getattr(args, name, None) is not None}
        for name, value in self.given.items():
            check_value(name, parameters[name], value)
        self.values, self.text, self.file = {}, "", self.folder / "lamplighter.toml"
        self.binary = None

    # -- Steps ------------------------------------------------------------------------------------

    def resolve(self):
        """The values of all parameters, and the fleet."""
        before = self.stack.parameters()
        for part in (self.endpoints, self.alarms, self.door):
            part.choose()
        self.values = {
            name: self.given.get(name, before.get(name, str(spec.get("Default", ""))))
            for name, spec in self.specs.items()
        }
        self.values["Env"] = self.env
        if int(self.values["WorkersMax"]) < int(self.values["WorkersMin"]):
            if "WorkersMax" in self.given:
                raise OptionError("--workers-max is below --workers-min; expected it to be at least the same")
            self.values["WorkersMax"] = self.values["WorkersMin"]
        heading("fleet")
        self._choose_fleet(before)
        found = fleets.check_fits(self.env, self.text, self.where)
        self.schedules = sorted(found.get("schedules", {}))
        self.targets = sorted(found.get("targets", {}))
        strange = [name for name in self.schedules if not name.startswith(self.env)]
        if strange:
            say(f"warn   {', '.join(strange)}: rules of an account have one name space; a name that begins with {self.env} is safe")
        self.values["EventBusName"] = self._agreed("EventBusName", fleets.bus_of(found), "[events] bus")
        self._name_secrets(found)
        self._name_launches(found)
        self.values["FleetParameter"] = fleets.parameter_name(self.env, self.text)
        self.endpoints.resolve(self.values, before)
        self.alarms.resolve(self.values, before)
        if self.door.wanted:
            self.door.resolve(self.values, found, self.where)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(self.text, encoding="utf-8")
        say(f"{self.where}: {len(self.targets)} targets, {len(self.schedules)} schedules; kept as {self._short(self.file)}")

    def _choose_fleet(self, before):
        generating = [name for name in fleets.GENERATING if name in self.given]
        if self.args.fleet:
            if generating:
                options = ", ".join(option(name) for name in generating)
                raise OptionError(f"{options} beside --fleet would have no effect: the file says it; expected one or the other")
            self.where = self.args.fleet
            try:
                self.text = Path(self.args.fleet).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise DeployError(f"cannot read the fleet file {self.args.fleet}: {error}") from error
            # From here on the stack's fleet is a file.
            for name in fleets.GENERATING:
                self.values[name] = str(self.specs[name].get("Default", ""))
            return
        stored = before.get("FleetParameter")
        if stored and not before.get("ECSServiceName") and not generating:
            self.where = f"the fleet that {self.stack.name} has"
            self.text = self._stored(before)
            if self.text is None:
                raise DeployError(f"the SSM parameter {stored} with {self.where} is gone; name a file with --fleet")
            return
        self.text = fleets.generated(self.env, self.values)
        self.where = "the generated fleet"
        say(self.text)

    def _agreed(self, name, of_fleet, where):
        """A parameter that the fleet says too."""
        if name in self.given and self.given[name] != of_fleet:
            raise OptionError(f'{option(name)} "{self.given[name]}" and {where} "{of_fleet}" of the fleet differ')
        return of_fleet

    def _name_secrets(self, found):
        names = fleets.secret_names(found)
        if "SecretName" in self.given or not names:
            return
        if len(names) == 1:
            self.values["SecretName"] = names[0]
        elif not self.values["SecretName"]:
            raise OptionError(
                f"the fleet names {len(names)} secrets ({', '.join(names)}); expected --secret-name with a pattern "
                "that fits them, such as 'lamplighter/*'"
            )

    def _name_launches(self, found):
        """What the worker may launch and run is what the fleet names, where that is one thing."""
        rows = [
            ("LaunchTemplateId", fleets.launch_templates(found), "launch templates", r"lt-[0-9a-f]{8,17}", "'*'"),
            ("BootstrapDocument", fleets.documents(found), "documents", r"(?!AWS-).+", "a pattern, such as 'Models-*'"),
        ]
        for name, named, what, known_by, several in rows:
            if name in self.given or not named:
                continue
            if len(named) == 1 and re.fullmatch(known_by, named[0]):
                self.values[name] = named[0]
            elif not self.values[name]:
                raise OptionError(
                    f"the fleet's templates name {len(named)} {what} ({', '.join(named)}), and rights are given for "
                    f"one by its id; expected {option(name)} with that, or {several}"
                )

    @staticmethod
    def _short(path):
        return path.relative_to(ROOT) if path.is_relative_to(ROOT) else path

    def build(self):
        """The binary for this machine: checks, schedules and the smoke test go through it."""
        named = os.environ.get("LAMPLIGHTER_BIN")
        if named:
            self.binary = named
            return
        heading("build")
        if subprocess.run(["cargo", "build", "--quiet", "-p", "lamplighter"], cwd=ROOT, check=False).returncode != 0:
            raise DeployError("the build failed, see above")
        target = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
        self.binary = str((target if target.is_absolute() else ROOT / target) / "debug" / "lamplighter")

    @property
    def needs_image(self):
        return self.values["WorkerHost"] == "fargate" or self.door.wanted

    def build_image(self):
        if not self.needs_image or "WorkerImage" in self.given:
            return
        heading("image")
        self.values["WorkerImage"] = image.pushed(self.session.client("ecr"), self.stack.name, say)

    def validate(self):
        heading("validate")
        for what, command in [
            ("the policies", [sys.executable, str(ROOT / "infra" / "policies.py"), "--check"]),
            ("cfn-lint", [sys.executable, "-c", CFN_LINT, *map(str, (TEMPLATE, ALARMS, ENDPOINTS, DOOR))]),
        ]:
            if subprocess.run(command, check=False).returncode != 0:
                raise DeployError(f"{what}: see above")
            say(f"  {what}: no findings")
        for stack in self.stacks():
            stack.validate()
        say("  CloudFormation takes the templates")
        if self._lamplighter("check", str(self.file), fleet=None) != 0:
            raise DeployError(f"{self.where}: see above")

    def store_fleet(self):
        name = self.values["FleetParameter"]
        try:
            self.ssm.put_parameter(
                Name=name,
                Value=self.text,
                Type=fleets.PARAMETER_TYPE,
                Tier="Intelligent-Tiering",
                Description=f"The fleet file of Lamplighter's environment {self.env}",
            )
        except ClientError as error:
            # Its name holds its contents' hash: the same one is there already.
            if error.response["Error"]["Code"] != "ParameterAlreadyExists":
                raise

    def forget_fleets(self, keep):
        """Deletes all stored fleets but the newest and the one in use."""
        pages = self.ssm.get_paginator("get_parameters_by_path").paginate(Path=fleets.parameter_folder(self.env))
        stored = [entry for page in pages for entry in page["Parameters"]]
        stored.sort(key=lambda entry: entry["LastModifiedDate"], reverse=True)
        in_use = self.values.get("FleetParameter")
        old = [entry["Name"] for entry in stored if entry["Name"] != in_use]
        for name in old[max(keep - 1, 0) :]:
            self.ssm.delete_parameter(Name=name)
        return len(stored)

    def stacks(self):
        """The stacks that there shall be, in the order in which they are deployed."""
        beside_it = [self.alarms, *([self.door] if self.door.wanted else [])]
        before = [self.endpoints.stack] if self.endpoints.wanted else []
        return [*before, self.stack, *(part.stack for part in beside_it)]

    def changes(self, stack):
        """What would change of a stack; those beside the first one get from it what it has made."""
        heading(f"changes{self._of(stack)}")
        if stack is self.stack:
            return self._shown(stack, self.values)
        part = next(part for part in (self.endpoints, self.alarms, self.door) if part.stack is stack)
        return self._shown(stack, part.values_with({**self.alarms.values, **self.values}, self.stack.outputs()))

    def _of(self, stack):
        return "" if stack is self.stack else f" of the {stack.path.stem}"

    @staticmethod
    def _shown(stack, values):
        change_set = stack.change_set(values)
        if change_set is None:
            say("  none")
            return None
        stack.show(change_set)
        return change_set

    def execute(self, stack, change_set):
        losses = stack.losses(change_set)
        if losses and not self._may(f"{', '.join(losses)} would be lost with what they hold. Go on?"):
            stack.forget(change_set)
            raise DeployError(f"{', '.join(losses)} would be lost; nothing of {stack.name} was changed (--yes allows it)")
        heading("deploy" if stack is self.stack else f"deploy the {stack.path.stem}")
        stack.execute(change_set)

    def deploy(self, stack):
        change_set = self.changes(stack)
        if change_set:
            self.execute(stack, change_set)

    def ask_for_the_doors_end(self):
        """Before anything is changed, where --door no would take one away."""
        if self.door.is_there and not self.door.wanted:
            if not self._may(f"Delete {self.door.stack.name} with its log?"):
                raise DeployError("nothing was changed: --door no takes the door away with its log; --yes allows it")

    def end_what_is_not_wanted(self):
        for part in (self.door, self.endpoints):
            if part.is_there and not part.wanted:
                heading(f"destroy the {part.stack.path.stem}")
                self._delete(part.stack)

    @staticmethod
    def _delete(stack):
        """Nothing is left of it."""
        had = stack.delete()
        say(f"  the stack {stack.name} {'is deleted' if had else 'was not there'}")

    def apply_schedules(self):
        heading("schedules")
        if self._lamplighter("schedule", "apply") != 0:
            raise DeployError("the schedules were not applied, see above; the stack itself is deployed")

    def smoke(self):
        """A status command through the queue, and its outcome."""
        heading("smoke test")
        target = self.args.smoke_target or (self.targets[0] if self.targets else None)
        if target is None:
            say("  the fleet has no targets, so there is nothing to ask for")
            return
        seconds = self.args.smoke_seconds
        # Not done late: a worker that comes after this finds it expired.
        expires = (datetime.now(timezone.utc) + timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")
        code = self._lamplighter(
            "send", "status", target, "--expires", expires, "--wait", "--timeout", f"{seconds}s", "--reason", "smoke test"
        )
        if code != 0:
            raise DeployError(
                f"no worker answered the status of {target} with done within {seconds} s; scripts/logs worker -e "
                f"{self.env} shows its log"
            )
        say("  a worker took the command from the queue and answered")

    def smoke_the_door(self):
        heading("smoke test of the door")
        self.door.smoke(self.args.smoke_seconds)

    def destroy(self):
        before = self.stack.parameters()
        self.door.choose()
        self._tell_what_is_on(before)
        whole = f"{self.stack.name} and its door" if self.door.is_there else self.stack.name
        if not self._may(f"Delete {whole} with its queue, records, dead letters and log?"):
            raise DeployError("nothing was deleted; --yes allows it where nobody can be asked")
        self._remove_schedules(before)
        heading("destroy")
        # First what sends to the queue and has its image and its fleet from what goes next.
        for stack in (self.door.stack, self.alarms.stack, self.stack, self.endpoints.stack):
            self._delete(stack)
        self.uploads.forget(self.env)
        self.values = {}
        say(f"  {self.forget_fleets(0)} stored fleets are deleted")
        if f"/{self.stack.name}:" in before.get("WorkerImage", ""):
            gone = image.forget(self.session.client("ecr"), self.stack.name)
            say(f"  the repository {self.stack.name} {'is deleted' if gone else 'was not there'}")

    def _remove_schedules(self, before):
        """A fleet of nothing has no schedules: applied, it takes away what is this environment's."""
        if not before:
            return
        heading("schedules")
        text = fleets.names_only(self.env, before.get("EventBusName", "default"))
        stored = self._stored(before)
        group = stored and fleets.read(stored, "the stored fleet").get("scheduler", {}).get("group")
        if group:
            text += f'[scheduler]\ngroup = "{group}"\n'
        nothing = self.folder / "nothing.toml"
        self.folder.mkdir(parents=True, exist_ok=True)
        nothing.write_text(text, encoding="utf-8")
        if self._lamplighter("schedule", "apply", fleet=nothing) != 0:
            raise DeployError("the schedules were not removed, see above; nothing else was deleted")
        nothing.unlink()

    def _stored(self, before):
        """The text of the fleet that the stack has; None where it has none."""
        name = before.get("FleetParameter")
        try:
            return name and self.ssm.get_parameter(Name=name, WithDecryption=True)["Parameter"]["Value"]
        except ClientError as error:
            if error.response["Error"]["Code"] == "ParameterNotFound":
                return None
            raise

    def _tell_what_is_on(self, before):
        """Machines that are on stay on, and nobody will stop them."""
        text = self._stored(before)
        if not text:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.file.write_text(text, encoding="utf-8")
        answer = subprocess.run(
            [self.binary, "status", "--json"], env=self._environment(self.file), capture_output=True, text=True, check=False
        )
        try:
            known = json.loads(answer.stdout)
        except ValueError:
            say(f"  what is on is not known: {answer.stderr.strip()}")
            return
        on = [entry["target"] for entry in known if entry.get("phase") not in ("off", None)]
        if on:
            say(f"  on now, and left on, with nobody to stop them: {', '.join(on)}")

    # -- Tools ------------------------------------------------------------------------------------

    def _environment(self, fleet):
        env = dict(os.environ, AWS_REGION=self.session.region_name)
        env.pop("LAMPLIGHTER_FLEET_TOML", None)
        env.pop("LAMPLIGHTER_FLEET", None)
        if fleet is not None:
            env["LAMPLIGHTER_FLEET"] = str(fleet)
        return env

    def _lamplighter(self, *words, fleet=...):
        say(f"  $ lamplighter {' '.join(words)}")
        env = self._environment(self.file if fleet is ... else fleet)
        return subprocess.run([self.binary, *words], env=env, stdin=subprocess.DEVNULL, check=False).returncode

    def _may(self, question):
        if self.args.yes:
            return True
        if not sys.stdin.isatty():
            return False
        return input(f"{question} [y/N] ").strip().lower() in ("y", "yes")


def plan(deployment):
    """Shows all change sets, and leaves nothing behind."""
    if deployment.needs_image and not deployment.values["WorkerImage"]:
        # The image is built by `deploy`; what it will be called changes nothing in the plan.
        deployment.values["WorkerImage"] = f"{deployment.stack.name}:planned"
    for stack in deployment.stacks():
        change_set = deployment.changes(stack)
        if change_set:
            stack.forget(change_set)
    for part in (deployment.door, deployment.endpoints):
        if part.is_there and not part.wanted:
            say(f"  {part.stack.name} would be deleted")


def run(argv):
    parameters = template()["Parameters"]
    args = arguments_of(parameters, argv)
    deployment = Deployment(args, parameters)
    deployment.build()
    if args.action == "destroy":
        deployment.destroy()
        return
    if args.action == "smoke" and deployment.stack.found() is None:
        raise DeployError(f"there is no stack {deployment.stack.name} in {deployment.session.region_name}")
    deployment.resolve()
    if args.action == "smoke":
        deployment.smoke()
        if deployment.door.is_there:
            deployment.smoke_the_door()
        return
    deployment.validate()
    if args.action == "validate":
        return
    if args.action == "plan":
        plan(deployment)
        return
    deployment.ask_for_the_doors_end()
    deployment.build_image()
    deployment.store_fleet()
    for stack in deployment.stacks():
        deployment.deploy(stack)
        if stack is deployment.stack:
            deployment.apply_schedules()
    deployment.end_what_is_not_wanted()
    deployment.forget_fleets(FLEETS_KEPT)
    if not args.no_smoke:
        deployment.smoke()
        if deployment.door.wanted:
            deployment.smoke_the_door()
    say(f"\n{deployment.stack.name} is deployed.")
    if deployment.door.wanted:
        say(f"Its door: {deployment.door.stack.outputs().get('DoorUrl')}")


def main(argv):
    try:
        run(argv)
    except (OptionError, fleets.FleetError) as error:
        print(f"scripts/deploy: {error}", file=sys.stderr)
        return 2
    except (DeployError, StackError, bucket.BucketError, doors.DoorError, image.ImageError) as error:
        print(f"scripts/deploy: {error}", file=sys.stderr)
        return 1
    except (BotoCoreError, ClientError) as error:
        print(f"scripts/deploy: AWS: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("scripts/deploy: interrupted; run it again, it goes on from what is there", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
