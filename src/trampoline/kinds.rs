//! Which types of arguments and results generated code knows: found out where an ops struct is described, by the compiler.

use core::marker::PhantomData;

/// A type of result that generated code can return: that of this name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(missing_docs, reason = "they are the types of these names")]
pub enum ScalarKind {
    Unit,
    Bool,
    U8,
    U16,
    U32,
    U64,
    Usize,
    I8,
    I16,
    I32,
    I64,
    Isize,
}

/// A number, a `bool` or `()`: what generated code can return, in X0 (AAPCS64 6.9, "Result return").
pub trait Scalar: Copy + sealed::Result {
    /// Which one.
    #[doc(hidden)]
    const KIND: ScalarKind;

    /// Its bits, extended to a register.
    #[doc(hidden)]
    fn bits(self) -> u64;
}

mod sealed {
    pub trait Result {}
    pub trait Argument {}
}

macro_rules! scalars {
    ($($type:ty = $kind:ident, |$value:ident| $bits:expr;)*) => {
        $(
            impl sealed::Result for $type {}
            impl sealed::Argument for $type {}

            impl Scalar for $type {
                const KIND: ScalarKind = ScalarKind::$kind;

                fn bits(self) -> u64 {
                    let $value = self;
                    $bits
                }
            }

            impl General for $type {}
        )*
    };
}

scalars! {
    bool = Bool, |value| u64::from(value);
    u8 = U8, |value| u64::from(value);
    u16 = U16, |value| u64::from(value);
    u32 = U32, |value| u64::from(value);
    u64 = U64, |value| value;
    usize = Usize, |value| value as u64;
    i8 = I8, |value| value as u64;
    i16 = I16, |value| value as u64;
    i32 = I32, |value| value as u64;
    i64 = I64, |value| value as u64;
    isize = Isize, |value| value as u64;
}

impl sealed::Result for () {}

impl Scalar for () {
    const KIND: ScalarKind = ScalarKind::Unit;

    fn bits(self) -> u64 {
        0
    }
}

/// A type whose values are passed in one general register each, as long as there are any (AAPCS64 6.8.2, C.9).
pub trait General: sealed::Argument {}

macro_rules! pointers {
    ($($type:ty),*) => {
        $(
            impl<T> sealed::Argument for $type {}
            impl<T> General for $type {}
        )*
    };
}

pointers! { &T, &mut T, *const T, *mut T }

/// A type that is asked what it is. Where it is none of those above, the traits below answer: a method that a type has itself
/// goes before one of a trait.
#[doc(hidden)]
#[derive(Debug)]
pub struct Asked<T>(PhantomData<T>);

impl<T: Scalar> Asked<T> {
    pub const RESULT: Option<ScalarKind> = Some(T::KIND);
}

#[doc(hidden)]
pub trait NoScalar {
    const RESULT: Option<ScalarKind> = None;
}

impl<T> NoScalar for Asked<T> {}

impl<T: General> Asked<T> {
    pub const IS_GENERAL: bool = true;
}

#[doc(hidden)]
pub trait NotGeneral {
    const IS_GENERAL: bool = false;
}

impl<T> NotGeneral for Asked<T> {}

/// An argument of a member: what generated code has to know of its type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Argument {
    bytes: usize,
    align: usize,
    is_general: bool,
}

impl Argument {
    #[doc(hidden)]
    pub const fn new(bytes: usize, align: usize, is_general: bool) -> Self {
        Self { bytes, align, is_general }
    }

    /// A number, a `bool`, an enum or a pointer, of 1 to 8 bytes: in one general register, as long as there are any (AAPCS64 6.8.2,
    /// C.9).
    pub const fn general(bytes: usize) -> Self {
        Self::new(bytes, bytes, true)
    }

    /// Any other one, of so many bytes, aligned to so many.
    pub const fn other(bytes: usize, align: usize) -> Self {
        Self::new(bytes, align, false)
    }

    /// How many bits it has, if it is in one general register.
    pub(super) fn general_bits(&self) -> Option<u8> {
        u8::try_from(8 * self.bytes).ok().filter(|_| self.is_general)
    }

    /// The most registers of one kind that it takes (AAPCS64 6.8.2): general ones for 8 bytes each, after one that is skipped where
    /// it is aligned to 16; or vector registers for as many floats or vectors as it may have, four at most.
    fn registers(&self) -> usize {
        let general = self.bytes.div_ceil(8) + usize::from(self.align > 8);
        let vector = self.bytes.checked_div(self.align).unwrap_or(0);
        if self.is_general { 1 } else { general.max(vector).min(4) }
    }
}

/// Whether all of them are certainly in registers: eight of each kind.
pub(super) fn are_in_registers(arguments: &[Argument]) -> bool {
    arguments.iter().map(Argument::registers).sum::<usize>() <= 8
}
