//! What a launch needs to be allowed: `ec2:RunInstances` on everything that it makes or uses, `ec2:CreateTags`
//! on what it tags, `iam:PassRole` for the role of the instance profile, and `ssm:GetParameters` where the
//! template names its image by a parameter.
//!
//! A launch that names a subnet gets an interface there, which is not the template's; AWS does not document what
//! `ec2:IsLaunchTemplateResource` is for that interface, so here it is false.
//!
//! A profile's role has the profile's name, as it has where the console makes both.

use std::collections::{BTreeMap, HashMap};

use awsim_core::IamCheck;
use awsim_iam_policy::ContextValue;
use lamplighter_cloud::launch_templates::{LaunchTemplate, TemplateData};
use lamplighter_cloud::{LaunchSpec, TemplateRef};
use serde_json::Value;

use super::{request_tags, tag_context};
use crate::input::text;
use crate::services::ec2::SUBNET;
use crate::services::launches::{launch_spec, tags_for};
use crate::shared::Shared;

/// The security group of what named none.
const GROUP: &str = "sg-00000000000000001";

type Context = HashMap<String, ContextValue>;

fn word(text: &str) -> ContextValue {
    ContextValue::String(text.to_owned())
}

/// The checks of a RunInstances. One that cannot be read, or whose template does not exist, is checked as
/// far as it goes and refused afterwards.
pub(super) fn run_checks(
    shared: &Shared,
    input: &Value,
    region: &str,
    account: &str,
) -> Vec<IamCheck> {
    let arn = |path: &str| format!("arn:aws:ec2:{region}:{account}:{path}");
    let unread = || vec![IamCheck::new("ec2:RunInstances", arn("instance/*"))];
    let Ok(spec) = launch_spec(input) else { return unread() };
    let found = shared.read(|world, _| world.launch_templates.get(&spec.template).cloned());
    let Ok(template) = found else { return unread() };
    let Ok((_, version)) = template.version(&spec.version) else { return unread() };
    let data = &version.data;

    let mut common = Context::new();
    let template_arn = arn(&format!("launch-template/{}", template.id));
    common.insert("ec2:LaunchTemplate".to_owned(), word(&template_arn));
    common.insert("ec2:IsLaunchTemplateResource".to_owned(), ContextValue::Bool(true));
    let run = |resource: String, own: Context| IamCheck {
        action: "ec2:RunInstances".to_owned(),
        resource,
        context: common.clone().into_iter().chain(own).collect(),
    };
    let mut instance_tags = data.tags.clone();
    instance_tags.extend(spec.tags.clone());
    let mut all = vec![
        run(template_arn, tag_context(Some(template.tags.clone()), "ec2:ResourceTag")),
        run(arn("instance/*"), instance_context(&spec, data, &instance_tags, account)),
        run(arn("volume/*"), request_tags(&spec.volume_tags)),
        run(arn("network-interface/*"), subnet_context(&spec)),
        run(subnet_arn(&spec, data, arn), subnet_context(&spec)),
        run(format!("arn:aws:ec2:{region}::image/{}", data.resolved_image()), Context::new()),
    ];
    all.extend(
        data.snapshot.as_ref().map(|snapshot| {
            run(format!("arn:aws:ec2:{region}::snapshot/{snapshot}"), Context::new())
        }),
    );
    all.extend(data.image_parameter().map(|name| {
        // AWS's public parameters belong to no account.
        let owner = if name.starts_with("/aws/") { "" } else { account };
        let resource =
            format!("arn:aws:ssm:{region}:{owner}:parameter/{}", name.trim_start_matches('/'));
        IamCheck::new("ssm:GetParameters", resource)
    }));
    let groups = match data.security_groups.as_slice() {
        [] => &[GROUP.to_owned()],
        groups => groups,
    };
    all.extend(groups.iter().map(|it| run(arn(&format!("security-group/{it}")), Context::new())));
    for (kind, tags) in [("instance/*", &instance_tags), ("volume/*", &spec.volume_tags)] {
        if tags.is_empty() {
            continue;
        }
        let mut context = request_tags(tags);
        context.insert("ec2:CreateAction".to_owned(), word("RunInstances"));
        all.push(IamCheck { action: "ec2:CreateTags".to_owned(), resource: arn(kind), context });
    }
    all.extend(pass_role(data, account));
    all
}

fn instance_context(
    spec: &LaunchSpec,
    data: &TemplateData,
    tags: &BTreeMap<String, String>,
    account: &str,
) -> Context {
    let mut context = request_tags(tags);
    let kind = spec.instance_type.as_ref().unwrap_or(&data.instance_type);
    context.insert("ec2:InstanceType".to_owned(), word(kind));
    let market = if spec.spot { "spot" } else { "on-demand" };
    context.insert("ec2:InstanceMarketType".to_owned(), word(market));
    if let Some(profile) = data.profile_arn(account) {
        context.insert("ec2:InstanceProfile".to_owned(), word(&profile));
    }
    context
}

fn subnet_arn(spec: &LaunchSpec, data: &TemplateData, arn: impl Fn(&str) -> String) -> String {
    let subnet = spec.subnet.as_ref().or(data.subnet.as_ref());
    arn(&format!("subnet/{}", subnet.map_or(SUBNET, |it| it)))
}

/// A subnet that the caller names is not the template's.
fn subnet_context(spec: &LaunchSpec) -> Context {
    let own = ContextValue::Bool(spec.subnet.is_none());
    Context::from([("ec2:IsLaunchTemplateResource".to_owned(), own)])
}

fn pass_role(data: &TemplateData, account: &str) -> Option<IamCheck> {
    let profile = data.profile_arn(account)?;
    let name = profile.rsplit('/').next().unwrap_or_default();
    let mut check = IamCheck::new("iam:PassRole", format!("arn:aws:iam::{account}:role/{name}"));
    check.context.insert("iam:PassedToService".to_owned(), word("ec2.amazonaws.com"));
    Some(check)
}

/// The checks of CreateLaunchTemplate and CreateLaunchTemplateVersion.
pub(super) fn template_checks(
    shared: &Shared,
    operation: &str,
    input: &Value,
    region: &str,
    account: &str,
) -> Vec<IamCheck> {
    let arn = |id: &str| format!("arn:aws:ec2:{region}:{account}:launch-template/{id}");
    let action = format!("ec2:{operation}");
    if operation == "CreateLaunchTemplateVersion" {
        let which = match text(input, "LaunchTemplateId") {
            "" => TemplateRef::Name(text(input, "LaunchTemplateName").to_owned()),
            id => TemplateRef::Id(id.to_owned()),
        };
        let found = shared.read(|world, _| world.launch_templates.get(&which).cloned().ok());
        let resource = arn(found.as_ref().map_or("*", |it: &LaunchTemplate| &it.id));
        let tags = found.map(|it| it.tags);
        return vec![IamCheck { action, resource, context: tag_context(tags, "ec2:ResourceTag") }];
    }
    let tags = tags_for(input, "launch-template");
    let mut all = vec![IamCheck { action, resource: arn("*"), context: request_tags(&tags) }];
    if !tags.is_empty() {
        let mut context = request_tags(&tags);
        context.insert("ec2:CreateAction".to_owned(), word("CreateLaunchTemplate"));
        all.push(IamCheck { action: "ec2:CreateTags".to_owned(), resource: arn("*"), context });
    }
    all
}
