//! Errors as numbers, each with its name and a text. What was found, with its values, goes to the console.

use crate::engine::{InitError, RegisterError};
use core::ffi::{CStr, c_char};

/// Why something was not done. Nothing has changed then, unless the function's own description says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub enum fentry_error {
    /// No error.
    None = 0,
    /// A pointer is NULL that may not be.
    NullPointer,
    /// A struct has another size than this library's: it was not initialised by its `_INIT` macro, or the header is of
    /// another version.
    WrongSize,
    /// The header that the kernel was compiled with is of another version than the library.
    WrongVersion,
    /// The kernel uses floating-point and SIMD registers and the library does not keep them, or the other way round.
    FloatAbi,
    /// The kernel was compiled with branch targets (BTI) and the library was not.
    BranchTargets,
    /// A function is missing that the platform, or this kind of ops, must have.
    Incomplete,
    /// A number or a flag has no such meaning, or an address is not aligned as it must be.
    BadValue,
    /// The library has not been initialised.
    NotInitialised,
    /// The library is already initialised.
    AlreadyInitialised,
    /// The callsite section can't be used: it is empty, or not writable, or has not been relocated.
    Callsites,
    /// The symbol table that the kernel was linked with can't be used.
    Symbols,
    /// The offset of the trace context does not fit the stubs.
    ContextOffset,
    /// The offset of the CPU area does not fit the stubs.
    CpuAreaOffset,
    /// Text could not be written, or was not what the engine had left there.
    Text,
    /// The ops is already registered, or the session has already begun.
    AlreadyRegistered,
    /// The ops is not registered, or no session has begun.
    NotRegistered,
    /// As many ops are registered as an engine can hold.
    TooManyOps,
    /// The callsites would have more different sets of ops than an engine can hold.
    TooManySets,
    /// The ops was made to stay.
    Permanent,
    /// The ops calls no direct trampoline.
    NotDirect,
    /// The platform has no CPU areas.
    NoCpuArea,
    /// A selected function has no counter among those of the ops.
    NoCounter,
    /// A selected function has an ops already that excludes this one.
    Conflict,
    /// The room for generated code is full.
    NoRoom,
    /// A stub can't be made in the room for it.
    Stub,
    /// A rule asks for a name, and the kernel was linked without a symbol table.
    NoNames,
    /// A rule selects no traceable function.
    NothingSelected,
    /// A rule takes no traceable function away.
    NothingTakenAway,
    /// The rules as a whole select no traceable function.
    EmptySelection,
    /// A rule asks for a function that returns twice to one call, whose return can't be hooked.
    ReturnsTwice,
    /// A callsite can't reach what it is to call.
    OutOfReach,
    /// No callsite calls the ops any more, but a CPU may still be inside its callback: try again.
    NotQuiescent,
    /// The text of some callsites was written by somebody else, and left alone.
    Quarantined,
    /// A rule is not UTF-8, or is a glob that can't be understood.
    BadRule,
    /// There are more than `FENTRY_MAX_RULES` rules.
    TooManyRules,
    /// A word of a session's command line can't be understood.
    BadWord,
    /// A ring, a trace context or another object was not initialised by its function.
    NotSetUp,
    /// The memory is too small, or its size is none that can be used.
    MemorySize,
    /// There is no function at the address, or no name for it.
    NotFound,
    /// The kernel's function that takes a dump's bytes has failed.
    WriteFailed,
    /// There are probes in the text that is to be given back, or on both sides of it.
    Probed,
}

impl fentry_error {
    /// Every error's number, name and text.
    pub(super) const ALL: [(Self, &CStr, &CStr); 42] = [
        (fentry_error::None, c"FENTRY_ERROR_NONE", c"no error"),
        (fentry_error::NullPointer, c"FENTRY_ERROR_NULL_POINTER", c"a pointer is NULL that may not be"),
        (
            fentry_error::WrongSize,
            c"FENTRY_ERROR_WRONG_SIZE",
            c"a struct was not initialised by its macro, or is of another version",
        ),
        (
            fentry_error::WrongVersion,
            c"FENTRY_ERROR_WRONG_VERSION",
            c"the header is of another version than the library",
        ),
        (
            fentry_error::FloatAbi,
            c"FENTRY_ERROR_FLOAT_ABI",
            c"the kernel and the library differ in the use of floating-point and SIMD registers",
        ),
        (
            fentry_error::BranchTargets,
            c"FENTRY_ERROR_BRANCH_TARGETS",
            c"the kernel has branch targets (BTI), and the library has none",
        ),
        (fentry_error::Incomplete, c"FENTRY_ERROR_INCOMPLETE", c"a function is missing that must be given"),
        (
            fentry_error::BadValue,
            c"FENTRY_ERROR_BAD_VALUE",
            c"a number, a flag or an alignment is none that can be used",
        ),
        (fentry_error::NotInitialised, c"FENTRY_ERROR_NOT_INITIALISED", c"the library has not been initialised"),
        (fentry_error::AlreadyInitialised, c"FENTRY_ERROR_ALREADY_INITIALISED", c"the library is already initialised"),
        (fentry_error::Callsites, c"FENTRY_ERROR_CALLSITES", c"the callsite section can't be used"),
        (fentry_error::Symbols, c"FENTRY_ERROR_SYMBOLS", c"the symbol table can't be used"),
        (
            fentry_error::ContextOffset,
            c"FENTRY_ERROR_CONTEXT_OFFSET",
            c"the trace context's offset does not fit the stubs",
        ),
        (fentry_error::CpuAreaOffset, c"FENTRY_ERROR_CPU_AREA_OFFSET", c"the CPU area's offset does not fit the stubs"),
        (fentry_error::Text, c"FENTRY_ERROR_TEXT", c"text could not be written, or was not as the engine had left it"),
        (fentry_error::AlreadyRegistered, c"FENTRY_ERROR_ALREADY_REGISTERED", c"the ops is already registered"),
        (fentry_error::NotRegistered, c"FENTRY_ERROR_NOT_REGISTERED", c"the ops is not registered"),
        (fentry_error::TooManyOps, c"FENTRY_ERROR_TOO_MANY_OPS", c"as many ops are registered as an engine can hold"),
        (
            fentry_error::TooManySets,
            c"FENTRY_ERROR_TOO_MANY_SETS",
            c"the callsites would have too many different sets of ops",
        ),
        (fentry_error::Permanent, c"FENTRY_ERROR_PERMANENT", c"the ops is permanent"),
        (fentry_error::NotDirect, c"FENTRY_ERROR_NOT_DIRECT", c"the ops calls no direct trampoline"),
        (fentry_error::NoCpuArea, c"FENTRY_ERROR_NO_CPU_AREA", c"the platform has no CPU areas"),
        (fentry_error::NoCounter, c"FENTRY_ERROR_NO_COUNTER", c"a function has no counter among those of the ops"),
        (fentry_error::Conflict, c"FENTRY_ERROR_CONFLICT", c"a function has an ops already that excludes this one"),
        (fentry_error::NoRoom, c"FENTRY_ERROR_NO_ROOM", c"the room for generated code is full"),
        (fentry_error::Stub, c"FENTRY_ERROR_STUB", c"a stub can't be made in the room for it"),
        (fentry_error::NoNames, c"FENTRY_ERROR_NO_NAMES", c"a rule asks for a name, and there is no symbol table"),
        (fentry_error::NothingSelected, c"FENTRY_ERROR_NOTHING_SELECTED", c"a rule selects no traceable function"),
        (
            fentry_error::NothingTakenAway,
            c"FENTRY_ERROR_NOTHING_TAKEN_AWAY",
            c"a rule takes no traceable function away",
        ),
        (fentry_error::EmptySelection, c"FENTRY_ERROR_EMPTY_SELECTION", c"the rules select no traceable function"),
        (
            fentry_error::ReturnsTwice,
            c"FENTRY_ERROR_RETURNS_TWICE",
            c"a function returns twice to one call, so its return can't be hooked",
        ),
        (fentry_error::OutOfReach, c"FENTRY_ERROR_OUT_OF_REACH", c"a callsite can't reach what it is to call"),
        (fentry_error::NotQuiescent, c"FENTRY_ERROR_NOT_QUIESCENT", c"a CPU may still be inside the callback"),
        (
            fentry_error::Quarantined,
            c"FENTRY_ERROR_QUARANTINED",
            c"the text of some callsites was written by somebody else",
        ),
        (fentry_error::BadRule, c"FENTRY_ERROR_BAD_RULE", c"a rule is not UTF-8, or is no glob"),
        (fentry_error::TooManyRules, c"FENTRY_ERROR_TOO_MANY_RULES", c"there are too many rules"),
        (fentry_error::BadWord, c"FENTRY_ERROR_BAD_WORD", c"a word of the session's command line can't be understood"),
        (fentry_error::NotSetUp, c"FENTRY_ERROR_NOT_SET_UP", c"an object was not initialised by its function"),
        (fentry_error::MemorySize, c"FENTRY_ERROR_MEMORY_SIZE", c"the memory's size is none that can be used"),
        (fentry_error::NotFound, c"FENTRY_ERROR_NOT_FOUND", c"there is no function, or no name for it"),
        (fentry_error::WriteFailed, c"FENTRY_ERROR_WRITE_FAILED", c"the bytes of a dump could not be written"),
        (fentry_error::Probed, c"FENTRY_ERROR_PROBED", c"there are probes in the text that is to be given back"),
    ];

    /// What C is given for a result.
    pub(super) fn from_result(result: Result<(), Self>) -> Self {
        result.err().unwrap_or(Self::None)
    }
}

impl From<InitError> for fentry_error {
    fn from(error: InitError) -> Self {
        match error {
            // The library's engine is alone, unless Rust in the same kernel has one in the same memory.
            InitError::AlreadyDone | InitError::MemoryInUse => Self::AlreadyInitialised,
            InitError::Table(_) => Self::Callsites,
            InitError::Symbols(_) => Self::Symbols,
            InitError::ContextOffset(_) => Self::ContextOffset,
            InitError::CpuAreaOffset(_) => Self::CpuAreaOffset,
            InitError::LeftOut { .. } => Self::BadRule,
            InitError::Text(_) => Self::Text,
        }
    }
}

impl From<RegisterError> for fentry_error {
    fn from(error: RegisterError) -> Self {
        match error {
            RegisterError::NotInitialised => Self::NotInitialised,
            RegisterError::AlreadyRegistered => Self::AlreadyRegistered,
            RegisterError::NotRegistered => Self::NotRegistered,
            RegisterError::TooManyOps { .. } => Self::TooManyOps,
            RegisterError::TooManySets { .. } => Self::TooManySets,
            RegisterError::Permanent => Self::Permanent,
            RegisterError::NotDirect => Self::NotDirect,
            RegisterError::NoCpuArea => Self::NoCpuArea,
            RegisterError::NoCounter { .. } => Self::NoCounter,
            RegisterError::Conflict { .. } => Self::Conflict,
            RegisterError::NoRoom { .. } => Self::NoRoom,
            RegisterError::Stub(_) | RegisterError::StubTooLong { .. } => Self::Stub,
            RegisterError::NoNames { .. } => Self::NoNames,
            RegisterError::NothingSelected { .. } => Self::NothingSelected,
            RegisterError::NothingTakenAway { .. } => Self::NothingTakenAway,
            RegisterError::EmptySelection => Self::EmptySelection,
            RegisterError::ReturnsTwice { .. } => Self::ReturnsTwice,
            RegisterError::OutOfReach(_) => Self::OutOfReach,
            RegisterError::NotQuiescent(_) => Self::NotQuiescent,
            RegisterError::Quarantined { .. } => Self::Quarantined,
            RegisterError::Probed { .. } => Self::Probed,
            RegisterError::Text { .. } => Self::Text,
        }
    }
}

/// The error of this number.
fn entry(error: u32) -> Option<&'static (fentry_error, &'static CStr, &'static CStr)> {
    fentry_error::ALL.get(error as usize)
}

/// Returns an error's name, such as `FENTRY_ERROR_NO_ROOM`; that of any other number is `FENTRY_ERROR_UNKNOWN`.
#[unsafe(no_mangle)]
pub extern "C" fn fentry_error_name(error: u32) -> *const c_char {
    entry(error).map_or(c"FENTRY_ERROR_UNKNOWN", |(_, name, _)| name).as_ptr()
}

/// Returns what an error means, in a few words. What was found, with names and addresses, was printed to the console.
#[unsafe(no_mangle)]
pub extern "C" fn fentry_error_text(error: u32) -> *const c_char {
    entry(error).map_or(c"an unknown error", |(_, _, text)| text).as_ptr()
}

#[cfg(test)]
mod tests {
    use super::{fentry_error, fentry_error_name, fentry_error_text};
    use core::ffi::CStr;
    use std::string::String;
    extern crate std;

    #[test]
    fn each_number_has_its_own_name_and_a_text() {
        for (number, (error, name, text)) in (0..).zip(fentry_error::ALL) {
            assert_eq!(error as u32, number);
            // SAFETY: a string of the table's.
            let found = unsafe { CStr::from_ptr(fentry_error_name(number)) };
            assert_eq!(found, name);
            // SAFETY: as above.
            assert_eq!(unsafe { CStr::from_ptr(fentry_error_text(number)) }, text);
            // As the header has it: the variant's own name.
            let mut expected = String::from("FENTRY_ERROR");
            for letter in std::format!("{error:?}").chars() {
                if letter.is_uppercase() {
                    expected.push('_');
                }
                expected.extend(letter.to_uppercase());
            }
            assert_eq!(name.to_str(), Ok(expected.as_str()));
        }
        for number in [fentry_error::ALL.len() as u32, u32::MAX] {
            // SAFETY: as above.
            assert_eq!(unsafe { CStr::from_ptr(fentry_error_name(number)) }, c"FENTRY_ERROR_UNKNOWN");
        }
    }
}
