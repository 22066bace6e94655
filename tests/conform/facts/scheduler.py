"""EventBridge Scheduler: the time in a message, updates, groups, errors."""

import datetime
import itertools
import json

import kit

from facts import iam, sqs

fact = kit.facts_of("scheduler")
API = "https://docs.aws.amazon.com/scheduler/latest/APIReference/"
GUIDE = "https://docs.aws.amazon.com/scheduler/latest/UserGuide/"
INPUT = '{"lamplighter":"tick","rule":"conform","scheduled":"<aws.scheduler.scheduled-time>"}'
NUMBERS = itertools.count(1)


def group(it):
    def make():
        name = it.name("group")
        it.scheduler.create_schedule_group(Name=name, Tags=[{"Key": kit.TAG, "Value": it.run.id}])
        it.later(f"schedule group {name}", it.scheduler.delete_schedule_group, Name=name)
        return name

    return it.shared("a schedule group", make)


def role(it):
    """A role with which Scheduler sends to the run's queues; where there is no IAM, a name of one."""

    def make():
        return iam.make_role(
            it, "scheduler", {"Service": "scheduler.amazonaws.com"},
            [{"Effect": "Allow", "Action": "sqs:SendMessage", "Resource": f"arn:*:sqs:*:*:{it.run.prefix}-*"}],
        )  # fmt: skip

    return it.shared("a role for schedules", make)


def request(it, name, expression, url=None, **more):
    queue = sqs.arn_of(it, url or it.shared("a queue for schedules", lambda: sqs.queue(it)))
    target = {"Arn": queue, "RoleArn": role(it), "Input": INPUT, "RetryPolicy": {"MaximumEventAgeInSeconds": 1800}}
    return {
        "Name": name, "GroupName": group(it), "ScheduleExpression": expression, "Target": target,
        "FlexibleTimeWindow": {"Mode": "OFF"}, **more,
    }  # fmt: skip


def create(it, expression="rate(1 day)", **more):
    """A schedule; a role that was just made takes a while to be known."""
    name = it.name(f"schedule{next(NUMBERS)}")
    wanted = request(it, name, expression, **more)

    def probe():
        with kit.quiet("ValidationException"):
            it.scheduler.create_schedule(**wanted)
            return True
        return False

    if it.run.is_aws:
        it.eventually("the role is known", probe, seconds=60, every=2)
    else:
        it.scheduler.create_schedule(**wanted)
    it.later(f"schedule {name}", it.scheduler.delete_schedule, Name=name, GroupName=group(it))
    return name


@fact("`<aws.scheduler.scheduled-time>` in a schedule's input is the time at which it was due, as RFC 3339",
      GUIDE + "managing-schedule-context-attributes.html")  # fmt: skip
def the_scheduled_time_is_put_in(it):
    url = sqs.queue(it)
    group(it), role(it)
    # A schedule has the grain of a minute: the next one that begins at least ten seconds from now.
    due = (kit.now() + datetime.timedelta(seconds=70)).replace(second=0, microsecond=0)
    create(it, f"at({due:%Y-%m-%dT%H:%M:%S})", url=url)
    it.pause((due - kit.now()).total_seconds())
    message = json.loads(sqs.receive(it, url, seconds=90)["Body"])
    it.same("scheduled", message["scheduled"], f"{due:%Y-%m-%dT%H:%M:%SZ}")


@fact("UpdateSchedule forgets what it is not told", API + "API_UpdateSchedule.html")
def an_update_forgets(it):
    name = create(it, Description="before", State="DISABLED")
    it.scheduler.update_schedule(**request(it, name, "rate(2 days)"))
    seen = it.scheduler.get_schedule(Name=name, GroupName=group(it))
    it.same("expression", seen["ScheduleExpression"], "rate(2 days)")
    it.same("description and state", (seen.get("Description", ""), seen.get("State")), ("", "ENABLED"))


@fact("A schedule that exists is ConflictException, one that does not ResourceNotFoundException",
      API + "API_CreateSchedule.html")  # fmt: skip
def schedules_have_their_errors(it):
    name = create(it)
    it.refused("ConflictException", it.scheduler.create_schedule, **request(it, name, "rate(1 day)"))
    missing = {"Name": it.name("nowhere"), "GroupName": group(it)}
    it.refused("ResourceNotFoundException", it.scheduler.get_schedule, **missing)
    it.refused("ResourceNotFoundException", it.scheduler.delete_schedule, **missing)


@fact("A group that does not exist is ResourceNotFoundException, one that exists ConflictException",
      API + "API_CreateScheduleGroup.html")  # fmt: skip
def groups_have_their_errors(it):
    it.refused("ConflictException", it.scheduler.create_schedule_group, Name=group(it))
    wanted = request(it, it.name("orphan"), "rate(1 day)") | {"GroupName": it.name("nowhere")}
    it.refused("ResourceNotFoundException", it.scheduler.create_schedule, **wanted)


@fact("An expression or a zone that is none is ValidationException", API + "API_CreateSchedule.html")
def a_bad_expression_has_its_code(it):
    make = it.scheduler.create_schedule
    it.refused("ValidationException", make, **request(it, it.name("bad"), "rate(none)"))
    zone = request(it, it.name("bad"), "rate(1 day)", ScheduleExpressionTimezone="Europe/Nowhere")
    it.refused("ValidationException", make, **zone)


@fact("The tags of a group are listed by its ARN", API + "API_ListTagsForResource.html")
def the_tags_of_a_group(it):
    listed = it.scheduler.list_schedule_groups(NamePrefix=group(it))["ScheduleGroups"]
    it.same("groups", [one["Name"] for one in listed], [group(it)])
    tags = it.scheduler.list_tags_for_resource(ResourceArn=listed[0]["Arn"])["Tags"]
    it.same("tags", tags, [{"Key": kit.TAG, "Value": it.run.id}])


@fact("The schedules of a group are listed by its name", API + "API_ListSchedules.html")
def the_schedules_of_a_group(it):
    name = create(it)
    listed = it.scheduler.list_schedules(GroupName=group(it))["Schedules"]
    it.true("among the names", len(listed), name in [one["Name"] for one in listed])
