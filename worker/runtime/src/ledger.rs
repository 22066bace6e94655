//! The reconciling sweep: machines that bear our tags, and whether a record knows them.
//!
//! *Theory.* A launch is committed before it is made, so a machine of ours always has a record, unless the table
//! was lost or somebody copied its tags. What no record knows is adopted by a pass of its target; what a record at
//! rest still has gets a look, which ends it; what a launch made that its record gave up is ended by a pass of its
//! target; what is none of these is said aloud and left alone, since it may be somebody's: `lamplighter leaks` lists
//! it.
//!
//! *Invariant.* Nothing is decided here, and nothing written.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use lamplighter_events::{AttentionKind, EventBody, LifecycleEvent, TargetName};
use lamplighter_lifecycle::{Standing, TargetRecord, standing};

use crate::failures::Failures;
use crate::fleet::Fleet;
use crate::ports::{CallError, Stored, Tagged};
use crate::shared::Shared;
use crate::work::Work;

/// What a machine is to the record of the target that its tags name.
pub(crate) fn standing_of(
    tagged: &Tagged,
    fleet: &Fleet,
    record: Option<&TargetRecord>,
) -> Standing {
    let target = TargetName::parse(&tagged.target).ok();
    let kind = target.as_ref().and_then(|target| fleet.spec(target)).map(|spec| spec.kind());
    standing(&tagged.instance, &tagged.token, kind, record)
}

/// The owners whose machines this fleet's workers mind.
pub fn owners(fleet: &Fleet) -> BTreeSet<&str> {
    fleet.templates.values().filter_map(|it| it.template()).map(|it| it.owner.as_str()).collect()
}

/// Looks at every machine with our tags. `said`: the strays that this process has spoken of.
pub(crate) async fn reconcile(
    shared: &Arc<Shared>,
    said: &mut BTreeSet<String>,
) -> Result<(), CallError> {
    let mut failures = Failures::default();
    for owner in owners(&shared.fleet) {
        let Some(all) = failures.note(shared.ports.cloud.tagged(owner).await) else { continue };
        let names: Vec<TargetName> =
            all.iter().filter_map(|it| TargetName::parse(&it.target).ok()).collect();
        let records = match names.is_empty() {
            true => Vec::new(),
            // Without its records every machine would look like an orphan.
            false => match failures.note(shared.ports.store.load_all(&names).await) {
                Some(records) => records,
                None => continue,
            },
        };
        let records: BTreeMap<&str, &Stored> =
            records.iter().map(|stored| (stored.target().as_str(), stored)).collect();
        for tagged in &all {
            let stored = records.get(tagged.target.as_str()).copied();
            // What cannot be read here is looked after by a newer release's workers.
            if stored.is_some_and(|stored| stored.record().is_none()) {
                continue;
            }
            let record = stored.and_then(Stored::record);
            let standing = standing_of(tagged, &shared.fleet, record);
            let target = TargetName::parse(&tagged.target);
            match (standing, target) {
                (Standing::Minded, _) => {}
                (Standing::Late, Ok(target)) => shared.nudge(&target),
                (Standing::Orphan, Ok(target)) => {
                    shared.nudge_with(&target, Work::found(tagged.instance.clone()));
                }
                (Standing::GivenUp, Ok(target)) => {
                    shared.nudge_with(&target, Work::given_up(tagged.instance.clone()));
                }
                (Standing::Stray, _) | (_, Err(_)) => {
                    failures.note(announce(shared, tagged, said).await);
                }
            }
        }
    }
    failures.end()
}

async fn announce(
    shared: &Shared,
    tagged: &Tagged,
    said: &mut BTreeSet<String>,
) -> Result<(), CallError> {
    if !said.insert(tagged.instance.to_string()) {
        return Ok(());
    }
    let message = format!(
        "{} bears our tags for {:?}, whose record knows no such machine: see `lamplighter leaks`",
        tagged.instance, tagged.target
    );
    tracing::error!(instance = %tagged.instance, "{message}");
    let event = LifecycleEvent {
        id: format!("{}:orphan", tagged.instance),
        at: shared.ports.clock.now(),
        target: TargetName::parse(&tagged.target).ok(),
        body: EventBody::Attention {
            attention: AttentionKind::Orphan,
            message,
            instance: Some(tagged.instance.to_string()),
        },
    };
    shared.ports.bus.emit(&[event]).await.map(|_| ())
}
