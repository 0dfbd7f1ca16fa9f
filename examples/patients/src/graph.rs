//! The graph tracer's calls, as lines: each function inside the one that called it, with its time.

use alloc::vec::Vec;
use core::fmt;

use fentry::Ops;
use fentry::tracer::event::{Event, decode};
use fentry::tracer::graph::Graph;
use fentry::tracer::kernel::RecordTo;
use fentry::tracer::ring::{MAX_RECORD_BYTES, Mode, Ring, RingBlock};
use fentry::tracer::ticks_per_second;
use support::percpu::{self, MAX_CPUS};

use crate::loaded::function_at;

const BLOCKS: usize = 16;
static MEMORY: [[RingBlock; BLOCKS]; MAX_CPUS] = [const { [const { RingBlock::new() }; BLOCKS] }; MAX_CPUS];
static RINGS: [Ring; MAX_CPUS] = {
    let mut rings = [const { Ring::new(&MEMORY[0], Mode::Overwrite) }; MAX_CPUS];
    let mut cpu = 1;
    while cpu < MAX_CPUS {
        rings[cpu] = Ring::new(&MEMORY[cpu], Mode::Overwrite);
        cpu += 1;
    }
    rings
};

struct Calls;

impl RecordTo for Calls {
    fn ring() -> &'static Ring {
        &RINGS[percpu::this().index()]
    }

    fn task() -> u32 {
        percpu::this().index() as u32 + 1
    }
}

/// The tracer, to be registered.
pub static GRAPH: Ops = Ops::returning::<Graph<Calls>>();

/// A call that has returned.
#[derive(Clone, Copy, Debug)]
pub struct Call {
    ip: u64,
    entry: u64,
    ticks: u64,
    /// How many calls of the graph are around it.
    pub depth: u16,
}

impl Call {
    /// Its function.
    pub fn function(&self) -> alloc::string::String {
        function_at(self.ip)
    }
}

/// Takes the calls that this CPU has recorded, in the order in which they began.
pub fn take_calls() -> Vec<Call> {
    let (mut calls, mut pass) = (Vec::new(), Calls::ring().consume());
    while let Some(block) = pass.next_block() {
        for record in block.records() {
            let mut scratch = [0; MAX_RECORD_BYTES];
            let Ok((recorded, _)) = decode(record.bytes(&mut scratch)) else { continue };
            if let Event::GraphExit { ip, entry_time: entry, depth, .. } = recorded.event {
                calls.push(Call { ip: ip.get(), entry, ticks: recorded.time.saturating_sub(entry), depth });
            }
        }
        block.consume();
    }
    // A call begins before those inside it, but perhaps in the same tick.
    calls.sort_by_key(|call| (call.entry, call.depth));
    calls
}

impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let indent = 2 * usize::from(self.depth);
        let nanoseconds = self.ticks.saturating_mul(1_000_000_000) / ticks_per_second().max(1);
        write!(f, "{:>6}.{:03} us | {:indent$}{}()", nanoseconds / 1000, nanoseconds % 1000, "", self.function())
    }
}
