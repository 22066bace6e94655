//! Rows: the launch templates of `[local]`.

#![allow(clippy::needless_pass_by_value)] // `expect![…]` reads best by value.

use expect_test::{Expect, expect};
use jiff::SignedDuration;
use lamplighter_cloud::launch_templates::{PROFILE, Profile};
use lamplighter_cloud::{LaunchTemplateSeed, Scarce, Shortage, TemplateData};

use super::{Local, parse};

const ID: &str = "lt-0123456789abcdef0";

fn seeds(text: &str, named: &[&str]) -> Vec<LaunchTemplateSeed> {
    parse("f.toml", text).unwrap().local.launch_templates(named.iter().copied())
}

#[test]
fn a_launch_template_says_what_is_launched_and_how_that_behaves() {
    let text = format!(
        r#"[local.launch_templates.{ID}]
name = "gpu"
instance_type = "g5.xlarge"
public_ip = false
profile = "agents"
boot = "5s"
agent_never = true
bootstrap = "1m"
bootstrap_exit = 7
bootstrap_output = "no disk"
no_capacity = ["subnet-0a1b2c3d", "t3.large", "spot"]
[local.launch_templates.{ID}.units."web.service"]
active_after = "2s"
"#
    );
    let all = seeds(&text, &[]);
    let [seed] = all.as_slice() else { panic!("{all:?}") };
    assert_eq!((seed.id.as_str(), seed.name.as_str()), (ID, "gpu"));
    let scarce = [
        Scarce::Subnet("subnet-0a1b2c3d".to_owned()),
        Scarce::InstanceType("t3.large".to_owned()),
        Scarce::Spot,
    ];
    assert_eq!(seed.shortages, scarce.map(Shortage::of));
    let data = &seed.versions[&1];
    assert_eq!((data.instance_type.as_str(), data.public_ip), ("g5.xlarge", false));
    assert_eq!(data.profile, Profile::Named("agents".to_owned()));
    assert_eq!(data.behaviour.boot, Some(SignedDuration::from_secs(5)));
    assert_eq!(data.behaviour.bootstrap, Some(SignedDuration::from_mins(1)));
    assert_eq!(data.behaviour.bootstrap_exit, Some(7));
    assert_eq!(data.behaviour.bootstrap_output.as_deref(), Some("no disk"));
    assert!(data.behaviour.agent_never && !data.behaviour.bootstrap_hangs);
    assert_eq!(data.units["web"].active_after, SignedDuration::from_secs(2));
}

#[test]
fn what_is_left_out_is_plain_and_what_is_only_named_is_made() {
    let text = format!("[local.launch_templates.{ID}]\nname = \"gpu\"\nno_capacity = true");
    let all = seeds(&text, &["gpu", ID, "web", "lt-0aaaaaaaa", "web"]);
    let names: Vec<(&str, &str)> =
        all.iter().map(|seed| (seed.id.as_str(), seed.name.as_str())).collect();
    let web = names.iter().find(|(_, name)| *name == "web").unwrap().0;
    assert_eq!((web.len(), &web[..4]), (20, "lt-0"));
    assert!(names.contains(&(ID, "gpu")) && names.contains(&("lt-0aaaaaaaa", "")), "{names:?}");
    assert_eq!(names.len(), 3, "{names:?}");
    let gpu = all.iter().find(|seed| seed.name == "gpu").unwrap();
    assert_eq!(gpu.versions[&1], TemplateData::default());
    assert_eq!(gpu.shortages, [Shortage::of(Scarce::Everything)]);
    let plain = TemplateData::default();
    assert_eq!((plain.instance_type.as_str(), plain.public_ip), ("t3.medium", true));
    assert!(plain.profile_arn("1").unwrap().ends_with(PROFILE));
    assert_eq!(seeds("", &["web"])[0].id, web);
}

#[track_caller]
fn check(lines: &str, expected: Expect) {
    let text = format!("[local.launch_templates.{ID}]\n{lines}");
    expected.assert_eq(&parse("f.toml", &text).unwrap_err().to_string());
}

#[test]
fn the_launch_templates_are_checked() {
    check(
        "nmae = \"x\"",
        expect![[
            r#"f.toml:2:1: local.launch_templates.lt-0123456789abcdef0: unknown key "nmae"; expected one of name, image, snapshot, instance_type, public_ip, profile, no_capacity, units, boot, stop, agent, agent_never, bounce, host_exit, host_output, public_ip_after, not_found_for, bootstrap, bootstrap_exit, bootstrap_output, bootstrap_hangs"#
        ]],
    );
    check(
        "name = \"\"",
        expect![[
            r#"f.toml:2:8: local.launch_templates.lt-0123456789abcdef0.name: "" is not valid; expected a launch template's name"#
        ]],
    );
    check(
        "instance_type = \"large\"",
        expect![[
            r#"f.toml:2:17: local.launch_templates.lt-0123456789abcdef0.instance_type: "large" is not valid; expected an instance type such as "t3.large""#
        ]],
    );
    check(
        "public_ip = \"yes\"",
        expect![[
            r#"f.toml:2:13: local.launch_templates.lt-0123456789abcdef0.public_ip: found the string "yes"; expected true or false"#
        ]],
    );
    check(
        "profile = 1",
        expect![
            "f.toml:2:11: local.launch_templates.lt-0123456789abcdef0.profile: found the number 1; expected true, false, or an instance profile's name or ARN"
        ],
    );
    check(
        "boot = \"-1s\"",
        expect![[
            r#"f.toml:2:8: local.launch_templates.lt-0123456789abcdef0.boot: expected a duration of zero or more, such as "3s" or "1m 30s"; got "-1s""#
        ]],
    );
    check(
        "bootstrap_exit = 256",
        expect![
            "f.toml:2:18: local.launch_templates.lt-0123456789abcdef0.bootstrap_exit: it is out of range; expected a whole number from 0 to 255"
        ],
    );
    check(
        "bootstrap_hangs = \"yes\"",
        expect![[
            r#"f.toml:2:19: local.launch_templates.lt-0123456789abcdef0.bootstrap_hangs: invalid type: string "yes", expected a boolean"#
        ]],
    );
    check(
        "no_capacity = \"spot\"",
        expect![[
            r#"f.toml:2:15: local.launch_templates.lt-0123456789abcdef0.no_capacity: found the string "spot"; expected true, or a list of "spot", "on-demand", subnets and instance types"#
        ]],
    );
    check(
        "no_capacity = [\"spot\", \"most\"]",
        expect![[
            r#"f.toml:2:24: local.launch_templates.lt-0123456789abcdef0.no_capacity[1]: "most" is not valid; expected "spot", "on-demand", a subnet or an instance type"#
        ]],
    );
    check(
        "units.u.after_boot = \"bored\"",
        expect![
            "f.toml:2:22: local.launch_templates.lt-0123456789abcdef0.units.u.after_boot: unknown variant `bored`, expected one of `active`, `activating`, `inactive`, `failed`"
        ],
    );
    check(
        "name = \"a\"\n[local.launch_templates.lt-0aaaaaaaa]\nname = \"a\"",
        expect![[
            r#"f.toml:3:25: local.launch_templates.lt-0aaaaaaaa: its name "a" is that of lt-0123456789abcdef0 too; expected a name of its own"#
        ]],
    );
    check(
        "[local.launch_templates.gpu]",
        expect![
            "f.toml:2:25: local.launch_templates.gpu: no launch template's id; expected lt- and 8 to 17 hex digits"
        ],
    );
}

#[test]
fn what_the_templates_name_is_there_in_the_versions_that_they_name() {
    let text = format!(
        r#"[templates.one]
kind = "ec2-template"
launch_template = "{ID}"
version = 3
subnets = ["subnet-0123456789abcdef0"]
bootstrap = {{ document = "Doc" }}
[templates.two]
kind = "ec2-template"
launch_template = "web"
[local.launch_templates.{ID}]
boot = "5s"
"#
    );
    let config = parse("f.toml", &text).unwrap();
    let seeds = config.local.launch_templates_of(&config.fleet);
    assert_eq!(seeds.len(), 2);
    let one = seeds.iter().find(|seed| seed.id == ID).unwrap();
    assert_eq!(one.versions.keys().collect::<Vec<_>>(), [&1, &3]);
    assert_eq!(one.versions[&3].behaviour.boot, Some(SignedDuration::from_secs(5)));
    let two = seeds.iter().find(|seed| seed.name == "web").unwrap();
    assert!(two.id.starts_with("lt-") && two.versions.keys().all(|number| *number == 1));
    assert_eq!(Local::subnets(&config.fleet), ["subnet-0123456789abcdef0"]);
    assert_eq!(Local::documents(&config.fleet), ["Doc"]);
}
