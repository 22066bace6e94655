"""A bucket for templates that are too long to be sent with a call.

Theory. CloudFormation takes 51,200 bytes with a call and a million from S3. What is longer goes to a bucket of this
account, under a name that holds its hash, and CloudFormation reads it there once. The bucket is made where none is
given: private, encrypted by S3 itself, for TLS alone, and what lies in it goes after some days.

Invariant. Every call names this account as the bucket's owner. The name can be guessed, and a template in somebody
else's bucket would be somebody else's template.
"""

import hashlib
import json

from botocore.exceptions import ClientError

# CloudFormation's limit for a template in S3.
TEMPLATE_BYTES_MAX = 1_000_000
# A stack keeps its template itself; somebody may want to look at what was sent.
KEPT_DAYS = 7


class BucketError(Exception):
    """A bucket that cannot be used, and why."""


class Uploads:
    """Uploads of one account and region."""

    def __init__(self, session, given, say):
        self.session, self.given, self.say = session, given, say
        self.s3 = session.client("s3")
        self.is_ready = False
        self.owner = None

    @property
    def region(self):
        return self.session.region_name

    def _account(self):
        if self.owner is None:
            self.owner = self.session.client("sts").get_caller_identity()["Account"]
        return self.owner

    @property
    def name(self):
        return self.given or f"lamplighter-templates-{self._account()}-{self.region}"

    def url(self, env, file, text):
        """Where CloudFormation reads this template; uploaded there now."""
        size = len(text.encode())
        if size > TEMPLATE_BYTES_MAX:
            raise BucketError(f"{file} has {size} bytes; CloudFormation takes at most {TEMPLATE_BYTES_MAX}")
        self._prepare()
        key = f"{env}/{hashlib.sha256(text.encode()).hexdigest()[:16]}-{file}"
        self.s3.put_object(Bucket=self.name, Key=key, Body=text.encode(), ExpectedBucketOwner=self._account())
        self.say(f"  {file} has {size} bytes and goes by s3://{self.name}/{key}")
        return f"{self.s3.meta.endpoint_url}/{self.name}/{key}"

    def _prepare(self):
        if self.is_ready:
            return
        if not self._is_there():
            if self.given:
                raise BucketError(f"the bucket {self.given} does not exist; expected one of this account, or no --template-bucket")
            self._make()
        self.is_ready = True

    def _is_there(self):
        try:
            self.s3.head_bucket(Bucket=self.name, ExpectedBucketOwner=self._account())
        except ClientError as error:
            if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
                return False
            if error.response["Error"]["Code"] in ("403", "AccessDenied"):
                raise BucketError(
                    f"the bucket {self.name} is not this account's, or may not be used; expected another with --template-bucket"
                ) from error
            raise
        return True

    def _make(self):
        where = {} if self.region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": self.region}}
        self.s3.create_bucket(Bucket=self.name, **where)
        owned = {"Bucket": self.name, "ExpectedBucketOwner": self._account()}
        self.s3.put_public_access_block(
            **owned,
            PublicAccessBlockConfiguration={
                name: True for name in ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            },
        )
        self.s3.put_bucket_policy(**owned, Policy=json.dumps(only_tls(self.name, self.region)))
        self.s3.put_bucket_lifecycle_configuration(
            **owned,
            LifecycleConfiguration={
                "Rules": [{"ID": "templates", "Status": "Enabled", "Filter": {}, "Expiration": {"Days": KEPT_DAYS}}]
            },
        )
        self.say(f"  the bucket {self.name} is made")

    def forget(self, env):
        """Deletes what an environment has in the bucket that was made here, and the bucket with the last of them."""
        if self.given or not self._is_there():
            return
        owner = {"ExpectedBucketOwner": self._account()}
        for page in self.s3.get_paginator("list_objects_v2").paginate(Bucket=self.name, Prefix=f"{env}/", **owner):
            keys = [{"Key": entry["Key"]} for entry in page.get("Contents", [])]
            if keys:
                self.s3.delete_objects(Bucket=self.name, Delete={"Objects": keys}, **owner)
        if not self.s3.list_objects_v2(Bucket=self.name, MaxKeys=1, **owner).get("Contents"):
            self.s3.delete_bucket(Bucket=self.name, **owner)


def only_tls(bucket, region):
    """The policy of a bucket that nobody reaches without TLS."""
    partition = "aws-cn" if region.startswith("cn-") else "aws-us-gov" if region.startswith("us-gov-") else "aws"
    arn = f"arn:{partition}:s3:::{bucket}"
    return {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Sid": "OnlyTls",
                "Effect": "Deny",
                "Principal": "*",
                "Action": "s3:*",
                "Resource": [arn, f"{arn}/*"],
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            }
        ],
    }
