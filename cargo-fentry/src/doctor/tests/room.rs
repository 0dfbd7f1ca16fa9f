//! Tables in a linked image: by a second link, or in room that is filled without one.

use std::path::{Path, PathBuf};
use std::process::Command;

use fentry::LINKER_FRAGMENT;
use fentry::context::unwind::{Cfa, ReturnAddress, UnwindTable as Rows};
use fentry::symbols::Symbols;

use super::{PADDED, PLAIN, assert_problem, assert_says, directory, examine, object_file, problems, rust_lld};
use crate::doctor::loaded::Loaded;
use crate::doctor::report::Report;
use crate::left_out::leave_out;
use crate::symbols::{Kept, fill, object_file as table_of, read_image, write_object};
use crate::unwind::UnwindTable;

/// The linkers, each with the arguments that make it GNU's kind.
fn linkers() -> Vec<(PathBuf, &'static [&'static str])> {
    let gnu = PathBuf::from("aarch64-linux-gnu-ld");
    let mut linkers = vec![(rust_lld(), &["-flavor", "gnu"][..])];
    match Command::new(&gnu).arg("--version").output() {
        Ok(_) => linkers.push((gnu, &[])),
        Err(_) => leave_out("aarch64-linux-gnu-ld is not installed"),
    }
    linkers
}

/// What the fragment has behind the room.
const END_BYTES: usize = 8;

/// A kernel's own script, which knows nothing of fentry but for what the fragment needs.
const SCRIPT: &str = "SECTIONS {
    . = 0x40080000;
    .text : { *(.text .text.*) }
    .rodata : ALIGN(4096) { *(.rodata) QUAD(1) }
    .data : ALIGN(4096) { *(.data) QUAD(2) }
}";

fn table(image: &Path) -> Vec<u8> {
    let data = std::fs::read(image).unwrap();
    let loaded = Loaded::load(&data).unwrap();
    let range = loaded.between("__fentry_symbols_start", "__fentry_symbols_stop").unwrap();
    loaded.bytes(&range).unwrap().to_vec()
}

/// Writes what is linked in these tests, and the two scripts.
fn write_inputs(dir: &Path) -> [PathBuf; 2] {
    let [input, engine] = ["input.o", "engine.o"].map(|name| dir.join(name));
    std::fs::write(&input, object_file(&[PLAIN, PADDED])).unwrap();
    // What the fragment gathers, so that its assertion holds.
    let mut stub = object::write::Object::new(
        object::BinaryFormat::Elf,
        object::Architecture::Aarch64,
        object::Endianness::Little,
    );
    let text = stub.add_section(Vec::new(), b".text.fentry_stubs".to_vec(), object::SectionKind::Text);
    stub.append_section_data(text, &[0xc0, 0x03, 0x5f, 0xd6], 4);
    std::fs::write(&engine, stub.write().unwrap()).unwrap();
    std::fs::write(dir.join("fentry.ld"), LINKER_FRAGMENT).unwrap();
    std::fs::write(dir.join("kernel.ld"), SCRIPT).unwrap();
    [input, engine]
}

#[test]
fn a_table_is_filled_in_place_as_a_second_link_has_it() {
    let dir = directory("room");
    let [input, engine] = write_inputs(&dir);
    let object = dir.join("symbols.o");
    for (linker, flavor) in linkers() {
        let link = |name: &str, room: u64, more: &[&Path]| {
            let image = dir.join(name);
            let mut command = Command::new(&linker);
            command.current_dir(&dir).args(flavor).args(["-e", "plain"]);
            command.arg(format!("--defsym=__fentry_symbols_room={room}")).args(["-T", "fentry.ld", "-T", "kernel.ld"]);
            let output = command.args([&input, &engine]).args(more).arg("-o").arg(&image).output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            image
        };
        let image = link("room.elf", 0x1000, &[]);
        assert_says(&examine(&std::fs::read(&image).unwrap()).unwrap(), "linked without a symbol table");
        fill(&image, &Kept::symbols()).unwrap();
        let data = std::fs::read(&image).unwrap();
        assert_says(&examine(&data).unwrap(), "the symbol table has all 2 names");

        // A second link gives the same, at the same place.
        let filled = table(&image);
        assert_eq!(filled.len(), 0x1000 + END_BYTES);
        std::fs::write(&object, table_of(&read_image(&data).unwrap(), None).unwrap()).unwrap();
        let linked = table(&link("linked.elf", 0, &[&object]));
        assert!(filled.starts_with(&linked) && filled[linked.len()..].iter().all(|byte| *byte == 0));
        assert_eq!(Symbols::in_room(&filled).unwrap().len(), 2);

        // Again, as after a change; and by objcopy's copy, which a loader of flat images gets.
        fill(&image, &Kept::symbols()).unwrap();
        assert_eq!(std::fs::read(&image).unwrap(), data);
        if linker.ends_with("aarch64-linux-gnu-ld") {
            let flat = dir.join("flat");
            let copied =
                Command::new("aarch64-linux-gnu-objcopy").args(["-O", "binary"]).args([&image, &flat]).status();
            assert!(copied.unwrap().success());
            let flat = std::fs::read(&flat).unwrap();
            assert!(flat.windows(linked.len()).any(|part| part == linked));
        }

        // Too small: the exact size is told, and suffices; nothing is written meanwhile.
        let small = link("small.elf", 16, &[]);
        let before = std::fs::read(&small).unwrap();
        let error = format!("{:#}", fill(&small, &Kept::symbols()).unwrap_err());
        let needed = (linked.len() - END_BYTES) as u64;
        let room = 16 + END_BYTES;
        let said = format!(
            "has {needed} bytes, and the image has room for {room}: link with --defsym=__fentry_symbols_room={needed}"
        );
        assert!(error.contains(&said), "{error}");
        assert_eq!(std::fs::read(&small).unwrap(), before);
        fill(&link("exact.elf", needed, &[]), &Kept::symbols()).unwrap();

        // What is something else's is never written.
        let others = Kept::new(".text", "__fentry_text_start", "__fentry_stubs_stop");
        let error = format!("{:#}", fill(&image, &others).unwrap_err());
        assert!(error.contains("something else is at"), "{error}");
        assert_eq!(std::fs::read(&image).unwrap(), data);
        let nowhere = Kept::new(".text", "nowhere", "__fentry_stubs_stop");
        assert!(format!("{:#}", fill(&image, &nowhere).unwrap_err()).contains("does not define"));
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

/// The two tables of an image, read where the kernel would find them: what is said of each function's first instruction.
fn both(image: &Path) -> Vec<(String, bool)> {
    let data = std::fs::read(image).unwrap();
    let loaded = Loaded::load(&data).unwrap();
    let table = |kept: &Kept| {
        let range = loaded.between(&kept.start, &kept.stop).unwrap();
        (range.start, loaded.bytes(&range).unwrap().to_vec())
    };
    let ((at, names), (here, rows)) = (table(&Kept::symbols()), table(&Kept::unwind()));
    let (names, rows) = (Symbols::in_room(&names).unwrap(), Rows::in_room(&rows, here).unwrap());
    // As the kernel reckons how far it is from where it was linked: not at all.
    assert_eq!(names.anchor(), Some(at));
    let of = |name: &str, address: u64| {
        assert_eq!(names.lookup_addr(address).map(|found| found.symbol.name), Some(name));
        let row = rows.row(address.into()).unwrap();
        (name.to_owned(), row.cfa == Cfa::Sp(0) && row.return_address == ReturnAddress::Lr)
    };
    let functions = read_image(&data).unwrap().functions;
    let first = functions.first().unwrap().addr;
    assert_eq!((rows.text().start.get(), rows.row((first - 4).into()).is_err()), (first, true));
    functions.iter().filter(|function| function.size > 4).map(|function| of(&function.name, function.addr)).collect()
}

fn examined(image: &Path) -> Report {
    examine(&std::fs::read(image).unwrap()).unwrap()
}

/// Of an image with a table.
fn a_wrong_table_is_a_problem(image: &Path) {
    let data = std::fs::read(image).unwrap();
    assert!(!problems(&examine(&data).unwrap()).iter().any(|problem| problem.contains("unwind")));
    let table = data.windows(5).position(|bytes| bytes == b"funw\x02").unwrap();
    let number = |at: usize| u32::from_le_bytes(data[table + at..][..4].try_into().unwrap()) as usize;
    let (text_len, pieces) = (number(16), number(20));
    let first_row = 40 + 4 * (text_len.div_ceil(1024) + 1) + 3 * pieces;
    // The words that the format's description has there: another CFA, another version, another magic.
    for (at, byte, problem) in [
        (first_row + 2, 2, "the unwind table is of another link: at "),
        (4, 1, "The unwind table has form 1; this crate reads form 2"),
        (0, b'g', "The unwind table starts with"),
    ] {
        let mut damaged = data.clone();
        damaged[table + at] = byte;
        assert_problem(&examine(&damaged).unwrap(), problem, "symbols --unwind IMAGE");
    }
}

#[test]
fn a_kernel_gets_its_names_and_its_unwind_table_at_once() {
    let dir = directory("both");
    let [input, engine] = write_inputs(&dir);
    let object = dir.join("tables.o");
    // Where the script doesn't say, lld puts these elsewhere in the second link, and moves the text by that.
    let dynamic = [".dynsym", ".gnu.hash", ".hash", ".dynstr", ".rela.dyn", ".dynamic"];
    let placed: String = dynamic.iter().map(|name| format!("{name} : {{ *({name}) }}\n")).collect();
    std::fs::write(dir.join("kernel.ld"), SCRIPT.replace(".data :", &format!("{placed}.data :"))).unwrap();
    let expected = [("plain".to_owned(), true), ("padded".to_owned(), true)];
    for (linker, flavor) in linkers() {
        for mode in [&[][..], &["-pie"]] {
            let link = |name: &str, args: &[&str], more: &[&Path]| {
                let image = dir.join(name);
                let mut command = Command::new(&linker);
                command.current_dir(&dir).args(flavor).args(["-e", "plain"]).args(mode).args(args);
                command.args(["-T", "fentry.ld", "-T", "kernel.ld"]).args([&input, &engine]).args(more);
                let output = command.arg("-o").arg(&image).output().unwrap();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                image
            };
            // The names, filled in by the same link, move the unwind table.
            let first = link("first.elf", &[], &[]);
            assert_says(&examined(&first), "The kernel was linked without an unwind table");
            write_object(&first, &object, &Kept::symbols(), Some(&UnwindTable::of_image(&first).unwrap())).unwrap();
            let second = link("second.elf", &[], &[&object]);
            assert_eq!(both(&second), expected);
            assert_says(&examined(&second), "the unwind table is of this link: ");

            let rooms = ["--defsym=__fentry_symbols_room=4K", "--defsym=__fentry_unwind_room=1K"];
            let image = link("rooms.elf", &rooms, &[]);
            let unwind = UnwindTable::of_image(&image).unwrap();
            fill(&image, &Kept::symbols()).unwrap();
            unwind.fill(&image).unwrap();
            assert_eq!(both(&image), expected);
            assert_says(&examined(&image), "the unwind table is of this link: ");
            a_wrong_table_is_a_problem(&image);

            // No room: what is needed is told.
            let error = format!("{:#}", unwind.fill(&first).unwrap_err());
            assert!(error.contains("has room for 8: link with --defsym=__fentry_unwind_room="), "{error}");
        }
    }
    std::fs::remove_dir_all(&dir).unwrap();
}
