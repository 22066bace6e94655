//! `check --aws` for templates: does what is launched from exist, will an agent come up on it, and may we launch?
//!
//! *Theory.* The launch template is read as EC2 has it, since what it leaves out shows only when a machine is
//! there: without an instance profile no agent registers, without a way to a public address nobody gets one. A dry
//! run of a launch, tags and all, tells what of the rights is missing, the role's passing too.
//!
//! *Invariant.* Nothing is launched.

use std::collections::BTreeSet;

use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::types::{
    Filter, InstanceAttributeName,
    LaunchTemplateInstanceNetworkInterfaceSpecification as Interface, LaunchTemplateVersion,
    ResponseLaunchTemplateData as Data, Subnet,
};
use lamplighter_events::TargetName;
use lamplighter_lifecycle::TemplateSpec;

use crate::check::finding::{Finding, SeenBy, error, ok, refused, warn};
use crate::check::instance::protection;
use crate::client::Aws;
use crate::disposition::{ErrorCode, call_error};
use crate::launch;

const VERSIONS: &str = "ec2:DescribeLaunchTemplateVersions";
const SUBNETS: &str = "ec2:DescribeSubnets";
/// Machines of a template that are asked for their protection, two calls each.
const MACHINES_MAX: usize = 10;

pub(crate) async fn check_template(aws: &Aws, spec: &TemplateSpec) -> (Vec<Finding>, SeenBy) {
    let mut findings = Vec::new();
    let version = match version(aws, spec).await {
        Ok(version) => Some(version),
        Err((finding, missing)) => {
            findings.push(finding);
            if missing {
                return (findings, None);
            }
            None
        }
    };
    let data = version.as_ref().and_then(|it| it.launch_template_data());
    if let Some(version) = &version {
        findings.push(ok(format!(
            "launch template {} ({}), version {}",
            version.launch_template_id().unwrap_or("?"),
            version.launch_template_name().unwrap_or("?"),
            version.version_number().unwrap_or_default()
        )));
    }
    if let Some(data) = data {
        findings.extend(of_data(data, spec));
    }
    let named = subnets_of(data, spec);
    let subnets = match named.is_empty() {
        true => Vec::new(),
        false => match subnets(aws, &named).await {
            Ok(subnets) => {
                findings.extend(named.iter().map(|id| of_subnet(id, &subnets)));
                subnets
            }
            Err(finding) => {
                findings.push(finding);
                Vec::new()
            }
        },
    };
    if spec.wait_for_public_ip
        && let Some(data) = data
    {
        findings.push(public_address(data, &subnets));
    }
    findings.extend(rights(aws, spec).await);
    findings.extend(protected_machines(aws, spec).await);
    (findings, None)
}

/// Machines that were launched already and that somebody has protected since.
async fn protected_machines(aws: &Aws, spec: &TemplateSpec) -> Vec<Finding> {
    let tagged = match launch::tagged(&aws.ec2, &spec.owner).await {
        Ok(tagged) => tagged,
        Err(refusal) => return vec![refused("its machines", &refusal)],
    };
    let of_template = format!("{}.", spec.template);
    let machines = tagged.iter().filter(|it| it.target.starts_with(&of_template));
    let mut findings = Vec::new();
    for machine in machines.take(MACHINES_MAX) {
        for attribute in
            [InstanceAttributeName::DisableApiTermination, InstanceAttributeName::DisableApiStop]
        {
            findings.extend(protection(aws, &machine.instance, attribute).await);
        }
    }
    findings
}

/// The version that would be launched; else what is wrong, and whether there is nothing to look at further.
async fn version(aws: &Aws, spec: &TemplateSpec) -> Result<LaunchTemplateVersion, (Finding, bool)> {
    let name = &spec.launch_template;
    let call = aws.ec2.describe_launch_template_versions().versions(&spec.version);
    let call = match name.starts_with("lt-") {
        true => call.launch_template_id(name),
        false => call.launch_template_name(name),
    };
    let missing = || {
        let what = format!(
            "EC2 knows no version {} of the launch template {name} in {}",
            spec.version, aws.region
        );
        (error(what, "check launch_template and version, the account and the region"), true)
    };
    match call.send().await {
        Ok(answer) => answer.launch_template_versions().first().cloned().ok_or_else(missing),
        Err(refusal) => match ErrorCode::parse(refusal.code(), 400) {
            ErrorCode::NoSuchPart => Err(missing()),
            _ => {
                let refusal = call_error(VERSIONS, &refusal);
                Err((refused(&format!("launch template {name}"), &refusal), false))
            }
        },
    }
}

/// What the launch template says of a machine.
fn of_data(data: &Data, spec: &TemplateSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    let profile = data.iam_instance_profile().and_then(|it| it.arn().or(it.name()));
    findings.push(match profile {
        Some(profile) => ok(format!("instance profile {profile}")),
        None if spec.bootstrap.is_none() && spec.systemd_unit.is_none() => {
            ok("no instance profile, and nothing here that asks a host")
        }
        None => warn(
            "the launch template has no instance profile, without which the SSM agent cannot register",
            "name one with the policy AmazonSSMManagedInstanceCore, unless the account has Default Host \
             Management",
        ),
    });
    findings.push(match data.image_id() {
        Some(image) => ok(format!("image {image}")),
        None => error("the launch template names no image", "name one: a launch here names none"),
    });
    let requirements = data.instance_requirements().is_some();
    findings.push(match (spec.instance_types.as_slice(), data.instance_type()) {
        ([], Some(only)) => ok(format!("instance type {}", only.as_str())),
        ([], None) if requirements => ok("an instance type that meets its requirements"),
        ([], None) => warn(
            "neither the launch template nor the fleet file names an instance type, so EC2 takes its oldest",
            "set instance_types",
        ),
        (types, _) => ok(format!("instance type {}", types.join(", else "))),
    });
    let groups = groups(data);
    findings.push(match groups.is_empty() {
        false => ok(format!("security group {}", groups.join(", "))),
        true => warn(
            "the launch template names no security group, so the network's default one is taken",
            "name one that lets in whom the machine serves",
        ),
    });
    findings.push(ok(storage(data)));
    findings.extend(protections(data));
    if !spec.subnets.is_empty() && !data.network_interfaces().is_empty() {
        findings.push(error(
            "the launch template describes network interfaces, and EC2 takes no subnet beside them",
            "leave out subnets in the fleet file, or the interfaces in the launch template",
        ));
    }
    findings
}

/// What of the template makes machines that cannot be ended: stop protection forbids that as well.
fn protections(data: &Data) -> Vec<Finding> {
    let set = [
        (data.disable_api_termination(), "DisableApiTermination", "termination protection"),
        (data.disable_api_stop(), "DisableApiStop", "stop protection"),
    ];
    let set = set.into_iter().filter(|(set, ..)| *set == Some(true));
    set.map(|(_, name, noun)| {
        warn(
            format!("the launch template sets {name}: no machine launched from it can be ended"),
            &format!("make a version of it without {noun}"),
        )
    })
    .collect()
}

fn groups(data: &Data) -> Vec<&str> {
    let of_interfaces = data.network_interfaces().iter().flat_map(Interface::groups);
    let all = data.security_group_ids().iter().chain(data.security_groups()).chain(of_interfaces);
    all.map(String::as_str).collect()
}

fn storage(data: &Data) -> String {
    let disks = data.block_device_mappings().iter().filter_map(|device| {
        let ebs = device.ebs()?;
        let size = ebs.volume_size().map(|gib| format!("{gib} GiB"));
        let kind = ebs.volume_type().map_or("", |kind| kind.as_str());
        let name = device.device_name().unwrap_or("?");
        Some(format!("{name} {} {kind}", size.as_deref().unwrap_or("as the image has it")))
    });
    let disks: Vec<String> = disks.map(|disk| disk.trim_end().to_owned()).collect();
    match disks.is_empty() {
        true => "storage as the image has it".to_owned(),
        false => format!("storage {}", disks.join(", ")),
    }
}

/// The subnets that a machine may be launched into, as far as anybody names them.
fn subnets_of(data: Option<&Data>, spec: &TemplateSpec) -> Vec<String> {
    if !spec.subnets.is_empty() {
        return spec.subnets.clone();
    }
    let interfaces = data.map(Data::network_interfaces).unwrap_or_default();
    let named: BTreeSet<&str> = interfaces.iter().filter_map(Interface::subnet_id).collect();
    named.into_iter().map(str::to_owned).collect()
}

async fn subnets(aws: &Aws, named: &[String]) -> Result<Vec<Subnet>, Finding> {
    // A filter tells of those that are there; by their ids one that is not would hide the others.
    let filter = Filter::builder().name("subnet-id").set_values(Some(named.to_vec())).build();
    let answer = aws.ec2.describe_subnets().filters(filter).send().await;
    let answer =
        answer.map_err(|refusal| refused("its subnets", &call_error(SUBNETS, &refusal)))?;
    Ok(answer.subnets.unwrap_or_default())
}

fn of_subnet(id: &str, found: &[Subnet]) -> Finding {
    let Some(subnet) = found.iter().find(|it| it.subnet_id() == Some(id)) else {
        return error(
            format!("EC2 knows no subnet {id}"),
            "check subnets, the account and the region",
        );
    };
    let zone = subnet.availability_zone().unwrap_or("an unknown zone");
    match subnet.available_ip_address_count() {
        Some(0) => {
            let what = format!("subnet {id} in {zone} has no address left");
            warn(what, "free some, or name another subnet beside it")
        }
        _ => ok(format!("subnet {id} in {zone}")),
    }
}

/// Whether a machine gets the address that is waited for.
fn public_address(data: &Data, subnets: &[Subnet]) -> Finding {
    let hint = "give it one, or set wait_for = \"running\"";
    let said = data.network_interfaces().iter().find_map(|it| it.associate_public_ip_address());
    let without: Vec<&str> = subnets
        .iter()
        .filter(|it| it.map_public_ip_on_launch() == Some(false))
        .filter_map(|it| it.subnet_id())
        .collect();
    match said {
        Some(true) => ok("a public address by the launch template"),
        Some(false) => error(
            "wait_for = \"public_ip\", and the launch template's interface gets no public address",
            hint,
        ),
        None if subnets.is_empty() => warn(
            "wait_for = \"public_ip\", and nobody names a subnet: the default one decides whether there is one",
            "check that it gives public addresses, or name subnets",
        ),
        None if without.is_empty() => ok("a public address by the subnet"),
        None => error(
            format!("wait_for = \"public_ip\", and {} gives no public address", without.join(", ")),
            hint,
        ),
    }
}

/// Asks EC2 whether we might launch: once as spot and once on demand, where both may be.
async fn rights(aws: &Aws, spec: &TemplateSpec) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut asked = BTreeSet::new();
    let tags = match TargetName::parse(&format!("{}.{}", spec.template, "0".repeat(16))) {
        Ok(target) => spec.launch_tags(&target, &spec.machine_name(&target, aws.clock().now()), 1),
        Err(_) => spec.tags.clone(),
    };
    for option in spec.options() {
        if !asked.insert(option.spot) {
            continue;
        }
        let call = launch::request(&aws.ec2, &spec.launch_template, &spec.version, &option, &tags);
        let refusal = match call.dry_run(true).send().await {
            Ok(_) => {
                let what =
                    format!("{}: this endpoint does not answer a dry run as EC2 does", launch::RUN);
                findings.push(warn(what, "the right could not be checked"));
                continue;
            }
            Err(refusal) => refusal,
        };
        findings.push(match ErrorCode::parse(refusal.code(), 400) {
            // A dry run that is allowed is an error, of this name.
            ErrorCode::DryRun => ok(format!("may call {} for {option}", launch::RUN)),
            ErrorCode::Denied => {
                let hint = "allow ec2:RunInstances and ec2:CreateTags for the worker's role, and iam:PassRole \
                            for the instance profile's";
                error(call_error(launch::RUN, &refusal).to_string(), hint)
            }
            _ => {
                let asked = format!("{} for {option}", launch::RUN);
                refused(&asked, &call_error(launch::RUN, &refusal))
            }
        });
    }
    findings
}

#[cfg(test)]
mod tests {
    use aws_sdk_ec2::types::{
        LaunchTemplateBlockDeviceMapping, LaunchTemplateEbsBlockDevice, VolumeType,
    };

    use super::*;
    use crate::check::finding::Level;

    fn interface(public: Option<bool>) -> Data {
        let interface = Interface::builder()
            .set_associate_public_ip_address(public)
            .groups("sg-1")
            .subnet_id("subnet-1")
            .build();
        Data::builder().network_interfaces(interface).build()
    }

    #[track_caller]
    fn check(data: &Data, subnets: &[Option<bool>], level: Level, part: &str) {
        let subnet = |maps: &Option<bool>| {
            Subnet::builder().subnet_id("subnet-1").set_map_public_ip_on_launch(*maps).build()
        };
        let subnets: Vec<Subnet> = subnets.iter().map(subnet).collect();
        let found = public_address(data, &subnets);
        assert!(found.level == level && found.what.contains(part), "{found:?}");
    }

    #[test]
    fn a_public_address_comes_from_the_interface_or_else_from_the_subnet() {
        let plain = Data::builder().build();
        check(&interface(Some(true)), &[Some(false)], Level::Ok, "by the launch template");
        check(&interface(Some(false)), &[Some(true)], Level::Error, "interface gets no");
        check(&interface(None), &[Some(true)], Level::Ok, "by the subnet");
        check(&plain, &[Some(true)], Level::Ok, "by the subnet");
        check(&plain, &[Some(true), Some(false)], Level::Error, "subnet-1 gives no");
        check(&plain, &[], Level::Warn, "nobody names a subnet");
    }

    #[test]
    fn a_template_whose_machines_could_not_be_ended_is_warned_of() {
        for (data, name) in [
            (Data::builder().disable_api_termination(true).build(), "DisableApiTermination"),
            (Data::builder().disable_api_stop(true).build(), "DisableApiStop"),
        ] {
            let warned = protections(&data);
            assert_eq!(warned.len(), 1, "{warned:?}");
            assert!(warned[0].level == Level::Warn && warned[0].what.contains(name), "{warned:?}");
        }
        assert_eq!(protections(&Data::builder().build()), []);
    }

    #[test]
    fn groups_and_disks_are_shown_wherever_they_stand() {
        assert_eq!(groups(&interface(None)), ["sg-1"]);
        let ebs = LaunchTemplateEbsBlockDevice::builder()
            .volume_size(30)
            .volume_type(VolumeType::Gp3)
            .build();
        let disk =
            LaunchTemplateBlockDeviceMapping::builder().device_name("/dev/sda1").ebs(ebs).build();
        let data = Data::builder().security_group_ids("sg-2").block_device_mappings(disk).build();
        assert_eq!(groups(&data), ["sg-2"]);
        assert_eq!(storage(&data), "storage /dev/sda1 30 GiB gp3");
        assert_eq!(storage(&Data::builder().build()), "storage as the image has it");
    }
}
