//! Attachments to a function whose type is known only when the kernel runs: for kernels in C, and for tools.

use super::class::Signature;
use super::error::AttachError;
use super::point::Point;
use crate::address::TextAddr;
use crate::engine::Engine;
use crate::stub::HandlerKind;

/// When a handler is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// At the entry.
    Entry,
    /// At the entry, and it may answer.
    Modify,
    /// At the exit.
    Exit,
}

impl When {
    pub(super) const fn kind(self) -> HandlerKind {
        match self {
            Self::Entry => HandlerKind::Entry,
            Self::Modify => HandlerKind::Modify,
            Self::Exit => HandlerKind::Exit,
        }
    }
}

/// A function to which handlers are attached by their addresses, in a `static`. [`AttachPoint`](super::AttachPoint) has all
/// else.
#[derive(Debug)]
pub struct UntypedPoint<const PLACES: usize = 4> {
    point: Point<PLACES>,
    function: TextAddr,
    signature: Signature<'static>,
}

impl<const PLACES: usize> UntypedPoint<PLACES> {
    /// Makes one for the function at an address.
    ///
    /// # Safety
    ///
    /// 1. The function is called, and returns, as the signature says.
    /// 2. It returns once to each call.
    /// 3. It stays there for as long as something is attached, and until [`reclaim`](Self::reclaim) has returned 0 after that.
    pub const unsafe fn new(function: TextAddr, signature: Signature<'static>) -> Self {
        Self { point: Point::new(), function, signature }
    }

    /// Attaches a handler, behind those that are there. It is known by its address.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    ///
    /// # Safety
    ///
    /// 1. The handler is a function with the same arguments; at the exit, with a pointer to the result behind them; one that
    ///    may answer returns what the function does, and its answers keep to what
    ///    [`ModifyReturn::new`](super::ModifyReturn::new) asks of them.
    /// 2. It stays there as the function does.
    pub unsafe fn attach(
        &'static self,
        engine: &'static Engine,
        when: When,
        handler: TextAddr,
    ) -> Result<(), AttachError> {
        let id = handler.get() as usize;
        // SAFETY: 1. our caller's promise, and that of who has called `new`. 2. and 3. the latter.
        unsafe { self.point.attach(engine, self.function, &self.signature, id, when.kind(), handler) }
    }

    /// Detaches a handler.
    ///
    /// # Errors
    ///
    /// [`AttachError`].
    pub fn detach(&'static self, engine: &'static Engine, handler: TextAddr) -> Result<(), AttachError> {
        self.point.detach(engine, self.function, &self.signature, handler.get() as usize)
    }

    /// Frees the trampolines that no thread is inside; returns how many are left.
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
}
