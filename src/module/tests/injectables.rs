//! A module's list of functions that may be made to fail.

use super::fixture::{Host, KERNEL, Maker, sample};
use crate::address::TextAddr;
use crate::inject::Injectable;
use crate::module::{LoadError, Placement};
use object::write::{StandardSection, SymbolId};
use object::{SectionKind, elf};
use std::string::ToString;
use std::vec::Vec;

const FAR: u64 = KERNEL + 0x1000_0000;

/// Records of functions, of what runs in their place, and of names, in one section; and so many bytes more.
fn records(maker: &mut Maker, list: &[(SymbolId, SymbolId, &str)], more: usize) {
    let rodata = maker.object.section_id(StandardSection::ReadOnlyData);
    let strings = maker.object.section_symbol(rodata);
    // As rustc has it: written by relocations.
    let flags = elf::SHF_ALLOC | elf::SHF_WRITE;
    let section = maker.section(".fentry.injectable", SectionKind::Data, flags);
    for (function, instead, name) in list {
        let at = maker.object.append_section_data(rodata, name.as_bytes(), 1);
        let mut record = [0; 32];
        record[24..].copy_from_slice(&(name.len() as u64).to_le_bytes());
        let place = maker.object.append_section_data(section, &record, 8);
        maker.relocate(section, place, 257, *function, 0);
        maker.relocate(section, place + 8, 257, *instead, 0);
        maker.relocate(section, place + 16, 257, strings, at as i64);
    }
    maker.object.append_section_data(section, &[0; 32][..more], 8);
}

#[test]
fn a_module_s_list_is_what_its_records_say() {
    let mut maker = Maker::new();
    let text = maker.text();
    let [(one, _), (two, _), (three, _)] = ["one", "two", "three"].map(|name| maker.function(text, name, &[]));
    records(&mut maker, &[(two, three, "sample::two"), (one, three, "first")], 0);
    let host = Host::new(FAR);
    let mut modules = host.modules();
    // SAFETY: nothing of a module is executed here.
    let mut load = |name, file: &[u8]| unsafe { modules.load(name, file, Placement::Anywhere) }.unwrap();
    let (listing, other) = (load("listing", &maker.write()), load("sample", &sample()));
    let list = |id| Injectable::of_module(modules.get(id).unwrap()).collect::<Vec<_>>();
    let found: Vec<_> = list(listing).iter().map(|site| (site.name().to_string(), site.function())).collect();
    // Each function is NOP NOP RET.
    let at = |offset| TextAddr::new(FAR + offset);
    assert_eq!(found, [("sample::two".to_string(), at(12)), ("first".to_string(), at(0))]);
    assert!(list(listing).iter().all(|site| site.instead() == at(24)));
    assert!(list(other).is_empty());
}

#[test]
fn a_record_about_what_is_not_the_module_s_own_is_refused() {
    let host = Host::new(FAR);
    let refused = |index, make: fn(&mut Maker, [SymbolId; 2])| {
        let mut maker = Maker::new();
        let text = maker.text();
        let [(one, _), (two, _)] = ["one", "two"].map(|name| maker.function(text, name, &[]));
        make(&mut maker, [one, two]);
        assert_eq!(host.error_of(&maker.write()), LoadError::BadInjectable { index });
    };
    // The kernel's function would be left to what goes with the module.
    refused(1, |maker, [one, two]| {
        let printk = maker.undefined("printk");
        records(maker, &[(one, two, "one"), (printk, two, "printk")], 0);
    });
    refused(0, |maker, [one, _]| {
        let printk = maker.undefined("printk");
        records(maker, &[(one, printk, "one")], 0);
    });
    // Init text goes when the module has started.
    refused(0, |maker, [_, two]| {
        let init_text = maker.init_text();
        let (start, _) = maker.function(init_text, "start", &[]);
        records(maker, &[(start, two, "start")], 0);
    });
    refused(0, |maker, [one, two]| records(maker, &[(one, two, "")], 0));
    refused(1, |maker, [one, two]| records(maker, &[(one, two, "one")], 24));
    refused(0, |maker, [one, _]| {
        let data = maker.object.section_id(StandardSection::Data);
        maker.object.append_section_data(data, &[0; 16], 8);
        let number = maker.object.section_symbol(data);
        records(maker, &[(one, number, "one")], 0);
    });
}
