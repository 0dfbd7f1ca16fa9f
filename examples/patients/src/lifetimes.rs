//! A checker of object lifetimes: who allocated, who freed, and who came back to what was freed.
//!
//! It is built of hooks alone, on the functions of a slab that allocate and free; the slab itself knows nothing of it. What
//! allocates has a hook at its entry, which takes the trace, and at its exit, which sees the object. What frees has one at its
//! entry:
//!
//! ```text
//!   allocate  entry: a trace           exit: the object lives, and was allocated there
//!   free      entry: the object lives: it is freed, there
//!                    it was freed:     USE AFTER FREE: it is touched there; who allocated and who freed it is known
//! ```
//!
//! Freed memory that is only read is not seen by that; so the slab helps. It keeps what was freed in quarantine, so that an
//! address is one object's for long enough, and fills it with a poison on which who reads it acts wrongly: who finds a length of
//! 0 in a node, takes it for one that was never used, and frees it. A checker that sees each read needs the compiler's help
//! (KASAN) or a page for each object.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::fmt;

use fentry::engine::RegisterError;
use fentry::ops::{Entry, Exit, Probe};
use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr};
use spin::Mutex;

use crate::trace::Trace;

/// What is known of the object at an address.
#[derive(Debug)]
struct Life {
    allocated: Trace,
    freed: Option<Trace>,
}

#[derive(Debug)]
struct Known {
    /// By address.
    lives: BTreeMap<u64, Life>,
    /// Of allocations that are under way, by number.
    under_way: BTreeMap<u64, Trace>,
    next: u64,
    found: Vec<UseAfterFree>,
}

/// Taken in handlers: what is hooked must not be called by interrupt handlers.
static KNOWN: Mutex<Known> =
    Mutex::new(Known { lives: BTreeMap::new(), under_way: BTreeMap::new(), next: 0, found: Vec::new() });

/// An object that somebody came back to after it was freed.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the fields' names say what they are")]
pub struct UseAfterFree {
    pub object: u64,
    pub allocated: Trace,
    pub freed: Trace,
    pub touched: Trace,
}

impl fmt::Display for UseAfterFree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { object, allocated, freed, touched } = self;
        writeln!(f, "USE AFTER FREE of the object at {object:#x}")?;
        write!(f, "    touched{touched}    allocated{allocated}    freed{freed}")
    }
}

struct Allocates;

impl Probe for Allocates {
    /// The number of the allocation.
    type Data = u64;

    fn entry(call: &mut Entry<'_>) -> Option<u64> {
        let trace = Trace::of_call(&call.regs);
        let mut known = KNOWN.lock();
        known.next += 1;
        let number = known.next;
        known.under_way.insert(number, trace);
        Some(number)
    }

    fn exit(call: &mut Exit<'_>, number: &u64) {
        let (object, mut known) = (call.value(), KNOWN.lock());
        let Some(allocated) = known.under_way.remove(number) else { return };
        // There was no memory.
        if object != 0 {
            known.lives.insert(object, Life { allocated, freed: None });
        }
    }
}

extern "C" fn frees(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let Some(object) = regs.argument(0) else { return };
    let trace = Trace::of_call(&regs);
    let known = &mut *KNOWN.lock();
    // One that was allocated before we looked is nobody's.
    let Some(Life { allocated, freed }) = known.lives.get_mut(&object) else { return };
    match freed {
        None => *freed = Some(trace),
        Some(freed) => {
            let (allocated, freed) = (allocated.clone(), freed.clone());
            known.found.push(UseAfterFree { object, allocated, freed, touched: trace });
        }
    }
}

static ALLOCATES: Ops = Ops::returning::<Allocates>();
static FREES: Ops = Ops::new(frees);

/// Begins to watch what the functions that these rules select allocate, whose result is the object or null, and free, whose first
/// argument is the object. What was known before is forgotten.
///
/// # Errors
///
/// As for [`Engine::register`]; nothing is watched then.
pub fn watch(engine: &Engine, allocate: &[Rule<'_>], free: &[Rule<'_>]) -> Result<(), RegisterError> {
    forget();
    engine.register(&FREES, &Filter::new(free))?;
    engine.register(&ALLOCATES, &Filter::new(allocate)).map(drop).inspect_err(|_| {
        // What could not be registered is told; this is not.
        let _ = engine.unregister(&FREES);
    })
}

fn forget() {
    let mut known = KNOWN.lock();
    known.lives.clear();
    known.under_way.clear();
    known.found.clear();
}

/// Ends it. Returns what was found.
///
/// # Errors
///
/// As for [`Engine::unregister`].
pub fn stop(engine: &Engine) -> Result<Watched, RegisterError> {
    for ops in [&ALLOCATES, &FREES] {
        engine.unregister(ops)?;
    }
    let (is_alive, mut known) = (|life: &&Life| life.freed.is_none(), KNOWN.lock());
    let alive = known.lives.values().filter(is_alive).count();
    let (objects, found) = (known.lives.len(), core::mem::take(&mut known.found));
    Ok(Watched { objects, alive, found })
}

/// What was seen.
#[derive(Debug)]
pub struct Watched {
    /// At how many addresses objects were.
    pub objects: usize,
    /// At how many of them there is one.
    pub alive: usize,
    /// What was used after it was freed.
    pub found: Vec<UseAfterFree>,
}
