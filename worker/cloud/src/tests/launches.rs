//! Machines launched from templates: once, when there is room, and gone in the end.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::{at, bodies, ids, queue, world};
use crate::bus::{RuleSpec, Target};
use crate::commands::{Command, CommandSpec, DOCUMENT};
use crate::launch_templates::{NewVersion, Profile};
use crate::launches::{Refusal, TOKEN_CHARS_MAX};
use crate::machines::{Machine, MachineError};
use crate::{
    LaunchSpec, LaunchTemplateSeed, MachineState, Scarce, ServiceFault as _, Shortage,
    TemplateData, TemplateRef, World,
};

const TEMPLATE: &str = "lt-0123456789abcdef0";

/// A world with a template whose machines boot in 3 s, have their agent 2 s later, and whose second version
/// is another type; version 1 is the default.
fn templated() -> World {
    let mut world = world();
    let seed = r#"{"id":"lt-0123456789abcdef0","name":"gpu","default_version":1,"versions":{
        "1":{"units":{"web":{}},"tags":{"Name":"gpu","team":"a"}},
        "2":{"instance_type":"g5.xlarge","public_ip":false,"profile":false}}}"#;
    let seed: LaunchTemplateSeed = serde_json::from_str(seed).unwrap();
    world.seed_launch_template(at(0), &seed);
    world
}

fn spec(token: &str) -> LaunchSpec {
    LaunchSpec {
        client_token: Some(token.to_owned()),
        ..LaunchSpec::new(TemplateRef::Id(TEMPLATE.to_owned()))
    }
}

fn launch(world: &mut World, seconds: i64, token: &str) -> Machine {
    world.run_machines(at(seconds), &spec(token)).unwrap().machine
}

fn state(world: &mut World, seconds: i64, id: &str) -> MachineState {
    world.advance(at(seconds));
    world.machines.get(id).unwrap().state()
}

fn template(world: &mut World) -> &mut TemplateData {
    let template = world.launch_templates.get_mut(&TemplateRef::Id(TEMPLATE.to_owned())).unwrap();
    &mut template.versions.get_mut(&1).unwrap().data
}

#[test]
fn a_launched_machine_boots_as_its_template_says() {
    let mut world = templated();
    let spec = LaunchSpec { tags: BTreeMap::from([("team".into(), "b".into())]), ..spec("t") };
    let machine = world.run_machines(at(0), &spec).unwrap().machine;
    assert_eq!(machine.state(), MachineState::Pending);
    assert_eq!((machine.id.len(), &machine.id[..3]), (19, "i-0"));
    assert!(machine.view.public_ip.is_some());
    assert_eq!(state(&mut world, 2, &machine.id), MachineState::Pending);
    assert_eq!(state(&mut world, 3, &machine.id), MachineState::Running);
    let machine = world.machines.get(&machine.id).unwrap().clone();
    assert_eq!(world.unit_state(&machine.id, "web"), Some(crate::UnitState::Active));
    let tags = machine.tags.iter().map(|(key, value)| format!("{key}={value}"));
    let expected = [
        "Name=gpu".to_owned(),
        format!("aws:ec2launchtemplate:id={TEMPLATE}"),
        "aws:ec2launchtemplate:version=1".to_owned(),
        "team=b".to_owned(),
    ];
    assert_eq!(tags.collect::<Vec<_>>(), expected);
    let launch = machine.launch.clone().unwrap();
    assert_eq!((launch.template_version, launch.spot), (1, false));
    assert_eq!(launch.client_token.as_deref(), Some("t"));
    world.advance(at(4));
    assert!(!world.agent_online(&machine));
    world.advance(at(5));
    assert!(world.agent_online(&machine));
}

#[test]
fn the_same_world_launches_the_same_machine() {
    let [left, right] = [0, 1].map(|_| launch(&mut templated(), 0, "t").id);
    assert_eq!(left, right);
}

#[test]
fn a_client_token_launches_once() {
    let mut world = templated();
    let first = launch(&mut world, 0, "t");
    let again = world.run_machines(at(5), &spec("t")).unwrap();
    assert!(!again.fresh);
    assert_eq!((&again.machine.id, again.machine.state()), (&first.id, MachineState::Running));
    let other = launch(&mut world, 5, "u");
    assert_ne!(other.id, first.id);
    assert_ne!(other.private_ip, first.private_ip);
    assert_eq!((world.launches.launched("t"), world.launches.launched("u")), (1, 1));
    let changed = LaunchSpec { subnet: Some("subnet-0b".into()), ..spec("t") };
    let error = world.run_machines(at(6), &changed).unwrap_err();
    assert_eq!(error.code(), "IdempotentParameterMismatch");
    let anonymous = LaunchSpec { client_token: None, ..spec("") };
    for _ in 0..2 {
        assert!(world.run_machines(at(7), &anonymous).unwrap().fresh);
    }
    assert_eq!(world.launches.launched(""), 2);
}

#[test]
fn a_client_token_outlives_its_machine_by_a_day() {
    let mut world = templated();
    let id = launch(&mut world, 0, "t").id;
    world.terminate_machines(at(10), std::slice::from_ref(&id), false).unwrap();
    for hours in [0, 1, 2, 23] {
        let again = world.run_machines(at(60 + hours * 3600), &spec("t")).unwrap();
        assert_eq!((&again.machine.id, again.fresh), (&id, false));
        assert_eq!(again.machine.state(), MachineState::Terminated);
    }
    assert!(world.run_machines(at(25 * 3600), &spec("t")).unwrap().fresh);
}

#[test]
fn a_terminated_machine_is_shown_for_an_hour() {
    let mut world = templated();
    let id = launch(&mut world, 0, "t").id;
    let only = [id.clone()];
    world.terminate_machines(at(10), &only, false).unwrap();
    assert_eq!(state(&mut world, 11, &id), MachineState::ShuttingDown);
    assert_eq!(state(&mut world, 12, &id), MachineState::Terminated);
    let view = world.machines.get(&id).unwrap().view.clone();
    let (code, text) = view.state_reason.unwrap();
    assert_eq!(code, "Client.UserInitiatedShutdown");
    assert_eq!(text, "Client.UserInitiatedShutdown: User initiated shutdown");
    assert_eq!(view.transition_reason, "User initiated (2026-11-20 10:00:10 GMT)");
    assert_eq!(view.public_ip, None);
    let again = world.terminate_machines(at(20), &only, false).unwrap();
    assert_eq!(again[0].current, MachineState::Terminated);
    let mut described = |seconds| world.describe_machines(at(seconds), &only, |_, _| true);
    assert!(described(3611).is_ok());
    assert_eq!(described(3612).unwrap_err(), MachineError::NotFound(only.to_vec()));
    assert_eq!(world.machines.get(&id).map(Machine::state), None);
}

#[test]
fn a_machine_of_the_beginning_that_was_terminated_does_not_come_back() {
    let mut world = world();
    world.terminate_machines(at(0), &ids(), false).unwrap();
    world.advance(at(4000));
    super::seed(&mut world, "{}");
    assert_eq!(world.machines.iter().count(), 0);
}

#[test]
fn a_launch_that_fails_ends_as_terminated() {
    let mut world = templated();
    template(&mut world).behaviour.bounce = Some(SignedDuration::from_secs(1));
    let id = launch(&mut world, 0, "t").id;
    assert_eq!(state(&mut world, 1, &id), MachineState::Terminated);
    let reason = world.machines.get(&id).unwrap().view.state_reason.clone().unwrap();
    assert_eq!(reason.0, "Client.InternalError");
}

#[test]
fn a_new_machine_is_described_later() {
    let mut world = templated();
    world.timings.describe_lag = SignedDuration::from_secs(2);
    template(&mut world).behaviour.not_found_for = Some(SignedDuration::from_secs(4));
    let id = launch(&mut world, 0, "t").id;
    let mut seen = |seconds: i64| {
        let all = world.describe_machines(at(seconds), &[], |it, _| it.id == id).unwrap();
        let one = world.describe_machines(at(seconds), std::slice::from_ref(&id), |_, _| true);
        (all.first().map(|(_, view)| view.state), one.map_err(|error| error.code()).is_ok())
    };
    assert_eq!(seen(1), (None, false));
    assert_eq!(seen(2), (Some(MachineState::Pending), false));
    assert_eq!(seen(4), (Some(MachineState::Pending), true));
    assert_eq!(seen(5), (Some(MachineState::Running), true));
}

#[test]
fn a_public_address_comes_when_it_is_due_or_never() {
    let mut world = templated();
    template(&mut world).behaviour.public_ip_after = Some(SignedDuration::from_secs(4));
    let id = launch(&mut world, 0, "t").id;
    let second = LaunchSpec { version: "$Latest".into(), ..spec("u") };
    let bare = world.run_machines(at(0), &second).unwrap().machine;
    assert_eq!((bare.instance_type.as_str(), &bare.profile_arn), ("g5.xlarge", &None));
    let mut address = |seconds, id: &str| {
        world.advance(at(seconds));
        world.machines.get(id).unwrap().view.public_ip.clone()
    };
    assert_eq!(address(3, &id), None);
    assert!(address(4, &id).is_some());
    assert_eq!(address(60, &bare.id), None);
    let bare = world.machines.get(&bare.id).unwrap().clone();
    assert!(!world.agent_online(&bare), "no profile, no agent");
}

#[track_caller]
fn refuse(change: impl FnOnce(&mut LaunchSpec), code: &str, status: u16) {
    let mut world = templated();
    world.launches.subnets = ["subnet-0a".to_owned()].into();
    let mut wanted = spec("t");
    change(&mut wanted);
    let error = world.run_machines(at(0), &wanted).unwrap_err();
    assert_eq!((error.code(), error.status()), (code, status), "{error}");
    assert_eq!(world.launches.launched("t"), 0);
    assert_eq!(world.launches.refused(), u64::from(code != "DryRunOperation"));
}

#[test]
fn what_ec2_refuses_of_a_launch_is_refused() {
    let id = |id: &str| TemplateRef::new(id);
    refuse(|it| it.template = id("lt-0aaaaaaaa"), "InvalidLaunchTemplateId.NotFound", 400);
    refuse(|it| it.template = id("lt-x"), "InvalidLaunchTemplateId.Malformed", 400);
    refuse(|it| it.template = id("web"), "InvalidLaunchTemplateName.NotFoundException", 400);
    for version in ["3", "$New"] {
        refuse(|it| it.version = version.into(), "InvalidLaunchTemplateId.VersionNotFound", 400);
    }
    refuse(|it| it.subnet = Some("subnet-0b".into()), "InvalidSubnetID.NotFound", 400);
    refuse(|it| it.instance_type = Some("large".into()), "InvalidParameterValue", 400);
    refuse(|it| it.min_count = 0, "InvalidParameterValue", 400);
    refuse(|it| (it.min_count, it.max_count) = (2, 1), "InvalidParameterValue", 400);
    let long = "x".repeat(TOKEN_CHARS_MAX + 1);
    refuse(|it| it.client_token = Some(long), "InvalidParameterValue", 400);
    refuse(|it| it.client_token = Some("ü".into()), "InvalidParameterValue", 400);
    let reserved = BTreeMap::from([("aws:x".to_owned(), String::new())]);
    refuse(|it| it.tags = reserved, "InvalidParameterValue", 400);
    refuse(|it| it.dry_run = true, "DryRunOperation", 412);
}

#[test]
fn a_template_with_interfaces_takes_no_subnet() {
    let mut world = templated();
    template(&mut world).interfaces = true;
    let wanted = LaunchSpec { subnet: Some("subnet-0a".into()), ..spec("t") };
    let error = world.run_machines(at(0), &wanted).unwrap_err();
    assert_eq!(error.code(), "InvalidParameterCombination");
    launch(&mut world, 0, "t");
}

/// Whether launches are refused: plain, into subnet-0b, as t3.large, as spot.
#[track_caller]
fn check(of: &Scarce, expected: [bool; 4]) {
    let mut world = templated();
    world.launches.shortages = vec![Shortage::of(of.clone())];
    let plain = || LaunchSpec { client_token: None, ..spec("") };
    let wanted = [
        plain(),
        LaunchSpec { subnet: Some("subnet-0b".into()), ..plain() },
        LaunchSpec { instance_type: Some("t3.large".into()), ..plain() },
        LaunchSpec { spot: true, ..plain() },
    ];
    let refused = wanted.map(|spec| match world.run_machines(at(0), &spec) {
        Ok(_) => false,
        Err(error) => {
            assert_eq!((error.code(), error.status()), ("InsufficientInstanceCapacity", 500));
            true
        }
    });
    assert_eq!(refused, expected, "{of:?}");
}

#[test]
fn what_is_scarce_is_refused_and_nothing_else() {
    check(&Scarce::Everything, [true; 4]);
    check(&Scarce::Subnet("subnet-0b".into()), [false, true, false, false]);
    check(&Scarce::InstanceType("t3.large".into()), [false, false, true, false]);
    check(&Scarce::Spot, [false, false, false, true]);
    check(&Scarce::OnDemand, [true, true, true, false]);
}

#[test]
fn a_shortage_ends_after_its_refusals_and_used_no_token() {
    let mut world = templated();
    let shortage =
        |refusal, times| Shortage { of: Scarce::Everything, refusal, times: Some(times) };
    world.launches.shortages = vec![shortage(Refusal::Capacity, 2), shortage(Refusal::Vcpus, 1)];
    let of_template = world.launch_templates.get_mut(&TemplateRef::Name("gpu".into())).unwrap();
    of_template.shortages = vec![shortage(Refusal::SpotCount, 1)];
    let mut code = || world.run_machines(at(0), &spec("t")).map_err(|error| error.code());
    for expected in [
        "InsufficientInstanceCapacity",
        "InsufficientInstanceCapacity",
        "VcpuLimitExceeded",
        "MaxSpotInstanceCountExceeded",
    ] {
        assert_eq!(code().unwrap_err(), expected);
    }
    assert!(code().unwrap().fresh);
    assert_eq!((world.launches.launched("t"), world.launches.refused()), (1, 4));
    assert_eq!(world.launches.all_refused()["VcpuLimitExceeded"], 1);
}

#[test]
fn what_is_scarce_has_a_word() {
    let read = |text: &str| serde_json::from_value::<Scarce>(text.into());
    for word in ["everything", "spot", "on-demand", "subnet-0a", "t3.large"] {
        assert_eq!(String::from(read(word).unwrap()), word);
    }
    assert!(read("most").unwrap_err().to_string().contains("got \"most\""));
}

#[test]
fn a_spot_machine_is_warned_and_taken_back() {
    let mut world = templated();
    queue(&mut world, "q", &[]);
    let pattern = serde_json::json!({"source": ["aws.ec2"]});
    let rule = RuleSpec { name: "r".into(), pattern: Some(pattern), ..RuleSpec::default() };
    world.put_rule(at(0), rule).unwrap();
    let target = serde_json::json!({"Id": "q", "Arn": "arn:aws:sqs:us-east-1:000000000000:q",
                                    "InputPath": "$.detail"});
    let target: Target = serde_json::from_value(target).unwrap();
    world.bus.rule_mut("default", "r").unwrap().put_targets(vec![target]).unwrap();
    let wanted = LaunchSpec { spot: true, ..spec("t") };
    let id = world.run_machines(at(0), &wanted).unwrap().machine.id;
    let plain = launch(&mut world, 0, "u").id;
    assert!(!world.interrupt_spot(at(10), &plain));
    world.terminate_machines(at(10), &[plain], false).unwrap();
    let error = world.stop_machines(at(10), std::slice::from_ref(&id), false).unwrap_err();
    assert_eq!(error.code(), "UnsupportedOperation");
    assert!(world.interrupt_spot(at(20), &id));
    assert_eq!(state(&mut world, 139, &id), MachineState::Running);
    assert_eq!(state(&mut world, 140, &id), MachineState::ShuttingDown);
    assert_eq!(state(&mut world, 142, &id), MachineState::Terminated);
    let reason = world.machines.get(&id).unwrap().view.state_reason.clone().unwrap();
    assert_eq!(reason.0, "Server.SpotInstanceTermination");
    let told: Vec<String> = bodies(&world, "q")
        .into_iter()
        .filter(|body| body.contains(&id))
        .map(|body| {
            let detail: serde_json::Value = serde_json::from_str(&body).unwrap();
            let word = detail.get("state").or_else(|| detail.get("instance-action")).unwrap();
            word.as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(told, ["pending", "running", "terminate", "shutting-down", "terminated"]);
    assert!(!world.interrupt_spot(at(200), &id));
}

#[test]
fn templates_are_made_found_and_versioned() {
    let mut world = templated();
    let new = |kind: &str| NewVersion {
        data: TemplateData { instance_type: kind.into(), ..TemplateData::default() },
        ..NewVersion::default()
    };
    let made =
        world.create_launch_template(at(0), "web", new("m5.large"), BTreeMap::new()).unwrap();
    let taken = world.create_launch_template(at(0), "web", new("m5.large"), BTreeMap::new());
    assert_eq!(taken.unwrap_err().code(), "InvalidLaunchTemplateName.AlreadyExistsException");
    let name = TemplateRef::Name("web".into());
    let (template, number) =
        world.create_launch_template_version(at(0), &name, new("m5.xlarge")).unwrap();
    assert_eq!((number, template.default_version, template.latest_version()), (2, 1, 2));
    assert_eq!(world.launch_templates.get(&TemplateRef::new(&made.id)).unwrap(), &template);
    let mut kind = |version: &str| {
        let spec = LaunchSpec { version: version.into(), ..LaunchSpec::new(name.clone()) };
        world.run_machines(at(0), &spec).unwrap().machine.instance_type
    };
    let kinds = ["", "$Default", "$Latest", "1", "2"].map(&mut kind);
    assert_eq!(kinds, ["m5.large", "m5.large", "m5.xlarge", "m5.large", "m5.xlarge"]);
}

#[test]
fn a_profile_is_the_accounts_own_or_a_named_one() {
    let arn = |profile| TemplateData { profile, ..TemplateData::default() }.profile_arn("1");
    assert_eq!(arn(Profile::Own(false)), None);
    let own = "arn:aws:iam::1:instance-profile/lamplighter-managed";
    assert_eq!(arn(Profile::Own(true)).as_deref(), Some(own));
    let named = "arn:aws:iam::1:instance-profile/p";
    assert_eq!(arn(Profile::Named("p".into())).as_deref(), Some(named));
    assert_eq!(arn(Profile::Named(named.into())).as_deref(), Some(named));
}

#[test]
fn a_world_with_launches_survives_being_stored() {
    let mut world = templated();
    let id = launch(&mut world, 0, "t").id;
    launch(&mut world, 0, "u");
    world.terminate_machines(at(1), std::slice::from_ref(&id), false).unwrap();
    world.advance(at(4000));
    let text = serde_json::to_string(&world).unwrap();
    let mut again: World = serde_json::from_str(&text).unwrap();
    assert_eq!(serde_json::to_string(&again).unwrap(), text);
    assert_eq!(launch(&mut again, 4001, "t").id, id);
    assert_eq!(launch(&mut world, 4001, "v").id, launch(&mut again, 4001, "v").id);
}

/// A launched machine whose agent is online since 5.
fn running() -> (World, String) {
    let mut world = templated();
    let id = launch(&mut world, 0, "t").id;
    world.advance(at(10));
    (world, id)
}

const BOOTSTRAP: &str = "token='b'\nbootstrap='setup'\ntimeout_seconds=10\n\
    environment_base64='TkFNRT1lQ0I1Cg=='\nscript_base64='ZWNobw=='\ncheck_base64=''";

fn send(world: &mut World, seconds: i64, id: &str, script: &str) -> Command {
    let spec = CommandSpec {
        document: DOCUMENT.to_owned(),
        instance_ids: vec![id.to_owned()],
        parameters: BTreeMap::from([
            ("commands".to_owned(), vec![script.to_owned()]),
            ("executionTimeout".to_owned(), vec!["60".to_owned()]),
        ]),
        ..CommandSpec::default()
    };
    world.send_command(at(seconds), spec).unwrap()
}

fn result(world: &mut World, seconds: i64, command: &Command) -> (&'static str, i64, String) {
    let id = command.invocations.keys().next().unwrap();
    let (_, it) = world.command_invocation(at(seconds), &command.id, id).unwrap();
    (it.progress.details(), it.response_code, it.stdout)
}

#[track_caller]
fn check_bootstrap(behaviour: &str, ends: i64, line: &str) {
    let (mut world, id) = running();
    let machine = world.machines.get_mut(&id).unwrap();
    machine.behaviour = serde_json::from_str(behaviour).unwrap();
    let command = send(&mut world, 10, &id, BOOTSTRAP);
    assert_eq!(result(&mut world, 10 + ends - 1, &command).0, "InProgress");
    assert_eq!(result(&mut world, 10 + ends, &command), ("Success", 0, line.to_owned()));
    assert_eq!(world.commands.executions("b"), 1);
}

#[test]
fn a_bootstrap_comes_to_what_its_machine_says() {
    check_bootstrap("{}", 3, "lamplighter-exit 0 \n");
    check_bootstrap(
        r#"{"bootstrap":"5s","bootstrap_exit":7,"bootstrap_output":"no disk"}"#,
        5,
        "lamplighter-exit 7 no disk\n",
    );
    check_bootstrap(r#"{"bootstrap":"10s"}"#, 10, "lamplighter-exit 0 \n");
    check_bootstrap(r#"{"bootstrap":"11s"}"#, 10, "lamplighter-exit 124 ended after 10 s\n");
}

#[test]
fn a_machine_keeps_which_bootstraps_began() {
    let (mut world, id) = running();
    let command = send(&mut world, 10, &id, BOOTSTRAP);
    let runs = |world: &mut World, seconds| {
        world.advance(at(seconds));
        world.machines.get(&id).unwrap().bootstraps.clone()
    };
    let begun = runs(&mut world, 11);
    assert_eq!((begun[0].name.as_str(), begun[0].exit, begun[0].ended), ("setup", None, None));
    assert_eq!(begun[0].command_id, command.id);
    let ended = runs(&mut world, 13);
    assert_eq!((ended.len(), ended[0].exit, ended[0].ended), (1, Some(0), Some(at(13))));
    let expected = BTreeMap::from([("NAME".to_owned(), "x y".to_owned())]);
    assert_eq!(ended[0].environment, expected);
}

#[test]
fn a_bootstrap_delivered_again_waits_for_the_first() {
    let (mut world, id) = running();
    world.machines.get_mut(&id).unwrap().behaviour.bootstrap = Some(SignedDuration::from_secs(8));
    let first = send(&mut world, 10, &id, BOOTSTRAP);
    let second = send(&mut world, 12, &id, BOOTSTRAP);
    assert_eq!(result(&mut world, 17, &second).0, "InProgress");
    assert_eq!(result(&mut world, 18, &second), result(&mut world, 18, &first));
    let third = send(&mut world, 20, &id, BOOTSTRAP);
    assert_eq!(result(&mut world, 21, &third), result(&mut world, 21, &first));
    assert_eq!(world.commands.executions("b"), 1);
    assert_eq!(world.machines.get(&id).unwrap().bootstraps.len(), 1);
}

#[test]
fn a_bootstrap_that_hangs_is_ended_by_ssm_and_its_repeat_fails() {
    let (mut world, id) = running();
    world.machines.get_mut(&id).unwrap().behaviour.bootstrap_hangs = true;
    let first = send(&mut world, 10, &id, BOOTSTRAP);
    assert_eq!(result(&mut world, 69, &first).0, "InProgress");
    assert_eq!(result(&mut world, 70, &first).0, "Execution Timed Out");
    let second = send(&mut world, 80, &id, BOOTSTRAP);
    assert_eq!(result(&mut world, 114, &second).0, "InProgress");
    assert_eq!(result(&mut world, 115, &second), ("Failed", 4, String::new()));
    assert_eq!(world.commands.executions("b"), 1);
}

#[test]
fn a_termination_kills_a_bootstrap() {
    let (mut world, id) = running();
    let command = send(&mut world, 10, &id, BOOTSTRAP);
    world.terminate_machines(at(11), std::slice::from_ref(&id), false).unwrap();
    assert_eq!(result(&mut world, 69, &command).0, "InProgress");
    assert_eq!(result(&mut world, 70, &command).0, "Execution Timed Out");
    assert_eq!(world.machines.get(&id).unwrap().bootstraps[0].exit, None);
}

#[test]
fn a_document_of_the_fleets_is_a_bootstrap() {
    let (mut world, id) = running();
    let spec = |name: &str| CommandSpec {
        document: name.to_owned(),
        instance_ids: vec![id.clone()],
        parameters: BTreeMap::from([("token".to_owned(), vec!["d".to_owned()])]),
        ..CommandSpec::default()
    };
    world.commands.insert_document("Fleet-Setup");
    let command = world.send_command(at(10), spec("Fleet-Setup")).unwrap();
    assert_eq!(command.document, "Fleet-Setup");
    assert_eq!(result(&mut world, 13, &command).2, "lamplighter-exit 0 \n");
    assert_eq!(world.commands.executions("d"), 1);
    assert_eq!(world.machines.get(&id).unwrap().bootstraps[0].name, "Fleet-Setup");
    assert_eq!(world.send_command(at(20), spec("Other")).unwrap_err().code(), "InvalidDocument");
}
