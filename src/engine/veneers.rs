//! A region's veneers to stubs that its BLs don't reach.
//!
//! Linux gives a module two, for its two entry stubs (`FTRACE_PLT_IDX`, `FTRACE_REGS_PLT_IDX`); here there is one
//! for each set of ops that a callsite of the region has, in room that the module's loader sets aside.

use super::sets::Destination;
use crate::address::{TextAddr, TextRange};
use crate::callsite::table::SetId;
#[cfg(feature = "module")]
use crate::callsite::veneer::STUB_VENEERS;
use crate::callsite::veneer::{ENTRY_BYTES, Veneer};
use crate::insn::EncodeError;
use crate::stub::LANDING_PAD_BYTES;
use crate::text::{PokeError, TextPoke};

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

/// Why there is no veneer.
pub(super) enum VeneerError {
    Full(TextRange),
    Reach(EncodeError),
    Text(PokeError),
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

    /// Makes the veneer of a set, if there is none.
    pub(super) fn make(&mut self, set: SetId, destination: Destination, poke: TextPoke<'_>) -> Result<(), VeneerError> {
        let (Destination::Stub(stub) | Destination::Direct { entry: stub, .. }) = destination else { return Ok(()) };
        if self.find(set).is_some() {
            return Ok(());
        }
        let free = self.places.iter().position(|place| place.set == SetId::NONE);
        let number = free.ok_or(VeneerError::Full(self.room))?;
        let at = self.place(number);
        // A BR needs the landing pad.
        let veneer = Veneer::jump(at, stub.offset(-LANDING_PAD_BYTES)).map_err(VeneerError::Reach)?;
        // SAFETY: 1. the room is mapped (`Regions::add`, 1) and begins at a multiple of 4 (5), and `places` has those that
        // are whole in it. 2. No CPU gets there but by a callsite of the region (5), and none goes to a place without a set,
        // which was taken from it after quiescence.
        unsafe { poke.write_code(at, &veneer.words()) }.map_err(VeneerError::Text)?;
        // INVARIANT: just written.
        self.places[number].set = set;
        Ok(())
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
