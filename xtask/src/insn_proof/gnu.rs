//! Decoding, against GNU `objdump`.
//!
//! The words go in as a flat binary, so each has an address. The two disassemblers spell some things differently; both texts
//! are brought to one spelling before they are compared:
//!
//! | GNU writes | here |
//! |---|---|
//! | `#0x10`, `#16`, `16` | `16`; a negative number as the register's width has it |
//! | the target's address, after a branch, ADR, ADRP or literal load | the distance |
//! | `b.cs`, `b.cc`, `cs`, `cc` | `b.hs`, `b.lo`, `hs`, `lo` |
//! | `{v0.16b-v2.16b}`, `{v0.16b, v1.16b}` | `{ v0.16b, v1.16b, v2.16b }` |
//! | `bfc x0, #4, #2` | `bfi x0, xzr, #4, #2`, or `bfxil` when it starts at bit 0 |
//! | `mov sp, #1` | `orr sp, xzr, #1`, where MOVZ could make the number as well |
//! | `prfm #6` | `prfm pldslckeep`, and the like |
//! | `clearbhb`, `dsb 12` | `clrbhb`, `dfb` |
//! | `sxtl v0.8h, v1.8b`, `uxtl2` and kin | `sshll v0.8h, v1.8b, 0`, `ushll2` |
//! | names of system registers in small letters | small letters |
//!
//! Words that GNU names in a way that the model does not (hints, system registers and operations without a name here) are
//! compared by assembling only.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Result, bail, ensure};
use fentry::insn::{Insn, System};

use super::process::Scratch;
use super::report::{Report, Step};
use super::words::Words;

/// Whether a program disassembles for arm64 as it is asked to here.
pub(super) fn probe(objdump: &Path, scratch: &Scratch) -> Result<()> {
    let text = disassemble(objdump, scratch, &[0xd503_201f])?.remove(0);
    ensure!(text.as_deref() == Some("nop"), "it doesn't know `nop`");
    Ok(())
}

/// What GNU objdump calls each word, at the addresses 0, 4, 8 and so on; `None` for no instruction.
fn disassemble(objdump: &Path, scratch: &Scratch, words: &[u32]) -> Result<Vec<Option<String>>> {
    let file = scratch.file("bin");
    let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
    fs::write(&file, bytes)?;
    let output = Command::new(objdump)
        .args(["-D", "-z", "-b", "binary", "-m", "aarch64", "-M", "no-notes"])
        .arg(&file)
        .output()?;
    fs::remove_file(&file)?;
    if !output.status.success() {
        bail!("objdump: {}", String::from_utf8_lossy(&output.stderr));
    }
    let text = String::from_utf8(output.stdout)?;
    let mut texts = Vec::with_capacity(words.len());
    for line in text.lines() {
        let mut columns = line.splitn(3, '\t');
        let (Some(address), Some(_), Some(code)) = (columns.next(), columns.next(), columns.next()) else {
            continue;
        };
        if !address.trim_end().ends_with(':') {
            continue;
        }
        let code = code.split("//").next().unwrap_or_default();
        let code = code.split(';').next().unwrap_or_default();
        let code = code.split_whitespace().collect::<Vec<_>>().join(" ");
        texts.push(if code.starts_with(".inst") { None } else { Some(code) });
    }
    if texts.len() != words.len() {
        bail!("objdump printed {} lines for {} words", texts.len(), words.len());
    }
    Ok(texts)
}

pub(super) fn compare_decoding(
    objdump: &Path,
    scratch: &Scratch,
    words: &Words,
    name: &str,
    jobs: usize,
    report: &mut Report,
) -> Result<()> {
    report.step(name, jobs, &words.pieces(), |piece| {
        let mut step = Step::default();
        let words = piece.words();
        for ((&word, theirs), address) in words.iter().zip(disassemble(objdump, scratch, &words)?).zip((0..).step_by(4))
        {
            compare_one(word, address, theirs.as_deref(), &mut step);
        }
        Ok(step)
    })
}

fn compare_one(word: u32, address: i64, theirs: Option<&str>, step: &mut Step) {
    step.compared += 1;
    let insn = Insn::decode(word);
    if let Insn::Unknown { .. } = insn {
        step.known_elsewhere += u64::from(theirs.is_some());
        return;
    }
    step.known += 1;
    let ours = insn.to_string();
    let Some(text) = theirs else {
        // Binutils will not name a load that writes one register twice.
        if !insn.is_unpredictable() {
            step.disagree(|| format!("{word:#010x}: {ours} | not an instruction"));
        }
        return;
    };
    let (ours, theirs) = (canonical(&ours, None), canonical(text, Some(address)));
    if ours != theirs && !named_on_one_side(&insn, &ours, &theirs) {
        step.disagree(|| format!("{word:#010x}: {ours} | {theirs}"));
    }
}

fn named_on_one_side(insn: &Insn, ours: &str, theirs: &str) -> bool {
    let mnemonic = |text: &str| text.split(' ').next().unwrap_or_default().to_owned();
    match insn {
        Insn::System(System::Mrs { .. } | System::Msr { .. }) => {
            mnemonic(ours) == mnemonic(theirs) && generic(ours) != generic(theirs)
        }
        Insn::System(System::Sys { .. } | System::Sysl { .. }) => {
            mnemonic(ours).starts_with("sys") != mnemonic(theirs).starts_with("sys")
        }
        Insn::System(System::Hint(_)) => ours.starts_with("hint") != theirs.starts_with("hint"),
        _ => false,
    }
}

/// Whether a system register is named by its place.
fn generic(text: &str) -> bool {
    text.contains(" s2_") || text.contains(" s3_")
}

/// One spelling. `address` is the instruction's where targets are absolute.
fn canonical(text: &str, address: Option<i64>) -> String {
    let text = text.to_lowercase();
    let (mnemonic, operands) = text.split_once(' ').unwrap_or((&text, ""));
    let mnemonic = match mnemonic {
        "b.cs" => "b.hs",
        "b.cc" => "b.lo",
        "clearbhb" => "clrbhb",
        "dsb" if operand(operands, false) == "12" => return "dfb ".to_owned(),
        other => other,
    };
    let mut parts = split_operands(operands);
    let narrow = parts.first().is_some_and(|first| first.starts_with('w'));
    for part in &mut parts {
        *part = operand(part, narrow);
    }
    let indexed = parts.iter().any(|part| part.contains('['));
    if let (Some(address), Some(last)) = (address, parts.last_mut()) {
        relative(mnemonic, address, indexed, last);
    }
    if let ("orr", [to, zero, value]) = (mnemonic, parts.as_slice()) {
        let to_sp = to == "sp" || to == "wsp";
        if to_sp && (zero == "wzr" || zero == "xzr") {
            return format!("mov {to}, {value}");
        }
    }
    let widened = match mnemonic {
        "sxtl" => Some("sshll"),
        "sxtl2" => Some("sshll2"),
        "uxtl" => Some("ushll"),
        "uxtl2" => Some("ushll2"),
        _ => None,
    };
    if let Some(mnemonic) = widened {
        return format!("{mnemonic} {}, 0", parts.join(", "));
    }
    if let ("bfc", [to, lsb, width]) = (mnemonic, parts.as_slice()) {
        let zero = if narrow { "wzr" } else { "xzr" };
        let mnemonic = if lsb == "0" { "bfxil" } else { "bfi" };
        return format!("{mnemonic} {to}, {zero}, {lsb}, {width}");
    }
    format!("{mnemonic} {}", parts.join(", "))
}

/// Splits at commas outside brackets and braces.
fn split_operands(text: &str) -> Vec<String> {
    let (mut parts, mut part, mut depth) = (Vec::new(), String::new(), 0);
    for letter in text.chars() {
        match letter {
            '[' | '{' => depth += 1,
            ']' | '}' => depth -= 1,
            _ => {}
        }
        if letter == ',' && depth == 0 {
            parts.push(part.trim().to_owned());
            part.clear();
        } else {
            part.push(letter);
        }
    }
    if !part.trim().is_empty() {
        parts.push(part.trim().to_owned());
    }
    parts
}

fn operand(text: &str, narrow: bool) -> String {
    if let Some(list) = text.strip_prefix('{') {
        return registers(list);
    }
    let words: Vec<String> = text
        .split_inclusive([' ', ',', '[', ']', '!'])
        .map(|token| {
            let trimmed = token.trim_end_matches([' ', ',', '[', ']', '!']);
            let rest = token.get(trimmed.len()..).unwrap_or_default();
            format!("{}{rest}", number(trimmed, narrow).unwrap_or_else(|| trimmed.to_owned()))
        })
        .collect();
    match words.concat().as_str() {
        "pldslckeep" => "6".to_owned(),
        "pldslcstrm" => "7".to_owned(),
        "plislckeep" => "14".to_owned(),
        "plislcstrm" => "15".to_owned(),
        "pstslckeep" => "22".to_owned(),
        "pstslcstrm" => "23".to_owned(),
        "cs" => "hs".to_owned(),
        "cc" => "lo".to_owned(),
        other => other.to_owned(),
    }
}

fn number(text: &str, narrow: bool) -> Option<String> {
    let digits = text.strip_prefix('#').unwrap_or(text);
    let (negative, digits) = match digits.strip_prefix('-') {
        Some(digits) => (true, digits),
        None => (false, digits),
    };
    let value = match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => digits.parse().ok()?,
    };
    let value = if negative { value.wrapping_neg() } else { value };
    let value = if narrow { i64::from(value as u32 as i32) } else { value as i64 };
    Some(value.to_string())
}

/// `v0.16b-v2.16b}[1]` and `v0.16b, v1.16b}[1]` without their first brace.
fn registers(list: &str) -> String {
    let (inside, after) = list.split_once('}').unwrap_or((list, ""));
    let number_of = |name: &str| -> Option<u8> { name.split('.').next()?.strip_prefix('v')?.parse().ok() };
    let mut names = Vec::new();
    if let Some((first, last)) = inside.split_once('-') {
        let suffix = first.trim().split('.').nth(1).unwrap_or_default();
        if let (Some(first), Some(last)) = (number_of(first.trim()), number_of(last.trim())) {
            let mut place = first;
            loop {
                names.push(format!("v{place}.{suffix}"));
                if place == last {
                    break;
                }
                place = (place + 1) % 32;
            }
        }
    } else {
        names.extend(inside.split(',').map(|name| name.trim().to_owned()));
    }
    format!("{{ {} }}{after}", names.join(", "))
}

/// Turns a target's address into the distance.
fn relative(mnemonic: &str, address: i64, indexed: bool, last: &mut String) {
    let base = match mnemonic {
        "adrp" => address & !0xfff,
        "b" | "bl" | "cbz" | "cbnz" | "tbz" | "tbnz" | "adr" => address,
        "ldr" | "ldrsw" | "prfm" if !indexed => address,
        _ if mnemonic.starts_with("b.") => address,
        _ => return,
    };
    if let Ok(target) = last.parse::<i64>() {
        *last = target.wrapping_sub(base).to_string();
    }
}
