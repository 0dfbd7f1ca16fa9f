//! A module's memory: allocated, written, given its permissions, traced, freed.
//!
//! The only file of the loader that touches a module's memory. [`Placed`] is the guard of what was allocated: dropped, it frees
//! everything, so whatever goes wrong between allocation and success gives everything back.
//!
//! The one exception is text that is still traced: it may be read and written, and a CPU may come back to it out of a
//! callback. The guard therefore owns the regions' tokens, and each way to free memory removes the region first. Where
//! that fails, the memory is kept for ever, and the error says so.

use super::error::LoadError;
use super::layout::{SegmentOffset, TEXTS};
use super::memory::{Allocation, ModuleMemory, Placement, Request, Segment};
use super::regions::{NewRegion, NotRemoved, RegionCause, RegionError, RegionToken, Regions};
use crate::address::{TextAddr, TextRange};
use crate::platform::Platform;
use crate::text::{Machine, cache};
use core::fmt;
use core::ptr::NonNull;

/// Guards the memory of one module and the tracing of its texts: memory is freed when its region was removed, and not before.
pub(crate) struct Placed<'k> {
    memory: &'k dyn ModuleMemory,
    regions: &'k dyn Regions,
    segments: [Option<SegmentMemory>; Segment::ALL.len()],
}

/// One segment's memory.
struct SegmentMemory {
    allocation: Allocation,
    /// How many bytes from the start on the module uses.
    bytes: u64,
    state: SegmentState,
}

#[derive(PartialEq, Eq)]
enum SegmentState {
    /// The loader may write it.
    Writable,
    /// It has its final permission.
    Protected,
    /// It has its final permission, and is traced.
    Traced(RegionToken),
    /// Whoever traces is being asked to add or remove it. What they don't return from leaves it so, and it is never freed.
    Unsettled,
}

/// A module's memory that was kept, because text of it is still traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptMemory {
    /// Why it is still traced.
    pub(crate) error: RegionError,
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
        let mut placed = Self { memory, regions, segments: [const { None }; 6] };
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
            // SAFETY: `whole` bytes from `writable` on are the allocation's alone (`ModuleMemory`'s first promise) and may be
            // written until it is protected (its second).
            unsafe { allocation.writable.write_bytes(0, whole) };
            placed.segments[segment.index()] = Some(SegmentMemory { allocation, bytes, state: SegmentState::Writable });
        }
        Ok(placed)
    }

    fn segment(&self, segment: Segment) -> Option<&SegmentMemory> {
        self.segments[segment.index()].as_ref()
    }

    /// The segment's addresses; empty where it has no memory.
    pub(crate) fn range(&self, segment: Segment) -> TextRange {
        self.segment(segment).map_or(TextRange::EMPTY, |memory| {
            let start = TextAddr::new(memory.allocation.address);
            TextRange::new(start, TextAddr::new(start.get().wrapping_add(memory.bytes)))
        })
    }

    /// The address of a place.
    pub(crate) fn address(&self, place: SegmentOffset) -> u64 {
        self.range(place.segment).start.get().wrapping_add(place.offset)
    }

    /// Where the loader reads and writes `bytes` bytes from `place` on; `None` where they are not all inside, or protected.
    fn window(&self, place: SegmentOffset, bytes: usize) -> Option<NonNull<u8>> {
        let memory = self.segment(place.segment).filter(|memory| memory.state == SegmentState::Writable)?;
        let end = place.offset.checked_add(bytes as u64)?;
        if end > memory.bytes {
            return None;
        }
        // SAFETY: the offset is inside the allocation: not beyond the bytes that the module uses of it.
        Some(unsafe { memory.allocation.writable.byte_add(place.offset as usize) })
    }

    /// Copies `data` to `place`; `None` where it doesn't fit.
    pub(crate) fn write(&mut self, place: SegmentOffset, data: &[u8]) -> Option<()> {
        let to = self.window(place, data.len())?;
        // SAFETY: `window` has so many bytes that may be written, and `data` that may be read. They don't overlap: the
        // window's are the allocation's alone.
        unsafe { to.copy_from_nonoverlapping(NonNull::from(data).cast(), data.len()) };
        Some(())
    }

    /// The little-endian number of `bytes` bytes, 8 at most, at `place`.
    pub(crate) fn read(&self, place: SegmentOffset, bytes: u32) -> Option<u64> {
        let mut number = [0; 8];
        let into = number.get_mut(..bytes as usize)?;
        let from = self.window(place, into.len())?;
        // SAFETY: `window` has so many bytes that may be read, initialised since `allocate`, and `into` that may be written.
        // They don't overlap: `into` is a local variable's.
        unsafe { from.copy_to_nonoverlapping(NonNull::from(into).cast(), bytes as usize) };
        Some(u64::from_le_bytes(number))
    }

    /// So many words of eight bytes, from `place` on.
    pub(crate) fn longs<const COUNT: usize>(&self, place: SegmentOffset) -> Option<[u64; COUNT]> {
        let mut longs = [0; COUNT];
        for (index, long) in longs.iter_mut().enumerate() {
            *long = self.read(SegmentOffset { offset: place.offset + 8 * index as u64, ..place }, 8)?;
        }
        Some(longs)
    }

    /// Writes the low `bytes` bytes of a number.
    pub(crate) fn write_number(&mut self, place: SegmentOffset, bytes: u32, number: u64) -> Option<()> {
        let number = number.to_le_bytes();
        self.write(place, number.get(..bytes as usize)?)
    }

    /// The segment that holds `bytes` bytes at this address, and where in it.
    pub(crate) fn locate(&self, address: u64, bytes: u64) -> Option<SegmentOffset> {
        Segment::ALL.into_iter().find_map(|segment| {
            let range = self.range(segment);
            let offset = address.checked_sub(range.start.get())?;
            let inside = offset.checked_add(bytes)? <= range.len();
            inside.then_some(SegmentOffset { segment, offset })
        })
    }

    /// Makes what was written to text visible to instruction fetches, and gives every segment its permission.
    pub(crate) fn protect(&mut self, machine: &dyn Machine, platform: &dyn Platform) -> Result<(), LoadError> {
        let caches = machine.cache_type().with_clean_errata(platform.has_clean_errata());
        for memory in self.segments.iter_mut().flatten() {
            let segment = memory.allocation.segment;
            if segment.is_text() {
                let start = TextAddr::new(memory.allocation.address);
                // Every line, not only those that were written: veneers may yet be read as instructions by a prefetch.
                // SAFETY: 1. an allocation's address is a multiple of the page size (`ModuleMemory`, 1). 2. It is mapped
                // readable there until it is protected (`ModuleMemory`, 2).
                let places = unsafe { cache::Contiguous::new(start, memory.bytes) };
                cache::make_visible(machine, caches, &places);
            }
            // SAFETY: (1) It came from this object and is in `segments` until it is freed. (2) `window` gives no way to write it
            // once its state is another, and nothing executes it before all of the module is protected.
            unsafe { self.memory.protect(&memory.allocation, segment.permission()) }?;
            memory.state = SegmentState::Protected;
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
        let text = region.text;
        let Some(memory) = &mut self.segments[segment.index()] else {
            return Err(RegionError { text, cause: RegionCause::Unknown });
        };
        memory.state = SegmentState::Unsettled;
        // SAFETY:
        // 1. The segment is mapped for this module alone, and `free` asks for the region back first.
        // 2. It is protected, so that `window` gives no way to write it any more.
        // 3. Our caller's second promise.
        // 4. and 5. Our caller's first promise.
        let added = unsafe { self.regions.add(region) };
        added
            .map(|token| memory.state = SegmentState::Traced(token))
            .inspect_err(|_| memory.state = SegmentState::Protected)
    }

    /// Ends the tracing of a segment, if it is traced.
    ///
    /// # Errors
    ///
    /// It is still traced then.
    pub(crate) fn take_back(&mut self, segment: Segment) -> Result<(), RegionError> {
        let text = self.range(segment);
        let Some(memory) = &mut self.segments[segment.index()] else { return Ok(()) };
        let (state, result) = match core::mem::replace(&mut memory.state, SegmentState::Unsettled) {
            SegmentState::Traced(token) => match self.regions.remove(token) {
                Ok(()) => (SegmentState::Protected, Ok(())),
                Err(NotRemoved { token, error }) => (SegmentState::Traced(token), Err(error)),
            },
            SegmentState::Unsettled => {
                let cause = RegionCause::Other("whoever traces it did not return");
                (SegmentState::Unsettled, Err(RegionError { text, cause }))
            }
            state => (state, Ok(())),
        };
        memory.state = state;
        result
    }

    /// Ends the tracing of every text.
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

    /// Frees everything, or, where text is still traced, keeps everything for ever.
    ///
    /// # Errors
    ///
    /// What was kept, which is all of the module: a CPU that may still be in a callback goes on in its functions.
    pub(crate) fn give_up(mut self) -> Result<(), KeptMemory> {
        self.release()
    }

    fn release(&mut self) -> Result<(), KeptMemory> {
        let taken_back = self.take_back_all();
        if let Err(error) = taken_back {
            let kept = self.segments.iter_mut().filter_map(Option::take);
            return Err(KeptMemory { error, bytes: kept.map(|memory| memory.allocation.bytes).sum() });
        }
        Segment::ALL.into_iter().rev().for_each(|segment| self.free(segment));
        Ok(())
    }

    /// Frees a segment that isn't traced.
    fn free(&mut self, segment: Segment) {
        let is_ours =
            |memory: &mut SegmentMemory| matches!(memory.state, SegmentState::Writable | SegmentState::Protected);
        if let Some(memory) = self.segments[segment.index()].take_if(is_ours) {
            // SAFETY: (1) It came from this object, and was taken out of here, so this happens once. (2) Nobody traces it;
            // whoever drops the module, or frees its init segments, promises that nothing else uses them.
            unsafe { self.memory.free(memory.allocation) };
        }
    }
}

impl Drop for Placed<'_> {
    fn drop(&mut self) {
        if let Err(KeptMemory { error, bytes }) = self.release() {
            log::error!("fentry: {bytes:#x} bytes of a module are kept for ever: {error}");
        }
    }
}

impl fmt::Debug for Placed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut map = f.debug_map();
        for segment in Segment::ALL {
            if let Some(memory) = self.segment(segment) {
                map.entry(
                    &format_args!("{segment}"),
                    &format_args!("{:#x}+{:#x}", memory.allocation.address, memory.bytes),
                );
            }
        }
        map.finish()
    }
}
