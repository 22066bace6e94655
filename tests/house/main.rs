//! The house: the invariants that a reader may rely on, each one test, so that none of them is only a
//! sentence in a document.
//!
//! `tree` reads the files, `code` tells code from comments and literals, `rules` are the checkers (text
//! in, findings out, no I/O), `modules` looks for circles in a crate, `graph` asks cargo who depends on whom. `samples` feeds each rule
//! something bad and something that merely looks bad: a rule that cannot fail guards nothing.
//!
//! Not here: what clippy and rustfmt check already, and the build without `local` (`scripts/test`).

mod code;
mod graph;
mod modules;
mod rules;
mod samples;
mod tree;

use std::collections::BTreeSet;

use graph::Edges;
use rules::Finding;
use tree::File;

/// Where the order of a map could be seen in a decision, a record or a message.
const ORDERED_CRATES: [&str; 4] =
    ["worker/lifecycle/", "worker/runtime/", "worker/cloud/", "events/"];

/// Fails with one line for each finding, each with its file and line.
#[track_caller]
fn none(findings: &[Finding], invariant: &str) {
    let lines: Vec<String> = findings.iter().map(|finding| format!("  {finding}")).collect();
    assert!(findings.is_empty(), "{invariant}\n{}", lines.join("\n"));
}

fn rust_files_under(folder: &str) -> Vec<File> {
    let files: Vec<File> =
        tree::rust_files().into_iter().filter(|file| file.path.starts_with(folder)).collect();
    assert!(!files.is_empty(), "no Rust file under {folder}: has the crate moved?");
    files
}

fn find(files: &[File], rule: impl Fn(&File) -> Vec<Finding>) -> Vec<Finding> {
    files.iter().flat_map(rule).collect()
}

// -- Who may depend on whom ----------------------------------------------------------------------

#[test]
fn lifecycle_depends_on_neither_tokio_nor_an_aws_crate() {
    let needless = |name: &str| graph::is_tokio(name) || graph::is_aws(name);
    let bad = graph::reached("lamplighter-lifecycle", Edges::WithTests, needless);
    none(&bad, "lifecycle is pure: it needs neither a runtime nor AWS, not even to be tested");
    // Its property tests may draw; it may not.
    let bad = graph::reached("lamplighter-lifecycle", Edges::Shipped, graph::is_random);
    none(&bad, "lifecycle is pure: it needs no randomness");
}

#[test]
fn runtime_depends_on_no_aws_crate() {
    let bad = graph::reached("lamplighter-runtime", Edges::WithTests, graph::is_aws);
    none(&bad, "runtime sees AWS only through its ports");
}

#[test]
fn cloud_depends_on_neither_tokio_nor_awsim() {
    let bad = graph::reached("lamplighter-cloud", Edges::WithTests, |name| {
        graph::is_tokio(name) || graph::is_aws(name)
    });
    none(&bad, "cloud is a model with a clock of its own");
}

#[test]
fn events_depends_on_neither_tokio_nor_an_aws_crate() {
    let bad = graph::reached("lamplighter-events", Edges::WithTests, |name| {
        graph::is_tokio(name) || graph::is_aws(name)
    });
    none(&bad, "events holds wire types only");
}

#[test]
fn the_door_sees_aws_through_ports_and_only_sends_and_reads() {
    let bad = graph::reached("lamplighter-door", Edges::Shipped, graph::is_aws);
    none(&bad, "the door sees the queue and the table through ports");
    none(
        &find(&tree::rust_files(), rules::more_than_a_door),
        "the door sends and reads; workers decide and write",
    );
}

#[test]
fn only_the_aws_crate_is_built_on_the_sdk() {
    let bad = graph::direct(|crate_name, dependency, dev| {
        // Tests speak to the endpoint as a client would, through the SDK.
        let may = dev || ["lamplighter-aws", "lamplighter-tests"].contains(&crate_name);
        !may && (dependency.starts_with("aws-sdk-") || dependency.starts_with("aws-smithy-"))
    });
    none(&bad, "worker/aws is the only place that sees the SDK");
}

#[test]
fn only_the_binary_depends_on_anyhow() {
    let bad = graph::direct(|crate_name, dependency, _| {
        dependency == "anyhow" && crate_name != "lamplighter"
    });
    none(&bad, "a library's errors are typed: only the binary may depend on anyhow");
}

#[test]
fn every_crate_takes_the_shared_lints() {
    let manifests = tree::files()
        .into_iter()
        .filter(|file| file.path.ends_with("/Cargo.toml") && !file.path.starts_with("target/"));
    let manifests: Vec<File> = manifests.collect();
    assert!(manifests.len() >= 8, "found only {} manifests", manifests.len());
    none(&find(&manifests, rules::shared_lints), "each crate says `[lints] workspace = true`");
}

// -- What the text may say -----------------------------------------------------------------------

#[test]
fn lifecycle_calls_no_clock_and_no_dice() {
    let bad = find(&rust_files_under("worker/lifecycle/"), rules::clocks_and_dice);
    none(&bad, "decisions are pure: `now` is an argument, ids and jitter come through ports");
}

#[test]
fn runtime_names_no_sdk_type() {
    let bad = find(&rust_files_under("worker/runtime/"), rules::sdk_names);
    none(&bad, "runtime speaks in domain types: SDK types belong in worker/aws");
}

#[test]
fn cloud_names_neither_tokio_nor_awsim() {
    let bad = find(&rust_files_under("worker/cloud/"), rules::tokio_or_awsim);
    none(&bad, "cloud is a model with a clock of its own");
}

#[test]
fn only_main_uses_anyhow() {
    let mut files = tree::rust_files();
    files.retain(|file| file.path != "worker/src/main.rs");
    none(&find(&files, rules::untyped_errors), "only worker/src/main.rs uses anyhow");
}

#[test]
fn no_select_without_biased() {
    let bad = find(&tree::rust_files(), rules::unbiased_selects);
    none(&bad, "`select!` opens with `biased;`, or its choice could not be replayed");
}

#[test]
fn no_map_without_an_order_where_it_could_be_seen() {
    let files: Vec<File> =
        ORDERED_CRATES.iter().flat_map(|folder| rust_files_under(folder)).collect();
    none(
        &find(&files, rules::unordered_maps),
        "BTreeMap and BTreeSet, so that each run is the same",
    );
}

#[test]
fn modules_form_no_circle() {
    let roots: BTreeSet<String> = tree::rust_files()
        .iter()
        .filter_map(|file| {
            let (root, name) = file.path.rsplit_once('/')?;
            let test = root.starts_with("tests/") && root != "tests/sim";
            (matches!(name, "lib.rs" | "main.rs") && !test).then(|| format!("{root}/"))
        })
        .collect();
    assert!(roots.len() >= 9, "found only {roots:?}: have the crates moved?");
    let bad: Vec<Finding> =
        roots.iter().flat_map(|root| modules::circles(root, &rust_files_under(root))).collect();
    none(&bad, "the modules of a crate form no circle, a parent and its child aside");
}

#[test]
fn nothing_is_left_undone() {
    none(&find(&tree::rust_files(), rules::left_undone), "what is here is finished");
}

#[test]
fn names_say_what_is_done() {
    none(
        &find(&tree::rust_files(), rules::vague_names),
        "no handle_, process_, manager, utils: the verb tells the purity, the noun the thing",
    );
}

#[test]
fn every_module_opens_with_its_theory() {
    none(
        &find(&tree::rust_files(), rules::no_opening),
        "a module opens with `//!`: the theory, the invariants, and what is deliberately not there",
    );
}

#[test]
fn no_file_is_long_without_a_stated_reason() {
    none(
        &find(&tree::rust_files(), rules::too_long),
        "a file over 800 lines says why in a `// Long because:` among its first 40 lines",
    );
}

#[test]
fn no_file_knows_the_machine_it_was_written_on() {
    none(
        &find(&tree::files(), rules::machine_paths),
        "nothing in the repository names a machine's own paths or a registry other than crates.io",
    );
}

// -- What lies where -----------------------------------------------------------------------------

#[test]
fn the_top_level_is_as_it_was_given() {
    none(
        &rules::top_level(&tree::top_level()),
        "the top level holds what the README names, no more",
    );
}

#[test]
fn every_script_can_be_run() {
    let scripts = tree::scripts();
    assert!(scripts.len() >= 3, "found only {} scripts: have they moved?", scripts.len());
    let bad: Vec<Finding> = scripts.iter().flat_map(|path| tree::script_faults(path)).collect();
    none(&bad, "a script is executable, names its shell and parses");
}

#[test]
fn every_policy_is_valid_json() {
    let policies = tree::files()
        .into_iter()
        .filter(|file| file.path.starts_with("infra/") && file.path.ends_with("-policy.json"));
    let policies: Vec<File> = policies.collect();
    assert!(policies.len() >= 3, "found only {} policies", policies.len());
    none(&find(&policies, rules::policy), "an IAM policy grants no wildcard action and parses");
}
