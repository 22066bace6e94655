//! What an error of AWS means: one exhaustive match, from its code to cause, disposition and effect.
//!
//! *Theory.* Whoever made a call wants three things of its failure: the typed cause (for people), what
//! to do (again, later, give up), and whether the call may have had its effect all the same. All three
//! follow from the error's code where AWS sent one, and from how far the request came where it did not.
//!
//! *Invariants.* `Applied::No` is claimed only where AWS answered, or where the request never left. A
//! `CallError` is built here and nowhere else from an SDK error. Its message holds AWS's code, message
//! and request id, never a body, and not the encoded part of an authorization failure.
//!
//! *Not here.* Retrying (the SDK's standard retries and the runtime's redelivery do that).

use std::error::Error;
use std::time::Duration;

use aws_credential_types::provider::error::CredentialsError;
use aws_sdk_ec2::error::ProvideErrorMetadata;
use aws_sdk_ec2::operation::RequestId;
use aws_smithy_runtime_api::client::orchestrator::HttpResponse;
use aws_smithy_runtime_api::client::result::SdkError;
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{Applied, CallError, Disposition};

/// AWS frees capacity within tens of seconds or not at all; a start deadline is two minutes.
const CAPACITY_PAUSE: Duration = Duration::from_secs(10);
/// A limit of the account is freed when another machine stops, which takes about this long.
const LIMIT_PAUSE: Duration = Duration::from_secs(30);
/// A machine that is changing its state has changed it after a few seconds.
const STATE_PAUSE: Duration = Duration::from_secs(2);
/// An agent registers some seconds after its machine runs.
const AGENT_PAUSE: Duration = Duration::from_secs(5);
/// AWS's messages can quote what was sent; a sentence or three is enough for people.
const MESSAGE_CHARS_MAX: usize = 400;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $($text:literal)|+;)+) => {
        /// The error codes that mean something to us.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum ErrorCode {
            $($(#[$doc])* $name,)+
            /// None of them, with the HTTP status of the answer (0: there was none).
            Unknown(u16),
        }

        impl ErrorCode {
            /// Reads a code as any of the protocols writes it.
            pub(crate) fn parse(code: Option<&str>, status: u16) -> Self {
                // `com.amazonaws.dynamodb.v20120810#ThrottlingException` and `Code:http://…` occur.
                let bare = code.unwrap_or_default();
                let bare = bare.rsplit('#').next().unwrap_or(bare);
                let bare = bare.split(':').next().unwrap_or(bare);
                match bare {
                    $($($text)|+ => Self::$name,)+
                    _ => Self::Unknown(status),
                }
            }

            /// All known codes as they are written, for the tests.
            #[cfg(test)]
            const TEXTS: &[(&str, Self)] = &[$($(($text, Self::$name),)+)+];
        }
    };
}

codes! {
    /// The pace is refused.
    Throttled = "Throttling" | "ThrottlingException" | "ThrottledException" | "Throttled"
        | "RequestLimitExceeded" | "RequestThrottled" | "RequestThrottledException"
        | "TooManyRequestsException" | "ProvisionedThroughputExceededException" | "SlowDown"
        | "ProvisionedThroughputExceeded" | "ThrottlingError" | "BandwidthLimitExceeded"
        | "PriorRequestNotComplete" | "OverLimit" | "KmsThrottled" | "EC2ThrottledException";
    /// Another write to the same items is under way.
    WriteConflict = "TransactionConflict" | "TransactionConflictException"
        | "TransactionInProgressException" | "ReplicatedWriteConflictException"
        | "ConcurrentModificationException" | "ConflictException";
    /// The same token, with another request; or for a machine that came and went.
    TokenReused = "IdempotentParameterMismatchException" | "IdempotentParameterMismatch"
        | "IdempotentInstanceTerminated";
    /// No machine of this sort is free (an HTTP 500).
    NoCapacity = "InsufficientInstanceCapacity" | "InsufficientHostCapacity"
        | "InsufficientReservedInstanceCapacity" | "InsufficientCapacity"
        | "UnfulfillableCapacity" | "SpotMaxPriceTooLow"
        | "InsufficientCapacityOnHost" | "InsufficientAddressCapacity" | "InsufficientVolumeCapacity"
        | "InsufficientFreeAddressesInSubnet" | "ReservationCapacityExceeded"
        | "InsufficientReservedInstancesCapacity" | "ReservedInstancesUnavailable"
        | "IncompatibleHostRequirements" | "UnavailableHostRequirements"
        | "InvalidCapacityReservationState.PendingActivation";
    /// A limit of the account.
    AccountLimit = "InstanceLimitExceeded" | "VcpuLimitExceeded" | "MaxSpotInstanceCountExceeded"
        | "VolumeLimitExceeded" | "MaxIOPSLimitExceeded" | "VolumeIOPSLimit" | "HostLimitExceeded"
        | "NetworkInterfaceLimitExceeded" | "ResourceLimitExceeded" | "ResourceCountExceeded"
        | "RequestResourceCountExceeded" | "MaxScheduledInstanceCapacityExceeded";
    /// What a launch is to be made from is not there.
    NoSuchPart = "InvalidLaunchTemplateId.NotFound" | "InvalidLaunchTemplateId.NotFoundException"
        | "InvalidLaunchTemplateName.NotFoundException" | "InvalidLaunchTemplateId.VersionNotFound"
        | "InvalidSubnetID.NotFound" | "InvalidAMIID.NotFound" | "InvalidGroup.NotFound"
        | "InvalidKeyPair.NotFound" | "InvalidSnapshot.NotFound" | "InvalidAMIID.Unavailable"
        | "InvalidSecurityGroupID.NotFound" | "InvalidNetworkInterfaceID.NotFound"
        | "InvalidCapacityReservationId.NotFound" | "InvalidPlacementGroup.Unknown"
        | "InvalidZone.NotFound" | "InvalidAvailabilityZone" | "DefaultVpcDoesNotExist"
        | "VPCIdNotSpecified" | "VPCResourceNotSpecified";
    /// This machine cannot be had here.
    Unsupported = "Unsupported" | "UnsupportedOperation" | "UnsupportedHostConfiguration"
        | "UnsupportedInstanceTypeOnHost" | "UnsupportedTenancy" | "UnsupportedException"
        | "VolumeTypeNotAvailableInZone" | "UnknownVolumeType" | "BootForVolumeTypeUnsupported"
        | "EncryptedVolumesNotSupported" | "InstanceCreditSpecification.NotSupported"
        | "ZonesMismatched";
    /// The machine is protected against it.
    Protected = "OperationNotPermitted";
    /// The machine cannot hibernate, and is asked to.
    NoHibernation = "UnsupportedHibernationConfiguration";
    /// The account lacks the role by which EC2 launches spot machines.
    NoSpotRole = "AuthFailure.ServiceLinkedRoleCreationNotPermitted";
    /// The role may not do this.
    Denied = "UnauthorizedOperation" | "AccessDenied" | "AccessDeniedException" | "Client.UnauthorizedOperation"
        | "NotAuthorized" | "AuthorizationError" | "AuthFailure" | "OptInRequired" | "Blocked"
        | "KmsAccessDenied" | "InvalidKMSKey.InvalidState" | "PendingVerification"
        | "AccountDisabled" | "TagPolicyViolation" | "CustomerKeyHasBeenRevoked"
        | "ManagedRuleException" | "InvalidSecurity"
        | "NotAuthorizedForSource" | "NotAuthorizedForDetailType";
    /// The credentials have run out or are not known (yet): they are fetched anew.
    Credentials = "ExpiredToken" | "ExpiredTokenException" | "RequestExpired"
        | "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidSignatureException"
        | "SignatureDoesNotMatch" | "IncompleteSignature" | "IncompleteSignatureException" | "MissingAuthenticationToken"
        | "MissingAuthenticationTokenException" | "RequestTimeTooSkewed" | "InvalidAccessKeyId";
    /// EC2 does not know the machine.
    NoSuchInstance = "InvalidInstanceID.NotFound" | "InvalidInstanceId.NotFound";
    /// That is no id of a machine.
    MalformedInstance = "InvalidInstanceID.Malformed" | "InvalidInstanceId.Malformed";
    /// ECS does not know the cluster or the service.
    NoSuchService = "ServiceNotFoundException" | "ClusterNotFoundException";
    /// The service was deleted; ECS still remembers it.
    ServiceNotActive = "ServiceNotActiveException" | "ClusterNotActiveException";
    /// The service's definition cannot be run here.
    BadService = "PlatformUnknownException" | "PlatformTaskDefinitionIncompatibilityException"
        | "UnsupportedFeatureException" | "NamespaceNotFoundException" | "ClientException";
    /// Somebody else is changing the same thing.
    UpdateInProgress = "UpdateInProgressException" | "ConcurrentUpdateException" | "InvalidStateException";
    /// Application Auto Scaling does not mind this service.
    NoSuchScalableTarget = "ObjectNotFoundException";
    /// Application Auto Scaling may not see the service in its owner's name.
    NoScalingRole = "FailedResourceAccessException";
    /// The machine is in another state than the call needs.
    WrongState = "IncorrectInstanceState" | "IncorrectState" | "IncorrectSpotRequestState"
        | "InvalidInstanceID.NotLinkable";
    /// SSM cannot send to the machine.
    NoAgent = "InvalidInstanceId" | "InvalidInstanceInformationFilterValue"
        | "TargetNotConnected" | "UnsupportedPlatformType";
    /// SSM does not know the question.
    NoSuchCommand = "InvocationDoesNotExist" | "InvalidCommandId";
    /// The SSM document is not to be used so.
    BadDocument = "InvalidDocument" | "InvalidDocumentVersion" | "InvalidParameters"
        | "DuplicateInstanceId" | "MaxDocumentSizeExceeded" | "InvalidNotificationConfig"
        | "InvalidOutputFolder" | "InvalidRole" | "InvalidPluginName";
    /// Table, secret, bus or log group do not exist.
    NoSuchResource = "ResourceNotFoundException" | "ResourceNotFound" | "TableNotFoundException";
    /// The queue does not exist.
    NoSuchQueue = "QueueDoesNotExist" | "AWS.SimpleQueueService.NonExistentQueue"
        | "QueueDeletedRecently" | "AWS.SimpleQueueService.QueueDeletedRecently";
    /// The message is no longer ours: deleted, or received again by somebody.
    StaleReceipt = "ReceiptHandleIsInvalid" | "MessageNotInflight"
        | "AWS.SimpleQueueService.MessageNotInflight";
    /// A write's condition did not hold.
    ConditionFailed = "ConditionalCheckFailedException" | "ConditionalCheckFailed";
    /// A transaction was cancelled; its reasons tell more.
    Cancelled = "TransactionCanceledException";
    /// The secret's content cannot be decrypted.
    SecretSealed = "DecryptionFailure" | "DecryptionFailureException";
    /// The secret is about to be deleted.
    SecretDeleted = "InvalidRequestException";
    /// The request itself is wrong.
    Invalid = "ValidationException" | "ValidationError" | "InvalidParameterValue"
        | "InvalidParameterException" | "InvalidParameterCombination" | "MissingParameter"
        | "InvalidParameter" | "InvalidMessageContents" | "InvalidAttributeName"
        | "InvalidAttributeValue" | "ItemCollectionSizeLimitExceededException"
        | "SerializationException" | "InvalidRequest" | "InvalidFilterKey" | "InvalidNextToken"
        | "InvalidNextTokenException" | "MissingRequiredParameterException" | "InvalidFormat"
        | "InvalidInstanceInformationFilter" | "BatchRequestTooLong"
        | "AWS.SimpleQueueService.BatchRequestTooLong" | "InvalidBatchEntryId" | "MalformedDetail"
        | "TooManyEntriesInBatchRequest" | "EmptyBatchRequest" | "BatchEntryIdsNotDistinct"
        | "InvalidAddress" | "InvalidCharacter" | "InvalidPaginationToken"
        | "InvalidParameterDependency" | "InvalidQueryParameter" | "MalformedQueryString"
        | "MissingAction" | "MissingInput" | "MissingRequiredParameter" | "UnknownParameter"
        | "UnsupportedProtocol" | "NoSuchVersion" | "InvalidClientToken" | "ClientInvalidParameterValue"
        | "InvalidBlockDeviceMapping" | "InvalidAMIID.Malformed" | "InvalidSubnetID.Malformed"
        | "InvalidLaunchTemplateId.Malformed" | "InvalidLaunchTemplateName.MalformedException"
        | "InvalidUserData.Malformed" | "InvalidInterface.IpAddressLimitExceeded"
        | "InvalidFilter" | "InvalidIdFormat" | "FilterLimitExceeded" | "TagLimitExceeded" | "AttachmentLimitExceeded"
        | "SecurityGroupsPerInstanceLimitExceeded" | "SecurityGroupsPerInterfaceLimitExceeded"
        | "PrivateIpAddressLimitExceeded" | "InvalidCpuCredits" | "InvalidCpuCredits.Malformed"
        | "UnsupportedInstanceAttribute" | "InvalidInstanceAttributeValue"
        | "MalformedHttpRequestException" | "RequestEntityTooLargeException" | "InvalidArgument"
        | "InvalidAccountIdException" | "ItemCollectionSizeLimitExceeded";
    /// What is to be made is there already, and is another.
    Exists = "QueueNameExists" | "QueueAlreadyExists" | "ResourceInUseException"
        | "ResourceAlreadyExistsException";
    /// The endpoint has no such call.
    NoSuchCall = "UnknownOperationException" | "InvalidAction" | "NotImplemented"
        | "UnsupportedOperationException" | "AWS.SimpleQueueService.UnsupportedOperation"
        | "UnknownOperation" | "NotImplementedException";
    /// AWS's own trouble.
    Internal = "InternalError" | "InternalFailure" | "InternalServerError" | "ServiceUnavailable"
        | "ServiceUnavailableException" | "Unavailable" | "InternalException" | "RequestTimeout"
        | "RequestTimeoutException" | "InternalServiceError" | "InternalServiceErrorException"
        | "ServerException" | "InternalServiceException" | "InternalServiceFault"
        | "InternalServerException" | "ServerInternal" | "RetryableError"
        | "RequestAbortedException" | "RedactionFailure";
    /// A dry run that would have been carried out.
    DryRun = "DryRunOperation";
    /// The queue's encryption key.
    KeyUnusable = "KmsDisabled" | "KmsInvalidState" | "KmsNotFound" | "KmsOptInRequired"
        | "KmsInvalidKeyUsage";
    /// The queue has as many messages in flight as it may.
    InFlightLimit = "AWS.SimpleQueueService.OverLimit";
    /// A limit of the account, in the words of the younger services.
    QuotaReached = "LimitExceededException" | "ServiceQuotaExceededException";
    /// The event bus is there, and does not take this.
    BusRefuses = "OperationDisabledException" | "InvalidEventPatternException";
}

/// What follows from a code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Meaning {
    pub(crate) cause: Cause,
    pub(crate) disposition: Disposition,
    pub(crate) applied: Applied,
    /// What somebody can do about it, where we know.
    pub(crate) hint: Option<&'static str>,
}

const SETUP: &str = "run `lamplighter setup`";

/// The one place where a code becomes a meaning. `operation` is ours, as `ec2:StartInstances`.
pub(crate) fn meaning(operation: &str, code: ErrorCode) -> Meaning {
    use Disposition::{Fail, Retry, RetryAfter};
    let said =
        |cause, disposition| Meaning { cause, disposition, applied: Applied::No, hint: None };
    match code {
        ErrorCode::Throttled | ErrorCode::InFlightLimit => said(Cause::Throttled, Retry),
        ErrorCode::WriteConflict | ErrorCode::TokenReused => said(Cause::Conflict, Retry),
        ErrorCode::NoCapacity => said(Cause::Capacity, RetryAfter(CAPACITY_PAUSE)),
        ErrorCode::AccountLimit => said(Cause::Capacity, RetryAfter(LIMIT_PAUSE)),
        // A limit on events passes by itself; any other is freed by somebody.
        ErrorCode::QuotaReached if operation == "events:PutEvents" => said(Cause::Throttled, Retry),
        ErrorCode::QuotaReached => said(Cause::Capacity, RetryAfter(LIMIT_PAUSE)),
        ErrorCode::Unsupported => match (operation, service(operation)) {
            // A type that a subnet's zone does not have may be had in the next one.
            ("ec2:RunInstances", _) => said(Cause::Capacity, RetryAfter(LIMIT_PAUSE)),
            ("ec2:StopInstances", _) => Meaning {
                hint: Some(
                    "a machine of a one-time spot request, or without an EBS root volume, cannot be stopped, only \
                     terminated",
                ),
                ..said(Cause::Invalid, Fail)
            },
            (_, "ec2") => said(Cause::Capacity, Fail),
            _ => said(Cause::Invalid, Fail),
        },
        ErrorCode::Protected => {
            Meaning { hint: protection(operation), ..said(Cause::Denied, Fail) }
        }
        ErrorCode::NoHibernation => Meaning {
            hint: Some("start or launch it without hibernation, or enable that at its launch"),
            ..said(Cause::Invalid, Fail)
        },
        ErrorCode::NoSpotRole => Meaning {
            hint: Some(
                "make the role once: `aws iam create-service-linked-role --aws-service-name spot.amazonaws.com`",
            ),
            ..said(Cause::Denied, Fail)
        },
        ErrorCode::Exists => said(Cause::Conflict, Fail),
        ErrorCode::NoSuchPart => said(Cause::NotFound, Fail),
        ErrorCode::Denied => Meaning { hint: lacking(operation), ..said(Cause::Denied, Fail) },
        ErrorCode::Credentials => Meaning {
            hint: Some("check the credentials, and this machine's clock"),
            ..said(Cause::Denied, Retry)
        },
        ErrorCode::NoSuchInstance => said(Cause::NotFound, Fail),
        ErrorCode::MalformedInstance => said(Cause::Invalid, Fail),
        ErrorCode::NoSuchService | ErrorCode::ServiceNotActive => said(Cause::NotFound, Fail),
        ErrorCode::NoSuchScalableTarget => said(Cause::NotFound, Fail),
        ErrorCode::BadService => said(Cause::Invalid, Fail),
        ErrorCode::NoScalingRole => said(Cause::Denied, Fail),
        ErrorCode::UpdateInProgress => said(Cause::Conflict, RetryAfter(STATE_PAUSE)),
        ErrorCode::WrongState => said(Cause::Conflict, RetryAfter(STATE_PAUSE)),
        ErrorCode::NoAgent => said(Cause::AgentUnreachable, RetryAfter(AGENT_PAUSE)),
        ErrorCode::NoSuchCommand => said(Cause::NotFound, RetryAfter(STATE_PAUSE)),
        ErrorCode::BadDocument => said(Cause::Invalid, Fail),
        // A missing secret is for somebody to write; a missing table or bus is for `setup`, and
        // whoever starts a worker before it should not lose messages to that.
        ErrorCode::NoSuchResource => match service(operation) {
            "secretsmanager" => said(Cause::NotFound, Fail),
            "logs"
            | "ec2"
            | "ssm"
            | "ecs"
            | "application-autoscaling"
            | "cloudwatch"
            | "scheduler" => said(Cause::NotFound, Fail),
            _ => Meaning { hint: Some(SETUP), ..said(Cause::NotFound, Retry) },
        },
        ErrorCode::NoSuchQueue => Meaning { hint: Some(SETUP), ..said(Cause::NotFound, Retry) },
        ErrorCode::StaleReceipt => said(Cause::NotFound, Fail),
        ErrorCode::ConditionFailed | ErrorCode::Cancelled => said(Cause::Conflict, Retry),
        ErrorCode::SecretDeleted => said(Cause::NotFound, Fail),
        ErrorCode::SecretSealed | ErrorCode::KeyUnusable => said(Cause::Denied, Fail),
        ErrorCode::Invalid => said(Cause::Invalid, Fail),
        ErrorCode::NoSuchCall => Meaning {
            hint: Some("this endpoint does not offer the call"),
            ..said(Cause::Invalid, Fail)
        },
        ErrorCode::Internal => ambiguous(),
        ErrorCode::DryRun => said(Cause::Invalid, Fail),
        ErrorCode::BusRefuses => said(Cause::Throttled, Retry),
        ErrorCode::Unknown(429) => said(Cause::Throttled, Retry),
        ErrorCode::Unknown(401 | 403) => said(Cause::Denied, Fail),
        ErrorCode::Unknown(404) => said(Cause::NotFound, Fail),
        ErrorCode::Unknown(408 | 0..=399 | 500..) => ambiguous(),
        ErrorCode::Unknown(400..=499) => said(Cause::Invalid, Fail),
    }
}

/// The right that a refused call lacks, where AWS's own words may not name it.
fn lacking(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "ec2:RunInstances" => {
            "the role lacks ec2:RunInstances on what the launch template names (a snapshot, a placement group), \
             ec2:CreateTags at the launch, iam:PassRole for its instance profile, or ssm:GetParameters for an \
             image that is resolve:ssm:…"
        }
        "ec2:TerminateInstances" => {
            "the role lacks ec2:TerminateInstances, or the machine its tag lamplighter:managed=true"
        }
        "ecs:DescribeServices" => "the role lacks ecs:DescribeServices on the service",
        "ecs:UpdateService" => {
            "the role lacks ecs:UpdateService on the service, or the service its tag \
             lamplighter:managed=true"
        }
        "ecs:ListTasks" => "the role lacks ecs:ListTasks in the cluster",
        "ecs:DescribeTasks" => "the role lacks ecs:DescribeTasks in the cluster",
        "application-autoscaling:DescribeScalableTargets" => {
            "the role lacks application-autoscaling:DescribeScalableTargets"
        }
        "application-autoscaling:RegisterScalableTarget" => {
            "the role lacks application-autoscaling:RegisterScalableTarget"
        }
        "cloudwatch:GetMetricData" => "the role lacks cloudwatch:GetMetricData",
        _ => return None,
    })
}

/// What `OperationNotPermitted` most often means, and what to do.
fn protection(operation: &str) -> Option<&'static str> {
    Some(match operation {
        "ec2:StopInstances" => {
            "the machine has stop protection (DisableApiStop); to end it: `aws ec2 modify-instance-attribute \
             --instance-id ID --no-disable-api-stop`"
        }
        "ec2:TerminateInstances" => {
            "the machine has termination or stop protection (DisableApiTermination, DisableApiStop; a launch \
             template can set both); to end them: `aws ec2 modify-instance-attribute --instance-id ID \
             --no-disable-api-termination`, and the same with `--no-disable-api-stop`"
        }
        "ec2:StartInstances" => {
            "the machine may not be started as it is: see whether it hibernates, or belongs to a managed service"
        }
        _ => return None,
    })
}

/// AWS did not say no, and did not say yes.
fn ambiguous() -> Meaning {
    Meaning {
        cause: Cause::Deadline,
        disposition: Disposition::Retry,
        applied: Applied::Perhaps,
        hint: None,
    }
}

fn service(operation: &str) -> &str {
    operation.split(':').next().unwrap_or(operation)
}

/// How far a request came that got no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Silence {
    /// It never left this machine.
    NotSent,
    /// No credentials to sign it with.
    NoCredentials,
    /// It may have arrived.
    Lost,
}

/// The error of a call, in our words.
pub(crate) fn call_error<E>(operation: &'static str, error: &SdkError<E, HttpResponse>) -> CallError
where
    E: ProvideErrorMetadata + Error + Send + Sync + 'static,
{
    match error {
        SdkError::ServiceError(answer) => answered(
            operation,
            error.code(),
            error.message(),
            answer.raw().status().as_u16(),
            error.request_id().or_else(|| answer.err().meta().request_id()),
        ),
        SdkError::ResponseError(answer) => {
            let status = answer.raw().status().as_u16();
            let words = format!("an answer that cannot be read (HTTP {status})");
            // A body cut short says nothing about what happened before it.
            let meaning = ambiguous();
            build(operation, meaning, with_id(&words, error.request_id()))
        }
        SdkError::ConstructionFailure(_) => {
            let silence = match silence(error) {
                Silence::Lost => Silence::NotSent,
                known => known,
            };
            silent(operation, silence, error)
        }
        SdkError::TimeoutError(_) => {
            let words = "no answer within the time that a call may take".to_owned();
            build(operation, ambiguous(), words)
        }
        _ => silent(operation, silence(error), error),
    }
}

/// The error of an entry in an answer that covers several.
pub(crate) fn entry_error(
    operation: &'static str,
    code: Option<&str>,
    message: Option<&str>,
    ours: bool,
) -> CallError {
    answered(operation, code, message, if ours { 400 } else { 500 }, None)
}

/// A failure of our own around a call.
pub(crate) fn own_error(
    operation: &'static str,
    cause: Cause,
    disposition: Disposition,
    applied: Applied,
    message: impl Into<String>,
) -> CallError {
    CallError { operation, cause, message: message.into(), disposition, applied }
}

fn answered(
    operation: &'static str,
    code: Option<&str>,
    message: Option<&str>,
    status: u16,
    request_id: Option<&str>,
) -> CallError {
    let words = match (code, message) {
        (Some(code), Some(message)) if !message.is_empty() => format!("{code}: {}", cut(message)),
        (Some(code), _) => code.to_owned(),
        (None, Some(message)) => cut(message),
        (None, None) => format!("HTTP {status}"),
    };
    build(
        operation,
        meaning(operation, ErrorCode::parse(code, status)),
        with_id(&words, request_id),
    )
}

fn silent(operation: &'static str, silence: Silence, error: &(dyn Error + 'static)) -> CallError {
    let meaning = match silence {
        Silence::NotSent => Meaning { applied: Applied::No, ..ambiguous() },
        Silence::NoCredentials => Meaning {
            cause: Cause::Denied,
            applied: Applied::No,
            hint: Some("no usable credentials were found"),
            ..ambiguous()
        },
        Silence::Lost => ambiguous(),
    };
    build(operation, meaning, cut(&chain(error)))
}

fn build(operation: &'static str, meaning: Meaning, words: String) -> CallError {
    let message = match meaning.hint {
        Some(hint) => format!("{words}; {hint}"),
        None => words,
    };
    CallError {
        operation,
        cause: meaning.cause,
        message,
        disposition: meaning.disposition,
        applied: meaning.applied,
    }
}

fn with_id(words: &str, request_id: Option<&str>) -> String {
    match request_id {
        Some(id) => format!("{words} (request {id})"),
        None => words.to_owned(),
    }
}

fn cut(message: &str) -> String {
    // EC2 appends kilobytes that only `sts:DecodeAuthorizationMessage` can read.
    let plain = message.split("Encoded authorization failure message").next().unwrap_or(message);
    let plain = plain.trim();
    match plain.char_indices().nth(MESSAGE_CHARS_MAX) {
        Some((end, _)) => format!("{}…", &plain[..end]),
        None => plain.to_owned(),
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words: Vec<String> = Vec::new();
    for error in sources(error) {
        let text = error.to_string();
        if words.last() != Some(&text) {
            words.push(text);
        }
    }
    words.join(": ")
}

fn sources<'a>(
    error: &'a (dyn Error + 'static),
) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    let mut next = Some(error);
    std::iter::from_fn(move || {
        let error = next?;
        next = error.source();
        Some(error)
    })
}

/// Whether an error of the transport came before anything was sent.
pub(crate) fn never_left(error: &(dyn Error + 'static)) -> bool {
    silence(error) != Silence::Lost
}

/// Reads from the chain of sources whether the request left. Where it cannot be told, it did.
fn silence(error: &(dyn Error + 'static)) -> Silence {
    for source in sources(error) {
        if source.downcast_ref::<CredentialsError>().is_some() {
            return Silence::NoCredentials;
        }
        if let Some(io) = source.downcast_ref::<std::io::Error>() {
            use std::io::ErrorKind::{
                AddrNotAvailable, ConnectionRefused, HostUnreachable, NetworkUnreachable,
            };
            let kind = io.kind();
            if matches!(
                kind,
                ConnectionRefused | HostUnreachable | NetworkUnreachable | AddrNotAvailable
            ) {
                return Silence::NotSent;
            }
        }
        let text = source.to_string();
        // hyper and the SDK's connector say so only in words, and their types are not ours to name.
        if ["client error (Connect)", "dns error", "HTTP connect timeout", "tcp connect error"]
            .iter()
            .any(|known| text.contains(known))
        {
            return Silence::NotSent;
        }
    }
    Silence::Lost
}

#[cfg(test)]
mod table;
#[cfg(test)]
mod tests;
