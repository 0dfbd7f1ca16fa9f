//! Names as people write them: what Rust and C++ compilers have mangled, taken apart.
//!
//! A function of C++ is named as one of Rust is: without its parameters, `disk::Disk::read`, so that filters find it by a path
//! that somebody can type. Overloads have one name then.

use std::borrow::Cow;
use std::fmt::{self, Write};

use cpp_demangle::{BorrowedSymbol, DemangleOptions};

/// The longest name of C++: a mangled one repeats what it has said by reference, and a damaged one without end.
const MOST_BYTES: usize = 4096;

/// A symbol's name, demangled, without the hash; what neither compiler has mangled stays as it is.
pub(crate) fn demangled(name: &str) -> Cow<'_, str> {
    if let Ok(rust) = rustc_demangle::try_demangle(name) {
        return Cow::Owned(format!("{rust:#}"));
    }
    cpp(name).map_or(Cow::Borrowed(name), Cow::Owned)
}

/// Whether a compiler of Rust has mangled the name.
pub(crate) fn is_rust(name: &str) -> bool {
    rustc_demangle::try_demangle(name).is_ok()
}

/// The name of a function of C++ (Itanium C++ ABI, "External Names").
fn cpp(name: &str) -> Option<String> {
    // Not the demangler's other forms: `_GLOBAL_`, or a bare type, which a function of C may be called.
    name.starts_with("_Z").then_some(())?;
    // The compiler's copies are `_Z4readv.constprop.0`; C's keep such an end, too.
    let (mangled, copy) = name.split_at(name.find('.').unwrap_or(name.len()));
    let symbol = BorrowedSymbol::new(mangled.as_bytes()).ok()?;
    let mut bounded = Bounded(String::new());
    symbol.structured_demangle(&mut bounded, &DemangleOptions::new().no_params().no_return_type()).ok()?;
    // Of a lambda, the demangler shows that it changes nothing; of other members it doesn't.
    let name = bounded.0.strip_suffix(" const").unwrap_or(&bounded.0);
    Some(format!("{name}{copy}"))
}

/// Text that fails when it becomes too long.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if self.0.len() + text.len() > MOST_BYTES {
            return Err(fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_written_as_in_the_source() {
        for (mangled, expected) in [
            ("_RNvNtCs1234_4core3fmt5write", "core::fmt::write"),
            ("_ZN4core3fmt5write17h0123456789abcdefE", "core::fmt::write"),
            ("_ZN4disk4Disk4readEjPv", "disk::Disk::read"),
            ("_ZNK4disk4Disk4sizeEv.constprop.0", "disk::Disk::size.constprop.0"),
            ("_Z7largestIiET_S0_S0_", "largest<int>"),
            ("memcpy.part.1", "memcpy.part.1"),
            ("_Z", "_Z"),
            ("_Zmemory", "_Zmemory"),
            ("i", "i"),
        ] {
            assert_eq!(demangled(mangled), expected);
            assert_eq!(is_rust(mangled), expected == "core::fmt::write", "{mangled}");
        }
    }

    #[test]
    fn a_name_that_grows_without_end_stays_mangled() {
        // Each type has the one before it twice, by reference.
        let nested = |levels: u32| {
            let digit = |number: u32| char::from_digit(number, 36).unwrap().to_ascii_uppercase();
            let level = |level: u32| format!("1{}IS{1}_S{1}_E", digit(level + 11), digit(2 * level));
            format!("_Z1fI1A{}EvT_", (0..levels).map(level).collect::<String>())
        };
        assert_eq!(demangled(&nested(2)), "f<A, B<A, A>, C<B<A, A>, B<A, A> > >");
        let endless = nested(16);
        assert_eq!(demangled(&endless), endless);
    }
}
