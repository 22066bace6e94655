//! EC2: launches, what became of them, ends, and the machines that bear our tags.
//!
//! *Theory.* `RunInstances` has a client token: EC2 answers the same request with the same machine, however often
//! it is made, so the SDK may retry it, and an answer that was lost is had by asking again. Until its id is known a
//! machine is found by that token.
//!
//! *Invariants.* One machine a launch. Its tags are set by the launch itself, on the machine and on its volumes: there
//! is no moment in which it runs without them. No attempt is made after `act_by`. A describe's time is taken just
//! before its request.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_ec2::Client;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    Filter, Instance, InstanceMarketOptionsRequest, InstanceType, LaunchTemplateSpecification,
    MarketType, ResourceType, Tag, TagSpecification,
};
use jiff::Timestamp;
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::{
    InstanceSeen, LAUNCH_TAG, Launch, LaunchOption, LaunchToken, OWNER_TAG, PowerState, TARGET_TAG,
};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Disposition, Tagged};

use crate::attempts::Attempts;
use crate::batch::{Shared, in_order};
use crate::disposition::{call_error, own_error};
use crate::ec2;
use crate::timeouts::act_timeouts;

pub(crate) const RUN: &str = "ec2:RunInstances";
pub(crate) const TERMINATE: &str = "ec2:TerminateInstances";
const DESCRIBE: &str = "ec2:DescribeInstances";
/// EC2's most values of a filter.
const TOKENS_MAX: usize = 200;
/// A page of a filtered describe at its largest.
const PAGE: i32 = 1000;
/// Far beyond what a small fleet launches; this bounds an endpoint that pages without end.
const PAGES_MAX: usize = 50;

/// One machine, as `run` and a dry run ask for it.
pub(crate) fn request(
    client: &Client,
    launch_template: &str,
    version: &str,
    option: &LaunchOption,
    tags: &BTreeMap<String, String>,
) -> RunInstancesFluentBuilder {
    let template = LaunchTemplateSpecification::builder().version(version);
    let template = match launch_template.starts_with("lt-") {
        true => template.launch_template_id(launch_template),
        false => template.launch_template_name(launch_template),
    };
    let tags: Vec<Tag> =
        tags.iter().map(|(key, value)| Tag::builder().key(key).value(value).build()).collect();
    let tagged =
        |what| TagSpecification::builder().resource_type(what).set_tags(Some(tags.clone())).build();
    let market = option
        .spot
        .then(|| InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build());
    client
        .run_instances()
        .min_count(1)
        .max_count(1)
        .launch_template(template.build())
        .set_subnet_id(option.subnet.clone())
        .set_instance_type(option.instance_type.as_deref().map(InstanceType::from))
        .set_instance_market_options(market)
        .tag_specifications(tagged(ResourceType::Instance))
        .tag_specifications(tagged(ResourceType::Volume))
}

/// Launches a machine; its id.
pub(crate) async fn run(
    client: &Client,
    clock: &Arc<dyn Clock>,
    launch: &Launch,
    act_by: Timestamp,
) -> Result<Option<String>, CallError> {
    let attempts = Attempts::default();
    let limits =
        aws_sdk_ec2::Config::builder().timeout_config(act_timeouts(RUN, clock.now(), act_by)?);
    let answer =
        request(client, &launch.launch_template, &launch.version, &launch.option, &launch.tags)
            .client_token(launch.token.as_str())
            .customize()
            .config_override(limits)
            .interceptor(attempts.clone())
            .send()
            .await
            .map_err(|error| attempts.correct(call_error(RUN, &error)))?;
    let id = answer.instances().iter().find_map(|instance| instance.instance_id());
    match id {
        Some(id) => Ok(Some(id.to_owned())),
        None => Err(own_error(
            RUN,
            Cause::Deadline,
            Disposition::Retry,
            Applied::Perhaps,
            "the answer names no instance",
        )),
    }
}

/// Ends a machine for good.
pub(crate) async fn terminate(
    client: &Client,
    clock: &Arc<dyn Clock>,
    instance: &InstanceId,
    act_by: Timestamp,
) -> Result<(), CallError> {
    let attempts = Attempts::default();
    let limits = aws_sdk_ec2::Config::builder().timeout_config(act_timeouts(
        TERMINATE,
        clock.now(),
        act_by,
    )?);
    client
        .terminate_instances()
        .instance_ids(instance.as_str())
        .customize()
        .config_override(limits)
        .interceptor(attempts.clone())
        .send()
        .await
        .map(drop)
        .map_err(|error| attempts.correct(call_error(TERMINATE, &error)))
}

fn filter(name: &str, values: impl IntoIterator<Item = String>) -> Filter {
    Filter::builder().name(name).set_values(Some(values.into_iter().collect())).build()
}

async fn describe(client: &Client, filters: Vec<Filter>) -> Result<Vec<Instance>, CallError> {
    let mut found = Vec::new();
    let mut token: Option<String> = None;
    for _ in 0..PAGES_MAX {
        let answer = client
            .describe_instances()
            .set_filters(Some(filters.clone()))
            .max_results(PAGE)
            .set_next_token(token)
            .send()
            .await
            .map_err(|error| call_error(DESCRIBE, &error))?;
        let reservations = answer.reservations.unwrap_or_default();
        found.extend(reservations.into_iter().flat_map(|it| it.instances.unwrap_or_default()));
        token = answer.next_token.filter(|token| !token.is_empty());
        if token.is_none() {
            break;
        }
    }
    Ok(found)
}

/// The shared look for what launches led to.
pub(crate) struct Launches {
    pub(crate) client: Client,
    pub(crate) clock: Arc<dyn Clock>,
}

#[async_trait]
impl Shared for Launches {
    type Item = LaunchToken;
    type Answer = (Timestamp, InstanceSeen);
    const OPERATION: &'static str = DESCRIBE;
    const ITEMS_MAX: usize = TOKENS_MAX;

    async fn call(&self, items: Vec<LaunchToken>) -> Vec<Result<Self::Answer, CallError>> {
        let at = self.clock.now();
        let tokens = filter("client-token", items.iter().map(|it| it.as_str().to_owned()));
        let found = match describe(&self.client, vec![tokens]).await {
            Ok(found) => found,
            Err(error) => return items.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut by_token = BTreeMap::new();
        for instance in &found {
            let id = instance.instance_id().and_then(|id| InstanceId::parse(id).ok());
            if let (Some(token), Some(id)) = (instance.client_token(), id) {
                let seen = InstanceSeen { id: Some(id), ..ec2::seen(Some(instance)) };
                by_token.insert(token.to_owned(), seen);
            }
        }
        in_order(Self::OPERATION, &items, |token| {
            let seen = by_token.get(token.as_str()).cloned();
            let missing = || InstanceSeen::state(PowerState::Missing);
            Some(Ok((at, seen.unwrap_or_else(missing))))
        })
    }
}

/// The machines that are there and bear an owner's tag.
pub(crate) async fn tagged(client: &Client, owner: &str) -> Result<Vec<Tagged>, CallError> {
    let there = ["pending", "running", "stopping", "stopped"].map(ToOwned::to_owned);
    let filters = vec![
        filter(&format!("tag:{OWNER_TAG}"), [owner.to_owned()]),
        filter("instance-state-name", there),
    ];
    let found = describe(client, filters).await?;
    let read = |instance: &Instance| {
        let tag = |key: &str| {
            let mut tags = instance.tags().iter();
            let tag = tags.find(|tag| tag.key() == Some(key));
            tag.and_then(|tag| tag.value()).unwrap_or_default().to_owned()
        };
        Some(Tagged {
            instance: InstanceId::parse(instance.instance_id()?).ok()?,
            target: tag(TARGET_TAG),
            // A machine that was made "like this one" has the tags, and a token of its own.
            token: match tag(LAUNCH_TAG).is_empty() {
                true => String::new(),
                false => instance.client_token().unwrap_or_default().to_owned(),
            },
            state: ec2::seen(Some(instance)).state,
            launched_at: ec2::launched_at(instance),
            instance_type: instance.instance_type().map_or("", |it| it.as_str()).to_owned(),
        })
    };
    Ok(found.iter().filter_map(read).collect())
}
