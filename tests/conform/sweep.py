"""What earlier runs left behind, found by prefix or tag and removed: `scripts/conform --clean`."""

import json
import urllib.error
import urllib.request

from botocore.exceptions import BotoCoreError, ClientError

import kit


def is_lamplighter_local(endpoint):
    try:
        with urllib.request.urlopen(f"{endpoint}/_lamplighter/health", timeout=5) as answer:
            return json.loads(answer.read()).get("status") == "ok"
    except (OSError, ValueError, AttributeError, urllib.error.URLError):
        return False


def pages(call, key, **kwargs):
    """All items of a listing, whatever its token is called."""
    names = ("NextToken", "nextToken", "LastEvaluatedTableName", "Marker")
    sent = {"LastEvaluatedTableName": "ExclusiveStartTableName"}
    while True:
        answer = call(**kwargs)
        yield from answer.get(key, [])
        token = next((name for name in names if answer.get(name)), None)
        if token is None:
            return
        kwargs[sent.get(token, token)] = answer[token]


def ours(name):
    return name.startswith(kit.PREFIX + "-")


def named_ours(items, key):
    """An endpoint that passes over a prefix must not lose what is somebody else's."""
    return (it for it in items if ours(it[key]))


def tagged_ours(items):
    """The same of a filter on tags."""
    return (it for it in items if any(tag["Key"] == kit.TAG for tag in it.get("Tags", [])))


def clean(run):
    """Removes what bears the prefix or the tag of any run; what was removed, and what could not be."""
    removed, left = [], []

    def each(what, listing, name_of, *removals):
        try:
            found = list(listing())
        except (ClientError, BotoCoreError) as error:
            if kit.code_of(error) not in kit.NOT_THERE:
                left.append(f"{what}: they cannot be listed: {kit.brief(error)}")
            return
        for one in found:
            try:
                for remove in removals:
                    remove(one)
                removed.append(f"{what} {name_of(one)}")
            except (ClientError, BotoCoreError) as error:
                if not kit.is_gone(kit.code_of(error) or ""):
                    left.append(f"{what} {name_of(one)}: {kit.brief(error)}")

    ec2, ecs, iam = run.client("ec2"), run.client("ecs"), run.client("iam")
    alive = [
        {"Name": "tag-key", "Values": [kit.TAG]},
        {"Name": "instance-state-name", "Values": ["pending", "running", "stopping", "stopped"]},
    ]
    each(
        "instance",
        lambda: tagged_ours(
            one for group in pages(ec2.describe_instances, "Reservations", Filters=alive) for one in group["Instances"]
        ),
        lambda it: it["InstanceId"],
        lambda it: unprotect(ec2, it["InstanceId"]),
        lambda it: ec2.terminate_instances(InstanceIds=[it["InstanceId"]]),
    )
    each(
        "launch template",
        lambda: tagged_ours(pages(ec2.describe_launch_templates, "LaunchTemplates")),
        lambda it: it["LaunchTemplateId"],
        lambda it: ec2.delete_launch_template(LaunchTemplateId=it["LaunchTemplateId"]),
    )
    each(
        "cluster",
        lambda: (arn for arn in pages(ecs.list_clusters, "clusterArns") if ours(arn.rsplit("/", 1)[1])),
        lambda arn: arn.rsplit("/", 1)[1],
        lambda arn: delete_services(ecs, run.client("application-autoscaling"), arn),
        lambda arn: ecs.delete_cluster(cluster=arn),
    )
    each(
        "task definition",
        lambda: filter(ours, pages(ecs.list_task_definition_families, "families", familyPrefix=kit.PREFIX, status="ACTIVE")),
        str,
        lambda family: [
            ecs.deregister_task_definition(taskDefinition=arn)
            for arn in pages(ecs.list_task_definitions, "taskDefinitionArns", familyPrefix=family)
        ],
    )
    scheduler = run.client("scheduler")
    each(
        "schedule group",
        lambda: named_ours(pages(scheduler.list_schedule_groups, "ScheduleGroups", NamePrefix=kit.PREFIX), "Name"),
        lambda it: it["Name"],
        lambda it: scheduler.delete_schedule_group(Name=it["Name"]),
    )
    events = run.client("events")
    each(
        "rule",
        lambda: named_ours(pages(events.list_rules, "Rules", NamePrefix=kit.PREFIX), "Name"),
        lambda it: it["Name"],
        lambda it: events.remove_targets(Rule=it["Name"], Ids=["queue"]),
        lambda it: events.delete_rule(Name=it["Name"]),
    )
    each(
        "bus",
        lambda: named_ours(pages(events.list_event_buses, "EventBuses", NamePrefix=kit.PREFIX), "Name"),
        lambda it: it["Name"],
        lambda it: events.delete_event_bus(Name=it["Name"]),
    )
    sqs = run.client("sqs")
    each(
        "queue",
        lambda: (
            url for url in pages(sqs.list_queues, "QueueUrls", QueueNamePrefix=kit.PREFIX, MaxResults=1000)
            if ours(url.rsplit("/", 1)[1])
        ),
        lambda url: url.rsplit("/", 1)[1],
        lambda url: sqs.delete_queue(QueueUrl=url),
    )
    dynamodb = run.client("dynamodb")
    each(
        "table",
        lambda: filter(ours, pages(dynamodb.list_tables, "TableNames")),
        str,
        lambda name: dynamodb.delete_table(TableName=name),
    )
    secrets = run.client("secretsmanager")
    named = [{"Key": "name", "Values": [kit.PREFIX]}]
    each(
        "secret",
        lambda: named_ours(pages(secrets.list_secrets, "SecretList", Filters=named), "Name"),
        lambda it: it["Name"],
        lambda it: secrets.delete_secret(SecretId=it["ARN"], ForceDeleteWithoutRecovery=True),
    )
    logs = run.client("logs")
    each(
        "log group",
        lambda: named_ours(pages(logs.describe_log_groups, "logGroups", logGroupNamePrefix=kit.PREFIX), "logGroupName"),
        lambda it: it["logGroupName"],
        lambda it: logs.delete_log_group(logGroupName=it["logGroupName"]),
    )
    if not run.given.local:
        each(
            "role",
            lambda: named_ours(pages(iam.list_roles, "Roles"), "RoleName"),
            lambda it: it["RoleName"],
            lambda it: iam.delete_role_policy(RoleName=it["RoleName"], PolicyName="conform"),
            lambda it: iam.delete_role(RoleName=it["RoleName"]),
        )
    return removed, left


def unprotect(ec2, id):
    """A run that was ended between protecting and unprotecting leaves an instance that cannot be ended."""
    for attribute in ("DisableApiStop", "DisableApiTermination"):
        with kit.quiet(*kit.NOT_THERE):
            ec2.modify_instance_attribute(InstanceId=id, **{attribute: {"Value": False}})


def delete_services(ecs, scaling, cluster):
    name = cluster.rsplit("/", 1)[1]
    for arn in pages(ecs.list_services, "serviceArns", cluster=cluster):
        service = arn.rsplit("/", 1)[1]
        with kit.quiet():
            scaling.deregister_scalable_target(
                ServiceNamespace="ecs", ResourceId=f"service/{name}/{service}",
                ScalableDimension="ecs:service:DesiredCount",
            )  # fmt: skip
        ecs.delete_service(cluster=cluster, service=service, force=True)
