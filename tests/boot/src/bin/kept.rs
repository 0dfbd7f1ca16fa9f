//! Rings in memory that outlives a boot. Booted twice in the same memory, `boot=1` and `boot=2`: the second one finds what the first
//! has left, which ended in the middle of a record, and leaves as much.
#![no_std]
#![no_main]

use core::hint::black_box;
use core::sync::atomic::{AtomicU64, Ordering};
use fentry::tracer::event::Event;
use fentry::tracer::function::function;
use fentry::tracer::kept::KeptRings;
use fentry::tracer::kernel::RecordTo;
use fentry::tracer::ring::{HeldBlock, MAX_RECORD_BYTES, Mode, Recovered, Ring};
use fentry::tracer::{ticks, ticks_per_second};
use fentry::{Filter, Ops, Rule, TextAddr};
use spin::Once;
use support::harness::setting;
use support::memory::{Access, map_elsewhere};
use support::{engine, percpu, println, smp};

support::boot_tests! {
    what_the_boot_before_has_left_is_there,
}

const CPUS: usize = 2;
const CALLS: u64 = 1000;

type Memory = KeptRings<CPUS, 32>;

/// Where no image is loaded to, in the machine's memory.
const AT: usize = 0x5e00_0000;

fn memory() -> &'static Memory {
    for access in [Access::Read, Access::Write] {
        map_elsewhere(AT, AT..AT + size_of::<Memory>().next_multiple_of(4096), access).expect("nothing else is there");
    }
    // SAFETY: it is mapped for ever, nobody else uses it, it is aligned, and any bits are values of it.
    unsafe { &*core::ptr::with_exposed_provenance(AT) }
}

static RINGS: Once<[Ring; CPUS]> = Once::new();

/// Where calls are recorded, once the rings are there.
struct Kernel;

impl RecordTo for Kernel {
    #[inline]
    fn ring() -> &'static Ring {
        let rings = RINGS.get().expect("they are there before anything is traced");
        &rings[percpu::this().index() % CPUS]
    }

    #[inline]
    fn task() -> u32 {
        percpu::this().index() as u32
    }
}

static DONE: AtomicU64 = AtomicU64::new(0);

#[inline(never)]
extern "C" fn counted(number: u64) {
    DONE.fetch_add(black_box(number) & 1, Ordering::Relaxed);
}

fn function_address() -> TextAddr {
    TextAddr::new((counted as *const ()).addr() as u64)
}

/// How many of a block's records are calls of that function.
fn calls(block: &HeldBlock<'_>) -> u64 {
    let mut scratch = [0; MAX_RECORD_BYTES];
    let is_call = |event: Event<'_>| match event {
        Event::Function { ip, .. } => (0..16).contains(&(ip.get().wrapping_sub(function_address().get()))),
        _ => false,
    };
    let mut count = 0;
    for record in block.records() {
        let event = fentry::tracer::event::decode(record.bytes(&mut scratch));
        count += u64::from(event.is_ok_and(|(recorded, _)| is_call(recorded.event)));
    }
    count
}

fn what_the_boot_before_has_left_is_there() {
    static FUNCTION: Ops = function::<Kernel, 1>();
    let memory = memory();
    let rings = RINGS.call_once(|| memory.blocks().each_ref().map(|blocks| Ring::new(blocks, Mode::Overwrite)));
    let (engine, _) = engine();
    let found = memory.begin(rings.each_ref(), ticks_per_second(), engine.slide());
    let is_first = setting("boot").unwrap_or(1) == 1;
    let records = if is_first { 0 } else { CPUS as u64 * CALLS };
    assert_eq!(found, Recovered { records, damaged: 0 });
    let mut read = 0;
    for ring in rings {
        let mut pass = ring.consume();
        while let Some(block) = pass.next_block() {
            read += calls(&block);
            block.consume();
        }
    }
    assert_eq!(read, records, "all of them are calls of this kernel's function");

    smp::start_all();
    assert_eq!(engine.register(&FUNCTION, &Filter::new(&[Rule::address(function_address())])), Ok(1));
    smp::on_all(|cpu| {
        if cpu < CPUS {
            for number in 0..CALLS {
                counted(number);
            }
        }
    });
    assert_eq!(engine.unregister(&FUNCTION), Ok(1));
    // The kernel stops in the midst of these.
    for ring in rings {
        core::mem::forget(ring.reserve(4, ticks));
    }
    memory.write_back();
    println!("{} records are left", CPUS as u64 * CALLS);
}
