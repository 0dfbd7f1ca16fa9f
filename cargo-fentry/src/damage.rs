//! Damage for files that a tool must read or refuse, whatever is in them: for tests, and for whoever fuzzes with it.

use std::time::Duration;

/// Xorshift64*: repeats from its seed.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    /// Any number.
    #[expect(clippy::should_implement_trait, reason = "it has no end")]
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`, or 0.
    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }
}

/// How long the tests of damaged files go on, where `FENTRY_DAMAGE_SECONDS` says so, instead of for their usual rounds:
/// `FENTRY_DAMAGE_SECONDS=600 cargo test --package cargo-fentry damaged -- --nocapture`.
pub fn seconds_of_damage() -> Option<Duration> {
    std::env::var("FENTRY_DAMAGE_SECONDS").ok()?.parse().ok().map(Duration::from_secs)
}

/// Changes one byte.
pub fn change_bytes(file: &mut [u8], random: &mut Random) {
    let at = random.below(file.len());
    if let Some(byte) = file.get_mut(at) {
        *byte = random.next() as u8;
    }
}

/// Changes an aligned field of 1, 2, 4 or 8 bytes in a part of the file.
pub fn change_field(file: &mut [u8], start: usize, bytes: usize, random: &mut Random) {
    let width = 1 << random.below(4);
    let at = start.saturating_add(random.below(bytes) / width * width);
    let old = number(file, at, width);
    let new = match random.below(10) {
        0 => 0,
        1 => u64::MAX,
        2 => 1 << random.below(64),
        3 => (1_u64 << random.below(64)).wrapping_sub(1),
        4 => old.wrapping_add(1),
        5 => old.wrapping_sub(1),
        6 => random.next() % 64,
        7 => file.len() as u64,
        8 => number(file, start.saturating_add(random.below(bytes) / width * width), width),
        _ => random.next(),
    };
    if let Some(field) = at.checked_add(width).and_then(|end| file.get_mut(at..end)) {
        field.copy_from_slice(&new.to_le_bytes()[..width]);
    }
}

/// The little-endian number at a place of the file; 0 beyond its end.
pub fn number(file: &[u8], at: usize, width: usize) -> u64 {
    let mut bytes = [0; 8];
    if let Some(field) = at.checked_add(width).and_then(|end| file.get(at..end)) {
        bytes[..width].copy_from_slice(field);
    }
    u64::from_le_bytes(bytes)
}
