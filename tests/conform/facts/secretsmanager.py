"""Secrets Manager: how a secret is named, and what its absence is called."""

import kit

fact = kit.facts_of("secretsmanager")
API = "https://docs.aws.amazon.com/secretsmanager/latest/apireference/API_GetSecretValue.html"
VALUE = '{"instance": "i-0abc", "n": 1}'


def make_secret(it):
    name = it.name("secret")
    answer = it.secrets.create_secret(Name=name, SecretString=VALUE, Tags=[{"Key": kit.TAG, "Value": it.run.id}])
    it.later(f"secret {name}", it.secrets.delete_secret, SecretId=name, ForceDeleteWithoutRecovery=True)
    return answer["ARN"]


def delete_for_good(it, name):
    """What waits for its deletion is restored first: only then may it be deleted at once."""
    with kit.quiet():
        it.secrets.restore_secret(SecretId=name)
    it.secrets.delete_secret(SecretId=name, ForceDeleteWithoutRecovery=True)


def secret(it):
    return it.shared("a secret", lambda: make_secret(it))


@fact("A secret's text is given back to the letter, by its name and by its ARN", API)
def a_secret_is_found_by_name_and_arn(it):
    arn = secret(it)
    for id in (it.name("secret"), arn):
        it.same("value", it.secrets.get_secret_value(SecretId=id)["SecretString"] == VALUE, True)


@fact("An ARN of a secret ends with a dash and six characters of AWS's",
      "https://docs.aws.amazon.com/secretsmanager/latest/userguide/troubleshoot.html")  # fmt: skip
def an_arn_has_six_random_characters(it):
    suffix = secret(it).split(f":secret:{it.name('secret')}")[-1]
    it.true("what follows the name", "-" + "x" * (len(suffix) - 1), len(suffix) == 7 and suffix[0] == "-")


@fact("A secret that does not exist is ResourceNotFoundException", API)
def a_missing_secret_has_its_code(it):
    it.refused("ResourceNotFoundException", it.secrets.get_secret_value, SecretId=it.name("nowhere"))


@fact("A secret that waits for its deletion cannot be read, and that is InvalidRequestException", API)
def a_secret_to_be_deleted_cannot_be_read(it):
    name = it.name("doomed")
    it.secrets.create_secret(Name=name, SecretString="x", Tags=[{"Key": kit.TAG, "Value": it.run.id}])
    it.later(f"secret {name}", delete_for_good, it, name)
    it.secrets.delete_secret(SecretId=name, RecoveryWindowInDays=7)
    it.refused("InvalidRequestException", it.secrets.get_secret_value, SecretId=name)
