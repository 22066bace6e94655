"""What the tests of the wire let pass, each with its reason or source."""

import re

# Operations of the source that the journey does not reach.
NOT_DRIVEN = {}

AWSIM = "awsim's DynamoDB, which is not ours; "
# What differs from a model and is let pass: a pattern for the problem, and why.
KNOWN = {
    r"^dynamodb:(Create|Describe)Table answer: .*NumberOfDecreasesToday: 0 is below 1":
        "DynamoDB itself answers 0: https://docs.aws.amazon.com/amazondynamodb/latest/developerguide/"
        "WorkingWithTables.Basics.html, and the model's minimum is for what a caller would send",
    r"^dynamodb:(Create|Describe)Table answer: .*NonKeyAttributes: 0 is below 1": AWSIM + "clients read an empty list",
    r"^dynamodb:BatchGetItem answer: UnprocessedKeys: 0 is below 1":
        "DynamoDB itself answers an empty map: https://docs.aws.amazon.com/amazondynamodb/latest/APIReference/"
        "API_BatchGetItem.html#API_BatchGetItem_Examples",
    r"^ssm:GetCommandInvocation answer: CloudWatchOutputConfig.CloudWatchLogGroupName has 0 characters":
        "SSM itself answers so: https://docs.aws.amazon.com/cli/latest/reference/ssm/get-command-invocation.html#examples",
    r"^ssm:GetCommandInvocation answer: Execution(Start|End)DateTime is '(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z)?', not like":
        "SSM itself answers milliseconds, which the model's pattern has not, and nothing before the command began; the "
        "same page",
    r"^ssm:GetCommandInvocation answer: ExecutionElapsedTime is '(PT[\d.]+S)?', not like":
        "SSM itself answers `PT0.004S`; the same page. The model's pattern is for dates",
}  # fmt: skip

# https://docs.aws.amazon.com/systems-manager/latest/APIReference/CommonErrors.html, and the same page of the other
# services that speak JSON.
JSON_COMMON = {
    "AccessDeniedException", "ExpiredTokenException", "IncompleteSignature", "InternalFailure", "NotAuthorized",
    "OptInRequired", "RequestExpired", "ServiceUnavailable", "ThrottlingException", "UnrecognizedClientException",
    "ValidationException",
}  # fmt: skip
# Codes that AWS documents for a whole service, and that its model does not declare for each operation.
SERVICES = {
    # https://docs.aws.amazon.com/AWSEC2/latest/APIReference/errors-overview.html; EC2's model declares no errors at all.
    "ec2": {"DryRunOperation", "RequestLimitExceeded", "UnauthorizedOperation"},
}


def common(service):
    return SERVICES.get(service, JSON_COMMON)


def is_known(problem):
    return any(re.search(pattern, problem) for pattern in KNOWN)


def unused(problems):
    """The patterns that match nothing any more."""
    return [pattern for pattern in KNOWN if not any(re.search(pattern, problem) for problem in problems)]
