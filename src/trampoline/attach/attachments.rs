//! Typed attachments.

use super::error::AttachError;
use super::function::{Answer, Function};
use super::point::Point;
use super::untyped::When;
use crate::address::TextAddr;
use crate::engine::Engine;
use core::fmt;

/// Calls a handler at a function's entry, with its arguments. In a `static`, which is what it is known by:
/// `static SEEN: Fentry<F> = Fentry::<F>::new(seen)`.
pub struct Fentry<F: Function>(F::Entry);

/// Calls a handler at a function's entry, with its arguments, that may answer for it: a result that is not zero is returned to
/// the caller, and neither are others asked nor does the function run. In a `static`.
pub struct ModifyReturn<F: Function>(F::Modify);

/// Calls a handler at a function's exit, with its arguments and its result. In a `static`.
pub struct Fexit<F: Function>(F::Exit);

impl<F: Function> Fentry<F> {
    /// Makes one of this handler.
    ///
    /// It runs as a [callback](crate::ops::Callback) does, and must not do what that must not.
    pub const fn new(handler: F::Entry) -> Self {
        Self(handler)
    }
}

impl<F: Function<Result: Answer>> ModifyReturn<F> {
    /// Makes one of this handler.
    ///
    /// It runs as a [callback](crate::ops::Callback) does, and must not do what that must not.
    ///
    /// # Safety
    ///
    /// 1. The function's callers are sound with each result that the handler answers with.
    /// 2. What else they rely on having been done by the function was done when it answers.
    pub const unsafe fn new(handler: F::Modify) -> Self {
        Self(handler)
    }
}

impl<F: Function> Fexit<F> {
    /// Makes one of this handler.
    ///
    /// It runs as a [callback](crate::ops::Callback) does, and must not do what that must not.
    pub const fn new(handler: F::Exit) -> Self {
        Self(handler)
    }
}

mod sealed {
    use super::{Fentry, Fexit, Function, ModifyReturn, When};
    use crate::address::TextAddr;

    #[expect(unnameable_types, reason = "sealed")]
    pub trait Attach {
        #[doc(hidden)]
        fn handler(&self) -> (When, TextAddr);
    }

    impl<F: Function> Attach for Fentry<F> {
        fn handler(&self) -> (When, TextAddr) {
            (When::Entry, F::entry(self.0))
        }
    }

    impl<F: Function> Attach for ModifyReturn<F> {
        fn handler(&self) -> (When, TextAddr) {
            (When::Modify, F::modify(self.0))
        }
    }

    impl<F: Function> Attach for Fexit<F> {
        fn handler(&self) -> (When, TextAddr) {
            (When::Exit, F::exit(self.0))
        }
    }
}

/// What can be attached to a function of this type: [`Fentry`], [`ModifyReturn`], [`Fexit`].
pub trait Attach<F: Function>: sealed::Attach + Sync {}

impl<F: Function> Attach<F> for Fentry<F> {}
impl<F: Function> Attach<F> for ModifyReturn<F> {}
impl<F: Function> Attach<F> for Fexit<F> {}

/// What it is known by.
fn id<F: Function>(attachment: &'static impl Attach<F>) -> usize {
    core::ptr::from_ref(attachment).addr()
}

/// Which function it is.
#[derive(Clone, Copy)]
enum Target<F> {
    Function(F),
    Address(TextAddr),
}

/// A function to which handlers are attached, in a `static`: one for each function.
///
/// `PLACES` is how many trampolines it can have at a time, with those in which calls are under way that began before a change:
/// two are enough where the function returns soon.
///
/// All methods but [`misses`](Self::misses) take the engine's lock: by the [engine's rules](Engine) for that.
pub struct AttachPoint<F: Function, const PLACES: usize = 4> {
    point: Point<PLACES>,
    target: Target<F>,
}

impl<F: Function, const PLACES: usize> AttachPoint<F, PLACES> {
    /// Makes one for a function.
    pub const fn new(function: F) -> Self {
        Self { point: Point::new(), target: Target::Function(function) }
    }

    /// Makes one for the function at an address, which is of a type that [can't be told](super#types).
    ///
    /// # Safety
    ///
    /// 1. The function there is called as one of type `F` is, and returns as one: an argument of another type is passed in the
    ///    same way as the one of `F`, and its bits are a value of that; so is the result.
    /// 2. It returns once to each call.
    /// 3. It stays there for as long as something is attached, and until [`reclaim`](Self::reclaim) has returned 0 after that.
    pub const unsafe fn at(function: TextAddr) -> Self {
        Self { point: Point::new(), target: Target::Address(function) }
    }

    fn function(&self) -> TextAddr {
        match self.target {
            Target::Function(function) => function.address(),
            Target::Address(address) => address,
        }
    }

    /// Attaches a handler, behind those that are there.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn attach(
        &'static self,
        engine: &'static Engine,
        attachment: &'static impl Attach<F>,
    ) -> Result<(), AttachError> {
        let (when, handler) = attachment.handler();
        // SAFETY: 1. The compiler has held the handler to the function's type, of which this is the signature; and that the
        // function is of the type, it, or who has called `at`, has promised. 2. So too; a function of Rust returns once. 3. So
        // too; both are values of the kernel's own.
        unsafe { self.point.attach(engine, self.function(), &F::SIGNATURE, id::<F>(attachment), when.kind(), handler) }
    }

    /// Detaches a handler: when this has returned, it is not called any more for calls that begin; one at an exit is, for calls
    /// that had begun ([`reclaim`](Self::reclaim) tells of those).
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn detach(
        &'static self,
        engine: &'static Engine,
        attachment: &'static impl Attach<F>,
    ) -> Result<(), AttachError> {
        self.point.detach(engine, self.function(), &F::SIGNATURE, id::<F>(attachment))
    }

    /// Puts a handler in the place of another one, in one moment: each call has the one or the other.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn replace(
        &'static self,
        engine: &'static Engine,
        old: &'static impl Attach<F>,
        new: &'static impl Attach<F>,
    ) -> Result<(), AttachError> {
        let (when, handler) = new.handler();
        let ids = [id::<F>(old), id::<F>(new)];
        // SAFETY: as for `attach`.
        unsafe { self.point.replace(engine, self.function(), &F::SIGNATURE, ids, when.kind(), handler) }
    }

    /// Frees the trampolines that the callsite doesn't call any more and that no thread is inside; returns how many are left: a
    /// handler that was detached is called for none once that is 0.
    ///
    /// # Errors
    ///
    /// [`AttachError::NotQuiescent`].
    pub fn reclaim(&'static self, engine: &'static Engine) -> Result<usize, AttachError> {
        self.point.reclaim(engine)
    }

    /// Returns how many calls had no handler, or no exit handler, because their level was inside a callback already.
    pub fn misses(&self) -> u64 {
        self.point.misses()
    }

    /// Returns whether an instruction is in one of its trampolines: for who names addresses. It waits for nothing; what is told
    /// may be over.
    pub fn has_instruction(&self, at: TextAddr) -> bool {
        self.point.has_instruction(at)
    }
}

impl<F: Function, const PLACES: usize> fmt::Debug for AttachPoint<F, PLACES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AttachPoint").field("function", &self.function()).finish_non_exhaustive()
    }
}

macro_rules! debug {
    ($($attachment:ident),*) => {
        $(
            impl<F: Function> fmt::Debug for $attachment<F> {
                fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                    let (_, handler) = sealed::Attach::handler(self);
                    f.debug_tuple(stringify!($attachment)).field(&handler).finish()
                }
            }
        )*
    };
}

debug! { Fentry, ModifyReturn, Fexit }
