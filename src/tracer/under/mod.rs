//! The graph tracer below some functions only, and not below others (Linux: `set_graph_function`, `set_graph_notrace`).
//!
//! | its ops | registered for | a call |
//! |---|---|---|
//! | roots | the functions of [`Scope::under`], or those of the filter where there are none | is recorded |
//! | inside | the filter's other functions, where there are roots | is recorded if it is inside a recorded one |
//! | silent | the functions of [`Scope::not_under`] | has all that is inside it go by, as it does itself |
//!
//! Whether a call is inside another one is what the [shadow stack](crate::context::shadow) says, so a call that never returns
//! leaves nothing behind, and each thread has an answer of its own. What is not below a root costs 12 instructions: the stub
//! sees that nothing at all is hooked around it. While other ops hook returns too, the innermost call of our own is looked for.
//!
//! ```
//! use fentry::Rule;
//! use fentry::tracer::kernel::{RecordTo, StoreIn};
//! use fentry::tracer::ring::{Mode, Ring, RingBlock};
//! use fentry::tracer::under::{Scope, Under};
//!
//! static MEMORY: [RingBlock; 16] = [const { RingBlock::new() }; 16];
//! static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
//! static READS: Under<OneCpu> = Under::new();
//!
//! struct OneCpu;
//! impl RecordTo for OneCpu {
//!     fn ring() -> &'static Ring {
//!         &RING
//!     }
//!     fn task() -> u32 {
//!         1
//!     }
//! }
//! impl StoreIn<Under<OneCpu>> for OneCpu {
//!     fn store() -> &'static Under<OneCpu> {
//!         &READS
//!     }
//! }
//!
//! # fn trace(engine: &fentry::Engine) -> Result<(), Box<dyn std::error::Error>> {
//! let (under, not_under) = ([Rule::name("disk::read")], [Rule::name("log::write")]);
//! READS.start(engine, &Scope { filter: &[], under: &under, not_under: &not_under })?;
//! // ... the kernel works ...
//! READS.stop(engine)?;
//! # Ok(())
//! # }
//! ```

#[cfg(test)]
mod tests;

use super::graph::record_exit_at;
use super::kernel::{RecordTo, StoreIn, event_writer};
use crate::engine::{Engine, RegisterError};
use crate::filter::{Filter, Rule};
use crate::ops::{Entry, Exit, Ops, Probe};
use arrayvec::ArrayVec;
use core::fmt;
use core::marker::PhantomData;

/// The most rules of [`Scope::under`], and of [`Scope::not_under`].
pub const MAX_UNDER: usize = 8;

/// The most rules of a scope's filter.
pub const MAX_FILTER: usize = 32;

/// The rules of one of the ops.
type Rules<'a> = ArrayVec<Rule<'a>, { MAX_FILTER + 2 * MAX_UNDER }>;

/// Which calls are recorded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Of which functions: those that these rules select, all if there are none. At most [`MAX_FILTER`].
    pub filter: &'a [Rule<'a>],
    /// Only calls of these functions, whatever the filter has, and calls inside them; wherever they are, if there are none.
    /// At most [`MAX_UNDER`] positive rules.
    pub under: &'a [Rule<'a>],
    /// No calls of these functions, nor any inside them. At most [`MAX_UNDER`] positive rules.
    pub not_under: &'a [Rule<'a>],
}

impl<'a> Scope<'a> {
    /// The rules of one of the ops; none for one that is not needed.
    fn rules(&self, role: u8) -> Option<Rules<'a>> {
        let Self { filter, under, not_under } = *self;
        let (wanted, less): (_, [&[Rule<'_>]; 2]) = match role {
            SILENT if not_under.is_empty() => return None,
            SILENT => (not_under, [&[], &[]]),
            ROOT if under.is_empty() => (filter, [not_under, &[]]),
            ROOT => (under, [not_under, &[]]),
            _ if under.is_empty() => return None,
            _ => (filter, [under, not_under]),
        };
        Some(wanted.iter().copied().chain(less.into_iter().flatten().map(|rule| rule.negated())).collect())
    }

    fn fits(&self) -> bool {
        let Self { filter, under, not_under } = self;
        filter.len() <= MAX_FILTER && under.len().max(not_under.len()) <= MAX_UNDER
    }
}

/// The ops of a graph tracer with a scope; in a `static`.
#[derive(Debug)]
pub(crate) struct GraphOps {
    silent: Ops,
    roots: Ops,
    inside: Ops,
}

impl GraphOps {
    /// Makes the ops of a tracer that is not registered.
    pub(crate) const fn new<R: Records>() -> Self {
        Self {
            silent: Ops::returning::<Handler<R, SILENT>>(),
            roots: Ops::returning::<Handler<R, ROOT>>(),
            inside: Ops::returning::<Handler<R, INSIDE>>().only_inside_hooked_calls(),
        }
    }

    /// In the order in which they are registered.
    const fn roles(&self) -> [(&Ops, u8); 3] {
        [(&self.silent, SILENT), (&self.roots, ROOT), (&self.inside, INSIDE)]
    }

    const fn all(&self) -> [&Ops; 3] {
        [&self.silent, &self.roots, &self.inside]
    }

    /// Puts a scope in force; returns how many functions are recorded. Registers what is not registered.
    ///
    /// # Errors
    ///
    /// The engine's own; [`RegisterError::EmptySelection`] where nothing could ever be recorded. What was in force may be so in
    /// part then: the scope of before can be put in force again, or all be stopped.
    pub(crate) fn set(&'static self, engine: &Engine, scope: &Scope<'_>) -> Result<usize, RegisterError> {
        if !scope.fits() {
            return Err(RegisterError::EmptySelection);
        }
        let mut recorded = 0;
        for (ops, role) in self.roles() {
            let Some(rules) = scope.rules(role) else {
                engine.unregister_unwaited(ops)?;
                continue;
            };
            let filter = Filter::new(&rules);
            let selected = match engine.set_filter(ops, &filter) {
                Err(RegisterError::NotRegistered) => engine.register_anew(ops, &filter),
                // Then it is in force too.
                Err(RegisterError::NotQuiescent(_)) => Ok(0),
                other => other,
            };
            match selected {
                Ok(count) if role != SILENT => recorded += count,
                Ok(_) => {}
                // All that the filter has are roots.
                Err(RegisterError::EmptySelection) if role == INSIDE => engine.unregister_unwaited(ops)?,
                Err(error) => return Err(error),
            }
        }
        Ok(recorded)
    }

    /// Unregisters all; returns how many functions were recorded.
    ///
    /// # Errors
    ///
    /// The first of the engine's own; the others are unregistered all the same.
    pub(crate) fn stop(&'static self, engine: &Engine) -> Result<usize, RegisterError> {
        let mut stopped = Ok(0);
        for (ops, role) in self.roles() {
            match engine.unregister(ops) {
                Ok(count) if role != SILENT => stopped = stopped.map(|before| before + count),
                Ok(_) | Err(RegisterError::NotRegistered) => {}
                Err(error) => stopped = stopped.and(Err(error)),
            }
        }
        stopped
    }
}

/// Where a graph tracer with a scope records, and what else it looks at.
pub(crate) trait Records: 'static {
    type Kernel: RecordTo;

    /// The tracer's ops.
    fn ops() -> &'static GraphOps;

    /// What is recorded of a call that begins now.
    fn at_entry() -> Recorded;

    /// Whether the exit of a call that ends now is recorded.
    fn wants_exit(call: &Exit<'_>) -> bool;

    /// Calls that are inside this many recorded ones are not.
    fn max_depth() -> usize;
}

/// What is recorded of a call, as far as its entry knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Recorded {
    Nothing,
    Exit,
    EntryAndExit,
}

/// Where a call is: what its entry hands to its exit, and to the entries of calls inside it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct Place {
    /// How many recorded calls are around it.
    depth: u16,
    is_silent: u16,
}

const ROOT: u8 = 0;
const INSIDE: u8 = 1;
const SILENT: u8 = 2;

/// The handlers of one of the ops.
struct Handler<R, const ROLE: u8>(PhantomData<R>);

impl<R: Records, const ROLE: u8> Probe for Handler<R, ROLE> {
    type Data = Place;

    #[inline]
    fn entry(call: &mut Entry<'_>) -> Option<Place> {
        // SAFETY: 1. The probe of each is a `Handler`, whose data is a `Place`.
        let around = unsafe { call.innermost::<Place, 3>(R::ops().all()) };
        let depth = match around {
            None if ROLE == INSIDE => return None,
            None => 0,
            // Two of the ops have the function for a moment, while the scope changes.
            Some(around) if around.data.is_silent != 0 || around.is_same_call => return None,
            Some(around) => around.data.depth.saturating_add(1),
        };
        if ROLE == SILENT {
            return Some(Place { depth, is_silent: 1 });
        }
        let recorded = R::at_entry();
        if recorded == Recorded::Nothing || usize::from(depth) >= R::max_depth() {
            return None;
        }
        let place = Place { depth, is_silent: 0 };
        if recorded == Recorded::Exit {
            return Some(place);
        }
        event_writer::<R::Kernel>().graph_entry(call.ip, call.parent_ip, depth).then_some(place)
    }

    #[inline]
    fn exit(call: &mut Exit<'_>, place: &Place) {
        if ROLE != SILENT && R::wants_exit(call) {
            record_exit_at::<R::Kernel>(call, place.depth);
        }
    }
}

/// A graph tracer of which one can say below which functions it records, and below which it does not; in a `static`.
///
/// `K` is a type of the kernel's own that has no values and says where all is: the rings, and its `Under`. A call is recorded
/// at its exit, by its depth among the recorded ones.
pub struct Under<K> {
    ops: GraphOps,
    kernel: PhantomData<fn() -> K>,
}

impl<K: RecordTo + StoreIn<Self>> Under<K> {
    /// Makes a tracer that is not registered.
    pub const fn new() -> Self {
        Self { ops: GraphOps::new::<InUnder<K>>(), kernel: PhantomData }
    }

    /// Starts recording the calls of this scope, or changes it; returns how many functions are recorded.
    ///
    /// Returns are hooked where threads have shadow stacks.
    ///
    /// # Errors
    ///
    /// The engine's own, [`RegisterError::EmptySelection`] if nothing could ever be recorded or if there are too many rules.
    /// Nothing is traced then, unless text can neither be changed nor be put back: then [`stop`](Self::stop) can be tried until
    /// it succeeds.
    pub fn start(&'static self, engine: &Engine, scope: &Scope<'_>) -> Result<usize, RegisterError> {
        let started = self.ops.set(engine, scope);
        if started.is_err() {
            // The first error is the one that is told.
            let _ = self.ops.stop(engine);
        }
        started
    }

    /// Stops recording; returns how many functions were recorded.
    ///
    /// # Errors
    ///
    /// The engine's own.
    pub fn stop(&'static self, engine: &Engine) -> Result<usize, RegisterError> {
        self.ops.stop(engine)
    }
}

impl<K: RecordTo + StoreIn<Self>> Default for Under<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl<K> fmt::Debug for Under<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Under").field("ops", &self.ops).finish_non_exhaustive()
    }
}

/// The tracer of an [`Under`] of its own.
struct InUnder<K>(PhantomData<K>);

impl<K: RecordTo + StoreIn<Under<K>>> Records for InUnder<K> {
    type Kernel = K;

    #[inline]
    fn ops() -> &'static GraphOps {
        &K::store().ops
    }

    #[inline]
    fn at_entry() -> Recorded {
        Recorded::Exit
    }

    #[inline]
    fn wants_exit(_: &Exit<'_>) -> bool {
        true
    }

    #[inline]
    fn max_depth() -> usize {
        usize::MAX
    }
}
