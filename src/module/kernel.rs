//! What the loader needs of the kernel around it.

use super::erratum::Erratum843419;
use super::memory::ModuleMemory;
use super::regions::Regions;
use crate::address::TextAddr;
use crate::platform::Platform;
use crate::text::Machine;
use core::fmt;

/// What the loader needs of the kernel around it.
#[derive(Clone, Copy)]
pub struct Kernel<'k> {
    /// Where memory comes from.
    pub memory: &'k dyn ModuleMemory,
    /// How the other CPUs are told of new text.
    pub platform: &'k dyn Platform,
    /// The CPU, for cache maintenance.
    pub machine: &'k dyn Machine,
    /// Who traces the text.
    pub regions: &'k dyn Regions,
    /// Whether a CPU has the erratum.
    pub erratum_843419: Erratum843419,
    /// Calls a function of a module, under the contract of [`call`], which does it on the CPU that this is compiled for.
    pub call: unsafe fn(TextAddr) -> i32,
}

impl fmt::Debug for Kernel<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("erratum_843419", &self.erratum_843419).finish_non_exhaustive()
    }
}

/// Calls the `extern "C" fn() -> i32` at this address; what it returns has no meaning where the function has no result.
///
/// Not through a function pointer: a kernel compiled with kCFI would look for a hash of its own compiler before the
/// function, and a module in C has none.
///
/// # Safety
///
/// 1. There is such a function, mapped executable on this CPU.
/// 2. Calling it now is sound.
#[cfg(target_arch = "aarch64")]
pub unsafe fn call(function: TextAddr) -> i32 {
    let result: u64;
    // SAFETY: there is such a function (1), and calling it is sound (2): our caller's promises. As `extern "C"` it changes no
    // registers but those that `clobber_abi` names.
    unsafe {
        core::arch::asm!("blr {function}", function = in(reg) function.get(), lateout("x0") result, clobber_abi("C"));
    }
    result as i32
}

/// Calls nothing, and returns 0: the CPU that this is compiled for can't run a module.
///
/// # Safety
///
/// None: nothing is called.
#[cfg(not(target_arch = "aarch64"))]
pub unsafe fn call(_function: TextAddr) -> i32 {
    0
}
