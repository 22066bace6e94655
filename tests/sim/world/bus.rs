//! The port to EventBridge.

use async_trait::async_trait;
use lamplighter_cloud::bus::Entry;
use lamplighter_events::LifecycleEvent;
use lamplighter_runtime::ports::{Bus, CallError};

use super::Sim;
use crate::breakage::Breakage;
use crate::fault::{Gate, fail};

#[async_trait]
impl Bus for Sim {
    async fn emit(&self, events: &[LifecycleEvent]) -> Result<Vec<String>, CallError> {
        let what = || {
            let ids: Vec<&str> = events.iter().map(|event| event.id.as_str()).collect();
            ids.join(" ")
        };
        self.call("events:PutEvents", what, |state, now| {
            if state.bus_away {
                return Err(fail("events:PutEvents", Gate::Closed));
            }
            let drops = state.breakage == Some(Breakage::DropsEvents);
            let heard: Vec<&LifecycleEvent> = events.iter().skip(usize::from(drops)).collect();
            for chunk in heard.chunks(10) {
                let entries: Vec<Entry> = chunk.iter().map(|event| entry(event)).collect();
                for answer in state.world.put_events(now, &entries).unwrap() {
                    answer.expect("the model takes well-formed events");
                }
            }
            state.emitted.extend(heard.into_iter().cloned());
            Ok(events.iter().map(|event| event.id.clone()).collect())
        })
        .await
    }
}

fn entry(event: &LifecycleEvent) -> Entry {
    Entry {
        source: LifecycleEvent::SOURCE.to_owned(),
        detail_type: event.detail_type().to_owned(),
        detail: serde_json::to_string(event).unwrap(),
        ..Entry::default()
    }
}
