//! What a call costs with an event that a line has defined: recorded, or counted in a histogram.

use crate::calls::{KPROBES, Kernel, TRACING, call};
use crate::counted::tell;
use crate::kernel::{address, engine};
use alloc::format;
use alloc::string::String;
use fentry::control::{Control, Events, HistMemory, Histogram};
use fentry::symbols::Symbols;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::ticks_per_second;

const EVENTS: usize = 1;

static MEMORY: HistMemory<128> = HistMemory::new();
static HISTOGRAMS: [Histogram; 1] = [Histogram::new(&MEMORY)];
static EVENTS_OF_KERNEL: Events<Kernel, EVENTS> = Events::new(&KPROBES).with_memory(read).with_histograms(&HISTOGRAMS);

impl StoreIn<Events<Self, EVENTS>> for Kernel {
    #[inline]
    fn store() -> &'static Events<Self, EVENTS> {
        &EVENTS_OF_KERNEL
    }
}

/// Reads what is only asked to be read where it is: frame records.
fn read(address: u64, bytes: &mut [u8]) -> bool {
    const RAM: core::ops::Range<u64> = 0x4000_0000..0x8000_0000;
    if !RAM.contains(&address) {
        return false;
    }
    let from = core::ptr::with_exposed_provenance::<u8>(address as usize);
    // SAFETY: this kernel has mapped all of its memory, and its stacks end long before the memory does.
    unsafe { from.copy_to_nonoverlapping(bytes.as_mut_ptr(), bytes.len()) };
    true
}

/// Tells what an event at the function with this number costs, where a call without it costs `disabled`.
pub(crate) fn events(number: usize, disabled: u32) {
    let mut control = Control::new(engine(), TRACING.parts(), [Kernel::ring()], ticks_per_second)
        .with_events(EVENTS_OF_KERNEL.parts());
    let mut run = |line: &str| {
        let mut out = String::new();
        control.execute(line, &mut out).unwrap_or_else(|_| panic!("{out}"));
        out
    };
    let symbols = engine().symbols();
    let found = symbols.as_ref().and_then(|symbols: &Symbols<'_>| symbols.lookup_addr(address(number).get()));
    let name = found.expect("it has a name").symbol.name;
    run(&format!("echo 'p:called {name} at=%pc argument=$arg1' > kprobe_events"));
    run("echo 1 > events/kprobes/called/enable");
    tell("call-probe-event", call() - disabled);
    run("echo 0 > events/kprobes/called/enable");
    for (key, keys) in
        [("call-hist-function", "at"), ("call-hist-argument", "argument"), ("call-hist-stack", "stacktrace")]
    {
        run(&format!("echo hist:keys={keys} > events/kprobes/called/trigger"));
        // So that all keys are there, each of its own return address.
        call();
        tell(key, call() - disabled);
        let shown = run("cat events/kprobes/called/hist");
        assert!(shown.contains("Hits: 4") && shown.contains("Dropped: 0"), "{shown}");
        run("echo > events/kprobes/called/trigger");
    }
    run("echo > kprobe_events");
}
