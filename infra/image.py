"""The worker's image: built from infra/Containerfile for ARM64 and pushed to the account's registry.

Theory. The tag is the commit, so that what is there already is not built again, and what is deployed can be
told. What is not committed has no name that would last, so it is not deployed by accident.

Not here: an engine. docker or podman builds it; on another processor than ARM64 it needs QEMU's emulation.
"""

import base64
import json
import shutil
import subprocess
from pathlib import Path

from botocore.exceptions import ClientError

ROOT = Path(__file__).resolve().parent.parent


# What is deployed is the newest, and what a stack rolls back to the one before.
IMAGES_KEPT = 10


class ImageError(Exception):
    """No image, and why."""


def _run(arguments, **more):
    try:
        return subprocess.run(arguments, check=True, cwd=ROOT, text=True, **more)
    except subprocess.CalledProcessError as error:
        raise ImageError(f"`{' '.join(arguments[:3])} …` ended with {error.returncode}") from error
    except FileNotFoundError as error:
        raise ImageError(f"{arguments[0]} is not installed") from error


def commit():
    """The tag; refused where the tree has changes that no commit names."""
    changed = _run(["git", "status", "--porcelain"], capture_output=True).stdout.strip()
    if changed:
        raise ImageError(
            "there are changes that are not committed, and an image is named by its commit; commit them, or "
            "name an image with --worker-image"
        )
    return _run(["git", "rev-parse", "--short=12", "HEAD"], capture_output=True).stdout.strip()


def engine():
    for name in ("docker", "podman"):
        if shutil.which(name):
            return name
    raise ImageError(
        "neither docker nor podman is installed; build infra/Containerfile elsewhere and name the image with "
        "--worker-image, or let the worker run on EC2 (--worker-host ec2)"
    )


def _repository(ecr, name):
    """Its address; made where it is missing. Each deploy leaves an image, so the oldest go."""
    uri = _found(ecr, name) or _made(ecr, name)
    ecr.put_lifecycle_policy(repositoryName=name, lifecyclePolicyText=json.dumps(lifecycle()))
    return uri


def lifecycle():
    """The repository's policy: the newest stay."""
    selection = {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": IMAGES_KEPT}
    rule = {"rulePriority": 1, "description": "The newest stay", "selection": selection, "action": {"type": "expire"}}
    return {"rules": [rule]}


def _found(ecr, name):
    try:
        return ecr.describe_repositories(repositoryNames=[name])["repositories"][0]["repositoryUri"]
    except ClientError as error:
        if error.response["Error"]["Code"] != "RepositoryNotFoundException":
            raise
    return None


def _made(ecr, name):
    made = ecr.create_repository(
        repositoryName=name,
        imageTagMutability="IMMUTABLE",
        imageScanningConfiguration={"scanOnPush": True},
    )
    return made["repository"]["repositoryUri"]


def _there(ecr, name, tag):
    try:
        return bool(ecr.describe_images(repositoryName=name, imageIds=[{"imageTag": tag}])["imageDetails"])
    except ClientError as error:
        if error.response["Error"]["Code"] == "ImageNotFoundException":
            return False
        raise


def pushed(ecr, name, say):
    """The address of the image of this commit, which is built and pushed where it is missing."""
    tag = commit()
    uri = _repository(ecr, name)
    address = f"{uri}:{tag}"
    if _there(ecr, name, tag):
        say(f"the image {address} is there")
        return address
    with_engine = engine()
    say(f"building {address} with {with_engine}")
    _run([with_engine, "build", "--platform", "linux/arm64", "-f", "infra/Containerfile", "-t", address, "."])
    token = ecr.get_authorization_token()["authorizationData"][0]["authorizationToken"]
    user, password = base64.b64decode(token).decode().split(":", 1)
    _run([with_engine, "login", "-u", user, "--password-stdin", uri.split("/", 1)[0]], input=password)
    _run([with_engine, "push", address])
    return address


def forget(ecr, name):
    """Deletes the repository with its images; True where there was one."""
    try:
        ecr.delete_repository(repositoryName=name, force=True)
    except ClientError as error:
        if error.response["Error"]["Code"] == "RepositoryNotFoundException":
            return False
        raise
    return True
