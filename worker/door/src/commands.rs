//! From a request to a command on the queue, and to what became of it.
//!
//! *Order.* Read (crate events), authorise, address (the fleet), look whether the id was used (where the caller chose
//! it), send, follow. Nothing is sent before all of it is clear, and the command that is sent names its target, so that
//! no other fleet file can read another one into it.

use lamplighter_runtime::owner_of;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{HeaderMap, StatusCode};
use lamplighter_events::{Action, Command, CommandId, Outcome, TargetName, TargetRef};
use lamplighter_lifecycle::{CommandRecord, Resource};
use lamplighter_runtime::ports::{Applied, Outgoing};
use lamplighter_runtime::{TRACE_ATTRIBUTE, telemetry};
use tokio::time::Instant;

use crate::Door;
use crate::access::Caller;
use crate::inbound::{Asking, Deadline};
use crate::places::Place;
use crate::problem::Problem;
use crate::settings::{Right, Seed};
use crate::targets::no_such_target;

/// How long whoever asks waits for the first look at a target.
const FIRST_SIGHT_WITHIN: Duration = Duration::from_secs(5);
/// How long a command is waited for that the table does not know and that the address does not call sent: a worker takes
/// most commands within a second or two, and what nobody sent must not hold a connection.
const UNKNOWN_WITHIN: Duration = Duration::from_secs(5);
/// What the ids of ticks begin with: whoever used one up would have a schedule's command passed over.
const TICKS: &str = "tick:";

/// A command that may be sent.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) command: Command,
    pub(crate) id: CommandId,
    /// Whose it is; `None` is a check of everything.
    pub(crate) target: Option<TargetName>,
    /// The caller chose the id, and may have used it before.
    chosen: bool,
}

impl Door {
    /// Whether a caller may give a command, and to whom it goes.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        mut command: Command,
        key: Option<CommandId>,
    ) -> Result<Asked, Problem> {
        let everything = command.action == Action::CheckIdle && command.target.is_none();
        caller.need(Caller::right_for(command.action, everything))?;
        let said = command.id.take();
        if let (Some(key), Some(said)) = (&key, &said)
            && key != said
        {
            let detail =
                "the header Idempotency-Key and the body's `id` differ; expected one of them";
            return Err(Problem::invalid(detail));
        }
        let chosen = key.or(said);
        if chosen.as_ref().is_some_and(|id| id.as_str().starts_with(TICKS)) {
            let detail =
                format!("ids that begin with {TICKS:?} are the schedules' own; expected another");
            return Err(Problem::invalid(detail));
        }
        let id = match &chosen {
            Some(id) => id.clone(),
            None => self.new_id()?,
        };
        command.id = Some(id.clone());
        command.holder = caller.holder(command.holder.take())?;
        let target = match everything {
            true if caller.sees_all() => None,
            true => {
                let detail = "a check of everything needs a token for every target";
                return Err(Problem::forbidden(detail));
            }
            false => Some(self.address(caller, &mut command, &id).await?),
        };
        Ok(Asked { command, id, target, chosen: chosen.is_some() })
    }

    /// The same for a wake in the waiting room, whose right was looked at there.
    pub(crate) async fn admit_wake(
        &self,
        caller: &Caller,
        mut command: Command,
    ) -> Result<Asked, Problem> {
        let id = self.new_id()?;
        command.id = Some(id.clone());
        command.holder = caller.holder(command.holder.take())?;
        let target = self.address(caller, &mut command, &id).await?;
        Ok(Asked { command, id, target: Some(target), chosen: false })
    }

    fn new_id(&self) -> Result<CommandId, Problem> {
        CommandId::parse(&self.clock.new_id()).map_err(|error| Problem::invalid(error.to_string()))
    }

    /// Whose command it is; the command names it from now on.
    async fn address(
        &self,
        caller: &Caller,
        command: &mut Command,
        id: &CommandId,
    ) -> Result<TargetName, Problem> {
        // A create that names a machine means that one, and no other of its template.
        let machine = command.template.is_none()
            && matches!(&command.target, Some(TargetRef::Name(name)) if !self.fleet.templates.contains_key(name));
        let addressed = match (command.action, &command.target) {
            (Action::Create, _) => self.fleet.address_create(command, id),
            (_, Some(TargetRef::Instance(instance))) => {
                let resource = Resource::Instance(instance.clone());
                let claimed = owner_of(&self.fleet, &*self.store, &resource).await?;
                self.fleet.address(command, claimed.as_ref())
            }
            _ => self.fleet.address(command, None),
        };
        let spec = match addressed {
            Ok(spec) => spec,
            // The error names what there is.
            Err(_) if !caller.sees_all() => return Err(no_such_target()),
            Err(unaddressed) => return Err(unaddressed.into()),
        };
        let name = spec.name.clone();
        let template = spec.template().map(|template| template.template.clone());
        // Whoever may make machines of a template is given the template, or all that come of it.
        let seen = caller.sees(&name)
            || (command.action == Action::Create
                && !machine
                && template.as_ref().is_some_and(|it| caller.makes(it)));
        if !seen {
            return Err(no_such_target());
        }
        match (command.action, template) {
            (Action::Create, Some(template)) if !machine => {
                command.template = Some(template);
                command.target = None;
            }
            _ => command.target = Some(TargetRef::Name(name.clone())),
        }
        Ok(name)
    }

    /// Whose a request to see is that a seed's client makes.
    pub(crate) async fn seen_by(
        &self,
        caller: &Caller,
        mut command: Command,
    ) -> Result<TargetName, Problem> {
        let id = CommandId::parse("seen").map_err(|error| Problem::invalid(error.to_string()))?;
        self.address(caller, &mut command, &id).await
    }

    /// Sends for a first look, where no worker has looked at a target yet: who asked the seeds how it is was told.
    pub(crate) async fn first_sight(
        &self,
        caller: &Caller,
        target: &TargetName,
    ) -> Result<(), Problem> {
        let stored = self.store.look_up(target).await?;
        // A newer release has looked at what cannot be read here.
        let known = stored
            .is_some_and(|stored| stored.record().is_none_or(|record| record.observed.is_some()));
        if known || !caller.has(Right::Command) {
            return Ok(());
        }
        // Without a place to wait in, the caller is shown what there is.
        let Ok(_place) = self.waits.take(caller.name()) else { return Ok(()) };
        let mut command = Command::new(Action::Status);
        command.target = Some(TargetRef::Name(target.clone()));
        let asked = self.admit(caller, command, None).await?;
        let soft = Instant::now() + FIRST_SIGHT_WITHIN;
        let deadline = Deadline { soft, hard: soft + FIRST_SIGHT_WITHIN };
        let first = self.send(&asked, &HeaderMap::new(), deadline).await?;
        self.follow(&asked, first, deadline, |record| record.outcome.is_some()).await?;
        Ok(())
    }

    /// The target that a seed's paths mean.
    pub(crate) fn seeds_name(&self, caller: &Caller, seed: Seed) -> Result<TargetName, Problem> {
        let name = self.http.seeds.get(&seed).filter(|name| caller.sees(name));
        name.cloned().ok_or_else(no_such_target)
    }

    /// Admits a command, sends it, and follows it until its item is `enough` or the deadline comes.
    pub(crate) async fn ask<B>(
        &self,
        asking: &Asking<B>,
        command: Command,
        deadline: Deadline,
        enough: impl Fn(&CommandRecord) -> bool,
    ) -> Result<Followed, Problem> {
        let admitted = self.admit(&asking.caller, command, asking.key.clone());
        let asked = deadline.meets(admitted).await.ok_or_else(slow)??;
        let first = self.send(&asked, &asking.headers, deadline).await?;
        // What was sent stays sent: whoever gets no place to wait in is told so, and how far the command is.
        let (place, crowded) = match deadline.soft > Instant::now() {
            false => (None, None),
            true => match self.waits.take(asking.caller.name()) {
                Ok(place) => (Some(place), None),
                Err(problem) => (None, Some(problem)),
            },
        };
        let until = match &crowded {
            Some(_) => Deadline { soft: Instant::now(), ..deadline },
            None => deadline,
        };
        let record = self.follow(&asked, first, until, enough).await?;
        let followed = Followed { asked, record, deadline, crowded, _place: place };
        if followed.outcome().is_some() {
            // Whoever has just been told that it is so must not be shown how it was.
            deadline.meets(self.forget_looks()).await;
        }
        Ok(followed)
    }

    /// Puts a command on the queue, unless its id has been used. `Some` is the item of a repetition.
    pub(crate) async fn send(
        &self,
        asked: &Asked,
        headers: &HeaderMap,
        deadline: Deadline,
    ) -> Result<Option<CommandRecord>, Problem> {
        if asked.chosen
            && let Some(first) =
                deadline.meets(self.store.load_command(&asked.id)).await.ok_or_else(slow)??
        {
            same(asked, &first)?;
            // It was taken: sending it again would change nothing.
            return Ok(Some(first));
        }
        let span = tracing::info_span!(target: "lamplighter::door", "command", action = %asked.command.action);
        let callers = headers.get("traceparent").and_then(|value| value.to_str().ok());
        let callers = callers.filter(|trace| telemetry::is_traceparent(trace));
        telemetry::join(&span, callers);
        let trace = span.in_scope(telemetry::traceparent).or_else(|| callers.map(str::to_owned));
        let attributes =
            trace.map(|trace| (TRACE_ATTRIBUTE.to_owned(), trace)).into_iter().collect();
        let body = asked.command.to_json().to_string();
        let message = Outgoing { body, attributes, delay_seconds: 0 };
        let (problem, perhaps) = match deadline.meets(self.queue.send(&message)).await {
            Some(Ok(())) => {
                self.metrics.sent(asked.command.action);
                return Ok(None);
            }
            Some(Err(error)) => {
                let perhaps = error.applied == Applied::Perhaps;
                (Problem::from(error), perhaps)
            }
            None => (slow(), true),
        };
        let mut problem = problem.with("command", asked.id.as_str());
        if perhaps {
            problem.detail.push_str(&format!(
                ": the command may have been sent, or not; send it again with Idempotency-Key: {}",
                asked.id
            ));
        }
        Err(problem)
    }

    /// Waits for a command that was sent, until its item is `enough`, the time is over, or the door closes. `first` is
    /// its item, where it was sent before.
    pub(crate) async fn follow(
        &self,
        asked: &Asked,
        first: Option<CommandRecord>,
        deadline: Deadline,
        enough: impl Fn(&CommandRecord) -> bool,
    ) -> Result<Option<Arc<CommandRecord>>, Problem> {
        if let Some(first) = first {
            if enough(&first) {
                return Ok(Some(Arc::new(first)));
            }
            let later = self.follow_id(&asked.id, deadline.soft, enough).await;
            return Ok(later.or_else(|| Some(Arc::new(first))));
        }
        let seen = self.follow_id(&asked.id, deadline.soft, enough).await;
        if let Some(first) = &seen {
            same(asked, first)?;
        }
        Ok(seen)
    }

    /// Waits until `soft` for the end of a command that is not this request's own. One that this caller does not see
    /// is waited for as long as one that nobody sent.
    pub(crate) async fn await_outcome(
        &self,
        caller: &Caller,
        id: &CommandId,
        was_sent: bool,
        soft: Instant,
    ) -> Result<Option<Arc<CommandRecord>>, Problem> {
        let now = Instant::now();
        if soft <= now {
            return Ok(None);
        }
        let place = self.waits.take(caller.name())?;
        let until = if was_sent { soft } else { soft.min(now + UNKNOWN_WITHIN) };
        let seen = self.follow_id(id, until, |record| caller.sees_command(record)).await;
        let seen = match seen.filter(|record| caller.sees_command(record)) {
            Some(record) if record.outcome.is_none() => {
                let ended = |record: &CommandRecord| record.outcome.is_some();
                self.follow_id(id, soft, ended).await.or(Some(record))
            }
            seen => seen,
        };
        drop(place);
        Ok(seen)
    }

    async fn follow_id(
        &self,
        id: &CommandId,
        until: Instant,
        enough: impl Fn(&CommandRecord) -> bool,
    ) -> Option<Arc<CommandRecord>> {
        if until <= Instant::now() {
            return None;
        }
        let mut waiting = self.outcomes.wait(id);
        let early = tokio::select! {
            biased;
            seen = waiting.until(until, enough) => Some(seen),
            () = self.closed() => None,
        };
        early.unwrap_or_else(|| waiting.seen())
    }
}

/// A command that was sent, and what is known of it.
pub(crate) struct Followed {
    pub(crate) asked: Asked,
    /// Its item, once a worker has taken it.
    pub(crate) record: Option<Arc<CommandRecord>>,
    pub(crate) deadline: Deadline,
    /// Why it was not waited for.
    crowded: Option<Problem>,
    _place: Option<Place>,
}

impl Followed {
    pub(crate) fn outcome(&self) -> Option<&Outcome> {
        self.record.as_ref().and_then(|record| record.outcome.as_ref())
    }

    /// Which bound keeps it from being waited for.
    pub(crate) fn crowded(&self) -> Option<&Problem> {
        self.crowded.as_ref()
    }

    /// A worker has taken it.
    pub(crate) fn taken(&self) -> bool {
        self.record.is_some()
    }
}

/// AWS answers too slowly for whoever waits.
fn slow() -> Problem {
    Problem::unavailable("AWS did not answer in time")
}

/// The id was used before with another payload: that command's outcome is not this one's.
fn same(asked: &Asked, first: &CommandRecord) -> Result<(), Problem> {
    if first.fingerprint == asked.command.fingerprint() {
        return Ok(());
    }
    let detail = format!(
        "the id {} was used before for another command; expected an id of its own",
        asked.id
    );
    let problem = Problem::new(StatusCode::UNPROCESSABLE_ENTITY, "id-used", detail);
    Err(problem.with("command", asked.id.as_str()))
}
