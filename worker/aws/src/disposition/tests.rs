//! Rows: every code we know, and what it means.

use super::*;

#[track_caller]
fn check(operation: &str, code: &str, cause: Cause, disposition: Disposition, applied: Applied) {
    let found = meaning(operation, ErrorCode::parse(Some(code), 400));
    assert_eq!(
        (found.cause, found.disposition, found.applied),
        (cause, disposition, applied),
        "{code}"
    );
}

#[test]
fn a_refused_pace_is_tried_again_and_changed_nothing() {
    for code in [
        "Throttling",
        "ThrottlingException",
        "RequestLimitExceeded",
        "ProvisionedThroughputExceededException",
        "RequestThrottled",
        "TooManyRequestsException",
        "SlowDown",
        "com.amazonaws.dynamodb.v20120810#ThrottlingException",
        "AWS.SimpleQueueService.OverLimit",
    ] {
        check("ec2:X", code, Cause::Throttled, Disposition::Retry, Applied::No);
    }
    check("dynamodb:X", "TransactionConflict", Cause::Conflict, Disposition::Retry, Applied::No);
    check(
        "dynamodb:X",
        "TransactionInProgressException",
        Cause::Conflict,
        Disposition::Retry,
        Applied::No,
    );
}

#[test]
fn no_capacity_is_not_aws_trouble_although_it_is_a_500() {
    for code in [
        "InsufficientInstanceCapacity",
        "InsufficientHostCapacity",
        "InsufficientReservedInstanceCapacity",
    ] {
        let found = meaning("ec2:StartInstances", ErrorCode::parse(Some(code), 500));
        assert_eq!(found.cause, Cause::Capacity);
        assert_eq!(found.disposition, Disposition::RetryAfter(CAPACITY_PAUSE));
        assert_eq!(found.applied, Applied::No);
    }
    let later = Disposition::RetryAfter(LIMIT_PAUSE);
    check("ec2:X", "InstanceLimitExceeded", Cause::Capacity, later, Applied::No);
    check("ec2:X", "VcpuLimitExceeded", Cause::Capacity, later, Applied::No);
    check("ec2:X", "Unsupported", Cause::Capacity, Disposition::Fail, Applied::No);
}

#[test]
fn a_full_subnet_and_a_used_up_reservation_are_missing_capacity() {
    let soon = Disposition::RetryAfter(CAPACITY_PAUSE);
    for code in [
        "InsufficientFreeAddressesInSubnet",
        "ReservationCapacityExceeded",
        "UnavailableHostRequirements",
    ] {
        check("ec2:RunInstances", code, Cause::Capacity, soon, Applied::No);
    }
}

#[test]
fn a_protected_machine_is_refused_with_what_to_do() {
    for (operation, part) in [
        ("ec2:StopInstances", "DisableApiStop"),
        ("ec2:StopInstances", "--no-disable-api-stop"),
        ("ec2:TerminateInstances", "DisableApiTermination"),
        ("ec2:TerminateInstances", "--no-disable-api-termination"),
        ("ec2:TerminateInstances", "--no-disable-api-stop"),
        ("ec2:StartInstances", "hibernates"),
    ] {
        check(operation, "OperationNotPermitted", Cause::Denied, Disposition::Fail, Applied::No);
        let words = "The instance 'i-0aaaaaaaaaaaaaaa1' may not be stopped.";
        let error = answered(operation, Some("OperationNotPermitted"), Some(words), 400, None);
        assert!(error.message.contains(part), "{error}");
    }
    let error =
        answered("ec2:StopInstances", Some("UnsupportedHibernationConfiguration"), None, 400, None);
    assert!(error.message.contains("hibernation"), "{error}");
}

#[test]
fn what_one_service_calls_unsupported_is_no_capacity_of_another() {
    let fail = Disposition::Fail;
    check("sqs:ReceiveMessage", "UnsupportedOperation", Cause::Invalid, fail, Applied::No);
    check("ec2:StopInstances", "UnsupportedOperation", Cause::Invalid, fail, Applied::No);
    let later = Disposition::RetryAfter(LIMIT_PAUSE);
    check("ec2:RunInstances", "UnsupportedOperation", Cause::Capacity, later, Applied::No);
}

#[test]
fn a_denied_call_fails_and_stale_credentials_are_fetched_anew() {
    for code in ["UnauthorizedOperation", "AccessDenied", "AccessDeniedException"] {
        check("ec2:X", code, Cause::Denied, Disposition::Fail, Applied::No);
    }
    for code in ["ExpiredToken", "UnrecognizedClientException", "InvalidClientTokenId"] {
        check("ec2:X", code, Cause::Denied, Disposition::Retry, Applied::No);
    }
}

#[test]
fn what_does_not_exist_is_told_apart() {
    check("ec2:X", "InvalidInstanceID.NotFound", Cause::NotFound, Disposition::Fail, Applied::No);
    check("ec2:X", "InvalidInstanceID.Malformed", Cause::Invalid, Disposition::Fail, Applied::No);
    check(
        "secretsmanager:X",
        "ResourceNotFoundException",
        Cause::NotFound,
        Disposition::Fail,
        Applied::No,
    );
    for (operation, code) in [
        ("dynamodb:PutItem", "ResourceNotFoundException"),
        ("sqs:ReceiveMessage", "AWS.SimpleQueueService.NonExistentQueue"),
        ("sqs:ReceiveMessage", "QueueDoesNotExist"),
    ] {
        check(operation, code, Cause::NotFound, Disposition::Retry, Applied::No);
        let error = answered(operation_static(operation), Some(code), Some("gone"), 400, None);
        assert!(error.message.contains("lamplighter setup"), "{error}");
    }
}

fn operation_static(operation: &str) -> &'static str {
    if operation.starts_with("sqs") { "sqs:ReceiveMessage" } else { "dynamodb:PutItem" }
}

#[test]
fn what_ecs_and_application_auto_scaling_refuse_has_its_cause() {
    let soon = Disposition::RetryAfter(STATE_PAUSE);
    for (code, cause, disposition) in [
        ("ServiceNotFoundException", Cause::NotFound, Disposition::Fail),
        ("ClusterNotFoundException", Cause::NotFound, Disposition::Fail),
        ("ServiceNotActiveException", Cause::NotFound, Disposition::Fail),
        ("AccessDeniedException", Cause::Denied, Disposition::Fail),
        ("InvalidParameterException", Cause::Invalid, Disposition::Fail),
        ("ClientException", Cause::Invalid, Disposition::Fail),
        ("PlatformUnknownException", Cause::Invalid, Disposition::Fail),
        ("UpdateInProgressException", Cause::Conflict, soon),
        ("ThrottlingException", Cause::Throttled, Disposition::Retry),
    ] {
        check("ecs:UpdateService", code, cause, disposition, Applied::No);
    }
    check(
        "ecs:UpdateService",
        "ServerException",
        Cause::Deadline,
        Disposition::Retry,
        Applied::Perhaps,
    );
    let register = "application-autoscaling:RegisterScalableTarget";
    for (code, cause, disposition) in [
        ("ValidationException", Cause::Invalid, Disposition::Fail),
        ("ObjectNotFoundException", Cause::NotFound, Disposition::Fail),
        ("FailedResourceAccessException", Cause::Denied, Disposition::Fail),
        ("ConcurrentUpdateException", Cause::Conflict, soon),
    ] {
        check(register, code, cause, disposition, Applied::No);
    }
    check("cloudwatch:X", "InvalidNextToken", Cause::Invalid, Disposition::Fail, Applied::No);
    check(
        "cloudwatch:X",
        "InternalServiceFault",
        Cause::Deadline,
        Disposition::Retry,
        Applied::Perhaps,
    );
}

#[test]
fn a_denied_call_says_which_right_is_lacking() {
    for operation in [
        "ecs:DescribeServices",
        "ecs:UpdateService",
        "ecs:ListTasks",
        "ecs:DescribeTasks",
        "application-autoscaling:DescribeScalableTargets",
        "application-autoscaling:RegisterScalableTarget",
        "cloudwatch:GetMetricData",
    ] {
        let error = answered(operation, Some("AccessDeniedException"), None, 400, None);
        assert!(error.message.contains(&format!("lacks {operation}")), "{error}");
    }
}

#[test]
fn a_machine_in_another_state_is_asked_again_soon() {
    let soon = Disposition::RetryAfter(STATE_PAUSE);
    check("ec2:X", "IncorrectInstanceState", Cause::Conflict, soon, Applied::No);
    let soon = Disposition::RetryAfter(AGENT_PAUSE);
    check("ssm:X", "InvalidInstanceId", Cause::AgentUnreachable, soon, Applied::No);
    check("ssm:X", "InvalidDocument", Cause::Invalid, Disposition::Fail, Applied::No);
}

#[test]
fn aws_trouble_may_have_had_its_effect() {
    for code in ["InternalError", "ServiceUnavailable", "Unavailable", "InternalServerError"] {
        check("ec2:X", code, Cause::Deadline, Disposition::Retry, Applied::Perhaps);
    }
    for (status, applied) in [
        (500, Applied::Perhaps),
        (503, Applied::Perhaps),
        (408, Applied::Perhaps),
        (400, Applied::No),
        (418, Applied::No),
    ] {
        let found = meaning("ec2:X", ErrorCode::parse(Some("Novel"), status));
        assert_eq!(found.applied, applied, "{status}");
    }
    assert_eq!(meaning("ec2:X", ErrorCode::parse(None, 429)).cause, Cause::Throttled);
    assert_eq!(meaning("ec2:X", ErrorCode::parse(None, 403)).disposition, Disposition::Fail);
}

#[test]
fn every_known_code_reads_back_and_has_a_meaning() {
    for (text, code) in ErrorCode::TEXTS {
        assert_eq!(ErrorCode::parse(Some(text), 400), *code, "{text}");
        // Only AWS's own trouble leaves it open whether the call had its effect.
        let open = meaning("ec2:X", *code).applied == Applied::Perhaps;
        assert_eq!(open, *code == ErrorCode::Internal, "{text}");
    }
}

#[test]
fn a_message_is_cut_and_keeps_no_encoded_authorization() {
    let error = answered(
        "ec2:StartInstances",
        Some("UnauthorizedOperation"),
        Some("You are not authorized. Encoded authorization failure message: AbCdEf"),
        403,
        Some("r-1"),
    );
    assert_eq!(error.message, "UnauthorizedOperation: You are not authorized. (request r-1)");
    assert_eq!(cut(&"x".repeat(5000)).chars().count(), MESSAGE_CHARS_MAX + 1);
}

#[test]
fn a_refused_connection_never_left_and_a_reset_may_have() {
    let refused = std::io::Error::from(std::io::ErrorKind::ConnectionRefused);
    assert_eq!(silence(&refused), Silence::NotSent);
    let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
    assert_eq!(silence(&reset), Silence::Lost);
}
