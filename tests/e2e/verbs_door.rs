//! `serve` and `token`: every flag is run, and what they say is read (see `verbs`).

use std::process::Stdio;

use crate::harness::{FLEET, Local, Process, http};
use crate::verbs::{Ran, Verbs};

pub(crate) const DOOR: Verbs = &[("serve", &[0, 1, 2]), ("token", &[0, 2])];

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
