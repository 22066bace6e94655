//! A machine for each request, told as stories: launched once, made ready, ended, and never left behind.

use std::collections::BTreeMap;

use lamplighter_events::{
    Action, AttentionKind, Cause, CommandId, InstanceId, TargetName, Verdict,
};

use super::{Story, seconds};
use crate::*;

mod tags;

pub(super) const MACHINE: &str = "i-0abc123def4567890";
/// Of a launch that was given up.
const LATE: &str = "i-0abc123def4567891";

pub(super) fn template() -> TemplateSpec {
    let pattern = |text: &str| Pattern::parse(text).unwrap();
    let optional =
        |text: &str| Parameter { pattern: pattern(text), required: false, default: None };
    TemplateSpec {
        template: TargetName::parse("walrus").unwrap(),
        owner: "lamplighter-commands".to_owned(),
        launch_template: "lt-0123456789abcdef0".to_owned(),
        version: "$Default".to_owned(),
        subnets: vec![],
        instance_types: vec![],
        market: Market::OnDemand,
        tags: BTreeMap::from([("ManagedBy".to_owned(), "lamplighter".to_owned())]),
        name_prefix: "walrus-vm".to_owned(),
        wait_for_public_ip: true,
        limit: 2,
        max_lifetime: None,
        keep_failed_for: None,
        retention: seconds("7d"),
        dedupe: Some("blob_id".to_owned()),
        parameters: BTreeMap::from([
            ("blob_id".to_owned(), optional("[A-Za-z0-9_-]{1,64}")),
            ("object_id".to_owned(), optional("[0-9a-fx]{1,66}")),
        ]),
        one_of: vec!["blob_id".to_owned(), "object_id".to_owned()],
        bootstrap: Some(Bootstrap::Script {
            name: "walrus".to_owned(),
            script: "exit 0".to_owned(),
            check: String::new(),
        }),
        bootstrap_timeout: seconds("150s"),
        systemd_unit: None,
        unit_check_every: None,
        price_per_hour_millionths: Some(36_000_000),
    }
}

impl Story {
    /// A request that nobody has made yet.
    pub(super) fn walrus(template: TemplateSpec) -> Self {
        let mut story = Self::new();
        let name = TargetName::parse("walrus.0123456789abcdef").unwrap();
        story.spec.place = Place::Template(Box::new(template));
        story.spec.timings.start_timeout = seconds("300s");
        story.spec.timings.ready_timeout = seconds("300s");
        story.spec.timings.settle = seconds("1ms");
        story.spec.name = name.clone();
        let resource = Resource::not_launched(&name, story.now);
        story.record = TargetRecord::first_contact(name, story.spec.kind(), resource, story.now);
        story.sees(PowerState::Missing);
        story
    }

    pub(super) fn create(&mut self, holder: &str, blob: &str) -> &mut Self {
        let command = self.create_command(holder, blob);
        self.asks(command)
    }

    pub(super) fn create_command(&self, holder: &str, blob: &str) -> AcceptedCommand {
        let parameters = BTreeMap::from([("blob_id".to_owned(), blob.to_owned())]);
        AcceptedCommand { parameters, ..self.command(Action::Create, holder) }
    }

    pub(super) fn destroy(&mut self) -> &mut Self {
        let command = self.command(Action::Destroy, "admin");
        self.asks(command)
    }

    /// EC2 took the launch.
    #[track_caller]
    pub(super) fn launched(&mut self) -> &mut Self {
        self.answered(&EffectAnswer::Accepted { id: Some(MACHINE.to_owned()) })
    }

    /// It runs, with its address.
    fn runs(&mut self, agent: Option<Agent>) -> &mut Self {
        self.sees(PowerState::Running);
        self.machine().public_ip = Some("203.0.113.7".to_owned());
        self.seen.agent = agent;
        self
    }

    fn exited(&mut self, code: i64, output: &str) -> &mut Self {
        self.runs(None);
        let output = output.to_owned();
        self.seen.check = Some(CheckReading::Exited { code, output });
        self
    }

    /// From nothing to ready.
    #[track_caller]
    pub(super) fn ready(&mut self) -> &mut Self {
        self.create("a", "blob").launched();
        self.after(6).runs(Some(Agent::Online)).look();
        self.sent("c-1").after(5).exited(0, "ready").look();
        assert_eq!(self.record.phase, Phase::On, "{}", self.record.why);
        self
    }

    fn launches(&self) -> Vec<&Launch> {
        let mut launches = Vec::new();
        for effect in &self.effects {
            if let Effect::RunInstance(launch) = effect {
                launches.push(&**launch);
            }
        }
        launches
    }

    fn ended(&self) -> usize {
        let ends = |effect: &&Effect| matches!(effect, Effect::TerminateInstance { .. });
        self.effects.iter().filter(ends).count()
    }

    #[track_caller]
    pub(super) fn came_to(&self, at: usize, verdict: Verdict, cause: Option<Cause>) {
        let outcome = &self.outcomes[at];
        assert_eq!((outcome.outcome, outcome.cause), (verdict, cause), "{outcome:?}");
    }

    /// A sweep tells of a machine of a launch that was given up.
    fn late_machine(&mut self) -> &mut Self {
        self.pass(&[Input::GivenUpLaunch(InstanceId::parse(LATE).unwrap())])
    }

    #[track_caller]
    fn ended_late_machine(&mut self) {
        let before = self.record.resource.clone();
        self.after(1).runs(None).late_machine();
        let last = self.effects.last().cloned();
        let late = InstanceId::parse(LATE).unwrap();
        assert_eq!(last, Some(Effect::TerminateInstance { instance: late }));
        self.accepted();
        assert_eq!(self.record.resource, before);
    }

    pub(super) fn in_flight_lost(&mut self) -> &mut Self {
        // Past `act_by`: the answer never came.
        self.after(16)
    }
}

pub(super) fn machine() -> Resource {
    Resource::Instance(InstanceId::parse(MACHINE).unwrap())
}

#[test]
fn a_create_launches_waits_bootstraps_and_says_ready() {
    let mut story = Story::walrus(template());
    story.create("a", "blob");
    let launch = story.launches()[0].clone();
    assert_eq!(launch.tags["Name"].split('-').take(2).collect::<Vec<_>>(), ["walrus", "vm"]);
    assert_eq!(launch.tags[TARGET_TAG], "walrus.0123456789abcdef");
    assert_eq!(launch.tags[OWNER_TAG], "lamplighter-commands");
    assert_eq!(story.record.resource, Resource::Launch(launch.token));
    assert!(story.record.provision.seated);
    story.launched();
    assert_eq!(story.record.resource, machine());
    assert_eq!(story.record.step, Some(Step::WaitMachine));
    story.after(6).sees(PowerState::Running).look();
    assert_eq!(story.record.step, Some(Step::WaitMachine), "it has no address yet");
    story.after(5).runs(None).look();
    assert_eq!(story.record.step, Some(Step::WaitAgent));
    story.after(5).runs(Some(Agent::Online)).look();
    assert_eq!(story.record.step, Some(Step::Bootstrap));
    story.sent("c-1").after(5).exited(0, "ready").look();
    assert_eq!(story.record.phase, Phase::On);
    story.came_to(0, Verdict::Done, None);
    let answer = &story.outcomes[0].answer;
    assert_eq!(answer["status"], "ready");
    assert_eq!(answer["instance_id"], MACHINE);
    assert_eq!(answer["blob_id"], "blob");
    assert_eq!(answer["public_ip"], "203.0.113.7");
    assert_eq!(story.launches().len(), 1);
}

#[test]
fn hostile_parameters_are_refused_before_anything_is_launched() {
    let long = "a".repeat(10_000);
    for blob in ["x\"; rm -rf / #", "$(id)", "", "..", "a b", "a\n", &long] {
        let mut story = Story::walrus(template());
        story.create("a", blob);
        story.came_to(0, Verdict::Rejected, Some(Cause::Invalid));
        assert!(story.effects.is_empty(), "{blob:?}");
        assert!(story.record.holds.is_empty(), "{blob:?}");
        assert!(story.outcomes[0].message.len() < 300, "{}", story.outcomes[0].message);
    }
}

#[test]
fn a_create_says_at_least_one_of_what_the_template_asks_for() {
    let mut story = Story::walrus(template());
    let command = story.command(Action::Create, "a");
    story.asks(command);
    story.came_to(0, Verdict::Rejected, Some(Cause::Invalid));
    assert!(story.outcomes[0].message.contains("blob_id or object_id is missing"));
}

#[test]
fn an_unknown_parameter_is_refused_by_name() {
    let mut story = Story::walrus(template());
    let mut command = story.create_command("a", "blob");
    command.parameters.insert("size".to_owned(), "xl".to_owned());
    story.asks(command);
    story.came_to(0, Verdict::Rejected, Some(Cause::Invalid));
    assert!(story.outcomes[0].message.contains("\"size\""), "{}", story.outcomes[0].message);
}

#[test]
fn the_same_request_twice_is_one_machine() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").launched();
    story.after(2).create("b", "blob");
    story.after(5).runs(Some(Agent::Online)).look();
    story.sent("c-1").after(5).exited(0, "").look();
    assert_eq!(story.launches().len(), 1);
    story.came_to(0, Verdict::Done, None);
    story.came_to(1, Verdict::Done, None);
    story.after(60).runs(None).create("c", "blob");
    story.came_to(2, Verdict::Done, None);
    assert_eq!(story.outcomes[2].answer["started"], false);
    assert_eq!(story.launches().len(), 1);
}

#[test]
fn a_launch_whose_answer_was_lost_is_asked_for_again_with_the_same_token() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").in_flight_lost().look();
    assert_eq!(story.launches().len(), 1, "it waits for the margin first");
    story.after(6).look();
    let launches = story.launches();
    assert_eq!(launches.len(), 2);
    assert_eq!(launches[0], launches[1]);
    story.launched();
    assert!(story.record.unanswered.is_empty(), "the one answer is that of both");
}

#[test]
fn a_launch_that_shows_by_its_token_needs_no_second_call() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").in_flight_lost();
    story.sees(PowerState::Pending);
    story.machine().id = Some(InstanceId::parse(MACHINE).unwrap());
    story.look();
    assert_eq!(story.record.resource, machine());
    assert_eq!(story.launches().len(), 1);
    assert!(story.record.unanswered.is_empty());
}

#[test]
fn a_destroy_while_the_launch_is_without_an_answer_ends_whatever_comes_of_it() {
    let mut story = Story::walrus(template());
    story.create("a", "blob");
    story.after(1).destroy();
    story.came_to(0, Verdict::Rejected, Some(Cause::Superseded));
    assert_eq!(story.ended(), 0);
    story.in_flight_lost().look();
    story.after(6).look();
    assert!(story.record.provision.seated, "it may yet come");
    assert!(story.record.wake_at.is_some());
    // Minutes later it does.
    story.after(60).sees(PowerState::Pending);
    story.machine().id = Some(InstanceId::parse(MACHINE).unwrap());
    story.look();
    assert_eq!(story.ended(), 1);
    story.accepted().after(6).sees(PowerState::Terminated).look();
    assert!(!story.record.provision.seated);
    assert_eq!(story.record.phase, Phase::Off);
    assert_eq!(story.launches().len(), 1);
}

#[test]
fn capacity_is_sought_in_the_next_subnet_and_type_and_the_last_resort_is_on_demand() {
    let mut spec = template();
    spec.subnets = vec!["subnet-a".to_owned(), "subnet-b".to_owned()];
    spec.market = Market::SpotThenOnDemand;
    let mut story = Story::walrus(spec);
    story.create("a", "blob");
    let soon = Refusal::RetryAfter(10_000);
    for (subnet, spot) in [("subnet-a", true), ("subnet-b", true), ("subnet-a", false)] {
        let last = story.launches().last().copied().cloned().unwrap();
        assert_eq!((last.option.subnet.as_deref(), last.option.spot), (Some(subnet), spot));
        story.refused(Cause::Capacity, soon);
        assert_eq!(story.record.wake_at, Some(story.now), "the next one is tried at once");
        story.after(1).look();
    }
    story.refused(Cause::Capacity, soon);
    assert!(story.record.wake_at.unwrap() > story.now, "after the last one it waits");
    assert!(story.record.provision.launch.as_ref().unwrap().tried[3].contains("subnet-b"));
    let mut tokens: Vec<&str> = story.launches().iter().map(|it| it.token.as_str()).collect();
    tokens.dedup();
    assert_eq!(tokens.len(), 4, "another request has another token");
    story.after(301).look();
    story.came_to(0, Verdict::Failed, Some(Cause::Capacity));
    let told = "4 refusals in 2 subnets, spot and on demand until the deadline; last: AWS says no";
    assert_eq!(story.outcomes[0].message, told);
    assert!(!story.record.provision.seated);
    assert!(story.record.holds.is_empty());
}

#[test]
fn a_launch_that_is_refused_for_good_goes_on_to_the_next_way_and_fails_with_the_last() {
    let mut spec = template();
    spec.subnets = vec!["subnet-a".to_owned(), "subnet-b".to_owned()];
    let mut story = Story::walrus(spec);
    story.create("a", "blob").refused(Cause::NotFound, Refusal::Final);
    assert_eq!(story.record.phase, Phase::Starting, "{}", story.record.why);
    assert_eq!(story.record.wake_at, Some(story.now), "the next one is tried at once");
    story.after(1).look();
    let tried: Vec<_> = story.launches().iter().map(|it| it.option.subnet.clone()).collect();
    assert_eq!(tried, [Some("subnet-a".to_owned()), Some("subnet-b".to_owned())]);
    story.refused(Cause::Invalid, Refusal::Final);
    story.came_to(0, Verdict::Failed, Some(Cause::Invalid));
    assert!(!story.record.provision.seated && story.record.holds.is_empty());
}

#[test]
fn a_way_that_is_refused_for_good_does_not_end_the_search_where_another_only_lacks_room() {
    let mut spec = template();
    spec.subnets = vec!["subnet-a".to_owned(), "subnet-b".to_owned()];
    let mut story = Story::walrus(spec);
    story.create("a", "blob").refused(Cause::Capacity, Refusal::RetryAfter(10_000));
    story.after(1).look().refused(Cause::Invalid, Refusal::Final);
    assert_eq!(story.record.phase, Phase::Starting, "{}", story.record.why);
    story.after(OPTIONS_PAUSE_SECONDS).look();
    assert_eq!(story.launches().last().unwrap().option.subnet.as_deref(), Some("subnet-a"));
    assert!(story.outcomes.is_empty());
}

#[test]
fn no_other_way_is_tried_while_a_launch_is_without_an_answer() {
    let mut spec = template();
    spec.subnets = vec!["subnet-a".to_owned(), "subnet-b".to_owned()];
    let mut story = Story::walrus(spec);
    story.create("a", "blob").in_flight_lost().look();
    story.after(6).look();
    story.refused(Cause::Capacity, Refusal::RetryAfter(1000));
    story.after(2).look();
    let launches = story.launches();
    assert_eq!(launches.len(), 3);
    assert!(launches.iter().all(|launch| *launch == launches[0]), "the first may still come true");
}

#[test]
fn the_next_way_is_tried_once_the_same_token_was_refused_late_enough_and_twice() {
    let mut spec = template();
    spec.subnets = vec!["subnet-a".to_owned(), "subnet-b".to_owned()];
    let mut story = Story::walrus(spec);
    story.create("a", "blob").in_flight_lost().look();
    // Too early to tell: the first may be on its way.
    for _ in 0..3 {
        story.after(6).look().refused(Cause::Capacity, Refusal::RetryAfter(1000));
    }
    story.after(60).look().refused(Cause::Capacity, Refusal::RetryAfter(1000));
    story.after(6).look().refused(Cause::Capacity, Refusal::RetryAfter(1000));
    story.after(1).look();
    let launches: Vec<Launch> = story.launches().into_iter().cloned().collect();
    let (last, same) = launches.split_last().unwrap();
    assert_eq!(same.len(), 6);
    assert!(same.iter().all(|launch| *launch == same[0]), "one token until then");
    assert_ne!(last.token, same[0].token);
    assert_eq!(last.option.subnet.as_deref(), Some("subnet-b"));
    // The answer to the first comes after all: the target's machine is the other one.
    let nonce = story.record.unanswered[0].nonce.clone();
    story.launched();
    let answer = EffectAnswer::Accepted { id: Some(LATE.to_owned()) };
    let late = apply_answer(&story.record, &story.spec, &nonce, &answer, &[], story.now);
    let ApplyAnswer::Commit(late) = late else { panic!("it was not stale") };
    story.take(*late);
    assert_eq!(story.record.resource, machine());
    // A sweep finds it by its token.
    let given_up = &story.record.provision.launch.as_ref().unwrap().given_up;
    assert_eq!(given_up.len(), 1);
    assert_eq!(given_up[0].token, same[0].token);
    story.ended_late_machine();
    story.after(6).runs(Some(Agent::Online)).look();
    assert_eq!(story.record.step, Some(Step::Bootstrap), "{}", story.record.why);
}

#[test]
fn the_end_of_a_late_machine_changes_nothing_of_its_target() {
    for answer in [
        EffectAnswer::Accepted { id: None },
        EffectAnswer::NotMade,
        EffectAnswer::Refused {
            cause: Cause::Denied,
            message: "no".to_owned(),
            refusal: Refusal::Final,
        },
    ] {
        let mut story = Story::walrus(template());
        story.ready();
        let token = LaunchToken::parse(&"a".repeat(32)).unwrap();
        let given_up = GivenUpLaunch { token, at: story.now };
        story.record.provision.launch.as_mut().unwrap().given_up.push(given_up);
        story.after(60).runs(None).late_machine();
        assert_eq!(story.ended(), 1);
        story.answered(&answer);
        let record = &story.record;
        assert_eq!((record.phase, record.step, record.holds.len()), (Phase::On, None, 1));
        assert!(
            record.accepted.stop.is_none()
                && record.quiet.is_none_or(|q| q.after != EffectKind::Stop)
        );
        story.after(6).runs(None).look();
        assert_eq!((story.record.phase, story.ended()), (Phase::On, 1), "{}", story.record.why);
    }
    // A machine that is the target's own is never ended so, nor one where no launch was given up.
    let mut story = Story::walrus(template());
    story.ready();
    story.after(60).runs(None).late_machine();
    assert_eq!(story.ended(), 0);
}

#[test]
fn a_bootstrap_that_fails_ends_in_a_terminated_machine_and_a_record_that_says_why() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").launched();
    story.after(6).runs(Some(Agent::Online)).look();
    story.sent("c-1").after(5).exited(22, "fetch: blob not found").look();
    story.came_to(0, Verdict::Failed, Some(Cause::UnitFailed));
    assert!(story.outcomes[0].message.contains("blob not found"));
    assert_eq!(story.ended(), 1);
    story.accepted().after(6).sees(PowerState::Terminated).look();
    assert_eq!(story.record.phase, Phase::Failed);
    assert!(story.record.provision.retire_at.is_some());
    assert!(!story.record.provision.seated);
    let view = ProvisionedStatus::of(&story.record, story.now);
    assert_eq!(view.processing_status, "failed");
    assert!(view.error.unwrap().contains("blob not found"));
}

#[test]
fn a_failed_machine_is_kept_for_a_while_where_the_template_says_so() {
    let mut spec = template();
    spec.keep_failed_for = Some(seconds("1h"));
    let mut story = Story::walrus(spec);
    story.spec.keep_failed = true;
    story.create("a", "blob").launched();
    story.after(6).runs(Some(Agent::Online)).look();
    story.sent("c-1").after(5).exited(1, "").look();
    story.came_to(0, Verdict::Failed, Some(Cause::UnitFailed));
    assert_eq!((story.record.phase, story.ended()), (Phase::Failed, 0));
    assert!(story.record.up.kept && story.record.provision.seated);
    story.after(60).runs(None).look();
    assert_eq!(story.ended(), 0);
    story.after(3600).runs(None).look();
    assert_eq!(story.ended(), 1, "{}", story.record.why);
}

#[test]
fn an_agent_that_never_comes_fails_the_create_and_ends_its_machine() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").launched();
    story.after(6).runs(Some(Agent::Unregistered)).look();
    story.after(601).runs(Some(Agent::Unregistered)).look();
    story.came_to(0, Verdict::Failed, Some(Cause::AgentUnreachable));
    assert_eq!(story.ended(), 1);
}

#[test]
fn a_machine_that_ec2_does_not_know_yet_is_waited_for() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").launched();
    story.after(30).sees(PowerState::Missing).look();
    assert_eq!((story.record.phase, story.outcomes.len()), (Phase::Starting, 0));
    story.after(30).runs(Some(Agent::Online)).look();
    assert_eq!(story.record.step, Some(Step::Bootstrap));
    assert_eq!(story.launches().len(), 1);
}

#[test]
fn a_machine_that_showed_once_and_is_not_known_by_its_id_is_waited_for() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").in_flight_lost();
    story.sees(PowerState::Pending);
    story.machine().id = Some(InstanceId::parse(MACHINE).unwrap());
    story.look();
    for _ in 0..3 {
        story.after(10).sees(PowerState::Missing).look();
    }
    assert_eq!(story.record.phase, Phase::Starting, "{}", story.record.why);
    story.after(10).runs(Some(Agent::Online)).look();
    assert_eq!(story.record.step, Some(Step::Bootstrap));
}

#[test]
fn a_destroy_of_what_ec2_does_not_show_yet_waits_until_it_does() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").launched();
    story.after(6).sees(PowerState::Missing).destroy();
    assert_eq!(story.ended(), 0);
    story.after(10).sees(PowerState::Missing).look();
    assert_eq!(story.record.phase, Phase::Stopping, "{}", story.record.why);
    story.after(10).sees(PowerState::Pending).look();
    assert_eq!(story.ended(), 1, "a machine that is pending can be terminated");
}

#[test]
fn destroying_twice_is_destroying_once() {
    let mut story = Story::walrus(template());
    story.ready();
    story.after(60).runs(None).destroy();
    assert_eq!(story.ended(), 1);
    story.accepted();
    story.after(1).runs(None).destroy();
    story.after(6).sees(PowerState::ShuttingDown).look();
    story.after(6).sees(PowerState::Terminated).look();
    assert_eq!(story.ended(), 1);
    story.came_to(1, Verdict::Done, None);
    story.came_to(2, Verdict::Done, None);
    assert_eq!(story.outcomes[1].answer["stopped"], true);
    assert_eq!(story.outcomes[1].answer["status"], "terminated");
    story.after(60).sees(PowerState::Missing).destroy();
    story.came_to(3, Verdict::Done, None);
    assert_eq!(story.ended(), 1);
}

#[test]
fn a_stop_of_the_last_holder_ends_the_machine_and_of_another_one_does_not() {
    let mut story = Story::walrus(template());
    story.ready();
    story.after(1).runs(None).create("b", "blob");
    story.after(1).runs(None).stop("a");
    assert_eq!(story.ended(), 0);
    story.after(1).runs(None).stop("b");
    assert_eq!(story.ended(), 1);
}

#[test]
fn a_machine_that_somebody_terminated_ends_its_holds_and_is_not_launched_again() {
    let mut story = Story::walrus(template());
    story.ready();
    let at = story.after(60).now;
    story.sees(PowerState::Terminated);
    story.machine().user_stopped_at = Some(at);
    story.look();
    story.after(6).sees(PowerState::Terminated);
    story.machine().user_stopped_at = Some(at);
    story.look();
    assert_eq!(story.record.phase, Phase::Off, "{}", story.record.why);
    assert!(story.record.holds.is_empty());
    assert_eq!(story.launches().len(), 1);
    assert!(!story.record.provision.seated);
}

#[test]
fn a_spot_machine_that_ec2_takes_back_is_replaced_for_whoever_holds_it() {
    let mut story = Story::walrus(template());
    story.ready();
    let now = story.after(60).now;
    let notice = |id: &str| SpotNotice { instance: InstanceId::parse(id).unwrap(), at: now };
    story.runs(None).pass(&[Input::SpotNotice(notice("i-0000000000000000a"))]);
    assert!(story.record.provision.launch.as_ref().unwrap().interrupted_at.is_none(), "another's");
    story.pass(&[Input::SpotNotice(notice(MACHINE))]);
    story.pass(&[Input::SpotNotice(notice(MACHINE))]);
    let said = story.record.outbox.iter().filter(|event| {
        matches!(&event.body, lamplighter_events::EventBody::Attention { attention, .. }
            if *attention == AttentionKind::SpotInterruption)
    });
    assert_eq!(said.count(), 1, "told twice, said once");
    for _ in 0..2 {
        story.after(60).sees(PowerState::Terminated);
        story.machine().reason = Some("Server.SpotInstanceTermination: taken back".to_owned());
        story.look();
    }
    assert_eq!(story.launches().len(), 2, "{}", story.record.why);
    assert_ne!(story.launches()[0].token, story.launches()[1].token);
    assert_eq!(story.record.holds.len(), 1);
}

#[test]
fn a_replacement_that_fails_is_ended_and_leaves_its_place_though_its_create_was_done() {
    let mut story = Story::walrus(template());
    story.ready();
    for _ in 0..2 {
        story.after(60).sees(PowerState::Terminated);
        story.machine().reason = Some("Server.SpotInstanceTermination: taken back".to_owned());
        story.look();
    }
    story.launched();
    story.after(6).runs(Some(Agent::Online)).look();
    story.sent("c-2").after(5).exited(1, "").look();
    assert_eq!(story.ended(), 1, "{}", story.record.why);
    story.accepted().after(6).sees(PowerState::Terminated).look();
    assert_eq!(story.record.phase, Phase::Failed);
    assert!(!story.record.provision.seated && story.record.holds.is_empty());
}

#[test]
fn a_failed_create_without_a_machine_keeps_no_place_though_failures_are_kept() {
    let mut spec = template();
    spec.keep_failed_for = Some(seconds("24h"));
    let mut story = Story::walrus(spec);
    story.spec.keep_failed = true;
    story.create("a", "blob").refused(Cause::Invalid, Refusal::Final);
    story.came_to(0, Verdict::Failed, Some(Cause::Invalid));
    assert!(
        !story.record.provision.seated && story.record.holds.is_empty(),
        "{}",
        story.record.why
    );
}

#[test]
fn an_orphan_is_never_ended_by_a_look_whatever_it_does() {
    for state in [PowerState::Pending, PowerState::Stopped, PowerState::Stopping] {
        let mut story = Story::walrus(template());
        story.record.resource = machine();
        story.sees(state).look();
        assert_eq!((story.record.phase, story.ended()), (Phase::Off, 0), "{state:?}");
        // Somebody starts it, to save what is on it.
        story.after(60).runs(None).look();
        assert_eq!((story.record.phase, story.ended()), (Phase::On, 0), "{state:?}");
    }
}

#[test]
fn a_terminate_of_ours_that_comes_true_late_ends_nobodys_newer_hold() {
    let mut story = Story::walrus(template());
    story.ready();
    story.after(60).runs(None).destroy();
    assert_eq!(story.ended(), 1);
    // Its answer is lost; it is wanted again, and shows running for a while.
    story.in_flight_lost().runs(None).create("b", "blob");
    story.after(6).runs(None).look();
    assert_eq!(story.record.phase, Phase::On, "{}", story.record.why);
    story.after(60).sees(PowerState::Terminated).look();
    assert_eq!(story.record.holds.len(), 1, "{}", story.record.why);
    assert_eq!(story.launches().len(), 2);
    // That stop was of the old machine: what becomes of the new one is its own.
    story.answered(&EffectAnswer::Accepted { id: Some("i-0000000000000000b".to_owned()) });
    story.after(6).sees(PowerState::Terminated).look();
    story.after(6).sees(PowerState::Terminated).look();
    story.came_to(story.outcomes.len() - 1, Verdict::Done, None);
    assert_eq!(story.record.phase, Phase::Failed, "{}", story.record.why);
    assert_eq!(story.launches().len(), 2, "no circle of launches");
}

#[test]
fn a_launch_that_ec2_never_answers_ends_at_its_deadline_and_keeps_its_place_while_it_may_come() {
    let mut story = Story::walrus(template());
    story.create("a", "blob");
    for _ in 0..25 {
        story.after(21).look();
    }
    story.came_to(0, Verdict::Failed, Some(Cause::Deadline));
    assert!(story.record.provision.seated, "it may yet come");
    let launches = story.launches();
    assert!(launches.iter().all(|launch| *launch == launches[0]));
    story.after(1000).look();
    story.after(60).look();
    assert!(!story.record.provision.seated, "{}", story.record.why);
}

#[test]
fn an_answer_to_a_launch_that_comes_after_its_end_keeps_the_place_until_the_machine_is_gone() {
    let mut story = Story::walrus(template());
    story.create("a", "blob");
    let nonce = story.record.doing.as_ref().unwrap().nonce.clone();
    story.in_flight_lost().destroy();
    story.after(6).look();
    assert_eq!((story.record.phase, story.record.provision.seated), (Phase::Off, true));
    // The worker that had stalled commits what EC2 had said.
    let answer = EffectAnswer::Accepted { id: Some(MACHINE.to_owned()) };
    let late = apply_answer(&story.record, &story.spec, &nonce, &answer, &[], story.now);
    let ApplyAnswer::Commit(late) = late else { panic!("it was not stale") };
    story.take(*late);
    assert_eq!(story.record.resource, machine());
    assert!(
        story.record.provision.seated && story.record.provision.retire_at.is_none(),
        "its machine is there"
    );
    assert_eq!(story.record.wake_at, Some(story.now), "somebody looks at once");
    story.after(1).sees(PowerState::Pending).look();
    assert_eq!(story.ended(), 1);
    story.accepted().after(6).sees(PowerState::Terminated).look();
    assert!(!story.record.provision.seated);
}

#[test]
fn what_is_on_and_not_known_for_a_moment_keeps_its_holds_and_its_machine() {
    let mut story = Story::walrus(template());
    story.ready();
    for _ in 0..3 {
        story.after(10).sees(PowerState::Missing).look();
    }
    assert_eq!((story.record.phase, story.record.holds.len()), (Phase::On, 1));
    story.after(10).runs(None).look();
    assert_eq!((story.record.phase, story.ended()), (Phase::On, 0));
    // Two minutes after its launch it would show, if it were there.
    story.after(120).sees(PowerState::Missing).look();
    story.after(6).sees(PowerState::Missing).look();
    assert_eq!((story.record.phase, story.record.holds.len()), (Phase::Off, 0));
}

#[test]
fn a_template_without_a_place_refuses_and_leaves_nothing() {
    let mut story = Story::walrus(template());
    let command = story.create_command("a", "blob");
    story.pass(&[Input::Command(Box::new(command)), Input::NoSeat]);
    story.came_to(0, Verdict::Rejected, Some(Cause::Capacity));
    assert!(story.outcomes[0].message.contains("limit"));
    assert!(story.effects.is_empty() && story.record.holds.is_empty());
    assert!(!story.record.provision.seated);
}

#[test]
fn a_machine_lives_no_longer_than_its_template_lets_it() {
    let mut spec = template();
    spec.max_lifetime = Some(seconds("1h"));
    let mut story = Story::walrus(spec);
    story.ready();
    story.after(1800).runs(None).create("b", "blob");
    story.after(1801).runs(None).look();
    assert_eq!(story.ended(), 1, "{}", story.record.why);
}

#[test]
fn a_create_during_the_end_gets_a_machine_of_its_own_afterwards() {
    let mut story = Story::walrus(template());
    story.ready();
    story.after(60).runs(None).destroy();
    story.accepted();
    story.after(1).sees(PowerState::ShuttingDown).create("b", "blob");
    assert_eq!(story.launches().len(), 1);
    story.after(10).sees(PowerState::Terminated).look();
    assert_eq!(story.launches().len(), 2, "{}", story.record.why);
    assert_ne!(story.launches()[0].token, story.launches()[1].token);
}

#[test]
fn a_bootstrap_that_was_begun_is_asked_for_again_under_its_first_token() {
    let mut story = Story::walrus(template());
    story.create("a", "blob").launched();
    story.after(6).runs(Some(Agent::Online)).look();
    story.sent("c-1");
    // Somebody changes their mind twice, before anything was ended.
    story.after(1).runs(None);
    let stop = story.command(Action::Stop, "a");
    story.asks(stop);
    story.refused(Cause::Throttled, Refusal::RetryAfter(60_000));
    story.after(2).runs(Some(Agent::Online)).create("a", "blob");
    story.after(6).runs(Some(Agent::Online)).look();
    let mut tokens = story.effects.iter().filter_map(|effect| match effect {
        Effect::SendCommand { token, .. } => Some(token),
        _ => None,
    });
    let (first, second) = (tokens.next().unwrap(), tokens.next().unwrap());
    assert_eq!(first, second);
}

#[test]
fn a_script_that_fails_long_after_its_bootstrap_is_seen_and_the_next_request_is_told() {
    let mut spec = template();
    spec.systemd_unit = Some(UnitName::parse("walrus-model").unwrap());
    spec.unit_check_every = Some(seconds("5m"));
    let mut story = Story::walrus(spec);
    story.ready();
    story.after(100).runs(Some(Agent::Online)).look();
    story.sent("c-2").after(1).said("failed").look();
    assert!(story.record.up.unit_down, "{}", story.record.why);
    let attention = |event: &lamplighter_events::LifecycleEvent| {
        matches!(&event.body, lamplighter_events::EventBody::Attention { attention, .. }
            if *attention == AttentionKind::UnitDied)
    };
    assert!(story.record.outbox.iter().any(attention));
    let view = ProvisionedStatus::of(&story.record, story.now);
    assert_eq!((view.processing_status, view.error.is_some()), ("failed", true));
    // The same request again is not told that all is well: the unit is asked for.
    story.after(10).runs(Some(Agent::Online)).create("b", "blob");
    story.sent("c-3").after(1).runs(None);
    story.seen.check = Some(CheckReading::Said { state: "failed".to_owned() });
    story.look();
    story.came_to(1, Verdict::Failed, Some(Cause::UnitFailed));
    assert_eq!(story.launches().len(), 1);
}
