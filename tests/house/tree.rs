//! What lies in the repository: read from the disk, not from git, so that a file is checked before it
//! is committed and in an unpacked archive too.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::rules::Finding;

/// Folders that tools make and git ignores.
const MADE_BY_TOOLS: [&str; 6] =
    [".git", "target", ".venv", ".lamplighter", "__pycache__", "node_modules"];

/// A text file of the repository.
#[derive(Debug, Clone)]
pub(crate) struct File {
    /// Relative to the root, with `/`.
    pub(crate) path: String,
    pub(crate) text: String,
}

pub(crate) fn root() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().expect("the tests crate lies one below the root").to_path_buf()
}

fn made_by_tools(name: &str) -> bool {
    MADE_BY_TOOLS.contains(&name) || name.ends_with(".swp")
}

fn entries(folder: &Path) -> Vec<(String, PathBuf)> {
    let read = fs::read_dir(folder)
        .unwrap_or_else(|error| panic!("cannot list {}: {error}", folder.display()));
    let mut entries: Vec<(String, PathBuf)> = read
        .map(|entry| entry.unwrap_or_else(|error| panic!("{}: {error}", folder.display())))
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, _)| !made_by_tools(name))
        .collect();
    entries.sort();
    entries
}

/// The names at the top level that git would take.
pub(crate) fn top_level() -> Vec<String> {
    entries(&root()).into_iter().map(|(name, _)| name).collect()
}

fn collect(folder: &Path, prefix: &str, files: &mut Vec<File>) {
    for (name, path) in entries(folder) {
        let relative = format!("{prefix}{name}");
        if path.is_dir() {
            collect(&path, &format!("{relative}/"), files);
        } else if let Ok(bytes) = fs::read(&path) {
            // Lossy: a fixture may be deliberately no UTF-8, and a file that another process has just
            // taken away is no fault of the house.
            files.push(File { path: relative, text: String::from_utf8_lossy(&bytes).into_owned() });
        }
    }
}

pub(crate) fn files() -> Vec<File> {
    let mut files = Vec::new();
    collect(&root(), "", &mut files);
    files
}

pub(crate) fn rust_files() -> Vec<File> {
    let files: Vec<File> = files().into_iter().filter(|file| file.path.ends_with(".rs")).collect();
    assert!(files.len() > 50, "found only {} Rust files: is the root wrong?", files.len());
    files
}

/// Everything that is meant to be run by name.
pub(crate) fn scripts() -> Vec<PathBuf> {
    let folders = [root().join("scripts"), root().join(".ci")];
    folders
        .iter()
        .flat_map(|folder| entries(folder))
        .map(|(_, path)| path)
        .filter(|path| path.is_file() && path.extension().is_none())
        .collect()
}

/// Why this script could not be run.
pub(crate) fn script_faults(path: &Path) -> Vec<Finding> {
    let name = path.strip_prefix(root()).unwrap_or(path).display().to_string();
    let finding = |what: String| Finding { file: name.clone(), line: 1, what };
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => return vec![finding(format!("cannot be read: {error}"))],
    };
    let mut faults = Vec::new();
    if !executable(path) {
        faults.push(finding("is not executable (chmod +x)".to_owned()));
    }
    let opening = text.lines().next().unwrap_or_default();
    let shell = match opening {
        "#!/bin/sh" => "sh",
        "#!/usr/bin/env bash" => "bash",
        _ => {
            let want = "`#!/bin/sh` or `#!/usr/bin/env bash`";
            faults.push(finding(format!("opens with `{opening}`, expected {want}")));
            return faults;
        }
    };
    match Command::new(shell).arg("-n").arg(path).output() {
        Ok(output) if output.status.success() => {}
        Ok(output) => faults.push(finding(String::from_utf8_lossy(&output.stderr).into_owned())),
        Err(error) => faults.push(finding(format!("cannot run {shell} -n: {error}"))),
    }
    faults
}

#[cfg(unix)]
fn executable(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    fs::metadata(path).is_ok_and(|data| data.permissions().mode() & 0o111 == 0o111)
}

#[cfg(not(unix))]
fn executable(_: &Path) -> bool {
    true
}
