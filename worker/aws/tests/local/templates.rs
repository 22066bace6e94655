//! `check --aws` of templates, against the embedded endpoint.

use std::collections::BTreeMap;

use lamplighter_aws::check;
use lamplighter_events::{HumanDuration, TargetName};
use lamplighter_lifecycle::{Bootstrap, Market, Place, TargetSpec, TemplateSpec, Timings};
use lamplighter_local::{LaunchTemplateSeed, Options};

use super::{Bench, bench, counts, options};

const GOOD: &str = "lt-0123456789abcdef0";
const BARE: &str = "lt-0123456789abcdef1";
/// Its machines are protected from termination.
const KEPT: &str = "lt-0123456789abcdef2";

fn duration(text: &str) -> HumanDuration {
    HumanDuration::parse(text).unwrap()
}

fn template(launch_template: &str) -> TemplateSpec {
    TemplateSpec {
        template: TargetName::parse("gpu").unwrap(),
        owner: "commands".to_owned(),
        launch_template: launch_template.to_owned(),
        version: "$Default".to_owned(),
        subnets: vec!["subnet-0a".to_owned()],
        instance_types: Vec::new(),
        market: Market::OnDemand,
        tags: BTreeMap::new(),
        name_prefix: "gpu-vm".to_owned(),
        wait_for_public_ip: true,
        limit: 3,
        max_lifetime: None,
        keep_failed_for: None,
        retention: duration("7d"),
        dedupe: None,
        parameters: BTreeMap::new(),
        one_of: Vec::new(),
        bootstrap: Some(Bootstrap::Document { name: "Doc".to_owned() }),
        bootstrap_timeout: duration("150s"),
        systemd_unit: None,
        unit_check_every: None,
        price_per_hour_millionths: None,
    }
}

async fn world() -> Bench {
    let seed = |id: &str, name: &str, data: &str| {
        let json = format!(r#"{{"id":"{id}","name":"{name}","versions":{{"1":{data}}}}}"#);
        serde_json::from_str::<LaunchTemplateSeed>(&json).unwrap()
    };
    let bare = r#"{"profile":false,"public_ip":false,"interfaces":true}"#;
    let good = r#"{"security_groups":["sg-0a"],"volume_gib":30}"#;
    let kept = r#"{"security_groups":["sg-0a"],"behaviour":{"disable_api_termination":true}}"#;
    let launch_templates =
        vec![seed(GOOD, "gpu", good), seed(BARE, "bare", bare), seed(KEPT, "kept", kept)];
    let subnets = vec!["subnet-0a".to_owned()];
    bench(Options { launch_templates, subnets, ..options() }).await
}

/// The worst of the findings, and all their words.
async fn of(bench: &Bench, template: TemplateSpec) -> (check::Level, String) {
    let spec = TargetSpec {
        name: template.template.clone(),
        place: Place::Template(Box::new(template)),
        health: None,
        timings: Timings {
            start_timeout: duration("1m"),
            settle: duration("1ms"),
            ready_timeout: duration("1m"),
            health_timeout: duration("1m"),
            stop_timeout: duration("1m"),
            poll: duration("1s"),
        },
        log_group: None,
        exclusive: false,
        max_hold: None,
        keep_failed: false,
        idle: None,
        hours: None,
    };
    let findings = check::check_target(&bench.aws, &spec).await;
    let worst = findings.iter().map(|finding| finding.level).max().unwrap();
    let words: Vec<String> = findings.into_iter().map(|finding| finding.what).collect();
    (worst, words.join("\n"))
}

#[tokio::test]
async fn a_check_of_a_template_says_what_is_there_and_launches_nothing() {
    let bench = world().await;
    let (level, words) = of(&bench, template(GOOD)).await;
    assert_eq!(level, check::Level::Ok, "{words}");
    for part in [
        "launch template lt-0123456789abcdef0 (gpu), version 1",
        "instance profile arn:aws:iam::",
        "image ami-",
        "instance type t3.medium",
        "security group sg-0a",
        "30 GiB gp3",
        "subnet subnet-0a in us-east-1a",
        "a public address by the subnet",
        "may call ec2:RunInstances",
    ] {
        assert!(words.contains(part), "{part:?} is not in {words}");
    }
    let both = TemplateSpec {
        market: Market::SpotThenOnDemand,
        instance_types: vec!["g5.xlarge".to_owned(), "g4dn.xlarge".to_owned()],
        ..template("gpu")
    };
    let (level, words) = of(&bench, both).await;
    assert_eq!((level, words.matches("may call").count()), (check::Level::Ok, 2), "{words}");
    assert!(words.contains("g5.xlarge, else g4dn.xlarge"), "{words}");
    let calls = counts(&bench).await;
    assert_eq!(calls.get("ec2:RunInstances"), Some(&3), "{calls:?}");
    let machines = bench.ports.cloud.tagged("commands").await.unwrap();
    assert!(machines.is_empty(), "{machines:?}");
}

#[tokio::test]
async fn a_check_of_a_template_says_what_is_wrong() {
    use check::Level::{Error, Warn};
    let bench = world().await;
    let wrong = async |template: TemplateSpec, level: check::Level, parts: &[&str]| {
        let (found, words) = of(&bench, template).await;
        for part in parts {
            assert!(words.contains(part), "{part:?} is not in {words}");
        }
        assert_eq!(found, level, "{words}");
    };
    let bare =
        ["no instance profile", "no security group", "gets no public address", "takes no subnet"];
    wrong(template(BARE), Error, &bare).await;
    let nowhere = TemplateSpec { wait_for_public_ip: false, subnets: Vec::new(), ..template(BARE) };
    wrong(nowhere, Warn, &["no instance profile", "may call"]).await;
    wrong(template(KEPT), Warn, &["sets DisableApiTermination"]).await;
    wrong(template("lt-0aaaaaaaa"), Error, &["EC2 knows no version $Default of"]).await;
    wrong(template("nobody"), Error, &["EC2 knows no version $Default of"]).await;
    let version = TemplateSpec { version: "7".to_owned(), ..template(GOOD) };
    wrong(version, Error, &["EC2 knows no version 7 of"]).await;
    let subnets = vec!["subnet-0a".to_owned(), "subnet-0b".to_owned()];
    let missing = TemplateSpec { subnets, ..template(GOOD) };
    wrong(missing, Error, &["knows no subnet subnet-0b", "subnet subnet-0a in"]).await;
    let default = TemplateSpec { subnets: Vec::new(), ..template(GOOD) };
    wrong(default, Warn, &["nobody names a subnet"]).await;
}
