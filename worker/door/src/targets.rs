//! What is seen of targets: their records, as `lamplighter status` shows them.
//!
//! *Not here.* Looking at AWS: the door has no right to, and what the workers saw last is in the record, with its age.

use lamplighter_runtime::owner_of;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::http::StatusCode;
use jiff::Timestamp;
use lamplighter_events::{Action, InstanceId, TargetName};
use lamplighter_lifecycle::{
    LastOutcome, Resource, Run, StatusView, TargetRecord, TargetSpec, usual_start_seconds,
};
use lamplighter_runtime::Unaddressed;
use lamplighter_runtime::ports::{CallError, Stored};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::Door;
use crate::access::Caller;
use crate::problem::Problem;
use crate::settings::Right;

/// A target and its record, or what there is to say before any worker looked at it.
#[derive(Debug, Clone)]
pub(crate) struct Looked<'d> {
    pub(crate) spec: Cow<'d, TargetSpec>,
    pub(crate) record: TargetRecord,
    /// What it is made of is not known here: it stands in a secret, which the door may not read, and no worker has
    /// looked at it yet.
    unresolved: bool,
    /// Why its record cannot be read here, where it cannot.
    unreadable: Option<String>,
}

/// Targets by name.
pub(crate) type Targets = BTreeMap<TargetName, Looked<'static>>;

/// How long a look at all targets is shared. A person does not see the difference.
const SHARED_FOR: Duration = Duration::from_millis(500);
/// Stands in a record for what is not known, and is shown to nobody.
const PLACEHOLDER: &str = "i-00000000000000000";

/// A target as the API shows it.
#[derive(Debug, Serialize)]
struct Shown<'r> {
    #[serde(flatten)]
    view: StatusView,
    #[serde(skip_serializing_if = "Option::is_none")]
    template: Option<&'r TargetName>,
    last_outcome: Option<&'r LastOutcome>,
    usual_start_seconds: Option<u64>,
    runs: Vec<RunShown>,
    actions: Vec<Action>,
    /// A stop ends its machine for good.
    stop_destroys: bool,
}

/// The order in which actions are offered.
const OFFERED: [Action; 9] = [
    Action::Start,
    Action::Stop,
    Action::Kill,
    Action::Destroy,
    Action::KeepAlive,
    Action::CheckIdle,
    Action::Status,
    Action::Resume,
    Action::Pause,
];

/// A run as people read it; the record writes it shorter.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct RunShown {
    from: Timestamp,
    ready: Option<Timestamp>,
    until: Option<Timestamp>,
}

impl RunShown {
    pub(crate) fn all(runs: &[Run]) -> Vec<Self> {
        let shown = |run: &Run| Self { from: run.from, ready: run.ready, until: run.until };
        runs.iter().map(shown).collect()
    }
}

impl<'d> Looked<'d> {
    pub(crate) fn new(spec: Cow<'d, TargetSpec>, record: TargetRecord) -> Self {
        Self { spec, record, unresolved: false, unreadable: None }
    }

    fn of(spec: Cow<'d, TargetSpec>, stored: Stored) -> Self {
        let unreadable = stored.unreadable();
        Self { spec, record: stored.shown(), unresolved: false, unreadable }
    }

    /// The same, for longer than the fleet is at hand.
    pub(crate) fn owned(self) -> Looked<'static> {
        Looked {
            spec: Cow::Owned(self.spec.into_owned()),
            record: self.record,
            unresolved: self.unresolved,
            unreadable: self.unreadable,
        }
    }

    /// As the API shows it to this caller.
    pub(crate) fn json(&self, caller: &Caller, now: Timestamp) -> Value {
        let record = &self.record;
        let shown = Shown {
            view: StatusView::of(record, &self.spec, now),
            template: self.spec.template().map(|spec| &spec.template),
            last_outcome: record.last_outcome.as_ref(),
            usual_start_seconds: usual_start_seconds(&record.runs),
            runs: RunShown::all(&record.runs),
            actions: self.actions(caller),
            stop_destroys: self.spec.kind().stop_destroys(),
        };
        let mut json = serde_json::to_value(&shown).unwrap_or_default();
        if self.unresolved {
            json["instance"] = Value::Null;
        }
        if let Some(why) = &self.unreadable {
            json["unreadable"] = why.as_str().into();
        }
        json
    }

    /// What it can do, of what this caller may.
    fn actions(&self, caller: &Caller) -> Vec<Action> {
        let (idle, paused) = (self.spec.idle.is_some(), self.record.paused.is_some());
        let makes_sense = |action| match action {
            Action::KeepAlive | Action::CheckIdle => idle,
            Action::Pause => !paused,
            Action::Resume => paused,
            Action::Start
            | Action::Create
            | Action::Stop
            | Action::Kill
            | Action::Destroy
            | Action::Status => true,
        };
        OFFERED
            .into_iter()
            .filter(|action| self.spec.kind().offers(*action) && makes_sense(*action))
            .filter(|action| caller.has(Caller::right_for(*action, false)))
            .collect()
    }

    /// `…/why`
    pub(crate) fn why(&self) -> Map<String, Value> {
        let record = &self.record;
        let why = serde_json::json!({
            "target": record.target, "phase": record.phase_name(), "step": record.step,
            "why": record.why, "since": record.since, "failure": record.failure,
            "wake_at": record.wake_at, "rev": record.rev,
        });
        match why {
            Value::Object(fields) => fields,
            _ => Map::new(),
        }
    }
}

/// What is known of a target that no worker has looked at. A machine of a template is there by its record alone.
fn unseen<'d>(spec: Cow<'d, TargetSpec>, now: Timestamp) -> Option<Looked<'d>> {
    if spec.kind().is_created() {
        return None;
    }
    let resource = spec.resource();
    let unresolved = resource.is_none();
    let resource =
        resource.or_else(|| InstanceId::parse(PLACEHOLDER).ok().map(Resource::Instance))?;
    let record = TargetRecord::first_contact(spec.name.clone(), spec.kind(), resource, now);
    Some(Looked { spec, record, unresolved, unreadable: None })
}

impl Door {
    /// A target by its name, or by its EC2 instance, if this caller may see it.
    pub(crate) async fn target(&self, caller: &Caller, text: &str) -> Result<Looked<'_>, Problem> {
        caller.need(Right::Read)?;
        self.look_at(caller, text).await
    }

    /// The same for whoever has another right to it.
    pub(crate) async fn look_at(&self, caller: &Caller, text: &str) -> Result<Looked<'_>, Problem> {
        let unknown = || unknown_target(caller, text, &self.fleet);
        let by_name = TargetName::parse(text).ok().filter(|name| self.fleet.has(name));
        let name = match (by_name, InstanceId::parse(text)) {
            (Some(name), _) => name,
            (None, Ok(id)) => {
                let resource = Resource::Instance(id);
                let owner = owner_of(&self.fleet, &*self.store, &resource).await?;
                owner.ok_or_else(unknown)?
            }
            (None, Err(_)) => return Err(unknown()),
        };
        if !caller.sees(&name) {
            return Err(no_such_target());
        }
        let spec = self.fleet.spec(&name).ok_or_else(unknown)?;
        let now = self.clock.now();
        let stored = self.store.look_up(&name).await?.filter(|stored| is_there(stored, now));
        match stored {
            Some(stored) => Ok(Looked::of(spec, stored)),
            None => unseen(spec, now).ok_or_else(unknown),
        }
    }

    /// The same for whoever only shows them: of this moment, or of a moment ago. One look serves all who ask meanwhile,
    /// since each reads the whole fleet from the table that the workers write.
    pub(crate) async fn all(&self) -> Result<Arc<Targets>, CallError> {
        let mut looked = self.looked.lock().await;
        if let Some((at, targets)) = &*looked
            && at.elapsed() < SHARED_FOR
        {
            return Ok(Arc::clone(targets));
        }
        let found = self.everything().await?;
        let by_name = |one: Looked<'_>| (one.record.target.clone(), one.owned());
        let targets = Arc::new(found.into_iter().map(by_name).collect::<Targets>());
        *looked = Some((Instant::now(), Arc::clone(&targets)));
        Ok(targets)
    }

    /// The next look is a new one.
    pub(crate) async fn forget_looks(&self) {
        self.looked.lock().await.take();
    }

    /// Every target that there is: the file's, and the machines of its templates.
    async fn everything(&self) -> Result<Vec<Looked<'_>>, CallError> {
        let mut names: Vec<TargetName> = self.fleet.targets.keys().cloned().collect();
        let fixed = names.len();
        for template in self.fleet.templates.keys() {
            names.extend(self.store.seats(template).await?);
        }
        let now = self.clock.now();
        let found = match names.is_empty() {
            true => Vec::new(),
            false => self.store.load_all(&names).await?,
        };
        let mut found: BTreeMap<TargetName, Stored> =
            found.into_iter().map(|stored| (stored.target().clone(), stored)).collect();
        let mut looked = Vec::with_capacity(names.len());
        for (at, name) in names.iter().enumerate() {
            let Some(spec) = self.fleet.spec(name) else { continue };
            let stored = match found.remove(name).filter(|stored| is_there(stored, now)) {
                Some(stored) => Some(stored),
                None if at < fixed => {
                    looked.extend(unseen(spec, now));
                    continue;
                }
                // A machine has its place before its record can be read everywhere.
                None => self.store.look_up(name).await?,
            };
            looked.extend(stored.map(|stored| Looked::of(spec, stored)));
        }
        Ok(looked)
    }
}

/// DynamoDB takes its time to delete what has expired.
fn is_there(stored: &Stored, now: Timestamp) -> bool {
    stored.record().and_then(|record| record.provision.retire_at).is_none_or(|at| at > now)
}

/// To whom a target may not be shown, it does not exist.
pub(crate) fn no_such_target() -> Problem {
    let detail = "there is no such target for this token";
    Problem::new(StatusCode::NOT_FOUND, "unknown-target", detail)
}

/// The same, with what there is for whoever may see it.
pub(crate) fn unknown_target(
    caller: &Caller,
    name: &str,
    fleet: &lamplighter_runtime::Fleet,
) -> Problem {
    if !caller.sees_all() {
        return no_such_target();
    }
    let known: Vec<&str> = fleet.targets.keys().take(20).map(|name| name.as_str()).collect();
    Unaddressed::Unknown { name: name.to_owned(), known: known.join(", ") }.into()
}
