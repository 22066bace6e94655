//! The ports of the runtime, made of the clients.

use std::sync::Arc;

use lamplighter_runtime::ports::Ports;

use crate::client::{Aws, ConnectError};
use crate::cloud::AwsCloud;
use crate::dynamodb::DynamoStore;
use crate::events::EventBus;
use crate::health::HealthClient;
use crate::names::Names;
use crate::probe::Probes;
use crate::secrets::Secrets;
use crate::sqs::{QueueUrl, SqsQueue};

impl Aws {
    /// The ports of the runtime. Sends nothing: names are looked up at their first use, so a worker can
    /// start before `lamplighter setup` was run, and says so until it was.
    ///
    /// # Errors
    /// Where a name is empty, or no client for health addresses can be made.
    pub fn ports(&self, names: &Names) -> Result<Ports, ConnectError> {
        names.check()?;
        let clock = self.clock();
        let health = HealthClient::new().map_err(ConnectError::Health)?;
        let secrets = Arc::new(Secrets::new(self.secrets.clone()));
        let probes = Probes::new(self, Arc::clone(&secrets), Arc::clone(&clock));
        let probes = probes.map_err(ConnectError::Health)?;
        Ok(Ports {
            queue: Arc::new(SqsQueue::new(
                self,
                QueueUrl::new(&names.commands),
                QueueUrl::new(&names.dead_letters),
            )),
            store: Arc::new(DynamoStore::new(self.dynamodb.clone(), &names.table)),
            cloud: Arc::new(AwsCloud::new(self, health, probes, secrets, Arc::clone(&clock))),
            bus: Arc::new(EventBus::new(self.events.clone(), &names.bus)),
            clock,
        })
    }
}
