//! From a place in the kernel to its callers.
//!
//! [`Frames`] follows frame records and needs nothing but a stack. Where code was interrupted in a prologue, an epilogue or a
//! leaf, the record of the running function is not there, and the walk leaves out its caller.
//!
//! An [`UnwindTable`] says, for each instruction of the kernel, where the caller is. `cargo fentry verify` makes it of the
//! linked image, by following every function; no compiler's debug information is believed.
//!
//! [`Unwinder`] walks by such tables and says of each frame whether it is truly the caller of the one before: it compares what
//! a row says of x29 with what is there, and looks for the call before each return address. Of the engine's own stubs, which
//! are partly generated while the kernel runs, it knows by following their instructions.
//!
//! # The rows
//! A [`Row`] holds before its instruction. The canonical frame address (CFA) is what SP was at the function's entry, and so
//! what it is in the caller behind the call (AADWARF64 4.4).
//!
//! ```text
//!     stp x29, x30, [sp, #-32]!   CFA = SP        the return address in x30
//!     mov x29, sp                 CFA = SP + 32   the return address at CFA - 24, the caller's x29 at CFA - 32 and in x29
//!     ...                         CFA = SP + 32   the same, and x29 = CFA - 32
//!     ldp x29, x30, [sp], #32
//!     ret                         CFA = SP        the return address in x30
//! ```
//!
//! # The table's form
//! All numbers are little-endian. `n` is the number of pieces of text, `s` that of different rows, `r` the length of the lists,
//! `k` that of blocks of text, of 1 KiB each.
//!
//! | bytes | what |
//! |---|---|
//! | 4 | the magic `funw` |
//! | 4 | the version of this form, 2 |
//! | 8 | the base, which is the lowest address that it is about, less the table's own address |
//! | 4 | how many bytes of text it is about, from the base on |
//! | 4 | `n`, less than 2^24 |
//! | 4 | `s`, 65,536 at most |
//! | 4 | `r` |
//! | 4 | where the wide lists begin among the lists |
//! | 4 | `w`, 2 or 4: the width of a list's place |
//! | 4 `k` + 4 | for each block, and for what is behind the last one, in three bytes the number of the first piece that starts in it or behind, and in one how many blocks before it the piece before that one starts, 0 if there is none; 255 if more than 254, and then the entry 254 blocks before says how many more |
//! | `n` | where each piece starts, in words from its block's start, ascending; it ends where the next one starts |
//! | `w n` | the place of each piece's list, in units of two bytes |
//! | 10 `s` | the rows |
//! | `r` | the lists: of a narrow one a byte for how many entries it has, one for the first one's row, and then for each other one a byte for how many words it begins behind the piece's start, and one for its row; of a wide one, two bytes for each of these. None has more than 255 entries |
//!
//! A piece is a function, a part of one, or a gap. Those whose rows change in the same places share a list. The 10 bytes of a
//! row are a byte of flags, one for a register or a reason, and four times two bytes, in units of eight bytes: what is to be
//! added for the CFA, and how far below the CFA are the address in x29, the caller's x29 and the return address.
//!
//! The base is relative so that the linker can fill it in, wherever it puts the table, and that nothing is to be relocated when
//! the kernel runs elsewhere.

#[cfg(any(test, feature = "fakes", feature = "module"))]
mod encode;
mod header;
mod index;
mod own;
mod records;
mod row;
mod table;
#[cfg(test)]
mod tests;
#[cfg(any(test, feature = "fakes", feature = "module"))]
mod unplaced;
mod unwinder;
mod verdict;

#[cfg(any(test, feature = "fakes", feature = "module"))]
pub use encode::{Piece, TextSection, UnwindEncodeError, encode, encode_unplaced};
pub use header::{BASE_AT, UnwindTableError};
pub use records::Frames;
pub(crate) use records::strip;
pub use row::{Cfa, FpHolds, ReturnAddress, Row, Unknown};
pub use table::UnwindTable;
#[cfg(any(test, feature = "fakes", feature = "module"))]
pub use unplaced::{Unplaced, UnplacedError};
pub use unwinder::{Stacks, Unwinder};
pub use verdict::{Doubt, FoundBy, Frame};
