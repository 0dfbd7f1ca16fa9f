//! Files that are not what they should be: no ELF, stripped, huge, or with symbols that stand nowhere.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};

use super::heap::most_used;
use super::{
    GONE, GOOD, PADDED, PLAIN, assert_problem, assert_says, diagnose, directory, examine, link, object_file, problems,
    sections, usual,
};
use crate::symbols::{Kept, object_file as table_of, read_image, write_object};

#[test]
fn what_only_looks_like_an_image_is_told_by_its_name() {
    let mut flat = vec![0; 4096];
    flat[..2].copy_from_slice(b"MZ");
    flat[56..60].copy_from_slice(b"ARM\x64");
    let mut zboot = flat[..56].to_vec();
    zboot[4..8].copy_from_slice(b"zimg");
    let files: [(&[u8], &str); 6] = [
        (&flat, "flat Image"),
        (&zboot, "EFI application, with a packed kernel"),
        (&[0x1f, 0x8b, 8, 0], "packed with gzip"),
        (b"\x28\xb5\x2f\xfd\0", "packed with zstd"),
        (b"\0\0\0\x14", "flat binary"),
        (b"", "not an ELF image"),
    ];
    for (file, what) in files {
        let said = format!("{:#}", examine(file).unwrap_err());
        assert!(said.contains(what) && said.contains("vmlinux"), "{said}");
    }
}

#[test]
fn a_stripped_image_is_called_so() {
    let report = diagnose("stripped", &[PLAIN, PADDED], GOOD, &["-s"]);
    assert_problem(&report, "it is stripped", "before strip");
    // Its section still has a name.
    assert_says(&report, "1 callsites of the form: BTI C, NOP NOP");
    assert!(!report.to_string().contains("compile with"), "{report}");
    let dir = directory("no-names");
    let (input, image) = (dir.join("input.o"), dir.join("image"));
    std::fs::write(&input, object_file(&[PLAIN])).unwrap();
    link(&dir, &[input], &sections(GOOD), &["-s"]);
    let refused = write_object(&image, &dir.join("symbols.o"), &Kept::symbols(), None).unwrap_err().to_string();
    std::fs::remove_dir_all(&dir).unwrap();
    assert!(refused.contains("before strip"), "{refused}");
}

#[test]
fn entries_of_discarded_functions_are_told_from_missing_relocations() {
    let report = diagnose("zeros", &[PLAIN, GONE], GOOD, &[]);
    assert_says(&report, "1 of 2 entries of the callsite section are zero");
    assert_says(&report, "the linker discarded their functions (--gc-sections");
    assert_eq!(problems(&report), ["The kernel was linked without a symbol table"]);
    let report = diagnose("all-zeros", &[GONE], GOOD, &[]);
    assert_problem(&report, "all 1 entries of the callsite section are zero", "KEEP the section");
}

#[test]
fn symbols_that_stand_around_nothing_end_the_search_at_once() {
    let absurd = [("0", "0xfffffffffffffff8"), ("0x40080000", "0x7fffffffffff"), ("0x40080000", "0x40080000 - 8")];
    for (start, stop) in absurd {
        let body = GOOD
            .replace("__fentry_callsites_start = .;", &format!("__fentry_callsites_start = {start};"))
            .replace("__fentry_callsites_stop = .;", &format!("__fentry_callsites_stop = {stop};"));
        let started = Instant::now();
        let report = diagnose("absurd", &[PLAIN], &body, &[]);
        assert!(started.elapsed() < Duration::from_secs(60), "{start} to {stop}");
        assert!(problems(&report).iter().any(|what| what.contains("callsite")), "{report}");
    }
}

#[test]
fn a_section_without_end_has_no_functions() {
    let dir = directory("endless");
    let input = dir.join("input.o");
    std::fs::write(&input, object_file(&[PLAIN])).unwrap();
    let mut image = link(&dir, &[input], &sections(GOOD), &[]);
    std::fs::remove_dir_all(&dir).unwrap();
    let table = u64::from_le_bytes(image[40..48].try_into().unwrap()) as usize;
    let count = usize::from(u16::from_le_bytes(image[60..62].try_into().unwrap()));
    // What is loaded becomes NOBITS, so that no other rule refuses what the file doesn't have.
    for header in (0..count).map(|index| table + 64 * index) {
        if image[header + 8] & 2 == 0 {
            continue;
        }
        image[header + 4] = 8;
        image[header + 32..header + 40].copy_from_slice(&u64::MAX.to_le_bytes());
    }
    assert_eq!(read_image(&image).unwrap().functions, []);
    assert_says(&examine(&image).unwrap(), "the callsite section is kept: 1 entries");
}

/// A segment of 2 GiB, nearly all of it a hole of the file, and callsites from one end of it to the other.
#[test]
fn a_sparse_file_of_gigabytes_costs_what_is_in_it() {
    const BYTES: u64 = 2 << 30;
    let dir = directory("sparse");
    let (input, path) = (dir.join("input.o"), dir.join("image"));
    std::fs::write(&input, object_file(&[PLAIN, PADDED])).unwrap();
    let body = GOOD.replace("__fentry_callsites_stop = .;", "__fentry_callsites_stop = . + 2047M;");
    let image = link(&dir, &[input], &sections(&body), &[]);
    let segments = u64::from_le_bytes(image[32..40].try_into().unwrap());
    let count = u64::from(u16::from_le_bytes(image[56..58].try_into().unwrap()));
    let of = |at: u64| u64::from_le_bytes(image[at as usize..at as usize + 8].try_into().unwrap());
    // The writable one: its flags are 6.
    let at = (0..count).map(|index| segments + 56 * index).find(|at| of(*at) == 1 | 6 << 32).unwrap();
    let file = OpenOptions::new().write(true).open(&path).unwrap();
    file.set_len(of(at + 8) + BYTES).unwrap();
    file.write_all_at(&[BYTES.to_le_bytes(), BYTES.to_le_bytes()].concat(), at + 32).unwrap();
    drop(file);

    let started = Instant::now();
    let look = || {
        let mapped = crate::image::map(&path).unwrap();
        (examine(&mapped).unwrap(), read_image(&mapped).unwrap().functions.len())
    };
    let ((report, functions), bytes) = most_used(look);
    std::fs::remove_dir_all(&dir).unwrap();
    assert_says(&report, "1 callsites of the form: BTI C, NOP NOP");
    assert_says(&report, "of 268304386 entries of the callsite section are zero");
    assert_eq!(functions, 2);
    assert!(bytes < 1 << 20, "{bytes} bytes");
    assert!(started.elapsed() < Duration::from_secs(120), "{:?}", started.elapsed());
}

#[test]
fn a_boot_stub_far_below_is_left_out_of_the_symbol_table_and_named() {
    let dir = directory("stub");
    let (stub, kernel, table) = (dir.join("stub.o"), dir.join("kernel.o"), dir.join("symbols.o"));
    std::fs::write(&stub, object_file(&[("boot", PLAIN.1, None), ("enter", PLAIN.1, None)])).unwrap();
    std::fs::write(&kernel, object_file(&[PLAIN, PADDED, ("third", PLAIN.1, Some(0))])).unwrap();
    let kernel_sections =
        GOOD.replace("*(.text .text.*) }", "*kernel.o(.text) } :text").replace("*(.data) }", "*(.data) } :data");
    let script = format!(
        "PHDRS {{ boot PT_LOAD FLAGS(5); text PT_LOAD FLAGS(5); data PT_LOAD FLAGS(6); }}
         SECTIONS {{ . = 0x40080000; .boot : {{ *stub.o(.text) }} :boot . = 0xffff800008000000; {} }}",
        kernel_sections
            .replace(".fentry.callsites : ALIGN(4096) {", ".data : { *(.data) } :data .fentry.callsites : {")
    );
    let mut inputs = vec![stub, kernel];
    let first = link(&dir, &inputs, &script, &[]);
    let contents = read_image(&first).unwrap();
    assert_eq!(
        contents.functions.iter().map(|function| &*function.name).collect::<Vec<_>>(),
        ["plain", "padded", "third"]
    );
    File::create(&table).unwrap().write_all(&table_of(&contents, None).unwrap()).unwrap();
    inputs.push(table);
    let report = examine(&link(&dir, &inputs, &script, &[])).unwrap();
    std::fs::remove_dir_all(&dir).unwrap();
    assert_says(&report, "2 functions of the section .boot are left out of the symbol table: at 0x40080000");
    assert_says(&report, "the symbol table has all 3 names");
}

#[test]
fn the_symbol_table_s_section_can_have_another_name() {
    let dir = directory("renamed");
    let (input, image, output) = (dir.join("input.o"), dir.join("image"), dir.join("symbols.o"));
    std::fs::write(&input, object_file(&[PLAIN])).unwrap();
    link(&dir, &[input], &sections(&GOOD.replace("__fentry_symbols_st", "table_st")), &[]);
    write_object(&image, &output, &Kept::new(".names", "table_start", "table_stop"), None).unwrap();
    let object = std::fs::read(&output).unwrap();
    let anchored = read_image(&std::fs::read(&image).unwrap()).unwrap().anchor;
    std::fs::remove_dir_all(&dir).unwrap();
    assert_eq!(anchored, None, "the usual symbols are not there");
    let object = object::File::parse(&*object).unwrap();
    let section = object::Object::section_by_name(&object, ".names").unwrap();
    let table = object::ObjectSection::data(&section).unwrap();
    // The anchor is the third field of the table.
    assert_ne!(table[16..24], [0; 8]);
    assert_eq!(usual().section, "__patchable_function_entries");
}
