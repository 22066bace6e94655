//! Who asks, and what they may.
//!
//! *Invariants.* A presented token is hashed first and its hash compared with every known one, each in constant time:
//! neither its beginning nor its place in the list can be told from how long it took. What a caller may not see does
//! not exist for it, so that names cannot be tried out.

use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::FromRequestParts;
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use lamplighter_events::{Action, Holder, TargetName};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::Door;
use crate::problem::Problem;
use crate::settings::{Auth, Http, Right, SpeaksFor, Targets, Token, TokenHash};

/// The header in which the seeds' gateways name the caller.
pub(crate) const CALLER: HeaderName = HeaderName::from_static("x-current-user-id");
/// Longer than any token of ours, short enough to hash for everybody who asks.
const TOKEN_CHARS_MAX: usize = 512;

/// The tokens that are known now.
#[derive(Debug)]
pub(crate) struct Access {
    auth: Auth,
    /// The file's.
    own: Vec<Token>,
    /// The file's and the secret's.
    all: RwLock<Arc<Vec<Token>>>,
}

impl Access {
    pub(crate) fn new(http: &Http) -> Self {
        let own = http.tokens.clone();
        Self { auth: http.auth, all: RwLock::new(Arc::new(own.clone())), own }
    }

    /// Takes the secret's tokens in place of those that it had before.
    pub(crate) fn learn(&self, of_secret: Vec<Token>) {
        let all = self.own.iter().cloned().chain(of_secret).collect();
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    pub(crate) fn auth(&self) -> Auth {
        self.auth
    }

    /// Who presents these headers.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.auth == Auth::None {
            return Ok(Caller(None));
        }
        let mut given = headers.get_all(AUTHORIZATION).iter();
        let expected = "expected the header Authorization: Bearer TOKEN, once";
        let (first, more) = (given.next(), given.next());
        let Some(first) = first else {
            return Err(Problem::unauthorized(format!("there is no token; {expected}")));
        };
        if more.is_some() {
            return Err(Problem::unauthorized(format!("there are several tokens; {expected}")));
        }
        let text = first.to_str().unwrap_or_default();
        let token = match text.split_once(' ') {
            Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => token.trim(),
            _ => return Err(Problem::unauthorized(format!("this is no bearer token; {expected}"))),
        };
        self.of_token(token)
    }

    /// Whose token it is.
    pub(crate) fn of_token(&self, token: &str) -> Result<Caller, Problem> {
        let unknown = || Problem::unauthorized("this token is not known");
        if token.is_empty() || token.len() > TOKEN_CHARS_MAX {
            return Err(unknown());
        }
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        let presented = TokenHash::of(token);
        let (mut found, mut at) = (Choice::from(0), 0_u64);
        for (index, known) in (0_u64..).zip(all.iter()) {
            let same = known.hash.bytes().ct_eq(presented.bytes());
            at.conditional_assign(&index, same);
            found |= same;
        }
        if !bool::from(found) {
            return Err(unknown());
        }
        let known = usize::try_from(at).ok().and_then(|at| all.get(at)).ok_or_else(unknown)?;
        Ok(Caller(Some(known.clone())))
    }
}

/// Who asks: a token, or anyone where none is asked for.
#[derive(Debug, Clone)]
pub(crate) struct Caller(Option<Token>);

impl Caller {
    /// Its token's name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.0.as_ref().map(|token| token.name.as_str())
    }

    pub(crate) fn has(&self, right: Right) -> bool {
        self.0.as_ref().is_none_or(|token| token.may.iter().any(|has| has.includes(right)))
    }

    /// What it may, in words.
    pub(crate) fn rights(&self) -> Vec<Right> {
        Right::ALL.into_iter().filter(|right| self.has(*right)).collect()
    }

    pub(crate) fn need(&self, right: Right) -> Result<(), Problem> {
        if self.has(right) {
            return Ok(());
        }
        Err(Problem::forbidden(format!(
            "this token may not: it needs the right {:?}",
            right.as_str()
        )))
    }

    /// Whoever may command a target may see how it is, on the seeds' own paths: their clients do both.
    pub(crate) fn need_sight(&self) -> Result<(), Problem> {
        if self.has(Right::Command) { Ok(()) } else { self.need(Right::Read) }
    }

    /// Whether a target exists for it.
    pub(crate) fn sees(&self, target: &TargetName) -> bool {
        self.0.as_ref().is_none_or(|token| token.targets.iter().any(|some| some.has(target)))
    }

    /// Whether it may have machines of a template: where the template is named, or all that come of it.
    pub(crate) fn makes(&self, template: &TargetName) -> bool {
        let all = |some: &Targets| match some {
            Targets::One(name) => name == template,
            Targets::Prefix(prefix) => format!("{template}.").starts_with(prefix.as_str()),
        };
        self.0.as_ref().is_none_or(|token| token.targets.iter().any(all))
    }

    /// Whether every target does.
    pub(crate) fn sees_all(&self) -> bool {
        let all = |some: &Targets| *some == Targets::Prefix(String::new());
        self.0.as_ref().is_none_or(|token| token.targets.iter().any(all))
    }

    /// Its targets, in words.
    pub(crate) fn targets(&self) -> Vec<String> {
        match &self.0 {
            None => vec!["*".to_owned()],
            Some(token) => token.targets.iter().map(ToString::to_string).collect(),
        }
    }

    /// Whom it speaks for, in words.
    pub(crate) fn speaks_for(&self) -> &str {
        match &self.0 {
            Some(Token { speaks_for: SpeaksFor::Holder(holder), .. }) => holder.as_str(),
            _ => "*",
        }
    }

    /// In whose name it asks, where a payload or a header says one.
    pub(crate) fn holder(&self, asked: Option<Holder>) -> Result<Option<Holder>, Problem> {
        let Some(Token { speaks_for: SpeaksFor::Holder(own), .. }) = &self.0 else {
            return Ok(asked);
        };
        match asked {
            Some(asked) if asked != *own => Err(Problem::forbidden(format!(
                "this token speaks for {own} alone; leave the holder out, or name that one"
            ))),
            _ => Ok(Some(own.clone())),
        }
    }

    /// Which right an action takes.
    pub(crate) fn right_for(action: Action, everything: bool) -> Right {
        match action {
            Action::Pause | Action::Resume => Right::Admin,
            Action::CheckIdle if everything => Right::Admin,
            Action::Start
            | Action::Stop
            | Action::Kill
            | Action::Status
            | Action::CheckIdle
            | Action::KeepAlive
            | Action::Create
            | Action::Destroy => Right::Command,
        }
    }
}

impl FromRequestParts<Arc<Door>> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, door: &Arc<Door>) -> Result<Self, Problem> {
        let caller = door.access.caller(&parts.headers)?;
        if let Some(name) = caller.name() {
            door.limits.token(name)?;
        }
        Ok(caller)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::http::HeaderValue;

    use super::*;

    fn access(may: &[Right], targets: &[&str], holder: &str) -> Access {
        let mut http = Http::new(Auth::Tokens);
        for (name, token) in [("other", "first"), ("mine", "right")] {
            http.tokens.push(Token {
                name: Holder::parse(name).unwrap(),
                hash: TokenHash::of(token),
                may: may.iter().copied().collect::<BTreeSet<_>>(),
                targets: targets.iter().map(|text| Targets::parse(text).unwrap()).collect(),
                speaks_for: SpeaksFor::parse(holder).unwrap(),
            });
        }
        Access::new(&http)
    }

    fn presented(values: &[&str]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn only_a_known_token_is_taken_and_only_once() {
        let access = access(&[Right::Read], &["*"], "*");
        for good in ["Bearer right", "bearer right", "BEARER  right "] {
            let caller = access.caller(&presented(&[good])).unwrap();
            assert_eq!(caller.name(), Some("mine"), "{good}");
        }
        let long = format!("Bearer {}", "x".repeat(10_000));
        for wrong in
            ["", "right", "Basic right", "Bearer", "Bearer ", "Bearer wrong", "Bearer righ", &long]
        {
            let refused = access.caller(&presented(&[wrong])).unwrap_err();
            assert_eq!(refused.status(), 401, "{wrong:.20}");
            assert!(!refused.detail.contains("wrong"), "a token is not repeated");
        }
        assert!(access.caller(&presented(&["Bearer right", "Bearer right"])).is_err());
        assert!(access.caller(&presented(&[])).is_err());
    }

    #[test]
    fn a_secrets_tokens_replace_its_earlier_ones_and_not_the_files() {
        let access = access(&[Right::Read], &["*"], "*");
        let mut token = access.of_token("right").unwrap().0.unwrap();
        token.hash = TokenHash::of("rotated");
        access.learn(vec![token.clone()]);
        assert!(access.of_token("rotated").is_ok() && access.of_token("right").is_ok());
        token.hash = TokenHash::of("again");
        access.learn(vec![token]);
        assert!(access.of_token("rotated").is_err() && access.of_token("again").is_ok());
    }

    #[test]
    fn a_token_has_its_rights_and_those_that_they_include() {
        let rights = |may: &[Right]| access(may, &["*"], "*").of_token("right").unwrap().rights();
        assert_eq!(rights(&[Right::Read]), [Right::Read]);
        assert_eq!(rights(&[Right::Command]), [Right::Command, Right::Wait]);
        assert_eq!(rights(&[Right::Admin]), Right::ALL);
        assert_eq!(rights(&[Right::Wait]), [Right::Wait]);
        assert_eq!(rights(&[]), []);
    }

    #[test]
    fn a_token_speaks_for_its_holder_alone() {
        let caller = access(&[Right::Command], &["*"], "ann").of_token("right").unwrap();
        let holder = |text: &str| Some(Holder::parse(text).unwrap());
        assert_eq!(caller.holder(None).unwrap(), holder("ann"));
        assert_eq!(caller.holder(holder("ann")).unwrap(), holder("ann"));
        assert_eq!(caller.holder(holder("bob")).unwrap_err().status(), 403);
        let gateway = access(&[Right::Command], &["*"], "*").of_token("right").unwrap();
        assert_eq!(gateway.holder(holder("bob")).unwrap(), holder("bob"));
        assert_eq!(gateway.holder(None).unwrap(), None);
    }

    #[test]
    fn a_token_sees_its_targets() {
        let caller = access(&[Right::Read], &["a", "walrus.*"], "*").of_token("right").unwrap();
        let sees = |name: &str| caller.sees(&TargetName::parse(name).unwrap());
        assert!(sees("a") && sees("walrus.1") && !sees("b") && !sees("walrus"));
        assert!(!caller.sees_all());
        let makes = |targets: &[&str]| {
            let caller = access(&[Right::Command], targets, "*").of_token("right").unwrap();
            caller.makes(&TargetName::parse("walrus").unwrap())
        };
        assert!(makes(&["walrus"]) && makes(&["walrus.*"]) && makes(&["*"]) && makes(&["wal*"]));
        // One machine of it, or those of another, is not all of it.
        assert!(!makes(&["walrus.0*"]) && !makes(&["walruses"]) && !makes(&["other.*"]));
    }
}
