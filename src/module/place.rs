//! A module's memory: allocated, written, given its permissions, traced, freed.
//!
//! The only file of it that touches memory. What has been allocated is freed when a
//! [`Placed`] is dropped, so whatever goes wrong between allocation and success gives everything back.
//!
//! The one exception is text that whoever traces it does not let go: as long as it is traced it may be read and written, and
//! a CPU may come back to it out of a callback. Each text therefore holds its region's token, there is one way to free a
//! segment and one to give up a module, and both ask for the text first. Where it is refused, the memory stays for ever.

use super::error::LoadError;
use super::layout::{Spot, TEXTS};
use super::memory::{Allocation, ModuleMemory, Placement, Request, Segment};
use crate::address::{TextAddr, TextRange};
use crate::module::regions::{NewRegion, NotRemoved, RegionCause, RegionError, RegionToken, Regions};
use crate::text::{CacheType, Machine, cache};
use core::fmt;
use core::ptr::NonNull;

/// The memory of one module, and the tracing of its texts.
pub(crate) struct Placed<'k> {
    memory: &'k dyn ModuleMemory,
    regions: &'k dyn Regions,
    pieces: [Option<Piece>; Segment::ALL.len()],
}

/// One segment's memory.
struct Piece {
    allocation: Allocation,
    /// How many bytes from the start on the module uses.
    bytes: u64,
    state: PieceState,
}

#[derive(PartialEq, Eq)]
enum PieceState {
    /// The loader may write it.
    Writable,
    /// It has its final permission.
    Protected,
    /// The same, and somebody traces it.
    Traced(RegionToken),
}

/// Text that is still traced, so that the module's memory was kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kept {
    /// Why it is still traced.
    pub(crate) error: RegionError,
    /// How much memory that is.
    pub(crate) bytes: usize,
}

impl<'k> Placed<'k> {
    /// Allocates every segment that has bytes, and fills it with zeros.
    pub(crate) fn allocate(
        memory: &'k dyn ModuleMemory,
        regions: &'k dyn Regions,
        bytes: &[u64; Segment::ALL.len()],
        placement: Placement,
    ) -> Result<Self, LoadError> {
        let mut placed = Self { memory, regions, pieces: [const { None }; 6] };
        let page_bytes = memory.page_bytes();
        let mut placement = placement;
        for segment in Segment::ALL {
            let bytes = bytes[segment.index()];
            if bytes == 0 {
                continue;
            }
            let whole = usize::try_from(bytes).ok().and_then(|bytes| bytes.checked_next_multiple_of(page_bytes));
            let whole = whole.ok_or(LoadError::TooLarge(segment))?;
            let allocation = memory.allocate(&Request { segment, bytes: whole, placement })?;
            placement = Placement::Near(TextAddr::new(allocation.address));
            let piece = Piece { allocation, bytes, state: PieceState::Writable };
            // SAFETY: `ModuleMemory` promises that so many bytes are writable there, and nobody else's.
            unsafe { piece.allocation.writable.write_bytes(0, whole) };
            placed.pieces[segment.index()] = Some(piece);
        }
        Ok(placed)
    }

    fn piece(&self, segment: Segment) -> Option<&Piece> {
        self.pieces[segment.index()].as_ref()
    }

    /// The segment's addresses; empty where it has no memory.
    pub(crate) fn range(&self, segment: Segment) -> TextRange {
        self.piece(segment).map_or(TextRange::EMPTY, |piece| {
            let start = TextAddr::new(piece.allocation.address);
            TextRange::new(start, TextAddr::new(start.get().wrapping_add(piece.bytes)))
        })
    }

    /// The address of a place.
    pub(crate) fn address(&self, spot: Spot) -> u64 {
        self.range(spot.segment).start.get().wrapping_add(spot.offset)
    }

    /// Where the loader reads and writes `bytes` bytes from `spot` on; `None` where they are not all inside, or protected.
    fn window(&self, spot: Spot, bytes: usize) -> Option<NonNull<u8>> {
        let piece = self.piece(spot.segment).filter(|piece| piece.state == PieceState::Writable)?;
        let end = spot.offset.checked_add(bytes as u64)?;
        if end > piece.bytes {
            return None;
        }
        // SAFETY: the offset is inside the allocation, whose bytes are one object by `ModuleMemory`'s promise.
        Some(unsafe { piece.allocation.writable.byte_add(spot.offset as usize) })
    }

    /// Copies `data` to `spot`; `None` where it doesn't fit.
    pub(crate) fn write(&mut self, spot: Spot, data: &[u8]) -> Option<()> {
        let to = self.window(spot, data.len())?;
        // SAFETY: `window` has so many bytes, which are ours alone; `data` is a file's, so they don't overlap.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(data).cast(), data.len()) };
        Some(())
    }

    /// The little-endian number of `bytes` bytes, 8 at most, at `spot`.
    pub(crate) fn read(&self, spot: Spot, bytes: u32) -> Option<u64> {
        let mut number = [0; 8];
        let into = number.get_mut(..bytes as usize)?;
        let from = self.window(spot, into.len())?;
        // SAFETY: `window` has so many bytes, and they are initialised: zeros at first.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(into).cast(), bytes as usize) };
        Some(u64::from_le_bytes(number))
    }

    /// Writes the low `bytes` bytes of a number.
    pub(crate) fn write_number(&mut self, spot: Spot, bytes: u32, number: u64) -> Option<()> {
        let number = number.to_le_bytes();
        self.write(spot, number.get(..bytes as usize)?)
    }

    /// The segment that holds `bytes` bytes at this address, and where in it.
    pub(crate) fn locate(&self, address: u64, bytes: u64) -> Option<Spot> {
        Segment::ALL.into_iter().find_map(|segment| {
            let range = self.range(segment);
            let offset = address.checked_sub(range.start.get())?;
            let inside = offset.checked_add(bytes)? <= range.len();
            inside.then_some(Spot { segment, offset })
        })
    }

    /// Makes what was written to text visible to instruction fetches, and gives every segment its permission.
    pub(crate) fn protect(&mut self, machine: &dyn Machine, caches: CacheType) -> Result<(), LoadError> {
        for piece in self.pieces.iter_mut().flatten() {
            let segment = piece.allocation.segment;
            if segment.is_text() {
                let start = TextAddr::new(piece.allocation.address);
                // Every line, not only those that were written: veneers may yet be read as instructions by a prefetch.
                // SAFETY: 1. text is aligned for instructions. 2. `ModuleMemory` promises that an allocation is mapped
                // readable at its address until it is protected.
                let places = unsafe { cache::Contiguous::new(start, piece.bytes) };
                cache::make_visible(machine, caches, &places);
            }
            // SAFETY: (1) It came from this object and is in `pieces` until it is freed. (2) `window` gives no way to write it
            // once its state is another, and nothing executes it before all of the module is protected.
            unsafe { self.memory.protect(&piece.allocation, segment.permission()) }?;
            piece.state = PieceState::Protected;
        }
        Ok(())
    }

    /// Hands a text over to whoever traces.
    ///
    /// # Errors
    ///
    /// It isn't traced then.
    ///
    /// # Safety
    ///
    /// 1. The region is this segment of the module, which is linked and protected, with the entries that the object has for
    ///    it and the veneers that the loader set aside in it.
    /// 2. No CPU executes the segment before this has returned; if it returns an error, none ever does.
    pub(crate) unsafe fn hand_over(&mut self, segment: Segment, region: NewRegion<'_>) -> Result<(), RegionError> {
        let Some(piece) = &mut self.pieces[segment.index()] else {
            return Err(RegionError { text: region.text, cause: RegionCause::Unknown });
        };
        // SAFETY:
        // 1. The segment is mapped for this module alone, and `free` asks for the region back first.
        // 2. It is protected, so that `window` gives no way to write it any more.
        // 3. Our caller's second promise.
        // 4. and 5. Our caller's first promise.
        let token = unsafe { self.regions.add(region) }?;
        piece.state = PieceState::Traced(token);
        Ok(())
    }

    /// Ends the tracing of a segment, if it is traced.
    ///
    /// # Errors
    ///
    /// It is still traced then.
    pub(crate) fn take_back(&mut self, segment: Segment) -> Result<(), RegionError> {
        let Some(piece) = &mut self.pieces[segment.index()] else { return Ok(()) };
        match core::mem::replace(&mut piece.state, PieceState::Protected) {
            PieceState::Traced(token) => self.regions.remove(token).map_err(|NotRemoved { token, error }| {
                piece.state = PieceState::Traced(token);
                error
            }),
            state => {
                piece.state = state;
                Ok(())
            }
        }
    }

    /// The same for every text.
    pub(crate) fn take_back_all(&mut self) -> Result<(), RegionError> {
        // Each is asked for, whatever became of the one before.
        TEXTS.into_iter().map(|segment| self.take_back(segment)).fold(Ok(()), Result::and)
    }

    /// Frees the init segments.
    ///
    /// # Errors
    ///
    /// The init text is still traced, and all of them are still there.
    ///
    /// # Safety
    ///
    /// Nothing executes them or has a pointer into them.
    pub(crate) unsafe fn free_init(&mut self) -> Result<(), RegionError> {
        self.take_back(Segment::InitText)?;
        for segment in Segment::ALL.into_iter().filter(|segment| segment.is_init()) {
            self.free(segment);
        }
        Ok(())
    }

    /// Frees everything, or, where text can't be taken back, forgets it.
    ///
    /// # Errors
    ///
    /// What was kept. All of the module is: a CPU that may still be in a callback goes on in its functions.
    pub(crate) fn give_up(mut self) -> Result<(), Kept> {
        self.release()
    }

    fn release(&mut self) -> Result<(), Kept> {
        let taken_back = self.take_back_all();
        if let Err(error) = taken_back {
            let kept = self.pieces.iter_mut().filter_map(Option::take);
            return Err(Kept { error, bytes: kept.map(|piece| piece.allocation.bytes).sum() });
        }
        Segment::ALL.into_iter().rev().for_each(|segment| self.free(segment));
        Ok(())
    }

    /// Frees a segment that isn't traced.
    fn free(&mut self, segment: Segment) {
        let piece = self.pieces[segment.index()].take_if(|piece| !matches!(piece.state, PieceState::Traced(_)));
        if let Some(piece) = piece {
            // SAFETY: (1) It came from this object, and was taken out of here, so this happens once. (2) Nobody traces it;
            // whoever drops the module, or frees its init segments, promises that nothing else uses them.
            unsafe { self.memory.free(piece.allocation) };
        }
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        if let Err(Kept { error, bytes }) = self.release() {
            log::error!("fentry: {bytes:#x} bytes of a module are kept for ever: {error}");
        }
    }
}

impl fmt::Debug for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for segment in Segment::ALL {
            if let Some(piece) = self.piece(segment) {
                map.entry(
                    &format_args!("{segment}"),
                    &format_args!("{:#x}+{:#x}", piece.allocation.address, piece.bytes),
                );
            }
        }
        map.finish()
    }
}
