//! Links that carry a right: a signed code in place of a token.
//!
//! *Theory.* A link ends up in chats, in browser histories and in a load balancer's log, so it must not hold a token. A
//! code grants one purpose at one target until one moment, and is of no use for anything else. The door keeps no list of
//! codes: everything that a code grants is signed (HMAC-SHA256), so any door with the key can check it.
//!
//! *Form.* `1.EXPIRES.HOLDER.MAC`: the version, the end in epoch seconds, the holder in base64url (empty where the purpose
//! names its own), and the MAC in base64url. Purpose and target follow from the link's path, and are signed as well. A
//! grant has exactly one such text; any other is refused.
//!
//! *Keys.* A key is 32 random bytes that only the doors and whoever makes links can read. It is never derived from anything
//! in the fleet file, which many can read. The current key signs; the current and the previous one verify, so that links
//! survive a rotation. Whoever must end all links before their time replaces both.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, Mac as _};
use jiff::{SignedDuration, Timestamp};
use lamplighter_events::{FieldError, Holder, HumanDuration, TargetName};
use serde::Deserialize;
use sha2::Sha256;
use url::Url;

use crate::settings::hex_bytes;

/// A link that lasts longer is better replaced by a token, which can be taken back alone.
pub const LIFETIME_SECONDS_MAX: i64 = 30 * 86_400;
/// Where nobody says how long a link lasts.
const LIFETIME_SECONDS_DEFAULT: i64 = 86_400;
/// Nobody gets to a link in less.
const LIFETIME_SECONDS_MIN: i64 = 60;
/// The clocks of whoever signs and of the door may differ by as much.
const SKEW_SECONDS: i64 = 60;
/// Signed with every code, so that the key's MACs of anything else mean nothing here.
const CONTEXT: &str = "lamplighter link";
const VERSION: &str = "1";
const KEY_BYTES: usize = 32;
/// More than the longest code: a holder of 128 characters has 512 bytes at most.
const CODE_CHARS_MAX: usize = 800;

/// What a link is for. Each has its own path, and its codes are good for no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// Wake one target, and see how far it is.
    Wait,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Wait => "wait",
        }
    }
}

/// What a code grants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What for.
    pub purpose: Purpose,
    /// At which target.
    pub target: TargetName,
    /// In whose name; `None` leaves it to the purpose.
    pub holder: Option<Holder>,
    /// Until when.
    pub expires: Timestamp,
}

impl Grant {
    /// A grant from now on: for a day, where no lifetime is named.
    ///
    /// # Errors
    /// Where it would last too long, or no time at all.
    pub fn new(
        purpose: Purpose,
        target: TargetName,
        holder: Option<Holder>,
        lifetime: Option<HumanDuration>,
        now: Timestamp,
    ) -> Result<Self, FieldError> {
        let seconds = lifetime.map(|lifetime| lifetime.as_signed().as_secs());
        let seconds = seconds.unwrap_or(LIFETIME_SECONDS_DEFAULT);
        let refused = |problem: &str| FieldError {
            field: "for".to_owned(),
            problem: problem.to_owned(),
            expected: format!(
                "from {LIFETIME_SECONDS_MIN} seconds to {} days",
                LIFETIME_SECONDS_MAX / 86_400
            ),
        };
        if !(LIFETIME_SECONDS_MIN..=LIFETIME_SECONDS_MAX).contains(&seconds) {
            return Err(refused("a link does not last so long, or so short"));
        }
        let expires = now.checked_add(SignedDuration::from_secs(seconds));
        let expires = expires.map_err(|_| refused("there is no such time"))?;
        // A code has whole seconds.
        let expires = Timestamp::from_second(expires.as_second());
        let expires = expires.map_err(|_| refused("there is no such time"))?;
        Ok(Self { purpose, target, holder, expires })
    }

    fn holder_text(&self) -> &str {
        self.holder.as_ref().map_or("", Holder::as_str)
    }
}

/// Why a code grants nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodeError {
    /// No key of ours signed it for this, or it was changed.
    #[error("this link's code is not valid here")]
    Invalid,
    /// It was good.
    #[error("this link expired at {0}")]
    Expired(Timestamp),
}

/// Why a text holds no keys. It repeats nothing of the text.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// No JSON of this form.
    #[error(
        "the link keys are not as expected at line {line}, column {column}: expected {{\"current\": \"…\"}}, \
         and \"previous\" during a rotation"
    )]
    NotKeys {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A key that is none.
    #[error(
        "the link key {0:?} is no key; expected 64 hex digits, as `openssl rand -hex 32` prints them"
    )]
    NotAKey(&'static str),
    /// Two names of one key.
    #[error(
        "the link keys \"current\" and \"previous\" are the same; expected two keys, or \"current\" alone"
    )]
    Same,
    /// A key that everybody who reads the fleet can read.
    #[error(
        "the link key {0:?} is the SHA-256 of a token, which stands in the fleet; expected a random key of its own, as \
         `openssl rand -hex 32` prints it"
    )]
    Known(&'static str),
}

#[derive(Clone, PartialEq, Eq)]
struct Key([u8; KEY_BYTES]);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(…)")
    }
}

impl Key {
    fn mac(&self, grant: &Grant) -> Option<Hmac<Sha256>> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).ok()?;
        let expires = grant.expires.as_second().to_string();
        let fields = [
            CONTEXT,
            VERSION,
            grant.purpose.as_str(),
            grant.target.as_str(),
            &expires,
            grant.holder_text(),
        ];
        for field in fields {
            // With its length before it no field runs into the next.
            mac.update(&(field.len() as u64).to_be_bytes());
            mac.update(field.as_bytes());
        }
        Some(mac)
    }
}

/// The keys of links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keys {
    current: Key,
    previous: Option<Key>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeysText {
    current: String,
    #[serde(default)]
    previous: Option<String>,
}

impl Keys {
    /// One key of these random bytes.
    #[must_use]
    pub fn of_bytes(bytes: [u8; KEY_BYTES]) -> Self {
        Self { current: Key(bytes), previous: None }
    }

    /// Reads `{"current": "…", "previous": "…"}`.
    ///
    /// # Errors
    /// Where the text is something else.
    pub fn parse(text: &str) -> Result<Self, KeysError> {
        let read: KeysText = serde_json::from_str(text)
            .map_err(|error| KeysError::NotKeys { line: error.line(), column: error.column() })?;
        let key = |name: &'static str, text: &str| {
            hex_bytes(text).map(Key).ok_or(KeysError::NotAKey(name))
        };
        let current = key("current", &read.current)?;
        let previous = read.previous.map(|text| key("previous", &text)).transpose()?;
        if previous.as_ref() == Some(&current) {
            return Err(KeysError::Same);
        }
        Ok(Self { current, previous })
    }

    /// As `parse` reads it.
    #[must_use]
    pub fn to_json(&self) -> String {
        let hex = |key: &Key| key.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        let mut json = serde_json::json!({ "current": hex(&self.current) });
        if let Some(previous) = &self.previous {
            json["previous"] = hex(previous).into();
        }
        json.to_string()
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &Key)> {
        [Some(("current", &self.current)), self.previous.as_ref().map(|key| ("previous", key))]
            .into_iter()
            .flatten()
    }

    /// Refuses keys that can be read where these hashes can.
    pub(crate) fn refuse_known<'h>(
        &self,
        mut hashes: impl Iterator<Item = &'h [u8]>,
    ) -> Result<(), KeysError> {
        let known = hashes
            .find_map(|hash| self.named().find(|(_, key)| key.0 == hash).map(|(name, _)| name));
        known.map_or(Ok(()), |name| Err(KeysError::Known(name)))
    }

    /// The code for a grant.
    #[must_use]
    pub fn sign(&self, grant: &Grant) -> String {
        // A key of 32 bytes fits the MAC, which takes any length.
        let mac = self.current.mac(grant).map(|mac| mac.finalize().into_bytes());
        written(grant, &mac.unwrap_or_default())
    }

    /// The path of a link to the waiting room, from the door's address on.
    #[must_use]
    pub fn wait_path(&self, grant: &Grant, to: &Url) -> String {
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        query.append_pair("to", to.as_str()).append_pair("code", &self.sign(grant));
        format!("/wait/{}?{}", grant.target, query.finish())
    }

    /// What a code grants at this path.
    ///
    /// # Errors
    /// Where it grants nothing, or no more.
    pub fn verify(
        &self,
        code: &str,
        purpose: Purpose,
        target: &TargetName,
        now: Timestamp,
    ) -> Result<Grant, CodeError> {
        let (grant, mac) = read(code, purpose, target).ok_or(CodeError::Invalid)?;
        // Each comparison takes the same time wherever the MACs differ.
        let signed = self.named().fold(false, |found, (_, key)| {
            let same = key.mac(&grant).is_some_and(|known| known.verify_slice(&mac).is_ok());
            found | same
        });
        if !signed || written(&grant, &mac) != code {
            return Err(CodeError::Invalid);
        }
        let left = grant.expires.as_second() - now.as_second();
        if left <= 0 {
            return Err(CodeError::Expired(grant.expires));
        }
        if left > LIFETIME_SECONDS_MAX + SKEW_SECONDS {
            return Err(CodeError::Invalid);
        }
        Ok(grant)
    }
}

fn written(grant: &Grant, mac: &[u8]) -> String {
    let expires = grant.expires.as_second();
    let holder = URL_SAFE_NO_PAD.encode(grant.holder_text());
    format!("{VERSION}.{expires}.{holder}.{}", URL_SAFE_NO_PAD.encode(mac))
}

fn read(code: &str, purpose: Purpose, target: &TargetName) -> Option<(Grant, Vec<u8>)> {
    if code.len() > CODE_CHARS_MAX {
        return None;
    }
    let parts: Vec<&str> = code.split('.').collect();
    let &[VERSION, expires, holder, mac] = parts.as_slice() else { return None };
    let expires = expires.parse().ok().and_then(|seconds| Timestamp::from_second(seconds).ok())?;
    let holder = match holder {
        "" => None,
        holder => {
            let text = String::from_utf8(URL_SAFE_NO_PAD.decode(holder).ok()?).ok()?;
            Some(Holder::parse(&text).ok()?)
        }
    };
    let mac = URL_SAFE_NO_PAD.decode(mac).ok()?;
    Some((Grant { purpose, target: target.clone(), holder, expires }, mac))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(NOW + seconds).unwrap()
    }

    fn keys(byte: u8) -> Keys {
        Keys::of_bytes([byte; 32])
    }

    fn target(name: &str) -> TargetName {
        TargetName::parse(name).unwrap()
    }

    fn grant(holder: Option<&str>) -> Grant {
        let holder = holder.map(|text| Holder::parse(text).unwrap());
        let lifetime = HumanDuration::parse("7d").ok();
        Grant::new(Purpose::Wait, target("pyelli"), holder, lifetime, at(0)).unwrap()
    }

    fn verify(keys: &Keys, code: &str, name: &str, seconds: i64) -> Result<Grant, CodeError> {
        keys.verify(code, Purpose::Wait, &target(name), at(seconds))
    }

    #[test]
    fn a_code_is_good_for_its_target_until_it_expires() {
        for holder in [None, Some("ann"), Some("ü. b@c/d")] {
            let grant = grant(holder);
            let code = keys(1).sign(&grant);
            let week = 7 * 86_400;
            assert_eq!(verify(&keys(1), &code, "pyelli", 0), Ok(grant.clone()), "{code}");
            assert_eq!(verify(&keys(1), &code, "pyelli", week - 1), Ok(grant.clone()));
            let over = Err(CodeError::Expired(at(week)));
            assert_eq!(verify(&keys(1), &code, "pyelli", week), over);
            assert_eq!(verify(&keys(1), &code, "pyelli", 365 * 86_400), over);
            // Of another's code it is not even said that it is over.
            for (keys, name) in [(keys(2), "pyelli"), (keys(1), "pyell"), (keys(1), "pyelli2")] {
                for seconds in [0, week] {
                    let refused = verify(&keys, &code, name, seconds);
                    assert_eq!(refused, Err(CodeError::Invalid), "{name}");
                }
            }
        }
    }

    #[test]
    fn the_code_of_a_grant_does_not_change_with_a_release() {
        let code = keys(7).sign(&grant(Some("ann")));
        let expected = "1.1800604800.YW5u.";
        assert!(code.starts_with(expected), "{code}");
        // Computed by Python's hmac over the length-prefixed fields.
        assert_eq!(&code[expected.len()..], "sP_yzuuzkbecRrq6-MGYhmpqrCIveCkyAQzBF5E6LKw");
    }

    #[test]
    fn no_other_text_is_the_same_code() {
        let code = keys(1).sign(&grant(Some("ann")));
        for at in 0..code.len() {
            for other in b"0Aa1-_.=+ %\n" {
                let mut changed = code.clone().into_bytes();
                if changed[at] == *other {
                    continue;
                }
                changed[at] = *other;
                let changed = String::from_utf8(changed).unwrap();
                assert_eq!(verify(&keys(1), &changed, "pyelli", 0), Err(CodeError::Invalid));
            }
        }
        let (head, mac) = code.rsplit_once('.').unwrap();
        let expires = "1800604800";
        for changed in [
            String::new(),
            format!("{code}."),
            format!(".{code}"),
            format!("{code}="),
            format!(" {code}"),
            format!("{head}."),
            format!("{head}.{}", &mac[..mac.len() - 2]),
            format!("1.1800604800..{mac}"),
            code.replace(expires, &format!("0{expires}")),
            code.replace(expires, &format!("+{expires}")),
            code.replace("YW5u", "YW5v"),
            code.replace("YW5u", "YW5u="),
            code.replacen('1', "2", 1),
            "x".repeat(100_000),
        ] {
            let refused = verify(&keys(1), &changed, "pyelli", 0);
            assert_eq!(refused, Err(CodeError::Invalid), "{changed:.80}");
        }
    }

    #[test]
    fn a_code_lasts_no_longer_than_any_may() {
        let lifetime = |text: &str| {
            let lifetime = HumanDuration::parse(text).ok();
            Grant::new(Purpose::Wait, target("a"), None, lifetime, at(0))
        };
        assert!(lifetime("1m").is_ok() && lifetime("30d").is_ok());
        for wrong in ["59s", "31d", "500ms"] {
            let error = lifetime(wrong).unwrap_err().to_string();
            assert!(error.contains("30 days"), "{error}");
        }
        // Nor does one that was signed elsewhere.
        let mut long = grant(None);
        long.expires = at(31 * 86_400);
        let code = keys(1).sign(&long);
        assert_eq!(verify(&keys(1), &code, "pyelli", 0), Err(CodeError::Invalid));
    }

    #[test]
    fn a_rotation_keeps_the_links_of_the_previous_key_and_no_others() {
        let text = |current: u8, previous: Option<u8>| {
            let hex = |byte: u8| format!("{byte:02x}").repeat(32);
            let previous = previous.map(|byte| format!(r#", "previous": "{}""#, hex(byte)));
            format!(r#"{{"current": "{}"{}}}"#, hex(current), previous.unwrap_or_default())
        };
        let [first, both, later] =
            [text(1, None), text(2, Some(1)), text(3, Some(2))].map(|it| Keys::parse(&it).unwrap());
        let code = first.sign(&grant(None));
        assert!(verify(&both, &code, "pyelli", 0).is_ok());
        assert_eq!(both.sign(&grant(None)), keys(2).sign(&grant(None)), "the current one signs");
        assert_eq!(verify(&later, &code, "pyelli", 0), Err(CodeError::Invalid));
        assert_eq!(Keys::parse(&both.to_json()), Ok(both));
    }

    #[test]
    fn keys_are_read_strictly_and_repeated_nowhere() {
        let hex = "0123456789abcdef".repeat(4);
        for wrong in [
            String::new(),
            hex.clone(),
            "{}".to_owned(),
            format!(r#"{{"current": "{}"}}"#, &hex[1..]),
            format!(r#"{{"current": "{hex}", "previous": "hunter2"}}"#),
            format!(r#"{{"current": "{hex}", "next": "{hex}"}}"#),
            format!(r#"{{"current": "{hex}", "previous": "{hex}"}}"#),
        ] {
            let error = Keys::parse(&wrong).unwrap_err().to_string();
            assert!(!error.contains("0123") && !error.contains("hunter2"), "{error}");
        }
        let keys = Keys::parse(&format!(r#"{{"current": "{hex}"}}"#)).unwrap();
        assert!(!format!("{keys:?}").contains("35"), "{keys:?}");
        let hash = crate::settings::TokenHash::parse(&hex).unwrap();
        let refused = keys.refuse_known([hash.bytes()].into_iter()).unwrap_err();
        assert_eq!(refused, KeysError::Known("current"));
        assert!(keys.refuse_known(std::iter::empty()).is_ok());
    }
}
