"""SSM: RunCommand's limits and errors, and agents.

What needs an agent needs a machine with an instance profile: `--instance-profile`.
"""

import itertools

import kit

from facts import ec2

fact = kit.facts_of("ssm")
API = "https://docs.aws.amazon.com/systems-manager/latest/APIReference/"
DOCUMENT = "AWS-RunShellScript"
NUMBERS = itertools.count(1)


def machine(it):
    """A machine whose agent answers."""

    def make():
        if not it.given.profile:
            raise kit.Skip("no agent: give --instance-profile, or an endpoint that has agents")
        id, _ = ec2.launch(it)
        it.eventually("its agent answers", lambda: "Online" in pings(it, id), seconds=300)
        return id

    return it.shared("a machine with an agent", make)


def pings(it, *ids):
    filters = [{"Key": "InstanceIds", "Values": list(ids)}]
    answer = it.ssm.describe_instance_information(Filters=filters, MaxResults=50)
    return [agent["PingStatus"] for agent in answer["InstanceInformationList"]]


def command(it, id, *lines, **more):
    request = {"DocumentName": DOCUMENT, "InstanceIds": [id], "Parameters": {"commands": list(lines)}, **more}
    return it.ssm.send_command(**request)["Command"]["CommandId"]


def invocation(it, id, sent):
    with kit.quiet("InvocationDoesNotExist"):
        return it.ssm.get_command_invocation(CommandId=sent, InstanceId=id)
    return None


def ended(it, id, sent):
    def probe():
        seen = invocation(it, id, sent)
        return seen if seen and seen["Status"] not in ("Pending", "InProgress", "Delayed") else None

    return it.eventually("the command ends", probe, seconds=90)


@fact("SendCommand's TimeoutSeconds is at least 30", API + "API_SendCommand.html")
def a_command_waits_30_seconds(it):
    request = {"DocumentName": DOCUMENT, "InstanceIds": [ec2.UNKNOWN], "Parameters": {"commands": ["true"]}}
    it.refused("ValidationException", it.ssm.send_command, TimeoutSeconds=29, **request)


@fact("SendCommand's Comment has at most 100 characters", API + "API_SendCommand.html")
def a_comment_has_100_characters(it):
    request = {"DocumentName": DOCUMENT, "InstanceIds": [ec2.UNKNOWN], "Parameters": {"commands": ["true"]}}
    it.refused("ValidationException", it.ssm.send_command, Comment="c" * 101, **request)


@fact("A command to an instance without an agent is InvalidInstanceId", API + "API_SendCommand.html")
def a_command_to_nobody(it):
    request = {"DocumentName": DOCUMENT, "InstanceIds": [ec2.UNKNOWN], "Parameters": {"commands": ["true"]}}
    it.refused("InvalidInstanceId", it.ssm.send_command, **request)


@fact("A document that does not exist is InvalidDocument", API + "API_SendCommand.html")
def a_missing_document_has_its_code(it):
    request = {"DocumentName": it.name("no-document"), "InstanceIds": [machine(it)]}
    it.refused("InvalidDocument", it.ssm.send_command, **request)


@fact("An unknown id in the filter of DescribeInstanceInformation is an empty answer or a refusal of the call, and "
      "never an agent", API + "API_DescribeInstanceInformation.html")  # fmt: skip
def an_unknown_id_has_no_agent(it):
    try:
        it.same("agents", pings(it, ec2.UNKNOWN), [])
    except kit.ClientError as error:
        it.same("its code", kit.code_of(error), "InvalidInstanceId", "InvalidInstanceInformationFilterValue")


@fact("A page of DescribeInstanceInformation has 5 to 50 agents", API + "API_DescribeInstanceInformation.html")
def a_page_has_50_agents(it):
    it.refused("ValidationException", it.ssm.describe_instance_information, MaxResults=51)
    it.refused("ValidationException", it.ssm.describe_instance_information, MaxResults=4)


@fact("An invocation that nobody made is InvocationDoesNotExist or InvalidCommandId",
      API + "API_GetCommandInvocation.html")  # fmt: skip
def a_missing_invocation_has_its_code(it):
    unknown = {"CommandId": "00000000-0000-4000-8000-000000000000", "InstanceId": ec2.UNKNOWN}
    it.refused(("InvocationDoesNotExist", "InvalidCommandId"), it.ssm.get_command_invocation, **unknown)


@fact("Right after SendCommand the invocation is InvocationDoesNotExist or Pending or InProgress, and within seconds "
      "it is there", API + "API_GetCommandInvocation.html")  # fmt: skip
def an_invocation_right_after_its_command(it):
    id = machine(it)
    sent = command(it, id, "true", TimeoutSeconds=30, Comment="c" * 100)
    first = invocation(it, id, sent)
    it.same("at once", first and first["Status"], None, "Pending", "InProgress", "Success")
    it.eventually("it is there", lambda: invocation(it, id, sent), every=0.2)
    done = ended(it, id, sent)
    it.same("how it ends", (done["Status"], done["ResponseCode"]), ("Success", 0))


@fact("A command is found by ListCommands of its instance, with its comment", API + "API_ListCommands.html")
def a_command_is_listed(it):
    id = machine(it)
    sent = command(it, id, "true", Comment="found by this")
    ended(it, id, sent)
    listed = it.ssm.list_commands(InstanceId=id, MaxResults=50)["Commands"]
    comments = {command["CommandId"]: command.get("Comment") for command in listed}
    it.same("comment", comments.get(sent), "found by this")


@fact("ResponseCode is the script's exit status, and Status is Failed where it is not 0",
      API + "API_GetCommandInvocation.html")  # fmt: skip
def a_script_fails_by_its_status(it):
    if it.given.local:
        raise kit.Skip("this endpoint knows Lamplighter's own scripts and runs no shell")
    id = machine(it)
    done = ended(it, id, command(it, id, "echo words; exit 3"))
    it.same("status", (done["Status"], done["ResponseCode"]), ("Failed", 3))
    it.same("output", done["StandardOutputContent"].splitlines()[0], "words")


@fact("At most 24,000 characters of a command's output are given", API + "API_GetCommandInvocation.html")
def an_output_has_24000_characters(it):
    if it.given.local:
        raise kit.Skip("this endpoint knows Lamplighter's own scripts and runs no shell")
    id = machine(it)
    done = ended(it, id, command(it, id, "head -c 30000 /dev/zero | tr '\\0' x"))
    length = len(done["StandardOutputContent"])
    it.true("characters", length, 20_000 < length <= 24_000 + len("--output truncated--") + 8)
