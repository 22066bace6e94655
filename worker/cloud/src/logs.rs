//! CloudWatch Logs, as far as a check needs it: which log groups exist.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

/// The names of the log groups that exist.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct LogGroups {
    names: BTreeSet<String>,
}

impl LogGroups {
    /// Makes a group known.
    pub fn insert(&mut self, name: &str) {
        self.names.insert(name.to_owned());
    }

    /// Forgets a group; whether it was there.
    pub fn remove(&mut self, name: &str) -> bool {
        self.names.remove(name)
    }

    /// The groups whose names begin with `prefix`, after `after`, at most `limit`; the second part
    /// says whether there are more.
    #[must_use]
    pub fn describe(&self, prefix: &str, after: Option<&str>, limit: usize) -> (Vec<String>, bool) {
        let mut matching = self
            .names
            .iter()
            .filter(|name| name.starts_with(prefix))
            .filter(|name| after.is_none_or(|after| name.as_str() > after));
        let page: Vec<String> = matching.by_ref().take(limit).cloned().collect();
        (page, matching.next().is_some())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_prefix_and_paged() {
        let mut groups = LogGroups::default();
        for name in ["/app/a", "/app/b", "/other"] {
            groups.insert(name);
        }
        assert_eq!(groups.describe("/app", None, 1), (vec!["/app/a".to_owned()], true));
        assert!(groups.remove("/other") && !groups.remove("/other"));
        assert_eq!(groups.describe("/app", Some("/app/a"), 9), (vec!["/app/b".to_owned()], false));
    }
}
