//! What tags, names and parameters say of a launched machine, and what it costs.

use super::*;

#[test]
fn an_orphan_with_our_tags_is_adopted_and_said_aloud() {
    let mut story = Story::walrus(template());
    story.record.resource = machine();
    story.runs(None).look();
    assert_eq!(story.record.phase, Phase::On);
    assert!(story.record.provision.seated);
    story.after(60).runs(None).destroy();
    assert_eq!(story.ended(), 1);
}

#[test]
fn parameters_of_a_machine_that_is_there_are_what_it_was_made_with() {
    let mut story = Story::walrus(template());
    story.ready();
    let mut command = story.create_command("b", "blob");
    command.parameters.insert("object_id".to_owned(), "0xff".to_owned());
    story.after(60).runs(None).asks(command);
    story.came_to(1, Verdict::Rejected, Some(Cause::Conflict));
    assert_eq!(story.record.provision.launch.as_ref().unwrap().parameters["blob_id"], "blob");
}

#[test]
fn what_a_machine_costs_is_counted_from_its_launch_to_its_end() {
    let mut story = Story::walrus(template());
    story.ready();
    let view = ProvisionedStatus::of(&story.record, story.now);
    assert_eq!(view.cost, Some(11.0 * 36.0 / 3600.0), "eleven seconds at 36 an hour");
}

#[test]
fn a_target_is_named_after_what_its_request_is_known_by() {
    let spec = template();
    let id = |text: &str| CommandId::parse(text).unwrap();
    let blob = BTreeMap::from([("blob_id".to_owned(), "blob".to_owned())]);
    let object = BTreeMap::from([("object_id".to_owned(), "0xff".to_owned())]);
    let by_blob = spec.target_of(&id("1"), &blob);
    assert_eq!(by_blob, spec.target_of(&id("2"), &blob), "by its blob");
    assert_ne!(spec.target_of(&id("1"), &object), spec.target_of(&id("2"), &object), "by its id");
    assert!(by_blob.unwrap().as_str().starts_with("walrus."));
}
