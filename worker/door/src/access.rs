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
use lamplighter_lifecycle::{CommandRecord, Need, capability};
use subtle::{Choice, ConditionallySelectable as _, ConstantTimeEq as _};

use crate::Door;
use crate::links::{Grant, Keys, KeysError, Purpose};
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

    /// Takes the secret's tokens in place of those that it had before. Of two of one hash the file's counts.
    pub(crate) fn learn(&self, of_secret: Vec<Token>) {
        let mut all = self.own.clone();
        for token in of_secret {
            match all.iter().find(|known| known.hash == token.hash) {
                None => all.push(token),
                Some(known) => tracing::warn!(
                    passed_over = %token.name, counts = %known.name,
                    "a token of the secret is in the fleet file too"
                ),
            }
        }
        *self.all.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(all);
    }

    pub(crate) fn auth(&self) -> Auth {
        self.auth
    }

    /// Who presents these headers.
    pub(crate) fn caller(&self, headers: &HeaderMap) -> Result<Caller, Problem> {
        if self.auth == Auth::None {
            return Ok(Caller::Anyone);
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

    /// Whether a caller is who it was: its token is there, and may what it could.
    pub(crate) fn knows(&self, caller: &Caller) -> bool {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner);
        match caller {
            Caller::Anyone => self.auth == Auth::None,
            Caller::Token(token) => all.contains(token),
            Caller::Link(_) => false,
        }
    }

    /// Refuses link keys that everybody can read who reads the tokens' hashes.
    pub(crate) fn refuse_known(&self, keys: &Keys) -> Result<(), KeysError> {
        let all = self.all.read().unwrap_or_else(PoisonError::into_inner).clone();
        keys.refuse_known(all.iter().map(|token| token.hash.bytes()))
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
        Ok(Caller::Token(known.clone()))
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Anyone, where no tokens are asked for.
    Anyone,
    /// Whoever has this token.
    Token(Token),
    /// Whoever has a link with this grant.
    Link(Grant),
}

impl Caller {
    fn token(&self) -> Option<&Token> {
        match self {
            Self::Token(token) => Some(token),
            Self::Anyone | Self::Link(_) => None,
        }
    }

    /// Its token's name.
    pub(crate) fn name(&self) -> Option<&str> {
        self.token().map(|token| token.name.as_str())
    }

    pub(crate) fn has(&self, right: Right) -> bool {
        match self {
            Self::Anyone => true,
            Self::Token(token) => token.may.iter().any(|has| has.includes(right)),
            Self::Link(grant) => match grant.purpose {
                Purpose::Wait => right == Right::Wait,
            },
        }
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
        let commands = self.has(Right::Command) || self.has(Right::Kill);
        if commands { Ok(()) } else { self.need(Right::Read) }
    }

    /// Whether a target exists for it.
    pub(crate) fn sees(&self, target: &TargetName) -> bool {
        match self {
            Self::Anyone => true,
            Self::Token(token) => token.targets.iter().any(|some| some.has(target)),
            Self::Link(grant) => grant.target == *target,
        }
    }

    /// Whether a command exists for it: of a target that does, or of all of them.
    pub(crate) fn sees_command(&self, record: &CommandRecord) -> bool {
        match &record.target {
            Some(target) => self.sees(target),
            None => self.sees_all(),
        }
    }

    /// Whether it may have machines of a template: where the template is named, or all that come of it.
    pub(crate) fn makes(&self, template: &TargetName) -> bool {
        let all = |some: &Targets| match some {
            Targets::One(name) => name == template,
            Targets::Prefix(prefix) => format!("{template}.").starts_with(prefix.as_str()),
        };
        match self {
            Self::Anyone => true,
            Self::Token(token) => token.targets.iter().any(all),
            Self::Link(_) => false,
        }
    }

    /// Whether every target does.
    pub(crate) fn sees_all(&self) -> bool {
        let all = |some: &Targets| *some == Targets::Prefix(String::new());
        match self {
            Self::Anyone => true,
            Self::Token(token) => token.targets.iter().any(all),
            Self::Link(_) => false,
        }
    }

    /// Its targets, in words.
    pub(crate) fn targets(&self) -> Vec<String> {
        match self {
            Self::Anyone => vec!["*".to_owned()],
            Self::Token(token) => token.targets.iter().map(ToString::to_string).collect(),
            Self::Link(grant) => vec![grant.target.to_string()],
        }
    }

    /// The one holder that it speaks for; `None`: any.
    fn bound_to(&self) -> Option<&Holder> {
        match self {
            Self::Token(Token { speaks_for: SpeaksFor::Holder(holder), .. }) => Some(holder),
            Self::Link(grant) => grant.holder.as_ref(),
            Self::Anyone | Self::Token(Token { speaks_for: SpeaksFor::Anyone, .. }) => None,
        }
    }

    /// Whom it speaks for, in words.
    pub(crate) fn speaks_for(&self) -> &str {
        self.bound_to().map_or("*", Holder::as_str)
    }

    /// In whose name it asks, where a payload or a header says one.
    pub(crate) fn holder(&self, asked: Option<Holder>) -> Result<Option<Holder>, Problem> {
        let Some(own) = self.bound_to() else { return Ok(asked) };
        match asked {
            Some(asked) if asked != *own => Err(Problem::forbidden(format!(
                "this token speaks for {own} alone; leave the holder out, or name that one"
            ))),
            _ => Ok(Some(own.clone())),
        }
    }

    /// Which right an action takes.
    pub(crate) fn right_for(action: Action, everything: bool) -> Right {
        match capability(action).need {
            Need::Admin => Right::Admin,
            Need::Kill => Right::Kill,
            // To ask all targets at once is the fleet's own business.
            Need::Command if action == Action::CheckIdle && everything => Right::Admin,
            Need::Command => Right::Command,
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
        let Caller::Token(mut token) = access.of_token("right").unwrap() else {
            panic!("no token")
        };
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
        assert_eq!(rights(&[Right::Kill]), [Right::Kill]);
        assert_eq!(rights(&[Right::Link]), [Right::Link]);
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

    #[test]
    fn what_ends_everybodys_holds_is_a_right_of_its_own() {
        for action in Action::ALL {
            let right = Caller::right_for(action, false);
            let ends_all = matches!(action, Action::Kill | Action::Destroy);
            assert_eq!(right == Right::Kill, ends_all, "{action}");
        }
    }

    #[test]
    fn a_link_may_do_what_it_is_for_and_nothing_else() {
        let name = |text: &str| TargetName::parse(text).unwrap();
        let grant = |holder: Option<&str>| Grant {
            purpose: Purpose::Wait,
            target: name("a"),
            holder: holder.map(|text| Holder::parse(text).unwrap()),
            expires: jiff::Timestamp::MAX,
        };
        let caller = Caller::Link(grant(None));
        assert_eq!(caller.rights(), [Right::Wait]);
        assert!(caller.sees(&name("a")) && !caller.sees(&name("ab")) && !caller.sees_all());
        assert!(!caller.makes(&name("a")) && caller.need_sight().is_err());
        let ann = Holder::parse("ann").unwrap();
        let bound = Caller::Link(grant(Some("ann")));
        assert_eq!(bound.holder(None).unwrap(), Some(ann));
        assert!(bound.holder(Holder::parse("bob").ok()).is_err());
    }
}
