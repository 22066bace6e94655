//! IAM by a policy file: everything is denied that no statement allows.
//!
//! A policy may be for every caller or for one access key. Without any, everything is allowed. The
//! evaluation is the `awsim-iam-policy` crate's; here is which actions and resources a call needs.
//!
//! Which resource types and condition keys AWS knows for an action is AWS's own word (`reference`).
//!
//! Not here: roles, boundaries, resource policies, session policies.

mod launches;
mod reference;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use awsim_core::{AwsError, IamCheck, RequestContext, ServiceHandler};
use awsim_iam_policy::{
    AuthzRequest, ContextValue, Decision, EvalContext, ParseError, PolicyDocument, evaluate,
};
use jiff::Timestamp;
use lamplighter_cloud::bus::bus_name;
use lamplighter_cloud::schedules::DEFAULT_GROUP;
use lamplighter_cloud::services::{DEFAULT_CLUSTER, Place};
use serde_json::Value;

use crate::input::{list, maybe_text, tags, text, texts};
use crate::shared::{Shared, fault};

/// The policies in force.
#[derive(Debug, Default)]
pub(crate) struct Policies {
    inner: Mutex<Held>,
}

/// By access key; `None` is for everyone without one of their own.
type ByKey = BTreeMap<Option<String>, PolicyDocument>;

#[derive(Debug, Default)]
struct Held {
    in_force: ByKey,
    /// Those that have not arrived yet, in the order in which they were put.
    arriving: Vec<(Timestamp, Option<String>, PolicyDocument)>,
}

impl Policies {
    fn lock(&self) -> MutexGuard<'_, Held> {
        let mut held = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Timestamp::now();
        let (arrived, arriving) =
            std::mem::take(&mut held.arriving).into_iter().partition(|(at, ..)| *at <= now);
        held.arriving = arriving;
        let arrived: Vec<(Timestamp, Option<String>, PolicyDocument)> = arrived;
        held.in_force.extend(arrived.into_iter().map(|(_, key, document)| (key, document)));
        held
    }

    /// Puts a policy document in force, for one access key or for everyone else.
    pub(crate) fn put(&self, access_key: Option<String>, document: &str) -> Result<(), ParseError> {
        self.put_after(access_key, document, Timestamp::UNIX_EPOCH)
    }

    /// The same, in force from `at` on; until then what was there before is.
    pub(crate) fn put_after(
        &self,
        access_key: Option<String>,
        document: &str,
        at: Timestamp,
    ) -> Result<(), ParseError> {
        let document = awsim_iam_policy::parse(document)?;
        self.lock().arriving.push((at, access_key, document));
        Ok(())
    }

    /// Removes every policy: everything is allowed again.
    pub(crate) fn clear(&self) {
        *self.lock() = Held::default();
    }

    fn of(&self, access_key: Option<&str>) -> Option<PolicyDocument> {
        let held = self.lock();
        let policies = &held.in_force;
        let own = access_key.and_then(|key| policies.get(&Some(key.to_owned())));
        own.or_else(|| policies.get(&None)).cloned()
    }

    /// Refuses the call if the caller's policy does not allow all that it needs; what it was asked for,
    /// if there is one.
    pub(crate) fn authorise(
        &self,
        handler: &dyn ServiceHandler,
        shared: &Shared,
        operation: &str,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<Vec<String>, AwsError> {
        let Some(policy) = self.of(ctx.access_key.as_deref()) else { return Ok(Vec::new()) };
        let mut allowed = Vec::new();
        let key = ctx.access_key.as_deref().unwrap_or("anonymous");
        let principal = format!("arn:aws:iam::{}:user/{key}", ctx.account_id);
        for check in checks(handler, shared, operation, input, ctx) {
            let check = reference::corrected(check);
            let mut context = check.context;
            context
                .insert("aws:RequestedRegion".to_owned(), ContextValue::String(ctx.region.clone()));
            let request = AuthzRequest {
                principal_arn: &principal,
                principal_account: &ctx.account_id,
                action: &check.action,
                resource_arn: &check.resource,
                context: &context,
            };
            let policies = EvalContext {
                identity_policies: std::slice::from_ref(&policy),
                ..EvalContext::default()
            };
            let why = match evaluate(&request, &policies) {
                Decision::Allow => {
                    allowed.push(format!("{} {}", check.action, check.resource));
                    continue;
                }
                Decision::ExplicitDeny => {
                    "with an explicit deny in an identity-based policy".into()
                }
                Decision::ImplicitDeny => {
                    format!("because no identity-based policy allows the {} action", check.action)
                }
            };
            let text = format!(
                "User: {principal} is not authorized to perform: {} on resource: {} {why}",
                check.action, check.resource
            );
            return Err(denial(handler.service_name(), text));
        }
        Ok(allowed)
    }
}

/// Each service says it in its own way.
fn denial(service: &str, text: String) -> AwsError {
    match service {
        "ec2" => fault(
            403,
            "UnauthorizedOperation",
            format!("You are not authorized to perform this operation. {text}"),
        ),
        "sts" | "cloudwatch" => fault(403, "AccessDenied", text),
        _ => fault(400, "AccessDeniedException", text),
    }
}

/// What must be allowed for this call: pairs of action and resource, with condition keys.
fn checks(
    handler: &dyn ServiceHandler,
    shared: &Shared,
    operation: &str,
    input: &Value,
    ctx: &RequestContext,
) -> Vec<IamCheck> {
    let (region, account) = (&ctx.region, &ctx.account_id);
    let one = |action: String, resource: String| vec![IamCheck::new(action, resource)];
    match handler.service_name() {
        "sqs" => {
            let url = text(input, "QueueUrl");
            let name = match url.rsplit('/').next().filter(|name| !name.is_empty()) {
                Some(name) => name,
                None => text(input, "QueueName"),
            };
            let action = operation.strip_suffix("Batch").unwrap_or(operation);
            let resource = match operation {
                "ListQueues" => format!("arn:aws:sqs:{region}:{account}:"),
                _ => format!("arn:aws:sqs:{region}:{account}:{name}"),
            };
            one(format!("sqs:{action}"), resource)
        }
        "ec2" => {
            let action = format!("ec2:{operation}");
            // The one description that is bound to an instance.
            if operation.starts_with("Describe") && operation != "DescribeInstanceAttribute" {
                return one(action, "*".to_owned());
            }
            if operation == "RunInstances" {
                return launches::run_checks(shared, input, region, account);
            }
            if operation.starts_with("CreateLaunchTemplate") {
                return launches::template_checks(shared, operation, input, region, account);
            }
            let mut ids = texts(input, "InstanceId");
            ids.extend(maybe_text(input, "InstanceId"));
            ids.extend(texts(input, "ResourceId"));
            if ids.is_empty() {
                return one(action, "*".to_owned());
            }
            let asked = request_tags(&tags(input, "Tag"));
            ids.iter()
                .map(|id| {
                    let mut context = instance_context(shared, id, "ec2:ResourceTag");
                    context.extend(asked.clone());
                    IamCheck {
                        action: action.clone(),
                        resource: format!("arn:aws:ec2:{region}:{account}:instance/{id}"),
                        context,
                    }
                })
                .collect()
        }
        "ssm" if operation == "SendCommand" => {
            let action = "ssm:SendCommand";
            let document = text(input, "DocumentName");
            // Documents of AWS's own belong to no account.
            let owner = if document.starts_with("AWS-") { "" } else { account };
            let mut all =
                one(action.to_owned(), format!("arn:aws:ssm:{region}:{owner}:document/{document}"));
            for id in texts(input, "InstanceIds") {
                all.push(IamCheck {
                    action: action.to_owned(),
                    resource: format!("arn:aws:ec2:{region}:{account}:instance/{id}"),
                    context: instance_context(shared, &id, "ssm:resourceTag"),
                });
            }
            all
        }
        "ssm" => one(format!("ssm:{operation}"), format!("arn:aws:ssm:{region}:{account}:*")),
        "events" if operation == "PutEvents" => list(input, "Entries")
            .iter()
            .map(|entry| {
                let bus = bus_name(text(entry, "EventBusName"));
                let mut check = IamCheck::new(
                    "events:PutEvents",
                    format!("arn:aws:events:{region}:{account}:event-bus/{bus}"),
                );
                for (key, field) in
                    [("events:source", "Source"), ("events:detail-type", "DetailType")]
                {
                    let value = ContextValue::String(text(entry, field).to_owned());
                    check.context.insert(key.to_owned(), value);
                }
                check
            })
            .collect(),
        "events" if operation.ends_with("EventBus") => {
            let bus = bus_name(text(input, "Name"));
            one(
                format!("events:{operation}"),
                format!("arn:aws:events:{region}:{account}:event-bus/{bus}"),
            )
        }
        // Listing has no resource of its own.
        "events" if operation == "ListRules" => one("events:ListRules".to_owned(), "*".to_owned()),
        "events" => {
            let bus = bus_name(text(input, "EventBusName"));
            let name = [text(input, "Name"), text(input, "Rule")].concat();
            let path = if bus == "default" { name } else { format!("{bus}/{name}") };
            let given = text(input, "ResourceARN");
            let resource = if given.is_empty() {
                format!("arn:aws:events:{region}:{account}:rule/{path}")
            } else {
                given.to_owned()
            };
            rule_checks(shared, operation, input, bus, &resource)
        }
        "scheduler" => scheduler_checks(operation, input, region, account),
        "ecs" => ecs_checks(shared, operation, input, region, account),
        "application-autoscaling" => {
            let action = format!("application-autoscaling:{operation}");
            if operation.starts_with("Describe") {
                return one(action, "*".to_owned());
            }
            let resource =
                format!("arn:aws:application-autoscaling:{region}:{account}:scalable-target/*");
            let mut check = IamCheck::new(action, resource);
            for (key, field) in [
                ("service-namespace", "ServiceNamespace"),
                ("scalable-dimension", "ScalableDimension"),
            ] {
                let value = ContextValue::String(text(input, field).to_owned());
                check.context.insert(format!("application-autoscaling:{key}"), value);
            }
            vec![check]
        }
        "cloudwatch" => {
            let mut check = IamCheck::new(format!("cloudwatch:{operation}"), "*");
            if operation == "PutMetricData" {
                let namespace = ContextValue::String(text(input, "Namespace").to_owned());
                check.context.insert("cloudwatch:namespace".to_owned(), namespace);
            }
            vec![check]
        }
        "logs" => {
            let name = [text(input, "logGroupNamePrefix"), text(input, "logGroupName")].concat();
            one(
                format!("logs:{operation}"),
                format!("arn:aws:logs:{region}:{account}:log-group:{name}"),
            )
        }
        // Nobody can be forbidden to ask who they are.
        "sts" if operation == "GetCallerIdentity" => Vec::new(),
        service => {
            let known = handler.iam_checks_with_context(operation, input, ctx);
            // What the handler does not know of is denied unless everything is allowed, not let through.
            if known.is_empty() {
                one(format!("{service}:{operation}"), "*".to_owned())
            } else {
                known
            }
        }
    }
}

/// A rule's tags are conditions, those that it has and those that it is to get; who makes it with tags
/// tags it.
fn rule_checks(
    shared: &Shared,
    operation: &str,
    input: &Value,
    bus: &str,
    resource: &str,
) -> Vec<IamCheck> {
    let name = resource.rsplit('/').next().unwrap_or_default().to_owned();
    let found = shared.read(|world, _| world.bus.rule(bus, &name).ok().map(|it| it.tags.clone()));
    let mut context = tag_context(found, "events:ResourceTag");
    for (key, value) in tags(input, "Tags") {
        context.insert(format!("aws:RequestTag/{key}"), ContextValue::String(value));
    }
    let tagging = operation == "PutRule" && !list(input, "Tags").is_empty();
    let actions = [Some(operation), tagging.then_some("TagResource")];
    let check = |action: &str| IamCheck {
        action: format!("events:{action}"),
        resource: resource.to_owned(),
        context: context.clone(),
    };
    actions.into_iter().flatten().map(check).collect()
}

/// Schedules and groups are resources; listings have none. Who makes a schedule hands a role over, and who
/// tags a group in making it tags.
fn scheduler_checks(operation: &str, input: &Value, region: &str, account: &str) -> Vec<IamCheck> {
    let arn = |path: String| format!("arn:aws:scheduler:{region}:{account}:{path}");
    let action = format!("scheduler:{operation}");
    let name = text(input, "Name");
    match operation {
        "ListSchedules" | "ListScheduleGroups" => vec![IamCheck::new(action, "*")],
        "TagResource" | "ListTagsForResource" => {
            vec![IamCheck::new(action, text(input, "ResourceArn"))]
        }
        _ if operation.ends_with("ScheduleGroup") => {
            let resource = arn(format!("schedule-group/{name}"));
            let mut all = vec![IamCheck::new(action, resource.clone())];
            if !list(input, "Tags").is_empty() {
                all.push(IamCheck::new("scheduler:TagResource", resource));
            }
            all
        }
        _ => {
            let group = match [text(input, "GroupName"), text(input, "groupName")].concat() {
                named if named.is_empty() => DEFAULT_GROUP.to_owned(),
                named => named,
            };
            let mut all = vec![IamCheck::new(action, arn(format!("schedule/{group}/{name}")))];
            if let Some(role) = input["Target"]["RoleArn"].as_str() {
                let mut check = IamCheck::new("iam:PassRole", role);
                let service = ContextValue::String("scheduler.amazonaws.com".to_owned());
                check.context.insert("iam:PassedToService".to_owned(), service);
                all.push(check);
            }
            all
        }
    }
}

/// Services, tasks and clusters are resources of their own; listings have `*` and the cluster as a
/// condition.
fn ecs_checks(
    shared: &Shared,
    operation: &str,
    input: &Value,
    region: &str,
    account: &str,
) -> Vec<IamCheck> {
    let place = Place { region, account };
    let last = |name: &str| name.rsplit('/').next().unwrap_or(name).to_owned();
    let cluster = match last(text(input, "cluster")) {
        named if named.is_empty() => DEFAULT_CLUSTER.to_owned(),
        named => named,
    };
    let cluster_arn = place.cluster_arn(&cluster);
    let check = |resource: String| {
        let mut check = IamCheck::new(format!("ecs:{operation}"), resource);
        let value = ContextValue::String(cluster_arn.clone());
        check.context.insert("ecs:cluster".to_owned(), value);
        check
    };
    let mut services = texts(input, "services");
    services.extend(Some(text(input, "service").to_owned()).filter(|it| !it.is_empty()));
    match operation {
        "DescribeServices" | "UpdateService" => services
            .iter()
            .map(|service| {
                let name = last(service);
                let mut check = check(place.service_arn(&cluster, &name));
                let tags = shared
                    .read(|world, _| world.services.get(&cluster, &name).map(|it| it.tags.clone()));
                check.context.extend(tag_context(tags, "ecs:ResourceTag"));
                check
            })
            .collect(),
        // The reference knows a container instance alone, whether a call names one or not.
        "ListTasks" => {
            let resource = cluster_arn.replace(":cluster/", ":container-instance/");
            vec![check(format!("{resource}/*"))]
        }
        "DescribeTasks" => {
            let tasks = texts(input, "tasks");
            tasks.iter().map(|task| check(place.task_arn(&cluster, &last(task)))).collect()
        }
        "DescribeClusters" => {
            let named = texts(input, "clusters");
            let named = if named.is_empty() { vec![DEFAULT_CLUSTER.to_owned()] } else { named };
            named.iter().map(|name| check(place.cluster_arn(&last(name)))).collect()
        }
        _ => vec![check("*".to_owned())],
    }
}

fn tag_context(
    tags: Option<BTreeMap<String, String>>,
    prefix: &str,
) -> HashMap<String, ContextValue> {
    let tags = tags.into_iter().flatten();
    tags.flat_map(|(key, value)| {
        [format!("{prefix}/{key}"), format!("aws:ResourceTag/{key}")]
            .map(|name| (name, ContextValue::String(value.clone())))
    })
    .collect()
}

/// The tags that a call is to set, as conditions.
fn request_tags(tags: &BTreeMap<String, String>) -> HashMap<String, ContextValue> {
    let mut context: HashMap<String, ContextValue> = tags
        .iter()
        .map(|(key, value)| (format!("aws:RequestTag/{key}"), ContextValue::String(value.clone())))
        .collect();
    if !tags.is_empty() {
        let keys = tags.keys().cloned().collect();
        context.insert("aws:TagKeys".to_owned(), ContextValue::StringList(keys));
    }
    context
}

fn instance_context(shared: &Shared, id: &str, prefix: &str) -> HashMap<String, ContextValue> {
    let tags = shared.read(|world, _| world.machines.get(id).map(|machine| machine.tags.clone()));
    tag_context(tags, prefix)
}
