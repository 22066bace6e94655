//! Server-sent events: what changes, as it changes.
//!
//! *Theory.* There is nothing to subscribe to without a queue of one's own, so the door looks at the records, once for
//! all who watch, and tells each what is new to it. Who connects gets everything as it is and then the changes; so
//! nothing is lost by a reconnect, and no event needs a number to go on from.
//!
//! *Invariant.* While nobody watches, nothing is read.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use lamplighter_events::TargetName;
use serde_json::json;
use tokio::sync::{Notify, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use crate::Door;
use crate::access::Caller;
use crate::problem::Problem;
use crate::settings::Right;
use crate::targets::Looked;

/// Between two looks, for a fleet that one look reads with a few calls.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Each so many targets a second more: ten batches.
const TARGETS_PER_SECOND: usize = 1_000;
/// After a look that failed.
const LOOK_AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// Balancers close what is silent for a minute, as a rule.
const COMMENT_EVERY: Duration = Duration::from_secs(15);
/// Who reads so slowly that this is full waits for itself alone.
const BUFFER: usize = 16;
/// Streams at once: each holds a connection and a copy of what it knows.
const WATCHING_MAX: usize = 256;

/// All targets at one moment; numbered, so that a look that found nothing new wakes nobody.
#[derive(Debug, Clone, Default)]
struct Picture {
    number: u64,
    targets: Arc<BTreeMap<TargetName, Looked<'static>>>,
}

/// What is watched, and by how many.
#[derive(Debug)]
pub(crate) struct Live {
    picture: watch::Sender<Picture>,
    begun: Notify,
}

impl Default for Live {
    fn default() -> Self {
        Self { picture: watch::Sender::new(Picture::default()), begun: Notify::new() }
    }
}

impl Live {
    /// How many watch.
    pub(crate) fn watching(&self) -> usize {
        self.picture.receiver_count()
    }
}

/// Looks for as long as somebody watches, for ever.
pub(crate) async fn watch(door: &Door) {
    let mut number = 0;
    loop {
        if door.live.watching() == 0 {
            // What was seen is old by the time that somebody comes.
            door.live.picture.send_replace(Picture::default());
            door.live.begun.notified().await;
        }
        let pause = match door.everything().await {
            Ok(looked) => {
                let targets: BTreeMap<TargetName, Looked<'static>> = looked
                    .into_iter()
                    .map(|one| (one.record.target.clone(), one.owned()))
                    .collect();
                let more = targets.len() / TARGETS_PER_SECOND;
                number += 1;
                door.live.picture.send_if_modified(|picture| {
                    let news = picture.number == 0 || !same(&picture.targets, &targets);
                    if news {
                        *picture = Picture { number, targets: Arc::new(targets) };
                    }
                    news
                });
                LOOK_EVERY + Duration::from_secs(u64::try_from(more).unwrap_or(0))
            }
            Err(error) => {
                tracing::warn!(%error, "cannot look at the targets for those who watch");
                LOOK_AFTER_TROUBLE
            }
        };
        tokio::time::sleep(pause).await;
    }
}

type Targets = BTreeMap<TargetName, Looked<'static>>;

fn same(one: &Targets, other: &Targets) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((name, a), (other, b))| {
            name == other && a.record.rev == b.record.rev && a.record.since == b.record.since
        })
}

/// `GET /v1/events`
pub(crate) async fn events(
    State(door): State<Arc<Door>>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.need(Right::Read)?;
    if door.live.watching() >= WATCHING_MAX {
        return Err(Problem::unavailable(format!(
            "{WATCHING_MAX} watch already, which is the limit"
        )));
    }
    let (events, stream) = mpsc::channel(BUFFER);
    let pictures = door.live.picture.subscribe();
    door.live.begun.notify_one();
    tokio::spawn(async move {
        tokio::select! {
            biased;
            () = door.closed() => {}
            () = events.closed() => {}
            () = tell(&door, &caller, pictures, &events) => {}
        }
    });
    let keep_alive = KeepAlive::new().interval(COMMENT_EVERY).text("still here");
    // Some proxies keep what streams until there is more of it.
    let unbuffered = [("x-accel-buffering", "no")];
    Ok((unbuffered, Sse::new(ReceiverStream::new(stream)).keep_alive(keep_alive)).into_response())
}

/// Tells one who watches what is new to it, until it goes.
async fn tell(
    door: &Door,
    caller: &Caller,
    mut pictures: watch::Receiver<Picture>,
    events: &mpsc::Sender<Result<Event, Infallible>>,
) {
    let mut known: BTreeMap<TargetName, u64> = BTreeMap::new();
    let mut ready = false;
    loop {
        let Ok(picture) =
            pictures.wait_for(|picture| picture.number > 0).await.map(|it| it.clone())
        else {
            return;
        };
        pictures.mark_unchanged();
        let now = door.clock.now();
        for (name, looked) in picture.targets.iter().filter(|(name, _)| caller.sees(name)) {
            let rev = looked.record.rev;
            if known.insert(name.clone(), rev) == Some(rev) {
                continue;
            }
            let event = Event::default().event("target").id(format!("{name}:{rev}"));
            let Ok(event) = event.json_data(looked.json(caller, now)) else { continue };
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
        let gone: Vec<TargetName> =
            known.keys().filter(|name| !picture.targets.contains_key(*name)).cloned().collect();
        for name in gone {
            known.remove(&name);
            let event = Event::default().event("gone").json_data(json!({ "target": name }));
            let Ok(event) = event else { continue };
            if events.send(Ok(event)).await.is_err() {
                return;
            }
        }
        if !ready {
            ready = true;
            if events.send(Ok(Event::default().event("ready").data("{}"))).await.is_err() {
                return;
            }
        }
        if pictures.changed().await.is_err() {
            return;
        }
    }
}
