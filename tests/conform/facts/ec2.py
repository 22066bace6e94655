"""EC2: client tokens, describes, starts, stops, ends, dry runs, launch templates.

The facts share one t4g.nano, so their order matters: it is launched, runs, is stopped, and is terminated.
"""

import datetime
import itertools
import re

import kit

fact = kit.facts_of("ec2")
API = "https://docs.aws.amazon.com/AWSEC2/latest/APIReference/"
GUIDE = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/"
DEVGUIDE = "https://docs.aws.amazon.com/ec2/latest/devguide/"
ERRORS = API + "errors-overview.html"
EVENTUAL = DEVGUIDE + "eventual-consistency.html"
IDEMPOTENT = DEVGUIDE + "ec2-api-idempotency.html"
# An id that is well-formed and nobody's.
UNKNOWN = "i-0fffffffffffffff0"
IMAGE = "resolve:ssm:/aws/service/ami-amazon-linux-latest/al2023-ami-minimal-kernel-default-arm64"
NUMBERS = itertools.count(1)


def tag_specifications(it, *kinds):
    tags = [{"Key": key, "Value": value} for key, value in it.run.tags.items()]
    return [{"ResourceType": kind, "Tags": tags} for kind in kinds]


def make_template(it, **more):
    name = it.name(f"template{next(NUMBERS)}")
    image = IMAGE if it.run.is_aws else "ami-0abcdef1234567890"
    data = {"ImageId": image, "InstanceType": "t4g.nano", **more}
    if it.given.profile:
        data["IamInstanceProfile"] = {"Name": it.given.profile}
    answer = it.ec2.create_launch_template(
        LaunchTemplateName=name, LaunchTemplateData=data, TagSpecifications=tag_specifications(it, "launch-template")
    )
    id = answer["LaunchTemplate"]["LaunchTemplateId"]
    it.later("a launch template", it.ec2.delete_launch_template, LaunchTemplateId=id)
    return id


def template(it):
    return it.shared("a launch template", lambda: make_template(it))


def request(it, token, **more):
    """RunInstances as the worker sends it."""
    network = {"SubnetId": it.given.subnet} if it.given.subnet else {}
    return {
        "MinCount": 1, "MaxCount": 1, "ClientToken": token,
        "LaunchTemplate": {"LaunchTemplateId": template(it), "Version": "$Default"},
        "TagSpecifications": tag_specifications(it, "instance", "volume"), **network, **more,
    }  # fmt: skip


def launch(it, **more):
    token = f"{it.run.id}-{next(NUMBERS)}"
    answer = it.ec2.run_instances(**request(it, token, **more))
    id = answer["Instances"][0]["InstanceId"]
    it.later("an instance", it.ec2.terminate_instances, InstanceIds=[id])
    return id, token


def machine(it):
    """The machine of these facts: id and client token."""
    return it.shared("a machine", lambda: launch(it))


def describe(it, id):
    """What EC2 says of it, or nothing, as right after a launch."""
    with kit.quiet("InvalidInstanceID.NotFound"):
        answer = it.ec2.describe_instances(InstanceIds=[id])
        found = [instance for group in answer["Reservations"] for instance in group["Instances"]]
        return found[0] if found else None
    return None


def state(it, id):
    return (describe(it, id) or {}).get("State", {}).get("Name")


def until(it, id, *states, seconds=180):
    it.eventually(f"it is {' or '.join(states)}", lambda: state(it, id) in states, seconds)
    return id


def running(it):
    id, _ = machine(it)
    if state(it, id) == "stopped":
        it.ec2.start_instances(InstanceIds=[id])
    return until(it, id, "running")


def stopped(it):
    id, _ = machine(it)
    if state(it, id) in (None, "pending", "running"):
        running(it)
        it.ec2.stop_instances(InstanceIds=[id])
    return until(it, id, "stopped", seconds=300)


@fact("A launch by a template's `$Default` version gives an instance that is pending", API + "API_RunInstances.html")
def a_launch_by_the_default_version(it):
    id, _ = machine(it)
    it.true("an instance id", id, re.fullmatch(r"i-[0-9a-f]{8,17}", id))


@fact("A describe right after the launch either does not know the id yet (InvalidInstanceID.NotFound) or shows it "
      "pending or running; within a minute it shows it", EVENTUAL)  # fmt: skip
def a_describe_right_after_a_launch(it):
    id, _ = launch(it)
    it.same("at once", state(it, id), None, "pending", "running")
    it.eventually("it is shown", lambda: state(it, id) in ("pending", "running"))
    it.ec2.terminate_instances(InstanceIds=[id])


@fact("RunInstances with the same client token and parameters gives the same instance", IDEMPOTENT)
def a_client_token_gives_the_same_instance(it):
    id, token = machine(it)
    again = it.ec2.run_instances(**request(it, token))["Instances"][0]["InstanceId"]
    it.same("the same instance", again == id, True)


@fact("RunInstances with the same client token and other parameters is IdempotentParameterMismatch", IDEMPOTENT)
def a_client_token_belongs_to_its_parameters(it):
    _, token = machine(it)
    it.refused("IdempotentParameterMismatch", it.ec2.run_instances, **request(it, token, InstanceType="t4g.micro"))


@fact("An instance is found by its client token", API + "API_DescribeInstances.html")
def an_instance_is_found_by_its_token(it):
    id, token = machine(it)
    filters = [{"Name": "client-token", "Values": [token, "of-nobody"]}]

    def found():
        answer = it.ec2.describe_instances(Filters=filters, MaxResults=1000)
        return [one for group in answer["Reservations"] for one in group["Instances"]]

    it.eventually("it is found", found)
    it.same("ids", [one["InstanceId"] == id for one in found()], [True])
    it.same("its token", found()[0].get("ClientToken"), token)


@fact("Tags of a launch are on the instance from the first moment", GUIDE + "Using_Tags.html")
def tags_are_set_by_the_launch(it):
    id, _ = machine(it)
    it.eventually("it is described", lambda: describe(it, id))
    tags = {tag["Key"]: tag["Value"] for tag in describe(it, id).get("Tags", [])}
    it.same("tag", tags.get(kit.TAG), it.run.id)


@fact("A describe of an id that does not exist fails as a whole, and its words name that id alone", ERRORS)
def an_unknown_id_is_named(it):
    id, _ = machine(it)
    it.eventually("the other is described", lambda: describe(it, id))
    error = it.refused("InvalidInstanceID.NotFound", it.ec2.describe_instances, InstanceIds=[id, UNKNOWN])
    words = error.response["Error"]["Message"]
    it.true("names the unknown one", UNKNOWN in words, UNKNOWN in words)
    it.same("names the known one", id in words, False)


@fact("An id that is no id is InvalidInstanceID.Malformed", ERRORS)
def a_malformed_id_has_its_code(it):
    it.refused("InvalidInstanceID.Malformed", it.ec2.describe_instances, InstanceIds=["i-not-hex"])


@fact("MaxResults beside instance ids is refused", API + "API_DescribeInstances.html")
def no_page_size_beside_ids(it):
    id, _ = machine(it)
    it.refused("InvalidParameterCombination", it.ec2.describe_instances, InstanceIds=[id], MaxResults=100)


@fact("An unknown filter is refused", API + "API_DescribeInstances.html")
def an_unknown_filter_is_refused(it):
    filters = [{"Name": "no-such-filter", "Values": ["x"]}]
    it.refused("InvalidParameterValue", it.ec2.describe_instances, Filters=filters)


@fact("A dry run that would be allowed is the error DryRunOperation", API + "API_StopInstances.html")
def a_dry_run_is_an_error(it):
    id, token = machine(it)
    running(it)
    for call in (it.ec2.stop_instances, it.ec2.start_instances, it.ec2.terminate_instances):
        it.refused("DryRunOperation", call, InstanceIds=[id], DryRun=True)
    it.refused("DryRunOperation", it.ec2.run_instances, **request(it, f"{token}-dry", DryRun=True))
    it.same("it still runs", state(it, id), "running")


@fact("A start of a running instance is no error and changes nothing", API + "API_StartInstances.html")
def a_start_of_a_running_one(it):
    answer = it.ec2.start_instances(InstanceIds=[running(it)])["StartingInstances"][0]
    states = (answer["PreviousState"]["Name"], answer["CurrentState"]["Name"])
    it.same("before and after", states, ("running", "running"))


@fact("A launch template that does not exist has its code", ERRORS)
def a_missing_template_has_its_code(it):
    missing = {"LaunchTemplateId": "lt-0fffffffffffffff0", "Version": "$Default"}
    codes = ("InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.NotFoundException")
    answer = request(it, f"{it.run.id}-missing") | {"LaunchTemplate": missing}
    it.refused(codes, it.ec2.run_instances, **answer)
    named = {"LaunchTemplateName": it.name("nowhere"), "Version": "$Default"}
    answer = request(it, f"{it.run.id}-missing-2") | {"LaunchTemplate": named}
    it.refused("InvalidLaunchTemplateName.NotFoundException", it.ec2.run_instances, **answer)


@fact("The versions of a launch template are described by `$Default`", API + "API_DescribeLaunchTemplateVersions.html")
def versions_are_described_by_default(it):
    answer = it.ec2.describe_launch_template_versions(LaunchTemplateId=template(it), Versions=["$Default"])
    versions = answer["LaunchTemplateVersions"]
    it.same("versions", [(it["VersionNumber"], it["DefaultVersion"]) for it in versions], [(1, True)])
    it.same("instance type", versions[0]["LaunchTemplateData"]["InstanceType"], "t4g.nano")


@fact("While it stops, a start is IncorrectInstanceState", ERRORS)
def a_start_while_it_stops(it):
    id = running(it)
    it.ec2.stop_instances(InstanceIds=[id])
    # An emulator may be through before the start arrives.
    if state(it, id) == "stopped":
        raise kit.Skip("this endpoint stops a machine at once")
    it.refused("IncorrectInstanceState", it.ec2.start_instances, InstanceIds=[id])


@fact("After a stop by the API the reason is `User initiated (time GMT)` and the code Client.UserInitiatedShutdown",
      API + "API_Instance.html")  # fmt: skip
def a_stop_has_its_reason(it):
    seen = describe(it, stopped(it))
    reason = seen.get("StateTransitionReason", "")
    match = re.fullmatch(r"User initiated \((\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) GMT\)", reason)
    it.true("StateTransitionReason", reason, match)
    at = datetime.datetime.fromisoformat(match[1]).replace(tzinfo=datetime.UTC)
    it.true("minutes ago", round((kit.now() - at).total_seconds() / 60), (kit.now() - at).total_seconds() < 900)
    it.same("StateReason", seen.get("StateReason", {}).get("Code"), "Client.UserInitiatedShutdown")


@fact("A stop of a stopped instance is no error", API + "API_StopInstances.html")
def a_stop_of_a_stopped_one(it):
    answer = it.ec2.stop_instances(InstanceIds=[stopped(it)])["StoppingInstances"][0]
    states = (answer["PreviousState"]["Name"], answer["CurrentState"]["Name"])
    it.same("before and after", states, ("stopped", "stopped"))


@fact("After an accepted start the describe shows stopped for a while at most, then pending, then running; and the "
      "reason of the stop is gone", EVENTUAL)  # fmt: skip
def a_describe_after_a_start(it):
    id = stopped(it)
    it.ec2.start_instances(InstanceIds=[id])
    seen = []

    def look():
        word = state(it, id)
        if seen[-1:] != [word]:
            seen.append(word)
        return word == "running"

    it.eventually("it runs", look, 180, every=0.3)
    it.true("states", seen, seen in (["stopped", "pending", "running"], ["pending", "running"], ["running"],
                                     ["stopped", "running"]))  # fmt: skip
    it.same("reason", describe(it, id).get("StateTransitionReason", ""), "")


@fact("An instance that DisableApiStop protects cannot be stopped: OperationNotPermitted",
      GUIDE + "ec2-stop-protection.html")  # fmt: skip
def stop_protection_has_its_code(it):
    id = running(it)
    it.ec2.modify_instance_attribute(InstanceId=id, DisableApiStop={"Value": True})
    it.later("the stop protection", it.ec2.modify_instance_attribute, InstanceId=id, DisableApiStop={"Value": False})
    try:
        it.refused("OperationNotPermitted", it.ec2.stop_instances, InstanceIds=[id])
    finally:
        it.ec2.modify_instance_attribute(InstanceId=id, DisableApiStop={"Value": False})


@fact("An instance that DisableApiTermination protects cannot be terminated: OperationNotPermitted",
      GUIDE + "Using_ChangingDisableAPITermination.html")  # fmt: skip
def termination_protection_has_its_code(it):
    id = running(it)
    change = it.ec2.modify_instance_attribute
    change(InstanceId=id, DisableApiTermination={"Value": True})
    it.later("the termination protection", change, InstanceId=id, DisableApiTermination={"Value": False})
    try:
        it.refused("OperationNotPermitted", it.ec2.terminate_instances, InstanceIds=[id])
    finally:
        change(InstanceId=id, DisableApiTermination={"Value": False})


@fact("An instance may be terminated twice", API + "API_TerminateInstances.html")
def an_end_may_be_repeated(it):
    id, _ = machine(it)
    for _ in range(2):
        answer = it.ec2.terminate_instances(InstanceIds=[id])["TerminatingInstances"][0]
        it.same("then it is", answer["CurrentState"]["Name"], "shutting-down", "terminated")
    until(it, id, "terminated", seconds=300)
    answer = it.ec2.terminate_instances(InstanceIds=[id])["TerminatingInstances"][0]
    it.same("of a terminated one", answer["CurrentState"]["Name"], "terminated")


@fact("A terminated instance is described for a while", GUIDE + "terminating-instances.html")
def a_terminated_one_is_described(it):
    id, _ = machine(it)
    it.same("state", state(it, id), "terminated")


@fact("A start of a terminated instance is IncorrectInstanceState", ERRORS)
def a_start_of_a_terminated_one(it):
    id, _ = machine(it)
    it.refused("IncorrectInstanceState", it.ec2.start_instances, InstanceIds=[id])


@fact("A client token of a terminated instance gives that instance again, or the token's own error, and no new one",
      IDEMPOTENT)  # fmt: skip
def a_token_outlives_its_instance(it):
    id, token = machine(it)
    try:
        again = it.ec2.run_instances(**request(it, token))["Instances"][0]["InstanceId"]
    except kit.ClientError as error:
        it.same("its code", kit.code_of(error), "IdempotentInstanceTerminated", "IdempotentParameterMismatch")
        return
    it.later("an instance", it.ec2.terminate_instances, InstanceIds=[again])
    it.same("the same instance", again == id, True)


@fact("An impaired Availability Zone fails a describe that names one of its instances", API + "API_DescribeInstances.html")
def a_zone_fails_a_describe(it):
    raise kit.Skip("a zone cannot be impaired on demand; believed by the documentation alone")


@fact("An account or a zone without room answers InsufficientInstanceCapacity, a subnet without addresses "
      "InsufficientFreeAddressesInSubnet", ERRORS)  # fmt: skip
def capacity_has_its_codes(it):
    raise kit.Skip("capacity cannot be exhausted on demand; believed by the documentation alone")
