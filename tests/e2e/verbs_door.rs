//! `serve`, `token` and `link`: every flag is run, and what they say is read (see `verbs`).

use std::process::Stdio;

use crate::harness::{FLEET, Local, Process, http};
use crate::verbs::{Ran, Verbs};

pub(crate) const DOOR: Verbs = &[("serve", &[0, 1, 2]), ("token", &[0, 2])];
pub(crate) const LINKS: Verbs = &[("link", &[0, 1, 2])];

#[test]
fn a_door_is_opened_with_a_token_that_was_made_for_it() {
    let mut ran = Ran::default();
    let mut local = Local::start(&["--no-worker"]);
    let fleet = local.fleet().to_str().expect("a path").to_owned();

    // A token: shown once, its hash as the fleet file takes it.
    let said = ran.run(&local, "token", &["ann", "--fleet", &fleet], 0).stdout;
    assert!(said.contains("[http.tokens.\"ann\"]") && said.contains("lamp_"), "{said}");
    let made = ran.run(&local, "token", &["ann", "--json"], 0).json();
    let (token, hash) =
        (made["token"].as_str().expect("one"), made["sha256"].as_str().expect("one"));
    assert!(!said.contains(token), "no two are the same");
    ran.run(&local, "token", &["a\nb"], 2);

    // Without [http] nobody said who may come in.
    let refused = ran.run(&local, "serve", &["--listen", "127.0.0.1:0"], 2);
    refused.complains(2, &["has no [http]", "lamplighter token"]);

    let door = format!(
        "{FLEET}\n[http]\nauth = \"tokens\"\n[http.tokens.ann]\nsha256 = \"{hash}\"\nmay = [\"read\"]\n"
    );
    std::fs::write(local.fleet(), door).expect("the fleet file");
    // The port is taken: by the door of `local`.
    let taken = local.door_url().trim_start_matches("http://").to_owned();
    let refused = ran.run(&local, "serve", &["--listen", &taken], 1);
    refused.complains(1, &["cannot listen", &taken]);

    let arguments = ["--listen", "127.0.0.1:0", "--json", "--fleet", &fleet];
    let mut command = local.command();
    command.arg("serve").args(arguments).stdout(Stdio::null());
    let mut process = Process::spawn(command, &local.folder.path().join("serve.log"));
    let address = process.listens_on();
    let url = format!("http://{address}");
    assert_eq!(http(&url, "GET", "/healthz", "").0, 200);
    assert_eq!(http(&url, "GET", "/readyz", "").0, 200);
    assert_eq!(http(&url, "GET", "/v1/targets", "").0, 401);
    process.signal("-TERM");
    assert_eq!(process.wait(), 0, "{}", process.log());
    assert!(!process.log().contains(token) && !process.log().contains(hash), "{}", process.log());
    ran.note("serve", &arguments, 0);
    ran.covers(DOOR);
    local.process.signal("-TERM");
    assert_eq!(local.process.wait(), 0);
}

#[test]
fn a_link_is_signed_with_the_key_that_the_fleet_or_the_environment_names() {
    let mut ran = Ran::default();
    let mut local = Local::start(&["--no-worker"]);
    let fleet = local.fleet().to_str().expect("a path").to_owned();
    let app = "https://app.example.com/";
    let served = |more: &str| {
        let targets = FLEET.replacen("settle", "max_hold = \"1h\"\nsettle", 1);
        format!(
            "{targets}\n[http]\nauth = \"tokens\"\n{more}[http.wait.position-keeper]\nto = [\"{app}\"]\n"
        )
    };

    // Without a key there is nothing to sign with; and the secret with it may not be there.
    std::fs::write(local.fleet(), served("")).expect("the fleet file");
    let refused = ran.run(&local, "link", &["position-keeper"], 2);
    refused.complains(2, &["links_secret", "LAMPLIGHTER_LINK_KEYS"]);
    std::fs::write(local.fleet(), served("links_secret = \"ours/links\"\n"))
        .expect("the fleet file");
    ran.run(&local, "link", &["position-keeper"], 1).complains(1, &["ours/links"]);

    std::fs::write(local.fleet(), served("")).expect("the fleet file");
    let keys = format!("{{\"current\": \"{}\"}}", "1f".repeat(32));
    let with_key = |local: &Local| {
        let mut command = local.command();
        command.env("LAMPLIGHTER_LINK_KEYS", &keys);
        command
    };
    let arguments = ["position-keeper", "--for", "2h", "--to", app, "--holder", "ann"];
    let arguments = [&arguments[..], &["--door", "https://door.example.com", "--fleet", &fleet]];
    let said = ran.run_as(&mut with_key(&local), "link", &arguments.concat(), 0).stdout;
    let begins =
        "https://door.example.com/wait/position-keeper?to=https%3A%2F%2Fapp.example.com%2F&code=1.";
    assert!(said.starts_with(begins) && said.lines().count() == 1, "{said}");
    let made = ran.run_as(&mut with_key(&local), "link", &["position-keeper", "--json"], 0).json();
    assert_eq!((&made["target"], &made["to"]), (&"position-keeper".into(), &app.into()), "{made}");
    let elsewhere = ["position-keeper", "--to", "https://evil.example/"];
    let refused = ran.run_as(&mut with_key(&local), "link", &elsewhere, 2);
    refused.complains(2, &["may not lead there"]);
    ran.covers(LINKS);
    local.process.signal("-TERM");
    assert_eq!(local.process.wait(), 0);
}
