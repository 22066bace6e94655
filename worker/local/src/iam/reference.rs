//! AWS's Service Authorization Reference, of the actions that the policies of `infra/` name.
//!
//! Which resources a call names is said by the code beside this; whether IAM knows them, and which condition
//! keys it has a value for, is said by AWS. A check that differs is corrected to what IAM would ask: an action
//! without resource types is asked for `*`, and a condition key that IAM does not supply has no value, so a
//! policy that relies on either allows nothing.
//!
//! `actions.json` is made by `tests/infra/service_authorization.py`. An action that is not there is asked for as
//! the code names it: no policy of ours can allow it, and a policy of somebody's with `*` still does.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use awsim_core::IamCheck;
use serde::Deserialize;

/// Keys that IAM supplies for some calls alone, although they begin as its global keys do.
const TAG_KEYS: [&str; 3] = ["aws:RequestTag/", "aws:ResourceTag/", "aws:TagKeys"];
/// The reference's word for the part of a condition key that the policy chooses.
const CHOSEN: &str = "${TagKey}";

static REFERENCE: LazyLock<BTreeMap<String, Action>> = LazyLock::new(|| {
    let file: File =
        serde_json::from_str(include_str!("actions.json")).expect("actions.json is well-formed");
    file.actions
});

#[derive(Deserialize)]
struct File {
    actions: BTreeMap<String, Action>,
}

#[derive(Debug, Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Action {
    resources: BTreeMap<String, ResourceType>,
    keys: Vec<String>,
}

#[derive(Debug, Deserialize)]
struct ResourceType {
    arn: String,
    keys: Vec<String>,
}

/// The check as IAM would make it.
pub(super) fn corrected(mut check: IamCheck) -> IamCheck {
    let Some(action) = REFERENCE.get(&check.action) else { return check };
    if action.resources.is_empty() {
        "*".clone_into(&mut check.resource);
    }
    let of_resource = action
        .resources
        .values()
        .filter(|it| fits(&it.arn, &check.resource))
        .flat_map(|it| it.keys.iter());
    let known: Vec<&String> = action.keys.iter().chain(of_resource).collect();
    check.context.retain(|key, _| {
        let is_global = key.starts_with("aws:") && !TAG_KEYS.iter().any(|it| key.starts_with(it));
        is_global || known.iter().any(|it| is_key(it, key))
    });
    check
}

/// Whether a condition key is one of the reference's; IAM compares keys without regard to case.
fn is_key(of_reference: &str, key: &str) -> bool {
    let (reference, key) = (of_reference.to_ascii_lowercase(), key.to_ascii_lowercase());
    match reference.strip_suffix(&CHOSEN.to_ascii_lowercase()) {
        Some(prefix) => key.starts_with(prefix),
        None => reference == key,
    }
}

/// Whether an ARN is of a resource type, whose pattern has `*` for each part that varies.
fn fits(pattern: &str, arn: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == arn,
        Some((before, after)) => arn.strip_prefix(before).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| fits(after, &rest[at..]))
        }),
    }
}

#[cfg(test)]
mod tests {
    use awsim_iam_policy::ContextValue;

    use super::*;

    fn asked(action: &str, resource: &str, keys: &[&str]) -> (String, Vec<String>) {
        let mut check = IamCheck::new(action, resource);
        for key in keys {
            check.context.insert((*key).to_owned(), ContextValue::String("x".to_owned()));
        }
        let found = corrected(check);
        let mut keys: Vec<String> = found.context.into_keys().collect();
        keys.sort();
        (found.resource, keys)
    }

    #[track_caller]
    fn check(action: &str, resource: &str, keys: &[&str], expected: (&str, &[&str])) {
        let (resource, kept) = asked(action, resource, keys);
        assert_eq!(
            (resource.as_str(), kept),
            (expected.0, expected.1.iter().map(|it| (*it).to_owned()).collect())
        );
    }

    #[test]
    fn an_action_without_resource_types_is_asked_for_everything() {
        let group = "arn:aws:logs:us-east-1:000000000000:log-group:/pyelli";
        check("logs:DescribeLogGroups", group, &[], ("*", &[]));
        check("logs:DescribeLogStreams", group, &[], (group, &[]));
    }

    #[test]
    fn a_condition_key_that_aws_does_not_supply_has_no_value() {
        let service = "arn:aws:ecs:us-east-1:000000000000:service/prod/server";
        let keys = ["aws:ResourceTag/a", "ecs:ResourceTag/a", "ecs:cluster", "aws:RequestedRegion"];
        let kept = ["aws:RequestedRegion", "aws:ResourceTag/a", "ecs:cluster"];
        check("ecs:UpdateService", service, &keys, (service, &kept));
        // What one resource of a call has, another need not have.
        let (image, volume) =
            ("arn:aws:ec2:us-east-1::image/ami-1", "arn:aws:ec2:us-east-1:000000000000:volume/*");
        let keys = ["aws:RequestTag/a", "ec2:IsLaunchTemplateResource", "ec2:ResourceTag/a"];
        let kept = ["ec2:IsLaunchTemplateResource", "ec2:ResourceTag/a"];
        check("ec2:RunInstances", image, &keys, (image, &kept));
        let kept = ["aws:RequestTag/a", "ec2:IsLaunchTemplateResource"];
        check("ec2:RunInstances", volume, &keys, (volume, &kept));
    }

    #[test]
    fn what_no_policy_of_ours_names_is_asked_for_as_it_is() {
        check("sqs:PurgeQueue", "arn:x", &["sqs:key"], ("arn:x", &["sqs:key"]));
    }
}
