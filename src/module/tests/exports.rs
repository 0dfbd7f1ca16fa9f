//! What the kernel and modules offer to modules.

use super::fixture::{BL, Host, JIFFIES, KERNEL, Maker, PRINTK, sample};
use crate::module::{Export, Exports, LoadError, Placement, Segment};
use object::write::{StandardSection, SymbolId};
use object::{SectionKind, elf};
use std::string::ToString;
use std::vec::Vec;

const FAR: u64 = KERNEL + 0x1000_0000;

#[test]
fn a_kernel_s_exports_are_found_by_their_whole_names() {
    let exports = Exports::new([("printk", PRINTK), ("jiffies", JIFFIES)]).unwrap();
    assert_eq!(
        ["jiffies", "printk", "print", "printk2", ""].map(|name| exports.get(name)),
        [Some(JIFFIES), Some(PRINTK), None, None, None]
    );
    assert_eq!((exports.len(), exports.is_empty()), (2, false));
    static TICK: u8 = 0;
    let record = Export::new("tick", (&raw const TICK).cast());
    assert_eq!(std::format!("{record:?}"), std::format!("Export(\"tick\" = {:?})", &raw const TICK).replace('"', ""));
    let none = Exports::new([]).unwrap();
    assert_eq!((none.len(), none.is_empty(), none.get("printk")), (0, true, None));
    let twice = LoadError::DuplicateExport { name: "printk".to_string(), owner: None };
    assert_eq!(Exports::new([("printk", PRINTK), ("a", 0), ("printk", JIFFIES)]).unwrap_err(), twice);
}

/// Records of names and symbols in one section, as a C compiler makes an array of them.
fn records(maker: &mut Maker, exports: &[(&str, SymbolId)]) {
    let rodata = maker.object.section_id(StandardSection::ReadOnlyData);
    let strings = maker.object.section_symbol(rodata);
    let section = maker.section(".fentry.exports", SectionKind::ReadOnlyData, elf::SHF_ALLOC);
    for (name, symbol) in exports {
        let at = maker.object.append_section_data(rodata, name.as_bytes(), 1);
        let mut record = [0; 24];
        record[8..16].copy_from_slice(&(name.len() as u64).to_le_bytes());
        let place = maker.object.append_section_data(section, &record, 8);
        maker.relocate(section, place, 257, strings, at as i64);
        maker.relocate(section, place + 16, 257, *symbol, 0);
    }
}

#[test]
fn each_of_a_module_s_exports_is_what_its_record_says() {
    let mut maker = Maker::new();
    let text = maker.text();
    let [(one, _), (two, _), (three, _)] = ["one", "two", "three"].map(|name| maker.function(text, name, &[]));
    records(&mut maker, &[("first", one), ("second", two), ("3", three)]);
    maker.export("fourth", one);
    let host = Host::new(FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let mut load = |name, file: &[u8]| unsafe { modules.load(name, file, Placement::Anywhere) }.unwrap();
    let (many, one, none) =
        (load("many", &maker.write()), load("sample", &sample()), load("none", &Maker::new().write()));
    let exports = |id| modules.get(id).unwrap().exports().collect::<Vec<_>>();
    // Each function is NOP NOP RET.
    assert_eq!(exports(many), [("3", FAR + 24), ("first", FAR), ("fourth", FAR), ("second", FAR + 12)]);
    assert_eq!(exports(one), [("ticks", modules.get(one).unwrap().range(Segment::Text).start.get() + 28)]);
    assert_eq!(exports(none), []);
    let many = modules.get(many).unwrap();
    assert_eq!(["3", "first", "fir", ""].map(|name| many.export(name)), [Some(FAR + 24), Some(FAR), None, None]);
    let names: Vec<_> = modules.iter().map(|module| (module.name(), module.id())).collect();
    assert_eq!(names, [("many", many.id()), ("sample", one), ("none", none)]);
}

#[test]
fn a_record_without_a_name_or_with_one_that_is_taken_is_refused() {
    let host = Host::new(FAR);
    let error = |names: &[&str]| {
        let mut maker = Maker::new();
        let text = maker.text();
        let (function, _) = maker.function(text, "ticks", &[]);
        let exports: Vec<_> = names.iter().map(|name| (*name, function)).collect();
        records(&mut maker, &exports);
        host.error_of(&maker.write())
    };
    assert_eq!(error(&["a", ""]), LoadError::BadExport { index: 1 });
    assert_eq!(error(&["a", "b", "a"]), LoadError::DuplicateExport { name: "a".to_string(), owner: None });
}

/// The names that a module refers to are found in whatever module has them, and where none has them it is refused.
#[test]
fn a_module_uses_the_exports_of_those_that_it_refers_to() {
    let host = Host::new(FAR);
    let mut modules = host.modules();
    let exporting = |name: &str, second: &str| {
        let mut maker = Maker::new();
        let text = maker.text();
        let [(one, _), (two, _)] = [name, second].map(|name| maker.function(text, name, &[]));
        records(&mut maker, &[(name, one), (second, two)]);
        maker.write()
    };
    let mut user = Maker::new();
    let text = user.text();
    let (_, at) = user.function(text, "user", &[BL; 3]);
    for (index, name) in ["b", "d", "a"].into_iter().enumerate() {
        let symbol = user.undefined(name);
        user.relocate(text, at + 8 + 4 * index as u64, 283, symbol, 0);
    }
    // SAFETY: nothing of a module is executed here.
    let mut load = |name, file: &[u8]| unsafe { modules.load(name, file, Placement::Anywhere) };
    let ab = load("ab", &exporting("a", "b")).unwrap();
    assert_eq!(load("user", &user.write()), Err(LoadError::Unresolved(std::vec!["d".to_string()])));
    let (cd, unused) = (load("cd", &exporting("c", "d")).unwrap(), load("ef", &exporting("e", "f")).unwrap());
    let user = load("user", &user.write()).unwrap();
    assert_eq!([ab, cd, unused, user].map(|id| modules.users(id)), [1, 1, 0, 0]);
    let [from_ab, from_cd, text] = [ab, cd, user].map(|id| modules.get(id).unwrap().range(Segment::Text).start.get());
    let target = |call: u64| {
        let at = text + 8 + 4 * call;
        at.wrapping_add_signed(i64::from((host.word(at) << 6).cast_signed() >> 4))
    };
    assert_eq!([0, 1, 2].map(target), [from_ab + 12, from_cd + 12, from_ab]);
}
