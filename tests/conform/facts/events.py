"""EventBridge: entries, rules, patterns, transformers, and EC2's own events."""

import itertools
import json
import re

import kit

from facts import ec2, sqs

fact = kit.facts_of("events")
API = "https://docs.aws.amazon.com/eventbridge/latest/APIReference/"
GUIDE = "https://docs.aws.amazon.com/eventbridge/latest/userguide/"
SOURCE = "lamplighter.conform"
NUMBERS = itertools.count(1)


def remove_rule(it, name, *ids):
    with kit.quiet():
        it.events.remove_targets(Rule=name, Ids=list(ids))
    it.events.delete_rule(Name=name)


def rule_to_a_queue(it, what, pattern, **target):
    """A rule on the default bus and the URL of the queue to which it sends."""
    url = sqs.queue(it)
    queue, name = sqs.arn_of(it, url), it.name(f"{what}{next(NUMBERS)}")
    tags = [{"Key": kit.TAG, "Value": it.run.id}]
    rule = it.events.put_rule(Name=name, EventPattern=json.dumps(pattern), Tags=tags)["RuleArn"]
    it.later(f"rule {name}", remove_rule, it, name, "queue")
    statement = {
        "Effect": "Allow", "Principal": {"Service": "events.amazonaws.com"}, "Action": "sqs:SendMessage",
        "Resource": queue, "Condition": {"ArnEquals": {"aws:SourceArn": rule}},
    }  # fmt: skip
    policy = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    it.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": policy})
    failed = it.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue, **target}])
    it.same("failed targets", failed["FailedEntryCount"], 0)
    return url


def entry(detail="{}", **more):
    return {"Source": SOURCE, "DetailType": "Conform", "Detail": detail, "EventBusName": "default", **more}


def deliver(it, url, detail):
    """Puts an event until its rule delivers it, since a rule takes a while to be in force; what arrives."""

    def probe():
        it.events.put_events(Entries=[entry(json.dumps(detail))])
        answer = it.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2)
        return answer.get("Messages")

    return it.eventually("the event arrives", probe, seconds=90)[0]["Body"]


def first_event(it, url, wanted, seconds=150):
    """The first event in the queue that is wanted; the others are passed over."""

    def probe():
        answer = it.sqs.receive_message(QueueUrl=url, WaitTimeSeconds=2, MaxNumberOfMessages=10)
        for message in answer.get("Messages", []):
            it.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
            event = json.loads(message["Body"])
            if wanted(event):
                return event
        return None

    return it.eventually("its event arrives", probe, seconds, every=0.1)


@fact("PutEvents takes at most ten entries", API + "API_PutEvents.html")
def a_call_has_ten_entries(it):
    it.refused("ValidationException", it.events.put_events, Entries=[entry() for _ in range(11)])
    answer = it.events.put_events(Entries=[entry() for _ in range(10)])
    it.same("failed of ten", answer["FailedEntryCount"], 0)


@fact("PutEvents may fail in part: the entries are answered in their order, with an id or a code",
      API + "API_PutEvents.html")  # fmt: skip
def a_call_fails_in_part(it):
    answer = it.events.put_events(Entries=[entry(), entry("no json"), entry()])
    it.same("failed", answer["FailedEntryCount"], 1)
    answered = ["EventId" in one or one.get("ErrorCode") for one in answer["Entries"]]
    it.same("entries", answered, [True, "MalformedDetail", True])


@fact("Every entry that is taken has an id of its own", API + "API_PutEventsResultEntry.html")
def entries_have_ids(it):
    ids = [one.get("EventId") for one in it.events.put_events(Entries=[entry(), entry()])["Entries"]]
    it.same("distinct ids", len(set(ids) - {None}), 2)


@fact("An event of ours reaches the queue of a rule that matches its source, with id, time, account and region",
      GUIDE + "eb-events-structure.html")  # fmt: skip
def an_event_has_its_envelope(it):
    url = rule_to_a_queue(it, "own", {"source": [SOURCE], "detail": {"fact": ["envelope"]}})
    event = json.loads(deliver(it, url, {"fact": "envelope", "n": 1}))
    keys = {"version", "id", "detail-type", "source", "account", "time", "region", "resources", "detail"}
    it.same("fields", sorted(set(event) & keys), sorted(keys))
    it.same("detail", event["detail"], {"fact": "envelope", "n": 1})


@fact("An input transformer puts a value into its template, quoted, and the message is the template alone",
      GUIDE + "eb-transform-target-input.html")  # fmt: skip
def a_transformer_makes_the_message(it):
    template = '{"lamplighter":"tick","rule":"name","scheduled":<due>}'
    transformer = {"InputPathsMap": {"due": "$.time"}, "InputTemplate": template}
    pattern = {"source": [SOURCE], "detail": {"fact": ["transformer"]}}
    url = rule_to_a_queue(it, "transformed", pattern, InputTransformer=transformer)
    message = json.loads(deliver(it, url, {"fact": "transformer"}))
    it.same("fields", sorted(message), ["lamplighter", "rule", "scheduled"])
    it.true("time", message["scheduled"], re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", str(message["scheduled"])))


@fact("EC2's state change is an event with the instance's id and state, its ARN as resource, and a time",
      "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/monitoring-instance-state-changes.html")  # fmt: skip
def an_instance_event_has_its_fields(it):
    pattern = {"source": ["aws.ec2"], "detail-type": ["EC2 Instance State-change Notification"]}
    url = rule_to_a_queue(it, "ec2", pattern)
    id, _ = ec2.launch(it)

    event = first_event(it, url, lambda event: event["detail"].get("instance-id") == id)
    it.same("state", event["detail"]["state"], "pending", "running")
    it.true("resource", event["resources"], event["resources"][0].endswith(f":instance/{id}"))
    it.same("detail-type", event["detail-type"], "EC2 Instance State-change Notification")
    it.true("time", event["time"], event["time"].endswith("Z"))
    it.ec2.terminate_instances(InstanceIds=[id])


@fact("A rule that does not exist is ResourceNotFoundException", API + "API_DescribeRule.html")
def a_missing_rule_has_its_code(it):
    it.refused("ResourceNotFoundException", it.events.describe_rule, Name=it.name("nowhere"))


@fact("A pattern that is none is InvalidEventPatternException", API + "API_PutRule.html")
def a_bad_pattern_has_its_code(it):
    name = it.name("bad-pattern")
    it.later(f"rule {name}", remove_rule, it, name, "queue")
    it.refused("InvalidEventPatternException", it.events.put_rule, Name=name, EventPattern='{"source": "no list"}')


@fact("A schedule that is none is ValidationException", API + "API_PutRule.html")
def a_bad_schedule_has_its_code(it):
    name = it.name("bad-schedule")
    it.later(f"rule {name}", remove_rule, it, name, "queue")
    it.refused("ValidationException", it.events.put_rule, Name=name, ScheduleExpression="rate(5 minute)")


def make_rule(it):
    name = it.name("rule")
    it.events.put_rule(Name=name, ScheduleExpression="rate(1 day)", State="DISABLED", Description="before",
                       Tags=[{"Key": kit.TAG, "Value": it.run.id}])  # fmt: skip
    it.later(f"rule {name}", remove_rule, it, name, "queue")
    return name


def a_rule(it):
    return it.shared("a rule", lambda: make_rule(it))


@fact("PutRule changes a rule that exists and leaves its targets and tags", API + "API_PutRule.html")
def put_rule_updates(it):
    name = a_rule(it)
    queue = sqs.arn_of(it, sqs.queue(it))
    it.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": queue}])
    it.events.put_rule(Name=name, ScheduleExpression="rate(2 days)", State="DISABLED")
    seen = it.events.describe_rule(Name=name)
    it.same("expression", seen["ScheduleExpression"], "rate(2 days)")
    targets = it.events.list_targets_by_rule(Rule=name)["Targets"]
    it.same("targets", [target["Arn"] == queue for target in targets], [True])
    tags = it.events.list_tags_for_resource(ResourceARN=seen["Arn"])["Tags"]
    it.same("tags", tags, [{"Key": kit.TAG, "Value": it.run.id}])


@fact("A rule is switched by EnableRule and DisableRule", API + "API_EnableRule.html")
def a_rule_is_switched(it):
    name = a_rule(it)
    it.events.enable_rule(Name=name)
    it.same("state", it.events.describe_rule(Name=name)["State"], "ENABLED")
    it.events.disable_rule(Name=name)
    it.same("state", it.events.describe_rule(Name=name)["State"], "DISABLED")


@fact("A rule that has targets cannot be deleted", API + "API_DeleteRule.html")
def a_rule_with_targets_stays(it):
    name = it.name(f"full{next(NUMBERS)}")
    it.events.put_rule(Name=name, ScheduleExpression="rate(1 day)", State="DISABLED")
    it.later(f"rule {name}", remove_rule, it, name, "queue")
    it.events.put_targets(Rule=name, Targets=[{"Id": "queue", "Arn": sqs.arn_of(it, sqs.queue(it))}])
    it.refused("ValidationException", it.events.delete_rule, Name=name)


@fact("A bus that does not exist is ResourceNotFoundException, one that exists ResourceAlreadyExistsException",
      API + "API_DescribeEventBus.html")  # fmt: skip
def buses_have_their_errors(it):
    it.refused("ResourceNotFoundException", it.events.describe_event_bus, Name=it.name("nowhere"))
    name = it.name("bus")
    it.events.create_event_bus(Name=name, Tags=[{"Key": kit.TAG, "Value": it.run.id}])
    it.later(f"bus {name}", it.events.delete_event_bus, Name=name)
    it.refused("ResourceAlreadyExistsException", it.events.create_event_bus, Name=name)
