//! What fentry asks of a kernel, answered by this one.

use crate::{memory, percpu, smp};
use core::mem::offset_of;
use core::ptr::NonNull;
use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout};
use fentry::{Platform, TextAddr};

/// This kernel, as the engine sees it.
#[derive(Debug)]
pub struct TestPlatform;

/// The one there is.
pub static PLATFORM: TestPlatform = TestPlatform;

// SAFETY:
// - an alias is the same physical memory as the text page, mapped Normal Write-Back Inner Shareable and writable, until it
//   is given back;
// - `smp::synchronize` waits until every other CPU has executed an ISB since;
// - TPIDR_EL1 is zero from each CPU's first instructions on, and then the address of its block for ever; there are no tasks.
// No method takes a lock that a callback could hold: the page tables' lock is taken nowhere else while a batch can run.
unsafe impl Platform for TestPlatform {
    fn context_base(&self) -> ContextBase {
        ContextBase { register: BaseRegister::TpidrEl1, offset: offset_of!(percpu::PerCpu, trace) as u16 }
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        memory::map_alias(page)
    }

    fn unmap_alias(&self, page: TextAddr, alias: NonNull<u8>) {
        memory::unmap_alias(page, alias);
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        smp::synchronize()
    }

    fn relax(&self) {
        smp::wait();
    }
}
