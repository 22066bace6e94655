//! Launching over real HTTP, through the AWS SDK: templates, machines, what is refused, and the rights to it.

// The lint's own exception knows test functions, not the helpers beside them.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region, SdkConfig, retry::RetryConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_sdk_ec2::error::ProvideErrorMetadata as _;
use aws_sdk_ec2::operation::run_instances::builders::RunInstancesFluentBuilder;
use aws_sdk_ec2::types::{
    Filter, Instance, InstanceMarketOptionsRequest, InstanceType,
    LaunchTemplateBlockDeviceMappingRequest, LaunchTemplateEbsBlockDeviceRequest,
    LaunchTemplateIamInstanceProfileSpecificationRequest,
    LaunchTemplateInstanceNetworkInterfaceSpecificationRequest, LaunchTemplateSpecification,
    MarketType, RequestLaunchTemplateData, ResourceType, Tag, TagSpecification,
};
use lamplighter_local::{Endpoint, LaunchTemplateSeed, Options, Timings};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const TEMPLATE: &str = "lt-0123456789abcdef0";
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    let timings = r#"{"boot":"100ms","stop":"50ms","terminate":"50ms","agent":"50ms",
                      "command":"20ms","bootstrap":"50ms","invocation":"0s"}"#;
    let seed = format!(
        r#"{{"id":"{TEMPLATE}","name":"gpu","versions":{{"1":{{"security_groups":["sg-0a"],
            "tags":{{"Name":"gpu"}},"volume_gib":30}}}}}}"#
    );
    Options {
        timings: serde_json::from_str::<Timings>(timings).unwrap(),
        launch_templates: vec![serde_json::from_str::<LaunchTemplateSeed>(&seed).unwrap()],
        subnets: vec!["subnet-0a".to_owned(), "subnet-0b".to_owned()],
        documents: vec!["Fleet-Setup".to_owned()],
        seed: Some(1),
        ..Options::default()
    }
}

fn config(endpoint: &Endpoint) -> SdkConfig {
    SdkConfig::builder()
        .behavior_version(BehaviorVersion::latest())
        .region(Region::new("us-east-1"))
        .endpoint_url(endpoint.url())
        .retry_config(RetryConfig::disabled())
        .credentials_provider(SharedCredentialsProvider::new(Credentials::new(
            "worker", "secret", None, None, "test",
        )))
        .http_client(aws_smithy_http_client::Builder::new().build_http())
        .build()
}

async fn started(options: Options) -> (Endpoint, aws_sdk_ec2::Client) {
    let endpoint = Endpoint::start(options).await.unwrap();
    let client = aws_sdk_ec2::Client::new(&config(&endpoint));
    (endpoint, client)
}

/// A request to the console; the answer's status and body.
async fn control(endpoint: &Endpoint, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).await.unwrap();
    let request = format!(
        "{method} /_lamplighter{path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let status = answer.split(' ').nth(1).unwrap().parse().unwrap();
    (status, answer.split_once("\r\n\r\n").unwrap().1.to_owned())
}

fn launch(ec2: &aws_sdk_ec2::Client, token: &str) -> RunInstancesFluentBuilder {
    let template = LaunchTemplateSpecification::builder().launch_template_id(TEMPLATE).build();
    let run = ec2.run_instances().launch_template(template).min_count(1).max_count(1);
    run.client_token(token)
}

fn tags(kind: ResourceType, key: &str, value: &str) -> TagSpecification {
    let tag = Tag::builder().key(key).value(value).build();
    TagSpecification::builder().resource_type(kind).tags(tag).build()
}

async fn launched(run: RunInstancesFluentBuilder) -> Instance {
    run.send().await.unwrap().instances()[0].clone()
}

fn state(instance: &Instance) -> &str {
    instance.state().unwrap().name().unwrap().as_str()
}

/// Describes a machine until it is in this state.
async fn until(ec2: &aws_sdk_ec2::Client, id: &str, expected: &str) -> Instance {
    let began = Instant::now();
    loop {
        let described = ec2.describe_instances().instance_ids(id).send().await.unwrap();
        let instance = described.reservations()[0].instances()[0].clone();
        if state(&instance) == expected {
            return instance;
        }
        assert!(began.elapsed() < PATIENCE, "{instance:?} never became {expected}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

fn tag<'a>(instance: &'a Instance, key: &str) -> Option<&'a str> {
    instance.tags().iter().find(|tag| tag.key() == Some(key)).and_then(|tag| tag.value())
}

#[tokio::test]
async fn a_machine_is_launched_once_found_by_its_token_and_terminated() {
    let (endpoint, ec2) = started(options()).await;
    let run = || {
        launch(&ec2, "t-1")
            .subnet_id("subnet-0b")
            .instance_type(InstanceType::from("g5.xlarge"))
            .tag_specifications(tags(ResourceType::Instance, "lamplighter:target", "gpu"))
            .tag_specifications(tags(ResourceType::Volume, "lamplighter:target", "gpu"))
    };
    let instance = launched(run()).await;
    assert_eq!(state(&instance), "pending");
    assert_eq!(instance.client_token(), Some("t-1"));
    assert_eq!(instance.instance_type().unwrap().as_str(), "g5.xlarge");
    assert_eq!(instance.subnet_id(), Some("subnet-0b"));
    assert_eq!(instance.security_groups()[0].group_id(), Some("sg-0a"));
    assert!(instance.instance_lifecycle().is_none());
    assert!(instance.iam_instance_profile().is_some());
    assert_eq!(tag(&instance, "Name"), Some("gpu"));
    assert_eq!(tag(&instance, "lamplighter:target"), Some("gpu"));
    assert_eq!(tag(&instance, "aws:ec2launchtemplate:id"), Some(TEMPLATE));
    assert_eq!(tag(&instance, "aws:ec2launchtemplate:version"), Some("1"));
    let id = instance.instance_id().unwrap();
    assert_eq!(launched(run()).await.instance_id(), Some(id));
    let other = run().subnet_id("subnet-0a").send().await.unwrap_err();
    assert_eq!(other.code(), Some("IdempotentParameterMismatch"));
    let running = until(&ec2, id, "running").await;
    assert!(running.public_ip_address().is_some());

    let found = |name: &str, value: &str| {
        let filter = Filter::builder().name(name).values(value).build();
        let sent = ec2.describe_instances().filters(filter).send();
        async move {
            let found = sent.await.unwrap();
            found.reservations().iter().map(|it| it.instances().len()).sum::<usize>()
        }
    };
    let rows = [
        ("client-token", "t-1", 1),
        ("client-token", "t-2", 0),
        ("instance-lifecycle", "spot", 0),
        ("tag:lamplighter:target", "gpu", 1),
        ("tag:aws:ec2launchtemplate:id", TEMPLATE, 1),
        ("subnet-id", "subnet-0b", 1),
        ("subnet-id", "subnet-0a", 0),
    ];
    for (name, value, expected) in rows {
        assert_eq!(found(name, value).await, expected, "{name} {value}");
    }

    for _ in 0..2 {
        ec2.terminate_instances().instance_ids(id).send().await.unwrap();
        let ended = until(&ec2, id, "terminated").await;
        let reason = ended.state_reason().unwrap();
        assert_eq!(reason.code(), Some("Client.UserInitiatedShutdown"));
        assert!(ended.private_ip_address().is_none() && ended.subnet_id().is_none());
    }
    let again = launched(run()).await;
    assert_eq!((again.instance_id(), state(&again)), (Some(id), "terminated"));
    let (_, counts) = control(&endpoint, "GET", "/launches", "").await;
    let counts: Value = serde_json::from_str(&counts).unwrap();
    assert_eq!(counts["launched"]["t-1"], 1);
    assert_eq!(counts["refused"]["IdempotentParameterMismatch"], 1);
    let (_, calls) = control(&endpoint, "GET", "/calls", "").await;
    assert!(calls.contains(&format!("{TEMPLATE}, t-1")), "{calls}");
    endpoint.shutdown().await;
}

#[tokio::test]
async fn a_spot_machine_is_taken_back() {
    let timings = Timings { spot_notice: jiff::SignedDuration::ZERO, ..options().timings };
    let (endpoint, ec2) = started(Options { timings, ..options() }).await;
    let market = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
    let spot = launched(launch(&ec2, "s").instance_market_options(market)).await;
    assert_eq!(spot.instance_lifecycle().unwrap().as_str(), "spot");
    let id = spot.instance_id().unwrap();
    until(&ec2, id, "running").await;
    let stop = ec2.stop_instances().instance_ids(id).send().await.unwrap_err();
    assert_eq!(stop.code(), Some("UnsupportedOperation"));
    let path = format!("/machines/{id}/interrupt");
    assert_eq!(control(&endpoint, "POST", &path, "").await.0, 200);
    let ended = until(&ec2, id, "terminated").await;
    assert_eq!(ended.state_reason().unwrap().code(), Some("Server.SpotInstanceTermination"));
    assert_eq!(control(&endpoint, "POST", &path, "").await.0, 409);
    endpoint.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_launched_is_refused_with_its_code() {
    let (endpoint, ec2) = started(options()).await;
    let template = |builder: aws_sdk_ec2::types::builders::LaunchTemplateSpecificationBuilder| {
        launch(&ec2, "t").launch_template(builder.build())
    };
    let by = LaunchTemplateSpecification::builder;
    let name = by().launch_template_name("gpu");
    let rows = [
        (template(by().launch_template_id("lt-0aaaaaaaa")), "InvalidLaunchTemplateId.NotFound"),
        (
            template(by().launch_template_name("none")),
            "InvalidLaunchTemplateName.NotFoundException",
        ),
        (template(name.clone().version("7")), "InvalidLaunchTemplateId.VersionNotFound"),
        (template(name.clone().launch_template_id(TEMPLATE)), "InvalidParameterCombination"),
        (template(by()), "MissingParameter"),
        (ec2.run_instances().min_count(1).max_count(1), "MissingParameter"),
        (launch(&ec2, "t").subnet_id("subnet-0c"), "InvalidSubnetID.NotFound"),
        (launch(&ec2, &"x".repeat(65)), "InvalidParameterValue"),
        (launch(&ec2, "t").max_count(0), "InvalidParameterValue"),
        (launch(&ec2, "t").user_data("x"), "UnsupportedOperation"),
        (launch(&ec2, "t").dry_run(true), "DryRunOperation"),
        (
            launch(&ec2, "t").tag_specifications(tags(ResourceType::Vpc, "a", "b")),
            "InvalidParameterValue",
        ),
    ];
    for (run, code) in rows {
        let error = run.send().await.unwrap_err();
        assert_eq!(error.code(), Some(code), "{error:?}");
    }
    let shortages = r#"[{"of":"subnet-0a","times":1},{"of":"spot","refusal":"spot-count"}]"#;
    assert_eq!(control(&endpoint, "PUT", "/shortages", shortages).await.0, 200);
    let bad = control(&endpoint, "PUT", "/shortages", r#"[{"of":"most"}]"#).await;
    assert!(bad.0 == 400 && bad.1.contains("expected"), "{bad:?}");
    let into = || launch(&ec2, "t").subnet_id("subnet-0a");
    let error = into().send().await.unwrap_err();
    assert_eq!(error.code(), Some("InsufficientInstanceCapacity"));
    assert_eq!(error.raw_response().unwrap().status().as_u16(), 500);
    launched(into()).await;
    let market = InstanceMarketOptionsRequest::builder().market_type(MarketType::Spot).build();
    let error = launch(&ec2, "u").instance_market_options(market).send().await.unwrap_err();
    assert_eq!(error.code(), Some("MaxSpotInstanceCountExceeded"));
    endpoint.shutdown().await;
}

#[tokio::test]
async fn templates_are_made_described_and_launched_from() {
    let (endpoint, ec2) = started(options()).await;
    let interface = LaunchTemplateInstanceNetworkInterfaceSpecificationRequest::builder()
        .device_index(0)
        .associate_public_ip_address(false)
        .subnet_id("subnet-0a")
        .groups("sg-0b");
    let profile = LaunchTemplateIamInstanceProfileSpecificationRequest::builder().name("agents");
    let volume = LaunchTemplateEbsBlockDeviceRequest::builder().volume_size(50).build();
    let volume = LaunchTemplateBlockDeviceMappingRequest::builder().ebs(volume);
    let data = RequestLaunchTemplateData::builder()
        .image_id("ami-0b")
        .instance_type(InstanceType::from("m5.large"))
        .iam_instance_profile(profile.build())
        .block_device_mappings(volume.build());
    let create = |name: &str, data: RequestLaunchTemplateData| {
        ec2.create_launch_template().launch_template_name(name).launch_template_data(data).send()
    };
    let with_interface = data.clone().network_interfaces(interface.build()).build();
    let made = create("web", with_interface).await.unwrap().launch_template.unwrap();
    assert_eq!((made.default_version_number(), made.latest_version_number()), (Some(1), Some(1)));
    let taken = create("web", data.clone().build()).await.unwrap_err();
    assert_eq!(taken.code(), Some("InvalidLaunchTemplateName.AlreadyExistsException"));
    let second = ec2
        .create_launch_template_version()
        .launch_template_name("web")
        .version_description("plain")
        .launch_template_data(data.security_group_ids("sg-0c").build())
        .send()
        .await
        .unwrap();
    assert_eq!(second.launch_template_version().unwrap().version_number(), Some(2));

    let listed = ec2.describe_launch_templates().send().await.unwrap();
    let names: Vec<_> =
        listed.launch_templates().iter().filter_map(|it| it.launch_template_name()).collect();
    assert!(names.contains(&"gpu") && names.contains(&"web"), "{names:?}");
    let named = ec2.describe_launch_templates().launch_template_names("web").send().await.unwrap();
    assert_eq!(named.launch_templates()[0].latest_version_number(), Some(2));
    let none = ec2.describe_launch_templates().launch_template_ids("lt-0aaaaaaaa").send().await;
    assert_eq!(none.unwrap_err().code(), Some("InvalidLaunchTemplateId.NotFound"));

    let versions = |wanted: &[&str]| {
        let describe = ec2.describe_launch_template_versions().launch_template_name("web");
        let wanted = wanted.iter().map(|it| (*it).to_owned()).collect();
        let sent = describe.set_versions(Some(wanted)).send();
        async move { sent.await.unwrap().launch_template_versions().to_vec() }
    };
    let all = versions(&[]).await;
    let numbers: Vec<_> = all.iter().filter_map(|it| it.version_number()).collect();
    assert_eq!(numbers, [2, 1]);
    assert_eq!(all[0].version_description(), Some("plain"));
    let latest = versions(&["$Latest"]).await[0].launch_template_data().unwrap().clone();
    assert_eq!(latest.security_group_ids(), ["sg-0c"]);
    let first = versions(&["$Default"]).await[0].launch_template_data().unwrap().clone();
    assert_eq!(first.image_id(), Some("ami-0b"));
    let interface = &first.network_interfaces()[0];
    assert_eq!(interface.associate_public_ip_address(), Some(false));
    assert_eq!(
        (interface.subnet_id(), interface.groups()),
        (Some("subnet-0a"), &["sg-0b".to_owned()][..])
    );
    let arn = "arn:aws:iam::000000000000:instance-profile/agents";
    assert_eq!(first.iam_instance_profile().unwrap().arn(), Some(arn));
    let ebs = first.block_device_mappings()[0].ebs().unwrap();
    assert_eq!(ebs.volume_size(), Some(50));

    let id = made.launch_template_id().unwrap();
    let spec = LaunchTemplateSpecification::builder().launch_template_id(id);
    let run = || launch(&ec2, "w").launch_template(spec.clone().build());
    let both = run().subnet_id("subnet-0b").send().await.unwrap_err();
    assert_eq!(both.code(), Some("InvalidParameterCombination"));
    let instance = launched(run()).await;
    assert_eq!(instance.image_id(), Some("ami-0b"));
    assert_eq!(instance.iam_instance_profile().unwrap().arn(), Some(arn));
    assert!(instance.public_ip_address().is_none());

    let subnets = ec2.describe_subnets().send().await.unwrap();
    let ids: Vec<_> = subnets.subnets().iter().filter_map(|it| it.subnet_id()).collect();
    assert_eq!(ids, ["subnet-0a", "subnet-0b"]);
    endpoint.shutdown().await;
}

#[tokio::test]
async fn a_launch_needs_the_rights_to_all_that_it_makes() {
    let (endpoint, ec2) = started(options()).await;
    let policy = |launch: &str, tag: &str, pass: &str| {
        format!(
            r#"{{"Version":"2012-10-17","Statement":[
            {{"Effect":"Allow","Action":"ec2:RunInstances","Resource":"{launch}"}},
            {{"Effect":"Allow","Action":"ec2:CreateTags","Resource":"arn:aws:ec2:*:*:instance/*",
              "Condition":{{"StringEquals":{{"aws:RequestTag/lamplighter:managed":"{tag}",
                                            "ec2:CreateAction":"RunInstances"}}}}}},
            {{"Effect":"Allow","Action":"iam:PassRole","Resource":"{pass}",
              "Condition":{{"StringEquals":{{"iam:PassedToService":"ec2.amazonaws.com"}}}}}},
            {{"Effect":"Allow","Action":"ec2:TerminateInstances","Resource":"*",
              "Condition":{{"StringEquals":{{"aws:ResourceTag/lamplighter:managed":"true"}}}}}}]}}"#
        )
    };
    let run = || {
        launch(&ec2, "t").tag_specifications(tags(
            ResourceType::Instance,
            "lamplighter:managed",
            "true",
        ))
    };
    let role = "arn:aws:iam::*:role/lamplighter-managed";
    let rows = [
        ("arn:aws:ec2:*:*:instance/*", "true", role, "ec2:RunInstances"),
        ("*", "false", role, "ec2:CreateTags"),
        ("*", "true", "arn:aws:iam::*:role/other", "iam:PassRole"),
    ];
    for (launch, tag, pass, lacking) in rows {
        let text = policy(launch, tag, pass);
        assert_eq!(control(&endpoint, "PUT", "/policy", &text).await.0, 200);
        let error = run().send().await.unwrap_err();
        assert_eq!(error.code(), Some("UnauthorizedOperation"));
        assert!(error.message().unwrap().contains(lacking), "{error:?}");
    }
    control(&endpoint, "PUT", "/policy", &policy("*", "true", role)).await;
    let id = launched(run()).await.instance_id().unwrap().to_owned();
    let other = launch(&ec2, "u").send().await.unwrap_err();
    assert!(other.message().unwrap().contains("ec2:CreateTags"), "its template tags: {other:?}");
    ec2.terminate_instances().instance_ids(&id).send().await.unwrap();
    let foreign = ec2.terminate_instances().instance_ids("i-0bbbbbbbbbbbbbbb2").send().await;
    assert_eq!(foreign.unwrap_err().code(), Some("UnauthorizedOperation"));
    endpoint.shutdown().await;
}

#[tokio::test]
async fn a_launched_machine_is_bootstrapped_and_survives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let kept = || Options { data: Some(dir.path().into()), ..options() };
    let (endpoint, ec2) = started(kept()).await;
    let ssm = aws_sdk_ssm::Client::new(&config(&endpoint));
    let id = launched(launch(&ec2, "t")).await.instance_id().unwrap().to_owned();
    let began = Instant::now();
    let sent = loop {
        // Not managed yet, until its agent came.
        let send = ssm.send_command().instance_ids(&id).document_name("Fleet-Setup");
        match send.parameters("token", vec!["b".to_owned()]).send().await {
            Ok(sent) => break sent.command.unwrap(),
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(sent.document_name(), Some("Fleet-Setup"));
    let output = loop {
        let asked = ssm.get_command_invocation().command_id(sent.command_id().unwrap());
        let result = asked.instance_id(&id).send().await.unwrap();
        if result.status().unwrap().as_str() == "Success" {
            break result.standard_output_content.unwrap();
        }
        assert!(began.elapsed() < PATIENCE, "{result:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(output, "lamplighter-exit 0 \n");
    endpoint.shutdown().await;

    let (endpoint, ec2) = started(kept()).await;
    let machine = until(&ec2, &id, "running").await;
    assert_eq!(machine.client_token(), Some("t"));
    assert_eq!(launched(launch(&ec2, "t")).await.instance_id(), Some(id.as_str()));
    let (_, shown) = control(&endpoint, "GET", &format!("/machines/{id}"), "").await;
    let shown: Value = serde_json::from_str(&shown).unwrap();
    assert_eq!(shown["bootstraps"][0]["name"], "Fleet-Setup");
    assert_eq!(shown["launch"]["client_token"], "t");
    endpoint.shutdown().await;
}
