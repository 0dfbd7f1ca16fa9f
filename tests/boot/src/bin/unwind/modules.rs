//! Modules that the workload calls: far away, so that they and the kernel call each other by veneers.

use alloc::boxed::Box;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::hint::black_box;
use fentry::context::unwind::UnwindTable;
use fentry::{Rule, TextAddr, TextRange};
use loading::{PLACES, kernel_sum, kernel_total, load, modules, names};
use spin::Once;
use support::println;

type Total = extern "C" fn(u64, u64, u64, u64, u64, u64, u64, u64, u64, u64) -> u64;
#[rustfmt::skip]
type Sum = extern "C" fn(
    u64, u64, u64, u64, u64, u64, u64, u64, u64, u64, f64, f64, f64, f64, f64, f64, f64, f64, f64, f64,
) -> f64;
type Next = extern "C" fn(usize) -> u64;

/// What is known of the modules, which stay loaded.
pub(crate) struct Loaded {
    /// Of each module one.
    pub(crate) tables: Vec<UnwindTable<'static>>,
    pub(crate) veneers: Vec<TextRange>,
    /// What they export.
    functions: Vec<u64>,
    calls: Calls,
}

struct Calls {
    /// Calls another module, which calls the kernel.
    sum: Sum,
    /// Calls by pointers within the module.
    next: Next,
    /// In C; none where nothing compiles it.
    total: Option<Total>,
}

static LOADED: Once<Loaded> = Once::new();

/// Loads a module in Rust that calls another one, more than 4 GiB away from it, and one in C.
pub(crate) fn prepare() -> Result<(), String> {
    let [_, (_, far), (_, very_far)] = PLACES;
    // By another compiler than the rest of this kernel, where there is one.
    let in_c =
        names().find(|name| name.starts_with("relay-gcc")).or_else(|| names().find(|name| name.starts_with("relay")));
    if in_c.is_none() {
        println!("LEFT OUT: no module in C was built");
    }
    let mut list = modules();
    let wanted = [Some(("greeter", very_far)), Some(("counter", far)), in_c.map(|name| (name, very_far))];
    for (name, place) in wanted.into_iter().flatten() {
        load(&mut list, name, place).map_err(|refused| refused.to_string())?;
    }
    let list = Box::leak(Box::new(list));
    let export = |name| list.iter().find_map(|module| module.export(name)).map(pointer);
    let (sum, next) =
        export("counter_sum").zip(export("counter_next")).ok_or("the modules do not export what they do")?;
    // SAFETY: the module's function has this type.
    let sum = unsafe { core::mem::transmute::<*const (), Sum>(sum) };
    // SAFETY: as above.
    let next = unsafe { core::mem::transmute::<*const (), Next>(next) };
    // SAFETY: as above.
    let total = export("relay_total").map(|total| unsafe { core::mem::transmute::<*const (), Total>(total) });
    let loaded = Loaded {
        tables: list.iter().filter_map(|module| module.unwind_table()).collect(),
        veneers: list.iter().map(|module| module.veneers()).collect(),
        functions: list.iter().flat_map(|module| module.exports().map(|(_, at)| at)).collect(),
        calls: Calls { sum, next, total },
    };
    if loaded.tables.len() != list.iter().count() {
        return Err("a module was built without its unwind table".into());
    }
    LOADED.call_once(|| loaded);
    Ok(())
}

fn pointer(address: u64) -> *const () {
    core::ptr::with_exposed_provenance(address as usize)
}

pub(crate) fn loaded() -> &'static Loaded {
    LOADED.get().expect("they were loaded")
}

/// What of them is traced, and of the kernel, what they call.
pub(crate) fn rules() -> impl Iterator<Item = Rule<'static>> {
    let called = [(kernel_sum as *const ()).addr() as u64, (kernel_total as *const ()).addr() as u64];
    loaded().functions.iter().copied().chain(called).map(|at| Rule::address(TextAddr::new(at)))
}

/// Calls each.
#[inline(never)]
pub(crate) fn run() -> u64 {
    let Calls { sum, next, total } = &loaded().calls;
    let sum = black_box(sum)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5);
    let total = total.map_or(0, |total| black_box(total)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10));
    black_box(next)(0) + total + sum as u64
}
