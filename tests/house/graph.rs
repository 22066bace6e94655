//! Who depends on whom, as cargo resolves it.
//!
//! `cargo tree` for what is reached through others, `cargo metadata --no-deps` for what a crate names
//! itself. Both offline: the build that made this test has fetched all that is needed. For the host's
//! platform only, since the others' crates need not be there.

use std::process::Command;

use serde_json::Value;

use crate::rules::Finding;
use crate::tree;

pub(crate) fn is_aws(name: &str) -> bool {
    name.starts_with("aws-") || name.starts_with("awsim-") || name == "lamplighter-aws"
}

pub(crate) fn is_tokio(name: &str) -> bool {
    name == "tokio" || name.starts_with("tokio-")
}

fn cargo(arguments: &[&str]) -> String {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(arguments)
        .current_dir(tree::root())
        .output()
        .unwrap_or_else(|error| panic!("cannot run cargo: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo {}: {said}", arguments.join(" "));
    String::from_utf8(output.stdout).expect("cargo speaks UTF-8")
}

pub(crate) fn is_random(name: &str) -> bool {
    name.starts_with("rand") || name == "getrandom" || name == "fastrand"
}

/// Which dependencies count.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Edges {
    /// What becomes part of the binary, or runs to make it.
    Shipped,
    /// What the crate's own tests need, too.
    WithTests,
}

/// The forbidden crates that `crate_name` reaches, each with who leads there.
pub(crate) fn reached(
    crate_name: &str,
    edges: Edges,
    forbidden: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let edges = match edges {
        Edges::Shipped => "normal,build",
        Edges::WithTests => "normal,build,dev",
    };
    let tree = cargo(&[
        "tree",
        "--offline",
        "-p",
        crate_name,
        "-e",
        edges,
        "--prefix",
        "depth",
        "-f",
        " {p}",
    ]);
    forbidden_in(crate_name, &tree, forbidden)
}

/// Reads `cargo tree --prefix depth`: each line a depth, a space, a name.
pub(crate) fn forbidden_in(
    crate_name: &str,
    tree: &str,
    forbidden: impl Fn(&str) -> bool,
) -> Vec<Finding> {
    let mut path: Vec<&str> = Vec::new();
    let mut findings = Vec::new();
    assert!(tree.lines().count() > 1, "cargo tree says nothing of {crate_name}: {tree}");
    for line in tree.lines() {
        let mut words = line.split_whitespace();
        let (Some(depth), Some(name)) = (words.next(), words.next()) else { continue };
        let depth: usize = depth.parse().expect("each line opens with its depth");
        path.truncate(depth);
        path.push(name);
        if depth > 0 && forbidden(name) {
            let what = format!("reaches {name} ({})", path.join(" -> "));
            findings.push(Finding { file: format!("{crate_name} (Cargo.toml)"), line: 1, what });
        }
    }
    findings
}

/// The dependencies that a manifest of the workspace names itself and `forbidden(crate, dependency,
/// only for tests)` refuses.
pub(crate) fn direct(forbidden: impl Fn(&str, &str, bool) -> bool) -> Vec<Finding> {
    let metadata = cargo(&["metadata", "--no-deps", "--offline", "--format-version", "1"]);
    forbidden_direct(&metadata, forbidden)
}

pub(crate) fn forbidden_direct(
    metadata: &str,
    forbidden: impl Fn(&str, &str, bool) -> bool,
) -> Vec<Finding> {
    let metadata: Value = serde_json::from_str(metadata).expect("cargo metadata is JSON");
    let packages = metadata["packages"].as_array().expect("metadata has packages");
    assert!(!packages.is_empty(), "cargo metadata lists no package");
    let mut findings = Vec::new();
    for package in packages {
        let name = package["name"].as_str().expect("a package has a name");
        let dependencies = package["dependencies"].as_array().expect("a package has dependencies");
        for dependency in dependencies {
            let on = dependency["name"].as_str().expect("a dependency has a name");
            if forbidden(name, on, dependency["kind"] == "dev") {
                let what = format!("{name} depends on {on}");
                let file = package["manifest_path"].as_str().unwrap_or(name).to_owned();
                findings.push(Finding { file, line: 1, what });
            }
        }
    }
    findings
}
