//! The seeds' own paths, so that their clients need nothing but another address.
//!
//! *Theory.* Each of the five systems had its paths, its fields and its status codes, and clients that know no others.
//! A path here is a thin coat over the same steps as our own API: read, admit, send, follow, show. What is *not* taken
//! over is a lie: a machine that is on its way is not called started, and what is killed is down.
//!
//! *Answers in time.* Seeds 000 and 001 stood behind gateways that give up after 29 or 30 s: whoever waits here gets an
//! answer before, `202` and what is so far. Seed 004's clients wait for ten minutes, as they always did.

mod fluidity;
mod position_keeper;
mod pyelli;
mod walrus;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::http::header::{LOCATION, RETRY_AFTER};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, get, post};
use lamplighter_events::{Action, Cause, Command, Outcome, TargetRef, Verdict};
use lamplighter_lifecycle::{CommandRecord, TargetRecord};
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use crate::Door;
use crate::api::{location, not_waited};
use crate::commands::{Asked, Followed};
use crate::problem::Problem;
use crate::settings::{Http, Seed};
use crate::targets::Looked;

/// API Gateway gives up after 29 s; some of that is the network's.
const GATEWAY_SECONDS: u64 = 25;
/// What the door itself may take beyond that.
const GATEWAY_SLACK_SECONDS: u64 = 3;
/// "At once": the queue, a worker, one write.
const AT_ONCE_SECONDS: u64 = 5;
/// Between looks at a record that should move.
const LOOK_EVERY: Duration = Duration::from_millis(300);

type Fields = Map<String, Value>;

/// The paths of the seeds that are switched on, but for those at the root: they are shared with the page.
pub(crate) fn router(http: &Http) -> Router<Arc<Door>> {
    let at = |path: &str| format!("{}{path}", http.prefix);
    let mut router = Router::new();
    let on = |seed: Seed| http.compat.contains(&seed);
    if on(Seed::PositionKeeper) {
        router = router
            .route(&at("/position-keeper/start"), post(position_keeper::start))
            .route(&at("/position-keeper/stop"), post(position_keeper::stop))
            .route(&at("/position-keeper/status"), get(position_keeper::status));
    }
    if on(Seed::Fluidity) {
        router = router
            .route(&at("/wake"), post(fluidity::wake))
            .route(&at("/kill"), post(fluidity::kill))
            .route(&at("/status"), get(fluidity::status));
    }
    if on(Seed::Walrus) {
        let all = get(walrus::list).post(walrus::create);
        let one = get(walrus::one).delete(walrus::delete);
        router = router.route(&at("/api/instances"), all).route(&at("/api/instances/{id}"), one);
    }
    if !http.prefix.is_empty()
        && let Some(root) = root(http)
    {
        router = router.route(&http.prefix, root.clone()).route(&at("/"), root);
    }
    router.layer(axum::middleware::map_response(in_seeds_form))
}

/// What the seeds have at their root: seed 002's function URL, and seed 004's sign of life.
pub(crate) fn root(http: &Http) -> Option<MethodRouter<Arc<Door>>> {
    let (pyelli, walrus) = (Seed::PyElli, Seed::Walrus);
    let form = || axum::middleware::map_response(in_seeds_form);
    match (http.compat.contains(&pyelli), http.compat.contains(&walrus)) {
        (false, false) => None,
        (true, false) => Some(post(pyelli::post).layer(form())),
        (false, true) => Some(get(walrus::alive).layer(form())),
        (true, true) => Some(post(pyelli::post).get(walrus::alive).layer(form())),
    }
}

/// The seeds' clients do not read problems.
async fn in_seeds_form(mut response: Response) -> Response {
    match response.extensions_mut().remove::<Problem>() {
        Some(problem) => problem.in_seeds_form(),
        None => response,
    }
}

/// The status that says what an outcome says.
fn status_of(outcome: &Outcome) -> StatusCode {
    match (outcome.outcome, outcome.cause) {
        (Verdict::Done, _) => StatusCode::OK,
        (_, Some(Cause::Conflict | Cause::Superseded)) => StatusCode::CONFLICT,
        (_, Some(Cause::Invalid)) => StatusCode::BAD_REQUEST,
        (_, Some(Cause::NotFound)) => StatusCode::NOT_FOUND,
        (_, Some(Cause::Expired)) => StatusCode::GONE,
        (_, Some(Cause::Capacity | Cause::Throttled)) => StatusCode::SERVICE_UNAVAILABLE,
        (_, Some(Cause::Deadline)) => StatusCode::GATEWAY_TIMEOUT,
        (
            _,
            Some(
                Cause::Denied
                | Cause::Bounced
                | Cause::UnitFailed
                | Cause::Unhealthy
                | Cause::AgentUnreachable,
            )
            | None,
        ) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The answer's fields, and where it is no success the seeds' `error`.
fn fields_of(outcome: &Outcome) -> Fields {
    let mut fields = outcome.answer.clone();
    let told = || Value::from(outcome.message.clone());
    fields.entry("message".to_owned()).or_insert_with(told);
    if outcome.outcome != Verdict::Done {
        fields.entry("error".to_owned()).or_insert_with(told);
        fields.insert("cause".to_owned(), json!(outcome.cause));
    }
    fields
}

/// The answer to a command that has ended.
fn ended(outcome: &Outcome) -> Response {
    (status_of(outcome), axum::Json(fields_of(outcome))).into_response()
}

fn has_ended(record: &CommandRecord) -> bool {
    record.outcome.is_some()
}

/// The command goes on: what is so far, and where to ask.
fn goes_on(door: &Door, followed: &Followed, mut fields: Fields) -> Response {
    let asked = &followed.asked;
    fields.insert("command".to_owned(), asked.id.as_str().into());
    notice(followed, &mut fields);
    let mut response = (StatusCode::ACCEPTED, axum::Json(fields)).into_response();
    if let Ok(location) = location(&asked.id, door.clock.now()).parse() {
        response.headers_mut().insert(LOCATION, location);
    }
    response.headers_mut().insert(RETRY_AFTER, 5.into());
    response
}

/// Says so where the command was not waited for, since too many are.
fn notice(followed: &Followed, fields: &mut Fields) {
    if let Some(problem) = followed.crowded() {
        fields.insert("notice".to_owned(), not_waited(problem).into());
    }
}

fn not_taken(fields: &mut Fields) {
    let message = "it is on the queue, and no worker has taken it yet";
    fields.insert("message".to_owned(), message.into());
}

impl Door {
    /// The target that a seed's paths mean, where the request names none.
    fn seeds_target(&self, seed: Seed) -> Option<TargetRef> {
        self.http.seeds.get(&seed).cloned().map(TargetRef::Name)
    }

    /// A command on one of a seed's own paths: of its target, where it names none, and of no other kind.
    fn of_seed(&self, mut command: Command, seed: Seed) -> Result<Command, Problem> {
        let own = self.seeds_target(seed);
        let fits = match (&command.target, seed) {
            (None, _) | (Some(TargetRef::EcsService { .. }), Seed::Fluidity) => true,
            (Some(TargetRef::Name(name)), Seed::Fluidity) => {
                self.fleet.spec(name).is_none_or(|spec| spec.service().is_some())
            }
            (Some(named), _) => Some(named) == own.as_ref(),
        };
        if !fits {
            let seed = seed.as_str();
            return Err(Problem::invalid(format!(
                "this path is of {seed}, and the body names another target; /v1/commands takes every target"
            )));
        }
        command.target = command.target.or(own);
        Ok(command)
    }

    /// The record of a command's target, as it is now. The command was sent: that its target cannot be seen at the
    /// moment is no failure of it.
    async fn record_of(&self, followed: &Followed) -> Option<TargetRecord> {
        let target = followed.asked.target.as_ref()?;
        match followed.deadline.meets(self.store.load(target)).await? {
            Ok(record) => record,
            Err(error) => {
                tracing::warn!(%error, "cannot see what a command has come to");
                None
            }
        }
    }

    /// The same once it is as hoped, or after a while as it is.
    async fn record_when(
        &self,
        followed: &Followed,
        within: Duration,
        hoped: impl Fn(&TargetRecord) -> bool,
    ) -> Option<TargetRecord> {
        let within = if followed.crowded().is_some() { Duration::ZERO } else { within };
        let until = Instant::now() + within;
        loop {
            let record = self.record_of(followed).await;
            let late =
                Instant::now() >= until.min(followed.deadline.hard) || *self.closing.borrow();
            if late || record.as_ref().is_none_or(&hoped) {
                return record;
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// What is so far, as the status shows it.
    fn so_far(&self, asked: &Asked, record: TargetRecord) -> Option<Looked<'_>> {
        let spec = self.fleet.spec(asked.target.as_ref()?)?;
        Some(Looked::new(spec, record))
    }
}

/// Some fields of a JSON object, in this order.
fn only(json: &Value, names: &[&str]) -> Fields {
    names
        .iter()
        .map(|name| ((*name).to_owned(), json.get(*name).cloned().unwrap_or_default()))
        .collect()
}

/// The body that a query stands for.
fn body_of(query: &BTreeMap<String, String>) -> Vec<u8> {
    serde_json::to_vec(query).unwrap_or_default()
}

/// Seed 002's word for each action.
fn allowed() -> Vec<String> {
    Action::ALL.into_iter().map(|action| action.as_str().replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lamplighter_events::CommandId;

    use super::*;

    #[track_caller]
    fn check(verdict: Verdict, cause: Option<Cause>, expected: u16) {
        let outcome = Outcome {
            command: CommandId::parse("c").unwrap(),
            target: None,
            action: None,
            outcome: verdict,
            cause,
            message: "told".to_owned(),
            answer: Map::new(),
            at: Timestamp::UNIX_EPOCH,
            took_ms: 0,
        };
        assert_eq!(status_of(&outcome), expected);
        assert_eq!(fields_of(&outcome).contains_key("error"), expected != 200);
    }

    #[test]
    fn an_outcome_that_is_no_success_has_no_status_of_one() {
        check(Verdict::Done, None, 200);
        for cause in Cause::ALL {
            for verdict in [Verdict::Rejected, Verdict::Failed] {
                let outcome = match cause {
                    Cause::Conflict | Cause::Superseded => 409,
                    Cause::Invalid => 400,
                    Cause::NotFound => 404,
                    Cause::Expired => 410,
                    Cause::Capacity | Cause::Throttled => 503,
                    Cause::Deadline => 504,
                    _ => 500,
                };
                check(verdict, Some(cause), outcome);
            }
        }
        check(Verdict::Failed, None, 500);
    }
}
