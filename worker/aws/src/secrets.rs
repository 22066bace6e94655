//! Secrets Manager: ids of machines that stand in a JSON secret (seed 000: `SECRET_ARN`, `PK_INSTANCE`).
//!
//! *Invariants.* Of a secret only the one id is kept; its content is in no error, log or cache. What was
//! found is remembered for minutes, what was refused for seconds, so that a fleet costs few calls.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_sdk_secretsmanager::Client;
use lamplighter_events::{Cause, InstanceId};
use lamplighter_lifecycle::InstanceRef;
use lamplighter_runtime::ports::{Applied, CallError, Disposition};
use serde_json::Value;
use tokio::time::Instant;

use crate::client::Aws;
use crate::disposition::{call_error, own_error};

const READ: &str = "secretsmanager:GetSecretValue";
/// An id changes when somebody replaces a machine; minutes are soon enough.
const REMEMBER_FOUND: Duration = Duration::from_secs(5 * 60);
/// Who has just corrected the secret should not wait.
const REMEMBER_REFUSED: Duration = Duration::from_secs(10);
/// One entry for each target with a secret; a fleet is far smaller.
const REMEMBERED_MAX: usize = 1_000;

/// Why a secret names no machine.
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
            SecretError::Binary(_) | SecretError::NotJson(_) | SecretError::NotAnId { .. } => {
                Cause::Invalid
            }
        };
        own_error(READ, cause, Disposition::Fail, Applied::No, error.to_string())
    }
}

type Remembered = BTreeMap<(String, String), (Instant, Result<InstanceId, CallError>)>;

/// Reads ids from secrets.
#[derive(Debug)]
pub(crate) struct Secrets {
    client: Client,
    remembered: Mutex<Remembered>,
}

impl Secrets {
    pub(crate) fn new(client: Client) -> Self {
        Self { client, remembered: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) async fn resolve(&self, instance: &InstanceRef) -> Result<InstanceId, CallError> {
        let (secret, key) = match instance {
            InstanceRef::Id(id) => return Ok(id.clone()),
            InstanceRef::Secret { secret, key } => (secret.clone(), key.clone()),
        };
        let place = (secret, key);
        if let Some((until, known)) = self.lock().get(&place)
            && *until > Instant::now()
        {
            return known.clone();
        }
        let found = self.read(&place.0, &place.1).await;
        let life = match &found {
            Ok(_) => Some(REMEMBER_FOUND),
            Err(error) if error.disposition == Disposition::Fail => Some(REMEMBER_REFUSED),
            // Passing trouble has its own pauses.
            Err(_) => None,
        };
        if let Some(life) = life {
            let mut remembered = self.lock();
            if remembered.len() >= REMEMBERED_MAX {
                remembered.clear();
            }
            remembered.insert(place, (Instant::now() + life, found.clone()));
        }
        found
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Remembered> {
        self.remembered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn read(&self, secret: &str, key: &str) -> Result<InstanceId, CallError> {
        Ok(instance_in(secret, key, &text_of(&self.client, secret).await?)?)
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

fn instance_in(secret: &str, key: &str, text: &str) -> Result<InstanceId, SecretError> {
    // serde's own error would quote the text.
    let Ok(Value::Object(fields)) = serde_json::from_str(text) else {
        return Err(SecretError::NotJson(secret.to_owned()));
    };
    let value = fields
        .get(key)
        .ok_or_else(|| SecretError::NoKey { secret: secret.to_owned(), key: key.to_owned() })?;
    value
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
