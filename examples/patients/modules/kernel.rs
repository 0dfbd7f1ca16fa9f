//! What these modules know of their kernel, and what they list for it. A part of each module.

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

unsafe extern "C" {
    /// Memory from the kernel's heap; null where there is none.
    fn kernel_allocate(bytes: usize, alignment: usize) -> *mut u8;
    /// Gives memory back, with the size and the alignment that it was asked for with.
    fn kernel_free(memory: *mut u8, bytes: usize, alignment: usize);
    /// Stops the machine: a module panicked.
    safe fn kernel_panic() -> !;
}

/// The kernel's heap, as the module's own.
struct KernelHeap;

// SAFETY: the kernel's functions are its global allocator's.
unsafe impl GlobalAlloc for KernelHeap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: our caller promises that the size is not zero.
        unsafe { kernel_allocate(layout.size(), layout.align()) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: our caller promises that it came from here, with this layout.
        unsafe { kernel_free(memory, layout.size(), layout.align()) }
    }
}

#[global_allocator]
static HEAP: KernelHeap = KernelHeap;

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

/// Offers a function or a static to the kernel.
macro_rules! export {
    (static $variable:ident) => {
        $crate::kernel::export!(@ $variable, (&raw const $variable).cast());
    };
    ($function:ident) => {
        $crate::kernel::export!(@ $function, $function as *const ());
    };
    (@ $name:ident, $address:expr) => {
        const _: () = {
            #[used]
            #[unsafe(link_section = ".fentry.exports")]
            static EXPORT: $crate::kernel::Export = $crate::kernel::Export::new(stringify!($name), $address);
        };
    };
}
pub(crate) use export;

/// A record of what may be made to fail, as `fentry::inject::Injectable` reads it: the crate itself is not in a module.
#[repr(C)]
pub(crate) struct Injectable {
    function: *const (),
    instead: *const (),
    name: *const u8,
    name_bytes: usize,
}

// SAFETY: never written.
unsafe impl Sync for Injectable {}

impl Injectable {
    pub(crate) const fn new(name: &'static str, function: *const (), instead: *const ()) -> Self {
        Self { function, instead, name: name.as_ptr(), name_bytes: name.len() }
    }
}

/// Lists a function that may be made to fail, with what it returns then, as `fentry::injectable!` does for a kernel.
macro_rules! injectable {
    (unsafe fn $function:ident($($argument:ident: $type:ty),*) -> $result:ty $body:block) => {
        const _: () = {
            #[expect(unused_variables, reason = "what is returned need not depend on all of the arguments")]
            #[inline(never)]
            fn instead($($argument: $type),*) -> $result $body

            #[used]
            #[unsafe(link_section = ".fentry.injectable")]
            static SITE: $crate::kernel::Injectable = {
                const FUNCTIONS: [fn($($type),*) -> $result; 2] = [$function, instead];
                let [function, instead] = [FUNCTIONS[0] as *const (), FUNCTIONS[1] as *const ()];
                $crate::kernel::Injectable::new(concat!(module_path!(), "::", stringify!($function)), function, instead)
            };
        };
    };
}
pub(crate) use injectable;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    kernel_panic()
}
