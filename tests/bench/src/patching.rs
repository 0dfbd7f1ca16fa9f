//! What changing text costs, and finding the callsites to change.

use crate::counted::{counted, tell, tell_sized};
use crate::kernel::{address, engine, init};
use alloc::format;
use core::fmt::Write as _;
use core::hint::black_box;
use fentry::engine::EngineMemory;
use fentry::{Engine, Filter, FtraceRegs, Ops, Rule, TextAddr};
use generated::COUNT;
use support::memory::{Alias, use_alias};
use support::platform::set_may_be_emulated;

static OPS: Ops = Ops::new(nothing);

extern "C" fn nothing(_: TextAddr, _: TextAddr, _: &'static Ops, _: FtraceRegs<'_>) {}

/// Registers and unregisters, and counts both, when it has been done once and the stubs and tables are warm.
fn registered(filter: &Filter<'_>, selected: usize) -> (u32, u32) {
    let once = || {
        let (registered, register) = counted(|| engine().register(&OPS, filter));
        assert_eq!(registered, Ok(selected));
        assert_eq!(engine().check_text().enabled, selected);
        let (unregistered, unregister) = counted(|| engine().unregister(&OPS));
        assert_eq!(unregistered, Ok(selected));
        (register, unregister)
    };
    once();
    once()
}

pub(crate) fn growth_of_init() {
    tell_sized("init", init().instructions, COUNT);
}

pub(crate) fn growth_of_one_registration() {
    let rules = [Rule::address(address(COUNT / 2))];
    let (register, unregister) = registered(&Filter::new(&rules), 1);
    tell_sized("register-one", register, COUNT);
    tell_sized("unregister-one", unregister, COUNT);
}

pub(crate) fn growth_of_all_at_once() {
    let (enable, disable) = registered(&Filter::ALL, COUNT);
    tell_sized("enable-all", enable, COUNT);
    tell_sized("disable-all", disable, COUNT);
    set_may_be_emulated(true);
    let (enable, disable) = registered(&Filter::ALL, COUNT);
    set_may_be_emulated(false);
    tell_sized("enable-all-emulated", enable, COUNT);
    tell_sized("disable-all-emulated", disable, COUNT);
    use_alias(Alias::Window);
    let (enable, disable) = registered(&Filter::ALL, COUNT);
    use_alias(Alias::Permanent);
    tell_sized("enable-all-window", enable, COUNT);
    tell_sized("disable-all-window", disable, COUNT);
    assert_eq!(engine().check_text().wrong, 0);
}

pub(crate) fn growth_of_filters_by_name() {
    let number = COUNT / 2;
    let name = format!("generated::part_{:03}::function_{number:06}", number / 100);
    let (register, _) = registered(&Filter::new(&[Rule::name(&name)]), 1);
    tell_sized("filter-name", register, COUNT);

    // Both have to look at every name, and select one.
    let front = format!("{name}*");
    let stars = format!("*part_*function_{number:06}");
    for (situation, glob) in [("filter-glob-front", &front), ("filter-glob", &stars)] {
        let rules = [Rule::glob(glob).expect("it is well formed")];
        let (register, _) = registered(&Filter::new(&rules), 1);
        tell_sized(situation, register, COUNT);
    }
}

pub(crate) fn growth_of_lookups() {
    const LOOKUPS: usize = 64;
    let symbols = engine().symbols().expect("init was given some");
    let numbers = || (0..LOOKUPS).map(|lookup| lookup * COUNT / LOOKUPS);
    let (found, count) = counted(|| {
        numbers().filter(|number| black_box(symbols.lookup_addr(address(*number).get() + 4)).is_some()).count()
    });
    assert_eq!(found, LOOKUPS);
    tell_sized("lookup-address", count / LOOKUPS as u32, COUNT);

    // As a file that lists the functions would be read.
    let mut length = Length(0);
    let ((), count) = counted(|| {
        engine().for_each_callsite(|status| {
            let written = writeln!(length, "{}", status.name.unwrap_or("?"));
            debug_assert!(written.is_ok(), "the length of a text can always be written");
        });
    });
    assert!(length.0 > COUNT * "generated::".len());
    tell_sized("list", count, COUNT);
}

/// A writer that keeps only the length.
struct Length(usize);

impl core::fmt::Write for Length {
    fn write_str(&mut self, text: &str) -> core::fmt::Result {
        self.0 += black_box(text).len();
        Ok(())
    }
}

pub(crate) fn memory() {
    tell_sized("memory-record", init().section_bytes as u32, COUNT);
    let mut text = 0;
    engine().for_each_callsite(|status| {
        text += status.callsite.call_addr().get() + 4 - status.callsite.function().get();
    });
    tell_sized("memory-text", text as u32, COUNT);
    assert_eq!(init().report.counts.refused, 0);
    tell_sized("memory-names", init().names_bytes as u32, COUNT);
    tell("memory-ops", size_of::<Ops>() as u32);
    tell("memory-engine", (size_of::<Engine>() + size_of::<EngineMemory<128, 512, 128>>()) as u32);
}
