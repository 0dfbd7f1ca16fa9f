//! Whether a mangled name of Rust's is shallow enough to be demangled here.
//!
//! The demangler calls itself for each level of a name, up to 500 times, which takes some
//! 100 KiB of stack; a kernel's is smaller, and a module's names are a file's. So a name is walked first, without recursion,
//! the way the demangler would go, back references included. Names that compilers make are a dozen levels deep.

use arrayvec::ArrayVec;

/// The most levels: the demangler takes about 200 bytes of stack for each.
const MAX_DEPTH: u8 = 48;
/// The most parts that are expected at a time, and the most that are looked at: back references can repeat others.
const MAX_EXPECTED: usize = 4 * MAX_DEPTH as usize;
const MAX_STEPS: usize = 10_000;

/// What is expected in a name (RFC 2603, "Rust Symbol Name Mangling v0").
#[derive(Clone, Copy)]
enum Part {
    Path,
    Type,
    Const,
    /// With its disambiguator, if it has one.
    Identifier,
    PlainIdentifier,
    /// A lifetime's tag and number.
    Lifetime,
    /// What an enum's or struct's value holds.
    Fields,
    /// A trait's generic arguments may be left open: bindings of associated types come behind it.
    Bindings,
    /// These, up to an E.
    Arguments,
    Types,
    Consts,
    DynTraits,
    NamedConsts,
    /// Behind a back reference: on from here.
    Resume(u16),
}

/// Whether the demangler can be trusted with this name; `true` as well where it isn't one of the kind that nests.
pub(super) fn is_shallow(name: &str) -> bool {
    let Some(mangled) = name.strip_prefix("_R") else { return true };
    let mut walk = Walk { name: mangled.as_bytes(), at: 0, expected: ArrayVec::new() };
    walk.is_shallow().is_some()
}

struct Walk<'a> {
    name: &'a [u8],
    at: usize,
    /// The next part last, with its depth.
    expected: ArrayVec<(Part, u8), MAX_EXPECTED>,
}

impl Walk<'_> {
    /// `None` where it is too deep, too long, or no name.
    fn is_shallow(&mut self) -> Option<()> {
        self.expect(0, &[Part::Path])?;
        for _ in 0..MAX_STEPS {
            match self.expected.pop() {
                Some((part, depth)) => self.take(part, depth)?,
                // Of a generic function, the crate that instantiates it.
                None if self.next().is_some_and(|tag| tag.is_ascii_uppercase()) => self.expect(0, &[Part::Path])?,
                None => return Some(()),
            }
        }
        None
    }

    /// Expects these parts in this order, before all others.
    fn expect(&mut self, depth: u8, parts: &[Part]) -> Option<()> {
        if depth > MAX_DEPTH {
            return None;
        }
        parts.iter().rev().try_for_each(|part| self.expected.try_push((*part, depth)).ok())
    }

    fn next(&self) -> Option<u8> {
        self.name.get(self.at).copied()
    }

    fn byte(&mut self) -> Option<u8> {
        let byte = self.next()?;
        self.at += 1;
        Some(byte)
    }

    fn eat(&mut self, tag: u8) -> bool {
        let is_it = self.next() == Some(tag);
        self.at += usize::from(is_it);
        is_it
    }

    fn take(&mut self, part: Part, depth: u8) -> Option<()> {
        match part {
            Part::Path => self.path(depth + 1),
            Part::Type => self.type_(depth + 1),
            Part::Const => self.constant(depth + 1),
            Part::Identifier => {
                if self.eat(b's') {
                    self.number()?;
                }
                self.identifier()
            }
            Part::PlainIdentifier => self.identifier(),
            Part::Lifetime => {
                if self.eat(b'L') {
                    self.number().map(drop)
                } else {
                    None
                }
            }
            Part::Fields => match self.byte()? {
                b'U' => Some(()),
                b'T' => self.expect(depth, &[Part::Consts]),
                b'S' => self.expect(depth, &[Part::NamedConsts]),
                _ => None,
            },
            Part::Bindings if self.eat(b'p') => {
                self.expect(depth, &[Part::PlainIdentifier, Part::Type, Part::Bindings])
            }
            Part::Bindings => Some(()),
            Part::Arguments | Part::Types | Part::Consts | Part::DynTraits | Part::NamedConsts => {
                self.list(part, depth)
            }
            Part::Resume(at) => {
                self.at = usize::from(at);
                Some(())
            }
        }
    }

    fn list(&mut self, list: Part, depth: u8) -> Option<()> {
        if self.eat(b'E') {
            return Some(());
        }
        let element: &[Part] = match list {
            Part::Arguments if self.next() == Some(b'L') => &[Part::Lifetime],
            Part::Arguments if self.eat(b'K') => &[Part::Const],
            Part::Consts => &[Part::Const],
            Part::NamedConsts => &[Part::Identifier, Part::Const],
            Part::DynTraits => &[Part::Path, Part::Bindings],
            _ => &[Part::Type],
        };
        self.expect(depth, &[list])?;
        self.expect(depth, element)
    }

    fn path(&mut self, depth: u8) -> Option<()> {
        match self.byte()? {
            b'C' => self.expect(depth, &[Part::Identifier]),
            b'N' => {
                self.byte()?;
                self.expect(depth, &[Part::Path, Part::Identifier])
            }
            tag @ (b'M' | b'X' | b'Y') => {
                if tag != b'Y' && self.eat(b's') {
                    self.number()?;
                }
                match tag {
                    b'M' => self.expect(depth, &[Part::Path, Part::Type]),
                    b'X' => self.expect(depth, &[Part::Path, Part::Type, Part::Path]),
                    _ => self.expect(depth, &[Part::Type, Part::Path]),
                }
            }
            b'I' => self.expect(depth, &[Part::Path, Part::Arguments]),
            b'B' => self.back(depth, Part::Path),
            _ => None,
        }
    }

    fn type_(&mut self, depth: u8) -> Option<()> {
        match self.byte()? {
            b'a'..=b'z' => Some(()),
            b'R' | b'Q' => {
                if self.eat(b'L') {
                    self.number()?;
                }
                self.expect(depth, &[Part::Type])
            }
            b'P' | b'O' | b'S' => self.expect(depth, &[Part::Type]),
            b'A' => self.expect(depth, &[Part::Type, Part::Const]),
            b'T' => self.expect(depth, &[Part::Types]),
            b'F' => {
                if self.eat(b'G') {
                    self.number()?;
                }
                self.eat(b'U');
                let has_abi = self.eat(b'K') && !self.eat(b'C');
                self.expect(depth, &[Part::Types, Part::Type])?;
                if has_abi { self.expect(depth, &[Part::PlainIdentifier]) } else { Some(()) }
            }
            b'D' => {
                if self.eat(b'G') {
                    self.number()?;
                }
                self.expect(depth, &[Part::DynTraits, Part::Lifetime])
            }
            b'B' => self.back(depth, Part::Type),
            _ => {
                self.at -= 1;
                self.expect(depth, &[Part::Path])
            }
        }
    }

    fn constant(&mut self, depth: u8) -> Option<()> {
        match self.byte()? {
            b'p' => Some(()),
            b'R' | b'Q' => self.expect(depth, &[Part::Const]),
            b'A' | b'T' => self.expect(depth, &[Part::Consts]),
            b'V' => self.expect(depth, &[Part::Path, Part::Fields]),
            b'B' => self.back(depth, Part::Const),
            // A number or a text: its type, a sign, hexadecimal digits.
            b'a'..=b'z' => {
                self.eat(b'n');
                while matches!(self.next()?, b'0'..=b'9' | b'a'..=b'f') {
                    self.at += 1;
                }
                self.eat(b'_').then_some(())
            }
            _ => None,
        }
    }

    /// A back reference: goes on there, and then comes back.
    fn back(&mut self, depth: u8, part: Part) -> Option<()> {
        let start = self.at - 1;
        let target = usize::try_from(self.number()?).ok()?;
        let resume = Part::Resume(u16::try_from(self.at).ok()?);
        self.expect(depth, &[part, resume])?;
        self.at = target;
        (target < start).then_some(())
    }

    /// `_` is 0, `0_` is 1, and so on.
    fn number(&mut self) -> Option<u64> {
        let mut number = 0_u64;
        if self.eat(b'_') {
            return Some(0);
        }
        loop {
            let digit = match self.byte()? {
                b'_' => return number.checked_add(1),
                digit @ b'0'..=b'9' => digit - b'0',
                digit @ b'a'..=b'z' => digit - b'a' + 10,
                digit @ b'A'..=b'Z' => digit - b'A' + 36,
                _ => return None,
            };
            number = number.checked_mul(62)?.checked_add(digit.into())?;
        }
    }

    /// A length in decimal, and so many bytes.
    fn identifier(&mut self) -> Option<()> {
        self.eat(b'u');
        let mut length = usize::from(self.byte().filter(u8::is_ascii_digit)? - b'0');
        while length != 0
            && let Some(digit @ b'0'..=b'9') = self.next()
        {
            self.at += 1;
            length = length.checked_mul(10)?.checked_add(usize::from(digit - b'0'))?;
        }
        self.eat(b'_');
        self.at = self.at.checked_add(length).filter(|end| *end <= self.name.len())?;
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::is_shallow;
    use std::format;
    extern crate std;

    #[test]
    fn names_as_compilers_make_them_are_shallow() {
        for name in [
            "main",
            "_ZN4core3fmt5write17h0123456789abcdefE",
            "_RNvNtCs1234_7mycrate3foo3bar",
            "_RINvNtC3std3mem8align_ofdE",
            "_RNCNvC4main4main0B3_",
            "_RNvXs_C4mainNtB4_1SNtNtC4core3fmt7Display3fmt",
            "_RINvC4main1fFG_RL0_hEuDNtNtC4core3fmt5Debugp3OuthEL_E",
            "_RIC4mainKj1f_Kb1_Kln2a_KRe616263_E",
            "_RINvC4main1fFUKCtRL_SmEuTmhAtj8_EEB2_",
            "_RMC0INtC8arrayvec8ArrayVechKj7b_E",
            "_RNvC6_123foo3bar.llvm.123",
            "_RNqCs4fqI2P2rA04_11utf8_identsu30____7hkackfecea1cbdathfdh9hlq6y",
            "_RIC0KVNtNtC4core6Option4SomeTj1_EKVC1aS1xj1_1yj2_EE",
        ] {
            assert!(name == "main" || rustc_demangle::try_demangle(name).is_ok(), "the test is wrong: {name}");
            assert!(is_shallow(name), "{name}");
        }
    }

    #[test]
    fn whatever_nests_deep_is_found() {
        let deep = |levels: usize| {
            [
                format!("_RIC0{}uE", "R".repeat(levels)),
                format!("_R{}C0{}", "Nv".repeat(levels), "1a".repeat(levels)),
                format!("_R{}C0{}", "I".repeat(levels), "E".repeat(levels)),
                format!("_RIC0{}{}E", "T".repeat(levels), "E".repeat(levels)),
                format!("_RIC0K{}p{}E", "A".repeat(levels), "E".repeat(levels)),
                format!("_RIC0{}u{}E", "FE".repeat(levels), ""),
                format!("_R{}C0{}", "Y".repeat(levels), "C0".repeat(levels)),
            ]
        };
        // Miri takes thousands of times as long.
        let longest = if cfg!(miri) { 100 } else { 1_000_000 };
        for (levels, expected) in [(10, true), (20, true), (60, false), (longest, false)] {
            for name in deep(levels) {
                let start = name.get(..20.min(name.len())).unwrap_or_default();
                assert_eq!(is_shallow(&name), expected, "{levels} levels of {start}");
            }
        }
        // What refers to itself, and what refers to the part before twice, so that it doubles.
        assert!(!is_shallow("_RIC0RB_E"));
        assert!(is_shallow("_RIC0TuuETB2_B2_ETB7_B7_EE"));
        // What refers to its own number, which says `a`, a type.
        assert!(is_shallow("_RIC7abcdefgB2_E") && !is_shallow("_RIC7abcdefgBa_E"));
        let number = |at: usize| {
            format!("B{}_", char::from(b"0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"[at - 1]))
        };
        let mut doubling = std::string::String::from("IC0u");
        let mut before = 3;
        while doubling.len() < 50 {
            let part = format!("T{}{}E", number(before), number(before));
            (before, doubling) = (doubling.len(), doubling + &part);
        }
        assert!(is_shallow(&format!("_R{doubling}E")), "seven times");
        if !cfg!(miri) {
            assert!(!is_shallow(&format!("_RIC0{}E", "u".repeat(20_000))), "what takes longer than it may");
        }
    }
}
