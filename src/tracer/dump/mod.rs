//! Rings as a stream of bytes, from a kernel to a tool.
//!
//! A kernel [writes](DumpWriter) its rings through any function that takes bytes: a serial port, semihosting, a
//! file; or as [lines of text](DumpLines) on its console. [`Dump`] reads them on the other side, where everything is checked before anything is believed. Neither needs a
//! heap.
//!
//! All numbers are little-endian. A dump is a header, then chunks, the last of which is the end:
//!
//! ```text
//!   header    "fentryTR" | version: u32 | CPUs: u32 | ticks per second: u64
//!   chunk     kind: u32  | CPU: u32     | bytes of the body: u64            | body
//!
//!   kind 1    records    records as `event` has them, one behind the other, in the order of their times
//!   kind 2    counts     kept: u64 | read: u64 | refused: u64 | overwritten: u64      the CPU's counts at the end
//!   kind 3    end        bytes before this chunk: u64 | CRC-32 of them: u64           CPU 0
//!   kind 4    function   ip: u64 | hits: u64 | total: u64 | own: u64 | min: u64 | max: u64, as `profiler` has them; CPU 0
//!   kind 5    task       number: u64 | its name, UTF-8                                CPU 0
//!   kind 6    slide      how far the kernel is from where it was linked: u64          CPU 0
//!   kind 7    module     start of its text: u64 | end: u64 | its name, UTF-8          CPU 0
//!   kind 8    symbol     address: u64 | bytes: u64 | the name of a module's function  CPU 0
//! ```
//!
//! A reader has the names of the kernel's own functions from its image, and adds the slide to their addresses. Those of
//! modules, which nobody else knows any more when the dump is read, are in the dump.
//!
//! Calls that the profiler had no room for are a function with the `ip` 0, of which only `hits` says something.
//!
//! The CRC is the one of Ethernet and zip (CRC-32/ISO-HDLC). A CPU's chunks of records follow each other in time; those of
//! several CPUs come in any order.

mod chunk;
mod lines;
mod reader;
#[cfg(test)]
mod tests;

pub use chunk::{ModuleSymbol, ModuleText};
pub use lines::{DumpLines, LAST_LINE, LINE_PREFIX};
pub use reader::{Dump, DumpCause, DumpError, Events, TimedEvent};

use super::profiler::{FunctionProfile, Profile};
use super::ring::{HeldBlock, MAX_RECORD_BYTES, Record, Ring};
use crate::address::TextRange;
use crate::engine::Engine;
use crc::{CRC_32_ISO_HDLC, Crc, Digest, Table};

/// How a dump begins.
pub const MAGIC: [u8; 8] = *b"fentryTR";
const VERSION: u32 = 2;
const HEADER_BYTES: usize = 24;
const CHUNK_HEAD_BYTES: usize = 16;

const RECORDS: u32 = 1;
const COUNTS: u32 = 2;
const END: u32 = 3;
const FUNCTION: u32 = 4;
const TASK: u32 = 5;
const SLIDE: u32 = 6;
const MODULE: u32 = 7;
const SYMBOL: u32 = 8;

pub(super) static CRC: Crc<u32, Table<1>> = Crc::<u32, Table<1>>::new(&CRC_32_ISO_HDLC);

/// The most CPUs of a dump.
pub const MAX_CPUS: usize = 256;

/// What becomes of the records that are dumped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    /// They are taken out, block by block, when the sink has taken the block.
    Consume,
    /// They stay in the ring.
    Snapshot,
}

/// Writes a dump.
///
/// [`pull`](Self::pull) may be called any number of times while the kernel is traced: each takes what there is then. The
/// writers of the rings go on meanwhile.
///
/// ```
/// use fentry::tracer::dump::{Dump, DumpWriter, Reading};
/// use fentry::tracer::event::{Event, EventWriter};
/// use fentry::tracer::ring::{Mode, Ring, RingBlock};
///
/// static MEMORY: [RingBlock; 2] = [const { RingBlock::new() }; 2];
/// static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
/// EventWriter { ring: &RING, task: 1, clock: || 1234 }.marker("here");
///
/// let rings = [&RING];
/// let mut bytes = Vec::new();
/// let sink = |part: &[u8]| Ok::<(), std::io::Error>(bytes.extend_from_slice(part));
/// let mut writer = DumpWriter::begin(sink, 62_500_000, &rings)?;
/// writer.pull(Reading::Consume)?;
/// writer.finish()?;
///
/// let dump = Dump::parse(&bytes)?;
/// let events: Vec<_> = dump.events().collect();
/// assert_eq!((events[0].cpu, events[0].recorded.time), (0, 1234));
/// assert_eq!(events[0].recorded.event, Event::Marker { text: "here" });
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub struct DumpWriter<'r, S> {
    sink: S,
    rings: &'r [&'r Ring],
    check: Digest<'static, u32, Table<1>>,
    bytes: u64,
    /// Records from before this time are left out.
    since: u64,
}

impl<'r, E, S: FnMut(&[u8]) -> Result<(), E>> DumpWriter<'r, S> {
    /// Begins the dump of these rings, one for each CPU, those behind [`MAX_CPUS`] left out, whose clock has so many ticks
    /// a second (CNTFRQ_EL0).
    ///
    /// # Errors
    ///
    /// Whatever the sink says, as for all that follows.
    pub fn begin(sink: S, ticks_per_second: u64, rings: &'r [&'r Ring]) -> Result<Self, E> {
        let rings = rings.get(..MAX_CPUS).unwrap_or(rings);
        let mut writer = Self { sink, rings, check: CRC.digest(), bytes: 0, since: 0 };
        writer.write(&MAGIC)?;
        writer.write(&VERSION.to_le_bytes())?;
        writer.write(&(rings.len() as u32).to_le_bytes())?;
        writer.write(&ticks_per_second.to_le_bytes())?;
        Ok(writer)
    }

    /// Leaves out the records from before this time, in the clock's ticks: [`pull`](Self::pull) does not write them, and
    /// [`finish`](Self::finish) does not count them as kept.
    pub fn leave_out_before(&mut self, time: u64) {
        self.since = time;
    }

    /// Writes what all rings hold now.
    ///
    /// # Errors
    ///
    /// The sink's own. The block that it failed on is not consumed.
    pub fn pull(&mut self, reading: Reading) -> Result<(), E> {
        for (ring, cpu) in self.rings.iter().zip(0..) {
            let mut pass = match reading {
                Reading::Consume => ring.consume(),
                Reading::Snapshot => ring.snapshot(),
            };
            while let Some(block) = pass.next_block() {
                self.block(cpu, &block)?;
                block.consume();
            }
        }
        Ok(())
    }

    /// Writes a profile: all its functions, and what it had no room for.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn profile(&mut self, profile: &Profile) -> Result<(), E> {
        let unplaced = FunctionProfile { hits: profile.unplaced(), ..FunctionProfile::NONE };
        for function in profile.functions().chain((unplaced.hits > 0).then_some(unplaced)) {
            let FunctionProfile { ip, hits, total, own, min, max } = function;
            self.chunk(FUNCTION, 0, 48)?;
            [ip.get(), hits, total, own, min, max].iter().try_for_each(|number| self.write(&number.to_le_bytes()))?;
        }
        Ok(())
    }

    /// Writes the name of a task.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn task(&mut self, number: u32, name: &str) -> Result<(), E> {
        self.chunk(TASK, 0, 8 + name.len() as u64)?;
        self.write(&u64::from(number).to_le_bytes())?;
        self.write(name.as_bytes())
    }

    /// Writes what names the functions of the engine's text: how far the kernel is from where it was linked, and the modules
    /// that are loaded now, with their functions. Best before the records: a dump that is cut has them then.
    ///
    /// The engine is busy until this has returned, so the sink may not call it.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn names(&mut self, engine: &Engine) -> Result<(), E> {
        self.slide(engine.slide())?;
        #[cfg(feature = "module")]
        {
            let mut written = Ok(());
            engine.for_each_module(|status| {
                if written.is_ok() {
                    written = self.module(status.text, status.name).and_then(|()| {
                        let mut symbols = status.symbols.iter().flat_map(|symbols| symbols.iter());
                        symbols.try_for_each(|symbol| self.symbol(symbol.addr, symbol.size, symbol.name))
                    });
                }
            });
            written?;
        }
        Ok(())
    }

    /// Writes how far above the addresses that it was linked for the kernel is, modulo 2^64.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn slide(&mut self, slide: u64) -> Result<(), E> {
        self.chunk(SLIDE, 0, 8)?;
        self.write(&slide.to_le_bytes())
    }

    /// Writes where a module's text is, and its name.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn module(&mut self, text: TextRange, name: &str) -> Result<(), E> {
        self.named(MODULE, [text.start.get(), text.end.get()], name)
    }

    /// Writes a function of a module: its address, its length in bytes, its name.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn symbol(&mut self, addr: u64, size: u64, name: &str) -> Result<(), E> {
        self.named(SYMBOL, [addr, size], name)
    }

    fn named(&mut self, kind: u32, numbers: [u64; 2], name: &str) -> Result<(), E> {
        self.chunk(kind, 0, 16 + name.len() as u64)?;
        numbers.iter().try_for_each(|number| self.write(&number.to_le_bytes()))?;
        self.write(name.as_bytes())
    }

    /// Writes how many records there were and the end.
    ///
    /// # Errors
    ///
    /// The sink's own.
    pub fn finish(mut self) -> Result<(), E> {
        for (ring, cpu) in self.rings.iter().zip(0..) {
            let counts = ring.counts();
            let kept = if self.since == 0 { counts.kept } else { ring.count_since(self.since) };
            self.chunk(COUNTS, cpu, 32)?;
            for count in [kept, counts.read, counts.refused, counts.overwritten] {
                self.write(&count.to_le_bytes())?;
            }
        }
        let (bytes, check) = (self.bytes, self.check.clone().finalize());
        self.chunk(END, 0, 16)?;
        self.write(&bytes.to_le_bytes())?;
        self.write(&u64::from(check).to_le_bytes())
    }

    fn block(&mut self, cpu: u32, block: &HeldBlock<'_>) -> Result<(), E> {
        let since = self.since;
        let bytes = wanted(block, since).map(|record| record.bytes_len() as u64).sum();
        if bytes == 0 {
            return Ok(());
        }
        self.chunk(RECORDS, cpu, bytes)?;
        let mut scratch = [0; MAX_RECORD_BYTES];
        wanted(block, since).try_for_each(|record| self.write(record.bytes(&mut scratch)))
    }

    fn chunk(&mut self, kind: u32, cpu: u32, bytes: u64) -> Result<(), E> {
        self.write(&kind.to_le_bytes())?;
        self.write(&cpu.to_le_bytes())?;
        self.write(&bytes.to_le_bytes())
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), E> {
        (self.sink)(bytes)?;
        self.check.update(bytes);
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

/// A block's records from this time on.
fn wanted<'b>(block: &'b HeldBlock<'_>, since: u64) -> impl Iterator<Item = Record<'b>> {
    block.records().filter(move |record| record.time() >= since)
}

impl<S> core::fmt::Debug for DumpWriter<'_, S> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let Self { rings, bytes, .. } = self;
        f.debug_struct("DumpWriter").field("rings", rings).field("bytes", bytes).finish_non_exhaustive()
    }
}
