//! The list of functions that may fail.

use crate::address::TextAddr;
use core::fmt;

/// A function that may fail, and what runs in its place then. [`injectable!`](crate::injectable) makes them.
///
/// # Invariants
///
/// Both are addresses of functions of one type.
#[repr(C)]
pub struct Injectable {
    function: *const (),
    instead: *const (),
    name: &'static str,
}

// SAFETY: the pointers are addresses of code, which is never written through them.
unsafe impl Sync for Injectable {}
// SAFETY: as above.
unsafe impl Send for Injectable {}

impl Injectable {
    /// Makes an entry of the list.
    ///
    /// # Safety
    ///
    /// 1. Both are functions of the same type, ABI and all.
    /// 2. A call of the first may do what the second does: who calls it has to expect that.
    pub const unsafe fn new(name: &'static str, function: *const (), instead: *const ()) -> Self {
        // INVARIANT: our caller's promise.
        Self { function, instead, name }
    }

    /// The list of this kernel, in no particular order.
    ///
    /// # Safety
    ///
    /// 1. The linker script defines `__fentry_injectable_start` and `__fentry_injectable_stop` around the section
    ///    `.fentry.injectable`, aligned to 8 bytes, and nothing but entries is in it.
    /// 2. It is mapped readable, and does not change.
    #[cfg(target_os = "none")]
    pub unsafe fn linked() -> &'static [Self] {
        unsafe extern "C" {
            static __fentry_injectable_start: u64;
            static __fentry_injectable_stop: u64;
        }
        let start = (&raw const __fentry_injectable_start).cast::<Self>();
        let stop = &raw const __fentry_injectable_stop;
        let count = stop.addr().saturating_sub(start.addr()) / size_of::<Self>();
        // SAFETY: by our caller's promises, so many entries that can be read and never change.
        unsafe { core::slice::from_raw_parts(start, count) }
    }

    /// The function's name, as it was written in the list.
    pub const fn name(&self) -> &str {
        self.name
    }

    /// The function.
    pub fn function(&self) -> TextAddr {
        TextAddr::new(self.function.addr() as u64)
    }

    /// What runs in its place when it fails.
    pub(super) fn instead(&self) -> TextAddr {
        TextAddr::new(self.instead.addr() as u64)
    }
}

impl fmt::Debug for Injectable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Injectable {} at {}", self.name, self.function())
    }
}

/// Lists functions that may be made to fail (see [`inject`](crate::inject)), each with a body that makes what it returns then.
///
/// The signature must be the function's, without generics; a method has its receiver as the first argument. The body sees the
/// arguments. Whoever calls the function must expect such a result, and the function must not have done anything yet that
/// the caller relies on when it fails: that is promised by `unsafe`.
///
/// A call that was inlined does not fail: the function should be `#[inline(never)]`. Nor does one of a `#[track_caller]`
/// function, whose address is that of a shim.
///
/// The list is the section `.fentry.injectable`, which examples/fentry.ld keeps.
///
/// ```ignore
/// fentry::injectable! {
///     // SAFETY: its callers handle a lack of memory.
///     unsafe fn slab::allocate(size: usize) -> Option<NonNull<u8>> { None }
///     // SAFETY: each caller passes errors on.
///     unsafe fn Disk::read(disk: &mut Disk, block: u64) -> Result<Block, Error> { Err(Error::Io { block }) }
///     // SAFETY: -ENOMEM is one of its results.
///     unsafe extern "C" fn c_open(path: *const u8) -> i32 { -12 }
/// }
/// ```
#[macro_export]
macro_rules! injectable {
    () => {};
    (
        $(#[$attribute:meta])*
        unsafe $(extern $abi:literal)? fn $($path:ident)::+ ($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? $body:block
        $($rest:tt)*
    ) => {
        const _: () = {
            $(#[$attribute])*
            #[allow(unused_variables, reason = "what is returned need not depend on the arguments")]
            #[inline(never)]
            $(extern $abi)? fn instead($($argument: $type),*) $(-> $result)? $body

            type Function = unsafe $(extern $abi)? fn($($type),*) $(-> $result)?;
            const FUNCTION: Function = $($path)::+;

            #[used]
            #[unsafe(link_section = ".fentry.injectable")]
            static SITE: $crate::inject::Injectable = {
                let name = $crate::__path_name!($($path)::+);
                // SAFETY: 1. The compiler has held both to one type. 2. As whoever wrote `unsafe` has promised.
                unsafe { $crate::inject::Injectable::new(name, FUNCTION as *const (), instead as Function as *const ()) }
            };
        };
        $crate::injectable! { $($rest)* }
    };
}

/// A path's text, without spaces.
#[doc(hidden)]
#[macro_export]
macro_rules! __path_name {
    ($first:ident $(:: $next:ident)*) => { ::core::concat!(::core::stringify!($first) $(, "::", ::core::stringify!($next))*) };
}
