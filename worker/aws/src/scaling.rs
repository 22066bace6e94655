//! Application Auto Scaling: the bounds between which it keeps a service's desired count.
//!
//! *Theory.* A service that is to be off needs a minimum of 0, or it is put back; so its bounds are read
//! before it is switched, and registered anew. Registering changes what it is given and leaves the rest,
//! policies and all, as it was.
//!
//! *Invariants.* An endpoint without this service minds nothing, which is an answer. Any other failure is
//! one: bounds that could not be read must not pass for none.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_applicationautoscaling::Client;
use aws_sdk_applicationautoscaling::error::ProvideErrorMetadata;
use aws_sdk_applicationautoscaling::types::{ScalableDimension, ServiceNamespace};
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use aws_smithy_types::retry::RetryConfig;
use jiff::Timestamp;
use lamplighter_events::Cause;
use lamplighter_lifecycle::{Bounds, ServiceId};
use lamplighter_runtime::ports::{Applied, CallError, Clock, Disposition};

use crate::attempts::Attempts;
use crate::batch::{Each, Portion, Refused, Shared, apart, halves, in_order};
use crate::disposition::{ErrorCode, call_error, own_error};
use crate::timeouts::act_timeouts;

const REGISTER: &str = "application-autoscaling:RegisterScalableTarget";
/// Fifty ids and one dimension make at most fifty lines; this bounds an endpoint that pages all the same.
const PAGES_MAX: usize = 20;

/// The shared DescribeScalableTargets.
pub(crate) struct ScalableTargets {
    pub(crate) client: Client,
}

fn resource_id(service: &ServiceId) -> String {
    format!("service/{}/{}", service.cluster(), service.service())
}

impl ScalableTargets {
    async fn request(
        &self,
        services: &[ServiceId],
        portion: Portion,
    ) -> Result<Each<ServiceId, Option<Bounds>>, Refused> {
        let names: BTreeMap<String, &ServiceId> =
            services.iter().map(|service| (resource_id(service), service)).collect();
        let mut found: Each<ServiceId, Option<Bounds>> =
            services.iter().map(|service| (service.clone(), Ok(None))).collect();
        let mut token: Option<String> = None;
        for _ in 0..PAGES_MAX {
            let call = self
                .client
                .describe_scalable_targets()
                .service_namespace(ServiceNamespace::Ecs)
                .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
                .set_resource_ids(Some(names.keys().cloned().collect()))
                .set_next_token(token);
            let answer = match portion {
                Portion::Whole => call.send().await,
                Portion::Part => {
                    let once = aws_sdk_applicationautoscaling::Config::builder()
                        .retry_config(RetryConfig::disabled());
                    call.customize().config_override(once).send().await
                }
            };
            let answer = match answer {
                Ok(answer) => answer,
                Err(error) if is_not_offered(&error) => {
                    let error = call_error(Self::OPERATION, &error);
                    tracing::debug!(%error, "nothing here minds a service's count");
                    return Ok(found);
                }
                Err(error) => return Err(Refused::of(Self::OPERATION, &error)),
            };
            for target in answer.scalable_targets.unwrap_or_default() {
                let bounds =
                    Bounds { min: target.min_capacity.into(), max: target.max_capacity.into() };
                if let Some(service) = names.get(&target.resource_id) {
                    found.insert((*service).clone(), Ok(Some(bounds)));
                }
            }
            token = answer.next_token.filter(|token| !token.is_empty());
            if token.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// An endpoint that is not AWS may not know the service at all.
fn is_not_offered<E: ProvideErrorMetadata>(error: &SdkError<E, HttpResponse>) -> bool {
    let status = error.raw_response().map_or(0, |answer| answer.status().as_u16());
    match ErrorCode::parse(error.code(), status) {
        ErrorCode::NoSuchCall | ErrorCode::Unknown(404 | 405 | 501) => true,
        // An answer of another protocol has no code that could be read.
        ErrorCode::Unknown(400) => error.code().is_none(),
        _ => false,
    }
}

#[async_trait]
impl Shared for ScalableTargets {
    type Item = ServiceId;
    type Answer = Option<Bounds>;
    const OPERATION: &'static str = "application-autoscaling:DescribeScalableTargets";
    /// AWS's bound for one call.
    const ITEMS_MAX: usize = 50;

    async fn call(&self, items: Vec<ServiceId>) -> Vec<Result<Option<Bounds>, CallError>> {
        let concerns_one = |error: &CallError| {
            error.applied == Applied::No
                && error.disposition == Disposition::Fail
                && error.cause == Cause::Invalid
        };
        let request =
            |ids: Vec<ServiceId>, portion| async move { self.request(&ids, portion).await };
        let answers = apart(&items, concerns_one, |_, _| false, halves, request).await;
        in_order(Self::OPERATION, &items, |service| answers.get(service).cloned())
    }
}

/// Sets the bounds of a service, and nothing else.
pub(crate) async fn register(
    client: &Client,
    clock: &Arc<dyn Clock>,
    service: &ServiceId,
    bounds: Bounds,
    act_by: Timestamp,
) -> Result<(), CallError> {
    let capacity = |count: i64| {
        i32::try_from(count).ok().filter(|count| *count >= 0).ok_or_else(|| {
            let words = format!("{count} is no bound of a desired count");
            own_error(REGISTER, Cause::Invalid, Disposition::Fail, Applied::No, words)
        })
    };
    let (min, max) = (capacity(bounds.min)?, capacity(bounds.max)?);
    let attempts = Attempts::default();
    let limits = aws_sdk_applicationautoscaling::Config::builder().timeout_config(act_timeouts(
        REGISTER,
        clock.now(),
        act_by,
    )?);
    client
        .register_scalable_target()
        .service_namespace(ServiceNamespace::Ecs)
        .scalable_dimension(ScalableDimension::EcsServiceDesiredCount)
        .resource_id(resource_id(service))
        .min_capacity(min)
        .max_capacity(max)
        .customize()
        .config_override(limits)
        .interceptor(attempts.clone())
        .send()
        .await
        .map(drop)
        .map_err(|error| attempts.correct(call_error(REGISTER, &error)))
}
