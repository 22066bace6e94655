//! The order of a crate's modules: who uses whom, and that nobody uses anybody in a circle.
//!
//! The rule holds level by level: of the children of a module, each with everything beneath it, none uses another
//! that leads back to it. A module and its own child may use each other. A name that is re-exported counts as a use
//! of the module that defines it. Tests may use what they like.
//!
//! Not a compiler: a name that a macro makes, or that a glob brings in, is not followed.

use std::collections::{BTreeMap, BTreeSet};

use crate::code::{blanked, is_word};
use crate::rules::Finding;
use crate::tree::File;

type Path = Vec<String>;

#[derive(Debug, Default)]
struct Module {
    file: String,
    /// What it names, and on which line.
    named: Vec<(Path, usize)>,
    /// What others find here, though it is defined elsewhere.
    exports: BTreeMap<String, Path>,
}

/// The circles in the crate whose files these are; `root` is the folder of its `lib.rs` or `main.rs`.
pub(crate) fn circles(root: &str, files: &[File]) -> Vec<Finding> {
    let modules: BTreeMap<Path, Module> = files
        .iter()
        .filter_map(|file| Some((path_of(file.path.strip_prefix(root)?)?, read(file))))
        .collect();
    let mut uses: Vec<(&Path, Path, &Module, usize)> = Vec::new();
    for (path, module) in &modules {
        for (named, line) in &module.named {
            if let Some(found) = resolve(&modules, path, named) {
                uses.push((path, found, module, *line));
            }
        }
    }
    let parents: BTreeSet<&[String]> =
        modules.keys().filter_map(|path| Some(path.split_last()?.1)).collect();
    let mut found = Vec::new();
    for parent in parents {
        let child = |path: &Path| path.strip_prefix(parent)?.first().cloned();
        let mut edges: BTreeMap<(String, String), (&Module, usize)> = BTreeMap::new();
        for (from, to, module, line) in &uses {
            if let (Some(from), Some(to)) = (child(from), child(to))
                && from != to
            {
                edges.entry((from, to)).or_insert((module, *line));
            }
        }
        for (from, to) in in_circles(edges.keys().cloned().collect()) {
            let (module, line) = edges[&(from.clone(), to.clone())];
            let what = format!("`{from}` uses `{to}`, which leads back to it");
            found.push(Finding { file: module.file.clone(), line, what });
        }
    }
    found
}

/// The edges that are left once whoever uses nobody, or is used by nobody, is taken away with its edges.
fn in_circles(mut edges: BTreeSet<(String, String)>) -> BTreeSet<(String, String)> {
    loop {
        let users: BTreeSet<&String> = edges.iter().map(|(from, _)| from).collect();
        let used: BTreeSet<&String> = edges.iter().map(|(_, to)| to).collect();
        let left: BTreeSet<(String, String)> = edges
            .iter()
            .filter(|(from, to)| used.contains(from) && users.contains(to))
            .cloned()
            .collect();
        if left.len() == edges.len() {
            return left;
        }
        edges = left;
    }
}

/// `None` for tests.
fn path_of(file: &str) -> Option<Path> {
    let mut path: Path = file.strip_suffix(".rs")?.split('/').map(str::to_owned).collect();
    let tests = |name: &String| name == "tests" || name.starts_with("tests_");
    if path.iter().any(tests) {
        return None;
    }
    if matches!(path.last().map(String::as_str), Some("mod" | "lib" | "main")) {
        path.pop();
    }
    Some(path)
}

/// The module that defines what `from` names, where it is one of this crate.
fn resolve(modules: &BTreeMap<Path, Module>, from: &Path, named: &[String]) -> Option<Path> {
    let mut at = from.clone();
    let mut rest = named;
    match rest.first()?.as_str() {
        "crate" => at.clear(),
        "super" => {
            while let ["super", ..] = rest.iter().map(String::as_str).collect::<Vec<_>>()[..] {
                at.pop()?;
                rest = &rest[1..];
            }
            return follow(modules, at, rest, 0);
        }
        "self" => {}
        child => {
            at.push(child.to_owned());
            return modules.contains_key(&at).then(|| follow(modules, at, &rest[1..], 0))?;
        }
    }
    follow(modules, at, &rest[1..], 0)
}

fn follow(
    modules: &BTreeMap<Path, Module>,
    mut at: Path,
    rest: &[String],
    depth: usize,
) -> Option<Path> {
    for name in rest {
        let mut child = at.clone();
        child.push(name.clone());
        if modules.contains_key(&child) {
            at = child;
            continue;
        }
        let elsewhere = modules.get(&at).and_then(|module| module.exports.get(name));
        return match elsewhere {
            Some(path) if depth < 8 => resolve(modules, &at, path).or(Some(at)),
            _ => Some(at),
        };
    }
    Some(at)
}

fn read(file: &File) -> Module {
    let tokens = without_tests(&tokens(&blanked(&file.text)));
    let mut module = Module { file: file.path.clone(), ..Module::default() };
    let mut at = 0;
    let mut public = false;
    while at < tokens.len() {
        let (word, line) = (tokens[at].0.as_str(), tokens[at].1);
        match word {
            "pub" => {
                public = true;
                at += 1;
                if tokens.get(at).is_some_and(|(word, _)| word == "(") {
                    at += tokens[at..].iter().position(|(word, _)| word == ")").unwrap_or(0) + 1;
                }
                continue;
            }
            "use" => {
                at += 1;
                let mut paths = Vec::new();
                at = tree(&tokens, at, &Vec::new(), &mut paths);
                for (path, name) in paths {
                    if public {
                        module.exports.insert(name, path.clone());
                    }
                    module.named.push((path, line));
                }
            }
            _ if is_name(word) && !(at > 0 && matches!(tokens[at - 1].0.as_str(), "::" | ".")) => {
                let mut path = vec![word.to_owned()];
                while let (Some((colons, _)), Some((next, _))) =
                    (tokens.get(at + 1), tokens.get(at + 2))
                    && colons == "::"
                    && is_name(next)
                {
                    path.push(next.clone());
                    at += 2;
                }
                if path.len() > 1 {
                    module.named.push((path, line));
                }
                at += 1;
            }
            _ => at += 1,
        }
        public = false;
    }
    module
}

/// One tree of a `use`: its paths, each with the name under which it is known here. Returns where it ends.
fn tree(
    tokens: &[(String, usize)],
    mut at: usize,
    prefix: &Path,
    out: &mut Vec<(Path, String)>,
) -> usize {
    let mut path = prefix.clone();
    let mut name = None;
    while let Some((word, _)) = tokens.get(at) {
        at += 1;
        match word.as_str() {
            "::" => {}
            "{" => {
                while tokens.get(at).is_some_and(|(word, _)| word != "}") {
                    at = tree(tokens, at, &path, out);
                    if tokens.get(at).is_some_and(|(word, _)| word == ",") {
                        at += 1;
                    }
                }
                return at + 1;
            }
            "as" => {
                name = tokens.get(at).map(|(word, _)| word.clone());
                at += 1;
            }
            "," | "}" | ";" => {
                at -= 1;
                break;
            }
            word => path.push(word.to_owned()),
        }
    }
    if path.last().is_some_and(|last| last == "self") {
        path.pop();
    }
    if let Some(last) = path.last().cloned() {
        out.push((path, name.unwrap_or(last)));
    }
    at
}

fn is_name(word: &str) -> bool {
    word.starts_with(|c: char| c.is_alphabetic() || c == '_')
}

fn tokens(code: &str) -> Vec<(String, usize)> {
    let mut tokens: Vec<(String, usize)> = Vec::new();
    for (index, line) in code.lines().enumerate() {
        let mut rest = line.trim_start();
        while let Some(first) = rest.chars().next() {
            let length = if is_word(first) {
                rest.find(|c| !is_word(c)).unwrap_or(rest.len())
            } else if rest.starts_with("::") {
                2
            } else {
                first.len_utf8()
            };
            tokens.push((rest[..length].to_owned(), index + 1));
            rest = rest[length..].trim_start();
        }
    }
    tokens
}

/// Without what stands under `#[cfg(test)]`.
fn without_tests(tokens: &[(String, usize)]) -> Vec<(String, usize)> {
    let test = ["#", "[", "cfg", "(", "test", ")", "]"];
    let mut out = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while at < tokens.len() {
        let is_test = tokens.len() >= at + test.len()
            && tokens[at..].iter().zip(test).all(|((word, _), mark)| word == mark);
        if !is_test {
            out.push(tokens[at].clone());
            at += 1;
            continue;
        }
        let mut depth = 0_usize;
        for (word, _) in &tokens[at + test.len()..] {
            at += 1;
            match word.as_str() {
                "{" => depth += 1,
                "}" => depth = depth.saturating_sub(1),
                _ => {}
            }
            if depth == 0 && matches!(word.as_str(), "}" | ";") {
                break;
            }
        }
        at += test.len();
    }
    out
}
