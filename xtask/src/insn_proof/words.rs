//! The words that are compared.

use std::collections::BTreeSet;

use fentry::insn::Insn;

/// How many words go to a tool at a time.
const BATCH: usize = 250_000;

/// Numbers that look random and are the same every time: a Weyl sequence, mixed.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x2545_f491_4f6c_dd1d))
    }

    pub(super) fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed = (mixed ^ mixed >> 32).wrapping_mul(0xd6e8_feb8_6659_fd93);
        (mixed >> 32) as u32
    }
}

/// Words, in pieces that a tool takes at once.
#[derive(Debug)]
pub(super) enum Words {
    /// So many random ones from a seed.
    Random { seed: u64, count: u64 },
    /// These.
    Listed(Vec<u32>),
}

/// One piece of the words.
#[derive(Debug)]
pub(super) enum Piece<'a> {
    Random { seed: u64, count: usize },
    Listed(&'a [u32]),
}

impl Words {
    pub(super) fn random(seed: u64, count: u64) -> Self {
        Self::Random { seed, count }
    }

    pub(super) fn pieces(&self) -> Vec<Piece<'_>> {
        match self {
            Self::Listed(words) => words.chunks(BATCH).map(Piece::Listed).collect(),
            Self::Random { seed, count } => (0..count.div_ceil(BATCH as u64))
                .map(|number| {
                    let left = count - number * BATCH as u64;
                    let count = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
                    Piece::Random { seed: (seed << 20) + number, count }
                })
                .collect(),
        }
    }
}

impl Piece<'_> {
    pub(super) fn words(&self) -> Vec<u32> {
        match self {
            Self::Listed(words) => words.to_vec(),
            Self::Random { seed, count } => {
                let mut random = Random::new(*seed);
                (0..*count).map(|_| random.next()).collect()
            }
        }
    }
}

/// One of these for each kind of instruction: the class, the mnemonic and the shape of the operands.
fn kind(insn: &Insn) -> String {
    let text = insn.to_string();
    let mut shape = String::with_capacity(text.len());
    let (mut in_number, mut hexadecimal) = (false, false);
    for letter in text.chars() {
        // A number is its digits, a hexadecimal one its letters, too; the sign is not part of the shape.
        hexadecimal = in_number && (hexadecimal || (letter == 'x' && shape.ends_with("#0")));
        let digit = letter.is_ascii_digit() || (hexadecimal && (letter == 'x' || letter.is_ascii_hexdigit()));
        if digit && !in_number {
            shape.push('0');
        }
        if !digit && letter != '-' {
            shape.push(letter);
        }
        in_number = digit;
    }
    shape
}

/// Words of every kind that turned up among many random ones, one to three of each kind.
pub(super) fn representatives(seed: u64, each: usize) -> Vec<u32> {
    let mut random = Random::new(seed);
    let mut seen = std::collections::HashMap::<String, usize>::new();
    let mut found = Vec::new();
    for word in corners() {
        consider(word, each, &mut seen, &mut found);
    }
    // Each encoding class of bits 28 to 24 gets its share, and the crowded system space a large one.
    for _ in 0..60_000 {
        for class in 0..32 {
            let word = random.next() & !(31 << 24) | class << 24;
            consider(word, each, &mut seen, &mut found);
        }
        for (fixed, free) in CROWDED {
            consider(fixed | random.next() & free, each, &mut seen, &mut found);
        }
    }
    found
}

/// Corners of the encoding space that random words rarely hit: the fixed bits, and those that vary.
const CROWDED: [(u32, u32); 12] = [
    (0xd503_2000, 0x0000_1fff),
    (0xd503_201f, 0x0000_0fe0),
    (0xd503_301f, 0x0000_0fe0),
    (0xd500_401f, 0x0007_0fe0),
    (0xd508_0000, 0x0027_ffff),
    (0xd508_7000, 0x0007_0fff),
    (0xd510_0000, 0x002f_ffff),
    (0xd61f_0000, 0x01e0_ffff),
    (0xd400_0000, 0x00ff_ffff),
    (0xdac0_0000, 0x0001_ffff),
    (0x1e20_0000, 0xe0df_ffff),
    (0x0f00_0400, 0x6007_fbff),
];

/// Words whose text depends on two fields at once: all bitfield moves, and the others at each value of both fields.
fn corners() -> Vec<u32> {
    let mut words = Vec::new();
    for immr_imms in 0..1 << 12 {
        for base in [0x1300_0000, 0x3300_0000, 0x5300_0000, 0x9340_0000, 0xb340_0000, 0xd340_0000] {
            // With another register, and with the zero register, which has aliases of its own.
            words.extend([base | immr_imms << 10 | 1 << 5 | 2, base | immr_imms << 10 | 31 << 5 | 2]);
        }
    }
    for cond in 0..16 {
        for base in [0x1a80_0000, 0x1a80_0400, 0x5a80_0000, 0x5a80_0400, 0x9a80_0400, 0xda80_0400] {
            for (rn, rm) in [(1, 1), (31, 31), (1, 2), (31, 1)] {
                words.push(base | rm << 16 | cond << 12 | rn << 5 | 3);
            }
        }
    }
    // Extended registers beside SP and beside others.
    for extend_amount in 0..1 << 6 {
        for base in [0x0b20_0000, 0x2b20_0000, 0x4b20_0000, 0x6b20_0000, 0x8b20_0000, 0xab20_0000, 0xcb20_0000] {
            for (rd, rn) in [(1, 2), (31, 2), (1, 31), (31, 31)] {
                words.push(base | 3 << 16 | extend_amount << 10 | rn << 5 | rd);
            }
        }
    }
    words
}

fn consider(word: u32, each: usize, seen: &mut std::collections::HashMap<String, usize>, found: &mut Vec<u32>) {
    let insn = Insn::decode(word);
    if matches!(insn, Insn::Unknown { .. }) {
        return;
    }
    let count = seen.entry(kind(&insn)).or_default();
    if *count < each {
        *count += 1;
        found.push(word);
    }
}

/// The walk: from each representative, every bit flipped, and every field-sized run of bits at
/// its edges: zero, one, the middle, all but one, all. The walk leaves what is known and comes back, so that the borders of
/// each class are looked at from both sides.
pub(super) fn walk(seed: u64) -> Words {
    let mut words = BTreeSet::from_iter(corners());
    for word in representatives(seed, 1) {
        words.insert(word);
        for one in 0..32 {
            words.insert(word ^ 1 << one);
        }
        for lsb in 0..31 {
            for len in [2, 3, 4, 5, 6, 7, 9, 12, 16, 19, 26] {
                if lsb + len > 32 {
                    continue;
                }
                let mask = ((1u64 << len) - 1) as u32;
                let middle = 1 << (len - 1);
                for value in [0, 1, middle - 1, middle, mask - 1, mask] {
                    words.insert(word & !(mask << lsb) | value << lsb);
                }
            }
        }
    }
    Words::Listed(words.into_iter().collect())
}
