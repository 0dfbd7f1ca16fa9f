//! Reading a dump: everything is checked first, and then read as if nothing could be wrong.

use super::{CHUNK_HEAD_BYTES, COUNTS, CRC, END, FUNCTION, HEADER_BYTES, MAGIC, MAX_CPUS, RECORDS, TASK, VERSION};
use crate::address::TextAddr;
use crate::tracer::event::{self, EventError, Recorded};
use crate::tracer::profiler::FunctionProfile;
use crate::tracer::ring::Counts;
use arrayvec::ArrayVec;
use core::fmt;

/// Why bytes are no dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DumpError {
    /// How many bytes are before the place where it was seen.
    pub at: usize,
    /// What is wrong there.
    pub cause: DumpCause,
}

/// What is wrong with a dump.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpCause {
    /// It does not begin as a dump does.
    Magic,
    /// A version that this one can't read.
    Version(u32),
    /// More CPUs than a dump can have.
    Cpus(u32),
    /// It ends too early.
    Truncated {
        /// How many bytes should come.
        needed: u64,
        /// How many do.
        found: usize,
    },
    /// A kind of chunk that this version does not know.
    Chunk(u32),
    /// A chunk of a CPU that the dump does not have.
    Cpu(u32),
    /// A length that a chunk of that kind can't have.
    Length(u64),
    /// A record that is none.
    Record(EventError),
    /// A task whose number or name is none.
    Task,
    /// The end speaks of another length.
    End(u64),
    /// The bytes are not those that were written.
    Check {
        /// What the dump says.
        expected: u64,
        /// What they are.
        found: u32,
    },
    /// Something comes behind the end.
    Behind,
}

impl fmt::Display for DumpError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.cause {
            DumpCause::Magic => f.write_str("The bytes are no dump of trace buffers"),
            DumpCause::Version(version) => write!(f, "The dump's version is {version}, and only {VERSION} can be read"),
            DumpCause::Cpus(cpus) => write!(f, "The dump has {cpus} CPUs, more than {MAX_CPUS}"),
            DumpCause::Truncated { needed, found } => {
                write!(f, "The dump ends too early: {needed} bytes should follow, and {found} do")
            }
            DumpCause::Chunk(kind) => write!(f, "The dump has a chunk of the unknown kind {kind}"),
            DumpCause::Cpu(cpu) => write!(f, "The dump has a chunk of CPU {cpu}, which it does not have"),
            DumpCause::Length(bytes) => write!(f, "The dump's chunk can't have {bytes} bytes"),
            DumpCause::Record(error) => write!(f, "{error}"),
            DumpCause::Task => {
                f.write_str("The dump has a task with a number above 32 bits, or a name that is no UTF-8")
            }
            DumpCause::End(bytes) => write!(f, "The dump's end should come after {bytes} bytes"),
            DumpCause::Check { expected, found } => {
                write!(f, "The dump's checksum should be {expected:#010x} and is {found:#010x}")
            }
            DumpCause::Behind => f.write_str("The dump is followed by something else"),
        }?;
        write!(f, " (at byte {})", self.at)
    }
}

impl core::error::Error for DumpError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.cause {
            DumpCause::Record(error) => Some(error),
            _ => None,
        }
    }
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
        if chunk.cpu >= if matches!(chunk.kind, END | FUNCTION | TASK) { 1 } else { self.cpus } {
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

    /// How many CPUs there are.
    pub fn cpus(&self) -> u32 {
        self.cpus
    }

    /// The frequency of the clock of all times.
    pub fn ticks_per_second(&self) -> u64 {
        self.ticks_per_second
    }

    /// A CPU's counts when the dump was finished; none if there is no such CPU, or the dump breaks off before.
    pub fn counts(&self, cpu: u32) -> Option<Counts> {
        self.chunks_of(cpu).filter(|chunk| chunk.kind == COUNTS).filter_map(|chunk| counts(chunk.body)).last()
    }

    /// The events of all CPUs in the order of their times; of those with the same time, the lowest CPU's first.
    ///
    /// Times of one CPU that go back, which no ring writes, stay in the order of the dump.
    pub fn events(&self) -> Events<'d> {
        let streams = (0..self.cpus).map(|cpu| Stream::new(cpu, self.chunks)).filter(|stream| stream.next.is_some());
        Events { streams: streams.take(MAX_CPUS).collect() }
    }

    /// What a profiler knew, in no order; with the `ip` 0, what it had no room for.
    pub fn functions(&self) -> impl Iterator<Item = FunctionProfile> + use<'d> {
        self.chunks_of(0).filter(|chunk| chunk.kind == FUNCTION).filter_map(|chunk| function(chunk.body))
    }

    /// The tasks that have names.
    pub fn tasks(&self) -> impl Iterator<Item = (u32, &'d str)> + use<'d> {
        self.chunks_of(0).filter(|chunk| chunk.kind == TASK).filter_map(|chunk| task(chunk.body))
    }

    fn chunks_of(&self, cpu: u32) -> impl Iterator<Item = Chunk<'d>> + use<'d> {
        let mut cursor = Cursor { bytes: self.chunks, at: 0 };
        core::iter::from_fn(move || cursor.chunk().ok()).filter(move |chunk| chunk.cpu == cpu)
    }
}

fn counts(body: &[u8]) -> Option<Counts> {
    let ([kept, read, refused, overwritten], []) = body.as_chunks() else { return None };
    let [kept, read, refused, overwritten] = [kept, read, refused, overwritten].map(|bytes| u64::from_le_bytes(*bytes));
    Some(Counts { kept, read, refused, overwritten })
}

fn function(body: &[u8]) -> Option<FunctionProfile> {
    let ([ip, hits, total, own, min, max], []) = body.as_chunks() else { return None };
    let [ip, hits, total, own, min, max] = [ip, hits, total, own, min, max].map(|bytes| u64::from_le_bytes(*bytes));
    Some(FunctionProfile { ip: TextAddr::new(ip), hits, total, own, min, max })
}

fn task(body: &[u8]) -> Option<(u32, &str)> {
    let (number, name) = body.split_first_chunk()?;
    Some((u32::try_from(u64::from_le_bytes(*number)).ok()?, core::str::from_utf8(name).ok()?))
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

#[derive(Clone, Copy)]
struct Chunk<'d> {
    kind: u32,
    cpu: u32,
    body: &'d [u8],
}

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
struct Cursor<'d> {
    bytes: &'d [u8],
    /// Where the next one is.
    at: usize,
}

impl<'d> Cursor<'d> {
    fn take(&mut self, length: u64) -> Option<&'d [u8]> {
        let end = self.at.checked_add(usize::try_from(length).ok()?)?;
        let taken = self.bytes.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// The next chunk, or how many bytes there should be for it.
    fn chunk(&mut self) -> Result<Chunk<'d>, u64> {
        let head = CHUNK_HEAD_BYTES as u64;
        let (kind, cpu) = (self.u32().ok_or(head)?, self.u32().ok_or(head)?);
        let length = self.u64().ok_or(head)?;
        let body = self.take(length).ok_or(head.saturating_add(length))?;
        Ok(Chunk { kind, cpu, body })
    }
}
