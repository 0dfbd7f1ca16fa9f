//! Memory for what an engine holds of its ops, of their sets, and of regions: as much as the kernel says.
//!
//! An [`Engine`](super::Engine) is one type for all kernels, so it has no tables inside, but is told of a `static` that it
//! takes them from when it is initialised. Nothing in that static is initialised before: it is all `.bss`.

use super::InitError;
use super::members::{Member, Members};
use super::region::Region;
use super::registry::Registry;
use super::sets::{Draft, DraftMemory, MAX_SETS, Set, Sets};
use super::stub_text::{Place, StubText};
use crate::address::TextRange;
use crate::ops::MAX_OPS;
use crate::platform::{MAX_HANDLER_RANGES, MAX_STUB_RANGES};
use crate::stub::{SliceVec, StubRoom};
#[cfg(not(target_os = "none"))]
use alloc::boxed::Box;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::sync::atomic::{AtomicBool, Ordering};

/// How many ops `Engine::new` has memory for.
const DEFAULT_OPS: usize = 128;
/// And how many sets of them.
const DEFAULT_SETS: usize = 512;
/// The most regions that an engine holds, and as many as `Engine::new` has memory for: the kernel's image, and for each module
/// its text and, while it starts, its init text.
const MAX_REGIONS: usize = if cfg!(feature = "module") { 128 } else { 1 };

/// Ranges of stubs that are no region's: the room for stubs, the linked stubs' two, and those of attached handlers.
const LINKED: usize = 3 + MAX_HANDLER_RANGES;

// Each region's veneers besides.
const _: () = assert!(MAX_STUB_RANGES == MAX_REGIONS + LINKED);

/// Memory for an engine that is smaller than `Engine::new`'s, or larger, in a `static`:
///
/// ```
/// use fentry::engine::EngineMemory;
///
/// /// Up to 4 ops at a time, in any combination.
/// static MEMORY: EngineMemory<4, 16> = EngineMemory::new();
/// ```
///
/// It is given to `Engine::new_in`, and is that engine's for ever once its init begins: another one fails with
/// [`InitError::MemoryInUse`]. `Engine::new` has `EngineMemory<128, 512>`, with modules `EngineMemory<128, 512, 128>`, which is
/// not linked into a kernel that doesn't call it.
///
/// - `OPS`: how many ops are registered at a time; 1 to 128, or to 1024 with the feature `many-ops`.
///   [`modify_direct`](super::Engine::modify_direct) needs one more, until it returns.
/// - `SETS`: how many different sets of ops callsites have between them, with the empty one; 2 to 16384. `1 << OPS` is always
///   enough, and more than that is never used. Callsites with the same ops share a set, so where an ops has its functions
///   for itself it is `OPS + 1`. A change can need those from before it and from after it at once. Each set lets
///   512 bytes of the room for stubs be used, however much is reserved; all together up to 1 MiB.
/// - `REGIONS`: how many pieces of text have callsites; 1 to 128 with the feature `module`, else 1: the kernel's image, and
///   each module, which takes two while it starts.
///
/// The number of callsites is in none of them: their table is the callsite section, rewritten in place, eight bytes each.
///
/// [`RegisterError::TooManyOps`](super::RegisterError::TooManyOps),
/// [`TooManySets`](super::RegisterError::TooManySets) and, for modules, `RegionCause::TooManyRegions` say which number would
/// have been enough.
///
/// # Bytes
///
/// What all of it takes on arm64, and what three engines take: one for 8 ops, `Engine::new`'s, and one for 1,000 ops
/// with the feature `many-ops`:
///
/// | | bytes | `<8, 32>` | `Engine::new` | `<1000, 1500>` |
/// |---|---|--:|--:|--:|
/// | ops: what it does, where its callsites are | 186 an ops | 1488 | 23808 | 186000 |
/// | the stub that is being made | 76 an ops, and 596 | 1204 | 10324 | 76596 |
/// | sets: ops, stub, number of callsites; room in use | 68 a set | 2176 | 34816 | 270000 |
/// | regions: text, callsites, ranges of stubs | 384 a region, and 352 | 736 | 736 | 736 |
/// | `EngineMemory`, with its mark that it is taken |  | 5616 | 69696 | 533344 |
/// | [`Engine`](super::Engine) |  | 888 | 888 | 1112 |
/// | both |  | 6504 | 70584 | 534456 |
///
/// With the feature `module` each ops takes 32 bytes more (its filter, for modules to come), and an `Engine::new` has places for
/// 127 regions more: 48,768 bytes. With `many-ops` each set takes 112 bytes more, and the engine 224.
///
/// Not in it, for all engines: 32 bytes for each ops that can hook returns, of which there are 128, with `many-ops` 1,024.
pub struct EngineMemory<const OPS: usize, const SETS: usize, const REGIONS: usize = 1> {
    is_taken: AtomicBool,
    tables: UnsafeCell<Tables<OPS, SETS, REGIONS>>,
}

/// What is in it.
struct Tables<const OPS: usize, const SETS: usize, const REGIONS: usize> {
    regions: [MaybeUninit<Region>; REGIONS],
    stub_ranges: Ranges<MaybeUninit<TextRange>, REGIONS>,
    shown_ranges: Ranges<MaybeUninit<Place>, REGIONS>,
    members: [MaybeUninit<Option<Member>>; OPS],
    order: [MaybeUninit<u16>; OPS],
    sets: [MaybeUninit<Set>; SETS],
    room: [MaybeUninit<u32>; SETS],
    draft: DraftMemory<OPS>,
}

/// A place for each range of stubs.
#[repr(C)]
struct Ranges<T, const REGIONS: usize> {
    linked: [T; LINKED],
    regions: [T; REGIONS],
}

impl<T, const REGIONS: usize> Ranges<MaybeUninit<T>, REGIONS> {
    const UNINIT: Self =
        Self { linked: [const { MaybeUninit::uninit() }; LINKED], regions: [const { MaybeUninit::uninit() }; REGIONS] };

    const fn places(&mut self) -> &mut [MaybeUninit<T>] {
        // SAFETY: it is two arrays of places and nothing else, one after the other, and borrowed as long as the result is.
        unsafe { core::slice::from_raw_parts_mut((&raw mut *self).cast(), LINKED + REGIONS) }
    }
}

// SAFETY: the tables are reached through `give_to` alone, which gives them to one caller; and that they go to another CPU's
// hands with it is fine, since all that they hold is `Send`, as what they become is (checked below).
unsafe impl<const OPS: usize, const SETS: usize, const REGIONS: usize> Sync for EngineMemory<OPS, SETS, REGIONS> {}

const _: () = {
    const fn assert_send<T: Send>() {}
    assert_send::<(Members, Sets, SliceVec<Region>, SliceVec<TextRange>, &'static [Place])>();
};

impl<const OPS: usize, const SETS: usize, const REGIONS: usize> EngineMemory<OPS, SETS, REGIONS> {
    /// Makes memory that no engine has yet.
    pub const fn new() -> Self {
        const { assert!(0 < OPS && OPS <= MAX_OPS, "an engine has 1 to 128 ops (1024 with the feature many-ops)") };
        const { assert!(1 < SETS && SETS <= MAX_SETS, "an engine has 2 to 16384 sets of ops") };
        const { assert!(0 < REGIONS && REGIONS <= MAX_REGIONS, "an engine has 1 region (to 128 with the feature module)") };
        let tables = Tables {
            regions: [const { MaybeUninit::uninit() }; REGIONS],
            stub_ranges: Ranges::UNINIT,
            shown_ranges: Ranges::UNINIT,
            members: [const { MaybeUninit::uninit() }; OPS],
            order: [const { MaybeUninit::uninit() }; OPS],
            sets: [const { MaybeUninit::uninit() }; SETS],
            room: [const { MaybeUninit::uninit() }; SETS],
            draft: DraftMemory::UNINIT,
        };
        Self { is_taken: AtomicBool::new(false), tables: UnsafeCell::new(tables) }
    }
}

impl<const OPS: usize, const SETS: usize, const REGIONS: usize> Default for EngineMemory<OPS, SETS, REGIONS> {
    fn default() -> Self {
        Self::new()
    }
}

impl<const OPS: usize, const SETS: usize, const REGIONS: usize> fmt::Debug for EngineMemory<OPS, SETS, REGIONS> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EngineMemory")
            .field("ops", &OPS)
            .field("sets", &SETS)
            .field("regions", &REGIONS)
            .finish_non_exhaustive()
    }
}

/// Memory of any size.
pub(super) trait Memory: Sync {
    /// Gives the memory to the first who asks: without regions and members, and with the empty set only.
    fn give_to(&'static self, registry: &mut Registry, shown: &StubText) -> Result<(), InitError>;
}

impl<const OPS: usize, const SETS: usize, const REGIONS: usize> Memory for EngineMemory<OPS, SETS, REGIONS> {
    #[inline(never)]
    fn give_to(&'static self, registry: &mut Registry, shown: &StubText) -> Result<(), InitError> {
        // The one store that makes it true gives the tables away: nothing that was written before must be seen.
        if self.is_taken.swap(true, Ordering::Relaxed) {
            return Err(InitError::MemoryInUse);
        }
        // SAFETY: no other reference to them exists, nor will: this was the only time that `is_taken` was false, and nothing
        // else makes one. It is valid for as long as `self`, a static's lifetime.
        let tables = unsafe { &mut *self.tables.get() };
        let Tables { regions, stub_ranges, shown_ranges, members, order, sets, room, draft } = tables;
        registry.regions = SliceVec::new(regions);
        registry.stub_ranges = SliceVec::new(stub_ranges.places());
        shown.set_places(filled(shown_ranges.places(), Place::new));
        registry.members = Members::new(filled(members, || None), SliceVec::new(order));
        let room = StubRoom::new(filled(room, || 0));
        let mut sets = SliceVec::new(sets);
        let has_the_empty_one = sets.push(Set::NOTHING);
        debug_assert!(has_the_empty_one, "there is a place for two at least");
        registry.sets = Sets::new(sets, room, Draft::new(draft));
        Ok(())
    }
}

/// Initialises all places.
fn filled<T>(places: &mut [MaybeUninit<T>], make: impl Fn() -> T) -> &mut [T] {
    for place in &mut *places {
        place.write(make());
    }
    // SAFETY: all were just written.
    unsafe { places.assume_init_mut() }
}

/// What `Engine::new` takes. A kernel that never calls it doesn't have it: nothing else names it.
#[cfg(target_os = "none")]
pub(super) static DEFAULT: EngineMemory<DEFAULT_OPS, DEFAULT_SETS, MAX_REGIONS> = EngineMemory::new();

/// A host's memory for each engine.
#[cfg(not(target_os = "none"))]
pub(super) struct Heap;

#[cfg(not(target_os = "none"))]
impl Memory for Heap {
    fn give_to(&'static self, registry: &mut Registry, shown: &StubText) -> Result<(), InitError> {
        let memory: &'static EngineMemory<DEFAULT_OPS, DEFAULT_SETS, MAX_REGIONS> =
            Box::leak(Box::new(EngineMemory::new()));
        memory.give_to(registry, shown)
    }
}
