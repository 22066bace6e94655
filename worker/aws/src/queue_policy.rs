//! One statement of ours in a queue's policy, beside whatever others wrote there.
//!
//! *Invariant.* What others wrote is kept as it is, statement by statement. A policy that cannot be read is not
//! replaced: it may be all that keeps strangers from the queue.

use serde_json::{Map, Value};

/// Why a policy is left alone.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the queue's policy cannot be read and was left alone: {problem}; expected a JSON object whose \"Statement\" \
     is a statement or a list of statements: correct the queue's attribute Policy, or remove it"
)]
pub struct UnreadablePolicy {
    problem: &'static str,
}

/// The policy with our statement as it should be (`None`: without it); `Ok(None)`: it is so already.
///
/// # Errors
/// Where what was found is no policy.
pub(crate) fn merged(
    found: Option<&str>,
    sid: &str,
    wanted: Option<Value>,
) -> Result<Option<String>, UnreadablePolicy> {
    let mut policy = read(found)?;
    let before = match policy.remove("Statement") {
        None => Vec::new(),
        Some(Value::Array(statements)) => statements,
        // IAM takes a single one without its list.
        Some(single) => vec![single],
    };
    if before.iter().any(|statement| !statement.is_object()) {
        return Err(UnreadablePolicy { problem: "a statement is no JSON object" });
    }
    let (ours, mut after): (Vec<Value>, Vec<Value>) =
        before.into_iter().partition(|statement| statement["Sid"] == sid);
    if ours == Vec::from_iter(wanted.clone()) {
        return Ok(None);
    }
    after.extend(wanted);
    // SQS writes a policy without statements as an empty text.
    if after.is_empty() {
        return Ok(Some(String::new()));
    }
    policy.entry("Version").or_insert_with(|| "2012-10-17".into());
    policy.insert("Statement".to_owned(), after.into());
    Ok(Some(Value::Object(policy).to_string()))
}

fn read(found: Option<&str>) -> Result<Map<String, Value>, UnreadablePolicy> {
    match found.map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(Map::new()),
        Some(text) => match serde_json::from_str(text) {
            Ok(Value::Object(policy)) => Ok(policy),
            Ok(_) => Err(UnreadablePolicy { problem: "it is no JSON object" }),
            Err(_) => Err(UnreadablePolicy { problem: "it is no JSON" }),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ours() -> Value {
        json!({"Sid": "Ours", "Effect": "Allow"})
    }

    #[track_caller]
    fn check(found: &str, wanted: Option<Value>, expected: &Value) {
        let merged = merged(Some(found), "Ours", wanted).unwrap().unwrap();
        let read: Value = serde_json::from_str(&merged).unwrap();
        assert_eq!(&read, expected, "{found}");
    }

    #[test]
    fn what_others_wrote_stays() {
        let deny = json!({"Sid": "OnlyTls", "Effect": "Deny"});
        let both = json!({"Version": "2012-10-17", "Statement": [deny, ours()]});
        for statement in [deny.clone(), json!([deny])] {
            let found = json!({"Version": "2012-10-17", "Statement": statement});
            check(&found.to_string(), Some(ours()), &both);
        }
        let alone = json!({"Version": "2012-10-17", "Statement": [deny]});
        check(&both.to_string(), None, &alone);
        let old = json!({"Version": "2008-10-17", "Id": "i", "Statement": []});
        let expected = json!({"Version": "2008-10-17", "Id": "i", "Statement": [ours()]});
        check(&old.to_string(), Some(ours()), &expected);
    }

    #[test]
    fn our_own_statement_is_replaced_and_a_second_look_changes_nothing() {
        let old = json!({"Version": "2012-10-17", "Statement": {"Sid": "Ours", "Effect": "Deny"}});
        let expected = json!({"Version": "2012-10-17", "Statement": [ours()]});
        check(&old.to_string(), Some(ours()), &expected);
        let text = expected.to_string();
        assert_eq!(merged(Some(&text), "Ours", Some(ours())), Ok(None));
        assert_eq!(merged(Some(&text), "Ours", None), Ok(Some(String::new())));
        assert_eq!(merged(None, "Ours", None), Ok(None));
        assert_eq!(merged(Some(""), "Ours", None), Ok(None));
    }

    #[test]
    fn a_policy_that_cannot_be_read_is_refused() {
        for (found, problem) in [
            ("{\"Statement\": [", "it is no JSON;"),
            ("[]", "it is no JSON object"),
            (r#"{"Statement": "Deny"}"#, "a statement is no JSON object"),
            (r#"{"Statement": [null]}"#, "a statement is no JSON object"),
        ] {
            let error = merged(Some(found), "Ours", Some(ours())).unwrap_err().to_string();
            assert!(error.contains(problem) && error.contains("left alone"), "{found}: {error}");
        }
    }
}
