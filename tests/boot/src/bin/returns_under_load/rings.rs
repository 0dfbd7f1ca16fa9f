//! A ring for each CPU, of either mode, and readers that look at every record while rings are written.

use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use fentry::tracer::event::{self, Event, Recorded};
use fentry::tracer::kernel::RecordTo;
use fentry::tracer::ring::{Counts, HeldBlock, MAX_RECORD_BYTES, Mode, Ring, RingBlock};
use support::{percpu, println};

const MAX_CPUS: usize = percpu::MAX_CPUS;

/// Small, so that they are full all the time.
const BLOCKS: usize = 16;
type Memory = [RingBlock; BLOCKS];
static OVERWRITTEN: [Memory; MAX_CPUS] = [const { [const { RingBlock::new() }; BLOCKS] }; MAX_CPUS];
static STOPPED: [Memory; MAX_CPUS] = [const { [const { RingBlock::new() }; BLOCKS] }; MAX_CPUS];

static OVERWRITING: [Ring; MAX_CPUS] = rings(&OVERWRITTEN, Mode::Overwrite);
static STOPPING: [Ring; MAX_CPUS] = rings(&STOPPED, Mode::Stop);

const fn rings(memory: &'static [Memory; MAX_CPUS], mode: Mode) -> [Ring; MAX_CPUS] {
    [
        Ring::new(&memory[0], mode),
        Ring::new(&memory[1], mode),
        Ring::new(&memory[2], mode),
        Ring::new(&memory[3], mode),
        Ring::new(&memory[4], mode),
        Ring::new(&memory[5], mode),
        Ring::new(&memory[6], mode),
        Ring::new(&memory[7], mode),
    ]
}

fn of(mode: Mode) -> &'static [Ring; MAX_CPUS] {
    match mode {
        Mode::Overwrite => &OVERWRITING,
        Mode::Stop => &STOPPING,
    }
}

/// The rings that tracers record into.
pub(crate) struct Rings;

static STOPS: AtomicBool = AtomicBool::new(false);
/// What the chosen rings had produced when they were chosen.
static PRODUCED: AtomicU64 = AtomicU64::new(0);

/// Chooses the rings of this mode for tracers to record into.
pub(crate) fn choose(mode: Mode) {
    STOPS.store(matches!(mode, Mode::Stop), Ordering::Relaxed);
    PRODUCED.store(counts(mode).map(|counts| counts.produced()).sum(), Ordering::Relaxed);
    READ.iter().zip(counts(mode)).for_each(|(read, counts)| read.store(counts.read, Ordering::Relaxed));
}

impl RecordTo for Rings {
    fn ring() -> &'static Ring {
        let mode = if STOPS.load(Ordering::Relaxed) { Mode::Stop } else { Mode::Overwrite };
        &of(mode)[percpu::this().index()]
    }

    fn task() -> u32 {
        percpu::this().index() as u32 + 1
    }
}

fn counts(mode: Mode) -> impl Iterator<Item = Counts> {
    of(mode).iter().map(Ring::counts)
}

/// Looks that the rings of this mode were given as many records as the tracers produced since they were chosen, that each is
/// read, there or lost, and that those that are there can be read.
pub(crate) fn assert_exact(mode: Mode, produced: u64) {
    for (cpu, (ring, read)) in of(mode).iter().zip(&READ).enumerate() {
        let kept = ring.counts().kept;
        let mut reading = Reading::of(mode, cpu);
        reading.look();
        assert_eq!(reading.records, kept, "what a snapshot of ring {cpu} sees");
        let mut reading = Reading::of(mode, cpu);
        reading.read_some();
        assert_eq!(reading.records, kept, "what can be taken out of ring {cpu}");
        reading.done();
        assert_eq!(ring.counts().read, read.load(Ordering::Relaxed));
    }
    let sum = |of_one: fn(&Counts) -> u64| counts(mode).map(|counts| of_one(&counts)).sum::<u64>();
    println!(
        "{:?}: {produced} records; {} were overwritten and {} refused in all cases",
        mode,
        sum(|counts| counts.overwritten),
        sum(|counts| counts.refused)
    );
    assert_eq!(sum(Counts::produced) - PRODUCED.load(Ordering::Relaxed), produced);
}

/// How many records readers have taken out of the chosen rings.
static READ: [AtomicU64; MAX_CPUS] = [const { AtomicU64::new(0) }; MAX_CPUS];

/// A reader of one ring: there is one for each.
pub(crate) struct Reading {
    ring: &'static Ring,
    cpu: usize,
    depth: u16,
    records: u64,
    turns: u64,
}

impl Reading {
    pub(crate) fn of(mode: Mode, cpu: usize) -> Self {
        Self { ring: &of(mode)[cpu], cpu, depth: u16::MAX, records: 0, turns: 0 }
    }

    /// Records are inside less than so many others.
    pub(crate) fn up_to_depth(self, depth: u16) -> Self {
        Self { depth, ..self }
    }

    /// Reads what is there; every other time leaves it there.
    pub(crate) fn read_some(&mut self) {
        let mut pass = self.ring.consume();
        let mut last = 0;
        while let Some(block) = pass.next_block() {
            self.records += self.look_at(&block, &mut last);
            block.consume();
        }
        self.turns += 1;
        if self.turns.is_multiple_of(8) {
            let before = self.records;
            self.look();
            self.records = before;
        }
    }

    /// Reads what is there, and leaves it there.
    fn look(&mut self) {
        let mut pass = self.ring.snapshot();
        let mut last = 0;
        while let Some(block) = pass.next_block() {
            self.records += self.look_at(&block, &mut last);
        }
    }

    /// Decodes every record; how many there are. In a pass times ascend.
    fn look_at(&self, block: &HeldBlock<'_>, last: &mut u64) -> u64 {
        let mut scratch = [0; MAX_RECORD_BYTES];
        let mut count = 0;
        for record in block.records() {
            let (Recorded { time, task, event }, rest) = match event::decode(record.bytes(&mut scratch)) {
                Ok(decoded) => decoded,
                Err(error) => panic!("{error}: {record:?}"),
            };
            assert!(rest.is_empty() && time >= *last, "{record:?} after {last}");
            assert_eq!(task as usize, self.cpu + 1);
            match event {
                Event::GraphEntry { depth, .. } => assert!(depth < self.depth),
                Event::GraphExit { depth, entry_time, .. } => assert!(depth < self.depth && entry_time <= time),
                other => panic!("nobody recorded {other:?}"),
            }
            (*last, count) = (time, count + 1);
        }
        count
    }

    /// The reader goes: what it has read is counted.
    pub(crate) fn done(self) {
        READ[self.cpu].fetch_add(self.records, Ordering::Relaxed);
    }
}
