//! Ops structs whose types the compiler has not seen: those of C, and those that are described while the kernel runs.

use super::body::Body;
use super::check::check_table;
use super::description::{Description, Member};
use super::error::OpsError;
use super::generate::{GeneratedName, generate, name_in};
use crate::address::TextAddr;
use crate::engine::{Engine, GeneratedText};
use core::fmt;
use core::mem::ManuallyDrop;

/// An ops struct of another language: its tables are checked, and get generated members, as those that
/// [`ops_struct!`](crate::ops_struct) describes. Who may call by a table, and until when, is the other language's affair.
///
/// ```
/// use fentry::trampoline::{Argument, Member, ScalarKind, UntypedOps};
/// # extern "C" fn policy_pick_stub(_waiting: u64, last: u64) -> u64 { last }
/// # extern "C" fn policy_call(function: extern "C" fn()) { function() }
/// # let caller = fentry::TextAddr::new(policy_call as *const () as u64);
///
/// // struct policy_ops { u64 (*pick)(u64 waiting, u64 last); }, a stub of the member's type, and a function that calls by it.
/// let stub = policy_pick_stub as *const ();
/// const NUMBERS: &[Argument] = &[Argument::general(8); 2];
/// let members = [Member::new("pick", 0, false, stub, Some(ScalarKind::U64), NUMBERS)];
/// // SAFETY: 1. to 4. So they are declared in C.
/// let policy = unsafe { UntypedOps::new("policy_ops", &members, caller) };
/// ```
#[derive(Clone, Copy, Debug)]
pub struct UntypedOps<'a> {
    name: &'static str,
    members: &'a [Member],
    caller: TextAddr,
}

impl<'a> UntypedOps<'a> {
    /// Describes one.
    ///
    /// # Safety
    ///
    /// 1. A table has, at each member's offset, a pointer to a function that may be NULL.
    /// 2. Each member's stub is a function of the member's type, compiled as those who call the members are.
    /// 3. `caller` is a function that calls by a function pointer, compiled as they are.
    /// 4. Each member has the result and the arguments that it says.
    pub const unsafe fn new(name: &'static str, members: &'a [Member], caller: TextAddr) -> Self {
        Self { name, members, caller }
    }

    fn with<R>(&self, use_it: impl FnOnce(&Description<'_>) -> R) -> R {
        let members = |number: usize| self.members.get(number).copied();
        use_it(&Description { name: self.name, caller: self.caller, members: &members })
    }

    /// Checks each member of a table: that it is not NULL, or optional; and that those who call it, where they check calls, will
    /// find the hash that they look for.
    ///
    /// Takes the engine's lock: by the [engine's rules](Engine) for that.
    ///
    /// # Errors
    ///
    /// [`OpsError`]: the first member that must not be called.
    ///
    /// # Safety
    ///
    /// 1. `table` is a table of this kind, and can be read.
    pub unsafe fn check(&self, engine: &Engine, table: *const ()) -> Result<(), OpsError> {
        // SAFETY: 1. our caller's promise, and that of who made this.
        self.with(|ops| unsafe { check_table(engine, ops, table) })
    }

    /// Generates members of a table, and puts them into it: those that `bodies` names. What a member was before is behind it. So
    /// it is a copy of the table in use that is given, mostly, and put in use then. Of several members with one name the first is
    /// meant.
    ///
    /// Takes the engine's lock: by the [engine's rules](Engine) for that.
    ///
    /// # Errors
    ///
    /// [`OpsError`]; the table is as it was.
    ///
    /// # Safety
    ///
    /// 1. `table` is a table of this kind, and can be read and written; nobody calls by it yet.
    /// 2. Its functions, those that were in it before, stay until [`free`](GeneratedMembers::free) has returned; for ever where it
    ///    is not called.
    pub unsafe fn generate(
        &self,
        engine: &'static Engine,
        table: *mut (),
        bodies: &[(&str, Body)],
    ) -> Result<GeneratedMembers, OpsError> {
        // SAFETY: 1. our caller's first promise, and that of who made this. 2. The text is given back by `free` only; our caller's
        // second promise.
        let text = self.with(|ops| unsafe { generate(engine, ops, table, bodies) })?;
        Ok(GeneratedMembers { engine, text: ManuallyDrop::new(text) })
    }

    /// The name of the generated member that has the instruction at `at`, if it is one of `generated`, which was made by this.
    ///
    /// Takes the engine's lock: by the [engine's rules](Engine) for that.
    pub fn name_of(&self, generated: &GeneratedMembers, at: TextAddr) -> Option<GeneratedName> {
        let text = generated.text.as_ref()?.text();
        self.with(|ops| name_in(generated.engine, ops, [text.start, text.end], at))
    }
}

/// The generated members of a table. Dropped, they stay for ever.
#[must_use = "dropped, they stay for ever: see `free`"]
pub struct GeneratedMembers {
    engine: &'static Engine,
    /// None where no member was asked for.
    text: ManuallyDrop<Option<GeneratedText>>,
}

impl GeneratedMembers {
    /// Gives their room back.
    ///
    /// Takes the engine's lock: by the [engine's rules](Engine) for that.
    ///
    /// # Safety
    ///
    /// 1. Nobody is inside one of them, or in what it has called, or will be: nobody calls by the table any more, nor by a copy.
    pub unsafe fn free(self) {
        drop(ManuallyDrop::into_inner(self.text));
    }
}

impl fmt::Debug for GeneratedMembers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("GeneratedMembers").field(&*self.text).finish()
    }
}
