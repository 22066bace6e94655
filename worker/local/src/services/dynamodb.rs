//! DynamoDB: `awsim`'s, and what it lets pass that DynamoDB refuses, or leaves out that DynamoDB says.
//!
//! - A batch of keys, a request token and an item of a transaction have their limits.
//! - A cancelled transaction shows the item whose condition failed, where `ALL_OLD` asks for it.
//! - Time to live is enabled once.
//!
//! The item is read after the transaction was cancelled, so it may be newer than the one that failed it.

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use awsim_core::{AwsError, IamCheck, Protocol, RequestContext, RouteDefinition, ServiceHandler};
use serde_json::{Map, Value, json};

use crate::input::{list, text};
use crate::shared::fault;

/// DynamoDB's limits: the keys of a BatchGetItem, the characters of a token, the bytes of an item.
const KEYS_MAX: usize = 100;
const TOKEN_CHARS_MAX: usize = 36;
const ITEM_BYTES_MAX: usize = 400 * 1024;

pub(crate) struct DynamoDb {
    pub(crate) inner: Arc<dyn ServiceHandler>,
}

fn invalid(message: impl Into<String>) -> AwsError {
    fault(400, "ValidationException", message)
}

#[async_trait]
impl ServiceHandler for DynamoDb {
    fn service_name(&self) -> &str {
        self.inner.service_name()
    }

    fn signing_name(&self) -> &str {
        self.inner.signing_name()
    }

    fn protocol(&self) -> Protocol {
        self.inner.protocol()
    }

    fn routes(&self) -> Vec<RouteDefinition> {
        self.inner.routes()
    }

    async fn handle(
        &self,
        operation: &str,
        input: Value,
        ctx: &RequestContext,
    ) -> Result<Value, AwsError> {
        match operation {
            "BatchGetItem" => check_keys(&input)?,
            "TransactWriteItems" => check_transaction(&input)?,
            "UpdateTimeToLive" => self.check_time_to_live(&input, ctx).await?,
            _ => {}
        }
        let parts = match operation {
            "TransactWriteItems" => list(&input, "TransactItems").to_vec(),
            _ => Vec::new(),
        };
        match self.inner.handle(operation, input, ctx).await {
            Err(error) if error.code == "TransactionCanceledException" => {
                Err(self.with_items(&parts, error, ctx).await)
            }
            result => result,
        }
    }

    fn snapshot(&self) -> Option<Vec<u8>> {
        self.inner.snapshot()
    }

    fn restore(&self, data: &[u8]) -> Result<(), String> {
        self.inner.restore(data)
    }

    fn iam_checks_with_context(
        &self,
        operation: &str,
        input: &Value,
        ctx: &RequestContext,
    ) -> Vec<IamCheck> {
        self.inner.iam_checks_with_context(operation, input, ctx)
    }
}

fn check_keys(input: &Value) -> Result<(), AwsError> {
    let tables = input.get("RequestItems").and_then(Value::as_object);
    let mut count = 0;
    for table in tables.into_iter().flat_map(Map::values) {
        let keys = list(table, "Keys");
        // `Value` writes the members of an object in the order of their names.
        let distinct: BTreeSet<String> = keys.iter().map(Value::to_string).collect();
        if distinct.len() < keys.len() {
            return Err(invalid("Provided list of item keys contains duplicates"));
        }
        count += keys.len();
    }
    if count > KEYS_MAX {
        return Err(invalid("Too many items requested for the BatchGetItem call"));
    }
    Ok(())
}

fn check_transaction(input: &Value) -> Result<(), AwsError> {
    if text(input, "ClientRequestToken").chars().count() > TOKEN_CHARS_MAX {
        return Err(invalid(
            "1 validation error detected: Value at 'clientRequestToken' failed to satisfy constraint: \
             Member must have length less than or equal to 36",
        ));
    }
    for part in list(input, "TransactItems") {
        let item = part.get("Put").and_then(|put| put.get("Item")).and_then(Value::as_object);
        if item.is_some_and(|item| item_bytes(item) > ITEM_BYTES_MAX) {
            return Err(invalid("Item size has exceeded the maximum allowed size"));
        }
    }
    Ok(())
}

/// The size of an item as DynamoDB counts it: names and values.
fn item_bytes(item: &Map<String, Value>) -> usize {
    item.iter().map(|(name, value)| name.len() + value_bytes(value)).sum()
}

fn value_bytes(value: &Value) -> usize {
    /// What a list or a map takes itself, and each of its elements.
    const CONTAINER: usize = 3;
    const ELEMENT: usize = 1;
    let Some((kind, value)) = value.as_object().and_then(|it| it.iter().next()) else { return 0 };
    let text = |value: &Value| value.as_str().map_or(0, str::len);
    let texts = |each: fn(usize) -> usize| {
        value.as_array().into_iter().flatten().map(|it| each(text(it))).sum::<usize>()
    };
    // Two digits share a byte, and one more is for sign and exponent; four characters of base64 are three bytes.
    let number = |digits: usize| digits.div_ceil(2) + 1;
    let binary = |characters: usize| characters / 4 * 3;
    match kind.as_str() {
        "S" => text(value),
        "N" => number(text(value)),
        "B" => binary(text(value)),
        "SS" => texts(|it| it),
        "NS" => texts(number),
        "BS" => texts(binary),
        "L" => {
            let items = value.as_array().into_iter().flatten();
            CONTAINER + items.map(|it| ELEMENT + value_bytes(it)).sum::<usize>()
        }
        "M" => CONTAINER + value.as_object().map_or(0, |it| it.len() * ELEMENT + item_bytes(it)),
        _ => 1,
    }
}

impl DynamoDb {
    async fn check_time_to_live(
        &self,
        input: &Value,
        ctx: &RequestContext,
    ) -> Result<(), AwsError> {
        let wanted = input.get("TimeToLiveSpecification").and_then(|it| it.get("Enabled"));
        if wanted.and_then(Value::as_bool) != Some(true) {
            return Ok(());
        }
        let asked = json!({"TableName": text(input, "TableName")});
        let answer = self.inner.handle("DescribeTimeToLive", asked, ctx).await?;
        let status = answer["TimeToLiveDescription"]["TimeToLiveStatus"].as_str();
        if matches!(status, Some("ENABLED" | "ENABLING")) {
            return Err(invalid("TimeToLive is already enabled"));
        }
        Ok(())
    }

    /// The error with the items that failed it, for the parts that ask for them.
    async fn with_items(
        &self,
        parts: &[Value],
        mut error: AwsError,
        ctx: &RequestContext,
    ) -> AwsError {
        let extras = error.extras.as_mut();
        let reasons = extras.and_then(|it| it.get_mut("CancellationReasons")?.as_array_mut());
        for (part, reason) in parts.iter().zip(reasons.into_iter().flatten()) {
            if reason["Code"] != "ConditionalCheckFailed" || reason.get("Item").is_some() {
                continue;
            }
            if let Some(item) = self.old_item(part, ctx).await {
                reason["Item"] = item;
            }
        }
        error
    }

    async fn old_item(&self, part: &Value, ctx: &RequestContext) -> Option<Value> {
        let (_, wanted) = part.as_object()?.iter().next()?;
        if text(wanted, "ReturnValuesOnConditionCheckFailure") != "ALL_OLD" {
            return None;
        }
        let table = text(wanted, "TableName");
        let key = match (wanted.get("Key"), wanted.get("Item")) {
            (Some(key), _) => key.clone(),
            (None, item) => self.key_of(table, item?, ctx).await?,
        };
        let asked = json!({"TableName": table, "Key": key, "ConsistentRead": true});
        let answer = self.inner.handle("GetItem", asked, ctx).await.ok()?;
        answer.get("Item").cloned()
    }

    async fn key_of(&self, table: &str, item: &Value, ctx: &RequestContext) -> Option<Value> {
        let asked = json!({"TableName": table});
        let answer = self.inner.handle("DescribeTable", asked, ctx).await.ok()?;
        let names = answer["Table"]["KeySchema"].as_array()?.iter();
        let names = names.filter_map(|it| it["AttributeName"].as_str());
        names.map(|name| Some((name.to_owned(), item.get(name)?.clone()))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(item: &Value, expected: usize) {
        assert_eq!(item_bytes(item.as_object().unwrap()), expected, "{item}");
    }

    #[test]
    fn an_item_is_as_large_as_its_names_and_values() {
        check(&json!({}), 0);
        check(&json!({"pk": {"S": "äb"}}), 2 + 3);
        check(&json!({"n": {"N": "123"}}), 1 + 3);
        check(&json!({"b": {"B": "AAAA"}, "t": {"BOOL": true}}), 1 + 3 + 1 + 1);
        check(&json!({"s": {"SS": ["ab", "c"]}}), 1 + 3);
        check(&json!({"l": {"L": [{"S": "ab"}]}}), 1 + 3 + 1 + 2);
        check(&json!({"m": {"M": {"k": {"S": "v"}}}}), 1 + 3 + 1 + 2);
    }

    #[test]
    fn a_batch_names_each_key_once_and_at_most_a_hundred() {
        let batch = |keys: Vec<Value>| json!({"RequestItems": {"t": {"Keys": keys}}});
        let key = |n: usize| json!({"pk": {"S": n.to_string()}});
        assert!(check_keys(&batch((0..100).map(key).collect())).is_ok());
        assert!(check_keys(&batch((0..101).map(key).collect())).is_err());
        assert!(check_keys(&batch(vec![key(1), key(1)])).is_err());
    }
}
