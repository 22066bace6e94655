//! The query of a request.

use std::collections::BTreeMap;

/// A query as pairs; the first of a name counts.
pub(crate) fn pairs(query: Option<&str>) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        pairs.entry(name.into_owned()).or_insert_with(|| value.into_owned());
    }
    pairs
}
