//! `[http]`: the door.
//!
//! Tokens are never in the file, only their hashes: `lamplighter token NAME` makes both. What would let a machine run
//! for ever by a link, or anybody do everything without saying so, is refused.

use std::collections::BTreeSet;

use lamplighter_door::Http;
use lamplighter_door::settings::{
    Auth, Destination, Host, RATE_DEFAULT, Right, Seed, SpeaksFor, Targets, Token, TokenHash,
    parse_origin, parse_prefix, same_hash,
};
use lamplighter_events::{Holder, TargetName};
use lamplighter_lifecycle::Place;
use lamplighter_runtime::Fleet;

use super::ConfigError;
use super::reader::{Item, Reader, one_of};

/// More than anybody keeps in a file; a secret takes the rest.
const TOKENS_MAX: usize = 1_000;
const AUTH: &str = "\"tokens\", or \"none\" where whoever reaches the door may do everything";
/// Secrets Manager's names and ARNs are shorter.
const SECRET_CHARS_MAX: usize = 2_048;

/// Reads the table.
pub(crate) fn http(
    item: &Item<'_>,
    fleet: &Fleet,
    warnings: &mut Vec<String>,
) -> Result<Http, ConfigError> {
    let keys = [
        "auth",
        "compat",
        "prefix",
        "origins",
        "hosts",
        "proxies",
        "tokens",
        "tokens_secret",
        "command_includes_kill",
        "links_secret",
        "targets",
        "wait",
        "limits",
    ];
    let reader = item.table(&keys)?;
    let auth = reader.need("auth", AUTH)?;
    let mut http = Http::new(auth.choice(&[("tokens", Auth::Tokens), ("none", Auth::None)])?);
    if let Some(item) = reader.get("prefix") {
        http.prefix = item.parse("a path such as \"/v2\"", parse_prefix)?;
    }
    if let Some(item) = reader.get("origins") {
        for item in item.list("a list of origins")? {
            http.origins.push(item.parse("an origin", parse_origin)?);
        }
    }
    if let Some(item) = reader.get("hosts") {
        for item in item.list("a list of hosts")? {
            http.hosts.push(item.parse(Host::EXPECTED, Host::parse)?);
        }
        if http.auth == Auth::Tokens {
            warnings.push("[http] hosts has no effect beside auth = \"tokens\"".to_owned());
        }
    }
    if reader.get("command_includes_kill").is_some() {
        http.command_includes_kill = reader.flag("command_includes_kill")?;
    }
    if let Some(item) = reader.get("proxies") {
        http.proxies = usize::try_from(item.whole(0..=10)?).unwrap_or(0);
    }
    if let Some(item) = reader.get("limits") {
        let limits = item.table(&["per_address", "per_token"])?;
        for (name, place) in
            [("per_address", &mut http.per_address), ("per_token", &mut http.per_token)]
        {
            if let Some(item) = limits.get(name) {
                *place = u32::try_from(item.whole(1..=100_000)?).unwrap_or(RATE_DEFAULT);
            }
        }
    }
    if let Some(item) = reader.get("tokens_secret") {
        http.tokens_secret =
            Some(item.name(SECRET_CHARS_MAX, "a secret's name or ARN")?.to_owned());
    }
    if let Some(item) = reader.get("links_secret") {
        let name = item.name(SECRET_CHARS_MAX, "a secret's name or ARN")?;
        if http.tokens_secret.as_deref() == Some(name) {
            return Err(item.refuse("it is tokens_secret too", "a secret of its own"));
        }
        http.links_secret = Some(name.to_owned());
    }
    if let Some(item) = reader.get("tokens") {
        for item in item.open_table()?.items() {
            let token = token(&item, fleet, warnings)?;
            let (token, warning) = http.with_legacy_rights(token);
            warnings.extend(warning.map(|warning| format!("[http] {warning}")));
            if let Some(other) = http.tokens.iter().find(|other| other.hash == token.hash) {
                let error = same_hash(&other.name);
                return Err(
                    item.refuse_key(&format!("{}; expected {}", error.problem, error.expected))
                );
            }
            http.tokens.push(token);
        }
        if http.tokens.len() > TOKENS_MAX {
            let problem = format!("has {} tokens", http.tokens.len());
            return Err(item.refuse(&problem, &format!("at most {TOKENS_MAX}")));
        }
    }
    seeds(&reader, fleet, &mut http)?;
    let launched = http.seeds.get(&Seed::Walrus).filter(|_| http.compat.contains(&Seed::Walrus));
    if let Some(name) = launched
        && fleet
            .templates
            .get(name)
            .and_then(|spec| spec.template())
            .is_some_and(|it| it.dedupe.is_none())
    {
        warnings.push(format!(
            "[http] compat \"walrus\": templates.{name} has no dedupe, so a client that sends its POST again gets \
             another machine; expected dedupe = \"blob_id\", or clients that send an Idempotency-Key"
        ));
    }
    if let Some(item) = reader.get("wait") {
        for item in item.open_table()?.items() {
            wait(&item, fleet, &mut http)?;
        }
    }
    match http.auth {
        Auth::None => {
            if !http.tokens.is_empty() || http.tokens_secret.is_some() {
                return Err(auth.refuse("\"none\", and there are tokens", "\"tokens\""));
            }
            let mut warning =
                "[http] auth = \"none\": whoever reaches the door may start, stop and kill everything"
                    .to_owned();
            if http.hosts.is_empty() {
                warning.push_str("; without hosts it listens on a loopback address alone");
            }
            warnings.push(warning);
        }
        Auth::Tokens if http.tokens.is_empty() && http.tokens_secret.is_none() => {
            warnings.push(
                "[http] auth = \"tokens\", and there are none: nobody gets in; `lamplighter token NAME` makes one"
                    .to_owned(),
            );
        }
        Auth::Tokens => {}
    }
    Ok(http)
}

fn token(item: &Item<'_>, fleet: &Fleet, warnings: &mut Vec<String>) -> Result<Token, ConfigError> {
    let name = Holder::parse(item.key).map_err(|error| item.refuse_key(&error.to_string()))?;
    let reader = item.table(&["sha256", "may", "targets", "holder"])?;
    let hash = reader.need("sha256", TokenHash::EXPECTED)?;
    let hash = hash.parse(TokenHash::EXPECTED, TokenHash::parse)?;
    let words = Right::ALL.map(|right| (right.as_str(), right));
    let mut may = BTreeSet::new();
    for item in reader.need("may", "may = [\"read\", \"command\"]")?.list("a list of rights")? {
        may.insert(item.choice(&words)?);
    }
    let mut targets = Vec::new();
    match reader.get("targets") {
        None => targets.push(Targets::Prefix(String::new())),
        Some(item) => {
            for item in item.list("a list of targets")? {
                let some = item.parse(Targets::EXPECTED, Targets::parse)?;
                if let Targets::One(one) = &some
                    && !fleet.has(one)
                    && !fleet.templates.contains_key(one)
                {
                    warnings.push(format!("[http.tokens.{name}]: no target is named {one}"));
                }
                targets.push(some);
            }
        }
    }
    let speaks_for = match reader.get("holder") {
        Some(item) => item.parse(Holder::EXPECTED, SpeaksFor::parse)?,
        None => SpeaksFor::Holder(name.clone()),
    };
    Ok(Token { name, hash, may, targets, speaks_for })
}

/// `compat`, and which target each of them means.
fn seeds(reader: &Reader<'_>, fleet: &Fleet, http: &mut Http) -> Result<(), ConfigError> {
    let words = Seed::ALL.map(|seed| (seed.as_str(), seed));
    let said = match reader.get("targets") {
        Some(item) => Some(item.table(&words.map(|(word, _)| word))?),
        None => None,
    };
    for (word, seed) in words {
        let Some(item) = said.as_ref().and_then(|said| said.get(word)) else { continue };
        let name = item.parse(TargetName::EXPECTED, TargetName::parse)?;
        let fits = match seed {
            Seed::Walrus => fleet.templates.contains_key(&name),
            _ => fleet.targets.get(&name).is_some_and(|spec| is_of(seed, &spec.place)),
        };
        if !fits {
            let known = match seed {
                Seed::Walrus => fleet.templates.keys(),
                _ => fleet.targets.keys(),
            };
            let known: Vec<&str> = known.map(|name| name.as_str()).collect();
            return Err(
                item.refuse(&format!("nothing of the kind is named \"{name}\""), &one_of(&known))
            );
        }
        http.seeds.insert(seed, name);
    }
    let Some(item) = reader.get("compat") else { return Ok(()) };
    for item in item.list("a list of the seeds' names")? {
        let seed = item.choice(&words)?;
        http.compat.insert(seed);
        if http.seeds.contains_key(&seed) {
            continue;
        }
        let Some(name) = follows(seed, fleet) else {
            let word = seed.as_str();
            return Err(item.refuse(
                &format!("which target \"{word}\" means does not follow from the fleet"),
                &format!("[http.targets] {word} = \"…\""),
            ));
        };
        http.seeds.insert(seed, name);
    }
    Ok(())
}

/// Whether it is what a seed's clients know how to read.
fn is_of(seed: Seed, place: &Place) -> bool {
    match seed {
        Seed::PositionKeeper | Seed::PyElli => matches!(place, Place::Instance(_)),
        Seed::Fluidity => matches!(place, Place::Service(_)),
        Seed::Walrus => matches!(place, Place::Template(_)),
    }
}

/// The target that a seed means: the one of its name, the only one of its kind, else the default.
fn follows(seed: Seed, fleet: &Fleet) -> Option<TargetName> {
    let own = TargetName::parse(seed.as_str()).ok()?;
    if seed == Seed::Walrus {
        let only = fleet.templates.keys().next().filter(|_| fleet.templates.len() == 1);
        return Some(own).filter(|own| fleet.templates.contains_key(own)).or_else(|| only.cloned());
    }
    if fleet.targets.contains_key(&own) {
        return Some(own);
    }
    let of_kind = |place: &Place| is_of(seed, place);
    let mut of_its_kind = fleet.targets.values().filter(|spec| of_kind(&spec.place));
    let (first, more) = (of_its_kind.next(), of_its_kind.next());
    match (first, more) {
        (Some(only), None) => Some(only.name.clone()),
        _ => fleet
            .default_target
            .clone()
            .filter(|name| fleet.targets.get(name).is_some_and(|spec| of_kind(&spec.place))),
    }
}

fn wait(item: &Item<'_>, fleet: &Fleet, http: &mut Http) -> Result<(), ConfigError> {
    let name = TargetName::parse(item.key).map_err(|error| item.refuse_key(&error.to_string()))?;
    let Some(spec) = fleet.targets.get(&name) else {
        let known: Vec<&str> = fleet.targets.keys().map(|name| name.as_str()).collect();
        let message = format!("no target is named \"{name}\"; expected {}", one_of(&known));
        return Err(item.refuse_key(&message));
    };
    if spec.idle.is_none() && spec.max_hold.is_none() {
        return Err(item.refuse_key(&format!(
            "a link would wake {name}, and nothing would ever stop it; expected an idle policy or max_hold on \
             [targets.{name}]"
        )));
    }
    let reader = item.table(&["to"])?;
    let list = reader.need("to", "to = [\"https://app.example.com/\"]")?;
    let mut destinations = Vec::new();
    for item in list.list("a list of URLs")? {
        destinations.push(item.parse(Destination::EXPECTED, Destination::parse)?);
    }
    http.wait.insert(name, destinations);
    Ok(())
}
