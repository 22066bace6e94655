//! EC2 in its query protocol: describing, starting, stopping, terminating, tagging.
//!
//! Not here: launching and launch templates (`launches`).

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, Protocol, RequestContext, ServiceHandler};
use jiff::Timestamp;
use lamplighter_cloud::launch_templates::IMAGE;
use lamplighter_cloud::launches::check_tags;
use lamplighter_cloud::machines::{MachineState, MachineView, StateChange};
use lamplighter_cloud::{Machine, World};
use serde_json::{Value, json};

use crate::input::{flag, integer, list, required, tags, text, texts};
use crate::shared::{Shared, fault, refuse};

pub(crate) struct Ec2 {
    pub(crate) shared: Arc<Shared>,
}

#[async_trait]
impl ServiceHandler for Ec2 {
    fn service_name(&self) -> &'static str {
        "ec2"
    }

    fn protocol(&self) -> Protocol {
        Protocol::Ec2Query
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        match operation {
            "DescribeInstances" => self.describe(&input, ctx),
            "DescribeInstanceAttribute" => self.describe_attribute(&input),
            "DescribeInstanceStatus" => self.describe_status(&input, ctx),
            "StartInstances" => self.change(&input, World::start_machines),
            "StopInstances" => self.change(&input, World::stop_machines),
            "TerminateInstances" => self.change(&input, World::terminate_machines),
            "RunInstances" => self.run(&input, ctx),
            "CreateLaunchTemplate" => self.create_template(&input, ctx),
            "CreateLaunchTemplateVersion" => self.create_template_version(&input, ctx),
            "DeleteLaunchTemplate" => self.delete_template(&input, ctx),
            "DescribeLaunchTemplates" => self.describe_templates(&input, ctx),
            "DescribeLaunchTemplateVersions" => self.describe_template_versions(&input, ctx),
            "DescribeSubnets" => self.describe_subnets(&input, ctx),
            "CreateTags" => self.create_tags(&input),
            "DescribeTags" => self.describe_tags(),
            "DescribeRegions" => Ok(json!({"regionInfo": {"item": [{
                "regionName": ctx.region,
                "regionEndpoint": format!("ec2.{}.amazonaws.com", ctx.region),
                "optInStatus": "opt-in-not-required",
            }]}})),
            _ => Err(fault(
                400,
                "InvalidAction",
                format!("The action {operation} is not valid for this web service."),
            )),
        }
    }
}

type Change = fn(
    &mut World,
    jiff::Timestamp,
    &[String],
    bool,
) -> Result<Vec<StateChange>, lamplighter_cloud::machines::MachineError>;

impl Ec2 {
    fn selected(&self, input: &Value) -> Result<Selection, AwsError> {
        let ids = texts(input, "InstanceId");
        let filters = filters_of(input)?;
        let limit = integer(input, "MaxResults")?;
        if !ids.is_empty() && limit.is_some() {
            return Err(fault(
                400,
                "InvalidParameterCombination",
                "The parameter instancesSet cannot be used with the parameter maxResults",
            ));
        }
        if limit.is_some_and(|limit| !(5..=1000).contains(&limit)) {
            return Err(fault(
                400,
                "InvalidParameterValue",
                "Value for parameter maxResults is invalid. Expecting a value from 5 to 1000.",
            ));
        }
        let found = self
            .shared
            .with(|world, now| {
                world.describe_machines(now, &ids, |machine, view| {
                    filters.iter().all(|filter| filter.keeps(machine, view))
                })
            })
            .map_err(|error| refuse(&error))?;
        let limit = usize::try_from(limit.unwrap_or(1000)).unwrap_or(1000);
        let after = input.get("NextToken").and_then(Value::as_str);
        let (page, token) = super::page(found, |(machine, _)| machine.id.as_str(), after, limit);
        Ok(Selection { page, token })
    }

    fn describe(&self, input: &Value, ctx: &RequestContext) -> Result<Value, AwsError> {
        let Selection { page, token } = self.selected(input)?;
        let reservations: Vec<Value> = page
            .iter()
            .map(|(machine, view)| {
                json!({
                    "reservationId": format!("r-{}", machine.id.trim_start_matches("i-")),
                    "ownerId": ctx.account_id,
                    "groupSet": {},
                    "instancesSet": {"item": [instance_json(machine, view, ctx)]},
                })
            })
            .collect();
        let mut answer = json!({"reservationSet": {"item": reservations}});
        if let Some(token) = token {
            answer["nextToken"] = token.into();
        }
        Ok(answer)
    }

    fn describe_status(&self, input: &Value, ctx: &RequestContext) -> Result<Value, AwsError> {
        let Selection { page, token } = self.selected(input)?;
        let every = flag(input, "IncludeAllInstances");
        let items: Vec<Value> = page
            .iter()
            .filter(|(_, view)| every || view.state.name() == "running")
            .map(|(machine, view)| {
                let running = view.state.name() == "running";
                let status = if running { "ok" } else { "not-applicable" };
                json!({
                    "instanceId": machine.id,
                    "availabilityZone": format!("{}{}", ctx.region, machine.zone),
                    "instanceState": {"code": view.state.code(), "name": view.state.name()},
                    "systemStatus": {"status": status},
                    "instanceStatus": {"status": status},
                })
            })
            .collect();
        let mut answer = json!({"instanceStatusSet": {"item": items}});
        if let Some(token) = token {
            answer["nextToken"] = token.into();
        }
        Ok(answer)
    }

    /// The attributes that protect a machine.
    fn describe_attribute(&self, input: &Value) -> Result<Value, AwsError> {
        let id = required(input, "InstanceId")?.to_owned();
        let attribute = required(input, "Attribute")?;
        let behaviour = self.shared.read(|world, _| {
            let found = world.machines.find(std::slice::from_ref(&id));
            found.map(|found| found[0].behaviour.clone()).map_err(|error| refuse(&error))
        })?;
        let value = match attribute {
            "disableApiStop" => behaviour.disable_api_stop,
            "disableApiTermination" => behaviour.disable_api_termination,
            _ => {
                let message = format!("The attribute {attribute} is not modelled here.");
                return Err(fault(400, "InvalidParameterValue", message));
            }
        };
        let mut answer = json!({"instanceId": id});
        answer[attribute] = json!({"value": value});
        Ok(answer)
    }

    fn change(&self, input: &Value, change: Change) -> Result<Value, AwsError> {
        let ids = texts(input, "InstanceId");
        if ids.is_empty() {
            return Err(fault(
                400,
                "MissingParameter",
                "The request must contain the parameter InstanceId",
            ));
        }
        let dry_run = flag(input, "DryRun");
        let changes = self
            .shared
            .with(|world, now| change(world, now, &ids, dry_run))
            .map_err(|error| refuse(&error))?;
        let items: Vec<Value> = changes
            .iter()
            .map(|change| {
                let state = |it: lamplighter_cloud::MachineState| {
                    json!({"code": it.code(), "name": it.name()})
                };
                json!({
                    "instanceId": change.id,
                    "currentState": state(change.current),
                    "previousState": state(change.previous),
                })
            })
            .collect();
        Ok(json!({"instancesSet": {"item": items}}))
    }

    fn create_tags(&self, input: &Value) -> Result<Value, AwsError> {
        let ids = texts(input, "ResourceId");
        let tags = tags(input, "Tag");
        check_tags(&tags).map_err(|error| refuse(&error))?;
        self.shared.with(|world, _| {
            world.machines.find(&ids).map_err(|error| refuse(&error))?;
            for id in &ids {
                if let Some(machine) = world.machines.get_mut(id) {
                    machine.tags.extend(tags.clone());
                }
            }
            Ok(json!({"return": true}))
        })
    }

    fn describe_tags(&self) -> Result<Value, AwsError> {
        let items: Vec<Value> = self.shared.read(|world, _| {
            let tags = world.machines.iter().flat_map(|machine| {
                machine.tags.iter().map(|(key, value)| {
                    json!({"resourceId": machine.id, "resourceType": "instance",
                           "key": key, "value": value})
                })
            });
            tags.collect()
        });
        Ok(json!({"tagSet": {"item": items}}))
    }
}

struct Selection {
    page: Vec<(Machine, MachineView)>,
    token: Option<String>,
}

pub(super) struct Filter {
    pub(super) name: String,
    pub(super) values: Vec<String>,
}

impl Filter {
    /// Whether one of its values is this one.
    pub(super) fn meets(&self, actual: &str) -> bool {
        self.values.iter().any(|wanted| glob(wanted, actual))
    }

    fn keeps(&self, machine: &Machine, view: &MachineView) -> bool {
        let any = |actual: &str| self.meets(actual);
        let launch = machine.launch.as_ref();
        if let Some(key) = self.name.strip_prefix("tag:") {
            return machine.tags.get(key).is_some_and(|value| any(value));
        }
        match self.name.as_str() {
            "instance-state-name" => any(view.state.name()),
            "instance-state-code" => any(&view.state.code().to_string()),
            "instance-id" => any(&machine.id),
            "instance-type" => any(&machine.instance_type),
            "private-ip-address" => any(&machine.private_ip),
            "ip-address" => view.public_ip.as_deref().is_some_and(any),
            "tag-key" => machine.tags.keys().any(|key| any(key)),
            "tag-value" => machine.tags.values().any(|value| any(value)),
            "iam-instance-profile.arn" => machine.profile_arn.as_deref().is_some_and(any),
            "client-token" => launch.and_then(|it| it.client_token.as_deref()).is_some_and(any),
            // EC2 knows no word for what is on demand.
            "instance-lifecycle" => launch.is_some_and(|it| it.spot) && any("spot"),
            "subnet-id" => any(subnet_of(machine)),
            "image-id" => any(image_of(machine)),
            _ => false,
        }
    }
}

/// The filters that the model understands; any other is refused, since one that is silently passed over
/// would show a caller machines that it did not ask for.
fn filters_of(input: &Value) -> Result<Vec<Filter>, AwsError> {
    const KNOWN: [&str; 13] = [
        "instance-state-name",
        "instance-state-code",
        "instance-id",
        "instance-type",
        "private-ip-address",
        "ip-address",
        "tag-key",
        "tag-value",
        "iam-instance-profile.arn",
        "client-token",
        "instance-lifecycle",
        "subnet-id",
        "image-id",
    ];
    filters_among(input, &KNOWN)
}

/// The filters of these names, and those on tags.
pub(super) fn filters_among(input: &Value, known: &[&str]) -> Result<Vec<Filter>, AwsError> {
    list(input, "Filter")
        .iter()
        .map(|filter| {
            let name = text(filter, "Name").to_owned();
            if !name.starts_with("tag:") && !known.contains(&name.as_str()) {
                let message = format!("The filter '{name}' is invalid");
                return Err(fault(400, "InvalidParameterValue", message));
            }
            Ok(Filter { name, values: texts(filter, "Value") })
        })
        .collect()
}

/// `*` is any text, `?` one character.
fn glob(wanted: &str, actual: &str) -> bool {
    let Some(first) = wanted.chars().next() else { return actual.is_empty() };
    let rest = &wanted[first.len_utf8()..];
    match first {
        '*' => {
            glob(rest, actual)
                || actual.char_indices().any(|(at, it)| glob(rest, &actual[at + it.len_utf8()..]))
        }
        _ => actual.chars().next().is_some_and(|it| {
            (first == '?' || first == it) && glob(rest, &actual[it.len_utf8()..])
        }),
    }
}

/// The subnet of what named none.
pub(crate) const SUBNET: &str = "subnet-00000000000000001";
pub(super) const VPC: &str = "vpc-00000000000000001";

fn subnet_of(machine: &Machine) -> &str {
    machine.launch.as_ref().and_then(|launch| launch.subnet.as_deref()).unwrap_or(SUBNET)
}

fn image_of(machine: &Machine) -> &str {
    machine.launch.as_ref().map_or(IMAGE, |launch| &launch.image_id)
}

/// Tags as EC2 lists them.
pub(super) fn tag_set(tags: &BTreeMap<String, String>) -> Value {
    let tags: Vec<Value> =
        tags.iter().map(|(key, value)| json!({"key": key, "value": value})).collect();
    json!({"item": tags})
}

/// A time as EC2 writes it.
pub(super) fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.000Z").to_string()
}

pub(super) fn instance_json(machine: &Machine, view: &MachineView, ctx: &RequestContext) -> Value {
    let mut instance = json!({
        "instanceId": machine.id,
        "imageId": image_of(machine),
        "instanceState": {"code": view.state.code(), "name": view.state.name()},
        "privateDnsName": format!("ip-{}.ec2.internal", machine.private_ip.replace('.', "-")),
        "dnsName": "",
        "reason": view.transition_reason,
        "amiLaunchIndex": 0,
        "productCodes": {},
        "instanceType": machine.instance_type,
        "launchTime": moment(view.launched),
        "placement": {
            "availabilityZone": format!("{}{}", ctx.region, machine.zone),
            "groupName": "",
            "tenancy": "default",
        },
        "monitoring": {"state": "disabled"},
        "subnetId": subnet_of(machine),
        "vpcId": VPC,
        "privateIpAddress": machine.private_ip,
        "sourceDestCheck": true,
        "groupSet": {},
        "architecture": "x86_64",
        "rootDeviceType": "ebs",
        "rootDeviceName": "/dev/xvda",
        "blockDeviceMapping": {},
        "virtualizationType": "hvm",
        "tagSet": tag_set(&machine.tags),
        "hypervisor": "xen",
        "networkInterfaceSet": {},
        "ebsOptimized": false,
    });
    if let Some(public) = &view.public_ip {
        instance["ipAddress"] = public.clone().into();
    }
    if let Some((code, message)) = &view.state_reason {
        instance["stateReason"] = json!({"code": code, "message": message});
    }
    if let Some(arn) = &machine.profile_arn {
        instance["iamInstanceProfile"] = json!({"arn": arn, "id": "AIPALAMPLIGHTERLOCAL"});
    }
    if let Some(launch) = &machine.launch {
        let groups = launch.security_groups.iter();
        let groups: Vec<Value> = groups.map(|id| json!({"groupId": id, "groupName": id})).collect();
        instance["groupSet"] = json!({"item": groups});
        if let Some(token) = &launch.client_token {
            instance["clientToken"] = token.clone().into();
        }
        if launch.spot {
            instance["instanceLifecycle"] = "spot".into();
            let request = machine.id.trim_start_matches("i-0");
            instance["spotInstanceRequestId"] =
                format!("sir-{}", &request[..8.min(request.len())]).into();
        }
    }
    // What has ended has no place in a network any more.
    if view.state == MachineState::Terminated
        && let Some(fields) = instance.as_object_mut()
    {
        for name in ["subnetId", "vpcId", "privateIpAddress", "iamInstanceProfile"] {
            fields.remove(name);
        }
        fields.insert("privateDnsName".to_owned(), "".into());
        fields.insert("groupSet".to_owned(), json!({}));
    }
    instance
}

#[cfg(test)]
mod tests {
    use super::glob;

    #[test]
    fn filters_know_wildcards() {
        assert!(glob("web-*", "web-1"));
        assert!(glob("w?b", "web"));
        assert!(glob("*", ""));
        assert!(!glob("web", "web-1"));
    }
}
