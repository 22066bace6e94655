//! What makes a template's machine ready: the shipped `walrus`, a script beside the fleet file, or a document of SSM.

use std::collections::BTreeMap;
use std::io::Read as _;

use lamplighter_aws::bootstraps;
use lamplighter_events::{HumanDuration, TargetName, nearest};
use lamplighter_lifecycle::{Bootstrap, Parameter, Pattern, UnitName};
use toml::de::DeValue;

use super::ConfigError;
use super::reader::{Item, Reader, shown};
use super::values::seconds;

/// The names of what is shipped.
const SHIPPED: [&str; 1] = ["walrus"];
const EXPECTED: &str = "\"walrus\", or { script = \"path\" }, or { document = \"name or ARN\" }";
/// Seed 004 gave its command so long.
const TIMEOUT_SECONDS: u64 = 150;
/// SSM ends whatever takes longer than two days; who waits for a machine does so long before.
const TIMEOUT_SECONDS_MAX: u64 = 86_400;
/// SSM takes 64 KiB of base64 in all, and the parameters and our own wrapper want some of it.
const SCRIPT_BYTES_MAX: usize = 24 * 1024;

/// The bootstrap of a template, and what comes with it.
pub(crate) struct Chosen {
    /// What is run.
    pub(crate) bootstrap: Option<Bootstrap>,
    /// The most that it may take.
    pub(crate) timeout: HumanDuration,
    /// What is known of one that is shipped.
    pub(crate) shipped: Option<Shipped>,
}

/// What a shipped bootstrap takes.
pub(crate) struct Shipped {
    /// The unit that it leaves running.
    pub(crate) unit: UnitName,
    /// Its name.
    pub(crate) name: &'static str,
    /// What a create may say.
    pub(crate) parameters: BTreeMap<String, Parameter>,
    /// What the fleet file alone may say.
    pub(crate) settings: BTreeMap<String, Pattern>,
    /// A create must say one of these.
    pub(crate) one_of: Vec<String>,
    /// What its machines' names begin with.
    pub(crate) name_prefix: &'static str,
}

/// Nothing is run: a machine is ready when it is there.
pub(crate) fn none() -> Chosen {
    Chosen { bootstrap: None, timeout: seconds(TIMEOUT_SECONDS), shipped: None }
}

/// The model from Walrus; `walrus.sh` says what it takes.
pub(crate) fn walrus() -> Chosen {
    let pattern = |text| Pattern::parse(text).expect("a constant that is a pattern");
    let parameter = |name: &str, text, default: Option<&str>| {
        let parameter = Parameter {
            pattern: pattern(text),
            required: false,
            default: default.map(str::to_owned),
        };
        (name.to_owned(), parameter)
    };
    // An object's id is hexadecimal, with 0x or without; the seed's clients put base64url there too.
    let id = "[A-Za-z0-9_-]{1,128}";
    let aggregator = "https://[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?(:[0-9]{1,5})?\
                      (/[A-Za-z0-9._~:@%/-]{0,512})?";
    let testnet = "https://aggregator.walrus-testnet.walrus.space";
    let number = "[1-9][0-9]{0,14}";
    let folder = "(/[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}){2,8}";
    let settings = [
        ("max_bytes", number),
        ("model_dir", folder),
        ("install_seconds", number),
        ("stall_seconds", number),
        ("settle_seconds", "[0-9]{1,4}"),
    ];
    let shipped = Shipped {
        unit: UnitName::parse("walrus-model").expect("a unit's name"),
        name: "walrus",
        parameters: BTreeMap::from([
            parameter("blob_id", id, None),
            parameter("object_id", id, None),
            parameter("aggregator", aggregator, Some(testnet)),
        ]),
        settings: settings.map(|(name, text)| (name.to_owned(), pattern(text))).into(),
        one_of: vec!["blob_id".to_owned(), "object_id".to_owned()],
        name_prefix: "walrus-vm",
    };
    let bootstrap = Bootstrap::Script {
        name: shipped.name.to_owned(),
        script: bootstraps::WALRUS.to_owned(),
        check: bootstraps::WALRUS_CHECK.to_owned(),
    };
    Chosen { bootstrap: Some(bootstrap), shipped: Some(shipped), ..none() }
}

/// Reads the key, which may be a word or a table.
pub(crate) fn bootstrap(item: &Item<'_>, template: &TargetName) -> Result<Chosen, ConfigError> {
    let shipped = |item: &Item<'_>| match item.string(EXPECTED)? {
        "walrus" => Ok(walrus()),
        other => {
            let hint = match nearest(other, &SHIPPED) {
                Some(near) => format!("did you mean \"{near}\"?"),
                None => format!("expected {EXPECTED}"),
            };
            let problem = format!("no bootstrap \"{}\" is shipped; {hint}", shown(other));
            Err(item.refuse_with(&problem))
        }
    };
    match item.value {
        DeValue::String(_) => shipped(item),
        DeValue::Table(_) => {
            let reader = item.table(&["name", "script", "check", "document", "timeout"])?;
            let ways = ["name", "script", "document"].map(|key| reader.get(key));
            let chosen = match ways {
                [Some(item), None, None] => shipped(&item)?,
                [None, Some(item), None] => script(&item, &reader, template)?,
                [None, None, Some(item)] => document(&item)?,
                _ => {
                    let words = format!("it must say in one way what is run; expected {EXPECTED}");
                    return Err(item.refuse_key(&words));
                }
            };
            if let Some(check) = reader.get("check")
                && reader.get("script").is_none()
            {
                return Err(check.refuse_key(
                    "a check runs after a script of the fleet's own; expected it only beside script",
                ));
            }
            Ok(Chosen { timeout: timeout(&reader)?.unwrap_or(chosen.timeout), ..chosen })
        }
        _ => Err(item.wrong_type(EXPECTED)),
    }
}

fn timeout(reader: &Reader<'_>) -> Result<Option<HumanDuration>, ConfigError> {
    let (Some(item), Some(timeout)) = (reader.get("timeout"), reader.duration("timeout")?) else {
        return Ok(None);
    };
    if timeout.millis() % 1000 != 0 || timeout.seconds() > TIMEOUT_SECONDS_MAX {
        let problem = format!("\"{timeout}\" is not valid");
        return Err(item.refuse(&problem, "whole seconds, up to 24h"));
    }
    Ok(Some(timeout))
}

fn script(
    item: &Item<'_>,
    reader: &Reader<'_>,
    template: &TargetName,
) -> Result<Chosen, ConfigError> {
    let script = file(item)?;
    let check = reader.get("check").map(|item| file(&item)).transpose()?.unwrap_or_default();
    let bytes = script.len() + check.len();
    if bytes > SCRIPT_BYTES_MAX {
        let what = if check.is_empty() { "has" } else { "and its check have" };
        let problem = format!("the script {what} {bytes} bytes");
        return Err(
            item.refuse(&problem, &format!("at most {SCRIPT_BYTES_MAX}, as SSM takes them"))
        );
    }
    let path = item.string("a path")?;
    let name = path.rsplit('/').next().unwrap_or(path);
    let fits = name.len() <= 64
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte));
    let name = if fits { name } else { template.as_str() }.to_owned();
    Ok(Chosen { bootstrap: Some(Bootstrap::Script { name, script, check }), ..none() })
}

/// A file beside the fleet file.
fn file(item: &Item<'_>) -> Result<String, ConfigError> {
    let expected = "the path of a shell script, from the fleet file's folder on";
    let path = item.name(1024, expected)?;
    let text = || -> std::io::Result<String> {
        let path = item.beside(path);
        // A device or a pipe would keep us for ever.
        if !std::fs::metadata(&path)?.is_file() {
            return Err(std::io::Error::other("it is not a file"));
        }
        let mut text = String::new();
        let limit = SCRIPT_BYTES_MAX as u64 + 1;
        std::fs::File::open(&path)?.take(limit).read_to_string(&mut text)?;
        Ok(text)
    };
    let text = text().map_err(|error| {
        let problem = format!("cannot read \"{}\": {}", shown(path), shown(&error.to_string()));
        item.refuse(&problem, expected)
    })?;
    let broken = match &text {
        text if text.len() > SCRIPT_BYTES_MAX => {
            let problem = format!("\"{}\" is too large", shown(path));
            return Err(item.refuse(
                &problem,
                &format!("at most {SCRIPT_BYTES_MAX} bytes, as SSM takes them"),
            ));
        }
        text if text.trim().is_empty() => "is empty",
        text if text.contains('\0') => "has a zero byte, which no script has",
        text if text.contains('\r') => "has the line ends of Windows, which no shell reads",
        _ => return Ok(text),
    };
    Err(item.refuse(&format!("\"{}\" {broken}", shown(path)), expected))
}

fn document(item: &Item<'_>) -> Result<Chosen, ConfigError> {
    let expected = "an SSM document's name or ARN: 3 to 200 letters, digits and _-.:/";
    let name = item.string(expected)?;
    let fits = (3..=200).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.:/".contains(&byte));
    if !fits {
        return Err(item.refuse(&format!("\"{}\" is not valid", shown(name)), expected));
    }
    Ok(Chosen { bootstrap: Some(Bootstrap::Document { name: name.to_owned() }), ..none() })
}
