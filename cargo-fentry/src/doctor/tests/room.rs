//! Room for the symbol table in a linked image, filled without a second link.

use std::path::{Path, PathBuf};
use std::process::Command;

use fentry::LINKER_FRAGMENT;
use fentry::symbols::Symbols;

use super::{PADDED, PLAIN, assert_says, directory, examine, object_file, rust_lld};
use crate::doctor::loaded::Loaded;
use crate::left_out::leave_out;
use crate::symbols::{Kept, fill, object_file as table_of, read_image};

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

#[test]
fn a_table_is_filled_in_place_as_a_second_link_has_it() {
    let dir = directory("room");
    let (input, engine, object) = (dir.join("input.o"), dir.join("engine.o"), dir.join("symbols.o"));
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
        std::fs::write(&object, table_of(&read_image(&data).unwrap()).unwrap()).unwrap();
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
