//! Waiting for commands: everybody who waits shares one look at the table.
//!
//! *Theory.* An outcome stands in the table and is found by looking. Two hundred callers who each looked for
//! themselves would cost two hundred reads a second; one loop that asks for all of them in batches costs two. It looks
//! often while somebody has just begun to wait, since most commands are taken within a moment, and then once a second.
//!
//! *Invariant.* While nobody waits, nothing is read. A look that failed ends no wait: whoever waits is answered at the
//! latest at its own deadline, with what is known.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use lamplighter_events::CommandId;
use lamplighter_lifecycle::CommandRecord;
use lamplighter_runtime::ports::Store;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// Between looks while a wait is young.
const LOOK_SOON: Duration = Duration::from_millis(200);
/// How long a wait is young.
const SOON_FOR: Duration = Duration::from_secs(3);
/// Between looks otherwise.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// After a look that failed.
const LOOK_AFTER_TROUBLE: Duration = Duration::from_secs(3);

pub(crate) type Seen = Option<Arc<CommandRecord>>;

#[derive(Debug)]
struct Waited {
    waiting: usize,
    seen: watch::Sender<Seen>,
}

/// The commands that are waited for.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    waited: Mutex<BTreeMap<CommandId, Waited>>,
    begun: Notify,
}

/// One wait; it ends when it is dropped.
#[derive(Debug)]
pub(crate) struct Wait {
    outcomes: Arc<Outcomes>,
    id: CommandId,
    seen: watch::Receiver<Seen>,
}

impl Outcomes {
    /// Begins to wait.
    pub(crate) fn wait(self: &Arc<Self>, id: &CommandId) -> Wait {
        let mut waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = waited
            .entry(id.clone())
            .or_insert_with(|| Waited { waiting: 0, seen: watch::Sender::new(None) });
        entry.waiting += 1;
        let seen = entry.seen.subscribe();
        drop(waited);
        self.begun.notify_one();
        Wait { outcomes: Arc::clone(self), id: id.clone(), seen }
    }

    fn ids(&self) -> Vec<CommandId> {
        let waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        // Who has seen the outcome is about to leave.
        let open = waited.iter().filter(|(_, one)| !ended(&one.seen.borrow()));
        open.map(|(id, _)| id.clone()).collect()
    }

    fn tell(&self, record: CommandRecord) {
        let waited = self.waited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = waited.get(&record.id) {
            one.seen.send_if_modified(|seen| {
                let news = seen.as_deref() != Some(&record);
                if news {
                    *seen = Some(Arc::new(record));
                }
                news
            });
        }
    }

    /// Looks for as long as somebody waits, for ever.
    pub(crate) async fn look(&self, store: &dyn Store) {
        let mut young_until = Instant::now();
        loop {
            let ids = self.ids();
            if ids.is_empty() {
                self.begun.notified().await;
                young_until = Instant::now() + SOON_FOR;
                continue;
            }
            let pause = match store.load_commands(&ids).await {
                Ok(records) => {
                    records.into_iter().for_each(|record| self.tell(record));
                    if Instant::now() < young_until { LOOK_SOON } else { LOOK_EVERY }
                }
                Err(error) => {
                    tracing::warn!(%error, waiting = ids.len(), "cannot look for outcomes");
                    LOOK_AFTER_TROUBLE
                }
            };
            tokio::select! {
                biased;
                () = self.begun.notified() => {
                    young_until = Instant::now() + SOON_FOR;
                    // Not at once: many may begin together, and one look serves them all.
                    tokio::time::sleep(LOOK_SOON.min(pause)).await;
                }
                () = tokio::time::sleep(pause) => {}
            }
        }
    }
}

fn ended(seen: &Seen) -> bool {
    seen.as_ref().is_some_and(|record| record.outcome.is_some())
}

impl Wait {
    /// What is known of the command.
    pub(crate) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// The command's item once `enough` says so, or what is known of it at the end of the time.
    pub(crate) async fn until(
        &mut self,
        deadline: Instant,
        enough: impl Fn(&CommandRecord) -> bool,
    ) -> Seen {
        let told = self.seen.wait_for(|seen| seen.as_ref().is_some_and(|record| enough(record)));
        let _ = tokio::time::timeout_at(deadline, told).await;
        self.seen.borrow().clone()
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        let mut waited = self.outcomes.waited.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(one) = waited.get_mut(&self.id) {
            one.waiting -= 1;
            if one.waiting == 0 {
                waited.remove(&self.id);
            }
        }
    }
}
