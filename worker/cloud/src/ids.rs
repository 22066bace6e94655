//! Ids without randomness from outside: splitmix64 from a seed, so that a run can be replayed.

use serde::{Deserialize, Serialize};

/// A seeded generator of ids and of the model's few random choices.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Ids {
    state: u64,
}

impl Ids {
    /// The same seed gives the same ids.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True `per_mille` times in a thousand; draws nothing at 0, so that an option that is off
    /// changes no other id.
    pub fn chance(&mut self, per_mille: u16) -> bool {
        per_mille > 0 && self.draw() % 1000 < u64::from(per_mille)
    }

    /// An id in the shape of a version 4 UUID.
    pub fn uuid(&mut self) -> String {
        let (high, low) = (self.draw(), self.draw());
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            0x8000 | ((low >> 48) & 0x3fff),
            low & 0xffff_ffff_ffff
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_fixes_the_ids_and_no_two_are_alike() {
        let (mut left, mut right) = (Ids::new(7), Ids::new(7));
        let first = left.uuid();
        assert_eq!(first, right.uuid());
        assert_ne!(first, left.uuid());
        assert_eq!(first.len(), 36);
        assert_eq!(&first[14..15], "4");
    }
}
