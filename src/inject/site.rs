//! The list of functions that may fail.

use crate::address::TextAddr;
#[cfg(feature = "module")]
use crate::module::Module;
use core::fmt;
use core::marker::PhantomData;

/// A function that may fail, and what runs in its place then. [`injectable!`](crate::injectable) makes them.
///
/// The functions are there for `'a`: for ever, or, of a module's, as long as the list of modules is borrowed. In C it is
/// `struct { const void *function, *instead; const char *name; unsigned long name_bytes; }`.
///
/// # Invariants
///
/// 1. Both are addresses of functions of one type, and the second is there as long as the first is.
/// 2. So is the name: so many bytes of UTF-8.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Injectable<'a> {
    pub(super) function: *const (),
    pub(super) instead: *const (),
    pub(super) name: *const u8,
    pub(super) name_bytes: usize,
    pub(super) _functions: PhantomData<&'a ()>,
}

// SAFETY: the pointers are addresses of code and of a text, which are never written through them.
unsafe impl Sync for Injectable<'_> {}
// SAFETY: as above.
unsafe impl Send for Injectable<'_> {}

impl Injectable<'static> {
    /// Makes an entry of the list.
    ///
    /// # Safety
    ///
    /// 1. Both are functions of the same type, ABI and all.
    /// 2. A call of the first may do what the second does: who calls it has to expect that.
    /// 3. The second is there as long as the first can be called.
    pub const unsafe fn new(name: &'static str, function: *const (), instead: *const ()) -> Self {
        // INVARIANT: 1. Our caller's promise. 2. It is there for ever.
        Self { function, instead, name: name.as_ptr(), name_bytes: name.len(), _functions: PhantomData }
    }

    /// The list of this kernel, in no particular order.
    ///
    /// # Safety
    ///
    /// 1. The linker script defines `__fentry_injectable_start` and `__fentry_injectable_stop` around the section
    ///    `.fentry.injectable`, aligned to 8 bytes, and nothing but entries is in it. One that
    ///    [`injectable!`](crate::injectable) didn't make is as if [`new`](Self::new) had.
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
}

impl<'a> Injectable<'a> {
    /// The list of a module: what its object has in the section `.fentry.injectable`, in that order.
    ///
    /// That the two functions of each entry are of one type, and what [`injectable!`](crate::injectable) asks for besides, is a
    /// part of what was promised of the module's code when it was [loaded](crate::module::Modules::load).
    ///
    /// What is attached to them need not be detached before the module is unloaded: its functions lose their ops then, and
    /// no text that comes to stand there gets them.
    ///
    /// ```compile_fail,E0502
    /// # use fentry::inject::Injectable;
    /// # use fentry::module::{ModuleId, Modules, UnloadError};
    /// # unsafe fn unload(modules: &mut Modules<'_>, id: ModuleId) -> Result<(), UnloadError> {
    /// let site = modules.get(id).and_then(|module| Injectable::of_module(module).next());
    /// // SAFETY: nobody uses it any more.
    /// unsafe { modules.unload(id)? };
    /// // The entry is used after the module has gone: this does not compile.
    /// println!("{site:?}");
    /// # Ok(())
    /// # }
    /// ```
    #[cfg(feature = "module")]
    pub fn of_module(module: &'a Module<'_>) -> impl Iterator<Item = Self> {
        module.injectables().iter().map(|listed| {
            let [function, instead] = [listed.function, listed.instead].map(|address| address as usize);
            let [function, instead] = [function, instead].map(core::ptr::without_provenance);
            // INVARIANT: 1. Both are in the module's text, which is unmapped after its callsites are gone; of one type they are
            // by the promise of who has loaded it. 2. The loader's own copy, which goes last.
            Self {
                function,
                instead,
                name: listed.name.as_ptr(),
                name_bytes: listed.name.len(),
                _functions: PhantomData,
            }
        })
    }

    /// The function's name, as it was written in the list.
    pub const fn name(&self) -> &'a str {
        // SAFETY: so many bytes are there for `'a`, and never change: the second invariant.
        let bytes = unsafe { core::slice::from_raw_parts(self.name, self.name_bytes) };
        // SAFETY: they are UTF-8, by the same.
        unsafe { core::str::from_utf8_unchecked(bytes) }
    }

    /// The function.
    pub fn function(&self) -> TextAddr {
        TextAddr::new(self.function.addr() as u64)
    }

    /// What runs in its place when it fails.
    pub(crate) fn instead(&self) -> TextAddr {
        TextAddr::new(self.instead.addr() as u64)
    }
}

impl fmt::Debug for Injectable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Injectable {} at {}", self.name(), self.function())
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
/// The list is the section `.fentry.injectable`, which examples/fentry.ld keeps. A module has one of its own
/// ([`Injectable::of_module`](crate::inject::Injectable::of_module)), of its own functions only.
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
            static SITE: $crate::inject::Injectable<'static> = {
                let name = $crate::__path_name!($($path)::+);
                // SAFETY: 1. The compiler has held both to one type. 2. As whoever wrote `unsafe` has promised. 3. They are of
                // one image.
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
