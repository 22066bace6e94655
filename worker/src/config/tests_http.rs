//! Rows: what `[http]` may say, and how a wrong one is refused.

#![allow(clippy::needless_pass_by_value)] // `expect![…]` reads best by value.

use std::collections::BTreeMap;

use expect_test::{Expect, expect};
use lamplighter_door::settings::{Auth, Right, Seed, SpeaksFor};

use super::{Config, ConfigError, load, parse};

const TARGETS: &str = "\
[targets.position-keeper]
kind = \"ec2-instance\"
instance_id = \"i-0123456789\"
[targets.backend]
kind = \"ec2-instance\"
instance_id = \"i-9876543210\"
max_hold = \"8h\"
[targets.server]
kind = \"ecs-service\"
cluster = \"c\"
service = \"s\"
[templates.model]
kind = \"ec2-template\"
launch_template = \"lt-0123456789abcdef0\"
limit = 1
max_lifetime = \"1h\"
";

fn fleet(http: &str) -> Result<Config, ConfigError> {
    parse("lamplighter.toml", &format!("{TARGETS}{http}"))
}

#[track_caller]
fn check(http: &str, expected: Expect) {
    match fleet(http) {
        Err(error) => expected.assert_eq(&error.to_string()),
        Ok(_) => panic!("it was taken:\n{http}"),
    }
}

/// Another one.
fn other_hash() -> String {
    "fedcba9876543210".repeat(4)
}

fn hash() -> String {
    "0123456789abcdef".repeat(4)
}

#[test]
fn a_door_is_read_with_its_defaults() {
    let http = fleet(&format!(
        "[http]\nauth = \"tokens\"\nprefix = \"/v2\"\norigins = [\"https://app.example.com\"]\nproxies = 1\n\
         compat = [\"position-keeper\", \"fluidity\", \"walrus\"]\n\
         [http.tokens.ci]\nsha256 = \"{0}\"\nmay = [\"read\"]\n\
         [http.tokens.gateway]\nsha256 = \"{1}\"\nmay = [\"command\", \"read\"]\nholder = \"*\"\ntargets = [\"model.*\"]\n\
         [http.wait.backend]\nto = [\"https://app.example.com/\"]\n\
         [http.limits]\nper_token = 7\n",
        hash(),
        other_hash()
    ))
    .unwrap();
    assert!(
        matches!(http.warnings.as_slice(), [kill, dedupe] if kill.contains("gateway") && dedupe.contains("no dedupe")),
        "{:?}",
        http.warnings
    );
    let http = http.http.unwrap();
    assert_eq!((http.auth, http.prefix.as_str(), http.proxies), (Auth::Tokens, "/v2", 1));
    assert_eq!((http.per_token, http.per_address), (7, 50));
    assert_eq!(http.tokens[0].name.as_str(), "ci");
    assert!(matches!(&http.tokens[0].speaks_for, SpeaksFor::Holder(own) if own.as_str() == "ci"));
    assert_eq!(http.tokens[1].speaks_for, SpeaksFor::Anyone);
    assert!(http.tokens[1].may.contains(&Right::Command));
    let of = |seed| http.seeds.get(&seed).map(|name| name.as_str());
    assert_eq!(of(Seed::PositionKeeper), Some("position-keeper"), "by its name");
    assert_eq!(of(Seed::Fluidity), Some("server"), "the only one of its kind");
    assert_eq!(of(Seed::Walrus), Some("model"), "the only template");
    assert_eq!(of(Seed::PyElli), None, "it is not switched on");
}

#[test]
fn a_door_without_tokens_is_said_in_so_many_words_and_warned_of() {
    check(
        "[http]\n",
        expect![[
            r#"lamplighter.toml:17:2: http: auth is missing; expected "tokens", or "none" where whoever reaches the door may do everything"#
        ]],
    );
    check(
        "[http]\nauth = \"open\"\n",
        expect![[
            r#"lamplighter.toml:18:8: http.auth: "open" is not valid; expected "tokens" or "none""#
        ]],
    );
    check(
        &format!("[http]\nauth = \"none\"\n[http.tokens.a]\nsha256 = \"{}\"\nmay = []\n", hash()),
        expect![[
            r#"lamplighter.toml:18:8: http.auth: "none", and there are tokens; expected "tokens""#
        ]],
    );
    let warned = |http: &str, word: &str| {
        let warnings = fleet(http).unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains(word)), "{warnings:?}");
    };
    warned("[http]\nauth = \"none\"\n", "whoever reaches the door");
    warned("[http]\nauth = \"tokens\"\n", "nobody gets in");
    warned(
        &format!(
            "[http]\nauth = \"tokens\"\n[http.tokens.a]\nsha256 = \"{}\"\nmay = []\ntargets = [\"x\"]",
            hash()
        ),
        "no target is named x",
    );
}

#[test]
fn a_token_in_place_of_its_hash_is_refused_and_not_repeated() {
    check(
        "[http]\nauth = \"tokens\"\n[http.tokens.a]\nsha256 = \"lamp_my-secret\"\nmay = [\"read\"]\n",
        expect![
            "lamplighter.toml:20:10: http.tokens.a.sha256: these 14 characters are no SHA-256; expected 64 hex digits, as `lamplighter token NAME` prints them"
        ],
    );
    check(
        &format!(
            "[http]\nauth = \"tokens\"\n[http.tokens.a]\nsha256 = \"{}\"\nmay = [\"write\"]\n",
            hash()
        ),
        expect![[
            r#"lamplighter.toml:21:8: http.tokens.a.may[0]: "write" is not valid; expected "read" or "command" or "kill" or "admin" or "wait" or "link""#
        ]],
    );
}

#[test]
fn two_names_for_one_token_would_have_two_sets_of_rights() {
    let one =
        |name: &str| format!("[http.tokens.{name}]\nsha256 = \"{}\"\nmay = [\"read\"]\n", hash());
    check(
        &format!("[http]\nauth = \"tokens\"\n{}{}", one("a"), one("b")),
        expect![
            "lamplighter.toml:22:14: http.tokens.b: it is that of a too; expected a token of its own for each"
        ],
    );
}

#[test]
fn what_a_seed_means_follows_or_is_said() {
    check(
        "[http]\nauth = \"none\"\ncompat = [\"pyelli\"]\n",
        expect![[
            r#"lamplighter.toml:19:11: http.compat[0]: which target "pyelli" means does not follow from the fleet; expected [http.targets] pyelli = "…""#
        ]],
    );
    check(
        "[http]\nauth = \"none\"\ncompat = [\"foundry\"]\n",
        expect![[
            r#"lamplighter.toml:19:11: http.compat[0]: "foundry" is not valid; expected "position-keeper" or "fluidity" or "pyelli" or "walrus""#
        ]],
    );
    check(
        "[http]\nauth = \"none\"\n[http.targets]\nwalrus = \"backend\"\n",
        expect![[
            r#"lamplighter.toml:20:10: http.targets.walrus: nothing of the kind is named "backend"; expected one of model"#
        ]],
    );
    let http = fleet(
        "[http]\nauth = \"none\"\ncompat = [\"pyelli\"]\n[http.targets]\npyelli = \"backend\"\n",
    );
    assert_eq!(http.unwrap().http.unwrap().seeds[&Seed::PyElli].as_str(), "backend");
}

#[test]
fn a_fleet_of_the_seeds_variables_has_its_door_by_one_of_ours() {
    let env = |http: &str| -> BTreeMap<String, String> {
        [("INSTANCE_ID", "i-0123456789"), ("LAMPLIGHTER_HTTP_TOML", http)]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    };
    let config = load(None, &env("[http]\nauth = \"none\"\ncompat = [\"pyelli\"]\n")).unwrap();
    let name = &config.http.unwrap().seeds[&Seed::PyElli];
    assert!(config.fleet.targets.contains_key(name));
    assert!(load(None, &env("")).unwrap().http.is_none());
    let error = load(None, &env("[http]\nauth = \"none\"\ncompat = [\"walrus\"]\n")).unwrap_err();
    expect![[r#"LAMPLIGHTER_HTTP_TOML:3:11: http.compat[0]: which target "walrus" means does not follow from the fleet; expected [http.targets] walrus = "…""#]].assert_eq(&error.to_string());
}

#[test]
fn a_waiting_room_is_for_what_is_stopped_again() {
    check(
        "[http]\nauth = \"none\"\n[http.wait.server]\nto = [\"https://a/\"]\n",
        expect![
            "lamplighter.toml:19:12: http.wait.server: a link would wake server, and nothing would ever stop it; expected an idle policy or max_hold on [targets.server]"
        ],
    );
    check(
        "[http]\nauth = \"none\"\n[http.wait.nobody]\nto = [\"https://a/\"]\n",
        expect![[
            r#"lamplighter.toml:19:12: http.wait.nobody: no target is named "nobody"; expected one of backend, position-keeper, server"#
        ]],
    );
    check(
        "[http]\nauth = \"none\"\n[http.wait.backend]\nto = [\"//a\"]\n",
        expect![[
            r#"lamplighter.toml:20:7: http.wait.backend.to[0]: this is no such URL; expected an http or https URL without user, query and fragment, such as "https://app.example.com/""#
        ]],
    );
}

#[test]
fn what_cannot_be_an_address_is_refused() {
    check(
        "[http]\nauth = \"none\"\nprefix = \"v2\"\n",
        expect![[
            r#"lamplighter.toml:19:10: http.prefix: it is no plain path; expected a path such as "/v2", without a slash at its end"#
        ]],
    );
    check(
        "[http]\nauth = \"none\"\norigins = [\"*\"]\n",
        expect![[
            r#"lamplighter.toml:19:12: http.origins[0]: this is no origin; expected scheme, host and port where it is no usual one, such as "https://app.example.com""#
        ]],
    );
    check(
        "[http]\nauth = \"none\"\nproxies = 11\n",
        expect![
            "lamplighter.toml:19:11: http.proxies: 11 is not valid; expected a whole number from 0 to 10"
        ],
    );
    check(
        "[http]\nauth = \"none\"\nport = 80\n",
        expect![[
            r#"lamplighter.toml:19:1: http: unknown key "port"; expected one of auth, compat, prefix, origins, hosts, proxies, tokens, tokens_secret, command_includes_kill, links_secret, targets, wait, limits"#
        ]],
    );
}

#[test]
fn command_includes_kill_until_the_fleet_says_otherwise_and_each_such_token_is_named() {
    let token = |name: &str, may: &str| {
        let hash = format!("{:x}", u64::from(name.as_bytes()[0])).repeat(32);
        format!("[http.tokens.{name}]\nsha256 = \"{hash}\"\nmay = [{may}]\n")
    };
    let tokens = [
        token("before", r#""read", "command""#),
        token("ci", r#""command", "kill""#),
        token("root", r#""command", "admin""#),
        token("guest", r#""wait""#),
    ]
    .concat();
    let may = |config: &Config, name: &str| {
        let tokens = &config.http.as_ref().unwrap().tokens;
        let token = tokens.iter().find(|token| token.name.as_str() == name).unwrap();
        token.may.contains(&Right::Kill)
    };
    let legacy = fleet(&format!("[http]\nauth = \"tokens\"\n{tokens}")).unwrap();
    assert!(may(&legacy, "before") && may(&legacy, "ci") && !may(&legacy, "guest"));
    expect![[r#"[http] the token before has the right "command", which includes kill and destroy in this release only; expected "kill" beside it where before is to kill and destroy, and [http] command_includes_kill = false once every token has what it needs"#]]
    .assert_eq(&legacy.warnings.join("\n"));
    let says = "[http]\nauth = \"tokens\"\ncommand_includes_kill = false\n";
    let apart = fleet(&format!("{says}{tokens}")).unwrap();
    assert!(!may(&apart, "before") && may(&apart, "ci"));
    assert!(apart.warnings.is_empty(), "{:?}", apart.warnings);
}

#[test]
fn hosts_are_for_a_door_without_tokens() {
    let open =
        fleet("[http]\nauth = \"none\"\nhosts = [\"door.internal:8080\", \"10.0.0.5\"]\n").unwrap();
    assert_eq!(open.http.unwrap().hosts.len(), 2);
    assert!(!open.warnings[0].contains("loopback"), "{:?}", open.warnings);
    let none = fleet("[http]\nauth = \"none\"\n").unwrap();
    assert!(none.warnings[0].contains("without hosts"), "{:?}", none.warnings);
    check(
        "[http]\nauth = \"none\"\nhosts = [\"https://door.internal\"]\n",
        expect![[
            r#"lamplighter.toml:19:10: http.hosts[0]: this is no host; expected a host name or address, with a port or without, such as "door.example.com""#
        ]],
    );
}

#[test]
fn the_secret_of_links_is_not_that_of_tokens() {
    let http =
        "[http]\nauth = \"tokens\"\ntokens_secret = \"a/tokens\"\nlinks_secret = \"a/links\"\n";
    assert_eq!(fleet(http).unwrap().http.unwrap().links_secret.as_deref(), Some("a/links"));
    check(
        &http.replace("a/links", "a/tokens"),
        expect![[
            r#"lamplighter.toml:20:16: http.links_secret: it is tokens_secret too; expected a secret of its own"#
        ]],
    );
}
