//! `[schedules.NAME]`: what the tick of an EventBridge rule of that name means.
//!
//! Only the form of an expression is checked here, and far enough to catch what is commonly wrong;
//! whether a cron field makes sense is EventBridge's to say when the rule is made.

use lamplighter_events::{Command, TargetRef};
use lamplighter_runtime::Fleet;

use super::ConfigError;
use super::reader::{Item, one_of, shown};

const EXPRESSION: &str = "\"rate(5 minutes)\" or \"cron(0 23 * * ? *)\"";

/// Reads one schedule.
pub(crate) fn schedule(item: &Item<'_>, fleet: &Fleet) -> Result<(String, Command), ConfigError> {
    let name = item.key;
    let fits = (1..=64).contains(&name.len())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
    if !fits {
        return Err(item.refuse_key(
            "the name is not valid; expected a rule's name: 1 to 64 letters, digits, '.', '_' and '-'",
        ));
    }
    let reader = item.table(&["expression", "command"])?;
    let expression = reader.need("expression", EXPRESSION)?;
    let text = expression.string(EXPRESSION)?;
    if let Err(problem) = check_expression(text) {
        return Err(expression.refuse(&format!("\"{}\" {problem}", shown(text)), EXPRESSION));
    }
    let item = reader.need("command", "command = { action = \"…\" }")?;
    item.open_table()?;
    let command =
        Command::from_json(&item.json()?).map_err(|error| item.refuse_with(&error.message))?;
    if let Some(TargetRef::Name(target)) = &command.target
        && !fleet.targets.contains_key(target)
    {
        let known: Vec<&str> = fleet.targets.keys().map(|name| name.as_str()).collect();
        return Err(item.refuse(&format!("no target is named \"{target}\""), &one_of(&known)));
    }
    Ok((name.to_owned(), command))
}

/// The form of EventBridge's two sorts of expressions.
fn check_expression(text: &str) -> Result<(), &'static str> {
    if let Some(inner) = inside(text, "rate(") {
        let (amount, unit) = inner.split_once(' ').ok_or("has no unit")?;
        let amount: u32 = amount.parse().map_err(|_| "has no whole number")?;
        return match (amount, unit) {
            (0, _) => Err("never fires"),
            (1, "minute" | "hour" | "day") | (2.., "minutes" | "hours" | "days") => Ok(()),
            (1, "minutes" | "hours" | "days") => {
                Err("says 1 with a plural unit, which AWS refuses")
            }
            (_, "minute" | "hour" | "day") => Err("has a singular unit, which AWS refuses"),
            _ => Err("has an unknown unit"),
        };
    }
    let Some(inner) = inside(text, "cron(") else { return Err("is not an expression") };
    let fields: Vec<&str> = inner.split_whitespace().collect();
    let charset = |field: &str| {
        field.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"*?,-/#".contains(&byte))
    };
    match fields.as_slice() {
        [_, _, day, _, weekday, _] if fields.iter().all(|field| charset(field)) => {
            if (*day == "?") == (*weekday == "?") {
                Err("must have ? in exactly one of day of month and day of week")
            } else {
                Ok(())
            }
        }
        [_, _, _, _, _, _] => Err("has a character that no cron field has"),
        _ => Err("does not have six fields"),
    }
}

fn inside<'t>(text: &'t str, head: &str) -> Option<&'t str> {
    text.strip_prefix(head)?.strip_suffix(')')
}

#[cfg(test)]
mod tests {
    use super::check_expression;

    #[track_caller]
    fn check(text: &str, expected: Result<(), &str>) {
        assert_eq!(check_expression(text), expected, "{text}");
    }

    #[test]
    fn expressions_are_refused_for_what_is_commonly_wrong() {
        check("rate(5 minutes)", Ok(()));
        check("rate(1 hour)", Ok(()));
        check("rate(1 hours)", Err("says 1 with a plural unit, which AWS refuses"));
        check("rate(5 minute)", Err("has a singular unit, which AWS refuses"));
        check("rate(0 minutes)", Err("never fires"));
        check("rate(-5 minutes)", Err("has no whole number"));
        check("rate(5 parsecs)", Err("has an unknown unit"));
        check("rate(5)", Err("has no unit"));
        check("cron(0 23 * * ? *)", Ok(()));
        check("cron(0 8 ? * MON-FRI *)", Ok(()));
        check("cron(0 23 * * *)", Err("does not have six fields"));
        check(
            "cron(0 23 * * * *)",
            Err("must have ? in exactly one of day of month and day of week"),
        );
        check("cron(0 23 * * ? $)", Err("has a character that no cron field has"));
        check("every monday", Err("is not an expression"));
        check("", Err("is not an expression"));
    }
}
