//! A kernel outside of fentry's repository: it takes its requests from the command line, as any that `cargo fentry trace`
//! boots. It runs at EL1 or EL2, as it is started, and begins with the header of a flat Image, so that it can be loaded so too.
#![no_std]
#![no_main]

mod market;

use aarch64_rt::{ExceptionHandlers, InitialPagetable, entry, exception_handlers, initial_pagetable};
use core::arch::{asm, global_asm};
use core::ffi::CStr;
use core::fmt::{self, Display, Write};
use core::mem::offset_of;
use core::panic::PanicInfo;
use core::ptr::NonNull;
use fentry::callsite::Layout;
use fentry::context::shadow::ShadowStack;
use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout};
use fentry::tracer::dump::DumpLines;
use fentry::tracer::event::EventWriter;
use fentry::tracer::kernel::{RecordTo, StoreIn};
use fentry::tracer::profiler::{Profile, ProfileSlot};
use fentry::tracer::ring::{Mode, Ring, RingBlock};
use fentry::tracer::session::{Options, Session};
use fentry::tracer::{ticks, ticks_per_second};
use fentry::{Engine, Image, Platform, TextAddr, TextRange, TraceContext};
use semihosting::experimental::env;
use semihosting::fs::File;
use semihosting::io::Write as _;

// The header of arm64 Linux's Image (Documentation/arch/arm64/booting.rst), which loaders know a flat kernel by.
global_asm!(
    ".pushsection .head, \"ax\"",
    "b entry",
    ".word 0",
    ".quad 0",           // to be loaded at the start of 2 MiB
    ".quad image_bytes", // with what is only reserved
    ".quad 0b1010",      // little-endian, pages of 4 KiB, anywhere in memory
    ".quad 0, 0, 0",
    ".ascii \"ARM\\x64\"",
    ".word 0",
    ".popsection",
);

// The page tables: three blocks of 1 GiB. Nothing is both writable and executable.
const VALID: usize = 1 | 1 << 10; // a block that was accessed
const RAM: usize = VALID | 1 << 2 | 1 << 6 | 3 << 8; // Normal memory, Inner Shareable; bit 6 is RES1 at EL2
const DEVICE: usize = VALID | NEVER_EXECUTE | 1 << 6;
const READ_ONLY: usize = 1 << 7;
const NEVER_EXECUTE: usize = 3 << 53;
const GIB: usize = 1 << 30;

initial_pagetable!({
    let mut gibibytes = [0; 512];
    gibibytes[0] = DEVICE;
    gibibytes[1] = GIB | RAM | READ_ONLY;
    gibibytes[2] = GIB | RAM | NEVER_EXECUTE;
    InitialPagetable(gibibytes)
});

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
}

#[repr(C)]
struct Cpu {
    trace: TraceContext,
}

static PLATFORM: OneCpu = OneCpu;
static ENGINE: Engine = Engine::new(&PLATFORM);
static CPU: Cpu = Cpu { trace: TraceContext::new() };
static CALLS: ShadowStack<64> = ShadowStack::new();

// Where a session records.
static MEMORY: [RingBlock; 16] = [const { RingBlock::new() }; 16];
static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
static SLOTS: [ProfileSlot; 512] = [const { ProfileSlot::new() }; 512];
static PROFILE: Profile = Profile::new(&SLOTS);
static SESSION: Session<OneCpu> = Session::new();

impl RecordTo for OneCpu {
    fn ring() -> &'static Ring {
        &RING
    }

    fn task() -> u32 {
        1
    }
}

impl StoreIn<Profile> for OneCpu {
    fn store() -> &'static Profile {
        &PROFILE
    }
}

impl StoreIn<Session<Self>> for OneCpu {
    fn store() -> &'static Session<Self> {
        &SESSION
    }
}

entry!(main);
fn main(_: u64, _: u64, _: u64, _: u64) -> ! {
    // SAFETY: nothing else uses the register, and `CPU` lives for ever.
    unsafe { asm!("msr tpidr_el1, {}", in(reg) &raw const CPU, options(nostack, preserves_flags)) };
    // SAFETY: fentry.ld defines the symbols, and this kernel runs where it was linked.
    let image = unsafe { Image::linked() }.with_layout(Layout::Plain);
    // SAFETY: there is one CPU, and interrupts are still masked.
    let report = unsafe { ENGINE.init(image) }.expect("the engine");
    // SAFETY: the stack is this context's only, for ever; nothing is traced yet.
    unsafe { CPU.trace.set_shadow_stack(&CALLS) };
    say(format_args!("{} callsites, {} names", report.counts.accepted, report.symbols));

    let line = env::args::<1024>().unwrap_or_else(|error| give_up(error));
    let mut words = [""; 32];
    // The first is the kernel's own name.
    words.iter_mut().zip((&line).skip(1)).for_each(|(place, word)| *place = word.unwrap_or_default());
    match words.iter().find_map(|word| word.strip_prefix("trace-file=")) {
        Some(path) => trace(&words, path),
        None => say(format_args!("a day brings {}", market::day())),
    }
    semihosting::process::exit(0)
}

/// Traces a day as the words ask, and leaves the dump in the file, or, if one of them is `console`, there.
fn trace(words: &[&str], path: &str) {
    let options = Options::parse(words.iter().copied()).unwrap_or_else(|error| give_up(error));
    SESSION.start(&ENGINE, &options).unwrap_or_else(|error| give_up(error));
    EventWriter { ring: &RING, task: 1, clock: ticks }.marker(board());
    market::day();
    SESSION.stop(&ENGINE).unwrap_or_else(|error| give_up(error));

    let tasks = [(1, "merchant")];
    if words.contains(&"console") {
        let mut lines = DumpLines::new(Console);
        let sink = |bytes: &[u8]| lines.write(bytes);
        SESSION.dump(&ENGINE, sink, ticks_per_second(), &[&RING], tasks).unwrap_or_else(|error| give_up(error));
        lines.finish().unwrap_or_else(|error| give_up(error));
    } else {
        let mut file = create(path);
        let sink = |bytes: &[u8]| file.write_all(bytes);
        SESSION.dump(&ENGINE, sink, ticks_per_second(), &[&RING], tasks).unwrap_or_else(|error| give_up(error));
    }
}

/// Makes a file of the host's.
fn create(path: &str) -> File {
    let mut bytes = [0; 512];
    let Some(place) = bytes.get_mut(..path.len()) else { give_up("the file's name is too long") };
    place.copy_from_slice(path.as_bytes());
    let path = CStr::from_bytes_until_nul(&bytes).unwrap_or_else(|error| give_up(error));
    File::create(path).unwrap_or_else(|error| give_up(error))
}

/// Where the kernel finds itself: the exception level, and the interrupt controller.
fn board() -> &'static str {
    let level: u64;
    // SAFETY: every exception level may read its own number.
    unsafe { asm!("mrs {}, CurrentEL", out(reg) level, options(nomem, nostack, preserves_flags)) };
    // ICPIDR2 of a GICv2; that of a GICv3 is elsewhere, and this is reserved.
    let identification = core::ptr::without_provenance::<u32>(0x0800_0fe8);
    // SAFETY: the distributor is there, mapped as a device, and reading changes nothing.
    let is_v2 = unsafe { identification.read_volatile() } >> 4 & 0xf == 2;
    match (level >> 2, is_v2) {
        (2, true) => "EL2, GICv2",
        (2, false) => "EL2, GICv3",
        (_, true) => "EL1, GICv2",
        (_, false) => "EL1, GICv3",
    }
}

fn give_up(error: impl Display) -> ! {
    say(format_args!("{error}"));
    semihosting::process::exit(1)
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
    give_up(info)
}

/// Every exception is a panic.
struct Exceptions;

impl ExceptionHandlers for Exceptions {}

exception_handlers!(Exceptions);
