//! Where accesses go, which registers they move, sums and signatures: the model against what LLVM's text of the same word
//! says, read here without the model.

use std::path::Path;

use anyhow::Result;
use fentry::insn::{DataRegister, Insn, Key, MemoryUse, Modifier, Moved, Place, Reg, RegOrSp, Signature, Sum, VReg};

use super::llvm;
use super::report::{Report, Step};
use super::words::{Random, Words};

/// How many words of the class are looked at, and at a time.
const UNKNOWN_PIECES: u64 = 8;
const UNKNOWN_WORDS: usize = 250_000;

/// What a text tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Told {
    place: Place,
    moved: Option<Moved>,
    sum: Option<Sum>,
    signature: Signature,
}

impl Told {
    const NOTHING: Self = Self { place: Place::None, moved: None, sum: None, signature: Signature::Kept };
}

pub(super) fn compare(llvm_mc: &Path, words: &Words, name: &str, jobs: usize, report: &mut Report) -> Result<()> {
    report.step(name, jobs, &words.pieces(), |piece| {
        let mut step = Step::default();
        let mut words = piece.words();
        words.retain(|word| !matches!(Insn::decode(*word), Insn::Unknown { .. }));
        for (word, text) in words.iter().zip(llvm::disassemble(llvm_mc, &words)?) {
            compare_one(*word, text.as_deref().unwrap_or_default(), &mut step);
        }
        Ok(step)
    })
}

/// What the model fears of words that it does not know, of the class of data processing on SIMD and floating-point registers,
/// against LLVM's text: that an access or a branch is not among them, and that the text begins with a general register where,
/// and only where, one is written.
pub(super) fn compare_unknown(llvm_mc: &Path, seed: u64, name: &str, jobs: usize, report: &mut Report) -> Result<()> {
    let seeds: Vec<u64> = (0..UNKNOWN_PIECES).map(|piece| seed << 20 | piece).collect();
    report.step(name, jobs, &seeds, |seed| {
        let mut step = Step::default();
        let mut random = Random::new(*seed);
        let words = (0..UNKNOWN_WORDS).map(|_| random.next() & !(7 << 25) | 7 << 25);
        let words: Vec<u32> = words.filter(|word| matches!(Insn::decode(*word), Insn::Unknown { .. })).collect();
        for (word, text) in words.iter().zip(llvm::disassemble(llvm_mc, &words)?) {
            let Some(text) = text else { continue };
            step.compared += 1;
            let (mnemonic, operands) = text.split_once(' ').unwrap_or((&text, ""));
            let operands = operands_of(operands);
            let is_compare = mnemonic.starts_with("fcmp") || mnemonic.starts_with("fccmp");
            let first = operands.first().filter(|_| !is_compare).and_then(|operand| result(operand));
            let written = match first {
                Some(DataRegister::General(reg)) => (reg.or_sp().map_or(0, |reg| 1 << reg.number()), 0),
                Some(DataRegister::Vector(reg)) => (0, 1 << reg.number()),
                None => (0, 0),
            };
            let effects = Insn::decode(*word).effects();
            let ours = (effects.writes.bits(), effects.vector_writes.bits());
            let is_access = operands.iter().any(|operand| operand.starts_with('['));
            if is_access || ours != written {
                step.disagree(|| format!("{word:#010x}: {text}: writes {ours:x?}"));
            }
        }
        Ok(step)
    })
}

fn compare_one(word: u32, text: &str, step: &mut Step) {
    step.compared += 1;
    step.known += 1;
    let effects = Insn::decode(word).effects();
    let mut ours = Told { place: effects.place, moved: effects.moved, sum: effects.sum, signature: effects.signature };
    // The text of cache maintenance names no place.
    if effects.memory == MemoryUse::Maintenance && ours.place == Place::Unknown {
        ours.place = Place::None;
    }
    let theirs = told(text);
    if Some(ours) != theirs {
        step.disagree(|| format!("{word:#010x}: {text}: {ours:?} | {theirs:?}"));
    }
}

/// What a text tells; `None` where it can't be read.
fn told(text: &str) -> Option<Told> {
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((text, ""));
    let operands = operands_of(operands);
    if let Some(signature) = signature(mnemonic, &operands) {
        return Some(Told { signature, ..Told::NOTHING });
    }
    let is_access = ["ld", "st", "cas", "swp"].iter().any(|start| mnemonic.starts_with(start));
    if is_access {
        return access(mnemonic, &operands);
    }
    Some(Told { sum: sum(mnemonic, &operands), ..Told::NOTHING })
}

/// The operands; what stands in brackets or braces is one.
fn operands_of(text: &str) -> Vec<&str> {
    let (mut operands, mut depth, mut start) = (Vec::new(), 0, 0);
    for (at, letter) in text.char_indices() {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            ',' if depth == 0 => {
                operands.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    operands.push(text[start..].trim());
    operands.retain(|operand| !operand.is_empty());
    operands
}

fn number(text: &str) -> Option<i64> {
    let text = text.strip_prefix('#')?;
    let (sign, digits) = text.strip_prefix('-').map_or((1, text), |digits| (-1, digits));
    let value = match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok()?,
        None => digits.parse().ok()?,
    };
    Some(sign * value)
}

/// A whole general register or SP.
fn whole(text: &str) -> Option<RegOrSp> {
    match text {
        "sp" => Some(RegOrSp::SP),
        _ => RegOrSp::x(text.strip_prefix('x')?.parse().ok()?),
    }
}

/// A register that is moved, and how many bytes its name stands for.
fn data(text: &str) -> Option<(DataRegister, u32)> {
    let letter = text.get(..1)?;
    let general = |bytes| match &text[1..] {
        "zr" => Some((DataRegister::General(Reg::XZR), bytes)),
        number => Some((DataRegister::General(Reg::x(number.parse().ok()?)?), bytes)),
    };
    let vector = |bytes| Some((DataRegister::Vector(VReg::v(text[1..].parse().ok()?)?), bytes));
    match letter {
        "w" => general(4),
        "x" => general(8),
        "b" => vector(1),
        "h" => vector(2),
        "s" => vector(4),
        "d" => vector(8),
        "q" => vector(16),
        _ => None,
    }
}

/// The register that an instruction's first operand names: one of [`data`], a vector, an element of one.
fn result(operand: &str) -> Option<DataRegister> {
    match operand.strip_prefix('v').and_then(|vector| vector.split_once('.')) {
        Some((number, _)) => Some(DataRegister::Vector(VReg::v(number.parse().ok()?)?)),
        None => data(operand).map(|(register, _)| register),
    }
}

/// How many operands of an access are not moved before those that are, and how many are.
fn moved_operands(mnemonic: &str) -> (usize, usize) {
    let starts = |starts: &[&str]| starts.iter().any(|start| mnemonic.starts_with(start));
    if starts(&["stxp", "stlxp"]) {
        (1, 2)
    } else if starts(&["stxr", "stlxr"]) {
        (1, 1)
    } else if starts(&["ldp", "ldnp", "ldxp", "ldaxp", "stp", "stnp"]) {
        (0, 2)
    } else if starts(&[
        "ldr", "ldur", "ldtr", "ldar", "ldxr", "ldaxr", "ldlar", "ldapr", "ldapur", "str", "stur", "sttr", "stlr",
        "stllr", "stlur",
    ]) {
        (0, 1)
    } else {
        // Updates, structures.
        (0, 0)
    }
}

fn access(mnemonic: &str, operands: &[&str]) -> Option<Told> {
    let (skipped, count) = moved_operands(mnemonic);
    let registers: Vec<(DataRegister, u32)> =
        operands.get(skipped..skipped + count)?.iter().map(|text| data(text)).collect::<Option<_>>()?;
    let moved = registers.first().map(|&(first, whole)| {
        let bytes = match first {
            DataRegister::Vector(_) => whole,
            DataRegister::General(_) if mnemonic.ends_with('b') => 1,
            DataRegister::General(_) if mnemonic.ends_with('h') => 2,
            DataRegister::General(_) if mnemonic.ends_with("sw") => 4,
            DataRegister::General(_) => whole,
        };
        Moved { first, second: registers.get(1).map(|&(second, _)| second), bytes }
    });
    let told = Told { moved, ..Told::NOTHING };
    let Some(at) = operands.iter().position(|operand| operand.starts_with('[')) else {
        return Some(Told { place: Place::Near(number(operands.last()?)?), ..told });
    };
    let (inside, is_pre_indexed) = match operands[at].strip_suffix('!') {
        Some(operand) => (operand, true),
        None => (operands[at], false),
    };
    let inside = operands_of(inside.strip_prefix('[')?.strip_suffix(']')?);
    let base = whole(inside.first()?)?;
    let offset = match inside.get(1) {
        None => Some(0),
        Some(index) => number(index),
    };
    let place = offset.map_or(Place::Indexed(base), |bytes| Place::Beside(base, bytes));
    let moves_by = if is_pre_indexed { offset } else { operands.get(at + 1).and_then(|post| number(post)) };
    let sum = moves_by.map(|bytes| Sum { to: base, from: base, bytes });
    Some(Told { place, sum, ..told })
}

fn sum(mnemonic: &str, operands: &[&str]) -> Option<Sum> {
    let (to, from) = (whole(operands.first()?)?, whole(operands.get(1)?)?);
    match (mnemonic, operands.len()) {
        ("mov", 2) => Some(Sum { to, from, bytes: 0 }),
        ("add" | "sub", 3 | 4) => {
            let shifted = match operands.get(3) {
                None => 0,
                Some(&"lsl #12") => 12,
                Some(_) => return None,
            };
            let bytes = number(operands[2])? << shifted;
            Some(Sum { to, from, bytes: if mnemonic == "sub" { -bytes } else { bytes } })
        }
        _ => None,
    }
}

fn signature(mnemonic: &str, operands: &[&str]) -> Option<Signature> {
    let key = |letter: &str| match letter {
        "a" => Some(Key::A),
        "b" => Some(Key::B),
        _ => None,
    };
    let sp = Modifier::Value(RegOrSp::SP);
    match (mnemonic, operands) {
        ("xpaclri", _) | ("xpaci", ["x30"]) => return Some(Signature::Stripped),
        ("retaa", _) => return Some(Signature::Authenticated(Key::A, sp)),
        ("retab", _) => return Some(Signature::Authenticated(Key::B, sp)),
        _ => {}
    }
    let (kind, rest): (fn(Key, Modifier) -> Signature, &str) = match mnemonic.strip_prefix("paci") {
        Some(rest) => (Signature::Signed, rest),
        None => (Signature::Authenticated, mnemonic.strip_prefix("auti")?),
    };
    match (rest, operands) {
        ("asp" | "bsp", []) => Some(kind(key(&rest[..1])?, sp)),
        ("az" | "bz", []) => Some(kind(key(&rest[..1])?, Modifier::Zero)),
        ("za" | "zb", ["x30"]) => Some(kind(key(&rest[1..])?, Modifier::Zero)),
        ("a" | "b", ["x30", modifier]) => Some(kind(key(rest)?, Modifier::Value(whole(modifier)?))),
        _ => None,
    }
}
