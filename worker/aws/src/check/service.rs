//! `check --aws` for ECS services: do cluster and service exist, and what minds their count?
//!
//! *Theory.* ECS has no dry run: whether UpdateService is allowed cannot be asked without changing
//! something. What can be seen is the tag by which the shipped policy allows it.
//!
//! *Invariant.* Nothing is changed.

use lamplighter_lifecycle::{
    Bounds, MANAGED_TAG, Observed, Resource, Seen, ServiceSeen, ServiceSpec,
};
use lamplighter_runtime::ports::CallError;

use crate::batch::Batcher;
use crate::check::finding::{Finding, SeenBy, error, ok, refused, warn};
use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error};
use crate::ecs::seen;
use crate::scaling::ScalableTargets;

/// By this tag `infra/worker-policy.json` allows a change.
const TAG: (&str, &str) = (MANAGED_TAG, "true");
const DESCRIBE: &str = "ecs:DescribeServices";

pub(crate) async fn check_service(aws: &Aws, spec: &ServiceSpec) -> (Vec<Finding>, SeenBy) {
    use aws_sdk_ecs::error::ProvideErrorMetadata;
    let id = &spec.service;
    let at = aws.clock().now();
    let answer = aws
        .ecs
        .describe_services()
        .cluster(id.cluster())
        .services(id.service())
        .include(aws_sdk_ecs::types::ServiceField::Tags)
        .send()
        .await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(refusal) => {
            let code = ErrorCode::parse(refusal.code(), 400);
            let refusal = call_error(DESCRIBE, &refusal);
            let finding = match code {
                ErrorCode::NoSuchService => error(
                    format!("ECS does not know the cluster {} in {}", id.cluster(), aws.region),
                    "check cluster, account and region",
                ),
                _ => refused(&format!("service {id}"), &refusal),
            };
            return (vec![finding], None);
        }
    };
    let Some(service) = answer.services().first() else {
        let what = format!("ECS does not know {} in the cluster {}", id.service(), id.cluster());
        return (vec![error(what, "check service, cluster, account and region")], None);
    };
    let seen = seen(service);
    let mut findings = vec![state(&id.to_string(), service.status().unwrap_or("?"), &seen)];
    let tagged =
        service.tags().iter().any(|tag| (tag.key(), tag.value()) == (Some(TAG.0), Some(TAG.1)));
    findings.push(match tagged {
        true => ok(format!("{id} has the tag {} = {}", TAG.0, TAG.1)),
        false => warn(
            format!("{id} lacks the tag {} = {}", TAG.0, TAG.1),
            "tag it, or allow ecs:UpdateService on its ARN: infra/'s policy goes by the tag",
        ),
    });
    if let Some(reason) = &seen.rollout_failed {
        findings.push(warn(format!("its deployment failed: {reason}"), "deploy it anew"));
    }
    if seen.active {
        let targets = Batcher::new(ScalableTargets { client: aws.scaling.clone() });
        findings.push(bounds(spec, targets.call(id.clone()).await));
    }
    let observed = Observed::of(at, Seen::Service(seen));
    (findings, Some((Resource::Service(id.clone()), observed)))
}

fn state(id: &str, status: &str, seen: &ServiceSeen) -> Finding {
    let ServiceSeen { desired, running, pending, .. } = seen;
    match seen.active {
        true => {
            ok(format!("{id} is {status}: {desired} desired, {running} running, {pending} pending"))
        }
        false => error(format!("{id} is {status}, not ACTIVE"), "name another service"),
    }
}

fn bounds(spec: &ServiceSpec, found: Result<Option<Bounds>, CallError>) -> Finding {
    match found {
        Ok(None) => ok("Application Auto Scaling does not mind it"),
        Ok(Some(Bounds { min, max })) if max > 0 && !(min..=max).contains(&spec.desired) => warn(
            format!(
                "desired = {} is outside the bounds of Application Auto Scaling, {min} to {max}",
                spec.desired
            ),
            "it will be put back inside them: change one of the two",
        ),
        Ok(Some(Bounds { min, max })) => {
            ok(format!("Application Auto Scaling keeps it from {min} to {max}, saved before off"))
        }
        Err(refusal) => refused("its bounds", &refusal),
    }
}

#[cfg(test)]
mod tests {
    use lamplighter_lifecycle::ServiceId;

    use super::*;
    use crate::check::finding::Level;

    #[test]
    fn a_count_outside_its_bounds_is_worth_a_warning() {
        let service = ServiceId::parse("c", "s").unwrap();
        let spec = ServiceSpec { service, desired: 1, healthy: false, also: Vec::new() };
        let check = |bounds: Option<(i64, i64)>, level: Level| {
            let found = bounds.map(|(min, max)| Bounds { min, max });
            assert_eq!(super::bounds(&spec, Ok(found)).level, level, "{bounds:?}");
        };
        check(None, Level::Ok);
        check(Some((1, 4)), Level::Ok);
        check(Some((0, 0)), Level::Ok); // what off leaves
        check(Some((2, 4)), Level::Warn);
    }
}
