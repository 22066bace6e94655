//! The MD5 sums that SQS answers with and that SDKs verify.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lamplighter_cloud::queue::MessageAttribute;
use md5::{Digest as _, Md5};

/// The sum of a body, in hex.
pub(crate) fn of_body(body: &str) -> String {
    hex(&Md5::digest(body.as_bytes()))
}

/// The sum of message attributes: for each, in the order of the names, its name, its type, one byte for
/// the kind of transport, its value, each with its length before it. `None` where there are none.
pub(crate) fn of_attributes(attributes: &BTreeMap<String, MessageAttribute>) -> Option<String> {
    if attributes.is_empty() {
        return None;
    }
    let mut framed = Md5::new();
    for (name, attribute) in attributes {
        frame(&mut framed, name.as_bytes());
        frame(&mut framed, attribute.data_type.as_bytes());
        if let Some(base64) = &attribute.binary {
            framed.update([2]);
            frame(&mut framed, &STANDARD.decode(base64).unwrap_or_default());
        } else {
            framed.update([1]);
            frame(&mut framed, attribute.text.as_deref().unwrap_or_default().as_bytes());
        }
    }
    Some(hex(&framed.finalize()))
}

fn frame(sum: &mut Md5, bytes: &[u8]) {
    sum.update(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    sum.update(bytes);
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_aws() {
        assert_eq!(of_body("hello"), "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(of_attributes(&BTreeMap::new()), None);
    }
}
