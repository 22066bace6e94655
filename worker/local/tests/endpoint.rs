//! The endpoint over real HTTP, through the AWS SDK and through plain requests.

// The lint's own exception knows test functions, not the helpers beside them.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_eventbridge::types::{PutEventsRequestEntry, Target};
use aws_sdk_sqs::types::{
    MessageAttributeValue, MessageSystemAttributeName, QueueAttributeName,
    SendMessageBatchRequestEntry,
};
use lamplighter_local::{Endpoint, LocalError, MachineSeed, Options, SecretSeed, Timings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const MACHINE: &str = "i-0aaaaaaaaaaaaaaa1";

fn options() -> Options {
    let timings = r#"{"boot":"300ms","stop":"200ms","agent":"100ms","command":"50ms",
                      "invocation":"0s"}"#;
    let machine = format!(r#"{{"id":"{MACHINE}","name":"keeper","units":{{"keeper":{{}}}}}}"#);
    Options {
        timings: serde_json::from_str::<Timings>(timings).unwrap(),
        machines: vec![serde_json::from_str::<MachineSeed>(&machine).unwrap()],
        seed: Some(1),
        ..Options::default()
    }
}

fn config(endpoint: &Endpoint, key: &str) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("eu-central-1"))
        .endpoint_url(endpoint.url())
        .retry_config(RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            key, "secret", None, None, "test",
        )))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

/// A plain request; the answer's status and body.
async fn plain(
    endpoint: &Endpoint,
    method: &str,
    path: &str,
    host: &str,
    body: &str,
) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).await.unwrap();
    let request = format!(
        "{method} /_lamplighter{path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

async fn queue(sqs: &aws_sdk_sqs::Client, name: &str) -> String {
    sqs.create_queue().queue_name(name).send().await.unwrap().queue_url.unwrap()
}

#[tokio::test]
async fn a_long_poll_wakes_when_a_message_arrives_and_the_sums_are_right() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&config(&endpoint, "a"));
    let url = queue(&sqs, "q").await;
    let receive = sqs
        .receive_message()
        .queue_url(&url)
        .wait_time_seconds(20)
        .message_attribute_names("All")
        .message_system_attribute_names(MessageSystemAttributeName::All)
        .send();
    let send = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        let attribute = MessageAttributeValue::builder().data_type("String").string_value("v");
        sqs.send_message()
            .queue_url(&url)
            .message_body("{\"ä\":1}")
            .message_attributes("a", attribute.build().unwrap())
            .send()
            .await
            .unwrap()
    };
    let began = Instant::now();
    let (received, sent) = tokio::join!(receive, send);
    assert!(began.elapsed() < Duration::from_secs(2), "the poll did not wake");
    let messages = received.unwrap().messages.unwrap();
    assert_eq!(messages[0].message_id, sent.message_id);
    assert_eq!(messages[0].md5_of_message_attributes, sent.md5_of_message_attributes);
    let count = MessageSystemAttributeName::ApproximateReceiveCount;
    assert_eq!(messages[0].attributes.as_ref().unwrap()[&count], "1");
    let entry = |id: &str, delay| {
        SendMessageBatchRequestEntry::builder()
            .id(id)
            .message_body("b")
            .delay_seconds(delay)
            .build()
    };
    let batch = sqs
        .send_message_batch()
        .queue_url(&url)
        .entries(entry("good", 900).unwrap())
        .entries(entry("bad", 901).unwrap())
        .send()
        .await
        .unwrap();
    assert_eq!(batch.successful[0].id, "good");
    assert_eq!(batch.failed[0].code, "InvalidParameterValue");
    let gone = sqs.purge_queue().queue_url("http://x/0/none").send().await.unwrap_err();
    assert!(gone.into_service_error().is_queue_does_not_exist());
    endpoint.shutdown().await;
}

#[tokio::test]
async fn a_machine_starts_tells_the_queue_runs_a_script_and_stops() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let config = config(&endpoint, "a");
    let sqs = aws_sdk_sqs::Client::new(&config);
    let (ec2, ssm) = (aws_sdk_ec2::Client::new(&config), aws_sdk_ssm::Client::new(&config));
    let events = aws_sdk_eventbridge::Client::new(&config);
    let url = queue(&sqs, "signals").await;
    let pattern = r#"{"source":["aws.ec2"],"detail":{"state":["running","stopped"]}}"#;
    events.put_rule().name("signals").event_pattern(pattern).send().await.unwrap();
    let target = Target::builder().id("q").arn("arn:aws:sqs:us-east-1:000000000000:signals");
    events.put_targets().rule("signals").targets(target.build().unwrap()).send().await.unwrap();

    let started = ec2.start_instances().instance_ids(MACHINE).send().await.unwrap();
    let change = &started.starting_instances()[0];
    assert_eq!(change.current_state().unwrap().name().unwrap().as_str(), "pending");
    let early = ec2.stop_instances().instance_ids(MACHINE).send().await.unwrap_err();
    assert_eq!(early.code(), Some("IncorrectInstanceState"));
    let unknown = ec2.start_instances().instance_ids("i-0bbbbbbbbbbbbbbb2").send().await;
    let unknown = unknown.unwrap_err();
    assert_eq!(unknown.code(), Some("InvalidInstanceID.NotFound"));
    assert_eq!(unknown.message(), Some("The instance ID 'i-0bbbbbbbbbbbbbbb2' does not exist"));

    let signal = sqs.receive_message().queue_url(&url).wait_time_seconds(5).send().await.unwrap();
    let body = signal.messages()[0].body().unwrap();
    assert!(body.contains(r#""state":"running""#), "{body}");
    let described = ec2.describe_instances().instance_ids(MACHINE).send().await.unwrap();
    let instance = &described.reservations()[0].instances()[0];
    assert_eq!(instance.state().unwrap().name().unwrap().as_str(), "running");
    assert!(instance.public_ip_address().is_some() && instance.launch_time().is_some());

    let script = ["token='t1'\nunit='keeper.service'".to_owned()];
    for _ in 0..2 {
        let sent = ssm
            .send_command()
            .instance_ids(MACHINE)
            .document_name("AWS-RunShellScript")
            .parameters("commands", script.to_vec())
            .send()
            .await
            .unwrap();
        let id = sent.command().unwrap().command_id().unwrap().to_owned();
        let deadline = Instant::now() + Duration::from_secs(5);
        let result = loop {
            let asked = ssm.get_command_invocation().command_id(&id).instance_id(MACHINE);
            let result = asked.send().await.unwrap();
            if result.status().unwrap().as_str() == "Success" || Instant::now() > deadline {
                break result;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert_eq!(result.standard_output_content(), Some("active\n"));
    }
    assert_eq!(endpoint.world(|world, _| world.commands.executions("t1")), 1);

    ec2.stop_instances().instance_ids(MACHINE).send().await.unwrap();
    let signal = sqs.receive_message().queue_url(&url).wait_time_seconds(5).send().await.unwrap();
    assert!(signal.messages()[0].body().unwrap().contains(r#""state":"stopped""#));
    let described = ec2.describe_instances().instance_ids(MACHINE).send().await.unwrap();
    let instance = &described.reservations()[0].instances()[0];
    assert!(instance.state_transition_reason().unwrap().starts_with("User initiated ("));
    let reason = instance.state_reason().unwrap().code();
    assert_eq!(reason, Some("Client.UserInitiatedShutdown"));

    let entry = PutEventsRequestEntry::builder().source("lamplighter").detail_type("X");
    let good = entry.clone().detail("{}").build();
    let put = events.put_events().entries(good).entries(entry.detail("no").build());
    let put = put.send().await.unwrap();
    assert_eq!(put.failed_entry_count(), 1);
    assert_eq!(put.entries()[1].error_code(), Some("MalformedDetail"));
    endpoint.shutdown().await;
}

#[tokio::test]
async fn what_a_policy_does_not_allow_is_denied_as_each_service_says_it() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let config = config(&endpoint, "worker");
    let (sqs, ec2) = (aws_sdk_sqs::Client::new(&config), aws_sdk_ec2::Client::new(&config));
    let url = queue(&sqs, "q").await;
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"sqs:SendMessage","Resource":"arn:aws:sqs:us-east-1:*:q"},
        {"Effect":"Allow","Action":"ec2:StartInstances","Resource":"*",
         "Condition":{"StringEquals":{"ec2:ResourceTag/Name":"keeper"}}}]}"#;
    let (status, _) = plain(&endpoint, "PUT", "/policy", "localhost", policy).await;
    assert_eq!(status, 200);
    sqs.send_message().queue_url(&url).message_body("b").send().await.unwrap();
    let denied = sqs.purge_queue().queue_url(&url).send().await.unwrap_err();
    assert_eq!(denied.code(), Some("AccessDenied"), "SQS says it in its older way");
    assert!(denied.message().unwrap().contains("sqs:PurgeQueue"), "{denied:?}");
    ec2.start_instances().instance_ids(MACHINE).send().await.unwrap();
    let denied = ec2.describe_instances().send().await.unwrap_err();
    assert_eq!(denied.code(), Some("UnauthorizedOperation"));
    assert!(denied.message().unwrap().contains("ec2:DescribeInstances"), "{denied:?}");
    plain(&endpoint, "DELETE", "/policy", "localhost", "").await;
    ec2.describe_instances().send().await.unwrap();
    endpoint.shutdown().await;
}

#[tokio::test]
async fn faults_strike_before_or_after_the_work_and_every_call_is_logged() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&config(&endpoint, "a"));
    let url = queue(&sqs, "q").await;
    let faults = r#"[{"service":"sqs","operation":"SendMessage","kind":"throttle","count":1},
                     {"service":"sqs","operation":"SendMessage","kind":"after","count":1}]"#;
    assert_eq!(plain(&endpoint, "PUT", "/faults", "127.0.0.1", faults).await.0, 200);
    let send = || sqs.send_message().queue_url(&url).message_body("secret-body").send();
    assert_eq!(send().await.unwrap_err().code(), Some("RequestThrottled"));
    assert_eq!(send().await.unwrap_err().code(), Some("InternalError"));
    send().await.unwrap();
    let waiting = endpoint.world(|world, now| world.queues.get("q").unwrap().counts(now).visible);
    assert_eq!(waiting, 2, "the lost answer's message was sent all the same");
    let (_, counts) = plain(&endpoint, "GET", "/counts", "127.0.0.1", "").await;
    assert!(counts.contains(r#""sqs:SendMessage":3"#), "{counts}");
    let (_, calls) = plain(&endpoint, "GET", "/calls?since=1", "127.0.0.1", "").await;
    assert!(calls.contains("RequestThrottled") && !calls.contains("secret-body"), "{calls}");
    endpoint.shutdown().await;
}

/// What SendMessage looks like on the wire, for a test that looks at the connection itself.
fn send_message(url: &str) -> String {
    let body = format!(r#"{{"QueueUrl":"{url}","MessageBody":"b"}}"#);
    format!(
        "POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Amz-Target: AmazonSQS.SendMessage\r\n\
         Authorization: AWS4-HMAC-SHA256 Credential=raw/20261120/us-east-1/sqs/aws4_request, \
         SignedHeaders=host, Signature=0\r\nContent-Type: application/x-amz-json-1.0\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// The calls of this access key, once there are `count`.
async fn calls_of_raw(endpoint: &Endpoint, count: usize) -> Vec<serde_json::Value> {
    for _ in 0..100 {
        let (_, calls) = plain(endpoint, "GET", "/calls", "127.0.0.1", "").await;
        let calls: serde_json::Value = serde_json::from_str(&calls).unwrap();
        let all = calls["calls"].as_array().unwrap().iter();
        let ours: Vec<_> = all.filter(|call| call["access_key"] == "raw").cloned().collect();
        if ours.len() == count {
            return ours;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("never {count} calls");
}

#[tokio::test]
async fn a_cut_answer_closes_the_connection_without_a_byte_and_a_slow_one_comes() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&config(&endpoint, "a"));
    let url = queue(&sqs, "q").await;
    let faults = r#"[{"operation":"SendMessage","kind":"cut","count":1},
                     {"operation":"SendMessage","kind":"slow","hold":"200ms","count":1},
                     {"operation":"SendMessage","kind":"slow","hold":"60s","count":1}]"#;
    assert_eq!(plain(&endpoint, "PUT", "/faults", "127.0.0.1", faults).await.0, 200);
    let request = send_message(&url);
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut said = Vec::new();
    // A reset is as good an end as any; what counts is that nothing was said.
    let _ = stream.read_to_end(&mut said).await;
    assert_eq!(String::from_utf8_lossy(&said), "");

    let began = Instant::now();
    sqs.send_message().queue_url(&url).message_body("b").send().await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "it came at once");

    // Whoever does not wait for the third is in the log all the same.
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    for waited in 0.. {
        let sent = endpoint.world(|world, now| world.queues.get("q").unwrap().counts(now).visible);
        if sent == 3 {
            break;
        }
        assert!(waited < 100, "{sent} messages");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    drop(stream);
    let calls = calls_of_raw(&endpoint, 2).await;
    assert_eq!((&calls[0]["outcome"], &calls[0]["done"]), (&"cut".into(), &true.into()));
    assert_eq!((&calls[1]["outcome"], &calls[1]["done"]), (&"gone".into(), &true.into()));
    endpoint.shutdown().await;
}

#[tokio::test]
async fn a_machine_counts_how_often_it_was_started_and_stopped() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let ec2 = aws_sdk_ec2::Client::new(&config(&endpoint, "a"));
    let start = || ec2.start_instances().instance_ids(MACHINE).send();
    start().await.unwrap();
    start().await.unwrap();
    tokio::time::sleep(Duration::from_millis(350)).await;
    ec2.stop_instances().instance_ids(MACHINE).send().await.unwrap();
    let path = format!("/machines/{MACHINE}");
    let (_, machine) = plain(&endpoint, "GET", &path, "127.0.0.1", "").await;
    let machine: serde_json::Value = serde_json::from_str(&machine).unwrap();
    assert_eq!((&machine["starts"], &machine["stops"]), (&1.into(), &1.into()), "{machine}");
    endpoint.shutdown().await;
}

#[tokio::test]
async fn the_console_answers_to_this_machine_alone_and_says_what_is_wrong() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let one = format!("/machines/{MACHINE}");
    let rows: [(&str, String, &str, &str, u16, &str); 9] = [
        ("GET", "/health".into(), "localhost", "", 200, "ok"),
        ("GET", "/health".into(), "evil.example", "", 403, "loopback"),
        ("GET", "/machines".into(), "127.0.0.1:1", "", 200, "\"stopped\""),
        ("GET", "/machines/i-9".into(), "localhost", "", 404, "no machine i-9"),
        ("POST", format!("{one}/stop"), "localhost", "", 200, "stopped"),
        ("POST", format!("{one}/fly"), "localhost", "", 404, "expected start, stop"),
        ("PUT", one.clone(), "localhost", r#"{"bouncy":1}"#, 400, "unknown field `bouncy`"),
        ("PUT", one.clone(), "localhost", r#"{"bounce":"50ms"}"#, 200, "bounce"),
        ("PUT", "/faults".into(), "localhost", "{", 400, "cannot be read"),
    ];
    for (method, path, host, body, status, part) in rows {
        let (got, text) = plain(&endpoint, method, &path, host, body).await;
        assert_eq!(got, status, "{method} {path}: {text}");
        assert!(text.contains(part) || part == "loopback", "{method} {path}: {text}");
    }
    plain(&endpoint, "POST", &format!("{one}/start"), "localhost", "").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
    let reason = endpoint.world(|world, _| {
        let machine = world.machines.get(MACHINE).unwrap();
        (machine.state().name(), machine.view.state_reason.clone().unwrap().0)
    });
    assert_eq!(reason, ("stopped", "Client.InternalError".to_owned()));
    endpoint.shutdown().await;
}

#[tokio::test]
async fn everything_survives_a_restart_and_a_damaged_world_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let arn = "arn:aws:secretsmanager:us-east-1:000000000000:secret:pk-AbCdEf";
    let secrets = vec![SecretSeed { id: arn.into(), value: "{}".into() }];
    let kept = || Options { data: Some(dir.path().into()), secrets: secrets.clone(), ..options() };
    let endpoint = Endpoint::start(kept()).await.unwrap();
    let taken = Endpoint::start(Options { port: endpoint.port(), ..options() }).await;
    assert!(matches!(taken, Err(LocalError::PortTaken { port, .. }) if port == endpoint.port()));
    let sdk = config(&endpoint, "a");
    let (sqs, ec2) = (aws_sdk_sqs::Client::new(&sdk), aws_sdk_ec2::Client::new(&sdk));
    let url = queue(&sqs, "q").await;
    sqs.send_message().queue_url(&url).message_body("kept").send().await.unwrap();
    ec2.start_instances().instance_ids(MACHINE).send().await.unwrap();
    make_table(&aws_sdk_dynamodb::Client::new(&sdk)).await;
    let began = Instant::now();
    endpoint.shutdown().await;
    assert!(began.elapsed() < Duration::from_secs(4), "shutting down took too long");

    let endpoint = Endpoint::start(kept()).await.unwrap();
    let sdk = config(&endpoint, "a");
    let sqs = aws_sdk_sqs::Client::new(&sdk);
    let url = sqs.get_queue_url().queue_name("q").send().await.unwrap().queue_url.unwrap();
    let received = sqs.receive_message().queue_url(&url).send().await.unwrap();
    assert_eq!(received.messages()[0].body(), Some("kept"));
    tokio::time::sleep(Duration::from_millis(350)).await;
    let state = endpoint.world(|world, _| world.machines.get(MACHINE).unwrap().state().name());
    assert_eq!(state, "running", "a start that was under way went on");
    let dynamodb = aws_sdk_dynamodb::Client::new(&sdk);
    let key = aws_sdk_dynamodb::types::AttributeValue::S("a".into());
    let item = dynamodb.get_item().table_name("t").key("pk", key).send().await.unwrap();
    assert!(item.item().is_some());
    let secrets = aws_sdk_secretsmanager::Client::new(&sdk);
    secrets.get_secret_value().secret_id(arn).send().await.unwrap();
    endpoint.shutdown().await;

    std::fs::write(dir.path().join("world.json"), "{\"version\":1").unwrap();
    let refused = Endpoint::start(kept()).await.unwrap_err();
    assert!(matches!(refused, LocalError::Damaged { .. }), "{refused}");
}

#[tokio::test]
async fn what_is_answered_while_it_closes_is_kept_too() {
    let dir = tempfile::tempdir().unwrap();
    let kept = || Options { data: Some(dir.path().into()), ..options() };
    let endpoint = Endpoint::start(kept()).await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&config(&endpoint, "a"));
    let url = queue(&sqs, "q").await;
    plain(&endpoint, "PUT", "/latency", "127.0.0.1", r#"{"base":"500ms"}"#).await;
    let send = tokio::spawn(sqs.send_message().queue_url(&url).message_body("kept").send());
    tokio::time::sleep(Duration::from_millis(200)).await;
    endpoint.shutdown().await;
    send.await.unwrap().unwrap();

    let endpoint = Endpoint::start(kept()).await.unwrap();
    let waiting = endpoint.world(|world, now| world.queues.get("q").unwrap().counts(now).visible);
    assert_eq!(waiting, 1);
    endpoint.shutdown().await;
}

async fn make_table(dynamodb: &aws_sdk_dynamodb::Client) {
    use aws_sdk_dynamodb::types::{
        AttributeDefinition, AttributeValue, BillingMode, KeySchemaElement, KeyType,
        ScalarAttributeType,
    };
    let key = KeySchemaElement::builder().attribute_name("pk").key_type(KeyType::Hash);
    let attribute =
        AttributeDefinition::builder().attribute_name("pk").attribute_type(ScalarAttributeType::S);
    dynamodb
        .create_table()
        .table_name("t")
        .billing_mode(BillingMode::PayPerRequest)
        .key_schema(key.build().unwrap())
        .attribute_definitions(attribute.build().unwrap())
        .send()
        .await
        .unwrap();
    let put = || {
        dynamodb
            .put_item()
            .table_name("t")
            .item("pk", AttributeValue::S("a".into()))
            .condition_expression("attribute_not_exists(pk)")
            .send()
    };
    put().await.unwrap();
    let refused = put().await.unwrap_err().into_service_error();
    assert!(refused.is_conditional_check_failed_exception());
}

#[tokio::test]
async fn a_spent_message_goes_to_the_dead_letter_queue() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let sqs = aws_sdk_sqs::Client::new(&config(&endpoint, "a"));
    let dead = queue(&sqs, "dead").await;
    let redrive = r#"{"deadLetterTargetArn":"arn:aws:sqs:us-east-1:000000000000:dead","maxReceiveCount":"1"}"#;
    let made = sqs
        .create_queue()
        .queue_name("q")
        .attributes(QueueAttributeName::RedrivePolicy, redrive)
        .attributes(QueueAttributeName::VisibilityTimeout, "0");
    let url = made.send().await.unwrap().queue_url.unwrap();
    sqs.send_message().queue_url(&url).message_body("b").send().await.unwrap();
    let mut came = BTreeMap::new();
    for (queue, name) in [(&url, "first"), (&url, "second"), (&dead, "dead")] {
        let received = sqs.receive_message().queue_url(queue).send().await.unwrap();
        came.insert(name, received.messages().len());
    }
    assert_eq!(came, BTreeMap::from([("first", 1), ("second", 0), ("dead", 1)]));
    endpoint.shutdown().await;
}
