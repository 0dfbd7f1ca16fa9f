//! The kernel's own function names: which function an address lies in, and where a named function is.
//!
//! The table is read-only bytes that a tool makes from the linked image (`cargo fentry symbols`, or the linker front end
//! that `cargo xtask` builds kernels with) and that a second link adds to it, between the linker symbols
//! `__fentry_symbols_start` and `__fentry_symbols_stop`. This room reads such a table ([`Symbols`]), finds addresses and names
//! in it, and makes one ([`encode`]). Reading allocates nothing. It builds on no other room.
//!
//! # The table's form
//! All numbers are little-endian. `n` is the number of symbols.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the magic `fsym` |
//! | 4 | the version of this form, 3 |
//! | 8 | the base: the lowest symbol's address, as linked |
//! | 8 | the anchor: the table's own address, as linked, or 0 where it isn't known |
//! | 4 | `n` |
//! | 4 | `b`, the length of all names |
//! | 8 | the checksum of all the rest; see below |
//! | 4 `n` | each symbol's address, as an offset from the base, ascending |
//! | 4 `n` | each symbol's size, in 31 bits; the highest bit is set where its [`Convention`] is a variant |
//! | 4 `n` | where each symbol's name starts in the names; it ends where the next one's starts |
//! | 4 `n` | the symbols' indices in the order of their names |
//! | `b` | the names, in the order of the addresses, with nothing between them |
//!
//! The checksum is that of the pieces of 8 bytes, the last one filled up with zeros: it starts as 0, and with each piece it
//! becomes (itself XOR the piece) times 0x9e37_79b9_7f4a_7c15, rotated left by 29 bits. Each step can be reversed, so
//! a change of one piece is always seen. It is what tells that the names are in order, without comparing them: a kernel
//! reads its table at each boot.
//!
//! That is 16 bytes a symbol and its name. Names are kept whole, so that a lookup gives a `&str` that lives as long as
//! the table, and a filter can match it without a buffer.
//!
//! # Examples
//! ```
//! use fentry::symbols::{Convention, Function, Symbols, encode};
//!
//! let convention = Convention::Base;
//! let functions = [
//!     Function { name: "heap::alloc".into(), addr: 0x4008_0040, size: 0x80, convention },
//!     Function { name: "kmain".into(), addr: 0x4008_0000, size: 0x40, convention },
//! ];
//! let bytes = encode(&functions, 0).unwrap();
//! let symbols = Symbols::parse(&bytes).unwrap();
//!
//! assert_eq!(symbols.lookup_name("heap::alloc").next().unwrap().addr, 0x4008_0040);
//! assert_eq!(symbols.lookup_addr(0x4008_0010).unwrap().symbol.name, "kmain");
//! assert_eq!(symbols.display(0x4008_0048).to_string(), "heap::alloc+0x8/0x80");
//! ```

mod cursor;
#[cfg(any(test, feature = "fakes", feature = "module"))]
mod encode;
mod lookup;
#[cfg(feature = "module")]
mod owned;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use cursor::Cursor;
#[cfg(feature = "module")]
pub(crate) use encode::Encoder;
#[cfg(any(test, feature = "fakes", feature = "module"))]
pub use encode::{Function, SymbolsEncodeError, encode};
pub use lookup::{Iter, Location, Names};
#[cfg(feature = "module")]
pub(crate) use owned::OwnedSymbols;
pub use table::{Convention, Symbol, Symbols, SymbolsError};
