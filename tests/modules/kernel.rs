//! What a module of the boot test knows of its kernel. A part of each module.

unsafe extern "C" {
    /// Remembers a line of text.
    pub(crate) safe fn kernel_note(text: *const u8, bytes: usize);
    /// Stops the machine: a module panicked.
    pub(crate) safe fn kernel_panic() -> !;
    /// A number of the kernel's, far away from the module's own data.
    pub(crate) safe static KERNEL_NUMBER: u64;
}

/// An export record, as the loader reads it.
#[repr(C)]
pub(crate) struct Export {
    name: *const u8,
    name_bytes: usize,
    address: *const (),
}

// SAFETY: never written.
unsafe impl Sync for Export {}

impl Export {
    pub(crate) const fn new(name: &'static str, address: *const ()) -> Self {
        Self { name: name.as_ptr(), name_bytes: name.len(), address }
    }
}

/// Offers a function to other modules and the kernel.
macro_rules! export {
    ($function:ident) => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".fentry.exports")]
            static EXPORT: $crate::kernel::Export =
                $crate::kernel::Export::new(stringify!($function), $function as *const ());
        };
    };
}
pub(crate) use export;

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    kernel_panic()
}
