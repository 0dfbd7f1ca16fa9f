//! Where jumps to registers go, and why control could not be followed.

use std::collections::HashMap;
use std::fmt;

use fentry::insn::{Reg, Width};

use crate::program::InsnId;

/// Where a jump to a register goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Jump {
    /// To one of these, by a table.
    Table(Table),
    /// Always there: by a veneer, or within the function.
    Always(u64),
    /// Out of the function, with the stack as it was at the entry.
    Sibling,
    /// Nobody knows.
    NotFollowed(Why),
}

/// A table of jumps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    /// Where it is.
    pub address: u64,
    /// Its size in bytes.
    pub bytes: u64,
    /// Whether the code compares an index with its size. Else the compiler knew what the index can be, as of an enum's
    /// discriminant, and the size follows from the layout: its elements go on as long as they lead into the function, up to the
    /// next place that anything refers to. That may be too many.
    pub is_compared: bool,
    /// Where its jumps go, each once, by address.
    pub targets: Box<[InsnId]>,
}

/// The jumps to registers that were looked at.
pub(crate) type Jumps = HashMap<InsnId, Jump>;

/// Why control could not be followed from an instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Why {
    /// It jumps to a register of which nothing is known, and the frame is still there.
    Register(Reg),
    /// It jumps by a table that nothing bounds.
    Unbounded {
        /// The table's address.
        table: u64,
    },
    /// It jumps by a table with an element that the file does not have.
    NoElement {
        /// The table's address.
        table: u64,
        /// The element's number.
        element: u32,
    },
    /// It jumps by a table that leads out of the function.
    TableLeaves {
        /// The table's address.
        table: u64,
        /// Where to.
        to: u64,
    },
    /// The instruction is not known.
    Unknown {
        /// Its word.
        word: u32,
    },
    /// What comes behind it is data.
    Data,
}

/// An instruction from which control could not be followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotFollowed {
    /// The instruction.
    pub at: InsnId,
    /// The reason.
    pub why: Why,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Register(reg) => {
                write!(f, "it jumps to {}, of which nothing is known", reg.name(Width::X))
            }
            Self::Unbounded { table } => write!(f, "it jumps by the table at {table:#x}, which nothing bounds"),
            Self::NoElement { table, element } => {
                write!(f, "it jumps by the table at {table:#x}, whose element {element} is not in the file")
            }
            Self::TableLeaves { table, to } => {
                write!(f, "it jumps by the table at {table:#x}, which leads out of the function, to {to:#x}")
            }
            Self::Unknown { word } => write!(f, "the instruction {word:#010x} is not known"),
            Self::Data => f.write_str("it runs into data"),
        }
    }
}
