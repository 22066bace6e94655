//! Is the instance there, and may we start and stop it?
//!
//! Rights are asked with `DryRun`, which EC2 answers without doing anything.

use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::InstanceAttributeName;
use lamplighter_events::InstanceId;
use lamplighter_lifecycle::{InstanceRef, InstanceSpec, Observed, PowerState, Resource, Seen};

use crate::batch::Batcher;
use crate::check::finding::{Finding, SeenBy, error, ok, refused, warn};
use crate::check::host::check_host;
use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error};
use crate::ec2::{Describe, seen};
use crate::secrets::Secrets;

const ATTRIBUTE: &str = "ec2:DescribeInstanceAttribute";

pub(crate) async fn check_instance(aws: &Aws, spec: &InstanceSpec) -> (Vec<Finding>, SeenBy) {
    let mut findings = Vec::new();
    let secrets = Secrets::new(aws.secrets.clone());
    let instance = match secrets.resolve(&spec.instance).await {
        Ok(instance) => instance,
        Err(refusal) => {
            findings.push(error(
                refusal.to_string(),
                "the secret must be a JSON object with that key, and readable for the worker",
            ));
            return (findings, None);
        }
    };
    if let InstanceRef::Secret { secret, key } = &spec.instance {
        findings.push(ok(format!("secret {secret} has {key:?}: {instance}")));
    }
    let describe = Describe::new(aws.ec2.clone(), aws.clock());
    let described = Batcher::new(describe).call(instance.clone()).await;
    let described = match described {
        Ok(described) => described,
        Err(refusal) => {
            findings.push(refused(&format!("instance {instance}"), &refusal));
            return (findings, None);
        }
    };
    let Some(machine) = described.instance else {
        let hint = "check the id, the account and the region";
        findings.push(error(format!("EC2 does not know {instance} in {}", aws.region), hint));
        return (findings, None);
    };
    let observed = Observed::of(described.at, Seen::Instance(seen(Some(&machine))));
    let state = observed.state();
    findings.push(match state {
        PowerState::Terminated | PowerState::ShuttingDown => {
            error(format!("{instance} is {}", state.as_str()), "name another instance")
        }
        _ => ok(format!("{instance} is {}", state.as_str())),
    });
    findings.push(rights(aws, &instance, true).await);
    findings.push(rights(aws, &instance, false).await);
    findings.extend(protection(aws, &instance, InstanceAttributeName::DisableApiStop).await);
    if let Some(unit) = &spec.systemd_unit {
        findings.extend(check_host(aws, &instance, &machine, state, unit).await);
    }
    (findings, Some((Resource::Instance(instance), observed)))
}

/// A machine that is protected by this attribute is never stopped, or never terminated: a dry run does not tell.
pub(crate) async fn protection(
    aws: &Aws,
    instance: &InstanceId,
    attribute: InstanceAttributeName,
) -> Option<Finding> {
    let stop = attribute == InstanceAttributeName::DisableApiStop;
    let call = aws.ec2.describe_instance_attribute().instance_id(instance.as_str());
    let value = match call.attribute(attribute).send().await {
        Ok(answer) if stop => answer.disable_api_stop().and_then(|it| it.value()),
        Ok(answer) => answer.disable_api_termination().and_then(|it| it.value()),
        Err(refusal) => {
            let refusal = call_error(ATTRIBUTE, &refusal);
            let what = format!("whether {instance} is protected could not be asked: {refusal}");
            return Some(warn(what, "allow ec2:DescribeInstanceAttribute to whoever checks"));
        }
    };
    (value == Some(true)).then(|| match stop {
        true => warn(
            format!("{instance} has stop protection (DisableApiStop): it can be started and never stopped"),
            "end it: `aws ec2 modify-instance-attribute --instance-id ID --no-disable-api-stop`",
        ),
        false => warn(
            format!("{instance} has termination protection (DisableApiTermination): it cannot be ended"),
            "end it: `aws ec2 modify-instance-attribute --instance-id ID --no-disable-api-termination`",
        ),
    })
}

/// Asks EC2 whether we might start or stop a machine.
async fn rights(aws: &Aws, instance: &InstanceId, up: bool) -> Finding {
    let (operation, answer) = if up {
        let call = aws.ec2.start_instances().instance_ids(instance.as_str()).dry_run(true);
        let answer = call.send().await;
        let operation = "ec2:StartInstances";
        (operation, answer.map(drop).map_err(|e| (code(e.code()), call_error(operation, &e))))
    } else {
        let call = aws.ec2.stop_instances().instance_ids(instance.as_str()).dry_run(true);
        let answer = call.send().await;
        let operation = "ec2:StopInstances";
        (operation, answer.map(drop).map_err(|e| (code(e.code()), call_error(operation, &e))))
    };
    match answer {
        // A dry run that is allowed is an error, of this name.
        Err((ErrorCode::DryRun, _)) => ok(format!("may call {operation}")),
        Ok(()) => warn(
            format!("{operation}: this endpoint does not answer a dry run as EC2 does"),
            "the right could not be checked",
        ),
        Err((ErrorCode::Denied, refusal)) => error(
            refusal.to_string(),
            &format!("allow {operation} on {instance} for the worker's role"),
        ),
        Err((_, refusal)) => refused(operation, &refusal),
    }
}

fn code(code: Option<&str>) -> ErrorCode {
    ErrorCode::parse(code, 400)
}
