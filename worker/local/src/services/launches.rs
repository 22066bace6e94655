//! EC2's launching half: `RunInstances` from a launch template, the templates, and the subnets.
//!
//! What of a request the model has no use for is refused by name, since a launch that silently left
//! something out would be another one than was asked for. A template may say more than the model reads:
//! it is somebody else's, and launches all the same.
//!
//! Not here: launches without a template, deleting templates, images and security groups.

use std::collections::BTreeMap;

use awsim_core::{AwsError, RequestContext};
use lamplighter_cloud::launch_templates::{
    LaunchTemplate, NewVersion, Profile, TemplateData, TemplateVersion,
};
use lamplighter_cloud::{Behaviour, LaunchSpec, TemplateRef};
use serde_json::{Value, json};

use super::ec2::{Ec2, SUBNET, VPC, filters_among, instance_json, moment, tag_set};
use crate::input::{flag, integer, list, maybe_text, required, tags, text, texts};
use crate::shared::{fault, refuse};

/// What of RunInstances is read.
const RUN: [&str; 9] = [
    "LaunchTemplate",
    "ClientToken",
    "MinCount",
    "MaxCount",
    "SubnetId",
    "InstanceType",
    "InstanceMarketOptions",
    "TagSpecification",
    "DryRun",
];
/// What RunInstances can tag.
const TAGGED: [&str; 4] = ["instance", "volume", "network-interface", "spot-instances-request"];

impl Ec2 {
    pub(super) fn run(&self, input: &Value, ctx: &RequestContext) -> Result<Value, AwsError> {
        let fields = input.as_object().into_iter().flatten();
        for (name, _) in fields {
            if !RUN.contains(&name.as_str()) {
                let message = format!("The parameter {name} is not modelled here.");
                return Err(fault(400, "UnsupportedOperation", message));
            }
        }
        let spec = launch_spec(input)?;
        let machine = self
            .shared
            .with(|world, now| world.run_machines(now, &spec))
            .map_err(|error| refuse(&error))?
            .machine;
        Ok(json!({
            "reservationId": format!("r-{}", machine.id.trim_start_matches("i-")),
            "ownerId": ctx.account_id,
            "groupSet": {},
            "instancesSet": {"item": [instance_json(&machine, &machine.view, ctx)]},
        }))
    }

    pub(super) fn create_template(
        &self,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let name = required(input, "LaunchTemplateName")?;
        let version = new_version(input)?;
        let tags = tags_for(input, "launch-template");
        if flag(input, "DryRun") {
            return Err(would_have());
        }
        let template = self
            .shared
            .with(|world, now| world.create_launch_template(now, name, version, tags))
            .map_err(|error| refuse(&error))?;
        Ok(json!({"launchTemplate": template_json(&template, ctx)}))
    }

    pub(super) fn create_template_version(
        &self,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let which = template_of(input)?;
        let version = new_version(input)?;
        if flag(input, "DryRun") {
            return Err(would_have());
        }
        let (template, number) = self
            .shared
            .with(|world, now| world.create_launch_template_version(now, &which, version))
            .map_err(|error| refuse(&error))?;
        let made = template.version(&number.to_string()).map_err(|error| refuse(&error))?;
        Ok(json!({"launchTemplateVersion": version_json(&template, made, ctx)}))
    }

    pub(super) fn delete_template(
        &self,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let which = template_of(input)?;
        if flag(input, "DryRun") {
            return Err(would_have());
        }
        let template = self
            .shared
            .with(|world, _| world.launch_templates.remove(&which))
            .map_err(|error| refuse(&error))?;
        Ok(json!({"launchTemplate": template_json(&template, ctx)}))
    }

    pub(super) fn describe_templates(
        &self,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let ids = texts(input, "LaunchTemplateId").into_iter().map(TemplateRef::Id);
        let names = texts(input, "LaunchTemplateName").into_iter().map(TemplateRef::Name);
        let named: Vec<TemplateRef> = ids.chain(names).collect();
        let filters = filters_among(input, &["launch-template-name"])?;
        let found: Vec<LaunchTemplate> = self
            .shared
            .with(|world, _| {
                if named.is_empty() {
                    return Ok(world.launch_templates.iter().cloned().collect());
                }
                named.iter().map(|it| world.launch_templates.get(it).cloned()).collect()
            })
            .map_err(|error: lamplighter_cloud::machines::MachineError| refuse(&error))?;
        let kept = found.into_iter().filter(|template| {
            filters.iter().all(|filter| match filter.name.strip_prefix("tag:") {
                Some(key) => template.tags.get(key).is_some_and(|value| filter.meets(value)),
                None => filter.meets(&template.name),
            })
        });
        let limit = integer(input, "MaxResults")?.unwrap_or(200);
        let limit = usize::try_from(limit).unwrap_or(200).clamp(1, 200);
        let after = input.get("NextToken").and_then(Value::as_str);
        let (page, token) = super::page(kept.collect(), |it| it.id.as_str(), after, limit);
        let items: Vec<Value> = page.iter().map(|it| template_json(it, ctx)).collect();
        let mut answer = json!({"launchTemplates": {"item": items}});
        if let Some(token) = token {
            answer["nextToken"] = token.into();
        }
        Ok(answer)
    }

    pub(super) fn describe_template_versions(
        &self,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let which = template_of(input)?;
        let wanted = texts(input, "LaunchTemplateVersion");
        let template = self
            .shared
            .with(|world, _| world.launch_templates.get(&which).cloned())
            .map_err(|error| refuse(&error))?;
        let wanted = if wanted.is_empty() {
            // The newest first, as EC2 lists them.
            template.versions.keys().rev().map(ToString::to_string).collect()
        } else {
            wanted
        };
        let items: Result<Vec<Value>, AwsError> = wanted
            .iter()
            .map(|version| {
                let found = template.version(version).map_err(|error| refuse(&error))?;
                Ok(version_json(&template, found, ctx))
            })
            .collect();
        Ok(json!({"launchTemplateVersionSet": {"item": items?}}))
    }

    pub(super) fn describe_subnets(
        &self,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        let (known, zones): (Vec<String>, BTreeMap<String, String>) =
            self.shared.with(|world, _| {
                (world.launches.subnets.iter().cloned().collect(), world.launches.zones.clone())
            });
        let known = if known.is_empty() { vec![SUBNET.to_owned()] } else { known };
        let wanted = texts(input, "SubnetId");
        if let Some(missing) = wanted.iter().find(|id| !known.contains(id)) {
            let message = format!("The subnet ID '{missing}' does not exist");
            return Err(fault(400, "InvalidSubnetID.NotFound", message));
        }
        let filters = filters_among(input, &["subnet-id", "vpc-id"])?;
        let items: Vec<Value> = known
            .iter()
            .filter(|id| wanted.is_empty() || wanted.contains(id))
            .filter(|id| {
                filters.iter().all(|filter| match filter.name.as_str() {
                    "subnet-id" => filter.meets(id),
                    "vpc-id" => filter.meets(VPC),
                    _ => false,
                })
            })
            .enumerate()
            .map(|(index, id)| {
                json!({
                    "subnetId": id,
                    "subnetArn": format!("arn:aws:ec2:{}:{}:subnet/{id}", ctx.region, ctx.account_id),
                    "state": "available",
                    "vpcId": VPC,
                    "ownerId": ctx.account_id,
                    "cidrBlock": format!("10.0.{}.0/24", (index + 1) % 256),
                    "availableIpAddressCount": 251,
                    "availabilityZone":
                        format!("{}{}", ctx.region, zones.get(id).map_or("a", String::as_str)),
                    "defaultForAz": false,
                    "mapPublicIpOnLaunch": true,
                    "tagSet": {},
                })
            })
            .collect();
        Ok(json!({"subnetSet": {"item": items}}))
    }
}

fn would_have() -> AwsError {
    refuse(&lamplighter_cloud::machines::MachineError::DryRun)
}

fn invalid(message: impl Into<String>) -> AwsError {
    fault(400, "InvalidParameterValue", message)
}

/// The template that `LaunchTemplateId` or `LaunchTemplateName` names.
fn template_of(input: &Value) -> Result<TemplateRef, AwsError> {
    match (maybe_text(input, "LaunchTemplateId"), maybe_text(input, "LaunchTemplateName")) {
        (Some(id), None) => Ok(TemplateRef::Id(id)),
        (None, Some(name)) => Ok(TemplateRef::Name(name)),
        (None, None) => Err(fault(
            400,
            "MissingParameter",
            "Either a launch template ID or a launch template name must be specified.",
        )),
        (Some(_), Some(_)) => Err(fault(
            400,
            "InvalidParameterCombination",
            "You must specify either the launch template ID or the launch template name, but not both.",
        )),
    }
}

fn count(input: &Value, name: &str) -> Result<u32, AwsError> {
    let Some(number) = integer(input, name)? else {
        let message = format!("The request must contain the parameter {name}");
        return Err(fault(400, "MissingParameter", message));
    };
    u32::try_from(number).map_err(|_| invalid(format!("Invalid value '{number}' for {name}.")))
}

/// What a launch asks for.
pub(crate) fn launch_spec(input: &Value) -> Result<LaunchSpec, AwsError> {
    let Some(template) = input.get("LaunchTemplate") else {
        let message = "The request must contain the parameter LaunchTemplate (launches without one are not modelled here).";
        return Err(fault(400, "MissingParameter", message));
    };
    for specification in list(input, "TagSpecification") {
        let kind = text(specification, "ResourceType");
        if !TAGGED.contains(&kind) {
            return Err(invalid(format!(
                "'{kind}' is not a valid taggable resource type for this operation."
            )));
        }
    }
    Ok(LaunchSpec {
        template: template_of(template)?,
        version: text(template, "Version").to_owned(),
        client_token: maybe_text(input, "ClientToken").filter(|token| !token.is_empty()),
        min_count: count(input, "MinCount")?,
        max_count: count(input, "MaxCount")?,
        subnet: maybe_text(input, "SubnetId"),
        instance_type: maybe_text(input, "InstanceType"),
        spot: is_spot(input)?,
        tags: tags_for(input, "instance"),
        volume_tags: tags_for(input, "volume"),
        dry_run: flag(input, "DryRun"),
    })
}

/// Whether a spot instance is asked for, once.
fn is_spot(input: &Value) -> Result<bool, AwsError> {
    let Some(market) = input.get("InstanceMarketOptions") else { return Ok(false) };
    let kind = text(market, "MarketType");
    if kind != "spot" {
        return Err(invalid(format!("Invalid value '{kind}' for MarketType: expected spot.")));
    }
    let options = &market["SpotOptions"];
    for (name, only) in
        [("SpotInstanceType", "one-time"), ("InstanceInterruptionBehavior", "terminate")]
    {
        let given = maybe_text(options, name).unwrap_or_else(|| only.to_owned());
        if given != only {
            return Err(invalid(format!("{name} '{given}' is not modelled here: only {only} is.")));
        }
    }
    Ok(true)
}

/// The tags that a request gives to what it makes of this kind.
pub(crate) fn tags_for(input: &Value, kind: &str) -> BTreeMap<String, String> {
    list(input, "TagSpecification")
        .iter()
        .filter(|it| text(it, "ResourceType") == kind)
        .flat_map(|it| tags(it, "Tag"))
        .collect()
}

fn new_version(input: &Value) -> Result<NewVersion, AwsError> {
    let Some(given) = input.get("LaunchTemplateData") else {
        let message = "The request must contain the parameter LaunchTemplateData";
        return Err(fault(400, "MissingParameter", message));
    };
    let plain = TemplateData::default();
    let interface = list(given, "NetworkInterface").first();
    let of_interface = |name: &str| interface.and_then(|it| maybe_text(it, name));
    let volume = list(given, "BlockDeviceMapping").first().map(|it| &it["Ebs"]);
    let volume_gib = volume.map(|it| integer(it, "VolumeSize")).transpose()?.flatten();
    let profile = given
        .get("IamInstanceProfile")
        .and_then(|it| maybe_text(it, "Arn").or_else(|| maybe_text(it, "Name")));
    let data = TemplateData {
        image_id: maybe_text(given, "ImageId").unwrap_or(plain.image_id),
        snapshot: volume.and_then(|it| maybe_text(it, "SnapshotId")),
        instance_type: maybe_text(given, "InstanceType").unwrap_or(plain.instance_type),
        subnet: of_interface("SubnetId"),
        security_groups: match interface {
            Some(interface) => texts(interface, "SecurityGroupId"),
            None => texts(given, "SecurityGroupId"),
        },
        profile: profile.map_or(Profile::Own(false), Profile::Named),
        volume_gib: match volume_gib {
            Some(gib) => u32::try_from(gib).map_err(|_| invalid("Invalid VolumeSize."))?,
            None => plain.volume_gib,
        },
        // Without an interface the subnet decides, and the subnets here give one.
        public_ip: of_interface("AssociatePublicIpAddress").is_none_or(|it| it == "true"),
        interfaces: interface.is_some(),
        tags: tags_for(given, "instance"),
        behaviour: Behaviour {
            disable_api_stop: flag(given, "DisableApiStop"),
            disable_api_termination: flag(given, "DisableApiTermination"),
            ..Behaviour::default()
        },
        ..TemplateData::default()
    };
    Ok(NewVersion { description: text(input, "VersionDescription").to_owned(), data })
}

fn template_json(template: &LaunchTemplate, ctx: &RequestContext) -> Value {
    json!({
        "launchTemplateId": template.id,
        "launchTemplateName": template.name,
        "createTime": moment(template.created),
        "createdBy": format!("arn:aws:iam::{}:root", ctx.account_id),
        "defaultVersionNumber": template.default_version,
        "latestVersionNumber": template.latest_version(),
        "tagSet": tag_set(&template.tags),
    })
}

fn version_json(
    template: &LaunchTemplate,
    (number, version): (u32, &TemplateVersion),
    ctx: &RequestContext,
) -> Value {
    json!({
        "launchTemplateId": template.id,
        "launchTemplateName": template.name,
        "versionNumber": number,
        "versionDescription": version.description,
        "createTime": moment(version.created),
        "createdBy": format!("arn:aws:iam::{}:root", ctx.account_id),
        "defaultVersion": number == template.default_version,
        "launchTemplateData": data_json(&version.data, &ctx.account_id),
    })
}

fn data_json(data: &TemplateData, account: &str) -> Value {
    let mut json = json!({
        "imageId": data.image_id,
        "instanceType": data.instance_type,
        "blockDeviceMappingSet": {"item": [{
            "deviceName": "/dev/xvda",
            "ebs": {"volumeSize": data.volume_gib, "volumeType": "gp3", "deleteOnTermination": true},
        }]},
    });
    for (name, set) in [
        ("disableApiStop", data.behaviour.disable_api_stop),
        ("disableApiTermination", data.behaviour.disable_api_termination),
    ] {
        if set {
            json[name] = true.into();
        }
    }
    if let Some(arn) = data.profile_arn(account) {
        json["iamInstanceProfile"] = json!({"arn": arn});
    }
    if data.interfaces {
        let mut interface = json!({
            "deviceIndex": 0,
            "associatePublicIpAddress": data.public_ip,
            "groupSet": {"groupId": data.security_groups},
        });
        if let Some(subnet) = &data.subnet {
            interface["subnetId"] = subnet.clone().into();
        }
        json["networkInterfaceSet"] = json!({"item": [interface]});
    } else {
        json["securityGroupIdSet"] = json!({"item": data.security_groups});
    }
    if !data.tags.is_empty() {
        let tags = json!({"resourceType": "instance", "tagSet": tag_set(&data.tags)});
        json["tagSpecificationSet"] = json!({"item": [tags]});
    }
    json
}
