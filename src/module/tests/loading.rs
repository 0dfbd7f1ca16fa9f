//! What a good module becomes.

use super::fixture::{
    ADRP_X0, BL, CALLED, Host, JIFFIES, KERNEL, LDR_X0_X0, Maker, PRINTK, REFUSED, RESULT, RET, STUCK, row, sample,
};
use crate::address::TextAddr;
use crate::callsite::veneer::{ENTRY_BYTES, STUB_VENEERS, Veneer};
use crate::fakes::MemoryFault;
use crate::module::{Erratum843419, LoadError, Modules, Permission, Placement, Segment, StartError, UnloadError};
use crate::symbols::{Convention, Symbols};
use object::write::{StandardSection, SymbolSection};
use object::{SymbolFlags, SymbolKind, elf};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::string::ToString;
use std::vec::Vec;

/// Near the kernel, beyond BL's reach of it, and beyond ADRP's.
const NEAR: u64 = KERNEL + 0x10_0000;
const FAR: u64 = KERNEL + 0x1000_0000;
const VERY_FAR: u64 = KERNEL + 0x20_0000_0000;

/// The target of the BL at `at`, through a veneer if it goes to one.
fn called(host: &Host, at: u64) -> (u64, bool) {
    let word = host.word(at);
    assert_eq!(word >> 26, BL >> 26, "{word:#010x}");
    let target = at.wrapping_add_signed(i64::from((word << 6).cast_signed() >> 4));
    match host.memory.read(target, 16) {
        None => (target, false),
        Some(_) => {
            let words = [0, 4, 8, 12].map(|offset| host.word(target + offset));
            match Veneer::from_words(words).target(TextAddr::new(target)) {
                Some(through) => (through.get(), true),
                None => (target, false),
            }
        }
    }
}

#[test]
fn every_part_of_a_module_is_where_it_belongs() {
    for base in [NEAR, FAR, VERY_FAR] {
        let host = Host::new(base);
        let mut modules = host.modules();
        CALLED.with_borrow_mut(Vec::clear);
        // SAFETY: nothing of a module is executed here.
        let id = unsafe { modules.load("sample", &sample(), Placement::Anywhere) }.unwrap();
        let module = modules.get(id).unwrap();
        let text = module.range(Segment::Text).start.get();
        assert_eq!(text, base);

        // hello: nop, nop, bl printk, adrp, add, bl ticks, ret; ticks: nop, nop, adrp, ldr, ldr, ret.
        let ticks = text + 28;
        assert_eq!(called(&host, text + 8), (PRINTK, base != NEAR));
        assert_eq!(called(&host, text + 20), (ticks, false));
        assert_eq!(host.word(text + 24), RET);
        let got = module.range(Segment::Rodata).end.get() - 8;
        assert_eq!(host.long(got), JIFFIES);
        assert_eq!(host.word(ticks + 12), 0xf940_0000 | ((got & 0xfff) as u32 >> 3) << 10);
        assert_eq!(host.long(module.range(Segment::Data).start.get() + 8), ticks + 4);
        assert_eq!(module.range(Segment::Data).len(), 16 + 0x2000 + 40 + 8 + 8);

        // The first veneers are for whoever traces the text.
        let room = module.stub_veneers().unwrap();
        assert!(text < room.start.get() && room.end.get() <= module.range(Segment::Text).end.get());
        assert_eq!(room.len(), STUB_VENEERS as u64 * ENTRY_BYTES);
        assert!((0..room.len()).step_by(4).all(|offset| host.word(room.start.get() + offset) == 0));

        // Init is gone, and was called once.
        assert!(module.range(Segment::InitText).is_empty());
        assert_eq!(CALLED.with_borrow(Vec::len), 1);
        assert_eq!(host.memory.segment_at(text), Some((Segment::Text, Some(Permission::ReadExecute))));
        assert_eq!(host.memory.segment_at(got), Some((Segment::Rodata, Some(Permission::Read))));
        let data = module.range(Segment::Data).start.get();
        assert_eq!(host.memory.segment_at(data), Some((Segment::Data, Some(Permission::ReadWrite))));

        assert_eq!(module.export("ticks"), Some(ticks));
        assert_eq!(modules.at(TextAddr::new(ticks)).map(|module| module.name()), Some("sample"));
        assert_eq!(module.callsites(), [text, ticks, ticks + 24]);
        let table = module.unwind_table().unwrap();
        assert_eq!((table.text().start.get(), table.text().end.get()), (text, text + 64));
        let frames = [(text, 0), (text + 12, 32), (text + 24, 0), (ticks, 0), (ticks + 24, 0), (ticks + 32, 16)];
        frames.iter().for_each(|(at, frame)| assert_eq!(table.row(TextAddr::new(*at)), row(*frame), "{at:#x}"));
        // SAFETY: as above.
        unsafe { modules.unload(id) }.unwrap();
        assert_eq!(CALLED.with_borrow(|called| called.last().copied()), Some(ticks + 24), "exit was not called");
        assert_eq!(host.memory.lent_bytes(), 0);
        assert!(host.regions.regions.lock().unwrap().is_empty());
    }
}

#[test]
fn text_is_handed_over_with_its_entries_and_names() {
    let host = Host::new(NEAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    unsafe { modules.load("sample", &sample(), Placement::Anywhere) }.unwrap();
    let regions = host.regions.regions.lock().unwrap();
    let [text] = &regions[..] else { panic!("init text's region was to be removed: {regions:?}") };
    assert_eq!((text.module.as_str(), text.entries.len()), ("sample", 3));
    let symbols = Symbols::parse(&text.symbols).unwrap();
    assert_eq!(symbols.lookup_addr(NEAR + 8).unwrap().symbol.name, "sample::hello");
    assert_eq!(*host.regions.count.lock().unwrap(), 2);
}

#[test]
fn one_veneer_serves_every_call_of_its_target() {
    let mut maker = Maker::new();
    let text = maker.text();
    let printk = maker.undefined("printk");
    let (_, at) = maker.function(text, "caller", &[BL; 10]);
    for call in 0..10 {
        maker.relocate(text, at + 8 + 4 * call, 283, printk, 0);
    }
    let host = Host::new(VERY_FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("caller", &maker.write(), Placement::Anywhere) }.unwrap();
    // Thirteen instructions, up to a multiple of 16 bytes, and one veneer more than those for whoever traces it.
    let veneers = STUB_VENEERS as u64 + 1;
    assert_eq!(modules.get(id).unwrap().range(Segment::Text).len(), 64 + veneers * ENTRY_BYTES);
    assert!((0..10).all(|call| called(&host, VERY_FAR + 8 + 4 * call) == (PRINTK, true)));
}

#[test]
fn each_symbol_that_is_loaded_from_the_got_has_one_entry() {
    let mut maker = Maker::new();
    let text = maker.text();
    let names = ["jiffies", "printk", "here", "missing", "printk", "jiffies"];
    let (_, at) = maker.function(text, "here", &[LDR_X0_X0; 6]);
    for (index, name) in names.into_iter().enumerate() {
        let symbol = if name == "missing" { maker.weak(name) } else { maker.undefined(name) };
        maker.relocate(text, at + 8 + 4 * index as u64, 312, symbol, 0);
    }
    let host = Host::new(VERY_FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("got", &maker.write(), Placement::Anywhere) }.unwrap();
    let module = modules.get(id).unwrap();
    let got = module.range(Segment::Rodata);
    let entries = [0, 1, 2, 3, 4, 5].map(|load| {
        let offset = u64::from(host.word(VERY_FAR + 8 + 4 * load) >> 10 & 0xfff) * 8;
        (got.start.get() & !0xfff) + offset
    });
    let [jiffies, printk, here, missing, again, once_more] = entries;
    assert_eq!([jiffies, printk, here, missing].map(|entry| host.long(entry)), [JIFFIES, PRINTK, VERY_FAR, 0]);
    assert_eq!((again, once_more, got.len()), (printk, jiffies, 4 * 8));
}

#[test]
fn an_adrp_at_the_end_of_a_page_is_replaced_where_the_cpu_needs_it() {
    let object = |offset: u64| {
        let mut maker = Maker::new();
        let text = maker.text();
        maker.words(text, &std::vec![RET; 0xff8 / 4]);
        maker.words(text, &[ADRP_X0, ADRP_X0, RET]);
        let place = maker.object.section_symbol(text);
        maker.relocate(text, 0xff8, 275, place, 0);
        maker.relocate(text, 0xffc, 275, place, offset as i64);
        maker.write()
    };
    let load = |erratum, offset| {
        let host = Host::new(NEAR);
        let mut modules = host.modules_with(erratum);
        // SAFETY: nothing of a module is executed here.
        unsafe { modules.load("adrp", &object(offset), Placement::Anywhere) }.unwrap();
        let after = modules.find("adrp").unwrap().range(Segment::Text).end.get();
        (host.word(NEAR + 0xff8), host.word(NEAR + 0xffc), [32, 28].map(|back| host.word(after - back)))
    };
    // The first refers to its own page, the second to one far away. Room is kept for a veneer each.
    let (first, second, _) = load(Erratum843419::Absent, 0x1000_0000);
    assert_eq!((first, second), (0x9000_0000, 0x9008_0000));
    let (first, second, veneer) = load(Erratum843419::Present, 0x1000_0000);
    // adr x0, -0xff8; b; adrp x0, +0x10000000 less the page that the veneer is further on
    assert_eq!(first, 0x10ff_8040);
    assert_eq!(second >> 26, 0b00_0101);
    assert_eq!(veneer[0], 0xf007_ffe0);
    assert_eq!(veneer[1] >> 26, 0b00_0101);
}

#[test]
fn erratum_843419_is_known_by_the_cpu_s_numbers() {
    for (midr, revidr, present) in [
        (0x410f_d030, 0, true),
        (0x410f_d034, 0, true),
        (0x410f_d034, 0x100, false),
        (0x411f_d030, 0, false),
        (0x410f_d083, 0, false),
    ] {
        assert_eq!(Erratum843419::of_cpu(midr, revidr) == Erratum843419::Present, present, "{midr:#x}");
    }
}

#[test]
fn a_module_that_others_use_stays() {
    let host = Host::new(NEAR);
    let mut modules = host.modules();
    let user = {
        let mut maker = Maker::new();
        let text = maker.text();
        let ticks = maker.undefined("ticks");
        let (_, at) = maker.function(text, "user", &[BL]);
        maker.relocate(text, at + 8, 283, ticks, 0);
        maker.write()
    };
    // SAFETY: nothing of a module is executed here.
    let mut load = |name, file: &[u8]| unsafe { modules.load(name, file, Placement::Anywhere) };
    assert_eq!(load("user", &user), Err(LoadError::Unresolved(std::vec!["ticks".to_string()])));
    let sample_id = load("sample", &sample()).unwrap();
    assert_eq!(load("sample", &sample()), Err(LoadError::AlreadyLoaded("sample".to_string())));
    let twice = LoadError::DuplicateExport { name: "ticks".to_string(), owner: Some("sample".to_string()) };
    assert_eq!(load("again", &sample()), Err(twice));
    let user_id = load("user", &user).unwrap();
    assert_eq!(called(&host, modules.get(user_id).unwrap().range(Segment::Text).start.get() + 8).0, NEAR + 28);

    // SAFETY: as above.
    let unload = |modules: &mut Modules<'_>, id| unsafe { modules.unload(id) };
    assert_eq!(unload(&mut modules, sample_id), Err(UnloadError::InUse { users: 1 }));
    unload(&mut modules, user_id).unwrap();
    modules.hold(sample_id).unwrap();
    assert_eq!(unload(&mut modules, sample_id), Err(UnloadError::InUse { users: 1 }));
    modules.release(sample_id).unwrap();
    assert_eq!(modules.release(sample_id), None);
    unload(&mut modules, sample_id).unwrap();
    assert_eq!(unload(&mut modules, sample_id), Err(UnloadError::NotLoaded));
    assert_eq!(host.memory.lent_bytes(), 0);
}

#[test]
fn a_weak_symbol_may_be_missing() {
    let mut maker = Maker::new();
    let text = maker.text();
    let (missing, there) = (maker.weak("missing"), maker.weak("printk"));
    let (_, at) = maker.function(text, "caller", &[BL, BL]);
    maker.relocate(text, at + 8, 283, missing, 0);
    maker.relocate(text, at + 12, 283, there, 0);
    let data = maker.object.section_id(StandardSection::Data);
    maker.object.append_section_data(data, &[0xff; 16], 8);
    maker.relocate(data, 0, 257, missing, 0);
    maker.relocate(data, 8, 257, there, 0);
    let host = Host::new(FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("weak", &maker.write(), Placement::Anywhere) }.unwrap();
    assert_eq!(host.word(FAR + 8), BL | 1, "a call of nothing goes on behind it");
    assert_eq!(called(&host, FAR + 12), (PRINTK, true));
    let data = modules.get(id).unwrap().range(Segment::Data).start.get();
    assert_eq!((host.long(data), host.long(data + 8)), (0, PRINTK));
}

#[test]
fn whatever_fails_nothing_is_left() {
    let host = Host::new(FAR);
    let file = sample();
    // Six segments, four of them there, and the init text's two.
    let mut faults: Vec<MemoryFault> = (0..4).map(MemoryFault::Allocate).collect();
    faults.extend((0..4).map(MemoryFault::Protect));
    for fault in faults {
        host.memory.set_fault(Some(fault));
        assert!(matches!(host.error_of(&file), LoadError::Memory(_)), "{fault:?}");
    }
    host.memory.set_fault(None);
    host.machine.set_fault(Some(crate::fakes::Fault::Cpu(1)));
    assert!(matches!(host.error_of(&file), LoadError::Cpu(_)));
    for region in 0..2 {
        *host.regions.count.lock().unwrap() = 0;
        *host.regions.refuse.lock().unwrap() = Some(region);
        assert!(matches!(host.error_of(&file), LoadError::Region(_)), "{region}");
    }
    *host.regions.refuse.lock().unwrap() = None;
    RESULT.set(-12);
    assert_eq!(host.error_of(&file), LoadError::Init(-12));
    RESULT.set(0);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    unsafe { modules.load("sample", &file, Placement::Anywhere) }.unwrap();
}

/// The second region is refused, or init fails, and regions that were added can't be removed.
#[test]
fn text_that_is_still_traced_is_not_freed_whatever_the_module_is_given_up_for() {
    // One removal fails, of one; the first of two, and both.
    for (refuse, status, stuck) in [(Some(1), 0, 1), (None, -5, 1), (None, -5, 2)] {
        let host = Host::new(FAR);
        let mut modules = host.modules();
        *host.regions.refuse.lock().unwrap() = refuse;
        *host.regions.stuck.lock().unwrap() = stuck;
        RESULT.set(status);
        CALLED.with_borrow_mut(Vec::clear);
        // SAFETY: nothing of a module is executed here.
        let result = unsafe { modules.load("sample", &sample(), Placement::Anywhere) };
        RESULT.set(0);
        assert_eq!(CALLED.with_borrow(Vec::len), usize::from(refuse.is_none()), "init was called, or was not");
        assert_eq!(modules.iter().count(), 0);

        let traced: Vec<_> = host.regions.regions.lock().unwrap().iter().map(|region| region.text).collect();
        assert_eq!(traced.len(), stuck, "{result:?}");
        for text in &traced {
            let segment = host.memory.segment_at(text.start.get());
            let is_there = matches!(segment, Some((_, Some(Permission::ReadExecute))));
            assert!(is_there, "{text} was freed while it is traced: {result:?}");
        }
        let Err(LoadError::Kept { cause, error, bytes }) = result else { panic!("{result:?}") };
        assert_eq!((error, bytes), (STUCK.at(traced[0]), host.memory.lent_bytes()));
        match cause {
            StartError::Region(error) => assert_eq!((error.cause, refuse), (REFUSED.at(error.text).cause, Some(1))),
            StartError::Init(found) => assert_eq!((found, refuse), (status, None)),
        }

        // The place is taken for ever, and the name is not.
        *host.regions.refuse.lock().unwrap() = None;
        // SAFETY: nothing of a module is executed here.
        let again = unsafe { modules.load("sample", &sample(), Placement::Anywhere) }.unwrap();
        let text = modules.get(again).unwrap().range(Segment::Text);
        assert!(traced.iter().all(|kept| kept.end <= text.start || text.end <= kept.start));
    }
}

#[test]
fn text_is_not_freed_where_whoever_traces_it_panics() {
    for method in ["add", "remove"] {
        let host = Host::new(FAR);
        let mut modules = host.modules();
        *host.regions.panics.lock().unwrap() = Some(method);
        // What the module is given up for, where its regions can be added.
        RESULT.set(-5);
        // SAFETY: nothing of a module is executed here.
        let load = || unsafe { modules.load("sample", &sample(), Placement::Anywhere) };
        let result = catch_unwind(AssertUnwindSafe(load));
        RESULT.set(0);
        assert!(result.is_err(), "{method}");
        let traced = host.regions.regions.lock().unwrap();
        assert!(!traced.is_empty());
        for region in traced.iter() {
            let segment = host.memory.segment_at(region.text.start.get());
            assert!(segment.is_some(), "{} was freed while it is traced", region.text);
        }
    }
}

/// The module has started by then: it is loaded, and its init text waits.
#[test]
fn init_text_that_is_still_traced_stays_until_the_module_is_unloaded() {
    let host = Host::new(FAR);
    let mut modules = host.modules();
    *host.regions.stuck.lock().unwrap() = 1;
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("sample", &sample(), Placement::Anywhere) }.unwrap();
    let init = modules.get(id).unwrap().range(Segment::InitText);
    assert_eq!(host.memory.segment_at(init.start.get()).map(|(segment, _)| segment), Some(Segment::InitText));
    assert_eq!(host.regions.regions.lock().unwrap().len(), 2);
    // SAFETY: as above.
    unsafe { modules.unload(id) }.unwrap();
    assert!(host.regions.regions.lock().unwrap().is_empty());
    assert_eq!(host.memory.lent_bytes(), 0);
}

#[test]
fn a_module_whose_text_is_still_traced_is_unloaded_the_next_time_and_exits_once() {
    let host = Host::new(FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("sample", &sample(), Placement::Anywhere) }.unwrap();
    let (text, lent) = (modules.get(id).unwrap().range(Segment::Text), host.memory.lent_bytes());
    *host.regions.stuck.lock().unwrap() = 2;
    CALLED.with_borrow_mut(Vec::clear);
    for _ in 0..2 {
        // SAFETY: as above.
        let error = unsafe { modules.unload(id) }.unwrap_err();
        assert_eq!(error, UnloadError::Region(STUCK.at(text)));
        assert_eq!((host.memory.lent_bytes(), modules.iter().count()), (lent, 1));
    }
    // SAFETY: as above.
    unsafe { modules.unload(id) }.unwrap();
    assert_eq!((host.memory.lent_bytes(), CALLED.with_borrow(Vec::len)), (0, 1));
}

#[test]
fn new_text_is_cleaned_before_it_can_be_executed_and_every_cpu_is_told() {
    use crate::fakes::Event;
    let host = Host::new(FAR);
    let mut modules = host.modules();
    host.machine.take_events();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("sample", &sample(), Placement::Anywhere) }.unwrap();
    let events = host.machine.take_events();
    let text = modules.get(id).unwrap().range(Segment::Text);
    let of_line = |make: fn(TextAddr) -> Event, line: u64| {
        events.iter().position(|event| *event == make(TextAddr::new(line))).unwrap_or_else(|| panic!("{line:#x}"))
    };
    let told = events.iter().position(|event| *event == Event::SynchronizeCpus).unwrap();
    for line in (text.start.get()..text.end.get()).step_by(64) {
        assert!(of_line(Event::Clean, line) < of_line(Event::Invalidate, line));
        assert!(of_line(Event::Invalidate, line) < told);
    }
}

#[test]
fn a_thousand_loads_leak_nothing() {
    let host = Host::new(FAR);
    let mut modules = host.modules();
    let file = sample();
    for _ in 0..1000 {
        // SAFETY: nothing of a module is executed here.
        let id = unsafe { modules.load("sample", &file, Placement::Anywhere) }.unwrap();
        // SAFETY: as above.
        unsafe { modules.unload(id) }.unwrap();
    }
    assert_eq!(host.memory.lent_bytes(), 0);
}

#[test]
fn an_absolute_symbol_is_its_value() {
    let mut maker = Maker::new();
    let data = maker.object.section_id(StandardSection::Data);
    maker.object.append_section_data(data, &[0; 8], 8);
    let symbol = maker.symbol("fixed", SymbolKind::Data, SymbolSection::Absolute, 0x1234_5678);
    maker.relocate(data, 0, 257, symbol, 8);
    let host = Host::new(NEAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("absolute", &maker.write(), Placement::Anywhere) }.unwrap();
    assert_eq!(host.long(modules.get(id).unwrap().range(Segment::Data).start.get()), 0x1234_5680);
}

#[test]
fn a_function_of_another_calling_convention_is_marked_in_the_names_for_whoever_traces() {
    let mut maker = Maker::new();
    let text = maker.text();
    maker.function(text, "plain", &[]);
    let (vector, _) = maker.function(text, "vector", &[]);
    let st_info = elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_FUNC);
    maker.object.symbol_mut(vector).flags = SymbolFlags::Elf { st_info, st_other: elf::STO_AARCH64_VARIANT_PCS };
    let host = Host::new(FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    unsafe { modules.load("m", &maker.write(), Placement::Anywhere) }.unwrap();
    let regions = host.regions.regions.lock().unwrap();
    let symbols = Symbols::parse(&regions[0].symbols).unwrap();
    let conventions: Vec<_> = symbols.iter().map(|symbol| (symbol.name, symbol.convention)).collect();
    assert_eq!(conventions, [("plain", Convention::Base), ("vector", Convention::Variant)]);
    assert!(symbols.is_variant(regions[0].entries[1]) && !symbols.is_variant(regions[0].entries[0]));
}
