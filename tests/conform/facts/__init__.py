"""The facts, one file for each service."""

from facts import (  # noqa: F401: importing registers them
    cloudwatch,
    dynamodb,
    ec2,
    ecs,
    events,
    iam,
    logs,
    scaling,
    scheduler,
    secretsmanager,
    sqs,
    ssm,
    sts,
)
