//! What a walk finds, and how far it is to be believed.

use crate::address::TextAddr;
use core::fmt;

use super::row::Unknown;

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FoundBy {
    /// The walk began with it.
    Start,
    /// A row of the table for the frame that it has called.
    Table,
    /// The stub that a callsite of its has called.
    Stub,
    /// The shadow stack, where its callee's return is hooked.
    Hook,
    /// The registers that an exception has saved.
    Exception,
    /// A frame record, where nothing else told more. Never reliable.
    Record,
}

/// Why a frame may not be the caller of the one before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Doubt {
    /// Nothing is known of the code at this place.
    NoRow {
        /// The place that was looked up.
        pc: TextAddr,
        /// Why.
        why: Unknown,
    },
    /// x29 is not what the table says that it must be: the stack or the table is wrong.
    FramePointer {
        /// The place that was looked up.
        pc: TextAddr,
        /// What x29 must be.
        expected: u64,
        /// What it is.
        found: u64,
    },
    /// The caller's SP would be outside of the stack, not aligned, or further down.
    StackPointer {
        /// The place that was looked up.
        pc: TextAddr,
        /// The caller's SP.
        cfa: u64,
    },
    /// What was to be read is not on the stack.
    OutOfStack {
        /// Its address.
        address: u64,
    },
    /// The instruction before a return address is no call.
    NotACall {
        /// The return address.
        return_address: TextAddr,
    },
    /// The return address is in a register of which nothing is known.
    InRegister {
        /// The place that was looked up.
        pc: TextAddr,
    },
    /// A hooked call is not on the shadow stack.
    NotHooked {
        /// SP at the call.
        sp: u64,
    },
    /// There were too many stacks.
    TooManyStacks,
}

impl Doubt {
    /// Whether it is about the frame that the walk was at, not only about the caller of that.
    pub(super) const fn is_about_frame(&self) -> bool {
        matches!(
            self,
            Self::FramePointer { .. } | Self::StackPointer { .. } | Self::OutOfStack { .. } | Self::InRegister { .. }
        )
    }
}

impl fmt::Display for Doubt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRow { pc, why } => write!(f, "at {pc}, {why}"),
            Self::FramePointer { pc, expected, found } => write!(f, "at {pc}, x29 is {found:#x} and not {expected:#x}"),
            Self::StackPointer { pc, cfa } => write!(f, "at {pc}, the caller's stack pointer can't be {cfa:#x}"),
            Self::OutOfStack { address } => write!(f, "{address:#x} is not on the stack"),
            Self::NotACall { return_address } => write!(f, "no call is before {return_address}"),
            Self::InRegister { pc } => write!(f, "at {pc}, the return address is in a register that is not known"),
            Self::NotHooked { sp } => write!(f, "no hooked call was made with the stack pointer {sp:#x}"),
            Self::TooManyStacks => f.write_str("the walk went over too many stacks"),
        }
    }
}

/// A frame of a stack trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it goes on: at the instruction that was interrupted, or behind a call.
    pub pc: TextAddr,
    /// Its place: `pc`, or of a call that is under way, the call. What follows the call of a function that never returns may
    /// belong to another one.
    pub place: TextAddr,
    /// How it was found.
    pub found_by: FoundBy,
    /// The first reason on the way here why the trace may not be true.
    pub doubt: Option<Doubt>,
}

impl Frame {
    /// Whether this and all frames before are the callers that they seem.
    pub const fn is_reliable(&self) -> bool {
        self.doubt.is_none()
    }
}
