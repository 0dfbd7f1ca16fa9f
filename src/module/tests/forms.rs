//! What an object may say that the loader does not do: refused by name, and never passed over.

use super::fixture::{ADRP_X0, Host, KERNEL, Maker, sample};
use crate::module::{LoadError, Placement, SectionCause};
use object::write::SymbolSection;
use object::{SectionFlags, SectionKind, SymbolFlags, SymbolKind, elf};
use std::string::ToString;
use std::vec::Vec;

const FAR: u64 = KERNEL + 0x1000_0000;

#[test]
fn sections_that_can_not_be_placed_are_refused() {
    let host = Host::new(FAR);
    let error = |sh_type: elf::SectionType, sh_flags: elf::SectionFlags, alignment: u64| {
        let mut maker = Maker::new();
        let section = maker.section(".odd", SectionKind::Data, sh_flags);
        maker.object.section_mut(section).flags = SectionFlags::Elf { sh_type, sh_flags };
        maker.object.append_section_data(section, &[0; 16], alignment);
        host.error_of(&maker.write())
    };
    let cause = |error| match error {
        LoadError::Section { cause, name, .. } if name == ".odd" => cause,
        other => panic!("{other}"),
    };
    let (alloc, write, run) = (elf::SHF_ALLOC, elf::SHF_WRITE, elf::SHF_EXECINSTR);
    assert_eq!(cause(error(elf::SHT_PROGBITS, alloc | write | run, 8)), SectionCause::WritableText);
    assert_eq!(cause(error(elf::SHT_INIT_ARRAY, alloc | write, 8)), SectionCause::NeverCalled);
    assert_eq!(cause(error(elf::SHT_HASH, alloc, 8)), SectionCause::Type(elf::SHT_HASH.0));
    assert_eq!(cause(error(elf::SHT_PROGBITS, alloc, 8192)), SectionCause::Alignment(8192));
    assert_eq!(cause(error(elf::SHT_PROGBITS, alloc | write | elf::SHF_TLS, 8)), SectionCause::ThreadLocal);
    let said = error(elf::SHT_PROGBITS, alloc, 8192).to_string();
    assert_eq!(said, "The section 1 (.odd) can't be placed: its alignment 0x2000 is no power of two up to a page");
    for (cause, said) in [
        (SectionCause::WritableText, "it wants to be writable and executable"),
        (SectionCause::ImplicitAddends, "its relocations have no addends"),
        (SectionCause::ThreadLocal, "it is thread-local storage, which a kernel does not have"),
        (SectionCause::Type(14), "its type 0xe is not one that can be placed"),
        (SectionCause::Length(12), "its length 0xc is no whole number of entries"),
    ] {
        assert_eq!(cause.to_string(), said);
    }
}

#[test]
fn a_section_that_changes_what_is_loaded_is_not_passed_over() {
    let host = Host::new(FAR);
    let file = |name: &str, kind: elf::SectionType, flags: elf::SectionFlags, info: u32, bytes: usize| {
        let mut maker = Maker::new();
        let text = maker.text();
        maker.function(text, "f", &[]);
        let section = maker.object.add_section(Vec::new(), name.into(), SectionKind::Other);
        maker.object.section_mut(section).flags = SectionFlags::Elf { sh_type: kind, sh_flags: flags };
        maker.object.append_section_data(section, &std::vec![1; bytes], 8);
        let mut file = maker.write();
        // The writer leaves sh_info at 0. Sections: none, .text, the entries, this one.
        let headers = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
        let count = u16::from_le_bytes(file[60..62].try_into().unwrap()).into();
        let is_it = |index: &usize| file[headers + 64 * index + 4..][..4] == kind.0.to_le_bytes();
        let index = (1..count).rfind(is_it).unwrap();
        file[headers + 64 * index + 44..][..4].copy_from_slice(&info.to_le_bytes());
        file
    };
    let (none, alloc, write, run) = (elf::SectionFlags(0), elf::SHF_ALLOC, elf::SHF_WRITE, elf::SHF_EXECINSTR);
    let (loos, data) = (elf::SectionType(elf::SHT_LOOS + 0x1234), elf::SHT_PROGBITS);
    let cause = |name: &str, kind, flags, info| match host.error_of(&file(name, kind, flags, info, 16)) {
        LoadError::Section { name: found, cause, .. } if found == name || found == ".text" => (found == name, cause),
        other => panic!("{other}"),
    };
    for name in [".ctors", ".ctors.65435", ".dtors", ".init_array.5", ".fini_array", ".preinit_array"] {
        assert_eq!(cause(name, data, alloc | write, 0), (true, SectionCause::NeverCalled), "{name}");
    }
    for (name, kind) in [(".arr", elf::SHT_FINI_ARRAY), (".arr", elf::SHT_PREINIT_ARRAY)] {
        assert_eq!(cause(name, kind, alloc | write, 0), (true, SectionCause::NeverCalled), "{kind:?}");
    }
    for name in [".init", ".fini"] {
        assert_eq!(cause(name, data, alloc | run, 0), (true, SectionCause::NeverCalled), "{name}");
    }
    assert_eq!(cause(".z", data, alloc | elf::SHF_COMPRESSED, 0), (true, SectionCause::Compressed));
    let odd = elf::SectionFlags(1 << 25);
    assert_eq!(cause(".z", data, alloc | odd, 0), (true, SectionCause::Flags(1 << 25)));
    for kind in [elf::SHT_CREL, elf::SHT_RELR, elf::SHT_ANDROID_RELA] {
        assert_eq!(cause(".rel", kind, none, 1), (true, SectionCause::Relocations(kind.0)));
    }
    // Not one of the generic ABI's types; nothing that may be left alone; about text.
    let unknown = elf::SectionType(0x4000_0099);
    assert_eq!(cause(".x", unknown, none, 0), (true, SectionCause::Type(unknown.0)));
    assert_eq!(cause(".x", loos, elf::SHF_OS_NONCONFORMING, 0), (true, SectionCause::Type(loos.0)));
    assert_eq!(cause(".x", loos, elf::SHF_INFO_LINK, 1), (false, SectionCause::Relocations(loos.0)));

    // Of the bits that a section can have, those of the generic ABI and of GNU and Arm (`SHF_GNU_RETAIN`, `SHF_EXCLUDE`,
    // `SHF_ARM_PURECODE`) ask for nothing that the loader does not do.
    let allowed = 0b110_1111_0111 | 1 << 21 | 1 << 29 | 1 << 31;
    let compressed = u32::try_from(elf::SHF_COMPRESSED.0).unwrap();
    for bit in (0..32).map(|bit| 1 << bit).filter(|bit| *bit != compressed) {
        let mut modules = host.modules();
        let flags = alloc | elf::SectionFlags(bit.into());
        let file = file(".z", data, flags, 0, 16);
        // SAFETY: nothing of a module is executed here.
        let flags_refused = match unsafe { modules.load("m", &file, Placement::Anywhere) } {
            Err(LoadError::Section { cause: SectionCause::Flags(flags), .. }) => flags,
            _ => 0,
        };
        assert_eq!(flags_refused, if allowed & bit == 0 { bit.into() } else { 0 }, "{bit:#x}");
    }

    // What asks for nothing, and what is empty, is no reason to refuse a module.
    let harmless = [
        (".llvm_addrsig", elf::SectionType(0x6fff_4c03), none, 0),
        (".debug_x", data, elf::SHF_COMPRESSED, 16),
        (".ctors", data, alloc | write, 0),
        (".init_array", elf::SHT_INIT_ARRAY, alloc | write, 0),
        (".ctorsx", data, alloc | write, 16),
    ];
    for (name, kind, flags, bytes) in harmless {
        let mut modules = host.modules();
        let file = file(name, kind, flags, 0, bytes);
        // SAFETY: nothing of a module is executed here.
        let loaded = unsafe { modules.load("m", &file, Placement::Anywhere) };
        // SAFETY: as above.
        unsafe { modules.unload(loaded.unwrap_or_else(|error| panic!("{name}: {error}"))) }.unwrap();
    }
}

#[test]
fn an_indirect_function_is_refused_by_name() {
    let mut maker = Maker::new();
    let text = maker.text();
    let (function, _) = maker.function(text, "memcpy_best", &[]);
    let st_info = elf::SymbolInfo::new(elf::STB_GLOBAL, elf::STT_GNU_IFUNC);
    maker.object.symbol_mut(function).flags = SymbolFlags::Elf { st_info, st_other: elf::SymbolOther(0) };
    let error = Host::new(FAR).error_of(&maker.write());
    assert!(matches!(&error, LoadError::IndirectFunction { name, .. } if name == "memcpy_best"), "{error}");
    assert!(error.to_string().contains("memcpy_best"), "{error}");
}

#[test]
fn relocations_that_are_not_known_name_symbol_and_section() {
    let host = Host::new(FAR);
    let error = |number, symbol: &str| {
        let mut maker = Maker::new();
        let text = maker.text();
        maker.function(text, "f", &[ADRP_X0]);
        let symbol = maker.undefined(symbol);
        maker.relocate(text, 8, number, symbol, 0);
        host.error_of(&maker.write()).to_string()
    };
    // R_AARCH64_TLSIE_ADR_GOTTPREL_PAGE21 and R_AARCH64_TLSDESC_ADR_PAGE21, of a symbol that nobody exports at that.
    for number in [541, 562] {
        let said = error(number, "errno");
        assert_eq!(said, "The module uses thread-local storage (symbol \"errno\") at 0x8 of section .text");
    }
    let said = error(308, "printk");
    assert_eq!(said, "The relocation at 0x8 of section .text (symbol \"printk\") has the unknown kind 308");
}

#[test]
fn a_stripped_object_has_no_symbol_table() {
    let mut file = sample();
    let headers = u64::from_le_bytes(file[40..48].try_into().unwrap()) as usize;
    let count = u16::from_le_bytes(file[60..62].try_into().unwrap()) as usize;
    for header in (0..count).map(|index| headers + 64 * index) {
        // Symbols and relocations become nothing.
        if [2, 4].contains(&file[header + 4]) {
            file[header + 4] = 0;
        }
    }
    let error = Host::new(FAR).error_of(&file);
    assert_eq!(error, LoadError::NoSymbolTable);
    assert!(error.to_string().contains("no symbol table"), "{error}");
}

#[test]
fn an_init_function_of_no_length_is_not_called() {
    let mut maker = Maker::new();
    let text = maker.text();
    maker.symbol("fentry_module_init", SymbolKind::Text, SymbolSection::Section(text), 0);
    let error = Host::new(FAR).error_of(&maker.write());
    assert!(matches!(&error, LoadError::SymbolPlace { name, .. } if name == "fentry_module_init"), "{error}");
}
