//! The cases of a boot test: their lines on the console, and the exit status.
//!
//! ```text
//! running 2 tests
//! test callee_sees_its_arguments ... ok
//! test failed_batch_changes_nothing ... FAILED
//!     the reason
//!
//! test result: FAILED. 1 passed; 1 failed
//! ```
//!
//! A case that returns an error lets the next one run. A panic or a fault ends the run there: this kernel cannot unwind.
//! Words on QEMU's command line (`-append`) select the cases whose names contain one of them; those of the form
//! `name=number` are no such words but [`setting`]s.

use crate::backtrace;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::fmt;
use core::panic::PanicInfo;
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use qemu_exit::QEMUExit;
use semihosting::experimental::env;

/// One case.
#[derive(Debug)]
pub struct Case {
    /// The name of its function.
    pub name: &'static str,
    /// The function; an error is the reason why it failed.
    pub run: fn() -> Result<(), String>,
}

/// What the function of a case may return.
pub trait Outcome {
    /// `Err` with the reason where the case failed.
    fn into_result(self) -> Result<(), String>;
}

impl Outcome for () {
    fn into_result(self) -> Result<(), String> {
        Ok(())
    }
}

impl<E: fmt::Display> Outcome for Result<(), E> {
    fn into_result(self) -> Result<(), String> {
        self.map_err(|error| error.to_string())
    }
}

/// Makes this file a kernel that runs the named functions as its cases.
#[macro_export]
macro_rules! boot_tests {
    ($($case:ident),+ $(,)?) => {
        #[unsafe(no_mangle)]
        fn __support_main() {
            $crate::harness::run(&[$($crate::harness::Case {
                name: stringify!($case),
                run: || $crate::harness::Outcome::into_result($case()),
            }),+])
        }
    };
}

/// The name of the running case; null and 0 between cases.
static RUNNING: AtomicUsize = AtomicUsize::new(0);
static RUNNING_LENGTH: AtomicUsize = AtomicUsize::new(0);
static IN_CASES: AtomicBool = AtomicBool::new(false);
static PASSED: AtomicUsize = AtomicUsize::new(0);
static FAILED: AtomicUsize = AtomicUsize::new(0);

/// Runs the cases that the command line selects, and leaves.
pub fn run(cases: &[Case]) -> ! {
    let words = words();
    let selected =
        || cases.iter().filter(|case| words.is_empty() || words.iter().any(|word| case.name.contains(word.as_str())));
    IN_CASES.store(true, Ordering::Relaxed);
    println!("running {} tests", selected().count());
    for case in selected() {
        RUNNING_LENGTH.store(case.name.len(), Ordering::Relaxed);
        RUNNING.store(case.name.as_ptr().expose_provenance(), Ordering::Relaxed);
        print!("test {} ... ", case.name);
        crate::console::take_dirty();
        match (case.run)() {
            Ok(()) => {
                finish_line(case.name, "ok");
                PASSED.fetch_add(1, Ordering::Relaxed);
            }
            Err(reason) => {
                finish_line(case.name, "FAILED");
                println!("    {reason}");
                FAILED.fetch_add(1, Ordering::Relaxed);
            }
        }
        RUNNING.store(0, Ordering::Relaxed);
    }
    finish()
}

/// The number that QEMU's command line gives this name, as `name=1234` or `name=0x12ab`.
///
/// # Panics
///
/// It gives something else than a number.
pub fn setting(name: &str) -> Option<u64> {
    let words = arguments();
    let text = words.iter().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))?;
    let number = match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16),
        None => text.parse(),
    };
    Some(number.unwrap_or_else(|error| panic!("{name}={text}: {error}")))
}

/// The words that select cases.
fn words() -> Vec<String> {
    arguments().into_iter().filter(|word| !word.contains('=')).collect()
}

/// The words of QEMU's `-append`.
fn arguments() -> Vec<String> {
    let Ok(arguments) = env::args::<1024>() else { return Vec::new() };
    // The first is the kernel's own path.
    arguments.skip(1).filter_map(|word| word.ok().map(ToString::to_string)).collect()
}

/// Ends a case's line; a case that printed something itself gets a line of its own at the end.
fn finish_line(name: &str, result: &str) {
    if crate::console::take_dirty() {
        println!("test {name} ... {result}");
    } else {
        println!("{result}");
    }
}

fn finish() -> ! {
    let (passed, failed) = (PASSED.load(Ordering::Relaxed), FAILED.load(Ordering::Relaxed));
    let result = if failed == 0 { "ok" } else { "FAILED" };
    println!("\ntest result: {result}. {passed} passed; {failed} failed");
    exit(u32::from(failed != 0))
}

/// Ends the run because of something that it cannot go on after.
pub(crate) fn fail(reason: fmt::Arguments<'_>) -> ! {
    let name = core::ptr::with_exposed_provenance::<u8>(RUNNING.load(Ordering::Relaxed));
    if !name.is_null() {
        // SAFETY: `run` stored a name that lives as long as its case, which is running.
        let name = unsafe { core::slice::from_raw_parts(name, RUNNING_LENGTH.load(Ordering::Relaxed)) };
        println!("test {} ... FAILED\n    {reason}", core::str::from_utf8(name).unwrap_or("?"));
        FAILED.fetch_add(1, Ordering::Relaxed);
    }
    if IN_CASES.load(Ordering::Relaxed) {
        finish()
    }
    exit(1)
}

/// Leaves QEMU.
pub fn exit(code: u32) -> ! {
    qemu_exit::AArch64::new().exit(code)
}

#[panic_handler]
fn panic(info: &PanicInfo<'_>) -> ! {
    // SAFETY: a panic ends the machine.
    unsafe { crate::console::take_over() };
    println!("\n*** {info}");
    backtrace::print_callers();
    fail(format_args!("{}", info.message()))
}
