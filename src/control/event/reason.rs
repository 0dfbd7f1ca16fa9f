//! Why the definition of an event, its filter or its trigger is refused.

use super::limits::{
    GROUP_BYTES, MAX_DEREFERENCES, MAX_FIELDS, MAX_KEYS, MAX_SORTS, MAX_SUMS, MAX_TESTS, MAX_TRIGGERS, NAME_BYTES,
    PATTERN_BYTES, TEXT_BYTES,
};
use crate::kprobe::KprobeError;
use thiserror::Error;

/// Why a line about events is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum EventReason {
    /// The kernel gave no memory for events.
    #[error("This kernel has no events")]
    NoEvents,
    /// Neither `p`, `r` nor `-`.
    #[error("A definition begins with `p`, `r`, or `-` to remove it")]
    Kind,
    /// The number behind `r`.
    #[error("A number from 0 to 4096 may stand behind `r`, which has no effect here")]
    MaxActive,
    /// A number behind `p`.
    #[error("A number may stand behind `r` only")]
    MaxActiveOfProbe,
    /// Nothing before the `/`.
    #[error("The group's name should stand before `/`")]
    NoGroupName,
    /// A group's name is too long.
    #[error("A group's name has at most {GROUP_BYTES} bytes")]
    GroupTooLong,
    /// A group's name is no identifier.
    #[error("A group's name has letters, digits and `_`, and begins with no digit")]
    BadGroupName,
    /// The event to be removed has no name.
    #[error("The event's name should stand here")]
    NoEventName,
    /// An event's name is too long.
    #[error("An event's name has at most {NAME_BYTES} bytes")]
    NameTooLong,
    /// An event's name is no identifier.
    #[error("An event's name has letters, digits and `_`, and begins with no digit")]
    BadEventName,
    /// There is one of this name.
    #[error("There is an event of this name already")]
    EventExists,
    /// There is none of this name.
    #[error("There is no such event")]
    NoSuchEvent,
    /// The event is enabled, or a trigger needs it.
    #[error("The event is in use: it is enabled, has triggers, or a trigger or a command at a function names it")]
    EventInUse,
    /// The place is missing.
    #[error("The function, or an address, should stand here")]
    NoPlace,
    /// There is no function of this name, or at this address.
    #[error("There is no such function")]
    BadPlace,
    /// Several functions have the name.
    #[error("Several functions have this name: only an address says which one")]
    NotUnique,
    /// What is behind the function's name is no offset.
    #[error("The offset is no number")]
    BadOffset,
    /// The offset is beyond the function's end.
    #[error("The function has {bytes} bytes only")]
    BeyondFunction {
        /// How many.
        bytes: u64,
    },
    /// A return probe elsewhere than at a function's beginning.
    #[error("A return can be probed of a whole function only: without an offset")]
    ReturnInside,
    /// A place that has no callsite, where the kernel did not allow others.
    #[error("There is no traceable function's entry, and this kernel allows no others")]
    NotAtEntry,
    /// There is no room for one more field.
    #[error("An event has at most {MAX_FIELDS} fields")]
    TooManyFields,
    /// There is no room for the definition's text.
    #[error("There is room for {TEXT_BYTES} bytes of text here")]
    TooLong,
    /// There is no room for one more event.
    #[error("There is memory for {events} events only")]
    TooManyEvents {
        /// How many.
        events: usize,
    },
    /// Nothing before the `=`.
    #[error("The field's name should stand before `=`")]
    NoFieldName,
    /// A field's name is no identifier.
    #[error("A field's name has letters, digits and `_`, and begins with no digit")]
    BadFieldName,
    /// Two fields of one name, or one of a name that all events have.
    #[error("There is a field of this name already")]
    FieldExists,
    /// Nothing behind the `=`.
    #[error("What is fetched should stand behind `=`")]
    NoFetch,
    /// No form of argument that there is.
    #[error(
        "An argument is %REGISTER, $argN, $retval, $stack, $stackN, @ADDRESS, @SYMBOL, \\VALUE or +OFFSET(ARGUMENT)"
    )]
    BadFetch,
    /// An unknown register.
    #[error("The registers are x0 to x30, lr, sp, pc and pstate")]
    BadRegister,
    /// A register that a function's return does not show.
    #[error("At a function's return there are the registers x0 to x7")]
    NotAtReturn,
    /// An unknown `$`.
    #[error("There are $arg1 to $arg8, $retval, $stack and $stackN")]
    BadVariable,
    /// `$argN` elsewhere than at a function's entry.
    #[error("Arguments are there at a function's entry only")]
    ArgumentNotAtEntry,
    /// `$retval` of a `p`.
    #[error("$retval is there in `r` events only")]
    ResultOfProbe,
    /// A number that is none.
    #[error("A number should stand here: decimal, or hexadecimal with 0x")]
    BadNumber,
    /// An offset without brackets.
    #[error("An offset has its argument in brackets behind it: +OFFSET(ARGUMENT)")]
    NoBracket,
    /// A bracket that is not closed.
    #[error("The bracket is not closed")]
    OpenBracket,
    /// Too many dereferences.
    #[error("At most {MAX_DEREFERENCES} addresses are followed")]
    TooDeep,
    /// The kernel gave no way to read memory.
    #[error("This kernel gives events no way to read memory")]
    NoMemory,
    /// User space's memory.
    #[error("Memory of user space is not read here")]
    UserMemory,
    /// An unknown type.
    #[error("The types are u8 to u64, s8 to s64, x8 to x64, char, symbol, string and bWIDTH@OFFSET/SIZE")]
    BadType,
    /// An array.
    #[error("There are no arrays here")]
    NoArrays,
    /// A string that is in no memory.
    #[error("A string is in memory: +0(ARGUMENT):string")]
    StringNotInMemory,
    /// Bits beyond their container.
    #[error("Bits are bWIDTH@OFFSET/SIZE, inside 8, 16, 32 or 64 bits")]
    BadBits,
    /// The probe was not registered, removed, enabled or disabled.
    #[error("{0}")]
    Kprobe(#[source] KprobeError),
    /// A word that is no field.
    #[error("The event has no such field")]
    NoSuchField,
    /// No operator.
    #[error("An operator should stand here: == != < <= > >= & for numbers, == != ~ for strings")]
    BadOperator,
    /// An operator that the field's type has not.
    #[error("The field's type has no such operator")]
    OperatorOfOtherType,
    /// No value.
    #[error("A value should stand here")]
    NoValue,
    /// A value that the field can't have.
    #[error("The field can't have this value")]
    ValueOutOfRange,
    /// A string without its end.
    #[error("The string is not closed")]
    OpenString,
    /// Text of a filter behind its end.
    #[error("`&&` or `||` should stand here")]
    ExpectedConnective,
    /// A closing bracket too many.
    #[error("This bracket closes nothing")]
    StrayBracket,
    /// Too many tests, or brackets.
    #[error("A filter has at most {MAX_TESTS} tests, and as many brackets inside each other")]
    FilterTooLong,
    /// No trigger's name.
    #[error(
        "The triggers are traceon, traceoff, snapshot, stacktrace, enable_event, disable_event, enable_hist, disable_hist and \
             hist"
    )]
    BadTrigger,
    /// Something else than `if` behind a trigger.
    #[error("`if FILTER` may stand here")]
    NoIf,
    /// No event behind `enable_event`.
    #[error("The event that is switched should stand here: GROUP:EVENT")]
    NoTarget,
    /// There is a trigger of this kind.
    #[error("The event has a trigger of this kind already")]
    TriggerExists,
    /// There is none of this kind.
    #[error("The event has no such trigger")]
    NoSuchTrigger,
    /// There is no room for one more trigger.
    #[error("An event has at most {MAX_TRIGGERS} triggers")]
    TooManyTriggers,
    /// A histogram without keys.
    #[error("The histogram's keys should stand here: keys=FIELD")]
    NoKeys,
    /// An unknown option of a histogram.
    #[error("A histogram has keys=, vals=, sort=, size=, pause, continue and clear")]
    BadHistOption,
    /// An unknown modifier, or one that the field's type has not.
    #[error(
        "This can't stand behind it: keys have .hex, .sym, .sym-offset, .execname (common_pid), .log2 and .buckets=N, values \
             .percent, sorts .descending"
    )]
    BadModifier,
    /// Too many keys.
    #[error("A histogram has at most {MAX_KEYS} keys")]
    TooManyKeys,
    /// Keys that take too many words.
    #[error("There is room for two strings or one stack among the keys")]
    KeyTooLong,
    /// A value that is no number.
    #[error("Only numbers can be summed up")]
    NoNumber,
    /// Too many values.
    #[error("A histogram sums up at most {MAX_SUMS} values")]
    TooManySums,
    /// A sort by something that is not shown.
    #[error("A histogram is sorted by hitcount, its values or its keys")]
    NoSuchSort,
    /// Too many sorts.
    #[error("A histogram is sorted by at most {MAX_SORTS} of them")]
    TooManySorts,
    /// A size that a histogram can't have.
    #[error("A histogram's size is a power of two from 128 to 131072")]
    BadSize,
    /// The kernel has no memory for one more histogram, or for none of this size.
    #[error("This kernel has no memory for one more histogram of this size")]
    NoHistogram,
    /// Too much text to compare with.
    #[error("A filter's strings have at most {PATTERN_BYTES} bytes together")]
    PatternTooLong,
}
