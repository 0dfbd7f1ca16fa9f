//! Functions' types, as the compiler knows them.

use super::class::{Class, Signature};
use crate::address::TextAddr;

/// A type whose values a function takes or returns.
///
/// # Safety
///
/// 1. `CLASS` is how AAPCS64 passes it.
/// 2. Any bits are a value of it, but for padding: a function of another type may have the same instructions.
pub unsafe trait Value: 'static {
    /// How it is passed and returned.
    const CLASS: Class;
}

/// A type of argument.
///
/// # Safety
///
/// 1. It has 16 bytes at most, or is up to four floats.
pub unsafe trait Argument: Value + Copy {}

/// A type of result with which a handler can answer for a function, if it is not zero.
///
/// # Safety
///
/// 1. It is a number, or a pointer: its [`CLASS`](Value::CLASS) is one of [`Class::BITS_8`] to [`Class::BITS_64`], or
///    [`Class::BOOL`].
pub unsafe trait Answer: Value {}

// SAFETY: 1. AAPCS64 6.9: nothing is returned. 2. It has no bits.
unsafe impl Value for () {
    const CLASS: Class = Class::UNIT;
}

macro_rules! numbers {
    ($($type:ty = $class:ident),*) => {
        $(
            // SAFETY: 1. AAPCS64 10.1.1 (arithmetic types). 2. A number; of a `bool`, handlers get its lowest bit alone.
            unsafe impl Value for $type {
                const CLASS: Class = Class::$class;
            }
            // SAFETY: 1. It is as large as its class says.
            unsafe impl Argument for $type {}
        )*
    };
}

macro_rules! answers {
    ($($type:ty),*) => {
        $(
            // SAFETY: 1. so it is, above.
            unsafe impl Answer for $type {}
        )*
    };
}

numbers! {
    bool = BOOL, u8 = BITS_8, i8 = BITS_8, u16 = BITS_16, i16 = BITS_16, u32 = BITS_32, i32 = BITS_32,
    u64 = BITS_64, i64 = BITS_64, usize = BITS_64, isize = BITS_64, u128 = BITS_128, i128 = BITS_128
}
answers! { bool, u8, i8, u16, i16, u32, i32, u64, i64, usize, isize }

// Elsewhere they are passed as the compiler likes, which is not AAPCS64's concern.
#[cfg(any(not(target_arch = "aarch64"), target_feature = "neon"))]
numbers! { f32 = F32, f64 = F64 }

macro_rules! pointers {
    ($($type:ty),*) => {
        $(
            // SAFETY: 1. AAPCS64 10.1.2: a pointer has 64 bits. 2. It may point anywhere.
            unsafe impl<T: 'static> Value for $type {
                const CLASS: Class = Class::BITS_64;
            }
            // SAFETY: 1. It has 8 bytes.
            unsafe impl<T: 'static> Argument for $type {}
            // SAFETY: 1. so it is.
            unsafe impl<T: 'static> Answer for $type {}
        )*
    };
}

pointers! { *const T, *mut T }

mod sealed {
    pub trait Function {}
}

/// A type of function to which handlers can be attached: `extern "C" fn` of up to twelve [arguments](Argument), with any
/// [result](Value).
pub trait Function: sealed::Function + Copy + Send + Sync + 'static {
    /// What it returns.
    type Result: Value;
    /// A handler at its entry.
    type Entry: Copy + Send + Sync;
    /// A handler that may answer for it.
    type Modify: Copy + Send + Sync;
    /// A handler at its exit.
    type Exit: Copy + Send + Sync;

    /// Its classes.
    #[doc(hidden)]
    const SIGNATURE: Signature<'static>;

    /// Its address.
    #[doc(hidden)]
    fn address(self) -> TextAddr;
    /// The address of a handler.
    #[doc(hidden)]
    fn entry(handler: Self::Entry) -> TextAddr;
    /// The address of a handler.
    #[doc(hidden)]
    fn modify(handler: Self::Modify) -> TextAddr;
    /// The address of a handler.
    #[doc(hidden)]
    fn exit(handler: Self::Exit) -> TextAddr;
}

fn address(function: *const ()) -> TextAddr {
    TextAddr::new(function.addr() as u64)
}

/// Of so many arguments and of each fewer.
macro_rules! functions {
    ($($first:ident $($argument:ident)*)?) => {
        impl<$($first: Argument, $($argument: Argument,)*)? Result: Value> sealed::Function
            for extern "C" fn($($first, $($argument),*)?) -> Result {}

        impl<$($first: Argument, $($argument: Argument,)*)? Result: Value> Function
            for extern "C" fn($($first, $($argument),*)?) -> Result
        {
            type Result = Result;
            type Entry = extern "C" fn($($first, $($argument),*)?);
            type Modify = extern "C" fn($($first, $($argument),*)?) -> Result;
            type Exit = for<'r> extern "C" fn($($first, $($argument,)*)? &'r Result);

            const SIGNATURE: Signature<'static> =
                Signature { arguments: &[$($first::CLASS, $($argument::CLASS),*)?], result: Result::CLASS };

            fn address(self) -> TextAddr {
                address(self as *const ())
            }

            fn entry(handler: Self::Entry) -> TextAddr {
                address(handler as *const ())
            }

            fn modify(handler: Self::Modify) -> TextAddr {
                address(handler as *const ())
            }

            fn exit(handler: Self::Exit) -> TextAddr {
                address(handler as *const ())
            }
        }

        $(functions! { $($argument)* })?
    };
}

functions! { A B C D E F G H I J K L }
