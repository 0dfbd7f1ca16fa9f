//! Work of the usual kinds, whose answers are known: what it answers unhooked.

use alloc::collections::BTreeMap;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;
use support::random::Random;

/// Makes a text, counts its words, sorts, prints and parses; a digest of all of it.
#[inline(never)]
pub(crate) fn work(seed: u64) -> u64 {
    let mut random = Random::new(seed, 7);
    let text = text(&mut random);
    let report = print(&rank(count_words(&text)));
    let numbers = sorted(&mut random);
    assert!(numbers.is_sorted());
    fold(&report) ^ numbers.iter().fold(recurse(seed % 12), |sum, n| sum.rotate_left(5) ^ n) ^ average(&numbers)
}

/// What an interrupt handler does.
#[inline(never)]
pub(crate) fn a_little_work(seed: u64) {
    let text = seed.to_string();
    assert_eq!(text.parse(), Ok(seed));
}

fn text(random: &mut Random) -> String {
    let words: Vec<String> = (0..24).map(|_| word(random)).collect();
    words.join(" ")
}

#[inline(never)]
fn word(random: &mut Random) -> String {
    let letters = 1 + random.below(3);
    (0..letters).map(|_| char::from(b'a' + random.below(4) as u8)).collect()
}

#[inline(never)]
fn count_words(text: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word.to_uppercase()).or_insert(0) += 1;
    }
    counts
}

#[inline(never)]
fn rank(counts: BTreeMap<String, u32>) -> Vec<(String, u32)> {
    let mut ranking: Vec<_> = counts.into_iter().collect();
    ranking.sort_by(|(a, many), (b, more)| more.cmp(many).then_with(|| a.cmp(b)));
    ranking
}

#[inline(never)]
fn print(ranking: &[(String, u32)]) -> String {
    let mut report = String::new();
    for (word, count) in ranking {
        let _ = write!(report, "{word:>4}: {count:#x} {:.2}; ", f64::from(*count) / 24.0);
    }
    report
}

#[inline(never)]
fn sorted(random: &mut Random) -> Vec<u64> {
    let mut numbers: Vec<u64> = (0..40).map(|_| random.next()).collect();
    numbers.sort_unstable();
    numbers
}

/// The results of floating-point functions are in q0.
#[inline(never)]
fn average(numbers: &[u64]) -> u64 {
    numbers.iter().map(|n| half(*n as f64)).sum::<f64>().to_bits()
}

#[inline(never)]
fn half(n: f64) -> f64 {
    black_box(n) / 2.0
}

#[inline(never)]
fn recurse(depth: u64) -> u64 {
    if depth == 0 { 1 } else { black_box(recurse(depth - 1)).wrapping_mul(31) ^ depth }
}

#[inline(never)]
fn fold(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}
