//! How many bytes a value has as JSON.

use std::io;

use serde::Serialize;

/// Counts what would be written.
struct Count(usize);

impl io::Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// How many bytes it has as JSON.
pub(crate) fn json_bytes<T: Serialize + ?Sized>(value: &T) -> usize {
    let mut count = Count(0);
    match serde_json::to_writer(&mut count, value) {
        Ok(()) => count.0,
        // What cannot be written has no size; the store says so.
        Err(_) => usize::MAX / 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_counted_as_it_is_written() {
        for value in [serde_json::json!({}), serde_json::json!({ "a": ["\"∞\n", 1.5, null] })] {
            assert_eq!(json_bytes(&value), value.to_string().len());
        }
    }
}
