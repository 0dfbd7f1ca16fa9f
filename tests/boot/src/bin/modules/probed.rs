//! Probes at the instructions of modules.

use crate::{Total, is_in_c, summing_modules};
use alloc::format;
use alloc::string::String;
use core::hint::black_box;
use fentry::TextAddr;
use fentry::kprobe::{Kprobe, KprobeError, KprobeRegs, ServedBy};
use fentry::module::Segment;
use loading::{PLACES, kernel_total, load, modules, unload};
use support::engine::KPROBES;
use support::{engine, println};

extern "C" fn count(_: TextAddr, _: TextAddr, _: &'static Kprobe, regs: KprobeRegs<'_>) {
    black_box(regs.sp());
}

fn register(probe: &'static Kprobe, at: TextAddr) -> Result<ServedBy, KprobeError> {
    // SAFETY: 1. The module in C has its constants in sections of their own. 2. It is called on this kernel's stack.
    unsafe { KPROBES.register(probe, at) }
}

/// Each instruction does what it did, wherever the module is; and a module with a probe stays.
pub(crate) fn each_instruction_of_a_module_in_c_can_have_a_probe() -> Result<(), String> {
    static PROBES: [Kprobe; 2] = [Kprobe::new(count).with_hits(), Kprobe::new(count).with_after(count).with_hits()];
    engine();
    let (mut probed, mut jumps, mut entries, mut hits) = (0, 0, 0, 0);
    for (number, (distance, place)) in PLACES.into_iter().enumerate() {
        for name in summing_modules().filter(|name| is_in_c(name)) {
            let mut list = modules();
            let id = load(&mut list, name, place).map_err(|error| format!("{error}"))?;
            let module = list.get(id).expect("loaded");
            let total = module.export("relay_total").expect("it has this function");
            // SAFETY: the module's function has this type.
            let total: Total =
                unsafe { core::mem::transmute(core::ptr::with_exposed_provenance::<()>(total as usize)) };
            let text = module.range(Segment::Text);
            // What differs between the places is how execution comes back, for each instruction the same way.
            let every = if number == 0 { 1 } else { 9 };
            for (n, at) in (text.start.get()..text.end.get()).step_by(4 * every).enumerate() {
                let probe = &PROBES[n % 2];
                match register(probe, TextAddr::new(at)) {
                    Ok(ServedBy::Breakpoint) => probed += 1,
                    Ok(ServedBy::Jump) => jumps += 1,
                    Ok(ServedBy::Callsite) => entries += 1,
                    Err(_) => continue,
                }
                let before = probe.hits();
                let found = black_box(total)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10);
                if found != kernel_total(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) + 1 {
                    return Err(format!("{name}, {distance}: {found} with a probe at {at:#x}"));
                }
                hits += probe.hits() - before;
                KPROBES.unregister(probe).map_err(|error| format!("{error}"))?;
            }
            let entry = TextAddr::new(total as usize as u64);
            let inside = (8..16).map(|n| entry.offset(n * 4)).find(|at| register(&PROBES[0], *at).is_ok());
            let inside = inside.ok_or("no instruction of the function can have a probe")?;
            // SAFETY: (1) to (3) Nothing of it is called any more, and where it is refused it stays.
            let refused = unsafe { list.unload(id) }.expect_err("it has a probe");
            assert_eq!(format!("{refused}").matches("1 of its instructions are probed").count(), 1, "{refused}");
            assert_eq!(
                black_box(total)(1, 2, 3, 4, 5, 6, 7, 8, 9, 10),
                kernel_total(1, 2, 3, 4, 5, 6, 7, 8, 9, 10) + 1
            );
            assert_eq!(KPROBES.probes_at(inside).count(), 1);
            KPROBES.unregister(&PROBES[0]).map_err(|error| format!("{error}"))?;
            unload(&mut list, id);
        }
    }
    println!("{jumps} by jumps, {probed} by breakpoints, {entries} at callsites, {hits} hits");
    if probed == 0 {
        println!("LEFT OUT: no module in C was built");
    } else {
        assert!(entries > 0 && jumps > 0 && hits > probed / 4);
    }
    Ok(())
}
