//! Reading a dump: everything is checked first, and then read as if nothing could be wrong.

use super::chunk::{Chunk, Cursor, ModuleSymbol, ModuleText, counts, function, module, slide, symbol, task};
use super::{COUNTS, CRC, END, FUNCTION, HEADER_BYTES, MAGIC, MAX_CPUS, MODULE, RECORDS, SLIDE, SYMBOL, TASK, VERSION};
use crate::tracer::event::{self, EventError, Recorded};
use crate::tracer::profiler::FunctionProfile;
use crate::tracer::ring::Counts;
use arrayvec::ArrayVec;
use thiserror::Error;

/// Why bytes are no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{cause} (at byte {at})")]
pub struct DumpError {
    /// The number of bytes before the place where it was seen.
    pub at: usize,
    /// What is wrong there.
    #[source]
    pub cause: DumpCause,
}

/// What is wrong with a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DumpCause {
    /// The bytes do not begin as a dump does.
    #[error("The bytes are no dump of trace buffers")]
    Magic,
    /// A version that this one can't read.
    #[error("The dump's version is {0}, and only {VERSION} can be read")]
    Version(u32),
    /// More CPUs than a dump can have.
    #[error("The dump has {0} CPUs, more than {MAX_CPUS}")]
    Cpus(u32),
    /// The dump ends too early.
    #[error("The dump ends too early: {needed} bytes should follow, and {found} do")]
    #[expect(missing_docs, reason = "numbers of bytes")]
    Truncated { needed: u64, found: usize },
    /// A kind of chunk that this version does not know.
    #[error("The dump has a chunk of the unknown kind {0}")]
    Chunk(u32),
    /// A chunk of a CPU that the dump does not have.
    #[error("The dump has a chunk of CPU {0}, which it does not have")]
    Cpu(u32),
    /// A length that a chunk of that kind can't have.
    #[error("The dump's chunk can't have {0} bytes")]
    Length(u64),
    /// A record that is none.
    #[error("{0}")]
    Record(#[source] EventError),
    /// A task whose number or name is none.
    #[error("The dump has a task with a number above 32 bits, or a name that is no UTF-8")]
    Task,
    /// A module whose text or name is none.
    #[error("The dump has a module whose text ends before it begins, or a name that is no UTF-8")]
    Module,
    /// A function of a module whose place or name is none.
    #[error("The dump has a function that ends beyond the last address, or a name that is no UTF-8")]
    Symbol,
    /// The dump's end says another length.
    #[error("The dump's end should come after {0} bytes")]
    End(u64),
    /// The bytes are not those that were written.
    #[error("The dump's checksum should be {expected:#010x} and is {found:#010x}")]
    Check {
        /// What the dump says.
        expected: u64,
        /// What they are.
        found: u32,
    },
    /// Something comes behind the end.
    #[error("The dump is followed by something else")]
    Behind,
}

/// A dump that was checked.
///
/// # Invariants
///
/// `chunks` are whole chunks of CPUs below `cpus`, without the end, and all their records can be decoded.
#[derive(Clone, Copy, Debug)]
pub struct Dump<'d> {
    chunks: &'d [u8],
    cpus: u32,
    ticks_per_second: u64,
}

impl<'d> Dump<'d> {
    /// Reads a whole dump.
    ///
    /// # Errors
    ///
    /// See [`DumpError`]: the first thing that is wrong.
    pub fn parse(bytes: &'d [u8]) -> Result<Self, DumpError> {
        match Self::salvage(bytes)? {
            (dump, None) => Ok(dump),
            (_, Some(error)) => Err(error),
        }
    }

    /// Reads what there is of a dump up to the first thing that is wrong, and says what that is. Where the checksum is
    /// wrong, or does not come, anything may be.
    ///
    /// # Errors
    ///
    /// If there is not even the header of a dump.
    pub fn salvage(bytes: &'d [u8]) -> Result<(Self, Option<DumpError>), DumpError> {
        let mut header = Cursor { bytes, at: 0 };
        let broken = |cause| DumpError { at: 0, cause };
        let needed = HEADER_BYTES as u64;
        let truncated = broken(DumpCause::Truncated { needed, found: bytes.len() });
        if header.take(MAGIC.len() as u64).ok_or(truncated)? != MAGIC {
            return Err(broken(DumpCause::Magic));
        }
        let version = header.u32().ok_or(truncated)?;
        if version != VERSION {
            return Err(broken(DumpCause::Version(version)));
        }
        let cpus = header.u32().ok_or(truncated)?;
        if cpus as usize > MAX_CPUS {
            return Err(broken(DumpCause::Cpus(cpus)));
        }
        let ticks_per_second = header.u64().ok_or(truncated)?;
        let mut dump = Self { chunks: &[], cpus, ticks_per_second };
        let mut cursor = header;
        loop {
            // INVARIANT: what is before the cursor was checked.
            dump.chunks = bytes.get(HEADER_BYTES..cursor.at).unwrap_or_default();
            let at = cursor.at;
            match dump.check(bytes, &mut cursor) {
                Ok(false) => {}
                Ok(true) => return Ok((dump, None)),
                Err(error) => return Ok((dump, Some(error.unwrap_or_else(|cause| DumpError { at, cause })))),
            }
        }
    }

    /// Checks the chunk at the cursor and goes behind it; whether it is the end.
    fn check(&self, bytes: &[u8], cursor: &mut Cursor<'_>) -> Result<bool, Result<DumpError, DumpCause>> {
        let at = cursor.at;
        let found = bytes.len() - at;
        let chunk = cursor.chunk().map_err(|needed| Err(DumpCause::Truncated { needed, found }))?;
        if chunk.cpu >= if matches!(chunk.kind, RECORDS | COUNTS) { self.cpus } else { 1 } {
            return Err(Err(DumpCause::Cpu(chunk.cpu)));
        }
        let length = Err(DumpCause::Length(chunk.body.len() as u64));
        match chunk.kind {
            RECORDS => {
                let mut records = chunk.body;
                while !records.is_empty() {
                    let at = cursor.at - records.len();
                    let decoded = event::decode(records);
                    (_, records) = decoded.map_err(|error| Ok(DumpError { at, cause: DumpCause::Record(error) }))?;
                }
                Ok(false)
            }
            COUNTS => counts(chunk.body).map(|_| false).ok_or(length),
            FUNCTION => function(chunk.body).map(|_| false).ok_or(length),
            TASK => task(chunk.body).map(|_| false).ok_or(Err(DumpCause::Task)),
            SLIDE => slide(chunk.body).map(|_| false).ok_or(length),
            MODULE => module(chunk.body).map(|_| false).ok_or(Err(DumpCause::Module)),
            SYMBOL => symbol(chunk.body).map(|_| false).ok_or(Err(DumpCause::Symbol)),
            END => {
                let mut body = Cursor { bytes: chunk.body, at: 0 };
                let (Some(total), Some(expected), 16) = (body.u64(), body.u64(), chunk.body.len()) else {
                    return Err(length);
                };
                if total != at as u64 {
                    return Err(Err(DumpCause::End(total)));
                }
                let check = CRC.checksum(bytes.get(..at).unwrap_or_default());
                if u64::from(check) != expected {
                    return Err(Err(DumpCause::Check { expected, found: check }));
                }
                let behind = DumpError { at: cursor.at, cause: DumpCause::Behind };
                if cursor.at == bytes.len() { Ok(true) } else { Err(Ok(behind)) }
            }
            kind => Err(Err(DumpCause::Chunk(kind))),
        }
    }

    /// Returns how many CPUs there are.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// Returns the frequency of the clock of all times.
    pub fn ticks_per_second(&self) -> u64 {
        self.ticks_per_second
    }

    /// Returns a CPU's counts when the dump was finished; `None` if there is no such CPU, or the dump breaks off before.
    pub fn counts(&self, cpu: u32) -> Option<Counts> {
        self.chunks_of(cpu).filter(|chunk| chunk.kind == COUNTS).filter_map(|chunk| counts(chunk.body)).last()
    }

    /// Returns the events of all CPUs in the order of their times; of those with the same time, the lowest CPU's first.
    ///
    /// Times of one CPU that go back, which no ring writes, stay in the order of the dump.
    pub fn events(&self) -> Events<'d> {
        let streams = (0..self.cpus).map(|cpu| Stream::new(cpu, self.chunks)).filter(|stream| stream.next.is_some());
        Events { streams: streams.take(MAX_CPUS).collect() }
    }

    /// Returns what a profiler counted, in no order; with the `ip` 0, what it had no room for.
    pub fn functions(&self) -> impl Iterator<Item = FunctionProfile> + use<'d> {
        self.bodies(FUNCTION).filter_map(function)
    }

    /// Returns the tasks that have names.
    pub fn tasks(&self) -> impl Iterator<Item = (u32, &'d str)> + use<'d> {
        self.bodies(TASK).filter_map(task)
    }

    /// Returns how far above the addresses that it was linked for the kernel was, modulo 2^64; 0 where the dump doesn't say.
    pub fn slide(&self) -> u64 {
        self.bodies(SLIDE).find_map(slide).unwrap_or(0)
    }

    /// Returns the texts of the modules that were loaded when the dump was written.
    pub fn modules(&self) -> impl Iterator<Item = ModuleText<'d>> + use<'d> {
        self.bodies(MODULE).filter_map(module)
    }

    /// Returns the functions of these modules.
    pub fn symbols(&self) -> impl Iterator<Item = ModuleSymbol<'d>> + use<'d> {
        self.bodies(SYMBOL).filter_map(symbol)
    }

    /// The bodies of all chunks of a kind that has no CPU.
    fn bodies(&self, kind: u32) -> impl Iterator<Item = &'d [u8]> + use<'d> {
        self.chunks_of(0).filter(move |chunk| chunk.kind == kind).map(|chunk| chunk.body)
    }

    fn chunks_of(&self, cpu: u32) -> impl Iterator<Item = Chunk<'d>> + use<'d> {
        let mut cursor = Cursor { bytes: self.chunks, at: 0 };
        core::iter::from_fn(move || cursor.chunk().ok()).filter(move |chunk| chunk.cpu == cpu)
    }
}

/// An event, and where it happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimedEvent<'d> {
    /// On which CPU.
    pub cpu: u32,
    /// What, and when.
    pub recorded: Recorded<'d>,
}

/// The events of a dump, by time.
#[derive(Clone, Debug)]
pub struct Events<'d> {
    /// Those that are not at their end.
    streams: ArrayVec<Stream<'d>, MAX_CPUS>,
}

impl<'d> Iterator for Events<'d> {
    type Item = TimedEvent<'d>;

    fn next(&mut self) -> Option<TimedEvent<'d>> {
        let time = |stream: &Stream<'_>| stream.next.map(|recorded| recorded.time);
        let (number, stream) = self.streams.iter_mut().enumerate().min_by_key(|(_, stream)| time(stream))?;
        let (cpu, recorded) = (stream.cpu, stream.next?);
        stream.advance();
        if stream.next.is_none() {
            self.streams.remove(number);
        }
        Some(TimedEvent { cpu, recorded })
    }
}

/// One CPU's events.
#[derive(Clone, Debug)]
struct Stream<'d> {
    cpu: u32,
    /// The chunks behind the one that is read, of any CPU, and the rest of that one.
    chunks: Cursor<'d>,
    records: &'d [u8],
    next: Option<Recorded<'d>>,
}

impl<'d> Stream<'d> {
    fn new(cpu: u32, chunks: &'d [u8]) -> Self {
        let mut stream = Self { cpu, chunks: Cursor { bytes: chunks, at: 0 }, records: &[], next: None };
        stream.advance();
        stream
    }

    fn advance(&mut self) {
        self.next = None;
        while self.records.is_empty() {
            let Ok(chunk) = self.chunks.chunk() else { return };
            if chunk.cpu == self.cpu && chunk.kind == RECORDS {
                self.records = chunk.body;
            }
        }
        if let Ok((recorded, rest)) = event::decode(self.records) {
            (self.next, self.records) = (Some(recorded), rest);
        }
    }
}
