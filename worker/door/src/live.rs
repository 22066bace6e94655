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
use crate::limits::{WATCHING_MAX, WATCHING_PER_TOKEN_MAX};
use crate::places::Places;
use crate::problem::Problem;
use crate::settings::Right;
use crate::targets::Targets;

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
/// How long a token that was taken out may go on to see what does not change.
const KNOWN_FOR: Duration = Duration::from_secs(30);
/// All targets at one moment; numbered, so that a look that found nothing new wakes nobody.
#[derive(Debug, Clone, Default)]
struct Picture {
    number: u64,
    targets: Arc<Targets>,
}

/// What is watched, and by how many.
#[derive(Debug)]
pub(crate) struct Live {
    picture: watch::Sender<Picture>,
    begun: Notify,
    places: Places,
}

impl Default for Live {
    fn default() -> Self {
        Self {
            picture: watch::Sender::new(Picture::default()),
            begun: Notify::new(),
            places: Places::new("streams", WATCHING_PER_TOKEN_MAX, WATCHING_MAX),
        }
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
        let pause = match door.all().await {
            Ok(targets) => {
                let more = targets.len() / TARGETS_PER_SECOND;
                number += 1;
                door.live.picture.send_if_modified(|picture| {
                    let news = picture.number == 0 || !same(&picture.targets, &targets);
                    if news {
                        *picture = Picture { number, targets };
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

fn same(one: &Targets, other: &Targets) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).all(|((name, a), (other, b))| {
            // One that no worker has looked at is made anew for each look.
            let same = a.record.rev == b.record.rev;
            name == other && same && (a.record.rev == 0 || a.record.since == b.record.since)
        })
}

/// `GET /v1/events`
pub(crate) async fn events(
    State(door): State<Arc<Door>>,
    caller: Caller,
) -> Result<Response, Problem> {
    caller.need(Right::Read)?;
    let place = door.live.places.take(caller.name())?;
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
        drop(place);
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
        let now = door.clock.now();
        for (name, looked) in picture.targets.iter().filter(|(name, _)| caller.sees(name)) {
            let rev = looked.record.rev;
            // A read may be older than the last one; versions only rise.
            if known.get(name).is_some_and(|known| *known >= rev) {
                continue;
            }
            known.insert(name.clone(), rev);
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
        // Whoever lost its token sees no more.
        loop {
            match tokio::time::timeout(KNOWN_FOR, pictures.changed()).await {
                Ok(Ok(())) => break,
                Ok(Err(_)) => return,
                Err(_) if door.access.knows(caller) => {}
                Err(_) => return,
            }
        }
        if !door.access.knows(caller) {
            return;
        }
    }
}
