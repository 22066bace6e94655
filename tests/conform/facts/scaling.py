"""Application Auto Scaling: the bounds of an ECS service's count."""

import kit

from facts import ecs

fact = kit.facts_of("application-autoscaling")
API = "https://docs.aws.amazon.com/autoscaling/application/APIReference/"
REGISTER = API + "API_RegisterScalableTarget.html"


def target(it):
    """A service of its own, so that the counts that `ecs` sets are its own."""

    def make():
        if it.given.service:
            return "/".join(ecs.service(it))
        cluster, name = ecs.service(it)
        return f"{cluster}/{name}"

    resource = f"service/{it.shared('a service to scale', make)}"
    return {
        "ServiceNamespace": "ecs", "ResourceId": resource, "ScalableDimension": "ecs:service:DesiredCount",
    }  # fmt: skip


def register(it, **bounds):
    with_undo = lambda: it.later("a scalable target", it.scaling.deregister_scalable_target, **target(it))
    it.shared("the clean-up of a scalable target", with_undo)
    it.scaling.register_scalable_target(**target(it), **bounds)


def bounds(it):
    names = target(it)
    answer = it.scaling.describe_scalable_targets(
        ServiceNamespace="ecs", ScalableDimension=names["ScalableDimension"], ResourceIds=[names["ResourceId"]]
    )
    return [(it["MinCapacity"], it["MaxCapacity"]) for it in answer["ScalableTargets"]]


@fact("A resource that is not registered is an empty answer", API + "API_DescribeScalableTargets.html")
def a_missing_target_is_an_empty_answer(it):
    answer = it.scaling.describe_scalable_targets(
        ServiceNamespace="ecs", ScalableDimension="ecs:service:DesiredCount", ResourceIds=["service/no/service"]
    )
    it.same("targets", answer["ScalableTargets"], [])


@fact("A target may be registered with a minimum and a maximum of 0", REGISTER)
def both_bounds_may_be_0(it):
    register(it, MinCapacity=0, MaxCapacity=0)
    it.eventually("the bounds are shown", lambda: bounds(it) == [(0, 0)])


@fact("Registering again updates the bounds that are given and leaves the other", REGISTER)
def registering_again_updates(it):
    register(it, MinCapacity=0, MaxCapacity=2)
    it.eventually("both are shown", lambda: bounds(it) == [(0, 2)])
    register(it, MaxCapacity=3)
    it.eventually("only the maximum changed", lambda: bounds(it) == [(0, 3)])


@fact("A minimum above the maximum is refused", REGISTER)
def a_minimum_above_the_maximum_is_refused(it):
    register_it = it.scaling.register_scalable_target
    it.refused("ValidationException", register_it, **target(it), MinCapacity=4, MaxCapacity=1)


@fact("DescribeScalableTargets takes at most 50 ids", API + "API_DescribeScalableTargets.html")
def fifty_ids_are_described(it):
    ids = [f"service/no/service-{n}" for n in range(51)]
    it.refused(
        "ValidationException", it.scaling.describe_scalable_targets, ServiceNamespace="ecs",
        ScalableDimension="ecs:service:DesiredCount", ResourceIds=ids,
    )  # fmt: skip
