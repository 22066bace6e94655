"""STS: whose account it is."""

import kit

fact = kit.facts_of("sts")


@fact("GetCallerIdentity gives an account of twelve digits, which is in the caller's ARN",
      "https://docs.aws.amazon.com/STS/latest/APIReference/API_GetCallerIdentity.html")  # fmt: skip
def the_caller_has_an_account(it):
    answer = it.sts.get_caller_identity()
    account = answer["Account"]
    it.true("twelve digits", len(account), account.isdigit() and len(account) == 12)
    it.same("in the ARN", answer["Arn"].split(":")[4], account)
