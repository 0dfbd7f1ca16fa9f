//! Adding fentry to your kernel.
//!
//! Six steps, each small; `examples/minimal` in the repository is a whole kernel that has taken them, in one file.
//!
//! # 1. The dependency
//! ```toml
//! [dependencies]
//! fentry = { path = "../fentry" } # a copy of the repository: version 0.1 is not on crates.io yet
//! ```
//! The crate is `no_std` and uses neither a heap nor threads.
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
//! if they are compiled with it too: `cargo build -Zbuild-std=core,alloc`. C code is compiled with
//! `-fpatchable-function-entry=2 -fno-omit-frame-pointer`.
//!
//! With `=4,2` each function has room for one 64-bit literal before it; add `-Zmin-function-alignment=8` then, since the
//! literal must be aligned. (C: `-fmin-function-alignment=8` from GCC 14 on; `-falign-functions=8` with Clang or an older
//! GCC, which ignores it at `-Os` and for cold functions.) Parts of a kernel may be compiled in the one way and parts in
//! the other. Functions of other sizes are refused, each by its entry. What an entry means follows from where the
//! function's symbol stands; a kernel without symbols (step 5) must have one layout, and says which by
//! [`Image::with_layout`](crate::Image::with_layout).
//!
//! `-Zbranch-protection=bti,pac-ret` needs nothing more. With `-Zsanitizer=kcfi` add `-Zmerge-functions=disabled`: LLVM
//! merges functions of one body whatever their types, and an indirect call then finds the other type's hash.
//!
//! # 3. The linker script
//! The section must be kept, and the engine's own functions gathered, so that they are never traced. Give the linker
//! `examples/fentry.ld` before your own script; that script stays as it is:
//! ```
//! // In build.rs:
//! println!("cargo::rustc-link-arg-bins=-Tfentry.ld");
//! println!("cargo::rustc-link-arg-bins=-Tmy-kernel.ld");
//! ```
//! Its comments say what must be mapped how. `cargo fentry doctor kernel.elf` looks into the result and says what is missing
//! (the program is `cargo install cargo-fentry`).
//!
//! A position-independent kernel's section is empty of addresses in the file: they are RELATIVE relocations, which the
//! kernel applies to itself at start. Init comes after that; before, it returns
//! [`TableError::NotRelocated`](crate::callsite::TableError::NotRelocated), or, where the linker left the addresses in place
//! as well (GNU ld, RELR, `--apply-dynamic-relocs`), [`TableError::OutsideText`](crate::callsite::TableError::OutsideText). A
//! failed init can be tried again.
//!
//! # 4. The platform
//! What the engine asks of a kernel is the trait [`Platform`](crate::Platform): where text can be written (never through
//! the mapping that it is executed through), how to make the other CPUs synchronise, and how to wait until nobody is inside
//! a callback. For one CPU, with all of RAM
//! mapped writable a second time `ALIAS` bytes above the text:
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
//!         Ok(()) // With several CPUs: `CpuRounds::synchronize`.
//!     }
//!
//!     fn quiesce(&self, _stubs: &[TextRange]) -> Result<(), CpuTimeout> {
//!         Ok(()) // With several CPUs: `CpuRounds::quiesce`. With preemption: see its description.
//!     }
//! }
//! ```
//! Each thread of execution has a [`TraceContext`](crate::TraceContext), which the stubs find through a system register.
//! Where that register holds zero, nothing is traced: so it is safe to have everything traced while a CPU starts.
//! A kernel with interrupts tells the context when a handler begins and ends
//! ([`enter`](crate::TraceContext::enter), [`leave`](crate::TraceContext::leave)), so that what handlers call while they
//! interrupt a callback is traced too. A context whose task was killed is made as new by
//! [`reset`](crate::TraceContext::reset) before another task gets it.
//!
//! A kernel that runs on hardware only, virtual machines included, says so: with
//! [`may_be_emulated`](crate::Platform::may_be_emulated) left as it is, each word is stored a second time, for the sake of
//! emulators such as QEMU's TCG.
//!
//! With several CPUs, [`CpuRounds`](crate::platform::rounds::CpuRounds) is `synchronize_cpus`, `quiesce` and `relax` ready made:
//! the kernel gives its CPU's number and a way to interrupt the others, and calls two functions in that interrupt's handler.
//! Its example is whole.
//!
//! Where tasks are preempted inside the kernel, [`quiesce`](crate::Platform::quiesce) says what else is asked.
//!
//! ## Preemption without a list of tasks
//! A kernel that can't look at each preempted task need not, if no task is preempted inside a callback or a stub. Then only
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
//! [`is_quiescent`](crate::Engine::is_quiescent) takes no lock, and the engine's own functions are never traced. *Nor may be
//! yours from here to the switch*: a function among them whose return is hooked would return in another task's context, and
//! end in [`lost_return`](crate::Platform::lost_return); and where the interrupt hit a callback, the check itself would be
//! counted as a miss at every interrupt. Give `end_of_interrupt`, what it calls, and `switch_task` the attribute
//! `#[patchable_function_entry(prefix_nops = 0, entry_nops = 0)]`; a filter that leaves them out helps until the next one.
//! The handler of a nested interrupt doesn't switch. Where returns are hooked, each task has a context and a shadow stack of
//! its own, and the switch changes the base register.
//!
//! # 5. Init
//! Once, on the boot CPU, before others run and with interrupts masked:
//! ```
//! use fentry::{Engine, Image};
//!
//! /// `engine` is your `static ENGINE: Engine = Engine::new(&MY_KERNEL)`; TPIDR_EL1 was set to the address of a
//! /// `static CONTEXT: TraceContext`; `image` comes from `Image::linked().with_layout(Layout::Plain)` if the flags of step 2
//! /// say `=2`. (For `=4,2` it is `Prefixed`; with symbols in the kernel nothing needs to be said.)
//! fn start_tracing(engine: &Engine, image: Image) -> Result<(), fentry::engine::InitError> {
//!     // SAFETY: one CPU, interrupts masked.
//!     let report = unsafe { engine.init(image) }?;
//!     log::info!("{} callsites, {} refused", report.counts.accepted, report.counts.refused);
//!     engine.for_each_refusal(|(at, why)| log::warn!("{at}: {why}"));
//!     Ok(())
//! }
//! ```
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
//! What a callback may do is said at [`Callback`](crate::ops::Callback).
//!
//! # More than callbacks
//! - *Returns.* [`Ops::returning`](crate::Ops::returning) has handlers called at a function's entry and exit. Each thread's
//!   context needs a [`ShadowStack`](crate::context::shadow::ShadowStack), given to it once with
//!   [`set_shadow_stack`](crate::TraceContext::set_shadow_stack), and should be told where the thread's stack is
//!   ([`set_stack_bounds`](crate::TraceContext::set_stack_bounds)): so calls that never return are noticed early. What
//!   [can't be hooked](crate::ops::Probe#what-cant-be-hooked) ends, if it is, in
//!   [`lost_return`](crate::Platform::lost_return), which can name the function where the platform has
//!   [`for_each_context`](crate::Platform::for_each_context).
//! - *Counters and the flight recorder.* [`Ops::counter`](crate::Ops::counter) works everywhere. With a
//!   [`CpuArea`](crate::record::CpuArea) in each CPU's data, and [`cpu_base`](crate::Platform::cpu_base) to find it, each
//!   CPU counts for itself, and [`Ops::recorder`](crate::Ops::recorder) keeps the last calls.
//! - *Tracers.* [`tracer`](crate::tracer) has them ready made; [`tracer::session`](crate::tracer::session) turns on what a
//!   command line asks for, as `cargo fentry trace` does.
//!   Names come from the kernel's image: a kernel that runs elsewhere than it was linked says how far
//!   ([`slide`](crate::Platform::slide)), and the functions of modules that are loaded when the dump is written are in it.
//! - *Direct calls.* [`direct`](crate::ops::direct).
//!
//! # Text that changes
//! Where something else writes text as well, a debugger its breakpoints for example, a callsite whose text is not as the
//! engine left it is quarantined: it is left alone, told of in the log and by
//! [`Engine::for_each_callsite`](crate::Engine::for_each_callsite), and no obstacle to all the others. If it called an ops,
//! that can't be unregistered until [`Engine::look_again`](crate::Engine::look_again) sees the call back or gone.
//!
//! A kernel that frees its init text, or any other, gives it back first:
//! [`Engine::forget`](crate::Engine::forget).
//!
//! # Calling conventions
//! From init on each callsite writes x9, and while it is enabled x10 to x17, q16 to q31 and the flags: what the AAPCS64
//! leaves to a function that is called. Some functions are called in another way, and their callers would find other values
//! in these registers, from init on and with nothing traced:
//!
//! | convention | live across the call, or at the entry | what becomes of it |
//! |---|---|---|
//! | `aarch64_vector_pcs`, SVE arguments | q8 to q23, or z and p | ELF marks the symbol (STO_AARCH64_VARIANT_PCS): refused, with the [reason](crate::callsite::Refusal::CallingConvention) |
//! | Clang's `preserve_most` and `preserve_all` | x9 to x15; q8 to q31 too | nothing marks it: leave it out |
//! | rustc's `extern "rust-cold"` | the same as `preserve_most` | nothing marks it: leave it out |
//! | nested functions of GCC | x18 at the entry | see below |
//!
//! Marks are seen where there are symbols: in the kernel by the table that the last section is about, in modules by their
//! own. Without a table, and for what is not marked, have the compiler leave the NOPs out:
//!
//! - Rust: `#[patchable_function_entry(prefix_nops = 0, entry_nops = 0)]`, with `#![feature(patchable_function_entry)]`;
//! - GCC and Clang: `__attribute__((patchable_function_entry(0)))`;
//! - assembly: write no entry.
//!
//! *x18* is left alone by the stubs: where it is reserved, for the platform or for a shadow call stack, it is not theirs to
//! put back, since a callback may return on another CPU than it was called on. But `aarch64-unknown-none` does not reserve
//! it, and a callback that was compiled so may change it. If your kernel reserves x18, or has nested functions of GCC's that
//! are traced, compile all of its Rust, `core` included, with `-Zfixed-x18`. `cargo fentry doctor` says whether there are
//! functions that take a value in x18, and others that change it.
//!
//! # Where modules may be
//! Calls reach everywhere: where B and BL don't, the loader puts a veneer between. Addresses reach as far as the compiler was
//! told, and what is farther is refused with the relocation, the symbol and the distance
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
//! A module's own segments must be near each other in all but the large model: within 4 GiB, for ADRP and for the 32-bit
//! distances of jump tables (R_AARCH64_PREL32), and within 1 MiB in the tiny model. The loader asks for each segment near the
//! first one; a [`ModuleMemory`](crate::module::ModuleMemory) that can't give it such a place had better refuse. Some
//! distributions' GCC compiles for position-independent programs unless it is told `-fno-pie`.
//!
//! # Names
//! With `=4,2` each function has room for one 64-bit literal before it; add `-Zmin-function-alignment=8` then, since the
//! literal must be aligned. (C: `-fmin-function-alignment=8` from GCC 14 on; `-falign-functions=8` with Clang or an older
//! GCC, which ignores it at `-Os` and for cold functions.) Parts of a kernel may be compiled in the one way and parts in
//! the other. Functions of other sizes are refused, each by its entry. What an entry means follows from where the
//! function's symbol stands; a kernel without symbols (step 5) must have one layout, and says which by
