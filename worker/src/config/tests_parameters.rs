//! Rows: what a create may say, patterns, and bootstraps of the fleet's own.

#![allow(clippy::needless_pass_by_value)] // `expect![…]` reads best by value.

use std::path::PathBuf;

use expect_test::{Expect, expect};
use lamplighter_events::Command;
use lamplighter_lifecycle::Bootstrap;

use super::tests_services::variables;
use super::tests_templates::{check_line, fleet, its, template};
use super::{Config, load, parameters};

#[test]
fn parameters_are_checked() {
    let one = |table: &str| format!("[templates.a.parameters]\n{table}");
    check_line(
        &one("x = \"[a-z]+\""),
        expect![[
            r#"f.toml:5:5: templates.a.parameters.x: found the string "[a-z]+"; expected a table"#
        ]],
    );
    check_line(
        &one("x = {}"),
        expect![[
            r#"f.toml:5:1: templates.a.parameters.x: pattern is missing; expected a regular expression such as "[A-Za-z0-9_-]{1,128}""#
        ]],
    );
    check_line(
        &one("x = { pattern = \"[a-z]+\", requird = true }"),
        expect![[
            r#"f.toml:5:27: templates.a.parameters.x: unknown key "requird"; did you mean "required"?"#
        ]],
    );
    check_line(
        &one("x = { pattern = \"[a-z]+\", required = 1 }"),
        expect![
            "f.toml:5:38: templates.a.parameters.x.required: found the number 1; expected true or false"
        ],
    );
    check_line(
        &one("x = { pattern = \"[a-z]+\", default = \"A\" }"),
        expect![[
            r#"f.toml:5:37: templates.a.parameters.x.default: "A" does not match the pattern; expected what matches [a-z]+"#
        ]],
    );
    check_line(
        &one("x = { pattern = \"[a-z]+\", default = \"\" }"),
        expect![[
            r#"f.toml:5:37: templates.a.parameters.x.default: "" is not valid; expected text without control characters, of 1 to 1024 bytes"#
        ]],
    );
    check_line(
        &one("Blob = { pattern = \"[a-z]+\" }"),
        expect![[
            r#"f.toml:5:1: templates.a.parameters.Blob: the name is not valid; expected a name such as "blob_id": a letter, then small letters, digits and '_', at most 64"#
        ]],
    );
    check_line(
        &one("1x = { pattern = \"[a-z]+\" }"),
        expect![[
            r#"f.toml:5:1: templates.a.parameters.1x: the name is not valid; expected a name such as "blob_id": a letter, then small letters, digits and '_', at most 64"#
        ]],
    );
    check_line(
        &one("holder = { pattern = \"[a-z]+\" }"),
        expect![
            "f.toml:5:1: templates.a.parameters.holder: commands and answers have a field of that name already; expected another name"
        ],
    );
    check_line(
        &one("processing_status = { pattern = \"[a-z]+\" }"),
        expect![
            "f.toml:5:1: templates.a.parameters.processing_status: commands and answers have a field of that name already; expected another name"
        ],
    );
    let many: Vec<String> = (0..33).map(|n| format!("p{n} = {{ pattern = \"a\" }}")).collect();
    check_line(
        &one(&many.join("\n")),
        expect!["f.toml:4:1: templates.a.parameters: there are 33 parameters; expected at most 32"],
    );
    let two = one(
        "x = { pattern = \"[a-z]+\" }\ny = { pattern = \"[a-z]+\" }\nz = { pattern = \"[a-z]+\", default = \"d\" }",
    );
    let with = |line: &str| format!("{line}\n{two}");
    check_line(
        &with("dedupe = \"w\""),
        expect![[
            r#"f.toml:4:10: templates.a.dedupe: no parameter is named "w"; expected one of x, y, z"#
        ]],
    );
    check_line(
        &with("fixed = { w = \"1\" }\ndedupe = \"w\""),
        expect![
            "f.toml:5:10: templates.a.dedupe: its value is fixed, so every create would be the same; expected a parameter that creates differ in"
        ],
    );
    check_line(
        "dedupe = \"w\"",
        expect![[
            r#"f.toml:4:10: templates.a.dedupe: no parameter is named "w"; expected a parameter of this template, which has none"#
        ]],
    );
    check_line(
        &with("one_of = [\"x\"]"),
        expect![
            "f.toml:4:10: templates.a.one_of: names 1; expected two or more; one that must be there is required = true"
        ],
    );
    check_line(
        &with("one_of = [\"x\", \"w\"]"),
        expect![[
            r#"f.toml:4:16: templates.a.one_of[1]: no parameter is named "w"; expected one of x, y, z"#
        ]],
    );
    check_line(
        &with("one_of = [\"x\", \"x\"]"),
        expect!["f.toml:4:16: templates.a.one_of[1]: x is there already; expected each once"],
    );
    check_line(
        &with("one_of = [\"x\", \"z\"]"),
        expect![
            "f.toml:4:16: templates.a.one_of[1]: z has a value anyway, so nothing would ever be missing; expected parameters without one"
        ],
    );
    check_line(
        &with("fixed = { x = \"1\" }"),
        expect![
            "f.toml:4:11: templates.a.fixed.x: it is among the parameters too, which a create may change; expected it once"
        ],
    );
    check_line(
        &with("fixed = { id = \"1\" }"),
        expect![
            "f.toml:4:11: templates.a.fixed.id: commands and answers have a field of that name already; expected another name"
        ],
    );
    check_line(
        &with("fixed = { w = \"\" }"),
        expect![[
            r#"f.toml:4:15: templates.a.fixed.w: "" is not valid; expected text without control characters, of 1 to 1024 bytes"#
        ]],
    );
    let long = "x".repeat(1024);
    let fixed = |n| format!("f{n} = \"{long}\"");
    check_line(
        &format!(
            "[templates.a.fixed]\n{}\n{}\n{}\n{}\nx = \"y\"",
            fixed(0),
            fixed(1),
            fixed(2),
            fixed(3)
        ),
        expect![
            "f.toml:4:1: templates.a.fixed: its values have 4097 bytes together; expected at most 4096"
        ],
    );
    let both = one("x = { pattern = \"[a-z]+\", required = true, default = \"d\" }");
    let config = fleet(&template(&both)).unwrap();
    assert!(!its(&config, "a").parameters["x"].required);
    expect![[r#"
        [
            "templates.a.parameters.x: required has no effect, since the default stands for it",
        ]
    "#]]
    .assert_debug_eq(&config.warnings);
}

#[track_caller]
fn check_pattern(pattern: &str, expected: Expect) {
    check_line(&format!("[templates.a.parameters]\nx = {{ pattern = '''{pattern}''' }}"), expected);
}

#[test]
fn patterns_that_cannot_be_or_take_too_much_are_refused() {
    check_pattern(
        "é[a-z",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "é[a-z", character 2: unclosed character class; expected a regular expression such as "[A-Za-z0-9_-]{1,128}""#
        ]],
    );
    check_pattern(
        "a)|(b",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "a)|(b", character 2: unopened group; expected a regular expression such as "[A-Za-z0-9_-]{1,128}""#
        ]],
    );
    check_pattern(
        "a{3,2}",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "a{3,2}", character 2: invalid repetition count range, the start must be <= the end; expected a regular expression such as "[A-Za-z0-9_-]{1,128}""#
        ]],
    );
    check_pattern(
        r"\p{Nothing}",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "\\p{Nothing}", character 1: Unicode property not found; expected a regular expression such as "[A-Za-z0-9_-]{1,128}""#
        ]],
    );
    check_pattern(
        r"(\pL{100}){100}",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "(\\pL{100}){100}" is too large, or cannot be matched whole; expected a regular expression such as "[A-Za-z0-9_-]{1,128}""#
        ]],
    );
    check_pattern(
        "(?x) a # all",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "(?x) a # all" is too large, or cannot be matched whole; expected a regular expression such as "[A-Za-z0-9_-]{1,128}""#
        ]],
    );
    check_pattern(
        "",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "" is not valid; expected a regular expression such as "[A-Za-z0-9_-]{1,128}", of 1 to 150 characters"#
        ]],
    );
    check_pattern(
        "[a-z]*",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "[a-z]*" takes an empty value; expected a regular expression such as "[A-Za-z0-9_-]{1,128}"; what may be left out is not required"#
        ]],
    );
    check_pattern(
        ".+",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: ".+" takes a carriage return, a double quote, a quote, a backquote by the way; expected the characters that a value may have, such as "[A-Za-z0-9_-]{1,128}"; one that is meant stands in the pattern itself"#
        ]],
    );
    check_pattern(
        "[^/]+",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "[^/]+" takes a line break, a carriage return, a double quote, a quote, a backquote by the way; expected the characters that a value may have, such as "[A-Za-z0-9_-]{1,128}"; one that is meant stands in the pattern itself"#
        ]],
    );
    check_pattern(
        r"[\w\s]+",
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "[\\w\\s]+" takes a line break, a carriage return by the way; expected the characters that a value may have, such as "[A-Za-z0-9_-]{1,128}"; one that is meant stands in the pattern itself"#
        ]],
    );
    check_pattern(
        &"a".repeat(151),
        expect![[
            r#"f.toml:5:17: templates.a.parameters.x.pattern: "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…" is not valid; expected a regular expression such as "[A-Za-z0-9_-]{1,128}", of 1 to 150 characters"#
        ]],
    );
    for good in
        ["[^\"'`\\n\\r]+", r"\w+", "[a-z' ]+", "(?i)a|b", "(a(b|c)?)+", r"[0-9]{1,3}(\.[0-9]+)?"]
    {
        let text = format!("[templates.a.parameters]\nx = {{ pattern = '''{good}''' }}");
        let refused = fleet(&template(&text)).err();
        assert!(refused.is_none(), "{good}: {refused:?}");
    }
    let config = fleet(&template(
        "bootstrap = { document = \"Doc\" }\n[templates.a.parameters]\nx = { pattern = \"[a-z$]+\" }\n\
         y = { pattern = \"[a-z]+\" }",
    ));
    expect![[r#"
        [
            "templates.a.parameters.x: its pattern takes what a shell reads, and SSM writes values into the script of Doc as they are",
        ]
    "#]].assert_debug_eq(&config.unwrap().warnings);
}

/// A folder of files beside a fleet file.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str, files: &[(&str, &[u8])]) -> Self {
        let path = std::env::temp_dir().join(format!("lamplighter-{name}-{}", std::process::id()));
        std::fs::create_dir_all(path.join("scripts")).unwrap();
        for (name, bytes) in files {
            std::fs::write(path.join(name), bytes).unwrap();
        }
        Self(path)
    }

    fn load(&self, bootstrap: &str) -> Result<Config, String> {
        let file = self.0.join("fleet.toml");
        std::fs::write(&file, template(&format!("bootstrap = {bootstrap}"))).unwrap();
        load(Some(&file), &variables(&[]))
            .map_err(|error| error.to_string().replace(&format!("{}/", self.0.display()), ""))
    }

    #[track_caller]
    fn check(&self, bootstrap: &str, expected: Expect) {
        expected.assert_eq(&self.load(bootstrap).unwrap_err());
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn a_script_of_the_fleet_s_own_lies_beside_its_file() {
    let large = "x".repeat(20_000);
    let folder = Folder::new(
        "scripts",
        &[
            ("scripts/up.sh", b"#!/bin/sh\necho up\n"),
            ("check.sh", b"true\n"),
            ("large.sh", large.as_bytes()),
            ("larger.sh", large.repeat(2).as_bytes()),
            ("empty.sh", b" \n"),
            ("zero.sh", b"a\0b"),
            ("windows.sh", b"#!/bin/sh\r\ntrue\r\n"),
            ("latin.sh", b"echo \xe9\n"),
            ("my script.sh", b"true\n"),
        ],
    );
    let config =
        folder.load("{ script = \"scripts/up.sh\", check = \"check.sh\", timeout = \"5m\" }");
    let spec = its(&config.unwrap(), "a");
    let up = Bootstrap::Script {
        name: "up.sh".to_owned(),
        script: "#!/bin/sh\necho up\n".to_owned(),
        check: "true\n".to_owned(),
    };
    assert_eq!((spec.bootstrap, spec.bootstrap_timeout.seconds()), (Some(up), 300));
    let config = folder.load("{ script = \"my script.sh\" }").unwrap();
    assert_eq!(its(&config, "a").bootstrap.unwrap().name(), "a");

    folder.check("{ script = \"down.sh\" }", expect![[r#"fleet.toml:4:24: templates.a.bootstrap.script: cannot read "down.sh": No such file or directory (os error 2); expected the path of a shell script, from the fleet file's folder on"#]]);
    folder.check("{ script = \"scripts\" }", expect![[r#"fleet.toml:4:24: templates.a.bootstrap.script: cannot read "scripts": it is not a file; expected the path of a shell script, from the fleet file's folder on"#]]);
    folder.check("{ script = \"empty.sh\" }", expect![[r#"fleet.toml:4:24: templates.a.bootstrap.script: "empty.sh" is empty; expected the path of a shell script, from the fleet file's folder on"#]]);
    folder.check("{ script = \"zero.sh\" }", expect![[r#"fleet.toml:4:24: templates.a.bootstrap.script: "zero.sh" has a zero byte, which no script has; expected the path of a shell script, from the fleet file's folder on"#]]);
    folder.check("{ script = \"windows.sh\" }", expect![[r#"fleet.toml:4:24: templates.a.bootstrap.script: "windows.sh" has the line ends of Windows, which no shell reads; expected the path of a shell script, from the fleet file's folder on"#]]);
    folder.check("{ script = \"latin.sh\" }", expect![[r#"fleet.toml:4:24: templates.a.bootstrap.script: cannot read "latin.sh": stream did not contain valid UTF-8; expected the path of a shell script, from the fleet file's folder on"#]]);
    folder.check("{ script = \"larger.sh\" }", expect![[r#"fleet.toml:4:24: templates.a.bootstrap.script: "larger.sh" is too large; expected at most 24576 bytes, as SSM takes them"#]]);
    folder.check("{ script = \"large.sh\", check = \"large.sh\" }", expect!["fleet.toml:4:24: templates.a.bootstrap.script: the script and its check have 40000 bytes; expected at most 24576, as SSM takes them"]);
    folder.check("{ script = \"check.sh\", timeout = \"25h\" }", expect![[r#"fleet.toml:4:46: templates.a.bootstrap.timeout: "25h" is not valid; expected whole seconds, up to 24h"#]]);
    folder.check("{ script = \"check.sh\", timeout = \"1500ms\" }", expect![[r#"fleet.toml:4:46: templates.a.bootstrap.timeout: "1500ms" is not valid; expected whole seconds, up to 24h"#]]);
    folder.check("{ script = \"check.sh\", document = \"Doc\" }", expect![[r#"fleet.toml:4:1: templates.a.bootstrap: it must say in one way what is run; expected "walrus", or { script = "path" }, or { document = "name or ARN" }"#]]);
    folder.check("{ document = \"Doc\", check = \"check.sh\" }", expect!["fleet.toml:4:33: templates.a.bootstrap.check: a check runs after a script of the fleet's own; expected it only beside script"]);
    folder.check("{ document = \"a b\" }", expect![[r#"fleet.toml:4:26: templates.a.bootstrap.document: "a b" is not valid; expected an SSM document's name or ARN: 3 to 200 letters, digits and _-.:/"#]]);
    folder.check("{ name = \"nginx\" }", expect![[r#"fleet.toml:4:22: templates.a.bootstrap.name: no bootstrap "nginx" is shipped; expected "walrus", or { script = "path" }, or { document = "name or ARN" }"#]]);
    folder.check("{}", expect![[r#"fleet.toml:4:1: templates.a.bootstrap: it must say in one way what is run; expected "walrus", or { script = "path" }, or { document = "name or ARN" }"#]]);
    folder.check("3", expect![[r#"fleet.toml:4:13: templates.a.bootstrap: found the number 3; expected "walrus", or { script = "path" }, or { document = "name or ARN" }"#]]);
}

#[test]
fn no_parameter_can_hide_a_field_of_a_command() {
    for name in parameters::RESERVED {
        let text = format!("[templates.a.parameters]\n{name} = {{ pattern = \"[a-z]+\" }}");
        let words = fleet(&template(&text)).unwrap_err().to_string();
        assert!(words.contains("already"), "{name}: {words}");
    }
    // What a create takes for a field of its own is none of its parameters.
    for name in
        ["action", "target", "instance_id", "cluster", "service_name", "id", "holder", "for"]
    {
        assert!(parameters::RESERVED.contains(&name), "{name}");
        let body = serde_json::json!({ "action": "create", name: "x" });
        let taken = Command::from_json(&body).is_ok_and(|it| it.parameters.contains_key(name));
        assert!(!taken, "{name}");
    }
}
