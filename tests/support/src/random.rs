//! Numbers that look like chance and repeat with their seed.

/// A generator (xorshift64*, Vigna 2016). Small enough for an interrupt handler.
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// A generator whose numbers depend on the seed, and on which of several with this seed it is.
    pub const fn new(seed: u64, which: u64) -> Self {
        // Neighbouring seeds must not give neighbouring states, and zero is the one state that must not be.
        let mixed = seed.wrapping_add(which.wrapping_mul(0x9e37_79b9_7f4a_7c15)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Self((mixed ^ mixed >> 29) | 1)
    }

    /// The next number.
    pub const fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below `bound`.
    pub const fn below(&mut self, bound: u64) -> u64 {
        (self.next() >> 32) % bound
    }
}
