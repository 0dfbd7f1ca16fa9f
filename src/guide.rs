//! Adding fentry to your kernel, from top to bottom.
//!
//! One CPU takes the first six steps, some 50 lines: `examples/minimal` in the repository is a whole kernel that has
//! taken them, in one file. Several CPUs, preemption and hooked returns take three more, some 40 lines: `examples/smp`
//! is that kernel. In both, what is there for fentry only is marked. (A kernel in C: [below](#kernels-in-c).)
//!
//! | | |
//! |---|---|
//! | One CPU | [1 the dependency](#1-the-dependency), [2 the compiler's flags](#2-the-compilers-flags), [3 the linker script](#3-the-linker-script), [4 the platform](#4-the-platform), [5 init](#5-init), [6 the first trace](#6-the-first-trace) |
//! | then | [7 names](#7-names), [8 several CPUs](#8-several-cpus), [9 preemption](#9-preemption), [10 returns](#10-returns), [11 a trace to take home](#11-a-trace-to-take-home) |
//! | to look up | [when it hangs](#when-it-hangs), [arguments](#arguments), [counters and tracers](#counters-and-tracers), [stack traces that are true](#stack-traces-that-are-true), [errors on purpose](#errors-on-purpose), [what is never traced](#what-is-never-traced), [calling conventions](#calling-conventions), [text that changes](#text-that-changes), [kernels in C](#kernels-in-c), [modules](#where-modules-may-be), [what it costs](#what-it-costs), [the linker](#the-linker) |
//!
//! # 1. The dependency
//! ```toml
//! [dependencies]
//! fentry = { path = "../fentry" } # a copy of the repository: version 0.1 is not on crates.io yet
//! ```
//! The crate is `no_std` and uses neither a heap nor threads. With it comes a tool, `cargo install --path
//! ../fentry/cargo-fentry`. This page says `engine` for your `static ENGINE: Engine = Engine::new(&MY_KERNEL)`.
//!
//! # 2. The compiler's flags
//! In `.cargo/config.toml`, or wherever your kernel keeps them:
//! ```toml
//! [target.aarch64-unknown-none]
//! rustflags = [
//!     "-Zpatchable-function-entry=2",       # two NOPs at each function's entry, and the section that lists them
//!     "-Cforce-frame-pointers=yes",         # backtraces walk frame records
//!     "-Csymbol-mangling-version=v0",       # the linker fragment tells the engine's functions by their names
//! ]
//! ```
//! The first needs a nightly toolchain, or `RUSTC_BOOTSTRAP=1` with a stable one; `core` and `alloc` are only traceable
//! if they are compiled with it too: `cargo build -Zbuild-std=core,alloc`. (Without, only crates of yours are; that is
//! fine as well.) C code is compiled with `-fpatchable-function-entry=2 -fno-omit-frame-pointer`. A `RUSTFLAGS`
//! variable in the environment replaces what the file says, silently.
//!
//! With `=4,2` each function has room for one 64-bit literal before it; add `-Zmin-function-alignment=8` then, since
//! the literal must be aligned. (C: `-fmin-function-alignment=8` from GCC 14 on; `-falign-functions=8` with Clang or an
//! older GCC, which ignores it at `-Os` and for cold functions.) Parts of a kernel may be compiled in the one way and
//! parts in the other. Functions of other sizes are refused, each by its entry. What an entry means follows from where
//! the function's symbol stands; a kernel without symbols (step 7) must have one layout, and says which by
//! [`Image::with_layout`](crate::Image::with_layout).
//!
//! `-Zbranch-protection=bti,pac-ret` needs nothing more. With `-Zsanitizer=kcfi` add `-Zmerge-functions=disabled`: LLVM
//! merges functions of one body whatever their types, and an indirect call then finds the other type's hash.
//!
//! # 3. The linker script
//! The section must be kept, and the engine's own functions gathered, so that they are never traced. `cargo fentry
//! linker-script -o fentry.ld` writes the fragment (`examples/fentry.ld` in the repository). Give it to the linker
//! before your own script, which stays as it is:
//! ```
//! // In build.rs:
//! let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
//! for script in ["fentry.ld", "kernel.ld"] {
//!     println!("cargo::rustc-link-arg-bins=-T{here}/{script}");
//!     println!("cargo::rerun-if-changed={here}/{script}");
//! }
//! ```
//! What `.cargo/config.toml` gives the linker comes before what `build.rs` does. So where your own script is in the
//! first, the fragment belongs there too, as `"-Clink-arg=-Tfentry.ld"` before it. (In the wrong order the link ends
//! with the fragment's own words.)
//!
//! Your kernel must have mapped, when init is called:
//!
//! | section | behind | as |
//! |---|---|---|
//! | `.text.fentry`: the engine, and 64 KiB for the code that it makes | `.text` | read, execute |
//! | `.fentry.symbols`, `.fentry.unwind`, `.fentry.exports`, `.fentry.injectable` | `.rodata` | read |
//! | `.fentry.callsites`, which becomes the table | `.data` | read, write |
//!
//! *This is where most first boots end*: a kernel that maps "from `_text` to `_etext`" by symbols of its own script may
//! not reach the engine's sections. Then `cargo fentry doctor kernel.elf` says which symbol to move. Doctor looks into
//! the linked image and says whatever else is missing, too; ask it before the first boot. A kernel that maps all of RAM
//! in one way (by blocks) needs to do nothing.
//!
//! A position-independent kernel's section is empty of addresses in the file: they are RELATIVE relocations, which the
//! kernel applies to itself at start. Init comes after that; before, it returns
//! [`TableError::NotRelocated`](crate::callsite::TableError::NotRelocated), or, where the linker left the addresses in
//! place as well (GNU ld, RELR, `--apply-dynamic-relocs`),
//! [`TableError::OutsideText`](crate::callsite::TableError::OutsideText). A failed init can be tried again.
//!
//! # 4. The platform
//! What the engine asks of a kernel is the trait [`Platform`](crate::Platform). For one CPU it is: where text can be
//! written, and where the running thread's context is.
//! ```
//! use core::ptr::NonNull;
//! use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout};
//! use fentry::{Platform, TextAddr, TextRange};
//! # const ALIAS: usize = 1 << 30;
//!
//! struct MyKernel;
//!
//! // SAFETY: all of text has a writable alias for ever; there is one CPU; TPIDR_EL1 holds a context, from step 5 on.
//! unsafe impl Platform for MyKernel {
//!     fn context_base(&self) -> ContextBase {
//!         ContextBase { register: BaseRegister::TpidrEl1, offset: 0 }
//!     }
//!
//!     fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
//!         let alias = core::ptr::with_exposed_provenance_mut(page.get() as usize + ALIAS);
//!         NonNull::new(alias).ok_or(AliasError { page, reason: "the page has no alias" })
//!     }
//!
//!     fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
//!         Ok(()) // With several CPUs: step 8.
//!     }
//!
//!     fn quiesce(&self, _stubs: &[TextRange]) -> Result<(), CpuTimeout> {
//!         Ok(()) // With several CPUs: step 8. With preemption: step 9.
//!     }
//! }
//! ```
//! *The alias* is a second, writable mapping of the same memory: here all of RAM is mapped once more, `ALIAS` bytes
//! higher, never executable. It must be Normal, Inner Shareable, Write-Back memory, as text itself. A kernel that is
//! mapped by identity needs one block descriptor more for that, in a free entry of the same table. Only kernels whose
//! text is writable where it is executed (SCTLR_ELx.WXN clear, all of RAM in one block) may return `page` itself: they
//! have no W^X to keep. A kernel that wants no permanent alias maps a window in
//! [`map_alias`](crate::Platform::map_alias), and takes it down in [`unmap_alias`](crate::Platform::unmap_alias).
//!
//! *The base register* leads to the [`TraceContext`](crate::TraceContext) of the thread that runs: for a kernel without
//! tasks, one for each CPU. Any system register that your kernel keeps such a pointer in will do
//! ([`BaseRegister`](crate::platform::BaseRegister)); at EL2, TPIDR_EL2. Where it holds *zero*, nothing is traced.
//! After a reset it holds anything: your entry code zeroes it on each CPU before it calls what may be traced, or sets
//! it at once.
//!
//! A kernel with interrupts tells the context when a handler begins and ends ([`enter`](crate::TraceContext::enter),
//! [`leave`](crate::TraceContext::leave)), so that what handlers call while they interrupt a callback is traced too.
//!
//! A kernel that runs on hardware only, virtual machines included, says so: with
//! [`may_be_emulated`](crate::Platform::may_be_emulated) left as it is, each word is stored a second time, for the sake
//! of emulators such as QEMU's TCG.
//!
//! # 5. Init
//! Once, on the boot CPU, before others run and with interrupts masked:
//! ```
//! use fentry::{Engine, Image};
//!
//! /// `image` comes from `Image::linked().with_layout(Layout::Plain)` if the flags of step 2 say `=2`. (For `=4,2` it is
//! /// `Prefixed`; with symbols in the kernel nothing needs to be said.)
//! fn start_tracing(engine: &Engine, image: Image) -> Result<(), fentry::engine::InitError> {
//!     // SAFETY: one CPU, interrupts masked.
//!     let report = unsafe { engine.init(image) }?;
//!     log::info!("{} callsites, {} refused", report.counts.accepted, report.counts.refused);
//!     engine.for_each_refusal(|(at, why)| log::warn!("{at}: {why}"));
//!     Ok(())
//! }
//! ```
//! Before it, or at any time before the first registration, the base register is set: `msr tpidr_el1, x0` with the
//! address of a `static CONTEXT: TraceContext` (less the offset that `context_base` says). The MMU is on, and the
//! caches. `CONTEXT` and `ENGINE` are memory that stays: if your start code zeroes `.bss`, it has done so.
//!
//! # 6. The first trace
//! ```
//! use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr};
//!
//! static WATCH: Ops = Ops::new(watch);
//!
//! extern "C" fn watch(ip: TextAddr, parent_ip: TextAddr, _ops: &'static Ops, regs: FtraceRegs<'_>) {
//!     log::info!("{ip} <- {parent_ip} {:x?}", regs.arguments());
//! }
//!
//! fn first_trace(engine: &Engine, my_function: extern "C" fn(u64)) -> Result<(), fentry::engine::RegisterError> {
//!     let address = TextAddr::new((my_function as *const ()).addr() as u64);
//!     engine.register(&WATCH, &Filter::new(&[Rule::address(address)]))?;
//!     my_function(7);
//!     engine.unregister(&WATCH).map(drop)
//! }
//! ```
//! `my_function` must be a function in the image: `#[inline(never)]`, or so large that the compiler leaves it one. `ip`
//! is the callsite, a few bytes behind the function's address ([`Symbols::lookup_addr`](crate::Symbols::lookup_addr)
//! finds the function of either).
//!
//! A callback runs wherever the function is called, in interrupt handlers too. It may call traced functions: they
//! aren't traced while it runs. What it must not do is wait for a lock that the interrupted code may hold, *the
//! console's among them*; and it is not the place to call the engine from. [`Callback`](crate::ops::Callback) has the
//! rest.
//!
//! # 7. Names
//! Filters by name need the kernel's symbol table in the kernel. There are two ways:
//!
//! - *In place.* Link with room for it: the argument `--defsym=__fentry_symbols_room=64K` stands before the linker
//!   fragment, where that is given. Then `cargo fentry symbols --in-place kernel.elf` fills the room, after each link;
//!   where it is too small, it says how much is needed. (100 bytes a function are a fair guess.)
//! - *Two links.* `cargo fentry symbols kernel.elf -o symbols.o`, and link again with `symbols.o`. Cargo doesn't notice
//!   when a file changes that a linker argument names, and an argument in RUSTFLAGS that comes or goes builds
//!   everything anew; so *always* pass the object from `build.rs`, empty at first, and say that it matters:
//! ```no_run
//! // In build.rs, before the linker scripts:
//! let here = std::env::var("CARGO_MANIFEST_DIR").expect("cargo sets it");
//! let names = format!("{here}/symbols.o");
//! // An empty file is an empty linker script.
//! if !std::path::Path::new(&names).exists() {
//!     std::fs::write(&names, "").expect("the kernel's directory can be written to");
//! }
//! println!("cargo::rustc-link-arg-bins={names}");
//! println!("cargo::rerun-if-changed={names}");
//! ```
//! The second link takes seconds, and moves no function. When the source has changed, the names are those of the last
//! link: `cargo fentry doctor` says so, and both steps are taken again. `Image::linked` finds
//! the table. Without one, filters by address work, and those by name are an error that says so
//! ([`RegisterError::NoNames`](crate::engine::RegisterError::NoNames)). Stripping takes away what the tool reads: it
//! comes last.
//!
//! Names are those that rustc's v0 mangling says. A glob must match *all* of a name:
//!
//! | in the source | its name | matched by |
//! |---|---|---|
//! | `fn read` in module `disk` | `my_kernel::disk::read` | `my_kernel::disk::*` |
//! | `impl Disk { fn read }` there | `<my_kernel::disk::Disk>::read` | `<my_kernel::disk::*`, **not** by `my_kernel::disk::*` |
//! | `impl Device for Disk` | `<my_kernel::disk::Disk as my_kernel::Device>::read` | `<my_kernel::disk::Disk as *`; every implementation: `* as my_kernel::Device>::*` |
//! | `fn copy<T>(..)` | `my_kernel::disk::copy::<u8>`, one for each type that is used | `my_kernel::disk::copy::*` |
//! | a closure in `read` | `my_kernel::disk::read::{closure#0}` | `my_kernel::disk::read::*` |
//! | `#[no_mangle]`, C | `disk_read` | `disk_*` |
//!
//! So `*my_kernel::disk::*`, with a `*` in front, is all that has to do with a module: its functions, methods,
//! implementations and what is generic over its types. `cargo fentry doctor` counts by crate; `strings` or `nm -C` on
//! the image show names.
//!
//! What is not there: a function that was inlined everywhere. A rule that selects nothing is an error
//! ([`RegisterError::NothingSelected`](crate::engine::RegisterError::NothingSelected) with the rule's number), so it is
//! noticed. And equal functions: the compiler merges two of one body into one address with two names. A filter that
//! selects either name selects the one function, and a trace shows it under the first; `-Zmerge-functions=disabled`
//! keeps them apart.
//!
//! A first filter for a large kernel: all of it, but for what is called from everywhere and does little.
//! ```
//! # fn rules() -> Result<(), Box<dyn std::error::Error>> {
//! use fentry::{Filter, Rule};
//! let rules = [Rule::parse("*my_kernel::*")?, Rule::parse("!*::fmt")?, Rule::parse("!*spin_lock*")?];
//! let filter = Filter::new(&rules);
//! # assert!(filter.selects(["<my_kernel::disk::Disk>::read"], fentry::TextAddr::new(0), None));
//! # assert!(!filter.selects(["<my_kernel::disk::Disk as core::fmt::Debug>::fmt"], fentry::TextAddr::new(0), None));
//! # let module = Rule::parse("my_kernel::disk::*")?;
//! # let one = [module];
//! # assert!(!Filter::new(&one).selects(["<my_kernel::disk::Disk>::read"], fentry::TextAddr::new(0), None));
//! # Ok(())
//! # }
//! # rules().unwrap();
//! ```
//! (A negative rule that takes nothing away is an error as well.)
//!
//! # 8. Several CPUs
//! Text is changed while all CPUs run it, so two questions go round among them: "have you all synchronised?", before
//! `register` returns, and "is nobody inside the old code?", before `unregister` does.
//! [`CpuRounds`](crate::platform::rounds::CpuRounds) asks both, waits with a deadline, and answers the questions of
//! others meanwhile. Your kernel says which CPU this is, and how to interrupt the others:
//! ```
//! use fentry::platform::rounds::{CpuRounds, Cpus};
//! use fentry::platform::CpuTimeout;
//! use fentry::{TextAddr, TextRange, TraceContext};
//! # fn cpu_number() -> usize { 0 }
//! # fn send_sgi_to_others(_: u32) {}
//! # fn this_context() -> &'static TraceContext { static C: TraceContext = TraceContext::new(); &C }
//!
//! static ROUNDS: CpuRounds<4> = CpuRounds::new();
//!
//! struct MyKernel;
//!
//! impl Cpus for MyKernel {
//!     fn this_cpu(&self) -> usize {
//!         cpu_number()
//!     }
//!     fn interrupt_others(&self) {
//!         send_sgi_to_others(1);
//!     }
//! }
//!
//! // Three methods of `impl Platform for MyKernel`:
//! # impl MyKernel {
//! fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
//!     ROUNDS.synchronize(self)
//! }
//! fn quiesce(&self, stubs: &[TextRange]) -> Result<(), CpuTimeout> {
//!     ROUNDS.quiesce(self, stubs)
//! }
//! fn relax(&self) {
//!     ROUNDS.relax(self, this_context());
//! }
//! # }
//!
//! // On each CPU, the first as well, when it can take that interrupt and before it does:
//! fn start_cpu() {
//!     ROUNDS.go_online(cpu_number()).expect("four CPUs");
//! }
//!
//! // At the beginning of every interrupt's handler, with what it interrupted (ELR):
//! fn begin_interrupt(elr: u64) {
//!     ROUNDS.look(cpu_number(), this_context(), TextAddr::new(elr));
//! }
//!
//! // In the handler of that one interrupt:
//! fn answer() {
//!     ROUNDS.answer(cpu_number());
//! }
//! # start_cpu(); begin_interrupt(0); answer(); MyKernel.relax();
//! # assert_eq!((MyKernel.synchronize_cpus(), MyKernel.quiesce(&[])), (Ok(()), Ok(())));
//! ```
//! A loop of yours that waits *with interrupts masked*, as a spin lock's may, calls `ROUNDS.answer` in each turn; else
//! the CPU that waits for this one waits for its deadline, and the batch is undone with
//! [`CpuTimeout`](crate::platform::CpuTimeout), which names the CPU. Nothing of the engine is called with a lock held
//! that others spin on so.
//!
//! A CPU that starts later zeroes the base register first, and goes online before it calls what may be traced; one that
//! is switched off goes offline.
//!
//! # 9. Preemption
//! Each task is a thread of execution of its own: it has a [`TraceContext`](crate::TraceContext) in its control block,
//! and the base register leads to the running task's. So it changes when tasks are switched. (TPIDR_EL1 may hold the
//! task's address, with the CPU's number in the task; or the CPU's block is in one register and the task in SP_EL0, as
//! Linux has it.) A context whose task was killed is made as new by [`reset`](crate::TraceContext::reset) before
//! another task gets it.
//!
//! A task that moves to another CPU in the middle of kernel code executes DSB ISH before, and ISB after, as promise 3
//! of [`Platform`](crate::Platform#safety) says.
//!
//! ## Preemption without a list of tasks
//! [`quiesce`](crate::Platform::quiesce) must know of preempted tasks that none of them is inside a callback. A kernel
//! that can't look at each preempted task need not, if no task is preempted inside a callback or a stub. Then only
//! running ones are looked at, and `CpuRounds` does that. At the end of an interrupt's handler, when it has
//! [left](crate::TraceContext::leave) its level:
//! ```
//! use fentry::{Engine, TextAddr, TraceContext};
//! # fn time_slice_is_over() -> bool { true }
//! # fn switch_task() {}
//!
//! /// `context` is what the base register leads to, `pc` what was interrupted (ELR), and interrupts are masked.
//! fn end_of_interrupt(engine: &Engine, context: &TraceContext, pc: TextAddr) {
//!     // If not now, then at the next interrupt: a callback is short.
//!     if time_slice_is_over() && engine.is_quiescent(context, pc) {
//!         switch_task();
//!     }
//! }
//! ```
//! [`is_quiescent`](crate::Engine::is_quiescent) takes no lock, and the engine's own functions are never traced. *Nor
//! may be yours from here to the switch*, if the switch is a function: one among them whose return is hooked would
//! return in another task's context, and end in [`lost_return`](crate::Platform::lost_return); and where the interrupt
//! hit a callback, the check itself would be counted as a miss at every interrupt. [What is never
//! traced](#what-is-never-traced) has the ways. Or let no function span the switch: in `examples/smp` the handler
//! *returns* the task to go on with, and the vector's last instructions, which have no callsite, change the base
//! register and SP. Then all of Rust may be traced. The handler of a nested interrupt doesn't switch.
//!
//! A task that gives up its CPU by itself is quiescent unless it does so in a callback, which callbacks may not.
//!
//! # 10. Returns
//! [`Ops::returning`](crate::Ops::returning) has handlers called at a function's entry and exit, with data between
//! them, the result and the time ([`Probe`](crate::ops::Probe) has an example). For that the return address waits on a
//! *shadow stack*: each context is given one of its own, once, and told where its thread's stack is, so that calls that
//! never return are noticed early.
//! ```
//! use fentry::TraceContext;
//! use fentry::context::shadow::ShadowStack;
//!
//! static SHADOW_STACK: ShadowStack<64> = ShadowStack::new(); // 64 hooked calls inside each other: 4 KiB
//!
//! fn give(context: &TraceContext, stack: core::ops::Range<u64>) {
//!     // SAFETY: 1. no other context has it, and it lives for ever; 2. to 4. the task has not run yet.
//!     unsafe { context.set_shadow_stack(&SHADOW_STACK) };
//!     // SAFETY: 1. that is its task's stack, and no other's; 2. its code is compiled.
//!     unsafe { context.set_stack_bounds(stack) };
//! }
//! # static CONTEXT: TraceContext = TraceContext::new();
//! # give(&CONTEXT, 0..0);
//! ```
//! Memory from your kernel's allocator does as well, without a copy on a small stack:
//! [`ShadowFrames::new_in`](crate::context::shadow::ShadowFrames::new_in) makes a shadow stack of bytes, as many calls
//! as fit, and [`set_shadow_frames`](crate::TraceContext::set_shadow_frames) takes it; rings have
//! [`slice_in`](crate::tracer::ring::RingBlock::slice_in).
//!
//! Calls that find the shadow stack full, or none, aren't hooked, and are counted
//! ([`overflows`](crate::TraceContext::overflows)).
//!
//! Some functions [can't be hooked](crate::ops::Probe#what-cant-be-hooked), and filters for returns leave them out:
//!
//! | function | why | what becomes of it |
//! |---|---|---|
//! | the switch of tasks, and *whatever else writes the base register* | it returns where the register leads to another context | [`lost_return`](crate::Platform::lost_return) |
//! | the setter of a CPU's first context (`set_current`) | called with zero there it isn't hooked; with another context, as above | the same |
//! | a switch of stacks inside one context (coroutines) | the other stack's frames lie between | dropped, then `lost_return` |
//! | what makes a thread by copying a running one's stack (`fork`) | the copy returns as well | `lost_return` |
//! | what returns twice (`setjmp`, `vfork`) | the second return is not told from another call | left out by name, under the usual ones |
//! | `longjmp`, a caught panic, a killed task | calls never return | noticed by SP, and dropped |
//! | what doesn't return (`-> !`) | there is no exit | an entry, and no exit |
//!
//! `lost_return` panics, with the function's name where the platform has
//! [`for_each_context`](crate::Platform::for_each_context): one line that is worth its while. To look at those
//! functions' entries is all right; only their returns aren't hooked.
//!
//! # 11. A trace to take home
//! Callbacks that print are slow, and the console has a lock. [`tracer`](crate::tracer) has rings, and tracers that
//! record into them: calls with callers, call graphs, profiles. [`tracer::session`](crate::tracer::session) does all at
//! once: it reads what to trace from the kernel's command line, and gives out the bytes of a dump that `cargo fentry
//! trace` turns into text, or files for uftrace, trace-cmd, Perfetto and flame graphs. (A graph needs the shadow
//! stacks of step 10: without them no call is in it.)
//! ```text
//! cargo fentry trace --image kernel.elf --filter '*my_kernel::disk::*' --format all
//! cargo fentry trace --image kernel.elf --boot Image --machine virt,gic-version=2,virtualization=on
//! cargo fentry trace --image kernel.elf --runner './run.sh {boot} "{append}"'
//! cargo fentry trace --image kernel.elf --from console.log --format text
//! ```
//! `--image` has the names, `--boot` is what QEMU loads, a flat file for example; with `--runner` any command boots the
//! kernel, and `--from` reads what a board has left. The kernel writes the dump into a file by semihosting, or on its
//! console, among whatever else it says there:
//! ```
//! use core::fmt::Write;
//! use fentry::tracer::dump::DumpLines;
//! # fn dump(console: impl Write, mut session_dump: impl FnMut(&mut dyn FnMut(&[u8]) -> core::fmt::Result) -> core::fmt::Result) -> core::fmt::Result {
//!
//! let mut lines = DumpLines::new(console);
//! // SESSION.dump(engine, sink, ticks_per_second(), &[&RING], [(1, "main")]), with this sink:
//! let mut sink = |bytes: &[u8]| lines.write(bytes);
//! # session_dump(&mut sink)?;
//! lines.finish()
//! # }
//! # let mut text = String::new();
//! # dump(&mut text, |sink| sink(b"fentry")).unwrap();
//! # assert!(text.ends_with("fentry-dump end\n"));
//! ```
//! Names come from the kernel's image: a kernel that runs elsewhere than it was linked says how far
//! ([`slide`](crate::Platform::slide)), and the functions of modules that are loaded when the dump is written are in
//! it.
//!
//! Where the machine crashes, rings can be in memory that a reset leaves ([`tracer::kept`](crate::tracer::kept)): the next boot reads
//! them, or `cargo fentry trace --image kernel.elf --memory FILE` finds them in a copy of the memory.
//!
//! # When it hangs
//! A kernel that traces itself wrongly tends to stop without a word. In this order:
//!
//! 1. *Ask `cargo fentry doctor kernel.elf`.* It knows the linker's and the compiler's mistakes. `cargo fentry verify` then
//!    follows every function: your assembly's too.
//! 2. *A fault in a loop.* Do your vectors print ESR, ELR and FAR without calling what is traced? Look up ELR: in
//!    `.text.fentry`, at an address that is not mapped (an instruction abort, FAR = ELR), it is step 3's table. Often
//!    it is the first `memcpy`, since the engine's text has that too.
//! 3. *Init returns an error:* print it; it says what it found and where, a table that is mapped read-only for example.
//! 4. *`register` returns, and nothing is called.* Does the base register hold what `context_base` says, on this CPU,
//!    now? Zero means untraced. Is the function called at all, or inlined? Is the alias the same memory as the text
//!    ([`check_text`](crate::Engine::check_text) reads it where it is executed)?
//! 5. *The first traced call faults or never comes back.* The base register holds something that is neither zero nor a
//!    context: set too late, or to a physical address, or the offset is another field's. Or the callback waits for the
//!    lock of what it interrupted: try one that only counts.
//! 6. *`register` or `unregister` takes ten seconds* and returns `CpuTimeout`: the CPU that it names didn't answer.
//!    Does the interrupt reach it (each CPU enables its SGIs itself; at EL2 none is taken without HCR_EL2.IMO), is it
//!    online under its own number, does it spin with interrupts masked? A `NotQuiescent`: it was never seen outside of
//!    callbacks: `look` is missing in the handler, or gets another `pc` than ELR.
//! 7. *It hangs in `register`, for ever:* it was called from a callback, an interrupt handler, or with a lock held that
//!    another CPU spins on.
//! 8. *A fault some time later, at a strange address.* The stack is too small: a callback runs on the traced
//!    function's, and `register` needs 1 KiB of its own, `init` 3 KiB (optimised). Or, with returns hooked, a function
//!    that step 10 lists.
//! 9. *Halve it.* A filter of one function by address, then half of the names. With QEMU, `-d int` shows the first
//!    exception, and `-d exec,nochain` the last text that was executed.
//!
//! # Arguments
//! [`arguments`](crate::FtraceRegs::arguments) are x0 to x7 at the function's entry: for `extern "C"` functions, in
//! Rust and C, what the AAPCS64 says (numbers and pointers from x0 on; structs of up to 16 bytes in two registers,
//! larger ones by a pointer; the ninth argument at [SP](crate::FtraceRegs::stack_pointer); a large result's address in
//! [x8](crate::FtraceRegs::indirect_result)). Floating-point numbers are in q0 to q7, which are saved, and not shown.
//!
//! *Rust's own convention says nothing.* Today integers and references come in x0, x1, ... in the order of the
//! parameters, a slice or `&str` in two; but a small struct may come in pieces or by pointer, a closure's captures
//! before the rest, and an argument of no size not at all. And a function that is called only inside its crate, or with
//! LTO inside the program, is the optimiser's: it drops arguments that are not used or always the same, passes what a
//! reference refers to, and clones functions for constants. Declare `extern "C"` and `#[inline(never)]` what you will
//! rely on; change arguments and results of such functions only.
//!
//! # Counters and tracers
//! - [`Ops::counter`](crate::Ops::counter) works everywhere, in ten instructions a call. With a
//!   [`CpuArea`](crate::record::CpuArea) in each CPU's data, and [`cpu_base`](crate::Platform::cpu_base) to find it,
//!   each CPU counts for itself, and [`Ops::recorder`](crate::Ops::recorder) keeps the last calls.
//! - [`tracer`](crate::tracer): function, graph, profile, latency, slow calls, deepest stack.
//! - [`direct`](crate::ops::direct): a callsite that calls your own trampoline, with no stub between.
//!
//! # Stack traces that are true
//! Frame records leave out a caller where code is interrupted in a prologue, an epilogue or a leaf. An unwind table says where
//! the caller is at each instruction, and an [`Unwinder`](crate::context::unwind::Unwinder) says of each frame whether it is
//! sure. The kernel gets the table in one step with its names:
//!
//! ```text
//! cargo fentry symbols --unwind kernel.elf -o tables.o      and a second link with tables.o; or
//! cargo fentry symbols --in-place --unwind kernel.elf       where it was linked with room for both:
//!     -Clink-arg=--defsym=__fentry_symbols_room=64K -Clink-arg=--defsym=__fentry_unwind_room=64K
//! ```
//!
//! ```ignore
//! // SAFETY: the linker script is examples/fentry.ld, and the table does not change any more.
//! let table = unsafe { UnwindTable::linked() }?;
//! // In an exception's handler. SAFETY: the table is of this kernel's text; what was interrupted goes on only after this.
//! let mut walk = unsafe { Unwinder::new(&saved_registers, &[table], &MyStacks) };
//! for frame in walk.by_ref() {
//!     log::error!("{} {}", if frame.is_reliable() { " " } else { "?" }, frame.place);
//! }
//! ```
//!
//! `Unwinder::here` begins with the caller, and [`Unwinder::of_call`](crate::context::unwind::Unwinder::of_call) with the function
//! whose callsite has called a callback.
//! Without a table (`&[]`) the same walk goes by frame records, and is sure of none but the first. Whoever acts upon a trace asks
//! [`is_complete`](crate::context::unwind::Unwinder::is_complete) at its end. What the kernel does for it:
//!
//! - it names its stacks ([`Stacks`](crate::context::unwind::Stacks)), and, so that walks go on over exceptions, says where the
//!   vectors save what they have interrupted, as a [`PtRegs`](crate::PtRegs);
//! - the first code of each CPU and task sets x29 to zero and never returns (AAPCS64 6.4.6): that is the end;
//! - a handler on a stack of its own is called with x29 at a frame on the interrupted one.
//!
//! `examples/minimal` has all three, with the vectors and the report of a fault.
//!
//! A module's table goes into its object, by `cargo fentry verify --unwind-in-place module.o`, and is
//! `Module::unwind_table` once it is loaded.
//!
//! # Errors on purpose
//! List the functions that may fail, each with what it returns then, and attach an injection to some of them:
//!
//! ```ignore
//! fentry::injectable! {
//!     // SAFETY: its callers handle a lack of pages.
//!     unsafe fn pages::take(order: usize) -> Option<Page> { None }
//! }
//!
//! static NO_PAGES: Injection = Injection::new();
//! ```
//!
//! From then on its parameters say which calls fail; [`fail_nth`](crate::inject::fail_nth) runs a test until each of its
//! failure points has failed once. A module lists functions of its own in the same section of its object, and
//! `Injectable::of_module` gives them. [`inject`](crate::inject) has all of it.
//!
//! # Probes at any instruction
//! [`kprobe`](crate::kprobe) has probes that are called before an instruction, and after it. At functions' entries they need
//! nothing. For all others a kernel brings its BRK exceptions to them, while interrupts are still masked, and can hold its other
//! CPUs, which `ROUNDS` of step 8 does:
//!
//! ```
//! # use fentry::kprobe::{Handled, Kprobes};
//! # use fentry::platform::{CpuTimeout, HoldError, rounds::{CpuRounds, Cpus}};
//! # use fentry::{Engine, PtRegs, TextAddr, TextRange};
//! # static ROUNDS: CpuRounds<4> = CpuRounds::new();
//! # struct MyKernel;
//! # impl Cpus for MyKernel {
//! #     fn this_cpu(&self) -> usize { 0 }
//! #     fn interrupt_others(&self) {}
//! # }
//! # fn exception_text() -> TextRange { TextRange::EMPTY }
//! // static PROBES: Kprobes<64> = Kprobes::new(&ENGINE);
//!
//! // In the handler of synchronous exceptions, first of all, with the registers that it has saved:
//! fn handle_brk(probes: &Kprobes<64>, regs: &mut PtRegs, esr: u64) -> Handled {
//!     probes.handle_brk(regs, esr as u16)
//! }
//!
//! // Two more methods of `impl Platform for MyKernel`:
//! # impl MyKernel {
//! fn hold_cpus(&self, act: &mut dyn FnMut()) -> Result<(), HoldError> {
//!     ROUNDS.hold(self, act)
//! }
//! fn for_each_brk_range(&self, show: &mut dyn FnMut(TextRange)) -> bool {
//!     show(exception_text()); // from the vectors to that handler, in a section of their own
//!     true
//! }
//! # }
//! # let mut acted = false;
//! # assert_eq!(MyKernel.hold_cpus(&mut || acted = true), Ok(()));
//! # assert!(acted && MyKernel.for_each_brk_range(&mut |_| ()));
//! ```
//!
//! # Handlers with a function's own types
//! Where one function is looked at, a handler can have its arguments and its result as values, by a trampoline that is made for
//! it; [`trampoline::attach`](crate::trampoline::attach) says which types:
//!
//! ```
//! use fentry::trampoline::attach::{AttachError, AttachPoint, Fexit};
//!
//! type Read = extern "C" fn(u32, *mut u8, usize) -> i64;
//! # extern "C" fn read(_disk: u32, _to: *mut u8, bytes: usize) -> i64 { bytes as i64 }
//!
//! static READ: AttachPoint<Read> = AttachPoint::new(read);
//! static FAILED: Fexit<Read> = Fexit::<Read>::new(failed);
//!
//! extern "C" fn failed(disk: u32, _to: *mut u8, bytes: usize, result: &i64) {
//!     if *result < 0 {
//!         log::warn!("disk {disk}: {bytes} bytes: {result}");
//!     }
//! }
//!
//! # fn start(engine: &'static fentry::Engine) -> Result<(), AttachError> {
//! READ.attach(engine, &FAILED)
//! # }
//! ```
//!
//! # A kernel that is asked
//! [`control`](crate::control) carries out lines of text in the words of Linux's tracefs, for a shell, a serial console, a script:
//! its page has what a kernel gives it. `cargo fentry console --image kernel.elf` boots such a kernel with its console on the
//! terminal, and `ftrace=`, `ftrace_filter=` and kin on its command line have boot traced.
//!
//! # What is never traced
//! Some code had better have no callsite: the start of a CPU before the base register is set, exception entries, what
//! switches tasks. Have the compiler leave the NOPs out:
//!
//! - Rust: `#[patchable_function_entry(prefix_nops = 0, entry_nops = 0)]`, with
//!   `#![feature(patchable_function_entry)]`. What such a function calls is another matter; `#[inline(always)]` helps
//!   there;
//! - a crate: whatever is compiled without the flag, by a `[target]` of its own for instance;
//! - GCC and Clang: `__attribute__((patchable_function_entry(0)))`;
//! - assembly: write no entry. A handler that only assembly can leave and enter, as step 9 has it, needs nothing else.
//!
//! Or say it at init, by names and by symbols of your linker script, so that no filter selects them:
//! ```
//! use fentry::Image;
//! use fentry::engine::LeftOut;
//!
//! static NEVER: [LeftOut; 2] = [LeftOut::names("*my_kernel::exceptions::*"), LeftOut::names("switch_to")];
//! // With symbols: LeftOut::linked(&raw const __early_start, &raw const __early_stop).
//!
//! fn without_them(image: Image) -> Image {
//!     image.leave_out(&NEVER)
//! }
//! ```
//! The report of init counts them ([`left_out`](crate::callsite::InitCounts::left_out)), and what means no function is
//! in the log. Names need the table of step 7.
//!
//! The engine's own functions, and `memcpy` and its like of `compiler_builtins`, are gathered by the linker fragment
//! and never traced.
//!
//! # Calling conventions
//! From init on each callsite writes x9, and while it is enabled x10 to x17, q16 to q31 and the flags: what the AAPCS64
//! leaves to a function that is called. Some functions are called in another way, and their callers would find other
//! values in these registers, from init on and with nothing traced:
//!
//! | convention | live across the call, or at the entry | what becomes of it |
//! |---|---|---|
//! | `aarch64_vector_pcs`, SVE arguments | q8 to q23, or z and p | ELF marks the symbol (STO_AARCH64_VARIANT_PCS): refused, with the [reason](crate::callsite::Refusal::CallingConvention) |
//! | Clang's `preserve_most` and `preserve_all` | x9 to x15; q8 to q31 too | nothing marks it; `cargo fentry verify` names the callers: [leave it out](#what-is-never-traced) |
//! | rustc's `extern "rust-cold"` | the same as `preserve_most` | the same |
//! | nested functions of GCC | x18 at the entry | see below |
//!
//! Marks are seen where there are symbols: in the kernel by the table of step 7, in modules by their own. Without a
//! table, and for what is not marked, have the compiler leave the NOPs out.
//!
//! *x18* is left alone by the stubs: where it is reserved, for the platform or for a shadow call stack, it is not
//! theirs to put back, since a callback may return on another CPU than it was called on. But `aarch64-unknown-none`
//! does not reserve it, and a callback that was compiled so may change it. If your kernel reserves x18, or has nested
//! functions of GCC's that are traced, compile all of its Rust, `core` included, with `-Zfixed-x18`. `cargo fentry
//! doctor` says whether there are functions that take a value in x18, and others that change it; `cargo fentry verify` proves
//! it by following every function.
//!
//! # Text that changes
//! Where something else writes text as well, a debugger its breakpoints for example, a callsite whose text is not as
//! the engine left it is quarantined: it is left alone, told of in the log and by
//! [`Engine::for_each_callsite`](crate::Engine::for_each_callsite), and no obstacle to all the others. If it called an
//! ops, that can't be unregistered until [`Engine::look_again`](crate::Engine::look_again) sees the call back or gone.
//!
//! A kernel that frees its init text, or any other, gives it back first, without probes:
//! [`Engine::forget`](crate::Engine::forget).
//!
//! # Kernels in C
//! The engine is Rust; a kernel of C links it as a static library, which one command makes for the kernel's target, with its
//! header and the linker fragment:
//!
//! ```text
//! cargo fentry staticlib --target aarch64-unknown-none-softfloat --out lib
//! aarch64-linux-gnu-gcc -c -ffreestanding -mgeneral-regs-only -mno-outline-atomics -fpatchable-function-entry=2 -Ilib main.c
//! aarch64-linux-gnu-ld --defsym=__fentry_symbols_room=64K -T lib/fentry.ld -T kernel.ld *.o lib/libfentry.a -o kernel.elf
//! cargo fentry symbols --in-place kernel.elf
//! ```
//!
//! (`--bti` for a kernel that is compiled so.) The library needs no allocator. The contract of each function stands in the
//! header, `fentry.h`; `examples/minimal-c` is the smallest such kernel, in which 38 lines are there for fentry:
//!
//! ```c
//! static const struct fentry_platform platform = {
//!     FENTRY_PLATFORM_INIT,
//!     .context_base = { FENTRY_BASE_REGISTER_TPIDR_EL1, 0 },
//!     .map_alias = map_alias,
//!     .synchronize_cpus = fentry_one_cpu_synchronize,
//!     .quiesce = fentry_one_cpu_quiesce,
//!     .console = console,
//!     .panic = panic,
//! };
//! static struct fentry_ops watch = { FENTRY_OPS_INIT, .callback = watched };
//! const struct fentry_rule rules[] = { FENTRY_RULE("disk_*"), FENTRY_RULE("!disk_poll") };
//! enum fentry_error error = fentry_register(&watch, rules, 2, NULL);
//! ```
//!
//! - *Errors* are numbers with names (`fentry_error_name`); the whole of one, with the rule or the address, goes to the
//!   platform's console.
//! - *Floating point.* The library's target must be what the kernel is: `aarch64-unknown-none-softfloat` for
//!   `-mgeneral-regs-only`. A softfloat library in a kernel that uses q0 to q7 would not save them: init refuses it.
//! - *`--gc-sections`.* [Not with GCC before 13](#the-linker).
//! - *Never traced* are functions marked `FENTRY_NOTRACE`: the kernel's own `memcpy` and `memset`, which the engine may call as
//!   well, and [what else is never traced](#what-is-never-traced). Nothing of the library is ever traced.
//! - *Clones.* GCC makes `f.constprop.0` and `f.isra.0` of a function `f`: a rule for `f` leaves them out, `f*` takes them.
//! - *Interrupts and tasks* are as in steps 8 to 10; names are those of C.
//! - *Not for C yet*: the module loader, direct trampolines, counts for each function, the flight recorder, `CpuRounds`.
//!
//! # Where modules may be
//! Calls reach everywhere: where B and BL don't, the loader puts a veneer between. Addresses reach as far as the
//! compiler was told, and what is farther is refused with the relocation, the symbol and the distance
//! ([`Overflow`](crate::module::RelocCause::Overflow)), never cut short:
//!
//! | compiled with | the kernel's data and functions' addresses | the module may be |
//! |---|---|---|
//! | the small code model, `-fno-pic` (the usual for kernels) | by ADRP | within 4 GiB of what it refers to |
//! | `-fPIC`, rustc's `-Crelocation-model=pic` | from a GOT, which the loader makes | anywhere |
//! | GCC's `-fpic` | the same, the GOT being 32 KiB at most: some 3,500 addresses | anywhere |
//! | `-mcmodel=tiny -fno-pic` | by ADR and literal loads | within 1 MiB of what it refers to |
//! | `-mcmodel=tiny` with `-fpic` | from a GOT | anywhere |
//! | `-mcmodel=large` (without `-fpic` in GCC) | as whole numbers | anywhere |
//!
//! A module's own segments must be near each other in all but the large model: within 4 GiB, for ADRP and for the
//! 32-bit distances of jump tables (R_AARCH64_PREL32), and within 1 MiB in the tiny model. The loader asks for each
//! segment near the first one; a [`ModuleMemory`](crate::module::ModuleMemory) that can't give it such a place had
//! better refuse. Some distributions' GCC compiles for position-independent programs unless it is told `-fno-pie`.
//!
//! # What it costs
//! *Time* is in the README: nothing measurable for what isn't traced (two NOPs), 30 instructions and the callback's own
//! for what is.
//!
//! | memory | bytes |
//! |---|---|
//! | a function's NOPs in text | 8; 16 with `=4,2` |
//! | its record, from link time on | 8 |
//! | its symbol | 16, and its name (some 100 in a kernel of much generic code) |
//! | the engine's text | 150 KiB, optimised |
//! | room for stubs | 64 KiB |
//! | the engine's tables | what [you say](crate::engine::EngineMemory): 6 KiB for 8 ops; by `Engine::new` 69 KiB, with `module` 115 |
//! | a context; a shadow stack | 96; 64 for each call, and 80 |
//! | a CPU's ring | what you give it, in blocks of 4 KiB |
//!
//! *Build time*: `-Zbuild-std` compiles `core` and `alloc` once for each target and set of flags (a minute); the flags
//! themselves cost nothing. A second link, or the filling in of names, is a second or two, if it is done as step 7 has
//! it.
//!
//! # The linker
//! lld from version 14 on, and GNU ld, link the fragment.
//!
//! - *The order.* Fragment first. Otherwise lld shows the fragment's assertion, and GNU ld says that `.text` was not
//!   found for an insert. With lld, and only there, `INCLUDE fentry.ld` in the first line of your own script does as
//!   well.
//! - *GNU ld and `etext`.* It puts what is inserted behind `.text` after the assignments that follow there, so that
//!   `etext = .;` ends before the engine's text. `. = .;` before it helps; the same for `.rodata` and `.data`. doctor
//!   says where that is so.
//! - *Position-independent kernels by GNU ld*, whose script has symbols around the relocations: those of the callsites
//!   are in `.rela__patchable_function_entries`, which `*(.rela .rela.*)` does not take and `*(.rela .rela*)` does.
//! - *`PHDRS`.* The fragment's sections go into the segments of those that they are behind.
//! - *`--gc-sections`* keeps the callsites of what it keeps. Not so with C by GCC before 13 and `-ffunction-sections`:
//!   lld loses entries, whatever a script says, and GNU ld keeps all of that C. doctor names functions that have lost
//!   theirs.
//! - *LTO.* With fat LTO there are no crates to tell apart: the engine's functions are known by their mangled names
//!   alone, which is why they must be v0's.
//! - *A layout of your own.* The fragment's comments say what must hold, and [`Image::new`](crate::Image::new) takes
//!   the parts of an image that is laid out in another way.
