//! Each rule on something bad, and on something that merely looks bad.

use crate::code::blanked;
use crate::graph;
use crate::modules;
use crate::rules::{self, Finding};
use crate::tree::{self, File};

fn file(path: &str, text: &str) -> File {
    File { path: path.to_owned(), text: text.to_owned() }
}

/// `rule` finds something in `bad` at `line` of the text, and nothing in `good`.
#[track_caller]
fn check(rule: fn(&File) -> Vec<Finding>, bad: &str, line: usize, good: &str) {
    check_in("worker/x/src/lib.rs", rule, bad, line, good);
}

#[track_caller]
fn check_in(path: &str, rule: fn(&File) -> Vec<Finding>, bad: &str, line: usize, good: &str) {
    let found = rule(&file(path, bad));
    assert!(!found.is_empty(), "the rule finds nothing in: {bad}");
    assert_eq!(found[0].line, line, "{}", found[0]);
    assert!(found[0].to_string().starts_with(&format!("{path}:{line}: ")), "{}", found[0]);
    let found: Vec<String> = rule(&file(path, good)).iter().map(ToString::to_string).collect();
    assert!(found.is_empty(), "the rule finds {found:?} in: {good}");
}

#[test]
fn comments_and_literals_are_blanked_and_code_is_not() {
    let text = "a /* b /* c */ d */ e \"f \\\" g\" h 'i' j<'k> r#\"l \" m\"# n '\\'' r#o // p\nq b'r' br\"s\" t";
    let code: Vec<String> =
        blanked(text).lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(code, ["aehj<'k>nr#o", "qbbt"]);
    assert_eq!(blanked("\"open"), "     ");
    assert_eq!(blanked("/* open\nstill"), "       \n     ");
}

#[test]
fn a_clock_in_lifecycle_is_found() {
    check(
        rules::clocks_and_dice,
        "\nlet t = Timestamp::now();",
        2,
        "// Timestamp::now() is not called\nfn f(now: Timestamp) { random(\"SystemTime\", operand) }",
    );
    check(rules::clocks_and_dice, "use std::time::SystemTime;", 1, "use std::time::Duration;");
    check(rules::clocks_and_dice, "rand::random()", 1, "let brand = 1;");
}

#[test]
fn an_sdk_type_is_found() {
    check(
        rules::sdk_names,
        "use aws_sdk_ec2::Client;",
        1,
        "//! No `aws_sdk_ec2` here.\nfn aws() {}",
    );
    check(
        rules::tokio_or_awsim,
        "use awsim_core::X;",
        1,
        "/// `lamplighter local` uses awsim.\nfn f() {}",
    );
    check(rules::tokio_or_awsim, "tokio::spawn(x)", 1, "fn f() -> &'static str { \"tokio\" }");
}

#[test]
fn an_untyped_error_is_found() {
    check(
        rules::untyped_errors,
        "fn f() -> anyhow::Result<()> {}",
        1,
        "// no anyhow\nfn anyhow_not() {}",
    );
}

#[test]
fn an_unordered_map_is_found() {
    check(
        rules::unordered_maps,
        "use std::collections::HashMap;",
        1,
        "/// not a HashMap\nfn f() {}",
    );
    check(rules::unordered_maps, "let s: HashSet<u8>;", 1, "let s: BTreeSet<u8>;");
}

#[test]
fn an_unbiased_select_is_found() {
    check(
        rules::unbiased_selects,
        "async {\n tokio::select! {\n  x = y => {}\n }}",
        2,
        "tokio::select! {\n // first\n biased;\n x = y => {}\n} // select! { x }",
    );
    check(rules::unbiased_selects, "select!(a = b => c)", 1, "select!(biased; a = b => c)");
    check(rules::unbiased_selects, "select! { biased_one = x => {} }", 1, "my_select! { x }");
}

#[test]
fn what_is_left_undone_is_found() {
    check(rules::left_undone, "fn f() { todo!() }", 1, "// todo!() is refused\nfn todo() {}");
    check(rules::left_undone, "\ndbg!(x)", 2, "let s = \"dbg!\";");
    check(rules::left_undone, "unimplemented!()", 1, "implemented!()");
    check(rules::left_undone, concat!("// FIX", "ME later"), 1, "// fixed");
}

#[test]
fn a_vague_name_is_found() {
    check(rules::vague_names, "fn handle_message() {}", 1, "fn handle() {} fn unhandled() {}");
    check(rules::vague_names, "async fn process_it() {}", 1, "fn processed() {}");
    check(
        rules::vague_names,
        "\npub struct QueueManager;",
        2,
        "struct SecretsManager; struct Managed;",
    );
    check(rules::vague_names, "mod string_utils;", 1, "mod utility_bill;");
    let found = rules::vague_names(&file("worker/src/utils.rs", "//! x"));
    assert_eq!(found.len(), 1, "a file's own name counts");
}

#[test]
fn a_door_that_does_a_workers_work_is_found() {
    let rule = rules::more_than_a_door;
    let path = "worker/door/src/x.rs";
    check_in(path, rule, "\nstore.commit(&it).await", 2, "store.load(&it).await; committed();");
    assert!(rule(&file("worker/runtime/src/x.rs", "store.commit(&it).await")).is_empty());
}

#[test]
fn a_module_without_an_opening_is_found() {
    check(rules::no_opening, "use x;\n//! late", 1, "\n//! What this is.\nuse x;");
    check(rules::no_opening, "//! x\n", 1, "//! The queue.");
    check(rules::no_opening, "", 1, "//! The queue.");
}

#[test]
fn a_long_file_is_found() {
    let long = "//! Long.\n".to_owned() + &"fn f() {}\n".repeat(800);
    let just = "//! Long.\n".to_owned() + &"fn f() {}\n".repeat(799);
    check(rules::too_long, &long, 801, &just);
    let why = "//! Long.\n// Long because: one table, one row for each error of AWS.\n".to_owned()
        + &long;
    let no_reason = "//! Long.\n// Long because:\n".to_owned() + &long;
    let late = format!("{long}// Long because: too late to be read.\n");
    check(rules::too_long, &no_reason, 801, &why);
    check(rules::too_long, &late, 801, &why);
}

#[test]
fn a_machine_path_is_found() {
    check(
        rules::machine_paths,
        concat!("\nlet p = \"/wo", "rk/main\";"),
        2,
        "see https://example.com/work/today and src/work/here and network/",
    );
    check(rules::machine_paths, concat!("cd /ro", "ot/.cargo"), 1, "cd \"$root/scripts\"");
    check_in(
        "Cargo.lock",
        rules::machine_paths,
        "[[package]]\nsource = \"registry+https://mirror.example/index\"",
        2,
        "source = \"registry+https://github.com/rust-lang/crates.io-index\"",
    );
    check_in(
        "tests/requirements.txt",
        rules::machine_paths,
        "boto3==1\n--extra-index-url https://mirror.example",
        2,
        "boto3==1",
    );
    check_in(".cargo/config.toml", rules::machine_paths, "[source.crates-io]", 1, "[alias]");
}

#[test]
fn a_crate_without_the_shared_lints_is_found() {
    check(
        rules::shared_lints,
        "[package]\nlicense.workspace = true\n[lints]\n[dependencies]\nworkspace = true",
        1,
        "[package]\n\n[lints]\nworkspace = true\n",
    );
}

#[test]
fn a_stranger_at_the_top_level_is_found_and_so_is_a_gap() {
    let names = |all: &str| -> Vec<String> { all.split(' ').map(str::to_owned).collect() };
    let good = "Cargo.toml README.md events infra scripts tests worker LICENSE-MIT LICENSE-APACHE deny.toml .ci";
    assert!(rules::top_level(&names(good)).is_empty());
    let strange = rules::top_level(&names(&format!("{good} notes.md")));
    assert_eq!(strange[0].to_string(), "notes.md:1: does not belong at the top level");
    let missing = rules::top_level(&names(&good.replace(" README.md", "")));
    assert_eq!(missing[0].to_string(), "README.md:1: is missing from the top level");
}

#[test]
fn a_broad_policy_is_found() {
    let policy = |sid: &str, action: &str| {
        format!(
            "{{\"Version\": \"2012-10-17\", \"Statement\": [\n{{\"Sid\": \"{sid}\", \"Effect\": \"Allow\",\
             \"Action\": \"{action}\", \"Resource\": \"*\"}}]}}"
        )
    };
    let good = policy("Look", "ec2:DescribeInstances");
    check(rules::policy, &policy("All", "ec2:*"), 2, &good);
    check(rules::policy, &policy("All", "*"), 2, &good);
    check(rules::policy, "{\"Version\": \"2012-10-17\", \"Statement\": []}", 1, &good);
    check(rules::policy, "{\n\"Version\": 1,,", 2, &good);
}

#[test]
fn a_script_that_cannot_be_run_is_found() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = folder.path().join("broken");
    std::fs::write(&path, "#!/usr/bin/env bash\nif true; then\n").expect("the sample is written");
    let found: Vec<String> = tree::script_faults(&path).iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|fault| fault.contains("not executable")), "{found:?}");
    assert!(found.iter().any(|fault| fault.contains("syntax error")), "{found:?}");
    std::fs::write(&path, "echo hello\n").expect("the sample is written");
    let found: Vec<String> = tree::script_faults(&path).iter().map(ToString::to_string).collect();
    assert!(found.iter().any(|fault| fault.contains("opens with `echo hello`")), "{found:?}");
}

#[test]
fn a_forbidden_dependency_is_found_with_the_way_there() {
    let tree = "0 lamplighter-lifecycle v0.1.0 (/x)\n1 serde v1\n1 lamplighter-events v0.1.0\n2 tokio-util v0.7\n1 jiff v1\n";
    let found = graph::forbidden_in("lamplighter-lifecycle", tree, graph::is_tokio);
    assert_eq!(found.len(), 1);
    let way = "lamplighter-lifecycle -> lamplighter-events -> tokio-util";
    assert!(found[0].what.contains(way), "{}", found[0]);
    assert!(graph::is_aws("aws-sdk-ec2") && graph::is_aws("awsim-core") && !graph::is_aws("awful"));
}

#[test]
fn a_forbidden_direct_dependency_is_found() {
    let metadata = r#"{"packages": [{"name": "lamplighter-runtime", "manifest_path": "m", "dependencies": [
        {"name": "anyhow", "kind": null}, {"name": "aws-sdk-ec2", "kind": "dev"}]}]}"#;
    let found = graph::forbidden_direct(metadata, |_, on, dev| {
        on == "anyhow" || (!dev && on.starts_with("aws"))
    });
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].to_string(), "m:1: lamplighter-runtime depends on anyhow");
}

#[test]
fn a_circle_of_modules_is_found_and_a_parent_with_its_child_is_none() {
    let crate_of = |files: &[(&str, &str)]| -> Vec<String> {
        let files: Vec<File> =
            files.iter().map(|(name, text)| file(&format!("x/src/{name}"), text)).collect();
        modules::circles("x/src/", &files).iter().map(ToString::to_string).collect()
    };
    // `b` leads back through a name that the root re-exports, and from beneath.
    let circle = [
        ("lib.rs", "mod a;\nmod b;\npub use a::{One, two as Two};"),
        ("a.rs", "fn f() {\n    crate::b::g();\n}"),
        ("b.rs", "pub mod c;\npub fn g() {}"),
        ("b/c.rs", "use crate::Two;"),
    ];
    assert_eq!(
        crate_of(&circle),
        [
            "x/src/a.rs:2: `a` uses `b`, which leads back to it",
            "x/src/b/c.rs:1: `b` uses `a`, which leads back to it"
        ]
    );
    let order = [
        ("lib.rs", "mod a;\nmod b;\npub use b::c::Deep;\nfn f() { a::f(); }"),
        ("a.rs", "//! crate::b::c\nuse crate::b::c::Deep;\nfn f() { super::f(); }"),
        ("b.rs", "pub mod c;\nuse c::Deep;\n#[cfg(test)]\nmod t { use crate::a; }\nfn g() {}"),
        ("b/c.rs", "use super::g;"),
        ("b/tests/d.rs", "use crate::a;"),
    ];
    assert_eq!(crate_of(&order), [""; 0]);
}
