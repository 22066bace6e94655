//! What the fleet says of its door: who may, which of the seeds' paths there are, and how much.
//!
//! *Theory.* Tokens are long and random, so their plain SHA-256 can be kept where everybody reads it: nobody comes
//! from a hash to its token. What a token may is said beside its hash, and whom it speaks for too: a holder is an
//! identity, and whoever could name any holder could end anybody's hold.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use axum::http::uri::Authority;
use lamplighter_events::{FieldError, Holder, TargetName};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use url::Url;

/// Requests a second that one address, or one token, may make: a page with a few open views needs two.
pub const RATE_DEFAULT: u32 = 50;
/// What our own addresses begin with.
const OWN_PATHS: [&str; 8] =
    ["v1", "docs", "openapi.json", "assets", "wait", "healthz", "readyz", "metrics"];
/// Longer prefixes are mistaken addresses.
const PREFIX_CHARS_MAX: usize = 100;

/// `[http]`
#[derive(Debug, Clone)]
pub struct Http {
    /// Whether tokens are asked for.
    pub auth: Auth,
    /// The seeds whose paths there are.
    pub compat: BTreeSet<Seed>,
    /// What stands before the seeds' paths: empty, or begins with a slash and ends without.
    pub prefix: String,
    /// Pages of other origins that may read answers.
    pub origins: Vec<String>,
    /// The names by which callers reach a door that asks for no tokens.
    pub hosts: Vec<Host>,
    /// How many proxies of ours each append the address they saw to `X-Forwarded-For`.
    pub proxies: usize,
    /// Who may what.
    pub tokens: Vec<Token>,
    /// A secret with more of them.
    pub tokens_secret: Option<String>,
    /// The right `command` includes `kill`, as it did before that was a right of its own.
    pub command_includes_kill: bool,
    /// The secret with the keys of links.
    pub links_secret: Option<String>,
    /// Which target, or template, a seed's paths mean.
    pub seeds: BTreeMap<Seed, TargetName>,
    /// Where the waiting room of a target may lead.
    pub wait: BTreeMap<TargetName, Vec<Destination>>,
    /// Requests a second from one address.
    pub per_address: u32,
    /// Requests a second with one token.
    pub per_token: u32,
}

impl Http {
    /// Nothing but this.
    #[must_use]
    pub fn new(auth: Auth) -> Self {
        Self {
            auth,
            compat: BTreeSet::new(),
            prefix: String::new(),
            origins: Vec::new(),
            hosts: Vec::new(),
            proxies: 0,
            tokens: Vec::new(),
            tokens_secret: None,
            command_includes_kill: true,
            links_secret: None,
            seeds: BTreeMap::new(),
            wait: BTreeMap::new(),
            per_address: RATE_DEFAULT,
            per_token: RATE_DEFAULT,
        }
    }

    /// Where a link to a target's waiting room leads: as it says, if the fleet lets it; where it says nothing, to the
    /// first place that the fleet names. `None`: the target has no waiting room.
    pub fn leads(&self, target: &TargetName, to: Option<&str>) -> Option<Result<Url, FieldError>> {
        let allowed = self.wait.get(target)?;
        let url = match to {
            None => allowed.first().map(|destination| destination.0.clone()),
            Some(to) => {
                plain_url(to).filter(|to| allowed.iter().any(|destination| destination.has(to)))
            }
        };
        Some(url.ok_or_else(|| FieldError {
            field: "to".to_owned(),
            problem: "this waiting room may not lead there".to_owned(),
            expected: format!("an address that [http.wait.{target}] allows"),
        }))
    }

    /// A token with what `command` included before `kill` was a right of its own, and the warning about it.
    #[must_use]
    pub fn with_legacy_rights(&self, mut token: Token) -> (Token, Option<String>) {
        let is_legacy = self.command_includes_kill
            && token.may.contains(&Right::Command)
            && !token.may.iter().any(|right| right.includes(Right::Kill));
        if !is_legacy {
            return (token, None);
        }
        token.may.insert(Right::Kill);
        let name = &token.name;
        let warning = format!(
            "the token {name} has the right \"command\", which includes kill and destroy in this release only; expected \
             \"kill\" beside it where {name} is to kill and destroy, and [http] command_includes_kill = false once \
             every token has what it needs"
        );
        (token, Some(warning))
    }
}

/// A name by which callers reach the door, with a port or without.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    name: String,
    port: Option<u16>,
}

impl Host {
    /// What is taken, in words.
    pub const EXPECTED: &str =
        "a host name or address, with a port or without, such as \"door.example.com\"";

    /// Reads a host as `Host` has it.
    ///
    /// # Errors
    /// Where it is none.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let plain = |char: char| char.is_ascii_alphanumeric() || "-._:[]".contains(char);
        let host = Self::of(text).filter(|_| text.chars().all(plain));
        host.ok_or_else(|| FieldError {
            field: "hosts".to_owned(),
            problem: "this is no host".to_owned(),
            expected: Self::EXPECTED.to_owned(),
        })
    }

    /// What a request names; nothing where it would be read differently elsewhere.
    pub(crate) fn of(text: &str) -> Option<Self> {
        let authority: Authority = text.parse().ok()?;
        if authority.as_str() != text || text.contains('@') || authority.host().is_empty() {
            return None;
        }
        let port = match text.strip_prefix(authority.host())? {
            "" => None,
            rest => Some(rest.strip_prefix(':')?.parse().ok()?),
        };
        Some(Self { name: authority.host().to_ascii_lowercase(), port })
    }

    /// Whether a request that names this host may come to one that goes by that: a port that is not listed is any.
    pub(crate) fn is_listed_as(&self, listed: &Self) -> bool {
        self.name == listed.name && (listed.port.is_none() || listed.port == self.port)
    }

    /// `localhost`, `127.0.0.1`, `[::1]`.
    pub(crate) fn is_loopback(&self) -> bool {
        let name = self.name.trim_start_matches('[').trim_end_matches(']');
        name == "localhost"
            || name.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

/// Whether tokens are asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Auth {
    /// Whoever reaches the door may do everything (seed 002's function URL was so).
    None,
    /// Who has a token.
    Tokens,
}

/// A system whose clients are served on its own paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Seed {
    /// Seed 000: one EC2 instance and its unit.
    PositionKeeper,
    /// Seed 001: one ECS service.
    Fluidity,
    /// Seed 002: one EC2 backend, by a function URL.
    PyElli,
    /// Seed 004: an instance for each request.
    Walrus,
}

impl Seed {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::PositionKeeper, Self::Fluidity, Self::PyElli, Self::Walrus];

    /// The word in the fleet file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PositionKeeper => "position-keeper",
            Self::Fluidity => "fluidity",
            Self::PyElli => "pyelli",
            Self::Walrus => "walrus",
        }
    }
}

/// What somebody may.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "kebab-case")]
pub enum Right {
    /// See targets, commands and events.
    Read,
    /// Start, stop, ask for the status, check for idleness, keep alive, create.
    Command,
    /// Kill and destroy, which end everybody's holds.
    Kill,
    /// Everything, also pause, resume, checks of the whole fleet, and the dead letters.
    Admin,
    /// Wake in the waiting room, and see there how far it is.
    Wait,
    /// Make links to the waiting room, which outlast the token.
    Link,
}

impl Right {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Read, Self::Command, Self::Kill, Self::Admin, Self::Wait, Self::Link];

    /// The word in the fleet file.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Command => "command",
            Self::Kill => "kill",
            Self::Admin => "admin",
            Self::Wait => "wait",
            Self::Link => "link",
        }
    }

    /// Whether whoever has this has that too.
    pub(crate) fn includes(self, other: Self) -> bool {
        self == other || self == Self::Admin || (self == Self::Command && other == Self::Wait)
    }
}

/// SHA-256 of a token.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenHash([u8; 32]);

impl TokenHash {
    /// What is taken, in words.
    pub const EXPECTED: &str = "64 hex digits, as `lamplighter token NAME` prints them";

    /// Reads 64 hex digits.
    ///
    /// # Errors
    /// Where it is something else; the error does not repeat it, since it may be the token itself.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let wrong = || FieldError {
            field: "sha256".to_owned(),
            problem: format!("these {} characters are no SHA-256", text.chars().count()),
            expected: Self::EXPECTED.to_owned(),
        };
        hex_bytes(text).map(Self).ok_or_else(wrong)
    }

    /// The hash of a token.
    #[must_use]
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// Reads 64 hex digits.
pub(crate) fn hex_bytes(text: &str) -> Option<[u8; 32]> {
    let text = text.as_bytes();
    if text.len() != 64 {
        return None;
    }
    let mut bytes = [0_u8; 32];
    for (place, pair) in bytes.iter_mut().zip(text.chunks(2)) {
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|it| u8::try_from(it).ok());
        *place = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenHash(…)")
    }
}

/// Some targets: one, or all whose names begin so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Targets {
    /// This one.
    One(TargetName),
    /// Those whose names begin so; all, where it is empty.
    Prefix(String),
}

impl Targets {
    /// What is taken, in words.
    pub const EXPECTED: &str = "a target's name, or its beginning and '*'";

    /// Reads a name, or a beginning and an asterisk.
    ///
    /// # Errors
    /// Where it is neither.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let Some(prefix) = text.strip_suffix('*') else {
            return TargetName::parse(text)
                .map(Self::One)
                .map_err(|error| FieldError { expected: Self::EXPECTED.to_owned(), ..error });
        };
        // The beginning of a name is a name, or nothing.
        if prefix.is_empty() || TargetName::parse(prefix).is_ok() {
            return Ok(Self::Prefix(prefix.to_owned()));
        }
        Err(FieldError {
            field: "targets".to_owned(),
            problem: "no target's name begins so".to_owned(),
            expected: Self::EXPECTED.to_owned(),
        })
    }

    pub(crate) fn has(&self, target: &TargetName) -> bool {
        match self {
            Self::One(name) => name == target,
            Self::Prefix(prefix) => target.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl fmt::Display for Targets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::One(name) => name.fmt(f),
            Self::Prefix(prefix) => write!(f, "{prefix}*"),
        }
    }
}

/// In whose name somebody may ask.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SpeaksFor {
    /// Anyone's: the caller says whose, as a gateway that has looked at its users does.
    Anyone,
    /// This one's alone.
    Holder(Holder),
}

impl SpeaksFor {
    /// Reads a holder, or an asterisk.
    ///
    /// # Errors
    /// Where it is no holder.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        match text {
            "*" => Ok(Self::Anyone),
            text => Holder::parse(text).map(Self::Holder),
        }
    }
}

/// A token, by its hash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// What it is called: in logs, and as its holder where it names none.
    pub name: Holder,
    /// Its hash.
    pub hash: TokenHash,
    /// What it may.
    pub may: BTreeSet<Right>,
    /// With which targets.
    pub targets: Vec<Targets>,
    /// For whom.
    pub speaks_for: SpeaksFor,
}

/// Why a secret holds no tokens. It repeats nothing of the secret but names.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokensError {
    /// No JSON of this form.
    #[error(
        "the secret of tokens is not as expected at line {line}, column {column}: expected \
         {{\"NAME\": {{\"sha256\": \"…\", \"may\": [\"read\", …], \"targets\": [\"…\"], \"holder\": \"…\"}}}}"
    )]
    NotTokens {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A value that cannot be taken.
    #[error("the token {name:?} in the secret of tokens: {error}")]
    Field {
        /// Whose.
        name: String,
        /// What is wrong.
        #[source]
        error: FieldError,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TokenText {
    sha256: String,
    may: BTreeSet<Right>,
    #[serde(default = "everything")]
    targets: Vec<String>,
    #[serde(default)]
    holder: Option<String>,
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

/// Reads the tokens of a secret.
///
/// # Errors
/// Where it holds something else.
pub fn tokens_of_secret(text: &str) -> Result<Vec<Token>, TokensError> {
    let read: BTreeMap<String, TokenText> = serde_json::from_str(text)
        .map_err(|error| TokensError::NotTokens { line: error.line(), column: error.column() })?;
    let token = |(name, text): (&String, &TokenText)| -> Result<Token, FieldError> {
        let holder = Holder::parse(name).map_err(|error| error.at("its name"))?;
        let targets: Result<Vec<Targets>, FieldError> =
            text.targets.iter().map(|text| Targets::parse(text)).collect();
        let speaks_for = match &text.holder {
            Some(text) => SpeaksFor::parse(text)?,
            None => SpeaksFor::Holder(holder.clone()),
        };
        let hash = TokenHash::parse(&text.sha256)?;
        Ok(Token { name: holder, hash, may: text.may.clone(), targets: targets?, speaks_for })
    };
    let mut tokens: Vec<Token> = Vec::with_capacity(read.len());
    for (name, text) in &read {
        let refuse = |error| TokensError::Field { name: name.clone(), error };
        let token = token((name, text)).map_err(refuse)?;
        if let Some(other) = tokens.iter().find(|other| other.hash == token.hash) {
            return Err(refuse(same_hash(&other.name)));
        }
        tokens.push(token);
    }
    Ok(tokens)
}

/// Two names for one token would have two sets of rights.
#[must_use]
pub fn same_hash(other: &Holder) -> FieldError {
    FieldError {
        field: "sha256".to_owned(),
        problem: format!("it is that of {other} too"),
        expected: "a token of its own for each".to_owned(),
    }
}

/// Where a waiting room may lead: an origin, and what a path there must begin with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination(Url);

impl Destination {
    /// What is taken, in words.
    pub const EXPECTED: &str = "an http or https URL without user, query and fragment, such as \"https://app.example.com/\"";

    /// Reads a URL.
    ///
    /// # Errors
    /// Where it is none that leads somewhere definite.
    pub fn parse(text: &str) -> Result<Self, FieldError> {
        let wrong = |problem: &str| FieldError {
            field: "to".to_owned(),
            problem: problem.to_owned(),
            expected: Self::EXPECTED.to_owned(),
        };
        let url = plain_url(text).ok_or_else(|| wrong("this is no such URL"))?;
        if url.query().is_some() || url.fragment().is_some() {
            return Err(wrong("it has a query or a fragment"));
        }
        Ok(Self(url))
    }

    /// As it was parsed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// Its origin, as a content policy names it.
    pub(crate) fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }

    /// Whether a URL leads there, or below.
    pub(crate) fn has(&self, url: &Url) -> bool {
        let (base, path) = (self.0.path().trim_end_matches('/'), url.path());
        let below = path.strip_prefix(base);
        self.0.origin() == url.origin()
            && below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

/// A URL that a browser and we read alike.
pub(crate) fn plain_url(text: &str) -> Option<Url> {
    // Browsers drop some of these and take others for slashes; a URL of ours has none.
    let odd = |char: char| char.is_control() || char.is_whitespace() || char == '\\';
    if text.chars().any(odd) {
        return None;
    }
    let url = Url::parse(text).ok()?;
    let plain = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none();
    // `https:/host` and `https:host` are read as well; who writes so means to be misread.
    let begins = text
        .get(..url.scheme().len() + 3)
        .is_some_and(|start| start.eq_ignore_ascii_case(&format!("{}://", url.scheme())));
    (plain && begins).then_some(url)
}

/// Reads what stands before the seeds' paths.
///
/// # Errors
/// Where it is no plain path.
pub fn parse_prefix(text: &str) -> Result<String, FieldError> {
    let plain = |char: char| char.is_ascii_alphanumeric() || matches!(char, '/' | '-' | '_' | '.');
    let segments = text.strip_prefix('/').map(|rest| rest.split('/'));
    let good = segments.is_some_and(|mut all| {
        all.all(|segment| !matches!(segment, "" | "." | "..") && segment.chars().all(plain))
    });
    let first = text.split('/').nth(1).unwrap_or_default();
    if good && OWN_PATHS.contains(&first) {
        return Err(FieldError {
            field: "prefix".to_owned(),
            problem: format!("/{first} is the door's own"),
            expected: "another path".to_owned(),
        });
    }
    if good && text.len() <= PREFIX_CHARS_MAX {
        return Ok(text.to_owned());
    }
    Err(FieldError {
        field: "prefix".to_owned(),
        problem: "it is no plain path".to_owned(),
        expected: "a path such as \"/v2\", without a slash at its end".to_owned(),
    })
}

/// Reads an origin, as browsers send it.
///
/// # Errors
/// Where it is none.
pub fn parse_origin(text: &str) -> Result<String, FieldError> {
    match plain_url(text) {
        Some(url) if url.origin().ascii_serialization() == text => Ok(text.to_owned()),
        _ => Err(FieldError {
            field: "origins".to_owned(),
            problem: "this is no origin".to_owned(),
            expected: "scheme, host and port where it is no usual one, such as \"https://app.example.com\""
                .to_owned(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn leads(base: &str, to: &str, expected: bool) {
        let base = Destination::parse(base).unwrap();
        let found = plain_url(to).is_some_and(|url| base.has(&url));
        assert_eq!(found, expected, "{to}");
    }

    #[test]
    fn a_waiting_room_leads_only_where_the_fleet_says() {
        let base = "https://app.example.com/";
        leads(base, "https://app.example.com/", true);
        leads(base, "https://app.example.com", true);
        leads(base, "https://APP.example.com:443/a?b=c#d", true);
        leads(base, "http://app.example.com/", false);
        leads(base, "https://app.example.com:8443/", false);
        leads(base, "https://app.example.com.evil/", false);
        leads(base, "https://app.example.com@evil/", false);
        leads(base, "https://evil/https://app.example.com/", false);
        for odd in ["//evil", "javascript:alert(1)", "https:\\\\evil", "https:app.example.com/", ""]
        {
            leads(base, odd, false);
        }
        leads(base, "https://app.example.com/\n", false);
        leads("https://a.example/app", "https://a.example/app/x", true);
        leads("https://a.example/app", "https://a.example/application", false);
        leads("https://a.example/app", "https://a.example/app/../x", false);
    }

    #[test]
    fn a_destination_is_definite() {
        for wrong in ["app.example.com", "ftp://a/", "https://u@a/", "https://a/?x", "https://a/#x"]
        {
            assert!(Destination::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_hash_is_read_and_never_shown_by_accident() {
        let hash = TokenHash::of("token");
        assert_eq!(TokenHash::parse(&hash.to_string()), Ok(hash.clone()));
        assert!(!format!("{hash:?}").contains(&hash.to_string()[..8]));
        let error = TokenHash::parse("my-secret-token").unwrap_err();
        assert!(!error.to_string().contains("secret"), "{error}");
        assert!(TokenHash::parse(&"g".repeat(64)).is_err());
        assert!(TokenHash::parse(&"é".repeat(32)).is_err());
    }

    #[test]
    fn a_prefix_and_an_origin_are_plain() {
        for good in ["/v2", "/api/v1.0"] {
            assert!(parse_prefix(good).is_ok(), "{good}");
        }
        for wrong in
            ["/docs", "/v1/x", "/wait", "", "/", "v2", "/v2/", "//v2", "/../v2", "/v%32", "/a{b}"]
        {
            assert!(parse_prefix(wrong).is_err(), "{wrong}");
        }
        assert!(parse_origin("http://localhost:3000").is_ok());
        for wrong in ["*", "https://a/", "https://a:443", "a.example", "null"] {
            assert!(parse_origin(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn tokens_come_from_a_secret_and_nothing_of_it_is_repeated() {
        let hash = TokenHash::of("x").to_string();
        let text = format!(
            r#"{{"ci": {{"sha256": "{hash}", "may": ["read", "command"], "holder": "*"}}}}"#
        );
        let tokens = tokens_of_secret(&text).unwrap();
        assert_eq!(tokens[0].speaks_for, SpeaksFor::Anyone);
        assert_eq!(tokens[0].targets, [Targets::Prefix(String::new())]);
        for wrong in
            [r#"{"ci": {"sha256": "hunter2", "may": []}}"#, r#"{"ci": "hunter2"}"#, "hunter2"]
        {
            let error = tokens_of_secret(wrong).unwrap_err();
            let mut told = error.to_string();
            told.extend(std::error::Error::source(&error).map(ToString::to_string));
            assert!(!told.contains("hunter2"), "{told}");
        }
    }

    #[test]
    fn a_name_that_leads_here_is_not_the_machines_own() {
        let is_loopback = |text: &str| Host::of(text).is_some_and(|host| host.is_loopback());
        for own in ["localhost", "localhost:8080", "127.0.0.1:80", "[::1]:8080", "LOCALHOST"] {
            assert!(is_loopback(own), "{own}");
        }
        for other in
            ["127.0.0.1:evil", "127.0.0.1@evil.example", "evil@127.0.0.1", "127.0.0.1:99999"]
        {
            assert!(!is_loopback(other), "{other}");
        }
        for other in ["", "evil.example", "localhost.evil.example:80", "127.0.0.1.evil", "10.0.0.1"]
        {
            assert!(!is_loopback(other), "{other}");
        }
    }

    #[test]
    fn a_host_is_listed_with_any_port_or_with_its_own() {
        let listed = |host: &str, listed: &str| {
            Host::of(host).is_some_and(|host| host.is_listed_as(&Host::parse(listed).unwrap()))
        };
        assert!(listed("door.example.com", "door.example.com"));
        assert!(listed("DOOR.example.com:8080", "door.Example.com"));
        assert!(listed("door.example.com:8080", "door.example.com:8080"));
        assert!(listed("10.0.0.5:8080", "10.0.0.5") && listed("[fd00::5]:80", "[fd00::5]"));
        for host in ["door.example.com", "door.example.com:8081", "door.example.com.", "x:8080"] {
            assert!(!listed(host, "door.example.com:8080"), "{host}");
        }
        for host in ["door.example.com.evil.example", "evil.example", "a@door.example.com", ""] {
            assert!(!listed(host, "door.example.com"), "{host}");
        }
        for wrong in
            ["", "*", "https://a.example", "a.example/", "a:b", "a@b", "a:99999", "*.a.example"]
        {
            assert!(Host::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn targets_are_named_or_begun() {
        let name = |text: &str| TargetName::parse(text).unwrap();
        assert!(Targets::parse("walrus.*").unwrap().has(&name("walrus.12")));
        assert!(!Targets::parse("walrus.*").unwrap().has(&name("walrus")));
        assert!(!Targets::parse("a").unwrap().has(&name("ab")));
        assert!(Targets::parse("*").unwrap().has(&name("ab")));
        assert!(Targets::parse("A*").is_err() && Targets::parse("a*b").is_err());
    }
}
