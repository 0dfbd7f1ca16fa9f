//! What an ops struct is: its members, a stub for each, and a caller that is compiled where they are called.

use super::error::OpsError;
use super::kinds::{Argument, ScalarKind};
use crate::address::TextAddr;
use core::fmt;

/// An ops struct: a table of functions. [`ops_struct!`](crate::ops_struct) implements it.
///
/// # Safety
///
/// 1. The type is `#[repr(C)]`, and has nothing but the members, in this order: each an `Option` of an `extern "C" fn`.
/// 2. Each member's stub is a function of the member's type.
/// 3. [`caller`](Self::caller) is a function that calls by a function pointer, compiled as all who call the members are, and
///    so are the stubs.
/// 4. [`calls`](Self::calls) returns the table that it is given, as another type, whose methods call members that are not NULL.
/// 5. [`MEMBERS`](Self::MEMBERS) tells the truth: where each is in the table, of what types its arguments and its result are.
pub unsafe trait OpsStruct: Copy + Send + Sync + 'static {
    /// Its name, for messages.
    const NAME: &'static str;
    /// Its members.
    const MEMBERS: &'static [Member];
    /// What calls its members.
    type Calls;

    /// The address of a function that calls by a function pointer.
    fn caller() -> TextAddr;

    /// The table, for who calls by it.
    fn calls(table: &InUse<Self>) -> &Self::Calls;
}

/// The most members of an ops struct.
pub(super) const MAX_MEMBERS: usize = 64;

/// What an ops struct is, for code that does not know its type.
#[derive(Clone, Copy)]
pub(crate) struct Description<'a> {
    /// Its name, for messages.
    pub(crate) name: &'static str,
    /// A function that calls by a function pointer, compiled as all who call the members are.
    pub(crate) caller: TextAddr,
    /// The member of each number, and none behind the last one.
    pub(crate) members: &'a dyn Fn(usize) -> Option<Member>,
}

impl Description<'static> {
    pub(super) fn of<T: OpsStruct>() -> Self {
        Self { name: T::NAME, caller: T::caller(), members: &|number| T::MEMBERS.get(number).copied() }
    }
}

impl Description<'_> {
    /// Its members.
    ///
    /// # Errors
    ///
    /// [`OpsError::TooManyMembers`].
    pub(super) fn members(&self) -> Result<impl Iterator<Item = Member>, OpsError> {
        if (self.members)(MAX_MEMBERS).is_some() {
            return Err(OpsError::TooManyMembers { ops: self.name, most: MAX_MEMBERS });
        }
        Ok((0..MAX_MEMBERS).map_while(self.members))
    }
}

/// A member of an ops struct.
#[derive(Clone, Copy)]
pub struct Member {
    name: &'static str,
    offset: usize,
    is_optional: bool,
    stub: *const (),
    pub(super) result: Option<ScalarKind>,
    pub(super) arguments: &'static [Argument],
}

impl Member {
    /// Describes one, for an [`UntypedOps`](super::UntypedOps): where it is in the table, in bytes; whether it may be NULL; its
    /// stub, a function of its type; and what generated code has to know of the type: its result, if that is a number, a `bool`
    /// or nothing; and its arguments.
    pub const fn new(
        name: &'static str,
        offset: usize,
        is_optional: bool,
        stub: *const (),
        result: Option<ScalarKind>,
        arguments: &'static [Argument],
    ) -> Self {
        Self { name, offset, is_optional, stub, result, arguments }
    }

    /// Its name.
    pub const fn name(&self) -> &'static str {
        self.name
    }

    /// Whether it may be NULL.
    pub const fn is_optional(&self) -> bool {
        self.is_optional
    }

    /// Its stub.
    pub fn stub(&self) -> TextAddr {
        TextAddr::new(self.stub.addr() as u64)
    }

    /// The function that a table has here; `None` where it is NULL.
    ///
    /// # Safety
    ///
    /// 1. The table can be read, and has this member.
    pub(super) unsafe fn function(&self, table: *const ()) -> Option<TextAddr> {
        let place = table.cast::<u8>().wrapping_add(self.offset).cast::<*const ()>();
        // SAFETY: our caller's promise: there is a function pointer, which may be NULL. Not aligned, where whoever wrote the struct
        // has packed it.
        let function = unsafe { place.read_unaligned() };
        Some(TextAddr::new(function.addr() as u64)).filter(|_| !function.is_null())
    }

    /// Puts a function into a table.
    ///
    /// # Safety
    ///
    /// 1. The table can be written, and has this member.
    /// 2. There is a function at `at`, of the member's type, for as long as the table is called by.
    pub(super) unsafe fn set(&self, table: *mut (), at: TextAddr) {
        let place = table.cast::<u8>().wrapping_add(self.offset).cast::<*const ()>();
        // SAFETY: our caller's first promise; what is put there is a function, by the second one.
        unsafe { place.write_unaligned(core::ptr::with_exposed_provenance(at.get() as usize)) };
    }
}

// SAFETY: of the stub nothing is used but its address.
unsafe impl Send for Member {}
// SAFETY: as above.
unsafe impl Sync for Member {}

impl fmt::Debug for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Member").field("name", &self.name).field("stub", &self.stub()).finish_non_exhaustive()
    }
}

/// A table that is in use. Its functions can be called by the face that [`ops_struct!`](crate::ops_struct) makes, and are not
/// shown: they are there only as long as somebody uses the table.
///
/// # Invariants
///
/// Each member that is not optional is not NULL.
#[repr(transparent)]
pub struct InUse<T>(T);

impl<T: OpsStruct> InUse<T> {
    /// # Safety
    ///
    /// 1. Each member that is not optional is not NULL.
    pub(super) const unsafe fn new(table: T) -> Self {
        // INVARIANT: our caller's promise.
        Self(table)
    }

    /// The table, for the face.
    ///
    /// # Safety
    ///
    /// 1. No copy of a function pointer of it is used once this borrow is over.
    #[doc(hidden)]
    #[inline(always)]
    pub const unsafe fn table(&self) -> &T {
        &self.0
    }
}

impl<T: OpsStruct> fmt::Debug for InUse<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(T::NAME).finish_non_exhaustive()
    }
}

/// What stubs would do: nobody calls them.
#[doc(hidden)]
#[cold]
pub fn never_called() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Describes an ops struct: a table of functions, and the face by which they are called.
///
/// The first name is that of the table: `#[repr(C)]`, with a field `Option<extern "C" fn(..)>` for each member, so that C sees
/// a struct of function pointers. The second is what a [`User`](crate::trampoline::User) of a table derefs to: it has a method
/// for each member. A member that is `[optional]` may be NULL; its method returns `None` then. One that is `[unsafe]` is an
/// `unsafe extern "C" fn`, and so is its method. A result can't borrow of an argument.
///
/// ```
/// fentry::ops_struct! {
///     /// How a queue decides.
///     pub struct PolicyOps => Policy {
///         /// What goes next, of so many that wait.
///         fn pick(waiting: u64, last: u64) -> u64;
///         /// One was sent.
///         [optional] fn sent(number: u64);
///         /// Describes itself.
///         ///
///         /// # Safety
///         ///
///         /// 1. `text` has room for `bytes` bytes.
///         [optional] [unsafe] fn describe(text: *mut u8, bytes: usize) -> usize;
///     }
/// }
///
/// extern "C" fn oldest(_waiting: u64, last: u64) -> u64 {
///     last + 1
/// }
///
/// static FIFO: PolicyOps = PolicyOps { pick: Some(oldest), sent: None, describe: None };
/// ```
///
/// A function of another type does not compile:
///
/// ```compile_fail,E0308
/// # fentry::ops_struct! {
/// #     pub struct PolicyOps => Policy {
/// #         fn pick(waiting: u64, last: u64) -> u64;
/// #     }
/// # }
/// extern "C" fn oldest(_waiting: u64, last: u32) -> u64 {
///     u64::from(last) + 1
/// }
///
/// static FIFO: PolicyOps = PolicyOps { pick: Some(oldest) };
/// ```
#[macro_export]
macro_rules! ops_struct {
    (
        $(#[$attribute:meta])*
        $visibility:vis struct $Ops:ident => $Face:ident {
            $(
                $(#[$of_member:meta])*
                $([$flag:ident])* fn $member:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)?;
            )+
        }
    ) => {
        $(#[$attribute])*
        #[repr(C)]
        #[derive(Clone, Copy, Debug)]
        $visibility struct $Ops {
            $(
                $(#[$of_member])*
                pub $member:
                    ::core::option::Option<$crate::__ops_function!([$($flag)*] ($($type),*) [$($result)?])>,
            )+
        }

        #[doc = ::core::concat!("A table [`", ::core::stringify!($Ops), "`] that is in use.")]
        #[repr(transparent)]
        #[derive(Debug)]
        $visibility struct $Face($crate::trampoline::InUse<$Ops>);

        #[allow(dead_code, reason = "a kernel need not call each of them")]
        impl $Face {
            $(
                $crate::__ops_method! {
                    [$($flag)*] $(#[$of_member])* $visibility $member($($argument: $type),*) [$($result)?]
                }
            )+
        }

        // SAFETY: 1. It is written so above. 2. The compiler has held each stub to its member's type. 3. All are compiled
        // here, where the methods above are, which call the members. 4. The face is `repr(transparent)`, and its methods call
        // what is not NULL. 5. The compiler says so.
        unsafe impl $crate::trampoline::OpsStruct for $Ops {
            const NAME: &'static str = ::core::stringify!($Ops);
            const MEMBERS: &'static [$crate::trampoline::Member] = &[$({
                #[allow(unused_variables, reason = "nobody calls it")]
                extern "C" fn stub($($argument: $type),*) $(-> $result)? {
                    $crate::trampoline::never_called()
                }
                const STUB: $crate::__ops_function!([$($flag)*] ($($type),*) [$($result)?]) = stub;

                $crate::trampoline::Member::new(
                    ::core::stringify!($member),
                    ::core::mem::offset_of!($Ops, $member),
                    $crate::__is_optional!($($flag)*),
                    STUB as *const (),
                    {
                        #[allow(unused_imports, reason = "only for some types")]
                        use $crate::trampoline::kinds::NoScalar as _;
                        <$crate::trampoline::kinds::Asked<$crate::__or_unit!($($result)?)>>::RESULT
                    },
                    &[$({
                        #[allow(unused_imports, reason = "only for some types")]
                        use $crate::trampoline::kinds::NotGeneral as _;
                        $crate::trampoline::kinds::Argument::new(
                            ::core::mem::size_of::<$type>(),
                            ::core::mem::align_of::<$type>(),
                            <$crate::trampoline::kinds::Asked<$type>>::IS_GENERAL,
                        )
                    }),*],
                )
            }),+];
            type Calls = $Face;

            fn caller() -> $crate::TextAddr {
                #[inline(never)]
                extern "C" fn caller(function: extern "C" fn()) {
                    function();
                }
                let caller: extern "C" fn(extern "C" fn()) = caller;
                $crate::TextAddr::new((caller as *const ()).addr() as u64)
            }

            #[inline(always)]
            fn calls(table: &$crate::trampoline::InUse<Self>) -> &$Face {
                let face = ::core::ptr::from_ref(table).cast::<$Face>();
                // SAFETY: `repr(transparent)`, and borrowed as long.
                unsafe { &*face }
            }
        }
    };
}

/// Whether a member was marked so.
#[doc(hidden)]
#[macro_export]
macro_rules! __is_optional {
    ($(unsafe)?) => {
        false
    };
    ($(unsafe)? optional $(unsafe)?) => {
        true
    };
}

/// The type of a member.
#[doc(hidden)]
#[macro_export]
macro_rules! __ops_function {
    ([$(optional)?] ($($type:ty),*) [$($result:ty)?]) => {
        extern "C" fn($($type),*) $(-> $result)?
    };
    ([$(optional)? unsafe $(optional)?] ($($type:ty),*) [$($result:ty)?]) => {
        unsafe extern "C" fn($($type),*) $(-> $result)?
    };
}

/// A type, or `()` where there is none.
#[doc(hidden)]
#[macro_export]
macro_rules! __or_unit {
    () => {
        ()
    };
    ($type:ty) => {
        $type
    };
}

/// The method of a face that calls a member.
#[doc(hidden)]
#[macro_export]
macro_rules! __ops_method {
    ([] $($method:tt)*) => {
        $crate::__ops_method! { @always [] $($method)* }
    };
    ([unsafe] $($method:tt)*) => {
        $crate::__ops_method! { @always [unsafe] $($method)* }
    };
    ([optional] $($method:tt)*) => {
        $crate::__ops_method! { @optional [] $($method)* }
    };
    ([optional unsafe] $($method:tt)*) => {
        $crate::__ops_method! { @optional [unsafe] $($method)* }
    };
    ([unsafe optional] $($method:tt)*) => {
        $crate::__ops_method! { @optional [unsafe] $($method)* }
    };
    (@always [$($unsafe:ident)?] $(#[$attribute:meta])* $visibility:vis $member:ident($($argument:ident: $type:ty),*)
        [$($result:ty)?]) => {
        $(#[$attribute])*
        #[inline(always)]
        #[allow(clippy::too_many_arguments, reason = "as many as the member has")]
        $visibility $($unsafe)? fn $member(&self, $($argument: $type),*) $(-> $result)? {
            // SAFETY: the pointer is called below, and not kept.
            let table = unsafe { self.0.table() };
            // SAFETY: not NULL, since the member is not optional: the invariant of a table that is in use.
            let function = unsafe { table.$member.unwrap_unchecked() };
            $crate::__ops_call!([$($unsafe)?] function($($argument),*))
        }
    };
    (@optional [$($unsafe:ident)?] $(#[$attribute:meta])* $visibility:vis $member:ident($($argument:ident: $type:ty),*)
        [$($result:ty)?]) => {
        $(#[$attribute])*
        ///
        /// `None` where the member is NULL.
        #[inline(always)]
        #[allow(clippy::too_many_arguments, reason = "as many as the member has")]
        $visibility $($unsafe)? fn $member(&self, $($argument: $type),*)
            -> ::core::option::Option<$crate::__or_unit!($($result)?)> {
            // SAFETY: the pointer is called below, and not kept.
            let table = unsafe { self.0.table() };
            table.$member.map(|function| $crate::__ops_call!([$($unsafe)?] function($($argument),*)))
        }
    };
}

/// The call of a member.
#[doc(hidden)]
#[macro_export]
macro_rules! __ops_call {
    ([] $($call:tt)*) => {
        $($call)*
    };
    ([unsafe] $($call:tt)*) => {
        // SAFETY: what the member asks for is our caller's promise.
        unsafe { $($call)* }
    };
}
