//! Secrets Manager: ids of machines that stand in a JSON secret (seed 000: `SECRET_ARN`, `PK_INSTANCE`), and values
//! that addresses name.
//!
//! *Invariants.* Of a secret only the one id or value is kept, in this process alone; its content is in no error and
//! no log. What was found is remembered for minutes, what was refused for seconds, so that a fleet costs few calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::{InstanceRef, SecretRef};
use lamplighter_runtime::ports::{Applied, CallError, Disposition};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Aws;
use crate::disposition::{call_error, own_error};

const READ: &str = "secretsmanager:GetSecretValue";
/// An id changes when somebody replaces a machine, a value when somebody rotates it; minutes are soon enough.
const REMEMBER_FOUND: Duration = Duration::from_secs(5 * 60);
/// Who has just corrected the secret should not wait.
const REMEMBER_REFUSED: Duration = Duration::from_secs(10);
/// One entry for each secret that a target names; a fleet is far smaller.
const REMEMBERED_MAX: usize = 1_000;

/// A token is far shorter; an address is no longer than a few thousand characters.
const VALUE_BYTES_MAX: usize = 2048;

/// Why a secret names no machine, or has no value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Binary.
    #[error("the secret {0} is binary: expected a JSON object")]
    Binary(String),
    /// Not JSON, or not an object.
    #[error(
        "the secret {0} is not a JSON object: expected one such as {{\"PK_INSTANCE\": \"i-…\"}}"
    )]
    NotJson(String),
    /// The key is missing.
    #[error("the secret {secret} has no key {key:?}")]
    NoKey {
        /// Which secret.
        secret: String,
        /// The key that is missing.
        key: String,
    },
    /// The value cannot stand in an address.
    #[error("{0}: expected a text of 1 to {VALUE_BYTES_MAX} bytes")]
    NoText(String),
    /// The value is no id.
    #[error("{key:?} in the secret {secret} is not {}", InstanceId::EXPECTED)]
    NotAnId {
        /// Which secret.
        secret: String,
        /// Its key.
        key: String,
    },
}

impl From<SecretError> for CallError {
    fn from(error: SecretError) -> Self {
        let cause = match error {
            SecretError::NoKey { .. } => Cause::NotFound,
            SecretError::Binary(_)
            | SecretError::NotJson(_)
            | SecretError::NoText(_)
            | SecretError::NotAnId { .. } => Cause::Invalid,
        };
        own_error(READ, cause, Disposition::Fail, Applied::No, error.to_string())
    }
}

/// A secret's value, which no debug output shows.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct SecretValue(String);

impl SecretValue {
    /// The value, for the one place that sends it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("SecretValue(…)")
    }
}

/// What was read of secrets, for as long as it is believed.
#[derive(Debug)]
struct Remembered<K, V>(Mutex<BTreeMap<K, Found<V>>>);

/// Until when it is believed, and what it is.
type Found<V> = (Instant, Result<V, CallError>);

impl<K: Ord, V: Clone> Remembered<K, V> {
    fn new() -> Self {
        Self(Mutex::new(BTreeMap::new()))
    }

    fn get(&self, place: &K) -> Option<Result<V, CallError>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(place).filter(|(until, _)| *until > Instant::now()).map(|(_, it)| it.clone())
    }

    fn keep(&self, place: K, found: &Result<V, CallError>) {
        let life = match found {
            Ok(_) => REMEMBER_FOUND,
            Err(error) if error.disposition == Disposition::Fail => REMEMBER_REFUSED,
            // Passing trouble has its own pauses.
            Err(_) => return,
        };
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= REMEMBERED_MAX {
            all.clear();
        }
        all.insert(place, (Instant::now() + life, found.clone()));
    }
}

/// Reads ids and values from secrets.
#[derive(Debug)]
pub(crate) struct Secrets {
    client: Client,
    ids: Remembered<(String, String), InstanceId>,
    values: Remembered<SecretRef, SecretValue>,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, ids: Remembered::new(), values: Remembered::new() }
    }

    pub(crate) async fn resolve(&self, instance: &InstanceRef) -> Result<InstanceId, CallError> {
        let (secret, key) = match instance {
            InstanceRef::Id(id) => return Ok(id.clone()),
            InstanceRef::Secret { secret, key } => (secret.clone(), key.clone()),
        };
        let place = (secret, key);
        if let Some(known) = self.ids.get(&place) {
            return known;
        }
        let read =
            async { Ok(instance_in(&place.0, &place.1, &text_of(&self.client, &place.0).await?)?) };
        let found = read.await;
        self.ids.keep(place, &found);
        found
    }

    /// The value that an address names.
    pub(crate) async fn value(&self, secret: &SecretRef) -> Result<SecretValue, CallError> {
        if let Some(known) = self.values.get(secret) {
            return known;
        }
        let read = async { Ok(value_in(secret, &text_of(&self.client, &secret.secret).await?)?) };
        let found = read.await;
        self.values.keep(secret.clone(), &found);
        found
    }
}

/// The text of a secret, for whoever knows what it holds. It is in no log and no error.
///
/// # Errors
/// Where Secrets Manager refuses or does not answer, or holds bytes.
pub async fn read_secret(aws: &Aws, secret: &str) -> Result<String, CallError> {
    text_of(&aws.secrets, secret).await
}

async fn text_of(client: &Client, secret: &str) -> Result<String, CallError> {
    let answer = client.get_secret_value().secret_id(secret).send().await.map_err(|error| {
        let error = call_error(READ, &error);
        CallError { message: format!("the secret {secret}: {}", error.message), ..error }
    })?;
    match answer.secret_string {
        Some(text) => Ok(text),
        None => Err(SecretError::Binary(secret.to_owned()).into()),
    }
}

/// One value of a secret that is a JSON object.
fn field(secret: &str, key: &str, text: &str) -> Result<Value, SecretError> {
    // serde's own error would quote the text.
    let Ok(Value::Object(mut fields)) = serde_json::from_str(text) else {
        return Err(SecretError::NotJson(secret.to_owned()));
    };
    fields
        .remove(key)
        .ok_or_else(|| SecretError::NoKey { secret: secret.to_owned(), key: key.to_owned() })
}

fn value_in(secret: &SecretRef, text: &str) -> Result<SecretValue, SecretError> {
    let (value, what) = match &secret.key {
        None => (text.to_owned(), format!("the secret {}", secret.secret)),
        Some(key) => match field(&secret.secret, key, text)? {
            Value::String(text) => (text, format!("{key:?} in the secret {}", secret.secret)),
            _ => {
                return Err(SecretError::NoText(format!(
                    "{key:?} in the secret {}",
                    secret.secret
                )));
            }
        },
    };
    // An editor ends a file with a line break.
    let value = value.trim();
    if value.is_empty() || value.len() > VALUE_BYTES_MAX {
        return Err(SecretError::NoText(what));
    }
    Ok(SecretValue(value.to_owned()))
}

fn instance_in(secret: &str, key: &str, text: &str) -> Result<InstanceId, SecretError> {
    field(secret, key, text)?
        .as_str()
        .and_then(|text| InstanceId::parse(text.trim()).ok())
        .ok_or_else(|| SecretError::NotAnId { secret: secret.to_owned(), key: key.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: Result<&str, &str>) {
        let found = instance_in("pk/prod", "PK_INSTANCE", text).map_err(|error| error.to_string());
        assert_eq!(found.as_ref().map(InstanceId::as_str).map_err(String::as_str), expected);
    }

    #[track_caller]
    fn check_value(key: Option<&str>, text: &str, expected: Result<&str, &str>) {
        let secret = SecretRef { secret: "ours/probe".to_owned(), key: key.map(str::to_owned) };
        let found = value_in(&secret, text).map_err(|error| error.to_string());
        assert_eq!(found.as_ref().map(SecretValue::expose).map_err(String::as_str), expected);
    }

    #[test]
    fn a_value_is_the_secrets_text_or_one_of_its_keys_and_no_error_quotes_it() {
        check_value(None, "hunter2\n", Ok("hunter2"));
        check_value(Some("token"), r#"{"token": "hunter2"}"#, Ok("hunter2"));
        let bounds = "expected a text of 1 to 2048 bytes";
        check_value(None, " ", Err(&format!("the secret ours/probe: {bounds}")));
        check_value(None, &"x".repeat(2049), Err(&format!("the secret ours/probe: {bounds}")));
        let of_key = format!("\"token\" in the secret ours/probe: {bounds}");
        check_value(Some("token"), r#"{"token": 7}"#, Err(&of_key));
        let lacks = "the secret ours/probe has no key \"token\"";
        check_value(Some("token"), r#"{"other": "hunter2"}"#, Err(lacks));
        assert_eq!(format!("{:?}", SecretValue("hunter2".to_owned())), "SecretValue(…)");
    }

    #[test]
    fn a_secret_names_a_machine_or_says_what_is_wrong_without_its_content() {
        check(
            r#"{"PK_INSTANCE":"i-01f5d046c86e4f36e","PASSWORD":"hunter2"}"#,
            Ok("i-01f5d046c86e4f36e"),
        );
        let shape = "the secret pk/prod is not a JSON object: expected one such as {\"PK_INSTANCE\": \"i-…\"}";
        check("hunter2", Err(shape));
        check("[\"hunter2\"]", Err(shape));
        check(r#"{"PASSWORD":"hunter2"}"#, Err("the secret pk/prod has no key \"PK_INSTANCE\""));
        check(
            r#"{"PK_INSTANCE":"hunter2"}"#,
            Err(
                "\"PK_INSTANCE\" in the secret pk/prod is not an EC2 instance id: i- and 8 to 17 hex digits in lower case",
            ),
        );
    }
}
