//! What the demo's callbacks write down: calls in their order, and how often each function was called.
//!
//! Written to from callbacks, so nothing here allocates or waits; read when nothing is traced any more.

use core::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use fentry::{FtraceRegs, Ops, TextAddr};

/// Calls that are kept; later ones are only counted.
const CALLS: usize = 2048;

/// One call.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    pub(crate) time_ns: u64,
    pub(crate) ip: u64,
    pub(crate) parent_ip: u64,
    pub(crate) arguments: [u64; 3],
}

static RECORDED: AtomicUsize = AtomicUsize::new(0);
static LOG: [[AtomicU64; 6]; CALLS] = [const { [const { AtomicU64::new(0) }; 6] }; CALLS];

/// The callback that writes calls down.
pub(crate) extern "C" fn record(ip: TextAddr, parent_ip: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let Some(slot) = LOG.get(RECORDED.fetch_add(1, Ordering::Relaxed)) else { return };
    let [a, b, c, ..] = regs.arguments();
    for (word, value) in slot.iter().zip([support::interrupts::now_ns(), ip.get(), parent_ip.get(), a, b, c]) {
        word.store(value, Ordering::Relaxed);
    }
}

/// How many calls there were since the last [`clear`].
pub(crate) fn recorded() -> usize {
    RECORDED.load(Ordering::Relaxed)
}

/// The calls that were kept.
pub(crate) fn calls() -> impl Iterator<Item = Call> {
    LOG.iter().take(recorded()).map(|slot| {
        let [time_ns, ip, parent_ip, a, b, c] = core::array::from_fn(|n: usize| slot[n].load(Ordering::Relaxed));
        Call { time_ns, ip, parent_ip, arguments: [a, b, c] }
    })
}

/// Forgets them.
pub(crate) fn clear() {
    RECORDED.store(0, Ordering::Relaxed);
}

/// One counter for each 8 bytes of text; no two callsites are that close.
static HITS: [AtomicU32; 1 << 17] = [const { AtomicU32::new(0) }; 1 << 17];

/// The callback that counts: `data` is the start of the text.
pub(crate) extern "C" fn count(ip: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {
    if let Some(hits) = HITS.get(slot_of(ip)) {
        hits.fetch_add(1, Ordering::Relaxed);
    }
}

/// How often the callsite at `ip` was counted.
pub(crate) fn hits(ip: TextAddr) -> u32 {
    HITS.get(slot_of(ip)).map_or(0, |hits| hits.load(Ordering::Relaxed))
}

fn slot_of(ip: TextAddr) -> usize {
    (ip.get() as usize).wrapping_sub(support::memory::text().start) / 8
}
