//! The connection to AWS: configuration, retries, and the clients made of them.
//!
//! *Theory.* Configuration is read as every AWS tool reads it (environment, profile, instance role,
//! `AWS_ENDPOINT_URL`), and nothing here knows whether the endpoint is AWS. The SDK's standard retries
//! are the only ones around a call. The poller, the deletes and everything else draw on separate retry quotas: a queue that cannot
//! be reached must not keep finished messages from being deleted.
//!
//! *Invariants.* The behaviour version is a dated one. Credentials never reach a log.
//!
//! *Not here.* How long a call may take (`timeouts`), which calls are made (one file per service).

use std::sync::Arc;

use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, error::CredentialsError};
use aws_sdk_sqs::config::retry::RetryPartition;
use aws_smithy_http_client::tls;
use aws_smithy_types::retry::RetryConfig;
use lamplighter_runtime::ports::Clock;

use crate::clock::{AwsClock, SkewMeter};
use crate::health::HealthError;
use crate::retry::CapacityIsNotRetried;
use crate::timeouts::{ATTEMPT_TIMEOUT, OPERATION_TIMEOUT, timeouts};

/// The first attempt and two more.
const ATTEMPTS_MAX: u32 = 3;
/// How to reach AWS. Everything left out is found as every AWS tool finds it.
#[derive(Debug, Clone, Default)]
pub struct ConnectOptions {
    /// The region, before `AWS_REGION` and the profile's.
    pub region: Option<String>,
    /// The profile of the shared configuration files.
    pub profile: Option<String>,
    /// The endpoint of every service, before `AWS_ENDPOINT_URL`.
    pub endpoint_url: Option<String>,
    /// Access key id and secret, for an embedded endpoint; never for AWS itself.
    pub static_credentials: Option<StaticCredentials>,
}

/// Credentials that are no secret: an embedded endpoint takes any.
#[derive(Clone)]
pub struct StaticCredentials {
    /// The access key id.
    pub access_key_id: String,
    /// The secret access key.
    pub secret_access_key: String,
}

impl std::fmt::Debug for StaticCredentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StaticCredentials")
            .field("access_key_id", &self.access_key_id)
            .finish_non_exhaustive()
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// No region anywhere.
    #[error(
        "no AWS region is configured: set AWS_REGION, or `region` in the profile \
         (AWS_PROFILE), as for every AWS tool"
    )]
    NoRegion,
    /// No credentials anywhere.
    #[error(
        "no AWS credentials were found: set AWS_PROFILE, AWS_ACCESS_KEY_ID and \
         AWS_SECRET_ACCESS_KEY, or run where a role is attached"
    )]
    NoCredentials(#[source] CredentialsError),
    /// Something in the options cannot be used.
    #[error("{what} {value:?} cannot be used: expected {expected}")]
    Invalid {
        /// Which option.
        what: &'static str,
        /// As given.
        value: String,
        /// What would do.
        expected: &'static str,
    },
    /// The client for health addresses.
    #[error("the client for health addresses cannot be made")]
    Health(#[source] HealthError),
}

/// The clients of every service.
#[derive(Debug, Clone)]
pub struct Aws {
    /// The region in use.
    pub region: String,
    pub(crate) poller: aws_sdk_sqs::Client,
    pub(crate) edits: aws_sdk_sqs::Client,
    pub(crate) sqs: aws_sdk_sqs::Client,
    pub(crate) dynamodb: aws_sdk_dynamodb::Client,
    pub(crate) ec2: aws_sdk_ec2::Client,
    pub(crate) ssm: aws_sdk_ssm::Client,
    pub(crate) events: aws_sdk_eventbridge::Client,
    pub(crate) scheduler: aws_sdk_scheduler::Client,
    pub(crate) secrets: aws_sdk_secretsmanager::Client,
    pub(crate) logs: aws_sdk_cloudwatchlogs::Client,
    pub(crate) ecs: aws_sdk_ecs::Client,
    pub(crate) scaling: aws_sdk_applicationautoscaling::Client,
    pub(crate) cloudwatch: aws_sdk_cloudwatch::Client,
    skew: Arc<SkewMeter>,
}

/// Reads the configuration, finds credentials and makes the clients. Sends nothing to the services.
///
/// # Errors
/// Without a region, without credentials, or with an option that cannot be used.
pub async fn connect(options: &ConnectOptions) -> Result<Aws, ConnectError> {
    let config = load(options).await?;
    let region = config.region().map(ToString::to_string).ok_or(ConnectError::NoRegion)?;
    let provider = config.credentials_provider().ok_or_else(|| {
        ConnectError::NoCredentials(CredentialsError::not_loaded("no provider is configured"))
    })?;
    provider.provide_credentials().await.map_err(ConnectError::NoCredentials)?;
    Ok(Aws::new(&config, region))
}

async fn load(options: &ConnectOptions) -> Result<SdkConfig, ConnectError> {
    let http = aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring))
        .build_https();
    let mut loader = aws_config::defaults(BehaviorVersion::v2026_01_12())
        .http_client(http)
        .app_name(aws_config::AppName::new("lamplighter").expect("the name has only letters"))
        .retry_config(RetryConfig::standard().with_max_attempts(ATTEMPTS_MAX))
        .timeout_config(timeouts(ATTEMPT_TIMEOUT, OPERATION_TIMEOUT));
    if let Some(region) = &options.region {
        if region.is_empty() || !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(ConnectError::Invalid {
                what: "region",
                value: region.clone(),
                expected: "a name such as eu-central-1",
            });
        }
        loader = loader.region(Region::new(region.clone()));
    }
    if let Some(profile) = &options.profile {
        loader = loader.profile_name(profile);
    }
    if let Some(url) = &options.endpoint_url {
        if !(url.starts_with("http://") || url.starts_with("https://")) {
            return Err(ConnectError::Invalid {
                what: "endpoint",
                value: url.clone(),
                expected: "http:// or https:// and a host",
            });
        }
        loader = loader.endpoint_url(url);
    }
    if let Some(fixed) = &options.static_credentials {
        loader = loader.credentials_provider(Credentials::new(
            &fixed.access_key_id,
            &fixed.secret_access_key,
            None,
            None,
            "lamplighter",
        ));
    }
    Ok(loader.load().await)
}

impl Aws {
    fn new(config: &SdkConfig, region: String) -> Self {
        let skew = Arc::new(SkewMeter::default());
        let rest = RetryPartition::custom("lamplighter-rest").build();
        macro_rules! client {
            ($sdk:ident, $partition:expr) => {
                $sdk::Client::from_conf(
                    $sdk::config::Builder::from(config)
                        .retry_partition($partition)
                        .interceptor(Arc::clone(&skew).interceptor())
                        .build(),
                )
            };
        }
        let ec2 = aws_sdk_ec2::Client::from_conf(
            aws_sdk_ec2::config::Builder::from(config)
                .retry_partition(rest.clone())
                .retry_classifier(CapacityIsNotRetried)
                .interceptor(Arc::clone(&skew).interceptor())
                .build(),
        );
        Self {
            region,
            poller: client!(aws_sdk_sqs, RetryPartition::custom("lamplighter-poller").build()),
            edits: client!(aws_sdk_sqs, RetryPartition::custom("lamplighter-edits").build()),
            sqs: client!(aws_sdk_sqs, rest.clone()),
            dynamodb: client!(aws_sdk_dynamodb, rest.clone()),
            ec2,
            ssm: client!(aws_sdk_ssm, rest.clone()),
            events: client!(aws_sdk_eventbridge, rest.clone()),
            scheduler: client!(aws_sdk_scheduler, rest.clone()),
            secrets: client!(aws_sdk_secretsmanager, rest.clone()),
            logs: client!(aws_sdk_cloudwatchlogs, rest.clone()),
            ecs: client!(aws_sdk_ecs, rest.clone()),
            scaling: client!(aws_sdk_applicationautoscaling, rest.clone()),
            cloudwatch: client!(aws_sdk_cloudwatch, rest),
            skew,
        }
    }

    /// The clock that knows AWS's time from its answers.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        Arc::new(AwsClock::new(Arc::clone(&self.skew)))
    }
}
