//! The smallest kernel that traces one of its own functions: it prints who called `greet`, with which arguments.
//!
//! What it takes to add fentry to a kernel is marked with numbers: 1 the compiler's flags (`.cargo/config.toml` of this
//! repository), 2 the linker fragment (`build.rs`), 3 the platform, 4 the base register, 5 init, 6 the first trace; between
//! lines that say `integration` and `end of integration`, since a test counts them. The rest is what any kernel has: an
//! entry point, page tables, exception vectors, a console, a panic handler. Beside it are a probe at an instruction
//! (`show/probe.rs`), and the report of the fault by which it ends (`show.rs`).
#![no_std]
#![no_main]

mod show;

use aarch64_rt::{InitialPagetable, entry, initial_pagetable};
use core::fmt::{self, Write};
use core::hint::black_box;
use core::panic::PanicInfo;
use qemu_exit::QEMUExit;

// integration
use core::arch::asm;
use core::mem::offset_of;
use core::ptr::NonNull;
use fentry::callsite::Layout;
use fentry::engine::EngineMemory;
use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout, HoldError};
use fentry::{Engine, Filter, FtraceRegs, Image, Ops, Platform, Rule, Symbols, TextAddr, TextRange, TraceContext};
// end of integration

// The page tables: three blocks of 1 GiB. Nothing is both writable and executable.
const VALID: usize = 1 | 1 << 10; // a block that was accessed
const RAM: usize = VALID | 1 << 2 | 3 << 8; // Normal memory (attribute 1 of aarch64-rt's MAIR), Inner Shareable
const READ_ONLY: usize = 1 << 7;
const NEVER_EXECUTE: usize = 3 << 53;
const GIB: usize = 1 << 30;

initial_pagetable!({
    let mut gibibytes = [0; 512];
    gibibytes[0] = VALID | NEVER_EXECUTE; // devices
    gibibytes[1] = GIB | RAM | READ_ONLY; // RAM where it is: code and constants
    gibibytes[2] = GIB | RAM | NEVER_EXECUTE; // the same RAM again: data, and the writable alias of the code
    InitialPagetable(gibibytes)
});

// integration
/// 3. What fentry asks of a kernel.
struct OneCpu;

// SAFETY: the alias of all text is the block above, which maps the same memory writable for ever; there is no other CPU to
// synchronise; TPIDR_EL1 holds the address of `CPU` for ever, and there is one thread.
unsafe impl Platform for OneCpu {
    fn context_base(&self) -> ContextBase {
        ContextBase { register: BaseRegister::TpidrEl1, offset: offset_of!(Cpu, trace) as u16 }
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        let alias = core::ptr::with_exposed_provenance_mut(page.get() as usize + GIB);
        NonNull::new(alias).ok_or(AliasError { page, reason: "the page has no alias" })
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        Ok(())
    }

    fn quiesce(&self, _stubs: &[TextRange]) -> Result<(), CpuTimeout> {
        Ok(())
    }

    // For probes at instructions: without them, these two can be left out.
    fn hold_cpus(&self, act: &mut dyn FnMut()) -> Result<(), HoldError> {
        act();
        Ok(())
    }

    fn for_each_brk_range(&self, show: &mut dyn FnMut(TextRange)) -> bool {
        show(show::vectors::text());
        true
    }
}

static PLATFORM: OneCpu = OneCpu;
/// One ops is registered at a time, so callsites have that one or none. (`Engine::new` has room for 128.)
static MEMORY: EngineMemory<1, 2> = EngineMemory::new();
static ENGINE: Engine = Engine::new_in(&PLATFORM, &MEMORY);
// end of integration

/// 4. What this kernel keeps for its CPU, among it the engine's own words.
#[repr(C)]
struct Cpu {
    number: u32,
    // integration
    trace: TraceContext,
    // end of integration
}

static CPU: Cpu = Cpu {
    number: 0,
    // integration
    trace: TraceContext::new(),
    // end of integration
};

// integration
/// 6. What is called at each entry of `greet`.
static WATCH: Ops = Ops::new(watch);

extern "C" fn watch(ip: TextAddr, parent_ip: TextAddr, _ops: &'static Ops, regs: FtraceRegs<'_>) {
    let [times, volume, ..] = regs.arguments();
    // SAFETY: fentry.ld puts the symbols around the table, which nobody can write.
    match unsafe { Symbols::linked() } {
        Ok(symbols) => {
            let (function, caller) = (symbols.display(ip.get()), symbols.display(parent_ip.get()));
            say(format_args!("  {function} ({times}, {volume}) <- {caller}"));
        }
        Err(_) => say(format_args!("  {ip} ({times}, {volume}) <- {parent_ip}")),
    }
}
// end of integration

#[inline(never)]
extern "C" fn greet(times: u64, volume: u64) -> u64 {
    black_box(times) * black_box(volume)
}

#[inline(never)]
fn party() -> u64 {
    (1..=3).map(|times| greet(times, 11)).sum()
}

entry!(start);
fn start(_: u64, _: u64, _: u64, _: u64) -> ! {
    show::begin(main)
}

extern "C" fn main() -> ! {
    // integration
    // SAFETY: nothing else uses the register, and `CPU` lives for ever.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) &raw const CPU, options(nostack, preserves_flags)) };

    // 5. Once, before anything else runs.
    // SAFETY: fentry.ld defines the symbols, and this kernel runs where it was linked.
    let image = unsafe { Image::linked() }.with_layout(Layout::Plain); // -Zpatchable-function-entry=2
    // SAFETY: there is one CPU, and interrupts are still masked.
    let report = unsafe { ENGINE.init(image) }.expect("the engine");
    say(format_args!("{} functions can be traced", report.counts.accepted));

    let function = TextAddr::new((greet as *const ()).addr() as u64);
    ENGINE.register(&WATCH, &Filter::new(&[Rule::address(function)])).expect("registration");
    // end of integration
    say(format_args!("traced:"));
    let sum = party();
    // integration
    ENGINE.unregister(&WATCH).expect("the ops is registered");
    // end of integration
    say(format_args!("not traced:"));
    assert_eq!(party(), sum);
    say(format_args!("  the same result: {sum}"));
    show::probe::watch(function, || assert_eq!(party(), sum));
    show::stumble()
}

/// The console: the data register of the board's PL011, which QEMU needs no set-up for.
struct Console;

impl Write for Console {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let data = core::ptr::without_provenance_mut::<u32>(0x0900_0000);
        for byte in text.bytes() {
            // SAFETY: the UART is there, mapped as a device, and a store to this register sends a byte.
            unsafe { data.write_volatile(u32::from(byte)) };
        }
        Ok(())
    }
}

fn say(line: fmt::Arguments<'_>) {
    let _ = writeln!(Console, "{line}");
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    say(format_args!("{info}"));
    qemu_exit::AArch64::new().exit_failure()
}
