//! DynamoDB: the table of targets, commands, and what belongs to whom.
//!
//! *Theory.* A commit is one request: a conditional put where only the record changes, else one
//! transaction. Its condition is the record's `rev`. An answer that was lost shows itself at the next
//! attempt: the condition fails, and the item that made it fail bears the commit's own nonce.
//!
//! *Invariants.* An outcome never changes once it is set. The owner of a machine or service never changes here. What
//! decides (record, command, owner) is read consistently; what only nudges (indexes, lists) is not.

use std::collections::BTreeSet;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_dynamodb::Client;
use aws_sdk_dynamodb::operation::put_item::PutItemError;
use aws_sdk_dynamodb::types::{
    AttributeValue, ConditionCheck, KeysAndAttributes, Put, ReturnValuesOnConditionCheckFailure,
    TransactWriteItem, Update,
};
use jiff::Timestamp;
use lamplighter_events::{Cause, CommandId, TargetName};
use lamplighter_lifecycle::{
    COMMAND_LIFE_SECONDS, CommandRecord, Kind, Resource, STORED_FORMAT, Seat, SeatChange,
};
use lamplighter_runtime::ports::{
    Applied, CallError, Commit, Committed, Disposition, PutCommand, Store, Stored, UpTarget,
};

use crate::attempts::Attempts;
use crate::disposition::{call_error, own_error};
use crate::item::{
    DUE, FORMAT_IS_OURS, FORMAT_NAME, Item, ItemError, UP, check_format, command_item, command_key,
    made_prefix, number, put_format, read_command, read_name, read_owner, read_stored, read_up,
    resource_key, string, target_item, target_key, template_key, text,
};
use crate::transaction::{
    Cancelled, Part, TRANSACT, is_known_token, read_cancelled, request_token,
};

const GET: &str = "dynamodb:GetItem";
const GET_ALL: &str = "dynamodb:BatchGetItem";
const PUT: &str = "dynamodb:PutItem";
const QUERY: &str = "dynamodb:Query";
const SCAN: &str = "dynamodb:Scan";
/// DynamoDB's bound for one BatchGetItem.
const KEYS_MAX: usize = 100;
/// How often what a BatchGetItem left out is asked for again, with growing pauses.
const ROUNDS_MAX: u32 = 6;
const IS_NEW: &str = "attribute_not_exists(pk)";

/// The port over one table.
pub(crate) struct DynamoStore {
    client: Client,
    table: String,
}

impl DynamoStore {
    pub(crate) fn new(client: Client, table: &str) -> Self {
        Self { client, table: table.to_owned() }
    }

    async fn get(&self, key: Item) -> Result<Option<Item>, CallError> {
        let answer = self
            .client
            .get_item()
            .table_name(&self.table)
            .set_key(Some(key))
            .consistent_read(true)
            .send()
            .await
            .map_err(|error| call_error(GET, &error))?;
        Ok(answer.item)
    }

    /// Puts the record alone.
    async fn put_record(&self, commit: &Commit) -> Result<Committed, CallError> {
        let attempts = Attempts::default();
        let item = target_item(&commit.record, &commit.nonce).map_err(unwritable)?;
        let (condition, expected) = condition(commit.expected_rev);
        let answer = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(condition)
            .set_expression_attribute_values(expected)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        let error = match answer {
            Ok(_) => return Ok(Committed::Done),
            Err(error) => error,
        };
        let Some(PutItemError::ConditionalCheckFailedException(failed)) = error.as_service_error()
        else {
            return Err(attempts.correct(call_error(PUT, &error)));
        };
        self.lost_or_fenced(commit, failed.item().cloned()).await
    }

    /// A failed condition: our own write, or somebody else's?
    async fn lost_or_fenced(
        &self,
        commit: &Commit,
        old: Option<Item>,
    ) -> Result<Committed, CallError> {
        let old = match old {
            Some(old) if old.contains_key("nonce") => Some(old),
            _ => self.get(target_key(&commit.record.target)).await.map_err(after_write)?,
        };
        let ours = old.is_some_and(|old| string(&old, "nonce") == Some(&commit.nonce));
        Ok(if ours { Committed::Done } else { Committed::Fenced })
    }

    /// Puts the record together with everything else.
    async fn transact(&self, commit: &Commit) -> Result<Committed, CallError> {
        let attempts = Attempts::default();
        let (parts, items) = self.plan_transaction(commit)?;
        let answer = self
            .client
            .transact_write_items()
            .set_transact_items(Some(items))
            .client_request_token(request_token(&commit.nonce))
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        let error = match answer {
            Ok(_) => return Ok(Committed::Done),
            Err(error) => error,
        };
        if is_known_token(&error) {
            // The SDK writes the same items in another order: this commit was sent before.
            return self.lost_or_fenced(commit, None).await;
        }
        let Some(cancelled) = read_cancelled(&parts, &error) else {
            return Err(attempts.correct(call_error(TRANSACT, &error)));
        };
        let Cancelled { record, command, resource: taken, seat: full, outcome } =
            cancelled.map_err(|e| attempts.correct(e))?;
        if let Some(old) = &record
            && self.lost_or_fenced(commit, old.clone()).await? == Committed::Done
        {
            return Ok(Committed::Done);
        }
        if let (Some(old), Some(accepted)) = (command, &commit.accepted) {
            let existing = match old.as_ref().map(read_command) {
                Some(Ok(existing)) => Some(existing),
                _ => self.load_command(&accepted.id).await.map_err(after_write)?,
            };
            // Gone again between the write and the read: whoever reads again will see.
            return Ok(existing
                .map_or(Committed::Fenced, |known| Committed::CommandExists(Box::new(known))));
        }
        if record.is_some() {
            return Ok(Committed::Fenced);
        }
        if let (Some(old), Some(resource)) = (taken, &commit.claims) {
            let owner = match old.as_ref().map(read_owner) {
                Some(Ok(owner)) => Some(owner),
                _ => self.owner(resource).await.map_err(after_write)?,
            };
            return Ok(owner.map_or(Committed::Fenced, Committed::ResourceTaken));
        }
        if outcome {
            // An item that was not shown with its failed condition: reading it tells whether it is a newer release's.
            for outcome in &commit.outcomes {
                self.load_command(&outcome.command).await?;
            }
        }
        if let (Some(_), Some(seat)) = (&full, &commit.seat) {
            self.seats(&seat.template).await?;
            return Ok(Committed::Full);
        }
        Ok(Committed::Fenced)
    }

    /// What a transaction writes, each with its part in it.
    fn plan_transaction(
        &self,
        commit: &Commit,
    ) -> Result<(Vec<Part>, Vec<TransactWriteItem>), CallError> {
        let mut parts = Vec::new();
        let mut items = Vec::new();
        let item = target_item(&commit.record, &commit.nonce).map_err(unwritable)?;
        let (rule, expected) = condition(commit.expected_rev);
        parts.push(Part::Record);
        items.push(self.put(item, rule, expected, &[])?);
        if let Some(accepted) = &commit.accepted {
            // One transaction may touch an item once: an outcome that is already known goes with it.
            let mut record = accepted.clone();
            let own = commit.outcomes.iter().find(|outcome| outcome.command == accepted.id);
            record.outcome = own.cloned().or(record.outcome);
            parts.push(Part::Command);
            items.push(self.put(command_item(&record).map_err(unwritable)?, IS_NEW, None, &[])?);
        }
        let mut written: Vec<&CommandId> =
            commit.accepted.iter().map(|record| &record.id).collect();
        for outcome in &commit.outcomes {
            if written.contains(&&outcome.command) {
                continue;
            }
            written.push(&outcome.command);
            let json = serde_json::to_string(outcome).map_err(unwritable)?;
            let update = Update::builder()
                .table_name(&self.table)
                .set_key(Some(command_key(&outcome.command)))
                .update_expression(
                    "SET outcome = if_not_exists(outcome, :outcome), \
                     expires_at = if_not_exists(expires_at, :expires), \
                     #format = :format",
                )
                .condition_expression(FORMAT_IS_OURS)
                .return_values_on_condition_check_failure(
                    ReturnValuesOnConditionCheckFailure::AllOld,
                )
                .expression_attribute_names(FORMAT_NAME.0, FORMAT_NAME.1)
                .expression_attribute_values(":format", number(STORED_FORMAT))
                .expression_attribute_values(":outcome", text(json))
                .expression_attribute_values(
                    ":expires",
                    number(outcome.at.as_second() + COMMAND_LIFE_SECONDS),
                )
                .build()
                .map_err(|error| malformed(TRANSACT, error.to_string()))?;
            parts.push(Part::Outcome);
            items.push(TransactWriteItem::builder().update(update).build());
        }
        if let Some(resource) = &commit.claims {
            let mut item = resource_key(resource);
            put_format(&mut item);
            let me = text(commit.record.target.as_str());
            item.insert("owner".to_owned(), me.clone());
            if let Some(at) = commit.record.provision.retire_at {
                item.insert("expires_at".to_owned(), number(at.as_second()));
            }
            parts.push(Part::Resource);
            let values = values([(":me", me), (":format", number(STORED_FORMAT))]);
            // `owner` is a word that DynamoDB keeps for itself.
            let rule = format!("attribute_not_exists(pk) OR (#owner = :me AND ({FORMAT_IS_OURS}))");
            let names = [("#owner", "owner"), FORMAT_NAME];
            items.push(self.put(item, &rule, Some(values), &names)?);
        }
        if let Some(seat) = &commit.seat {
            parts.push(Part::Seat);
            items.push(self.update_seats(seat, &commit.record.target)?);
        }
        Ok((parts, items))
    }

    /// A place of a template: a set of names in one item, so that nobody can have two, and that the number of
    /// them is the condition of the write that takes one.
    fn update_seats(
        &self,
        seat: &Seat,
        target: &TargetName,
    ) -> Result<TransactWriteItem, CallError> {
        let me = AttributeValue::Ss(vec![target.to_string()]);
        let update = Update::builder()
            .table_name(&self.table)
            .set_key(Some(template_key(&seat.template)))
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .expression_attribute_names(FORMAT_NAME.0, FORMAT_NAME.1)
            .expression_attribute_values(":format", number(STORED_FORMAT))
            .expression_attribute_values(":me", me);
        let update = match seat.change {
            SeatChange::Take(limit) => update
                .update_expression("SET #format = :format ADD seats :me")
                .condition_expression(format!(
                    "({FORMAT_IS_OURS}) AND (attribute_not_exists(seats) OR size(seats) < :limit \
                     OR contains(seats, :name))"
                ))
                .expression_attribute_values(":limit", number(limit))
                .expression_attribute_values(":name", text(target.as_str())),
            SeatChange::Force => update
                .update_expression("SET #format = :format ADD seats :me")
                .condition_expression(FORMAT_IS_OURS),
            SeatChange::Leave => update
                .update_expression("SET #format = :format DELETE seats :me")
                .condition_expression(FORMAT_IS_OURS),
        };
        let update = update.build().map_err(|error| malformed(TRANSACT, error.to_string()))?;
        Ok(TransactWriteItem::builder().update(update).build())
    }

    fn put(
        &self,
        item: Item,
        condition: &str,
        values: Option<Item>,
        names: &[(&str, &str)],
    ) -> Result<TransactWriteItem, CallError> {
        let mut put = Put::builder()
            .table_name(&self.table)
            .set_item(Some(item))
            .condition_expression(condition)
            .set_expression_attribute_values(values)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld);
        for (mark, name) in names {
            put = put.expression_attribute_names(*mark, *name);
        }
        let put = put.build().map_err(|error| malformed(TRANSACT, error.to_string()))?;
        Ok(TransactWriteItem::builder().put(put).build())
    }

    /// A query of an index, to the end; the lines that are not ours are left out and named in the log.
    async fn query<T>(
        &self,
        index: &str,
        condition: &str,
        values: Item,
        read: impl Fn(&Item) -> Result<T, ItemError>,
    ) -> Result<Vec<T>, CallError> {
        let mut lines = Vec::new();
        let mut from: Option<Item> = None;
        loop {
            let answer = self
                .client
                .query()
                .table_name(&self.table)
                .index_name(index)
                .key_condition_expression(condition)
                .set_expression_attribute_values(Some(values.clone()))
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| call_error(QUERY, &error))?;
            for item in answer.items.unwrap_or_default() {
                match read(&item) {
                    Ok(line) => lines.push(line),
                    Err(error) => {
                        tracing::error!(%error, index, "a line of an index cannot be read");
                    }
                }
            }
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(lines);
            }
        }
    }

    /// The items that are there, in no order.
    async fn get_all(&self, keys: &[Item], consistently: bool) -> Result<Vec<Item>, CallError> {
        let mut items = Vec::with_capacity(keys.len());
        for some in keys.chunks(KEYS_MAX) {
            items.extend(self.get_some(some.to_vec(), consistently).await?);
        }
        Ok(items)
    }

    /// The same of at most `KEYS_MAX`. What DynamoDB leaves out (an answer of 16 MB is full) is asked for again.
    async fn get_some(
        &self,
        mut keys: Vec<Item>,
        consistently: bool,
    ) -> Result<Vec<Item>, CallError> {
        let mut items = Vec::new();
        for round in 0..ROUNDS_MAX {
            let wanted = KeysAndAttributes::builder()
                .set_keys(Some(keys))
                .consistent_read(consistently)
                .build()
                .map_err(|error| malformed(GET_ALL, error.to_string()))?;
            let answer = self
                .client
                .batch_get_item()
                .request_items(&self.table, wanted)
                .send()
                .await
                .map_err(|error| call_error(GET_ALL, &error))?;
            items.extend(answer.responses.unwrap_or_default().into_values().flatten());
            let left = answer.unprocessed_keys.unwrap_or_default().into_values().next();
            keys = left.map(|left| left.keys).unwrap_or_default();
            if keys.is_empty() {
                return Ok(items);
            }
            tokio::time::sleep(Duration::from_millis(50 << round)).await;
        }
        let words = format!("{} items were left out again and again", keys.len());
        Err(own_error(GET_ALL, Cause::Throttled, Disposition::Retry, Applied::No, words))
    }
}

/// The key of each, once: DynamoDB refuses a batch that names a key twice.
fn keys<T: Ord>(key: impl Fn(&T) -> Item, of: &[T]) -> Vec<Item> {
    let once: BTreeSet<&T> = of.iter().collect();
    once.into_iter().map(key).collect()
}

/// What a list shows. One item that is not even in outline ours must not hide the others.
fn read_each(items: &[Item], operation: &'static str) -> Vec<Stored> {
    let read = |item: &Item| {
        read_stored(item, operation)
            .inspect_err(|error| tracing::error!(%error, "left out of a list"))
            .ok()
    };
    items.iter().filter_map(read).collect()
}

/// The condition for a record that has `rev`, or does not exist (0).
fn condition(expected_rev: u64) -> (&'static str, Option<Item>) {
    match expected_rev {
        0 => (IS_NEW, None),
        rev => ("rev = :expected", Some(Item::from([(":expected".to_owned(), number(rev))]))),
    }
}

/// A read that was to tell what became of a write: while it fails, that is open.
fn after_write(error: CallError) -> CallError {
    CallError { applied: Applied::Perhaps, ..error }
}

fn malformed(operation: &'static str, message: String) -> CallError {
    own_error(operation, Cause::Invalid, Disposition::Fail, Applied::No, message)
}

#[allow(clippy::needless_pass_by_value)] // It stands in `map_err`.
fn unwritable(error: serde_json::Error) -> CallError {
    malformed(PUT, format!("the record cannot be written as JSON: {error}"))
}

#[async_trait]
impl Store for DynamoStore {
    async fn look_up(&self, target: &TargetName) -> Result<Option<Stored>, CallError> {
        let item = self.get(target_key(target)).await?;
        item.as_ref().map(|item| read_stored(item, GET)).transpose()
    }

    async fn load_all(&self, targets: &[TargetName]) -> Result<Vec<Stored>, CallError> {
        let keys = keys(target_key, targets);
        Ok(read_each(&self.get_all(&keys, false).await?, GET_ALL))
    }

    async fn load_command(&self, id: &CommandId) -> Result<Option<CommandRecord>, CallError> {
        let item = self.get(command_key(id)).await?;
        item.as_ref().map(read_command).transpose().map_err(|error| error.into_call_error(GET))
    }

    async fn load_commands(&self, ids: &[CommandId]) -> Result<Vec<CommandRecord>, CallError> {
        let keys = keys(command_key, ids);
        let items = self.get_all(&keys, true).await?;
        // One that a newer worker wrote, and that cannot be read here, must not hide the others.
        let read = |item: &Item| {
            read_command(item).inspect_err(|error| tracing::warn!(%error, "passed over")).ok()
        };
        Ok(items.iter().filter_map(read).collect())
    }

    async fn commit(&self, commit: &Commit) -> Result<Committed, CallError> {
        let alone = commit.accepted.is_none() && commit.outcomes.is_empty();
        if alone && commit.claims.is_none() && commit.seat.is_none() {
            self.put_record(commit).await
        } else {
            self.transact(commit).await
        }
    }

    async fn put_command(&self, command: &CommandRecord) -> Result<PutCommand, CallError> {
        let attempts = Attempts::default();
        let answer = self
            .client
            .put_item()
            .table_name(&self.table)
            .set_item(Some(command_item(command).map_err(unwritable)?))
            .condition_expression(IS_NEW)
            .return_values_on_condition_check_failure(ReturnValuesOnConditionCheckFailure::AllOld)
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        let error = match answer {
            Ok(_) => return Ok(PutCommand::Done),
            Err(error) => error,
        };
        let Some(PutItemError::ConditionalCheckFailedException(failed)) = error.as_service_error()
        else {
            return Err(attempts.correct(call_error(PUT, &error)));
        };
        let existing = match failed.item().map(read_command) {
            Some(Ok(existing)) => Some(existing),
            _ => self.load_command(&command.id).await.map_err(after_write)?,
        };
        let Some(existing) = existing else {
            let words = "the command's item was there, and is gone";
            return Err(own_error(PUT, Cause::Conflict, Disposition::Retry, Applied::No, words));
        };
        // Our own write, whose answer was lost, left exactly what we wanted to write.
        if existing == *command {
            return Ok(PutCommand::Done);
        }
        Ok(PutCommand::Exists(Box::new(existing)))
    }

    async fn due(&self, shard: u32, now: Timestamp) -> Result<Vec<TargetName>, CallError> {
        let values =
            values([(":shard", text(shard.to_string())), (":now", number(now.as_millisecond()))]);
        self.query(DUE, "due_shard = :shard AND wake_at <= :now", values, read_name).await
    }

    async fn up(&self, shard: u32) -> Result<Vec<UpTarget>, CallError> {
        let values = values([(":shard", text(shard.to_string()))]);
        self.query(UP, "up_shard = :shard", values, read_up).await
    }

    async fn seats(&self, template: &TargetName) -> Result<Vec<TargetName>, CallError> {
        let item = self.get(template_key(template)).await?;
        item.as_ref().map_or(Ok(()), check_format).map_err(|error| error.into_call_error(GET))?;
        let names = item.as_ref().and_then(|item| item.get("seats")).and_then(|it| it.as_ss().ok());
        let names = names.into_iter().flatten().filter_map(|name| TargetName::parse(name).ok());
        Ok(names.collect())
    }

    async fn records_of(&self, template: &TargetName) -> Result<Vec<Stored>, CallError> {
        let mut records = Vec::new();
        let mut from: Option<Item> = None;
        loop {
            let answer = self
                .client
                .scan()
                .table_name(&self.table)
                .consistent_read(true)
                .filter_expression("begins_with(pk, :made) AND kind = :kind")
                .expression_attribute_values(":made", text(made_prefix(template)))
                .expression_attribute_values(":kind", text(Kind::Launched.as_str()))
                .set_exclusive_start_key(from)
                .send()
                .await
                .map_err(|error| call_error(SCAN, &error))?;
            records.extend(read_each(&answer.items.unwrap_or_default(), SCAN));
            from = answer.last_evaluated_key.filter(|key| !key.is_empty());
            if from.is_none() {
                return Ok(records);
            }
        }
    }

    async fn free_seat(
        &self,
        template: &TargetName,
        target: &TargetName,
        rev: u64,
    ) -> Result<bool, CallError> {
        let (rule, expected) = condition(rev);
        let check = ConditionCheck::builder()
            .table_name(&self.table)
            .set_key(Some(target_key(target)))
            .condition_expression(rule)
            .set_expression_attribute_values(expected)
            .build()
            .map_err(|error| malformed(TRANSACT, error.to_string()))?;
        let seat = Seat { template: template.clone(), change: SeatChange::Leave };
        let attempts = Attempts::default();
        let answer = self
            .client
            .transact_write_items()
            .transact_items(TransactWriteItem::builder().condition_check(check).build())
            .transact_items(self.update_seats(&seat, target)?)
            .customize()
            .interceptor(attempts.clone())
            .send()
            .await;
        let Err(error) = answer else { return Ok(true) };
        match read_cancelled(&[Part::Record, Part::Seat], &error) {
            // What a newer release wrote is an error already: it was the record.
            Some(cancelled) => {
                let cancelled = cancelled.map_err(|error| attempts.correct(error))?;
                if cancelled.seat.is_some() {
                    self.seats(template).await?;
                }
                Ok(false)
            }
            None => Err(attempts.correct(call_error(TRANSACT, &error))),
        }
    }

    async fn owner(&self, resource: &Resource) -> Result<Option<TargetName>, CallError> {
        let item = self.get(resource_key(resource)).await?;
        item.as_ref().map(read_owner).transpose().map_err(|error| error.into_call_error(GET))
    }
}

fn values<const N: usize>(values: [(&str, AttributeValue); N]) -> Item {
    values.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}
