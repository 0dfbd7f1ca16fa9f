//! fentry for kernels in C: its functions, which `include/fentry.h` declares, and the panic handler that a library must have.
#![no_std]

// Named, or the linker never sees it.
pub use fentry::capi;

#[panic_handler]
fn panic(info: &core::panic::PanicInfo<'_>) -> ! {
    capi::panicked(info)
}
