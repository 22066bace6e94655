//! The port to SQS.

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use lamplighter_cloud::queue::{
    MessageAttribute, Outgoing as CloudMessage, QueueError, Received as FromCloud,
};
use lamplighter_events::Cause;
use lamplighter_runtime::ports::{
    Applied, CallError, Disposition, Outgoing, Queue, Receipt, Received,
};
use lamplighter_runtime::{SENT_AT_ATTRIBUTE, effective_sent_at};

use super::{COMMANDS, DEAD, QUEUE_BYTES, RECEIVE_LOOK, Sim, State, VISIBILITY_SECONDS};
use crate::breakage::Breakage;

#[async_trait]
impl Queue for Sim {
    async fn receive(&self, max: usize, wait: Duration) -> Result<Vec<Received>, CallError> {
        self.wait_for_a_message(wait).await;
        let now = self.true_now();
        self.inspect(|state| state.watch.asks(self.worker(), max, now));
        let receive = self.call("sqs:ReceiveMessage", String::new, |state, now| {
            let visibility = Some(i64::from(VISIBILITY_SECONDS));
            let taken = state.world.receive_messages(now, COMMANDS, max, visibility).unwrap();
            let received: Vec<Received> = taken.iter().map(|one| read(state, one, now)).collect();
            if state.breakage == Some(Breakage::DeletesFirst) {
                received.iter().for_each(|one| delete(state, &one.receipt, now));
            }
            Ok(received)
        });
        let received = receive.await?;
        let now = self.true_now();
        self.inspect(|state| {
            for one in &received {
                state.watch.takes(self.worker(), &one.message_id, &one.receipt, now);
            }
        });
        Ok(received)
    }

    async fn send(&self, message: &Outgoing) -> Result<(), CallError> {
        let mut delay_seconds = message.delay_seconds;
        if self.broken(Breakage::WaitsOnItsSlot) {
            tokio::time::sleep(Duration::from_secs(u64::from(delay_seconds))).await;
            delay_seconds = 0;
        }
        let what = || format!("in {delay_seconds} s: {}", message.body);
        self.call("sqs:SendMessage", what, |state, now| {
            if state.breakage == Some(Breakage::NeverLooksAgain) && delay_seconds > 0 {
                return Ok(());
            }
            let mut message = CloudMessage {
                body: message.body.clone(),
                attributes: texts(&message.attributes),
                delay_seconds: Some(i64::from(delay_seconds)),
            };
            if state.breakage == Some(Breakage::SendsLargeParts)
                && message.body.contains("idle-shard")
            {
                message.body.push_str(&" ".repeat(QUEUE_BYTES));
            }
            let sent = state.world.send_message(now, COMMANDS, message);
            sent.map(drop).map_err(|error| refusal("sqs:SendMessage", &error))
        })
        .await
    }

    async fn delete(&self, receipt: &Receipt) -> Result<(), CallError> {
        if self.broken(Breakage::LosesPermits) && self.draw().is_multiple_of(8) {
            std::future::pending::<()>().await;
        }
        let now = self.true_now();
        self.inspect(|state| state.watch.lets_go(self.worker(), receipt, now));
        self.call(
            "sqs:DeleteMessage",
            || receipt.0.clone(),
            |state, now| {
                delete(state, receipt, now);
                Ok(())
            },
        )
        .await
    }

    async fn delay(&self, receipt: &Receipt, seconds: u32) -> Result<(), CallError> {
        // What has this length is (but for chance) a heartbeat: the message stays in hand.
        let gives_back = seconds != VISIBILITY_SECONDS;
        let now = self.true_now();
        self.inspect(|state| match gives_back {
            true => state.watch.lets_go(self.worker(), receipt, now),
            false => state.watch.extends(receipt),
        });
        let what = || format!("{} for {seconds} s", receipt.0);
        self.call("sqs:ChangeMessageVisibility", what, |state, now| {
            if gives_back && seconds > 0 && state.breakage == Some(Breakage::ParksTrouble) {
                let body = state.bodies.get(&receipt.0).cloned().unwrap_or_default();
                state.watch.parked(&body, now);
                let letter =
                    CloudMessage { body, attributes: BTreeMap::new(), delay_seconds: None };
                state.world.send_message(now, DEAD, letter).unwrap();
                state.world.delete_message(now, COMMANDS, &receipt.0).unwrap();
                return Ok(());
            }
            // Of something already visible again, or gone: a success by the port's contract.
            let _ = state.world.change_visibility(now, COMMANDS, &receipt.0, i64::from(seconds));
            Ok(())
        })
        .await
    }

    async fn park(&self, message: &Outgoing) -> Result<(), CallError> {
        self.call(
            "sqs:SendMessage(dead)",
            || message.body.clone(),
            |state, now| {
                state.watch.parked(&message.body, now);
                let message = CloudMessage {
                    body: message.body.clone(),
                    attributes: texts(&message.attributes),
                    delay_seconds: None,
                };
                let sent = state.world.send_message(now, DEAD, message);
                sent.map(drop).map_err(|error| refusal("sqs:SendMessage(dead)", &error))
            },
        )
        .await
    }
}

/// What SQS does not take: another try does not help.
fn refusal(operation: &'static str, error: &QueueError) -> CallError {
    CallError {
        operation,
        cause: Cause::Invalid,
        message: error.to_string(),
        disposition: Disposition::Fail,
        applied: Applied::No,
    }
}

impl Sim {
    /// A long poll: until a message is there, or `wait` is over.
    async fn wait_for_a_message(&self, wait: Duration) {
        let until = tokio::time::Instant::now() + wait;
        loop {
            self.die_if_killed().await;
            let changed = self.changed.notified();
            let now = self.true_now();
            let (ready, due) = {
                let mut state = self.lock();
                state.world.advance(now);
                let ready = state.world.queues.get(COMMANDS).unwrap().has_visible(now);
                (ready, state.world.next_due())
            };
            if ready || tokio::time::Instant::now() >= until {
                return;
            }
            let due = due.map_or(RECEIVE_LOOK, |due| {
                Duration::try_from(due.duration_since(now)).unwrap_or(Duration::ZERO)
            });
            // The clock of tokio counts whole milliseconds.
            let look = tokio::time::Instant::now() + due.max(Duration::from_millis(1));
            tokio::select! {
                biased;
                () = changed => {}
                () = tokio::time::sleep_until(look.min(until)) => {}
            }
        }
    }
}

fn read(state: &mut State, taken: &FromCloud, now: Timestamp) -> Received {
    let message = &taken.message;
    state.bodies.insert(taken.receipt_handle.clone(), message.body.clone());
    let attributes: BTreeMap<String, String> = message
        .attributes
        .iter()
        .filter_map(|(name, value)| Some((name.clone(), value.text.clone()?)))
        .collect();
    let sent_at = match state.breakage {
        Some(Breakage::CountsFromItsReceive) => now,
        Some(Breakage::BelievesSenders) => {
            let kept = attributes.get(SENT_AT_ATTRIBUTE);
            kept.and_then(|at| at.parse::<Timestamp>().ok()).unwrap_or(message.sent)
        }
        _ => effective_sent_at(&attributes, message.sent),
    };
    let body = match state.breakage {
        Some(Breakage::TakesTicksForNew) => as_if_due(&message.body, now),
        _ => message.body.clone(),
    };
    Received {
        message_id: message.id.clone(),
        receipt: Receipt(taken.receipt_handle.clone()),
        body,
        sent_at,
        receives: message.receive_count,
        attributes,
    }
}

/// A tick as if it were due just now.
fn as_if_due(body: &str, now: Timestamp) -> String {
    let Ok(mut tick) = serde_json::from_str::<serde_json::Value>(body) else {
        return body.to_owned();
    };
    if tick["lamplighter"] == "tick" {
        tick["scheduled"] = now.to_string().into();
        return tick.to_string();
    }
    body.to_owned()
}

fn delete(state: &mut State, receipt: &Receipt, now: Timestamp) {
    state.world.delete_message(now, COMMANDS, &receipt.0).unwrap();
    let State { bodies, watch, table, emitted, .. } = state;
    let body = bodies.get(&receipt.0).map_or("", String::as_str);
    watch.deleted(table, emitted, body, now);
}

pub(super) fn texts(attributes: &BTreeMap<String, String>) -> BTreeMap<String, MessageAttribute> {
    attributes
        .iter()
        .map(|(name, value)| {
            let value = MessageAttribute {
                data_type: "String".to_owned(),
                text: Some(value.clone()),
                binary: None,
            };
            (name.clone(), value)
        })
        .collect()
}
