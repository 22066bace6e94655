//! EventBridge: lifecycle events, several to a request.
//!
//! *Invariants.* An event counts as sent only when its own entry was acknowledged. What was not is sent
//! again by whoever still finds it in the record.

use async_trait::async_trait;
use aws_sdk_eventbridge::Client;
use aws_sdk_eventbridge::types::PutEventsRequestEntry;
use lamplighter_events::{Cause, LifecycleEvent};
use lamplighter_runtime::ports::{Applied, Bus, CallError, Disposition};

use crate::disposition::{call_error, entry_error, own_error};

const SEND: &str = "events:PutEvents";
/// AWS's bound.
const ENTRIES_MAX: usize = 10;
/// AWS's bound for a request was 256 KB for years, and still is on other endpoints.
const BYTES_MAX: usize = 256 * 1024;

/// Sends to one bus.
pub(crate) struct EventBus {
    client: Client,
    bus: String,
}

impl EventBus {
    pub(crate) fn new(client: Client, bus: &str) -> Self {
        Self { client, bus: bus.to_owned() }
    }

    async fn send(
        &self,
        events: &[(String, PutEventsRequestEntry)],
    ) -> Result<Vec<String>, CallError> {
        let entries = events.iter().map(|(_, entry)| entry.clone()).collect();
        let answer = self
            .client
            .put_events()
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(|error| call_error(SEND, &error))?;
        let mut sent = Vec::new();
        let mut refused = None;
        for ((id, _), result) in events.iter().zip(answer.entries()) {
            match result.error_code() {
                None => sent.push(id.clone()),
                Some(code) => {
                    let error = entry_error(SEND, Some(code), result.error_message(), true);
                    tracing::warn!(event = %id, %error, "an event was not taken");
                    refused = Some(error);
                }
            }
        }
        match refused {
            Some(error) if sent.is_empty() => Err(error),
            _ => Ok(sent),
        }
    }
}

#[async_trait]
impl Bus for EventBus {
    async fn emit(&self, events: &[LifecycleEvent]) -> Result<Vec<String>, CallError> {
        let mut sent = Vec::new();
        for batch in batches(&self.bus, events)? {
            match self.send(&batch).await {
                Ok(ids) => sent.extend(ids),
                Err(error) if sent.is_empty() => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "some events were not sent");
                    break;
                }
            }
        }
        Ok(sent)
    }
}

type Batch = Vec<(String, PutEventsRequestEntry)>;

fn batches(bus: &str, events: &[LifecycleEvent]) -> Result<Vec<Batch>, CallError> {
    let mut batches: Vec<Batch> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let detail = serde_json::to_string(event).map_err(|error| {
            let words = format!("the event {} cannot be written: {error}", event.id);
            own_error(SEND, Cause::Invalid, Disposition::Fail, Applied::No, words)
        })?;
        // AWS counts source, detail-type and detail, and 14 bytes for a time, which we leave to it.
        let size = detail.len() + event.detail_type().len() + LifecycleEvent::SOURCE.len() + 14;
        let entry = PutEventsRequestEntry::builder()
            .source(LifecycleEvent::SOURCE)
            .detail_type(event.detail_type())
            .event_bus_name(bus)
            .detail(detail)
            .build();
        match batches.last_mut() {
            Some(batch) if batch.len() < ENTRIES_MAX && bytes + size <= BYTES_MAX => {
                bytes += size;
                batch.push((event.id.clone(), entry));
            }
            _ => {
                bytes = size;
                batches.push(vec![(event.id.clone(), entry)]);
            }
        }
    }
    Ok(batches)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use lamplighter_events::{AttentionKind, EventBody};

    use super::*;

    fn event(n: usize, size: usize) -> LifecycleEvent {
        LifecycleEvent {
            id: format!("t:1:{n}"),
            at: Timestamp::UNIX_EPOCH,
            target: None,
            body: EventBody::Attention {
                attention: AttentionKind::UnitDied,
                message: "x".repeat(size),
                instance: None,
            },
        }
    }

    #[track_caller]
    fn check(events: usize, size: usize, expected: &[usize]) {
        let events: Vec<_> = (0..events).map(|n| event(n, size)).collect();
        let found: Vec<usize> = batches("default", &events).unwrap().iter().map(Vec::len).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn events_share_requests_up_to_aws_bounds() {
        check(0, 10, &[]);
        check(3, 10, &[3]);
        check(23, 10, &[10, 10, 3]);
        check(3, 100_000, &[2, 1]);
        check(2, 300_000, &[1, 1]);
    }
}
