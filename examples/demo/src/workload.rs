//! Something small but real to trace: a sort, a tree, formatting.

use alloc::collections::BTreeMap;
use alloc::string::String;
use alloc::vec::Vec;
use core::fmt::Write;
use core::hint::black_box;

/// Counts the words of a text and prints the most frequent ones; returns the report.
#[inline(never)]
pub(crate) fn report(text: &str) -> String {
    let counts = count_words(text);
    let ranking = rank(counts);
    print(&ranking)
}

#[inline(never)]
fn count_words(text: &str) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(normalise(word)).or_insert(0) += 1;
    }
    counts
}

#[inline(never)]
fn normalise(word: &str) -> String {
    word.trim_matches(|c: char| !c.is_alphabetic()).to_lowercase()
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
    let total: u32 = ranking.iter().map(|(_, count)| count).sum();
    for (word, count) in ranking.iter().take(3) {
        let share = f64::from(*count) / f64::from(total);
        let _ = write!(report, "{word}: {count} ({share:.2}), ");
    }
    let _ = write!(report, "{} words in all", ranking.len());
    report
}

/// A price with its discount: what the demo changes an argument of.
#[inline(never)]
pub(crate) extern "C" fn price(quantity: u64, each: u64) -> u64 {
    black_box(quantity) * each
}

/// A die: what the demo answers for.
#[inline(never)]
pub(crate) extern "C" fn roll(sides: u64) -> u64 {
    black_box(sides) / 2 + 1
}

/// What is put in the place of [`roll`].
#[inline(never)]
pub(crate) extern "C" fn loaded_roll(sides: u64) -> u64 {
    black_box(sides)
}

/// The text that the demo counts the words of.
pub(crate) const TEXT: &str = "A callsite is the place where a function begins; the stub is where the call goes, \
                               and the function that is called does not see the difference. While nobody looks, two \
                               instructions are all that it costs: one keeps the return address, the other does \
                               nothing. When somebody looks, the one that does nothing becomes a call, in one store, \
                               while every other processor may be running it.";
