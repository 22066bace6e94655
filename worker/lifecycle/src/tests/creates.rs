//! A create for a target that has been made before.

use lamplighter_events::{Cause, InstanceId, Verdict};

use super::Story;
use super::templates::{MACHINE, machine, template};
use crate::*;

/// Crowd of requests 12500003772: a launch without an answer shows while the next create is read.
#[test]
fn a_create_takes_the_machine_that_an_earlier_one_left_as_it_was_made() {
    let left = || {
        let mut story = Story::walrus(template());
        story.create("a", "blob").in_flight_lost().destroy();
        story.after(6).look();
        assert_eq!(story.record.phase, Phase::Off, "{}", story.record.why);
        story.after(10).sees(PowerState::Running);
        story.machine().id = Some(InstanceId::parse(MACHINE).unwrap());
        story.outcomes.clear();
        story
    };
    // For the same parameters it serves, and is known as launched a moment ago.
    let mut story = left();
    story.create("b", "blob");
    assert_eq!(story.record.resource, machine());
    story.after(1).sees(PowerState::Missing).look().after(6).look();
    assert_eq!(story.record.phase, Phase::Starting, "{}", story.record.why);
    assert!(story.outcomes.is_empty());
    // For others it serves as well, as long as nobody has made it ready.
    let mut story = left();
    let number = story.record.provision.launch.as_ref().unwrap().number;
    story.create("b", "another");
    let launch = story.record.provision.launch.as_ref().unwrap();
    assert_eq!((launch.parameters["blob_id"].as_str(), launch.number), ("another", number));
    assert!(launch.launched_at.is_some());
    // What was made ready for other parameters cannot be had with these.
    let mut story = left();
    let launch = story.record.provision.launch.as_mut().unwrap();
    launch.bootstrap_token = Some("0123".to_owned());
    story.create("b", "another");
    story.came_to(0, Verdict::Rejected, Some(Cause::Conflict));
    let launch = story.record.provision.launch.as_ref().unwrap();
    assert_eq!(launch.parameters["blob_id"], "blob");
}

#[test]
fn a_create_keeps_in_mind_which_launches_were_given_up() {
    let mut story = Story::walrus(template());
    story.ready();
    let given_up =
        GivenUpLaunch { token: LaunchToken::parse(&"a".repeat(32)).unwrap(), at: story.now };
    story.record.provision.launch.as_mut().unwrap().given_up = vec![given_up.clone()];
    story.destroy().accepted().after(6).sees(PowerState::Terminated).look();
    assert_eq!(story.record.phase, Phase::Off, "{}", story.record.why);
    story.create("b", "another");
    assert_eq!(story.record.provision.launch.as_ref().unwrap().given_up, [given_up]);
}
