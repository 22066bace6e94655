//! ECS, Application Auto Scaling and CloudWatch over real HTTP, in the words that boto3 and aws-cli send.

// The lint's own exception knows test functions, not the helpers beside them.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use ciborium::Value as Cbor;
use jiff::Timestamp;
use lamplighter_local::{Endpoint, Options, ServiceSeed, Timings};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longer than anything here takes, however busy the computer is.
const PATIENCE: Duration = Duration::from_secs(60);

fn options() -> Options {
    let timings = r#"{"placement":"20ms","task_start":"100ms","task_stop":"60ms","health":"20ms",
                      "scaling":"50ms","command":"20ms","invocation":"0s"}"#;
    let seed = r#"{"cluster":"prod","name":"web","tags":{"lamplighter:managed":"true"},
                   "scaling":{"min":0,"max":4}}"#;
    Options {
        timings: serde_json::from_str::<Timings>(timings).unwrap(),
        services: vec![serde_json::from_str::<ServiceSeed>(seed).unwrap()],
        seed: Some(1),
        ..Options::default()
    }
}

struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn has_header(&self, name: &str, value: &str) -> bool {
        let wanted = format!("{name}: {value}").to_lowercase();
        self.head.lines().any(|line| line.to_lowercase() == wanted)
    }
}

/// One request; `headers` are whole lines.
async fn send(
    endpoint: &Endpoint,
    (method, path): (&str, &str),
    headers: &[&str],
    body: &[u8],
) -> Answer {
    let mut stream = TcpStream::connect(("127.0.0.1", endpoint.port())).await.unwrap();
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {}\r\n",
        body.len()
    );
    for line in headers {
        request += line;
        request += "\r\n";
    }
    request += "\r\n";
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.write_all(body).await.unwrap();
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    let split = all.windows(4).position(|it| it == b"\r\n\r\n").unwrap();
    let head = String::from_utf8(all[..split].to_vec()).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body: all[split + 4..].to_vec() }
}

fn signed(service: &str) -> String {
    format!(
        "Authorization: AWS4-HMAC-SHA256 Credential=worker/20261120/us-east-1/{service}/aws4_request, SignedHeaders=host;x-amz-date, Signature=0"
    )
}

/// A call in AWS's JSON 1.1.
async fn call(endpoint: &Endpoint, service: &str, operation: &str, body: &Value) -> Answer {
    let prefix = match service {
        "ecs" => "AmazonEC2ContainerServiceV20141113",
        "sqs" => "AmazonSQS",
        "events" => "AWSEvents",
        _ => "AnyScaleFrontendService",
    };
    let headers = [
        &signed(service),
        &format!("X-Amz-Target: {prefix}.{operation}"),
        "Content-Type: application/x-amz-json-1.1",
    ];
    send(endpoint, ("POST", "/"), &headers.map(|it| it as &str), body.to_string().as_bytes()).await
}

async fn ask(endpoint: &Endpoint, service: &str, operation: &str, body: Value) -> Value {
    let answer = call(endpoint, service, operation, &body).await;
    assert_eq!(answer.status, 200, "{operation}: {}", answer.text());
    answer.json()
}

async fn control(endpoint: &Endpoint, method: &str, path: &str, body: &str) -> Answer {
    send(endpoint, (method, &format!("/_lamplighter{path}")), &[], body.as_bytes()).await
}

async fn described(endpoint: &Endpoint) -> Value {
    let input = json!({"cluster": "prod", "services": ["web"]});
    ask(endpoint, "ecs", "DescribeServices", input).await["services"][0].clone()
}

/// Describes until desired, running and pending are these.
async fn until(endpoint: &Endpoint, expected: (u64, u64, u64)) -> Value {
    let began = Instant::now();
    loop {
        let service = described(endpoint).await;
        let count = |name: &str| service[name].as_u64().unwrap();
        let got = (count("desiredCount"), count("runningCount"), count("pendingCount"));
        if got == expected {
            return service;
        }
        assert!(began.elapsed() < PATIENCE, "{got:?} never became {expected:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_service_is_woken_and_put_to_sleep_in_the_words_of_the_cli() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let input = json!({"cluster": "prod", "services": ["web", "none"], "include": ["TAGS"]});
    let seen = ask(&endpoint, "ecs", "DescribeServices", input).await;
    let arn = "arn:aws:ecs:us-east-1:000000000000:service/prod/web";
    assert_eq!(seen["services"][0]["serviceArn"], arn);
    assert_eq!(seen["services"][0]["status"], "ACTIVE");
    let tag = json!([{"key": "lamplighter:managed", "value": "true"}]);
    assert_eq!(seen["services"][0]["tags"], tag);
    let missing = "arn:aws:ecs:us-east-1:000000000000:service/prod/none";
    assert_eq!(seen["failures"], json!([{"arn": missing, "reason": "MISSING"}]));

    let input = json!({"cluster": "prod", "service": "web", "desiredCount": 1});
    let updated = ask(&endpoint, "ecs", "UpdateService", input).await;
    assert_eq!(updated["service"]["desiredCount"], 1);
    assert_eq!(updated["service"]["runningCount"], 0);
    let service = until(&endpoint, (1, 1, 0)).await;
    let deployment = &service["deployments"][0];
    assert_eq!(
        (&deployment["status"], &deployment["runningCount"]),
        (&"PRIMARY".into(), &1.into())
    );
    assert_eq!(deployment["rolloutState"], "COMPLETED");
    assert!(service["createdAt"].is_f64(), "{service}");
    let message = service["events"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("(service web) has "), "{message}");

    let input = json!({"cluster": "prod", "serviceName": "web"});
    let tasks = ask(&endpoint, "ecs", "ListTasks", input).await["taskArns"].clone();
    assert_eq!(tasks.as_array().unwrap().len(), 1);
    let input = json!({"cluster": arn.replace("service/prod/web", "cluster/prod"),
                       "tasks": [tasks[0], "0123"]});
    let seen = ask(&endpoint, "ecs", "DescribeTasks", input).await;
    let task = &seen["tasks"][0];
    assert_eq!((&task["taskArn"], &task["lastStatus"]), (&tasks[0], &"RUNNING".into()));
    assert_eq!((&task["group"], &task["healthStatus"]), (&"service:web".into(), &"UNKNOWN".into()));
    assert_eq!(task["startedBy"], deployment["id"]);
    assert!(task["startedAt"].is_f64(), "{task}");
    assert_eq!(seen["failures"][0]["reason"], "MISSING");

    let services = ask(&endpoint, "ecs", "ListServices", json!({"cluster": "prod"})).await;
    assert_eq!(services, json!({"serviceArns": [arn]}));
    let clusters = ask(&endpoint, "ecs", "DescribeClusters", json!({"clusters": ["prod"]})).await;
    assert_eq!(clusters["clusters"][0]["runningTasksCount"], 1);
    assert_eq!(clusters["clusters"][0]["activeServicesCount"], 1);

    let input = json!({"cluster": "prod", "service": arn, "desiredCount": 0});
    ask(&endpoint, "ecs", "UpdateService", input).await;
    until(&endpoint, (0, 0, 0)).await;
    let began = Instant::now();
    loop {
        let input = json!({"cluster": "prod", "serviceName": "web", "desiredStatus": "STOPPED"});
        let tasks = ask(&endpoint, "ecs", "ListTasks", input).await["taskArns"].clone();
        let input = json!({"cluster": "prod", "tasks": tasks});
        let seen = ask(&endpoint, "ecs", "DescribeTasks", input).await["tasks"][0].clone();
        if seen["lastStatus"] == "STOPPED" {
            assert_eq!(seen["stopCode"], "ServiceSchedulerInitiated");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "{seen}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (_, counts) = {
        let answer = control(&endpoint, "GET", "/calls", "").await;
        (answer.status, answer.text())
    };
    assert!(counts.contains("prod, web, desiredCount 1"), "{counts}");
    endpoint.shutdown().await;
}

#[tokio::test]
async fn changes_of_tasks_arrive_in_a_queue() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let made = ask(&endpoint, "sqs", "CreateQueue", json!({"QueueName": "signals"})).await;
    let pattern = r#"{"source":["aws.ecs"],"detail-type":["ECS Task State Change"],
                      "detail":{"group":["service:web"],"lastStatus":["RUNNING"]}}"#;
    let rule = json!({"Name": "ecs", "EventPattern": pattern});
    ask(&endpoint, "events", "PutRule", rule).await;
    let targets = json!({"Rule": "ecs", "Targets": [
        {"Id": "q", "Arn": "arn:aws:sqs:us-east-1:000000000000:signals"}]});
    ask(&endpoint, "events", "PutTargets", targets).await;
    let input = json!({"cluster": "prod", "service": "web", "desiredCount": 1});
    ask(&endpoint, "ecs", "UpdateService", input).await;
    let input = json!({"QueueUrl": made["QueueUrl"], "WaitTimeSeconds": 20});
    let received = ask(&endpoint, "sqs", "ReceiveMessage", input).await;
    let body = received["Messages"][0]["Body"].as_str().unwrap();
    let event: Value = serde_json::from_str(body).unwrap();
    assert_eq!(event["detail"]["lastStatus"], "RUNNING");
    let started = event["detail"]["startedAt"].as_str().unwrap();
    started.parse::<Timestamp>().unwrap();
    endpoint.shutdown().await;
}

#[tokio::test]
async fn bounds_are_described_changed_and_felt() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let id = "service/prod/web";
    let dimension = "ecs:service:DesiredCount";
    let which = json!({"ServiceNamespace": "ecs", "ResourceIds": [id],
                       "ScalableDimension": dimension});
    let scaling = "application-autoscaling";
    let seen = ask(&endpoint, scaling, "DescribeScalableTargets", which.clone()).await;
    let target = &seen["ScalableTargets"][0];
    assert_eq!((&target["MinCapacity"], &target["MaxCapacity"]), (&0.into(), &4.into()));
    assert_eq!(target["SuspendedState"]["DynamicScalingInSuspended"], false);
    let change = json!({"ServiceNamespace": "ecs", "ResourceId": id,
                        "ScalableDimension": dimension, "MinCapacity": 2});
    let answer = ask(&endpoint, scaling, "RegisterScalableTarget", change).await;
    assert_eq!(answer["ScalableTargetARN"], target["ScalableTargetARN"]);
    until(&endpoint, (2, 2, 0)).await;
    let forget = json!({"ServiceNamespace": "ecs", "ResourceId": id,
                        "ScalableDimension": dimension});
    ask(&endpoint, scaling, "DeregisterScalableTarget", forget.clone()).await;
    let seen = ask(&endpoint, scaling, "DescribeScalableTargets", which).await;
    assert_eq!(seen, json!({"ScalableTargets": []}));
    let again = call(&endpoint, scaling, "DeregisterScalableTarget", &forget).await;
    assert_eq!(again.json()["__type"], "ObjectNotFoundException");
    endpoint.shutdown().await;
}

#[tokio::test]
async fn refusals_have_the_codes_that_clients_know() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let eleven = json!({"cluster": "prod", "services": vec!["web"; 11]});
    let rows = [
        (
            "DescribeServices",
            json!({"cluster": "no", "services": ["web"]}),
            "ClusterNotFoundException",
        ),
        ("DescribeServices", json!({"services": ["web"]}), "ClusterNotFoundException"),
        ("DescribeServices", eleven, "InvalidParameterException"),
        ("DescribeServices", json!({"cluster": "prod"}), "InvalidParameterException"),
        (
            "UpdateService",
            json!({"cluster": "prod", "service": "no", "desiredCount": 1}),
            "ServiceNotFoundException",
        ),
        (
            "UpdateService",
            json!({"cluster": "prod", "service": "web", "desiredCount": -1}),
            "InvalidParameterException",
        ),
        (
            "UpdateService",
            json!({"cluster": "prod", "service": "web", "enableExecuteCommand": true}),
            "InvalidParameterException",
        ),
        ("ListTasks", json!({"cluster": "prod", "serviceName": "no"}), "ServiceNotFoundException"),
        ("DescribeTasks", json!({"cluster": "prod", "tasks": []}), "InvalidParameterException"),
    ];
    for (operation, input, code) in rows {
        let answer = call(&endpoint, "ecs", operation, &input).await;
        assert_eq!(answer.status, 400, "{operation} {input}");
        assert_eq!(answer.json()["__type"], code, "{operation} {input}");
    }
    endpoint.shutdown().await;
}

#[tokio::test]
async fn a_policy_names_services_clusters_and_namespaces() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let policy = r#"{"Version":"2012-10-17","Statement":[
        {"Effect":"Allow","Action":"ecs:UpdateService",
         "Resource":"arn:aws:ecs:us-east-1:*:service/prod/web",
         "Condition":{"StringEquals":{"aws:ResourceTag/lamplighter:managed":"true"}}},
        {"Effect":"Allow","Action":"ecs:ListTasks","Resource":"*",
         "Condition":{"ArnEquals":{"ecs:cluster":"arn:aws:ecs:us-east-1:000000000000:cluster/prod"}}},
        {"Effect":"Allow","Action":"cloudwatch:PutMetricData","Resource":"*",
         "Condition":{"StringEquals":{"cloudwatch:namespace":"Fluidity"}}}]}"#;
    assert_eq!(control(&endpoint, "PUT", "/policy", policy).await.status, 200);
    let update = |service: &str| json!({"cluster": "prod", "service": service, "desiredCount": 0});
    ask(&endpoint, "ecs", "UpdateService", update("web")).await;
    ask(&endpoint, "ecs", "ListTasks", json!({"cluster": "prod"})).await;
    let denied = [
        ("ecs", "UpdateService", update("other")),
        ("ecs", "ListTasks", json!({"cluster": "other"})),
        ("ecs", "DescribeServices", json!({"cluster": "prod", "services": ["web"]})),
        ("application-autoscaling", "DescribeScalableTargets", json!({"ServiceNamespace": "ecs"})),
    ];
    for (service, operation, input) in denied {
        let answer = call(&endpoint, service, operation, &input).await;
        assert_eq!(answer.status, 400, "{operation}: {}", answer.text());
        assert_eq!(answer.json()["__type"], "AccessDeniedException", "{operation}");
        let needed = format!("{service}:{operation}");
        assert!(answer.text().contains(&needed), "{}", answer.text());
    }
    let put = |namespace: &str| {
        let datum = cbor(&[("MetricName", text("m")), ("Value", Cbor::Float(1.0))]);
        cbor(&[("Namespace", text(namespace)), ("MetricData", Cbor::Array(vec![datum]))])
    };
    assert_eq!(metrics(&endpoint, "PutMetricData", &put("Fluidity"), false).await.status, 200);
    let answer = metrics(&endpoint, "PutMetricData", &put("Other"), false).await;
    assert_eq!(answer.status, 403);
    assert!(answer.has_header("x-amzn-query-error", "AccessDenied;Sender"), "{}", answer.head);
    endpoint.shutdown().await;
}

fn cbor(fields: &[(&str, Cbor)]) -> Cbor {
    Cbor::Map(fields.iter().map(|(name, value)| (text(name), value.clone())).collect())
}

fn text(text: &str) -> Cbor {
    Cbor::Text(text.to_owned())
}

/// A time as the SDKs write it.
fn moment(seconds: i64) -> Cbor {
    Cbor::Tag(1, Box::new(Cbor::Integer(seconds.into())))
}

/// A call of CloudWatch's in CBOR.
async fn metrics(endpoint: &Endpoint, operation: &str, input: &Cbor, packed: bool) -> Answer {
    let mut body = Vec::new();
    ciborium::into_writer(input, &mut body).unwrap();
    let authorization = signed("monitoring");
    let mut headers = vec![
        authorization.as_str(),
        "smithy-protocol: rpc-v2-cbor",
        "Content-Type: application/cbor",
        "Accept: application/cbor",
    ];
    if packed {
        headers.push("Content-Encoding: gzip");
        body = gzip(&body);
    }
    let path = format!("/service/GraniteServiceVersion20100801/operation/{operation}");
    send(endpoint, ("POST", &path), &headers, &body).await
}

fn gzip(plain: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

fn get<'a>(value: &'a Cbor, name: &str) -> &'a Cbor {
    let fields = value.as_map().unwrap();
    &fields.iter().find(|(key, _)| key.as_text() == Some(name)).unwrap().1
}

#[tokio::test]
async fn metrics_are_put_and_asked_for_in_cbor_json_and_the_query_protocol() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    // Two whole minutes in the recent past.
    let minute = Timestamp::now().as_second().div_euclid(60) * 60 - 300;
    let at = |seconds: i64| minute + seconds;

    let datum = |seconds: i64, value: f64| {
        let dimension = cbor(&[("Name", text("Service")), ("Value", text("web"))]);
        cbor(&[
            ("MetricName", text("ActiveConnections")),
            ("Dimensions", Cbor::Array(vec![dimension])),
            ("Timestamp", moment(at(seconds))),
            ("Value", Cbor::Float(value)),
            ("Unit", text("Count")),
        ])
    };
    let data = Cbor::Array(vec![datum(0, 2.0), datum(30, 4.0)]);
    let input = cbor(&[("Namespace", text("Fluidity")), ("MetricData", data)]);
    assert_eq!(metrics(&endpoint, "PutMetricData", &input, true).await.status, 200);
    let form = format!(
        "Action=PutMetricData&Version=2010-08-01&Namespace=Fluidity\
         &MetricData.member.1.MetricName=ActiveConnections\
         &MetricData.member.1.Dimensions.member.1.Name=Service\
         &MetricData.member.1.Dimensions.member.1.Value=web\
         &MetricData.member.1.Timestamp={}&MetricData.member.1.Value=0",
        Timestamp::from_second(at(60)).unwrap()
    );
    let headers =
        [&signed("monitoring") as &str, "Content-Type: application/x-www-form-urlencoded"];
    let answer = send(&endpoint, ("POST", "/"), &headers, form.as_bytes()).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let dimension = cbor(&[("Name", text("Service")), ("Value", text("web"))]);
    let query = |id: &str, name: &str| {
        let metric = cbor(&[
            ("Namespace", text("Fluidity")),
            ("MetricName", text(name)),
            ("Dimensions", Cbor::Array(vec![dimension.clone()])),
        ]);
        let stat = cbor(&[
            ("Metric", metric),
            ("Period", Cbor::Integer(60.into())),
            ("Stat", text("Average")),
        ]);
        cbor(&[("Id", text(id)), ("MetricStat", stat)])
    };
    let queries = Cbor::Array(vec![query("a", "ActiveConnections"), query("b", "Nothing")]);
    let input = cbor(&[
        ("MetricDataQueries", queries),
        ("StartTime", moment(at(0))),
        ("EndTime", moment(at(120))),
    ]);
    let answer = metrics(&endpoint, "GetMetricData", &input, false).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    assert!(answer.has_header("smithy-protocol", "rpc-v2-cbor"), "{}", answer.head);
    let found: Cbor = ciborium::from_reader(&answer.body[..]).unwrap();
    let results = get(&found, "MetricDataResults").as_array().unwrap();
    let (first, second) = (&results[0], &results[1]);
    assert_eq!((get(first, "Id"), get(first, "StatusCode")), (&text("a"), &text("Complete")));
    assert_eq!(get(first, "Values"), &Cbor::Array(vec![Cbor::Float(0.0), Cbor::Float(3.0)]));
    for (found, wanted) in get(first, "Timestamps").as_array().unwrap().iter().zip([60, 0]) {
        let (tag, seconds) = found.as_tag().unwrap();
        #[allow(clippy::cast_possible_truncation)] // A time of these years.
        let seconds = seconds.as_float().unwrap() as i64;
        assert_eq!((tag, seconds), (1, at(wanted)));
    }
    assert_eq!(get(second, "Values"), &Cbor::Array(Vec::new()));
    assert_eq!(get(second, "StatusCode"), &text("Complete"));

    let stat = json!({"Metric": {"Namespace": "Fluidity", "MetricName": "ActiveConnections",
        "Dimensions": [{"Name": "Service", "Value": "web"}]}, "Period": 120, "Stat": "Maximum"});
    let input = json!({"MetricDataQueries": [{"Id": "a", "MetricStat": stat}],
                       "StartTime": at(-60), "EndTime": at(120)});
    let headers = [
        &signed("monitoring") as &str,
        "X-Amz-Target: GraniteServiceVersion20100801.GetMetricData",
        "Content-Type: application/x-amz-json-1.0",
    ];
    let answer = send(&endpoint, ("POST", "/"), &headers, input.to_string().as_bytes()).await;
    let values = &answer.json()["MetricDataResults"][0]["Values"];
    let values: Vec<f64> =
        values.as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    assert_eq!(values.into_iter().fold(0.0, f64::max), 4.0, "{}", answer.text());

    let form = "Action=ListMetrics&Version=2010-08-01&Namespace=Fluidity";
    let headers =
        [&signed("monitoring") as &str, "Content-Type: application/x-www-form-urlencoded"];
    let answer = send(&endpoint, ("POST", "/"), &headers, form.as_bytes()).await.text();
    let flat: String = answer.split_whitespace().collect();
    assert!(flat.contains("<Metrics><member>"), "{answer}");
    assert!(flat.contains("<MetricName>ActiveConnections</MetricName>"), "{answer}");
    endpoint.shutdown().await;
}

#[tokio::test]
async fn what_is_asked_wrongly_of_metrics_is_refused_in_cbor_too() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let input = cbor(&[
        (
            "MetricDataQueries",
            Cbor::Array(vec![cbor(&[("Id", text("e")), ("Expression", text("1"))])]),
        ),
        ("StartTime", moment(0)),
        ("EndTime", moment(60)),
    ]);
    let answer = metrics(&endpoint, "GetMetricData", &input, false).await;
    assert_eq!(answer.status, 400);
    assert!(answer.has_header("x-amzn-query-error", "ValidationError;Sender"), "{}", answer.head);
    let body: Cbor = ciborium::from_reader(&answer.body[..]).unwrap();
    assert_eq!(get(&body, "__type"), &text("ValidationError"));
    let answer =
        metrics(&endpoint, "PutMetricData", &cbor(&[("Namespace", text("N"))]), false).await;
    assert!(answer.has_header("x-amzn-query-error", "MissingParameter;Sender"), "{}", answer.head);
    endpoint.shutdown().await;
}

#[tokio::test]
async fn the_console_lists_services_and_makes_them_fail() {
    let endpoint = Endpoint::start(options()).await.unwrap();
    let listed = control(&endpoint, "GET", "/services", "").await.json();
    assert_eq!(listed["services"][0]["name"], "web");
    let path = "/services/prod/web";
    let rows = [
        ("GET", "/services/prod/none", "", 404, "no service none"),
        ("PUT", path, r#"{"no_image":1}"#, 400, "cannot be read"),
        ("PUT", path, r#"{"image":"x"}"#, 400, "unknown field `image`"),
        ("PUT", path, r#"{"no_image":true}"#, 200, r#""no_image":true"#),
        ("POST", "/services/prod/web/fly", "", 404, "expected die"),
        ("POST", "/services/prod/none/die", "", 404, "no service none"),
    ];
    for (method, path, body, status, part) in rows {
        let answer = control(&endpoint, method, path, body).await;
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        assert!(answer.text().contains(part), "{method} {path}: {}", answer.text());
    }
    let input = json!({"cluster": "prod", "service": "web", "desiredCount": 1});
    ask(&endpoint, "ecs", "UpdateService", input).await;
    let began = Instant::now();
    loop {
        let input = json!({"cluster": "prod", "desiredStatus": "STOPPED"});
        let tasks = ask(&endpoint, "ecs", "ListTasks", input).await["taskArns"].clone();
        if tasks[0].is_string() {
            let input = json!({"cluster": "prod", "tasks": [tasks[0]]});
            let seen = ask(&endpoint, "ecs", "DescribeTasks", input).await["tasks"][0].clone();
            assert_eq!(seen["stopCode"], "TaskFailedToStart");
            let reason = seen["containers"][0]["reason"].as_str().unwrap();
            assert!(reason.starts_with("CannotPullContainerError"), "{seen}");
            break;
        }
        assert!(began.elapsed() < PATIENCE, "no task failed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    control(&endpoint, "PUT", path, "{}").await;
    until(&endpoint, (1, 1, 0)).await;
    assert_eq!(control(&endpoint, "POST", "/services/prod/web/die", "").await.status, 200);
    let input = json!({"cluster": "prod", "serviceName": "web", "desiredStatus": "STOPPED"});
    let tasks = ask(&endpoint, "ecs", "ListTasks", input).await["taskArns"].clone();
    assert!(tasks.as_array().unwrap().len() >= 2, "{tasks}");
    endpoint.shutdown().await;
}

#[tokio::test]
async fn services_and_metrics_survive_a_restart_and_calls_can_be_made_to_fail() {
    let dir = tempfile::tempdir().unwrap();
    let kept = || Options { data: Some(dir.path().into()), ..options() };
    let endpoint = Endpoint::start(kept()).await.unwrap();
    let faults = r#"{"service":"ecs","operation":"UpdateService","kind":"throttle","count":1}"#;
    assert_eq!(control(&endpoint, "PUT", "/faults", faults).await.status, 200);
    let input = json!({"cluster": "prod", "service": "web", "desiredCount": 2});
    let refused = call(&endpoint, "ecs", "UpdateService", &input).await;
    assert_eq!(refused.json()["__type"], "ThrottlingException");
    ask(&endpoint, "ecs", "UpdateService", input).await;
    let datum = cbor(&[("MetricName", text("m")), ("Value", Cbor::Float(1.0))]);
    let data = cbor(&[("Namespace", text("N")), ("MetricData", Cbor::Array(vec![datum]))]);
    assert_eq!(metrics(&endpoint, "PutMetricData", &data, false).await.status, 200);
    endpoint.shutdown().await;

    let endpoint = Endpoint::start(kept()).await.unwrap();
    until(&endpoint, (2, 2, 0)).await;
    let names: Vec<String> =
        endpoint.world(|world, _| world.metrics.iter().map(|it| it.name.clone()).collect());
    assert_eq!(names, ["m"]);
    endpoint.shutdown().await;
}
