//! Modules that compilers have made get a table, which stays right when they are linked once more.

use std::path::Path;
use std::process::Command;

use fentry::context::unwind::{Unplaced, UnwindTable};
use fentry_verify::table::SectionRows;
use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};
use object::{Object, ObjectSection, ObjectSymbol, RelocationTarget};

use super::ModuleTable;
use crate::left_out::leave_out;

/// Modules of rustc, GCC and Clang.
const MODULES: [&[u8]; 3] = [
    include_bytes!("../../../src/module/tests/inputs/counter.o"),
    include_bytes!("../../../src/module/tests/inputs/relay-gcc-2.o"),
    include_bytes!("../../../src/module/tests/inputs/relay-clang-42.o"),
];

/// Places an object's table where a program has the sections that the relocations name, as a loader would, and compares each
/// instruction's row with its state. Returns how many sections there are.
fn check(object: &[u8]) -> usize {
    let file = object::File::parse(object).unwrap();
    let section = file.section_by_name(".fentry.unwind").unwrap();
    let unplaced = Unplaced::parse(section.data().unwrap()).unwrap();
    let program = Program::new(Image::parse(object).unwrap());
    let mut addresses = vec![0; unplaced.sections()];
    for (at, relocation) in section.relocations() {
        let RelocationTarget::Symbol(symbol) = relocation.target() else { panic!("{relocation:?}") };
        let symbol = file.symbol_by_index(symbol).unwrap();
        assert_eq!(symbol.address().wrapping_add_signed(relocation.addend()), 0, "the section's start");
        let index = symbol.section_index().unwrap().0;
        let text = program.sections().find(|section| program.section_index(*section) == index).unwrap();
        addresses[unplaced.section_at(at).unwrap()] = program.section_start(text).get();
    }
    let flow = Flow::follow(&program, &NoReturn::default());
    let cfi = Cfi::of(&flow);
    let table = unplaced.place(addresses).unwrap();
    let rows = SectionRows::of(&flow, &cfi);
    let differs = rows.differs_at(&flow, &cfi, &UnwindTable::parse(&table).unwrap());
    assert_eq!(differs.map(|id| program.place(id).to_string()), None);
    assert_eq!(rows.sections().count(), unplaced.sections());
    unplaced.sections()
}

#[test]
fn a_module_s_table_is_added_and_what_is_there_stays() {
    let path = std::env::temp_dir().join(format!("fentry-module-table-{}.o", std::process::id()));
    for module in MODULES {
        std::fs::write(&path, module).unwrap();
        let said = ModuleTable::add(&path).unwrap().to_string();
        assert!(said.starts_with("unwind table  ") && said.contains(" a function, of "), "{said}");
        let added = std::fs::read(&path).unwrap();
        let sections = check(&added);
        assert!(sections > 0);
        let (before, after) = (object::File::parse(module).unwrap(), object::File::parse(&*added).unwrap());
        assert_eq!(after.sections().count(), before.sections().count() + 2);
        // Where the names of the sections are, which Clang has among those of the symbols.
        let is_names = |name| matches!(name, Ok(".shstrtab" | ".strtab"));
        for section in before.sections().filter(|section| !is_names(section.name())) {
            let same = after.section_by_index(section.index()).unwrap();
            assert_eq!((same.name(), same.data()), (section.name(), section.data()));
            assert_eq!(same.relocations().count(), section.relocations().count());
        }
        // Again, as after a change: in the place of the one that is there.
        ModuleTable::add(&path).unwrap();
        let again = std::fs::read(&path).unwrap();
        assert_eq!(object::File::parse(&*again).unwrap().sections().count(), after.sections().count());
        assert_eq!(check(&again), sections);
    }
    std::fs::remove_file(&path).unwrap();
}

#[test]
fn a_module_s_table_stays_right_when_it_is_linked_once_more() {
    if Command::new("aarch64-linux-gnu-ld").arg("--version").output().is_err() {
        return leave_out("aarch64-linux-gnu-ld is not installed");
    }
    let dir = std::env::temp_dir().join(format!("fentry-module-again-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let [first, linked, other] = ["first.o", "linked.o", "other.o"].map(|name| dir.join(name));
    // Its text comes before the module's in the section of both.
    std::fs::write(&other, MODULES[2]).unwrap();
    std::fs::write(&first, MODULES[1]).unwrap();
    ModuleTable::add(&first).unwrap();
    let link = |inputs: &[&Path]| {
        let mut command = Command::new("aarch64-linux-gnu-ld");
        command.args(["-r", "-z", "muldefs", "-o"]).arg(&linked).args(inputs);
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read(&linked).unwrap()
    };
    check(&link(&[&first]));

    // Of two modules in one, the relocation says how far in the section the first one's text is.
    let both = link(&[&other, &first]);
    let file = object::File::parse(&*both).unwrap();
    let section = file.section_by_name(".fentry.unwind").unwrap();
    let (_, relocation) = section.relocations().next().unwrap();
    let RelocationTarget::Symbol(symbol) = relocation.target() else { panic!("{relocation:?}") };
    let start = file.symbol_by_index(symbol).unwrap().address().wrapping_add_signed(relocation.addend());
    let expected = object::File::parse(MODULES[2]).unwrap().section_by_name(".text").unwrap().size();
    assert!((expected..expected + 16).contains(&start), "{start:#x} {expected:#x}");
    std::fs::remove_dir_all(&dir).unwrap();
}
