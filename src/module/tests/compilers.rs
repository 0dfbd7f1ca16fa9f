//! What compilers leave in objects: empty sections, a GOT by its own symbol, functions that are listed twice, and a great
//! many targets.

use super::fixture::{ADRP_X0, BL, Host, JIFFIES, KERNEL, LDR_X0_X0, Maker, PRINTK};
use crate::module::{Placement, Segment};
use crate::plt::ENTRY_BYTES;
use object::SymbolKind;
use object::write::{StandardSection, SymbolSection};

/// Near the kernel, beyond BL's reach of it, and beyond ADRP's.
const NEAR: u64 = KERNEL + 0x10_0000;
const FAR: u64 = KERNEL + 0x1000_0000;
const VERY_FAR: u64 = KERNEL + 0x20_0000_0000;

/// GCC leaves empty sections wherever it has nothing to put into them.
#[test]
fn an_object_may_have_no_data_or_no_text() {
    let empty = |maker: &mut Maker| {
        for section in [StandardSection::Text, StandardSection::Data, StandardSection::UninitializedData] {
            maker.object.section_id(section);
        }
    };
    let host = Host::new(FAR);
    let mut modules = host.modules();
    let mut load = |name, maker: Maker| {
        // SAFETY: nothing of a module is executed here.
        let id = unsafe { modules.load(name, &maker.write(), Placement::Anywhere) };
        let id = id.unwrap_or_else(|error| panic!("{name}: {error}"));
        let module = modules.get(id).unwrap();
        [Segment::Text, Segment::Rodata, Segment::Data].map(|segment| module.range(segment))
    };
    let mut maker = Maker::new();
    empty(&mut maker);
    let text = maker.text();
    maker.function(text, "f", &[]);
    let [text, _, data] = load("no data", maker);
    assert!(!text.is_empty() && data.is_empty());

    let mut maker = Maker::new();
    empty(&mut maker);
    let rodata = maker.object.section_id(StandardSection::ReadOnlyData);
    maker.object.append_section_data(rodata, &7_u64.to_le_bytes(), 8);
    let [text, rodata, _] = load("no text", maker);
    assert_eq!((text.is_empty(), host.long(rodata.start.get())), (true, 7));

    // The address of something of no length is a place of the module's own, and not 0.
    let mut maker = Maker::new();
    empty(&mut maker);
    let text = maker.text();
    let nothing = maker.object.section_id(StandardSection::Data);
    let nothing = maker.symbol("nothing", SymbolKind::Data, SymbolSection::Section(nothing), 0);
    maker.function(text, "f", &[]);
    let rodata = maker.object.section_id(StandardSection::ReadOnlyData);
    maker.object.append_section_data(rodata, &[0; 8], 8);
    maker.relocate(rodata, 0, 257, nothing, 0);
    let [_, rodata, data] = load("nothing", maker);
    assert_eq!((host.long(rodata.start.get()), data.is_empty()), (data.start.get(), false));
}

/// What GCC makes of `extern int jiffies; jiffies` with `-fpic`.
#[test]
fn a_got_is_found_by_its_own_symbol() {
    for base in [NEAR, VERY_FAR] {
        let mut maker = Maker::new();
        let text = maker.text();
        let (got, jiffies, printk) =
            (maker.undefined("_GLOBAL_OFFSET_TABLE_"), maker.undefined("jiffies"), maker.undefined("printk"));
        let (_, at) = maker.function(text, "f", &[ADRP_X0, LDR_X0_X0, LDR_X0_X0, LDR_X0_X0]);
        maker.relocate(text, at + 8, 275, got, 0);
        maker.relocate(text, at + 12, 313, printk, 0);
        maker.relocate(text, at + 16, 313, jiffies, 0);
        maker.relocate(text, at + 20, 310, jiffies, 0);
        let rodata = maker.object.section_id(StandardSection::ReadOnlyData);
        maker.object.append_section_data(rodata, &[0; 0x128], 8);
        let host = Host::new(base);
        let mut modules = host.modules();
        // SAFETY: nothing of a module is executed here.
        let id = unsafe { modules.load("pic", &maker.write(), Placement::Anywhere) }.unwrap();
        let got = modules.get(id).unwrap().range(Segment::Rodata).end.get() - 16;
        let word = |index: u64| host.word(base + at + 8 + 4 * index);
        let pages = (got >> 12) - (base >> 12);
        assert_eq!(u64::from(word(0) >> 29 & 3 | (word(0) >> 5 & 0x7_ffff) << 2), pages);
        let offset = |index| u64::from(word(index) >> 10 & 0xfff) * 8;
        // From the GOT's page, and from the GOT.
        let loaded = [(got & !0xfff) + offset(1), (got & !0xfff) + offset(2), got + offset(3)];
        assert_eq!(loaded.map(|entry| host.long(entry)), [PRINTK, JIFFIES, JIFFIES]);
        assert_eq!(loaded[2], loaded[1]);
    }
}

#[test]
fn a_got_that_nothing_is_in_has_an_address() {
    let mut maker = Maker::new();
    let data = maker.object.section_id(StandardSection::Data);
    maker.object.append_section_data(data, &[0; 8], 8);
    let got = maker.undefined("_GLOBAL_OFFSET_TABLE_");
    maker.relocate(data, 0, 257, got, 0);
    let host = Host::new(NEAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("got", &maker.write(), Placement::Anywhere) }.unwrap();
    let [rodata, data] = [Segment::Rodata, Segment::Data].map(|segment| modules.get(id).unwrap().range(segment));
    assert_eq!(host.long(data.start.get()), rodata.start.get());
    assert!(!rodata.is_empty());
}

#[test]
fn a_function_that_is_listed_twice_is_one_callsite() {
    let mut maker = Maker::new();
    let text = maker.text();
    let (_, f) = maker.function(text, "f", &[]);
    let (_, g) = maker.function(text, "g", &[]);
    [g, f, g].into_iter().for_each(|offset| maker.entry(text, offset));
    let host = Host::new(NEAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("twice", &maker.write(), Placement::Anywhere) }.unwrap();
    let expected = [NEAR + f, NEAR + g];
    assert_eq!(modules.get(id).unwrap().callsites(), expected);
    assert_eq!(host.regions.regions.lock().unwrap()[0].entries, expected);
}

/// A search through all of them for each, as there was, takes minutes.
#[test]
#[cfg_attr(miri, ignore = "Miri takes as long as that without")]
fn a_hundred_thousand_targets_are_found_at_once() {
    const TARGETS: u64 = 160_000;
    let mut maker = Maker::new();
    let text = maker.text();
    let printk = maker.undefined("printk");
    maker.words(text, &std::vec![BL; TARGETS as usize]);
    maker.words(text, &std::vec![LDR_X0_X0; TARGETS as usize]);
    for target in 0..TARGETS {
        // In an order that is not that of their addresses.
        let addend = 8 * (target.wrapping_mul(0x9e37_79b1) % (1 << 26)) as i64;
        maker.relocate(text, 4 * target, 283, printk, addend);
        maker.relocate(text, 4 * (TARGETS + target), 312, printk, addend);
    }
    let file = maker.write();
    let host = Host::new(VERY_FAR);
    let mut modules = host.modules();
    let start = std::time::Instant::now();
    // SAFETY: nothing of a module is executed here.
    let id = unsafe { modules.load("large", &file, Placement::Anywhere) }.unwrap();
    let seconds = start.elapsed().as_secs_f64();
    let module = modules.get(id).unwrap();
    assert!(module.range(Segment::Text).len() > (8 + ENTRY_BYTES) * TARGETS);
    assert_eq!(module.range(Segment::Rodata).len(), 8 * TARGETS);
    // It is less than a second, also on a machine that has other things to do.
    assert!(seconds < 6.0, "{seconds} s");
}
