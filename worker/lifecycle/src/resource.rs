//! What a target is made of: the one thing in AWS that a record minds.
//!
//! *Invariant.* A resource has one spelling, whatever a payload called it (a name or an ARN), since that
//! spelling is the key by which it belongs to one target (`RESOURCE#<id>`). A machine that is to be launched has no
//! id yet: until EC2 gives it one, it is known by its launch's client token.

use std::fmt;

use jiff::Timestamp;
use lamplighter_events::{InstanceId, TargetName};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Text that names no ECS service, or no resource at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {what}: expected {expected}")]
pub struct NotAResource {
    /// As given.
    pub text: String,
    /// What it was to be.
    pub what: &'static str,
    /// What would do.
    pub expected: &'static str,
}

const NAME: &str = "1 to 255 letters, digits, '-' and '_', or the ARN";

/// An ECS service, by the names of its cluster and itself.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceId {
    cluster: String,
    service: String,
}

impl ServiceId {
    /// Takes names or ARNs.
    pub fn parse(cluster: &str, service: &str) -> Result<Self, NotAResource> {
        let wrong = |text: &str, what| {
            let text = text.chars().take(60).collect();
            NotAResource { text, what, expected: NAME }
        };
        let cluster_name = last_part(cluster, ":cluster/");
        let service_name = last_part(service, ":service/");
        if !is_ecs_name(cluster_name) {
            return Err(wrong(cluster, "a cluster"));
        }
        if !is_ecs_name(service_name) {
            return Err(wrong(service, "a service"));
        }
        // The newer kind of ARN names the cluster too: arn:…:service/CLUSTER/NAME.
        let within = service.rsplit_once(":service/").and_then(|(_, path)| path.split_once('/'));
        if within.is_some_and(|(named, _)| named != cluster_name) {
            return Err(wrong(service, "a service of that cluster"));
        }
        Ok(Self { cluster: cluster_name.to_owned(), service: service_name.to_owned() })
    }
    /// The cluster's name.
    pub fn cluster(&self) -> &str {
        &self.cluster
    }
    /// The service's name.
    pub fn service(&self) -> &str {
        &self.service
    }
}

fn last_part<'t>(text: &'t str, mark: &str) -> &'t str {
    match text.rsplit_once(mark) {
        Some((_, path)) => path.rsplit_once('/').map_or(path, |(_, name)| name),
        None => text,
    }
}

fn is_ecs_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

impl fmt::Display for ServiceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.cluster, self.service)
    }
}

/// Which services a payload may name itself: `cluster/service`, with `*` for any run of characters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePattern {
    cluster: String,
    service: String,
}

impl ServicePattern {
    /// Takes `cluster/service`, in which names may have `*`.
    pub fn parse(text: &str) -> Result<Self, NotAResource> {
        let fits = |name: &str| is_ecs_name(&name.replace('*', "x"));
        match text.split_once('/') {
            Some((cluster, service)) if fits(cluster) && fits(service) => {
                Ok(Self { cluster: cluster.to_owned(), service: service.to_owned() })
            }
            _ => Err(NotAResource {
                text: text.chars().take(60).collect(),
                what: "a pattern of services",
                expected: "cluster/service, in which '*' stands for any characters",
            }),
        }
    }
    /// Whether it allows this service.
    pub fn allows(&self, id: &ServiceId) -> bool {
        is_like(&self.cluster, &id.cluster) && is_like(&self.service, &id.service)
    }
}

/// Whether `text` is as `pattern` says; greedy from the left, which is enough for `*` alone.
fn is_like(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| text.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

/// The client token of a launch: 32 hexadecimal digits (EC2 takes 64 characters).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LaunchToken(String);

impl LaunchToken {
    const EXPECTED: &'static str = "32 hexadecimal digits";

    /// Takes what `as_str` gives.
    pub fn parse(text: &str) -> Result<Self, NotAResource> {
        let digit = |b: u8| b.is_ascii_digit() || (b'a'..=b'f').contains(&b);
        if text.len() == 32 && text.bytes().all(digit) {
            return Ok(Self(text.to_owned()));
        }
        let text = text.chars().take(60).collect();
        Err(NotAResource { text, what: "a launch's token", expected: Self::EXPECTED })
    }
    pub(crate) fn of_hex(text: String) -> Self {
        debug_assert!(Self::parse(&text).is_ok(), "{text}");
        Self(text)
    }
    /// The token.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LaunchToken {
    type Error = NotAResource;
    fn try_from(text: String) -> Result<Self, NotAResource> {
        Self::parse(&text)
    }
}

impl From<LaunchToken> for String {
    fn from(token: LaunchToken) -> Self {
        token.0
    }
}

/// What a launch's token begins with where it stands for a resource.
const LAUNCH: &str = "launch:";

/// One thing in AWS.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Resource {
    /// An EC2 instance.
    Instance(InstanceId),
    /// An ECS service.
    Service(ServiceId),
    /// The EC2 instance that this launch makes, or made.
    Launch(LaunchToken),
}

impl Resource {
    /// Takes what `Display` writes: an instance id, `cluster/service`, or `launch:TOKEN`.
    pub fn parse(text: &str) -> Result<Self, NotAResource> {
        if let Some(token) = text.strip_prefix(LAUNCH) {
            return LaunchToken::parse(token).map(Self::Launch);
        }
        if let Some((cluster, service)) = text.split_once('/') {
            return ServiceId::parse(cluster, service).map(Self::Service);
        }
        InstanceId::parse(text).map(Self::Instance).map_err(|_| NotAResource {
            text: text.chars().take(60).collect(),
            what: "a resource",
            expected: "an instance id, or cluster/service",
        })
    }
    /// What stands for the machine of a target that has never launched one.
    pub fn not_launched(target: &TargetName, now: jiff::Timestamp) -> Self {
        Self::Launch(crate::resource::token_of(target, now, 0))
    }
    /// The instance, where it is one.
    pub fn instance(&self) -> Option<&InstanceId> {
        match self {
            Self::Instance(id) => Some(id),
            Self::Service(_) | Self::Launch(_) => None,
        }
    }
    /// The service, where it is one.
    pub fn service(&self) -> Option<&ServiceId> {
        match self {
            Self::Service(id) => Some(id),
            Self::Instance(_) | Self::Launch(_) => None,
        }
    }
    /// Who speaks for it: `EC2` or `ECS`.
    pub fn speaker(&self) -> &'static str {
        match self {
            Self::Instance(_) | Self::Launch(_) => "EC2",
            Self::Service(_) => "ECS",
        }
    }
    /// What it is called in sentences.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Instance(_) | Self::Launch(_) => "machine",
            Self::Service(_) => "service",
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instance(id) => id.fmt(f),
            Self::Service(id) => f.pad(&id.to_string()),
            Self::Launch(token) => f.pad(&format!("{LAUNCH}{}", token.as_str())),
        }
    }
}

impl From<InstanceId> for Resource {
    fn from(id: InstanceId) -> Self {
        Self::Instance(id)
    }
}

impl From<ServiceId> for Resource {
    fn from(id: ServiceId) -> Self {
        Self::Service(id)
    }
}

impl TryFrom<String> for Resource {
    type Error = NotAResource;
    fn try_from(text: String) -> Result<Self, NotAResource> {
        Self::parse(&text)
    }
}

impl From<Resource> for String {
    fn from(resource: Resource) -> Self {
        resource.to_string()
    }
}

impl Serialize for ServiceId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ServiceId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (cluster, service) = text.split_once('/').unwrap_or((&text, ""));
        Self::parse(cluster, service).map_err(serde::de::Error::custom)
    }
}

/// The client token of a target's launch. `began` tells the records of one name apart: one that was forgotten
/// and made anew counts from 1 again, and EC2 remembers tokens for longer than that.
pub(crate) fn token_of(target: &TargetName, began: Timestamp, number: u64) -> LaunchToken {
    let parts = [target.as_str(), &began.as_millisecond().to_string(), &number.to_string()];
    LaunchToken::of_hex(hex(&parts, 32))
}

pub(crate) fn hex(parts: &[&str], digits: usize) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    let mut text: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(digits);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(cluster: &str, service: &str, expected: Option<&str>) {
        let parsed = ServiceId::parse(cluster, service).ok().map(|id| id.to_string());
        assert_eq!(parsed.as_deref(), expected, "{cluster} {service}");
    }

    #[test]
    fn a_service_has_one_spelling_whatever_it_was_called() {
        let one = Some("fluidity-prod/fluidity-server-prod");
        check("fluidity-prod", "fluidity-server-prod", one);
        let cluster = "arn:aws:ecs:eu-central-1:123456789012:cluster/fluidity-prod";
        check(cluster, "fluidity-server-prod", one);
        let service =
            "arn:aws:ecs:eu-central-1:123456789012:service/fluidity-prod/fluidity-server-prod";
        check(cluster, service, one);
        check("fluidity-prod", "arn:aws:ecs:eu-central-1:1:service/fluidity-server-prod", one);
        check("another", service, None);
        check("", "x", None);
        check("x", "a/b", None);
        check("x", "a b", None);
        check("x", &"a".repeat(256), None);
    }

    #[track_caller]
    fn allows(pattern: &str, cluster: &str, service: &str, expected: bool) {
        let pattern = ServicePattern::parse(pattern).unwrap();
        let id = ServiceId::parse(cluster, service).unwrap();
        assert_eq!(pattern.allows(&id), expected, "{pattern:?} {id}");
    }

    #[test]
    fn a_pattern_allows_what_it_names_and_no_more() {
        allows("fluidity-*/fluidity-server-*", "fluidity-dev", "fluidity-server-dev", true);
        allows("fluidity-*/fluidity-server-*", "other", "fluidity-server-dev", false);
        allows("fluidity-*/fluidity-server-*", "fluidity-dev", "billing", false);
        allows("dev/*", "dev", "anything", true);
        allows("dev/*", "dev2", "anything", false);
        allows("dev/a*b*c", "dev", "a1b2c", true);
        allows("dev/a*b*c", "dev", "a1c2b", false);
        allows("dev/exact", "dev", "exactly", false);
        for bad in ["", "dev", "dev/", "/x", "dev/a b", "a/b/c"] {
            assert!(ServicePattern::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_resource_is_read_from_what_it_writes() {
        let launch = "launch:0123456789abcdef0123456789abcdef";
        for text in ["i-0abc123def456", "fluidity-prod/fluidity-server-prod", launch] {
            let resource = Resource::parse(text).unwrap();
            assert_eq!(resource.to_string(), text);
            let json = serde_json::to_string(&resource).unwrap();
            assert_eq!(serde_json::from_str::<Resource>(&json).unwrap(), resource);
        }
        assert!(Resource::parse("elsewhere").is_err());
        assert!(Resource::parse("a/b/c").is_err());
        assert!(Resource::parse("launch:x").is_err());
    }
}
