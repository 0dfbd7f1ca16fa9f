//! A region's veneers to stubs that its BLs don't reach.
//!
//! Linux gives a module two, for its two entry stubs (`FTRACE_PLT_IDX`, `FTRACE_REGS_PLT_IDX`); here there is one
//! for each set of ops that a callsite of the region has, in room that the module's loader sets aside.

use super::error::RegisterError;
use super::sets::Destination;
use crate::address::{TextAddr, TextRange};
use crate::callsite::table::SetId;
#[cfg(feature = "module")]
use crate::callsite::veneer::STUB_VENEERS;
use crate::callsite::veneer::{ENTRY_BYTES, Veneer};
use crate::stub::LANDING_PAD_BYTES;
use crate::text::TextPoke;

/// The most veneers that a region has.
#[cfg(feature = "module")]
const MAX_VENEERS: usize = STUB_VENEERS;

/// The room for a region's veneers, and the set that each is for.
pub(super) struct Veneers {
    room: TextRange,
    /// # Invariants
    ///
    /// As many as are whole in `room`.
    places: Places,
}

/// Most regions have no veneers: where they have, these are on the heap.
#[cfg(feature = "module")]
type Places = alloc::vec::Vec<Place>;
/// The kernel's own region has none.
#[cfg(not(feature = "module"))]
type Places = [Place; 0];

/// The place of a veneer.
#[derive(Clone, Copy)]
struct Place {
    /// # Invariants
    ///
    /// The veneer jumps to the stub of this set; [`SetId::NONE`] where there is none.
    set: SetId,
    /// How many callsites of the region go to it.
    callsites: u32,
}

/// The words of a veneer at `at`. Notes why there are none.
#[inline(never)]
fn jump(at: TextAddr, target: TextAddr, failure: &mut Option<RegisterError>) -> Option<[u32; 4]> {
    match Veneer::jump(at, target) {
        Ok(veneer) => Some(veneer.words()),
        Err(error) => {
            *failure = Some(RegisterError::Stub(error));
            None
        }
    }
}

impl Veneers {
    /// Makes an empty room of this range; `None` where the heap is full.
    #[cfg(feature = "module")]
    pub(super) fn new(room: TextRange) -> Option<Self> {
        let count = usize::try_from(room.len() / ENTRY_BYTES).unwrap_or(MAX_VENEERS).min(MAX_VENEERS);
        let mut places = Places::new();
        places.try_reserve_exact(count).ok()?;
        places.resize(count, Place { set: SetId::NONE, callsites: 0 });
        Some(Self { room, places })
    }

    /// The range of the room.
    pub(super) const fn room(&self) -> TextRange {
        self.room
    }

    fn place(&self, number: usize) -> TextAddr {
        self.room.start.offset(number as i64 * ENTRY_BYTES as i64)
    }

    fn find(&self, set: SetId) -> Option<usize> {
        if set == SetId::NONE { None } else { self.places.iter().position(|place| place.set == set) }
    }

    /// Where the callsites of a set go, with its veneer instead of its stub.
    pub(super) fn instead_of(&self, set: SetId, destination: Destination) -> Destination {
        let entry = |stub| self.find(set).map_or(stub, |number| self.place(number));
        match destination {
            Destination::Nowhere => Destination::Nowhere,
            Destination::Stub(stub) => Destination::Stub(entry(stub)),
            Destination::Direct { trampoline, entry: stub } => Destination::Direct { trampoline, entry: entry(stub) },
        }
    }

    /// Makes the veneer of a set, if there is none. Notes what failed.
    #[inline]
    pub(super) fn make(
        &mut self,
        set: SetId,
        destination: Destination,
        poke: TextPoke<'_>,
        failure: &mut Option<RegisterError>,
    ) {
        if let Destination::Stub(stub) | Destination::Direct { entry: stub, .. } = destination
            && self.find(set).is_none()
        {
            self.add(set, stub, poke, failure);
        }
    }

    #[inline(never)]
    fn add(&mut self, set: SetId, stub: TextAddr, poke: TextPoke<'_>, failure: &mut Option<RegisterError>) {
        let Some(number) = self.places.iter().position(|place| place.set == SetId::NONE) else {
            *failure = Some(RegisterError::NoRoom { room: self.room });
            return;
        };
        let at = self.place(number);
        // A BR needs the landing pad.
        let Some(words) = jump(at, stub.offset(-LANDING_PAD_BYTES), failure) else { return };
        let mut done = Ok(());
        // SAFETY: 1. the room is mapped (`Regions::add`, 1) and begins at a multiple of 4 (5), and `places` has those that
        // are whole in it. 2. No CPU gets there but by a callsite of the region (5), and none goes to a place without a set,
        // which was taken from it after quiescence.
        unsafe { poke.write_code(at, &words, &mut done) };
        if let Err(error) = done {
            *failure = Some(RegisterError::Text { error, function: None });
            return;
        }
        // INVARIANT: just written.
        self.places[number].set = set;
    }

    /// Notes that this many callsites of the region went from one set to another.
    pub(super) fn count(&mut self, from: SetId, to: SetId, callsites: u32) {
        if let Some(number) = self.find(from) {
            let place = &mut self.places[number];
            place.callsites = place.callsites.saturating_sub(callsites);
        }
        if let Some(number) = self.find(to) {
            self.places[number].callsites += callsites;
        }
    }

    /// Whether there is a veneer that no callsite goes to.
    pub(super) fn has_unused(&self) -> bool {
        self.places.iter().any(|place| place.set != SetId::NONE && place.callsites == 0)
    }

    /// Forgets the veneers that no callsite goes to. No CPU can be inside them any more, or on the way there.
    pub(super) fn reclaim(&mut self) {
        for place in self.places.iter_mut().filter(|place| place.callsites == 0) {
            place.set = SetId::NONE;
        }
    }
}
