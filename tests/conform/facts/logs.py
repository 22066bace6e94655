"""CloudWatch Logs: whether a group is there."""

import kit

fact = kit.facts_of("logs")
API = "https://docs.aws.amazon.com/AmazonCloudWatchLogs/latest/APIReference/"


@fact("DescribeLogGroups by a prefix that no group has gives none and is no error", API + "API_DescribeLogGroups.html")
def a_missing_group_is_an_empty_answer(it):
    answer = it.logs.describe_log_groups(logGroupNamePrefix=it.name("nowhere"), limit=1)
    it.same("groups", answer["logGroups"], [])


@fact("A prefix also finds longer names, and the group of that name comes first", API + "API_DescribeLogGroups.html")
def a_prefix_finds_its_name_first(it):
    for name in (it.name("group-longer"), it.name("group")):
        it.logs.create_log_group(logGroupName=name, tags={kit.TAG: it.run.id})
        it.later(f"log group {name}", it.logs.delete_log_group, logGroupName=name)
    listed = lambda limit: it.logs.describe_log_groups(logGroupNamePrefix=it.name("group"), limit=limit)["logGroups"]
    it.eventually("both are listed", lambda: len(listed(5)) == 2)
    it.same("the first", listed(1)[0]["logGroupName"], it.name("group"))


@fact("DescribeLogGroups gives at most 50 groups a page", API + "API_DescribeLogGroups.html")
def a_page_has_50_groups(it):
    it.refused("InvalidParameterException", it.logs.describe_log_groups, limit=51)
