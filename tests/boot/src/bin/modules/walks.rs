//! A walk through a module's functions, by the module's own unwind table.

use crate::{Total, is_in_c, summing_modules};
use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;
use core::hint::black_box;
use fentry::context::unwind::{Doubt, FoundBy, Frame, Unknown, UnwindTable, Unwinder};
use fentry::module::{Modules, Segment};
use fentry::{Filter, FtraceRegs, Ops, Rule, TextAddr, TextRange};
use loading::{PLACES, kernel_total, load, modules, unload};
use spin::Mutex;
use support::unwind::{KernelStacks, table};
use support::{engine, println};

/// The list of modules.
struct List(Option<Modules<'static>>);

// SAFETY: its pointers are to memory of the kernel's that every CPU can use.
unsafe impl Send for List {}

/// Who walks holds the list, so that none can be unloaded meanwhile.
static LIST: Mutex<List> = Mutex::new(List(None));

/// What a walk has found: the frames, and whether it was complete.
type Walk = (Vec<Frame>, bool);

/// The walks of the last call: with the tables of the modules, and without.
static WALKS: Mutex<Vec<Walk>> = Mutex::new(Vec::new());

fn walk(regs: &FtraceRegs<'_>, tables: &[UnwindTable<'_>], veneers: &[TextRange]) -> Walk {
    // SAFETY: (1) The kernel's text and that of the modules on the list, which is held, is mapped.
    let walk = unsafe { Unwinder::of_call(regs, tables, &KernelStacks) };
    // SAFETY: (1) They are the modules' own.
    let mut walk = unsafe { walk.with_veneers(veneers) };
    let frames = walk.by_ref().collect();
    (frames, walk.is_complete())
}

extern "C" fn look_back(_: TextAddr, _: TextAddr, _: &'static Ops, regs: FtraceRegs<'_>) {
    let list = LIST.lock();
    let loaded = || list.0.iter().flat_map(|modules| modules.iter());
    let kernel = table().expect("this kernel has a table");
    let mut tables = alloc::vec![kernel];
    tables.extend(loaded().filter_map(|module| module.unwind_table()));
    let veneers: Vec<TextRange> = loaded().map(|module| module.veneers()).collect();
    WALKS.lock().extend([walk(&regs, &tables, &veneers), walk(&regs, &[kernel], &veneers)]);
}

pub(crate) fn a_walk_through_a_module_is_true() -> Result<(), String> {
    static OPS: Ops = Ops::new(look_back);
    let (engine, _) = engine();
    let kernel = TextAddr::new((kernel_total as *const ()).addr() as u64);
    let error = |error: &dyn core::fmt::Display| error.to_string();
    engine.register(&OPS, &Filter::new(&[Rule::address(kernel)])).map_err(|refused| error(&refused))?;
    let mut walked = 0;
    for (distance, place) in PLACES {
        for name in summing_modules() {
            let mut list = modules();
            let id = load(&mut list, name, place).map_err(|refused| error(&refused))?;
            let module = list.get(id).expect("loaded");
            let text = module.range(Segment::Text);
            let has_table = module.unwind_table().is_some_and(|table| text.contains(table.text().start));
            assert!(has_table, "{name} was built without its unwind table");
            let total = module.export("relay_total");
            LIST.lock().0 = Some(list);
            if let Some(total) = total.filter(|_| is_in_c(name)) {
                // SAFETY: the module's function has this type.
                let total: Total =
                    unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(total as usize)) };
                black_box(black_box(total)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) + 1);
                let walks = core::mem::take(&mut *WALKS.lock());
                check(&walks, kernel, text).map_err(|why| format!("{name}, {distance}: {why}\n{walks:#x?}"))?;
                walked += 1;
            }
            let mut list = LIST.lock().0.take().expect("the list");
            unload(&mut list, id);
        }
    }
    engine.unregister(&OPS).map_err(|refused| error(&refused))?;
    if walked == 0 {
        println!("LEFT OUT: no module in C was built");
    }
    Ok(())
}

/// From the kernel's function to the module's to this kernel's first; by the kernel's table alone, with a doubt at the module.
fn check(walks: &[Walk], kernel: TextAddr, text: TextRange) -> Result<(), &'static str> {
    let [(frames, is_complete), (without, is_also)] = walks else { return Err("it was not called once") };
    let [first, module, .., last] = &frames[..] else { return Err("the walk is short") };
    if kernel > first.place || first.place.get() - kernel.get() > 16 {
        return Err("it does not begin in the kernel's function");
    }
    if !text.contains(module.place) || !frames[2..].iter().all(|frame| !text.contains(frame.place)) {
        return Err("the module's function is not its caller, or more than once");
    }
    if !*is_complete || !last.is_reliable() || frames[1..].iter().any(|frame| frame.found_by == FoundBy::Record) {
        return Err("the walk is not sure of itself");
    }
    let doubts = without.iter().filter_map(|frame| frame.doubt).collect::<Vec<_>>();
    let at_module = Doubt::NoRow { pc: module.place, why: Unknown::NoText };
    if *is_also || !doubts.iter().all(|doubt| *doubt == at_module || matches!(doubt, Doubt::NotACall { .. })) {
        return Err("without the module's table it is sure, or has another doubt");
    }
    Ok(())
}
