//! Waiting for the agent of a host.

use crate::observed::Agent;
use crate::pass::Pass;

/// Why no question could be asked.
pub(super) fn no_agent(pass: &Pass<'_>, agent: Option<Agent>) -> String {
    match (&pass.record.attempt.refusal, agent) {
        (Some(refusal), _) => refusal.message.clone(),
        (None, Some(Agent::Offline)) => "its SSM agent lost its connection".to_owned(),
        _ => "its SSM agent never registered: is it installed, and is there an instance profile with \
              AmazonSSMManagedInstanceCore?"
            .to_owned(),
    }
}
