//! What the model reads from a command: a script's variables, or the parameters of a fleet's own document.
//!
//! Nothing is run by a shell. The lines are those of the project's own scripts, read at the start of a line
//! alone; a document's parameters have the same names, in any case and with or without underscores.

use std::collections::BTreeMap;

use crate::machines::{Machine, unit_name};
use crate::units::{Unit, UnitState};

/// The document that every account has.
pub const DOCUMENT: &str = "AWS-RunShellScript";

/// The variables.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Script<'a> {
    /// What makes it run once on a machine.
    pub(crate) token: Option<&'a str>,
    unit: Option<&'a str>,
    /// How long the machine must have run before the answer.
    pub(crate) settle_seconds: i64,
    is_enabled: bool,
    of_the_fleet: bool,
    /// The name of a bootstrap, where it is one.
    pub(crate) bootstrap: Option<&'a str>,
    /// When a bootstrap gives up.
    pub(crate) timeout_seconds: Option<i64>,
    /// A bootstrap's environment.
    pub(crate) environment_base64: &'a str,
}

impl<'a> Script<'a> {
    /// Of a document and its parameters.
    pub(crate) fn of(document: &'a str, parameters: &'a BTreeMap<String, Vec<String>>) -> Self {
        if document == DOCUMENT {
            return Self::read(parameters.get("commands").map_or(&[], Vec::as_slice));
        }
        let mut script = Self { bootstrap: Some(document), ..Self::default() };
        for (name, values) in parameters {
            let Some(value) = values.first() else { continue };
            let name: String = name.chars().filter(|it| *it != '_').collect();
            match name.to_ascii_lowercase().as_str() {
                "token" => script.token = Some(value),
                "bootstrap" => script.bootstrap = Some(value),
                "timeoutseconds" => script.timeout_seconds = value.parse().ok(),
                "environmentbase64" => script.environment_base64 = value,
                _ => {}
            }
        }
        script
    }

    fn read(commands: &'a [String]) -> Self {
        let mut script = Self::default();
        for line in commands.iter().flat_map(|text| text.lines()) {
            let Some((name, value)) = line.split_once('=') else { continue };
            let value = value.trim_end();
            let quoted = value.strip_prefix('\'').and_then(|it| it.split('\'').next());
            match (name, quoted) {
                ("token", Some(token)) => script.token = Some(token),
                ("unit", Some(unit)) => script.unit = Some(unit),
                ("script_base64", Some(_)) => script.of_the_fleet = true,
                ("check", Some(check)) => script.is_enabled = check == "is-enabled",
                ("bootstrap", Some(name)) => script.bootstrap = Some(name),
                ("environment_base64", Some(text)) => script.environment_base64 = text,
                ("settle_seconds", _) => {
                    script.settle_seconds = quoted.unwrap_or(value).parse().unwrap_or(0);
                }
                ("timeout_seconds", _) => {
                    script.timeout_seconds = quoted.unwrap_or(value).parse().ok();
                }
                _ => {}
            }
        }
        script
    }

    /// The exit code and what is printed, as systemctl gives them.
    pub(crate) fn run(&self, machine: &Machine) -> (i64, String) {
        if self.of_the_fleet {
            let code = machine.behaviour.host_exit.unwrap_or(0);
            let output = machine.behaviour.host_output.as_deref().unwrap_or_default();
            return (0, format!("lamplighter-exit {code} {output}\n"));
        }
        let Some(name) = self.unit else { return (0, String::new()) };
        let unit = machine.units.get(unit_name(name));
        if self.is_enabled {
            return match unit {
                Some(unit) if unit.seed.enabled => (0, "enabled\n".to_owned()),
                Some(_) => (1, "disabled\n".to_owned()),
                None => (1, "not-found\n".to_owned()),
            };
        }
        match unit {
            Some(Unit { state: UnitState::Active, .. }) => (0, "active\n".to_owned()),
            Some(unit) => (3, format!("{}\n", unit.state.word())),
            None => (4, "unknown\n".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_count_at_the_start_of_a_line_only() {
        let lines = vec![
            "#!/bin/sh\ntoken='abc-1'\nunit='web.service'\n".to_owned(),
            "settle_seconds=10\n  unit='indented'\necho token='no'".to_owned(),
        ];
        let script = Script::read(&lines);
        assert_eq!(script.token, Some("abc-1"));
        assert_eq!(script.unit, Some("web.service"));
        assert_eq!(script.settle_seconds, 10);
        assert!(!script.is_enabled);
        assert_eq!(script.bootstrap, None);
    }

    #[test]
    fn a_document_of_the_fleets_is_a_bootstrap_of_its_own_name() {
        let parameters = [("Token", "t"), ("timeoutSeconds", "5"), ("environment_base64", "QQ==")];
        let parameters =
            parameters.map(|(name, value)| (name.to_owned(), vec![value.to_owned()])).into();
        let script = Script::of("Fleet-Setup", &parameters);
        assert_eq!((script.bootstrap, script.token), (Some("Fleet-Setup"), Some("t")));
        assert_eq!((script.timeout_seconds, script.environment_base64), (Some(5), "QQ=="));
    }
}
