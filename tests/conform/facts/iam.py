"""IAM: condition keys of EC2, tried by dry runs, and roles for the other facts.

On AWS a role of the run is assumed. Lamplighter's own endpoint takes a policy for an access key instead. Other
endpoints are skipped: they allow everything.
"""

import json
import urllib.request

import kit

from facts import ec2

fact = kit.facts_of("iam")
KEYS = "https://docs.aws.amazon.com/service-authorization/latest/reference/list_amazonec2.html"
TEMPLATES = "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/launch-template-permissions.html"


def make_role(it, what, principal, statements):
    """The ARN of a role of this run; where the endpoint has no IAM, an ARN that looks like one."""
    name = it.name(what)
    trust = {"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Principal": principal, "Action": "sts:AssumeRole"}]}  # fmt: skip
    policy = {"Version": "2012-10-17", "Statement": statements}
    if it.given.local:
        return f"arn:aws:iam::000000000000:role/{name}"
    tags = [{"Key": kit.TAG, "Value": it.run.id}]
    role = it.iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(trust), Tags=tags)["Role"]
    it.later(f"role {name}", it.iam.delete_role, RoleName=name)
    it.iam.put_role_policy(RoleName=name, PolicyName="conform", PolicyDocument=json.dumps(policy))
    it.later(f"the policy of role {name}", it.iam.delete_role_policy, RoleName=name, PolicyName="conform")
    return role["Arn"]


def as_one_who_may(it, what, statements):
    """An EC2 client of a principal with these statements and no other rights."""
    if it.given.local:
        key = f"AKIA{it.run.id}{what}".upper()
        policy = json.dumps({"Version": "2012-10-17", "Statement": statements}).encode()
        url = f"{it.run.endpoint}/_lamplighter/policy?access_key={key}"
        urllib.request.urlopen(urllib.request.Request(url, policy, method="PUT"), timeout=10).close()
        return it.run.client("ec2", {"aws_access_key_id": key, "aws_secret_access_key": "conform"})
    if not it.run.is_aws:
        raise kit.Skip("this endpoint allows everything")
    arn = make_role(it, what, {"AWS": it.run.account}, statements)

    def assume():
        with kit.quiet("AccessDenied"):
            return it.sts.assume_role(RoleArn=arn, RoleSessionName="conform", DurationSeconds=900)["Credentials"]
        return None

    given = it.eventually("the role can be assumed", assume, seconds=60, every=2)
    it.pause(10)  # The policy of a role arrives later than the role.
    return it.run.client("ec2", {
        "aws_access_key_id": given["AccessKeyId"], "aws_secret_access_key": given["SecretAccessKey"],
        "aws_session_token": given["SessionToken"],
    })  # fmt: skip


@fact("`aws:ResourceTag` decides whether an instance may be stopped, and a dry run says which", KEYS)
def the_tag_of_an_instance_decides(it):
    tagged, _ = ec2.launch(it)
    other, _ = ec2.launch(it, TagSpecifications=[])
    for id in (tagged, other):
        ec2.until(it, id, "running")
    may = as_one_who_may(it, "tags", [{
        "Effect": "Allow", "Action": "ec2:StopInstances", "Resource": "*",
        "Condition": {"StringEquals": {f"aws:ResourceTag/{kit.TAG}": it.run.id}},
    }])  # fmt: skip
    it.refused("DryRunOperation", may.stop_instances, InstanceIds=[tagged], DryRun=True)
    it.refused("UnauthorizedOperation", may.stop_instances, InstanceIds=[other], DryRun=True)
    it.ec2.terminate_instances(InstanceIds=[tagged, other])


@fact("`ec2:LaunchTemplate` binds a launch to its template, and a dry run says so", TEMPLATES)
def the_template_of_a_launch_decides(it):
    mine, other = ec2.template(it), ec2.make_template(it)
    may = as_one_who_may(it, "templates", [
        {"Effect": "Allow", "Action": ["ec2:RunInstances", "ssm:GetParameters"], "Resource": "*",
         "Condition": {"ArnLikeIfExists": {"ec2:LaunchTemplate": f"arn:*:ec2:*:*:launch-template/{mine}"}}},
        {"Effect": "Allow", "Action": ["ec2:CreateTags", "iam:PassRole"], "Resource": "*"},
    ])  # fmt: skip
    wanted = ec2.request(it, f"{it.run.id}-iam", DryRun=True)
    it.refused("DryRunOperation", may.run_instances, **wanted)
    wanted["LaunchTemplate"] = {"LaunchTemplateId": other, "Version": "$Default"}
    it.refused("UnauthorizedOperation", may.run_instances, **wanted)


@fact("`ec2:IsLaunchTemplateResource` of the network interface, where a launch by a template names another subnet, is "
      "not documented: the launch is allowed or denied, and the report says which", TEMPLATES)  # fmt: skip
def the_subnet_of_a_launch_may_be_another(it):
    if not it.given.subnet:
        raise kit.Skip("give --subnet, the one that the launch is to name")
    may = as_one_who_may(it, "subnet", [
        {"Effect": "Allow", "Resource": "*",
         "Action": ["ec2:RunInstances", "ec2:CreateTags", "iam:PassRole", "ssm:GetParameters"]},
        {"Effect": "Deny", "Action": "ec2:RunInstances", "Resource": "arn:*:ec2:*:*:network-interface/*",
         "Condition": {"Bool": {"ec2:IsLaunchTemplateResource": "false"}}},
    ])  # fmt: skip
    wanted = ec2.request(it, f"{it.run.id}-subnet", DryRun=True)
    it.refused(("DryRunOperation", "UnauthorizedOperation"), may.run_instances, **wanted)
