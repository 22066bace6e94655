//! Addresses of backends, filled in for one question.
//!
//! *Invariant.* A filled address is in no error, log or record: it may hold a secret. Whoever shows an address
//! shows it as the fleet file has it.

use std::collections::BTreeMap;
use std::sync::Arc;

use lamplighter_lifecycle::{HealthUrl, with_secret_values};

use crate::secrets::Secrets;

/// Fills in addresses.
#[derive(Debug, Clone)]
pub(crate) struct Addresses {
    secrets: Arc<Secrets>,
}

impl Addresses {
    pub(crate) fn new(secrets: Arc<Secrets>) -> Self {
        Self { secrets }
    }

    /// Where to ask; or, in words, why that is not known.
    pub(crate) async fn fill(
        &self,
        url: &HealthUrl,
        private_ip: Option<&str>,
        public_ip: Option<&str>,
    ) -> Result<String, String> {
        let Some(filled) = url.fill(private_ip, public_ip) else {
            return Err(format!("there is no address for {}", url.as_str()));
        };
        let mut values = BTreeMap::new();
        for secret in url.secrets() {
            // Boxed: a call of the SDK is large, and most addresses have no secret.
            let value = Box::pin(self.secrets.value(&secret)).await;
            let value = value.map_err(|error| error.to_string())?;
            values.insert(secret, value);
        }
        Ok(with_secret_values(&filled, |secret| {
            values.get(secret).map(|it| it.expose().to_owned())
        }))
    }
}
