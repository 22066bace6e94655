"""ECS: counts after an update, what is missing, limits, events.

On AWS the facts make a cluster with a Fargate service of busybox, for some minutes; `--service` names another one.
"""

import kit

from facts import events

fact = kit.facts_of("ecs")
API = "https://docs.aws.amazon.com/AmazonECS/latest/APIReference/"
GUIDE = "https://docs.aws.amazon.com/AmazonECS/latest/developerguide/"


def make_service(it):
    """Cluster and name of a service whose count is 0."""
    if it.given.service:
        return tuple(it.given.service.split("/"))
    name = it.name("service")
    tags = [{"key": kit.TAG, "value": it.run.id}]
    it.ecs.create_cluster(clusterName=it.name("cluster"), tags=tags)
    it.later("a cluster", it.ecs.delete_cluster, cluster=it.name("cluster"))
    container = {"name": "sleep", "image": "public.ecr.aws/docker/library/busybox:stable", "command": ["sleep", "3600"],
                 "essential": True}  # fmt: skip
    task = it.ecs.register_task_definition(
        family=name, requiresCompatibilities=["FARGATE"], networkMode="awsvpc", cpu="256", memory="512",
        containerDefinitions=[container], tags=tags,
    )["taskDefinition"]["taskDefinitionArn"]  # fmt: skip
    it.later("a task definition", it.ecs.deregister_task_definition, taskDefinition=task)
    subnets, group = network(it)
    awsvpc = {"subnets": subnets, "securityGroups": [group], "assignPublicIp": "ENABLED"}
    it.ecs.create_service(
        cluster=it.name("cluster"), serviceName=name, taskDefinition=task, desiredCount=0, launchType="FARGATE",
        networkConfiguration={"awsvpcConfiguration": awsvpc}, tags=tags,
    )  # fmt: skip
    it.later("a service", it.ecs.delete_service, cluster=it.name("cluster"), service=name, force=True)
    return it.name("cluster"), name


def network(it):
    """Subnets of one VPC and its default security group."""
    if it.given.subnet:
        subnets = it.ec2.describe_subnets(SubnetIds=[it.given.subnet])["Subnets"]
    else:
        subnets = it.ec2.describe_subnets(Filters=[{"Name": "default-for-az", "Values": ["true"]}])["Subnets"][:3]
    if not subnets:
        raise kit.Skip("there is no default VPC: give --subnet")
    names = [{"Name": "vpc-id", "Values": [subnets[0]["VpcId"]]}, {"Name": "group-name", "Values": ["default"]}]
    groups = it.ec2.describe_security_groups(Filters=names)["SecurityGroups"]
    return [subnet["SubnetId"] for subnet in subnets], groups[0]["GroupId"]


def service(it):
    return it.shared("a service", lambda: make_service(it))


def describe(it):
    cluster, name = service(it)
    return it.ecs.describe_services(cluster=cluster, services=[name])["services"][0]


def count(it, desired):
    cluster, name = service(it)
    return it.ecs.update_service(cluster=cluster, service=name, desiredCount=desired)["service"]


@fact("A service that does not exist is a failure MISSING in an answer that succeeds",
      API + "API_DescribeServices.html")  # fmt: skip
def a_missing_service_is_a_failure(it):
    cluster, name = service(it)
    answer = it.ecs.describe_services(cluster=cluster, services=[name, it.name("nowhere")])
    it.same("found", [one["serviceName"] for one in answer["services"]], [name])
    it.same("failures", [failure["reason"] for failure in answer["failures"]], ["MISSING"])


@fact("DescribeServices takes at most ten services", API + "API_DescribeServices.html")
def ten_services_are_described(it):
    cluster, _ = service(it)
    many = [it.name(f"s{n}") for n in range(11)]
    it.same("failures of ten", len(it.ecs.describe_services(cluster=cluster, services=many[:10])["failures"]), 10)
    it.refused("InvalidParameterException", it.ecs.describe_services, cluster=cluster, services=many)


@fact("A cluster that does not exist is ClusterNotFoundException", API + "API_DescribeServices.html")
def a_missing_cluster_has_its_code(it):
    it.refused("ClusterNotFoundException", it.ecs.describe_services, cluster=it.name("nowhere"), services=["x"])


@fact("UpdateService of a service that does not exist is ServiceNotFoundException", API + "API_UpdateService.html")
def an_update_of_a_missing_service(it):
    cluster, _ = service(it)
    update = it.ecs.update_service
    it.refused("ServiceNotFoundException", update, cluster=cluster, service=it.name("nowhere"), desiredCount=0)


@fact("A describe after UpdateService shows the new desired count within a minute, and runningCount follows",
      API + "API_UpdateService.html")  # fmt: skip
def counts_follow_an_update(it):
    it.same("desired in the answer", count(it, 1)["desiredCount"], 1)
    it.note(f"desired at once: {describe(it)['desiredCount']}, running {describe(it)['runningCount']}")
    it.eventually("desired is 1", lambda: describe(it)["desiredCount"] == 1)
    it.eventually("running is 1", lambda: describe(it)["runningCount"] == 1, seconds=240)


@fact("The tasks of a service are listed by its name and described by their ARNs", API + "API_ListTasks.html")
def tasks_are_listed_by_service(it):
    cluster, name = service(it)
    count(it, 1)
    list_tasks = lambda: it.ecs.list_tasks(cluster=cluster, serviceName=name)["taskArns"]
    arns = it.eventually("a task is listed", list_tasks, seconds=240)
    tasks = it.ecs.describe_tasks(cluster=cluster, tasks=arns)["tasks"]
    it.same("group", tasks[0]["group"], f"service:{name}")
    it.true("lastStatus", tasks[0]["lastStatus"], tasks[0]["lastStatus"].isupper())


@fact("A task that does not exist is a failure MISSING; at most 100 tasks are described",
      API + "API_DescribeTasks.html")  # fmt: skip
def a_missing_task_is_a_failure(it):
    cluster, _ = service(it)
    many = [f"{n:032x}" for n in range(101)]
    failures = it.ecs.describe_tasks(cluster=cluster, tasks=many[:2])["failures"]
    it.same("failures", [failure["reason"] for failure in failures], ["MISSING", "MISSING"])
    it.refused("InvalidParameterException", it.ecs.describe_tasks, cluster=cluster, tasks=many)


@fact("UpdateService with the count that is set already is no error", API + "API_UpdateService.html")
def an_update_may_be_repeated(it):
    for _ in range(2):
        it.same("desired", count(it, 1)["desiredCount"], 1)


@fact("A task's end is an event with cluster, group, lastStatus, desiredStatus and stoppedReason",
      GUIDE + "ecs_task_events.html")  # fmt: skip
def a_task_event_has_its_fields(it):
    cluster, name = service(it)
    count(it, 1)
    it.eventually("running is 1", lambda: describe(it)["runningCount"] == 1, seconds=240)
    pattern = {"source": ["aws.ecs"], "detail-type": ["ECS Task State Change"]}
    url = events.rule_to_a_queue(it, "ecs-tasks", pattern)
    count(it, 0)

    of_its_end = lambda event: event["detail"].get("group") == f"service:{name}" and "stoppedReason" in event["detail"]
    event = events.first_event(it, url, of_its_end)
    it.same("source", event["source"], "aws.ecs")
    it.true("cluster", event["detail"]["clusterArn"], event["detail"]["clusterArn"].endswith(f"/{cluster}"))
    it.same("desiredStatus", event["detail"]["desiredStatus"], "STOPPED")
    it.true("lastStatus", event["detail"]["lastStatus"], event["detail"]["lastStatus"].isupper())
    it.true("task", event["resources"], event["resources"] == [event["detail"]["taskArn"]])


@fact("A count of 0 ends all tasks", API + "API_UpdateService.html")
def a_count_of_0_ends_the_tasks(it):
    it.same("desired", count(it, 0)["desiredCount"], 0)
    it.eventually("nothing runs", lambda: (describe(it)["runningCount"], describe(it)["pendingCount"]) == (0, 0), 240)


@fact("A deleted service is described as INACTIVE or DRAINING, and its update is ServiceNotActiveException or "
      "ServiceNotFoundException", API + "API_DeleteService.html")  # fmt: skip
def a_deleted_service_is_inactive(it):
    if it.given.service:
        raise kit.Skip("the service is the user's own")
    cluster, name = service(it)
    it.ecs.delete_service(cluster=cluster, service=name, force=True)
    answer = it.ecs.describe_services(cluster=cluster, services=[name])
    seen = answer["services"][0]["status"] if answer["services"] else "MISSING"
    it.same("status", seen, "INACTIVE", "DRAINING", "MISSING")
    codes = ("ServiceNotActiveException", "ServiceNotFoundException")
    it.refused(codes, it.ecs.update_service, cluster=cluster, service=name, desiredCount=1)
