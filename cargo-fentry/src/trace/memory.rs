//! Rings that are found in an image of a machine's memory.

use std::fs::File;
use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use fentry::tracer::dump::{DumpWriter, Reading};
use fentry::tracer::kept::{KeptHead, MAGIC};
use fentry::tracer::ring::{Ring, RingBlock};
use memchr::memmem;
use memmap2::Mmap;

use crate::progress::Step;

/// The rings that were found somewhere.
struct Found {
    at: usize,
    head: KeptHead,
    rings: Vec<Ring>,
    records: u64,
    damaged: usize,
}

/// Writes what is left in the rings of an image of memory as a dump.
pub(super) fn to_dump(memory: &Path, dump: &Path) -> Result<()> {
    let step = Step::start("looking for rings in the memory");
    let file = File::open(memory).with_context(|| format!("cannot read {}", memory.display()))?;
    // SAFETY: it is read only; whoever changes the file meanwhile gets another trace.
    let bytes = unsafe { Mmap::map(&file) }.with_context(|| format!("cannot read {}", memory.display()))?;
    let found = find(&bytes).with_context(|| {
        format!("{} has no rings of a kernel in it that keeps them (fentry::tracer::kept)", memory.display())
    })?;
    let mut out = File::create(dump).with_context(|| format!("cannot write {}", dump.display()))?;
    write(&found, |part| out.write_all(part)).with_context(|| format!("cannot write {}", dump.display()))?;
    let Found { at, head, records, damaged, .. } = found;
    let lost = if damaged > 0 { format!(", {damaged} blocks of them damaged") } else { String::new() };
    step.finish(&format!("{records} records of {} CPUs at {at:#x}{lost}", head.cpus()));
    Ok(())
}

/// The rings in which most records are left.
fn find(memory: &[u8]) -> Option<Found> {
    let heads = memmem::find_iter(memory, &MAGIC);
    heads.filter_map(|at| rings_at(memory, at)).max_by_key(|found| found.records)
}

/// The rings whose head is here; `None` where there is none, or where the memory ends before the first ring's first block does.
fn rings_at(memory: &[u8], at: usize) -> Option<Found> {
    let memory = memory.get(at..)?;
    let head = KeptHead::parse(memory)?;
    let mut found = Found { at, head, rings: Vec::new(), records: 0, damaged: 0 };
    for cpu in 0..head.cpus() {
        let mut bytes = usize::try_from(head.offset(cpu)).ok().and_then(|from| memory.get(from..)).unwrap_or_default();
        let mut blocks = Vec::new();
        // Where the image was cut off, what is missing is blank; where all of a ring is, any ring will do.
        let count = if bytes.is_empty() { 2 } else { head.blocks() };
        for _ in 0..count {
            let (block, rest) = bytes.split_first_chunk().unwrap_or((&[0; RingBlock::BYTES], &[]));
            blocks.push(RingBlock::from_le_bytes(block));
            bytes = rest;
        }
        // For the process's life, which ends soon.
        let (ring, recovered) = KeptHead::ring(blocks.leak()).ok()?;
        found.records += recovered.records;
        found.damaged += recovered.damaged;
        found.rings.push(ring);
    }
    Some(found)
}

fn write<E>(found: &Found, sink: impl FnMut(&[u8]) -> Result<(), E>) -> Result<(), E> {
    let rings: Vec<&Ring> = found.rings.iter().collect();
    let mut dump = DumpWriter::begin(sink, found.head.ticks_per_second, &rings)?;
    dump.slide(found.head.slide)?;
    dump.pull(Reading::Snapshot)?;
    dump.finish().map(drop)
}

#[cfg(test)]
mod tests {
    use super::to_dump;
    use crate::trace::model::{EventKind, Trace};
    use fentry::tracer::event::EventWriter;
    use fentry::tracer::kept::{KeptRings, MAGIC};
    use fentry::tracer::ring::{Mode, Ring};
    use std::sync::atomic::{AtomicU64, Ordering};

    type Memory = KeptRings<2, 4>;

    /// The memory of a machine whose kernel has written 300 records on CPU 0, and 3 on CPU 1, of which one is not finished.
    fn image() -> Vec<u8> {
        static TIME: AtomicU64 = AtomicU64::new(1);
        let memory: &'static Memory = Box::leak(Box::new(Memory::new()));
        let rings = memory.blocks().each_ref().map(|blocks| Ring::new(blocks, Mode::Overwrite));
        memory.begin(rings.each_ref(), 1_000_000_000, 0);
        let clock = || TIME.fetch_add(1000, Ordering::Relaxed);
        for number in 0..300 {
            EventWriter { ring: &rings[0], task: 1, clock }.marker(&format!("zero {number}"));
        }
        for number in 0..2 {
            EventWriter { ring: &rings[1], task: 1, clock }.marker(&format!("one {number}"));
        }
        std::mem::forget(rings[1].reserve(4, clock));
        // SAFETY: nobody writes to it any more, and it has no padding.
        let bytes = unsafe { std::slice::from_raw_parts(std::ptr::from_ref(memory).cast::<u8>(), size_of::<Memory>()) };
        // Something that looks like a beginning, and is none; and no alignment.
        let junk = [&MAGIC[..], &[0xff; 12345]].concat();
        [&junk[..], bytes, &junk].concat()
    }

    fn read(name: &str, image: &[u8]) -> anyhow::Result<Vec<(u32, String)>> {
        let directory = std::env::temp_dir().join(format!("fentry-memory-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&directory)?;
        let (memory, dump) = (directory.join("memory"), directory.join("dump"));
        std::fs::write(&memory, image)?;
        let read = to_dump(&memory, &dump).and_then(|()| Ok(std::fs::read(&dump)?));
        std::fs::remove_dir_all(&directory)?;
        let trace = Trace::from_dump(&read?, &[])?;
        let marker = |event: &crate::trace::model::Event| match &event.kind {
            EventKind::Marker { text } => Some((event.cpu, text.clone())),
            _ => None,
        };
        Ok(trace.events.iter().filter_map(marker).collect())
    }

    #[test]
    fn records_are_found_wherever_they_are_in_the_memory() {
        let found = read("whole", &image()).unwrap();
        let expected = (0..300).map(|number| (0, format!("zero {number}")));
        let expected: Vec<_> = expected.chain((0..2).map(|number| (1, format!("one {number}")))).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn of_an_image_that_was_cut_off_whole_blocks_are_read() {
        let image = image();
        // Behind the first two blocks.
        let found = read("cut", &image[..12353 + 64 + 2 * 4096 + 100]).unwrap();
        assert!((100..300).contains(&found.len()), "{}", found.len());
        assert!(found.iter().enumerate().all(|(number, event)| *event == (0, format!("zero {number}"))));
    }

    #[test]
    fn memory_without_rings_is_an_error_that_says_so() {
        let error = read("none", &[&MAGIC[..], &[0; 4096]].concat()).unwrap_err();
        assert!(error.to_string().contains("has no rings"), "{error:#}");
    }
}
