//! The engine writes through what a platform returns.
use core::ptr::NonNull;
use fentry::platform::{AliasError, BaseRegister, ContextBase, CpuTimeout};
use fentry::{Platform, TextAddr, TextRange};

struct Kernel;

impl Platform for Kernel {
    fn context_base(&self) -> ContextBase {
        ContextBase { register: BaseRegister::TpidrEl1, offset: 0 }
    }

    fn map_alias(&self, page: TextAddr) -> Result<NonNull<u8>, AliasError> {
        Err(AliasError { page, reason: "none" })
    }

    fn synchronize_cpus(&self) -> Result<(), CpuTimeout> {
        Ok(())
    }

    fn quiesce(&self, _: &[TextRange]) -> Result<(), CpuTimeout> {
        Ok(())
    }
}

fn main() {}
