//! Addresses of backends, for health and for idle probes, with what is filled in when they are asked.
//!
//! `{private_ip}` and `{public_ip}` are the machine's. `${secret:NAME}` is the text of a secret, and
//! `${secret:NAME#KEY}` one value of a secret that is a JSON object. What is stored, shown and remembered is the
//! address as written, with the names of its secrets; a filled address exists while it is asked and nowhere else.
//!
//! *Invariant.* A secret's value never says whom to ask: it stands in the user, the path or the query, and is
//! encoded there, so that no value ends its part of the address.

use serde::{Deserialize, Serialize};

const CHARS_MAX: usize = 2048;
/// Each is read from Secrets Manager before the address is asked.
const SECRETS_MAX: usize = 4;
/// As long as Secrets Manager lets a name be, and an ARN beside it.
const SECRET_CHARS_MAX: usize = 640;
const OPEN: &str = "${secret:";
/// Stands for a secret where only the shape of an address counts: no character of an address.
const HIDDEN: char = '\u{1}';
/// What a percent-encoded value keeps (RFC 3986, unreserved).
const UNRESERVED: &[u8] = b"-._~";

/// Why an address was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not http(s), too long, or with a placeholder that is not known.
    #[error("it is not valid")]
    Malformed,
    /// A reference to a secret that names none.
    #[error(
        "`${{secret:{0}}}` names no secret: expected a secret's name or ARN, and behind `#` a key of it where it is a \
         JSON object"
    )]
    Secret(String),
    /// A secret's value would say whom to ask.
    #[error("a secret stands in its host: expected it in the user, the path or the query")]
    SecretHost,
    /// Too many secrets.
    #[error("it names more than {SECRETS_MAX} secrets")]
    Secrets,
}

/// A secret that an address names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SecretRef {
    /// Name or ARN.
    pub secret: String,
    /// The key in its JSON object; `None`: its whole text.
    pub key: Option<String>,
}

impl SecretRef {
    fn parse(text: &str) -> Option<Self> {
        let is_name = |name: &str, more: &[u8]| {
            !name.is_empty()
                && name.len() <= SECRET_CHARS_MAX
                && name.bytes().all(|b| b.is_ascii_alphanumeric() || more.contains(&b))
        };
        let (secret, key) = match text.split_once('#') {
            Some((secret, key)) => (secret, Some(key)),
            None => (text, None),
        };
        let fits = is_name(secret, b"/_+=.@-:") && key.is_none_or(|key| is_name(key, b"_.-"));
        fits.then(|| Self { secret: secret.to_owned(), key: key.map(str::to_owned) })
    }
}

/// The address that says whether what runs on a machine is healthy, or idle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HealthUrl(String);

impl HealthUrl {
    /// Accepts an http(s) address whose placeholders are known.
    pub fn parse(url: &str) -> Result<Self, AddressError> {
        let mut secrets = 0;
        let hidden = with_secrets(url, |text| {
            secrets += 1;
            match SecretRef::parse(text) {
                Some(_) => Ok(HIDDEN.to_string()),
                None => Err(AddressError::Secret(text.chars().take(80).collect())),
            }
        })?;
        let plain = hidden.replace("{private_ip}", "").replace("{public_ip}", "");
        let rest = url.strip_prefix("http://").or_else(|| url.strip_prefix("https://"));
        let fits = rest.is_some()
            && url.len() <= CHARS_MAX
            && !plain.contains(['{', '}'])
            && !url.contains(|c: char| c.is_whitespace() || c.is_control());
        if !fits {
            return Err(AddressError::Malformed);
        }
        if secrets > SECRETS_MAX {
            return Err(AddressError::Secrets);
        }
        let authority = hidden.split("://").nth(1).unwrap_or_default();
        let authority = authority.split(['/', '?', '#', '\\']).next().unwrap_or_default();
        let host = authority.rsplit('@').next().unwrap_or_default();
        if host.contains(HIDDEN) {
            return Err(AddressError::SecretHost);
        }
        Ok(Self(url.to_owned()))
    }

    /// The address for a machine, its secrets still by name; `None` while it lacks the address that this names.
    pub fn fill(&self, private_ip: Option<&str>, public_ip: Option<&str>) -> Option<String> {
        let mut url = self.0.clone();
        for (mark, value) in [("{private_ip}", private_ip), ("{public_ip}", public_ip)] {
            if url.contains(mark) {
                url = url.replace(mark, value?);
            }
        }
        Some(url)
    }

    /// Whether it has an address of the machine to be filled in.
    pub fn names_machine(&self) -> bool {
        self.0.contains("{private_ip}") || self.0.contains("{public_ip}")
    }

    /// The secrets that it names.
    pub fn secrets(&self) -> Vec<SecretRef> {
        let mut found = Vec::new();
        let _ = with_secrets(&self.0, |text| {
            found.extend(SecretRef::parse(text));
            Ok(String::new())
        });
        found.sort();
        found.dedup();
        found
    }

    /// The address as written.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for HealthUrl {
    type Error = AddressError;
    fn try_from(url: String) -> Result<Self, AddressError> {
        Self::parse(&url)
    }
}

impl From<HealthUrl> for String {
    fn from(url: HealthUrl) -> Self {
        url.0
    }
}

/// A filled address with the values of its secrets, each encoded. A secret without a value stays as written.
pub fn with_secret_values(filled: &str, value: impl Fn(&SecretRef) -> Option<String>) -> String {
    let whole = |text: &str| format!("{OPEN}{text}}}");
    with_secrets(filled, |text| {
        let value = SecretRef::parse(text).and_then(|secret| value(&secret));
        Ok(value.map_or_else(|| whole(text), |value| encoded(&value)))
    })
    .unwrap_or_else(|_| filled.to_owned())
}

/// The address with each reference to a secret replaced.
fn with_secrets(
    url: &str,
    mut replace: impl FnMut(&str) -> Result<String, AddressError>,
) -> Result<String, AddressError> {
    let mut replaced = String::with_capacity(url.len());
    let mut rest = url;
    while let Some((before, after)) = rest.split_once(OPEN) {
        let (name, after) = after.split_once('}').ok_or(AddressError::Malformed)?;
        replaced.push_str(before);
        replaced.push_str(&replace(name)?);
        rest = after;
    }
    replaced.push_str(rest);
    Ok(replaced)
}

fn encoded(value: &str) -> String {
    let mut text = String::with_capacity(value.len());
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || UNRESERVED.contains(&byte) {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(url: &str, expected: Result<(), &str>) {
        let found = HealthUrl::parse(url).map(drop).map_err(|error| error.to_string());
        match (&found, expected) {
            (Ok(()), Ok(())) => {}
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{url}: {found}"),
            _ => panic!("{url}: {found:?}"),
        }
    }

    #[test]
    fn an_address_is_filled_only_when_its_address_is_known() {
        let url = HealthUrl::parse("http://{private_ip}:8000/health").unwrap();
        assert_eq!(
            url.fill(Some("10.0.0.1"), None).as_deref(),
            Some("http://10.0.0.1:8000/health")
        );
        assert_eq!(url.fill(None, Some("1.2.3.4")), None);
        for bad in ["ftp://x", "http://{host}/", "http://a b/", "${secret:a}"] {
            check(bad, Err("not valid"));
        }
    }

    #[test]
    fn a_secret_stands_where_it_cannot_say_whom_to_ask() {
        check("http://10.0.0.1/idle?token=${secret:ours/probe}", Ok(()));
        check("https://me:${secret:ours/probe#password}@{private_ip}:8000/", Ok(()));
        check(
            "https://a/${secret:arn:aws:secretsmanager:eu-central-1:1:secret:x-AbCdEf}/b",
            Ok(()),
        );
        for bad in ["http://${secret:a}/", "http://me@${secret:a}:80/", "http://h${secret:a/b}"] {
            check(bad, Err("in its host"));
        }
        for bad in ["http://a/${secret:}", "http://a/${secret:a b}", "http://a/${secret:a#}"] {
            check(bad, Err("names no secret"));
        }
        check("http://a/${secret:a", Err("not valid"));
        check("http://a/${env:a}", Err("not valid"));
        check(&format!("http://a/{}", "${secret:a}".repeat(5)), Err("more than 4"));
    }

    #[test]
    fn a_secrets_value_does_not_end_its_part_of_the_address() {
        let url = HealthUrl::parse("http://a/?x=${secret:one}&y=${secret:two#k}&z=${secret:no}");
        let url = url.unwrap();
        let names: Vec<String> = url.secrets().into_iter().map(|it| it.secret).collect();
        assert_eq!(names, ["no", "one", "two"]);
        let filled = url.fill(None, None).unwrap();
        assert_eq!(filled, url.as_str());
        let value = |secret: &SecretRef| match (secret.secret.as_str(), secret.key.as_deref()) {
            ("one", None) => Some("a&b=c/d ${secret:two#k}\u{e9}".to_owned()),
            ("two", Some("k")) => Some("~ok-_.9".to_owned()),
            _ => None,
        };
        assert_eq!(
            with_secret_values(&filled, value),
            "http://a/?x=a%26b%3Dc%2Fd%20%24%7Bsecret%3Atwo%23k%7D%C3%A9&y=~ok-_.9&z=${secret:no}"
        );
    }
}
