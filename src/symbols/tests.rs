extern crate std;

use std::string::{String, ToString};
use std::vec::Vec;

use super::table::{BASE_AT, COUNT_AT, HEADER_LEN, SUM_AT, VARIANT, VERSION, VERSION_AT, checksum};
use super::*;

fn function(name: &str, addr: u64, size: u64) -> Function {
    Function { name: name.into(), addr, size, convention: Convention::Base }
}

fn sample_functions() -> [Function; 5] {
    [
        function("core::fmt::write", 0x4000_1000, 0x100),
        function("main", 0x4000_0000, 0x40),
        function("main_alias", 0x4000_0000, 0x40),
        function("drop_in_place::<str>", 0x4000_1100, 0x10),
        function("drop_in_place::<str>", 0x4000_0040, 0x10),
    ]
}

fn sample() -> Vec<u8> {
    encode(&sample_functions(), 0x4000_8000).unwrap()
}

#[test]
fn an_address_is_found_from_its_function_s_first_to_its_last_byte() {
    let bytes = sample();
    let symbols = Symbols::parse(&bytes).unwrap();
    assert_eq!(symbols.lookup_addr(0x4000_0fff), None);
    for offset in [0, 4, 0xff] {
        let location = symbols.lookup_addr(0x4000_1000 + offset).unwrap();
        assert_eq!((location.symbol.name, location.offset), ("core::fmt::write", offset));
    }
    assert_eq!(symbols.lookup_addr(0x4000_1100).unwrap().symbol.name, "drop_in_place::<str>");
    assert_eq!(symbols.lookup_addr(0x4000_1110), None);
    assert_eq!(symbols.lookup_addr(0), None);
    assert_eq!(symbols.lookup_addr(u64::MAX), None);
}

#[test]
fn of_two_names_for_one_address_the_first_is_preferred_and_both_are_found() {
    let bytes = sample();
    let symbols = Symbols::parse(&bytes).unwrap();
    assert_eq!(symbols.lookup_addr(0x4000_0008).unwrap().symbol.name, "main");
    for name in ["main", "main_alias"] {
        assert_eq!(symbols.lookup_name(name).map(|s| s.addr).collect::<Vec<_>>(), [0x4000_0000]);
    }
}

#[test]
fn a_name_finds_all_its_functions_and_no_other() {
    let bytes = sample();
    let symbols = Symbols::parse(&bytes).unwrap();
    let found: Vec<u64> = symbols.lookup_name("drop_in_place::<str>").map(|s| s.addr).collect();
    assert_eq!(found, [0x4000_0040, 0x4000_1100]);
    for unknown in ["", "mai", "main2", "zzz"] {
        assert_eq!(symbols.lookup_name(unknown).count(), 0);
    }
}

#[test]
fn functions_come_in_the_order_of_addresses() {
    let bytes = sample();
    let symbols = Symbols::parse(&bytes).unwrap();
    assert_eq!(symbols.len(), 5);
    assert_eq!(symbols.iter().len(), 5);
    let mut behind_two = symbols.iter();
    assert!(behind_two.by_ref().take(2).count() == 2 && behind_two.len() == 3);
    assert!(symbols.iter().is_sorted_by_key(|symbol| symbol.addr));
}

#[test]
fn a_kernel_that_runs_elsewhere_sees_its_addresses_there() {
    let bytes = sample();
    for slide in [0x1000_0000, 0_u64.wrapping_sub(0x1000_0000)] {
        let symbols = Symbols::parse(&bytes).unwrap().relocated(slide);
        let addr = 0x4000_1010_u64.wrapping_add(slide);
        assert_eq!(symbols.display(addr).to_string(), "core::fmt::write+0x10/0x100");
        assert_eq!(symbols.lookup_name("main").next().unwrap().addr, 0x4000_0000_u64.wrapping_add(slide));
    }
}

#[test]
fn a_variant_convention_is_noted_beside_the_size_and_found_by_the_function_s_address() {
    let mut functions: Vec<Function> = sample_functions().into();
    assert!(!Symbols::parse(&sample()).unwrap().has_variants());
    functions[2].convention = Convention::Variant;
    let bytes = encode(&functions, 0).unwrap();
    let symbols = Symbols::parse(&bytes).unwrap().relocated(0x1000);
    assert!(symbols.has_variants());
    // It is that of a second name of `main`.
    for (addr, expected) in [(0x4000_1000, true), (0x4000_1004, false), (0x4000_2000, false), (0x4000_0ffc, false)] {
        assert_eq!(symbols.is_variant(addr), expected, "{addr:#x}");
    }
    let conventions = symbols.iter().map(|symbol| (symbol.name, symbol.size, symbol.convention == Convention::Variant));
    let marked: Vec<_> = conventions.filter(|(.., is_variant)| *is_variant).collect();
    assert_eq!(marked, [("main_alias", 0x40, true)]);
    assert_eq!(symbols.cursor().names_at(0x4000_1000).collect::<Vec<_>>(), ["main", "main_alias"]);
}

#[test]
fn st_other_says_the_convention_beside_the_visibility() {
    for visibility in 0..4 {
        assert_eq!(Convention::of_st_other(visibility), Convention::Base);
        assert_eq!(Convention::of_st_other(0x80 | visibility), Convention::Variant);
    }
}

#[test]
fn an_unknown_address_is_shown_as_a_number() {
    let bytes = sample();
    assert_eq!(Symbols::parse(&bytes).unwrap().display(0x1234).to_string(), "0x1234");
}

#[test]
fn an_empty_table_finds_nothing() {
    let bytes = encode(&[], 0).unwrap();
    let symbols = Symbols::parse(&bytes).unwrap();
    assert!(symbols.is_empty());
    assert_eq!((symbols.lookup_addr(0), symbols.lookup_name("x").next(), symbols.anchor()), (None, None, None));
}

#[test]
fn functions_too_far_apart_are_refused() {
    let far = [function("near", 0, 4), function("far", 1 << 32, 4)];
    assert_eq!(encode(&far, 0), Err(SymbolsEncodeError::TooFar { name: String::from("far"), addr: 1 << 32 }));
    let large = [function("most", 0, (1 << 31) - 1), function("large", 4, 1 << 31)];
    assert!(encode(&large[..1], 0).is_ok());
    assert_eq!(encode(&large, 0), Err(SymbolsEncodeError::TooFar { name: String::from("large"), addr: 4 }));
}

fn with_u32(at: usize, value: u32) -> Vec<u8> {
    let mut bytes = sample();
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    summed(bytes)
}

/// With the checksum of what it is now.
fn summed(mut bytes: Vec<u8>) -> Vec<u8> {
    let sum = checksum(&bytes);
    bytes[SUM_AT..SUM_AT + 8].copy_from_slice(&sum.to_le_bytes());
    bytes
}

#[test]
fn every_damage_has_its_error() {
    let error = |bytes: &[u8]| Symbols::parse(bytes).unwrap_err();
    let len = sample().len() as u64;
    let (sizes, name_starts, by_name) = (HEADER_LEN + 20, HEADER_LEN + 40, HEADER_LEN + 60);

    assert_eq!(error(&[]), SymbolsError::Length { expected: HEADER_LEN as u64, found: 0 });
    assert_eq!(error(&with_u32(0, 0x6c6f_6f66)), SymbolsError::Magic { found: *b"fool" });
    assert_eq!(error(&with_u32(VERSION_AT, VERSION + 1)), SymbolsError::Version { found: VERSION + 1 });
    assert_eq!(error(&with_u32(COUNT_AT, 6)), SymbolsError::Length { expected: len + 16, found: len });
    assert_eq!(
        error(&with_u32(COUNT_AT, u32::MAX)),
        SymbolsError::Length { expected: len + (u64::from(u32::MAX) - 5) * 16, found: len }
    );
    assert_eq!(error(&with_u32(HEADER_LEN + 8, 0xffff)), SymbolsError::AddressOrder { index: 3 });
    assert_eq!(error(&with_u32(name_starts + 4, 0xffff)), SymbolsError::Name { index: 0 });
    assert_eq!(error(&with_u32(by_name, 5)), SymbolsError::NameIndex { index: 0 });
    let mut swapped = sample();
    swapped[by_name..by_name + 8].rotate_left(4);
    assert!(matches!(error(&swapped), SymbolsError::Checksum { .. }));

    let mut high = with_u32(sizes, u32::MAX >> 1);
    high[BASE_AT..BASE_AT + 8].copy_from_slice(&(u64::MAX - 0x2000).to_le_bytes());
    assert_eq!(error(&high), SymbolsError::AddressRange { index: 0 });

    let mut not_utf8 = sample();
    *not_utf8.last_mut().unwrap() = 0xff;
    assert_eq!(error(&not_utf8), SymbolsError::Name { index: 4 });
    for damage in [SymbolsError::Absent, error(&[]), error(&not_utf8)] {
        assert!(damage.to_string().starts_with("The "));
    }
}

/// Where kernels are: the last addresses that there are.
#[test]
fn a_function_may_end_where_addresses_do() {
    let convention = Convention::Variant;
    let last = Function { convention, ..function("last", u64::MAX - 0xff, 0xff) };
    let bytes = encode(&[function("first", u64::MAX - 0x1fff, 0x100), last], 0).unwrap();
    let symbols = Symbols::parse(&bytes).unwrap();
    let found = symbols.lookup_addr(u64::MAX - 1).unwrap();
    assert_eq!((found.symbol.name, found.symbol.size, found.offset), ("last", 0xff, 0xfe));
    assert!(symbols.is_variant(u64::MAX - 0xff) && !symbols.is_variant(u64::MAX - 0x1fff));
    // One byte more, and it would go on at address 0.
    let mut beyond = bytes.clone();
    let size = HEADER_LEN + 2 * 4 + 4;
    beyond[size..size + 4].copy_from_slice(&(VARIANT | 0x100).to_le_bytes());
    assert_eq!(Symbols::parse(&summed(beyond)).unwrap_err(), SymbolsError::AddressRange { index: 1 });
}

#[test]
fn every_damage_of_one_bit_and_every_truncation_is_seen() {
    let whole = sample();
    for at in 0..whole.len() {
        assert!(Symbols::parse(&whole[..at]).is_err());
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            assert!(Symbols::parse(&bytes).is_err(), "bit {bit} of byte {at}");
        }
    }
}

#[test]
fn a_damaged_table_whose_checksum_is_right_panics_nowhere() {
    let whole = sample();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut bytes = whole.clone();
            bytes[at] ^= 1 << bit;
            let bytes = summed(bytes);
            let Ok(symbols) = Symbols::parse(&bytes) else { continue };
            let mut cursor = symbols.cursor();
            for symbol in symbols.iter() {
                // What is found is right; only names out of order may not be found.
                assert!(symbols.lookup_name(symbol.name).all(|found| found.name == symbol.name));
                assert!(symbols.lookup_addr(symbol.addr).is_none_or(|found| found.offset == 0));
                let names: Vec<&str> = cursor.names_at(symbol.addr).collect();
                assert_eq!(names, symbols.names_at(symbol.addr).collect::<Vec<_>>());
                assert!(names.contains(&symbol.name));
            }
        }
    }
}

#[test]
fn the_checksum_is_the_same_wherever_the_table_lies() {
    let whole = sample();
    for start in 0..8 {
        let mut room = std::vec![0_u64; whole.len().div_ceil(8) + 1];
        // SAFETY: the numbers' own bytes.
        let (_, bytes, _) = unsafe { room.align_to_mut::<u8>() };
        bytes[start..start + whole.len()].copy_from_slice(&whole);
        assert!(Symbols::parse(&bytes[start..start + whole.len()]).is_ok(), "at {start}");
    }
}

#[test]
fn a_cursor_finds_what_a_search_finds() {
    // Gaps between functions, groups at one address, and a stretch longer than a cursor steps through.
    let functions: Vec<Function> = (0..200)
        .map(|n| function(&std::format!("f{n}"), 0x4000_0000 + n / 3 * 0x40 + n / 90 * 0x1000, n % 5 * n % 4 * 8))
        .collect();
    let bytes = encode(&functions, 0).unwrap();
    let symbols = Symbols::parse(&bytes).unwrap().relocated(0x1000);
    let ends = [0, 0x1000, 0x4000_0fff, u64::MAX, 0xfff];
    // Miri takes thousands of times as long.
    let steps: &[u64] = if cfg!(miri) { &[0x134, 0x400, 0x1404] } else { &[1, 4, 0x34, 0x400, 0x1404] };
    for &step in steps {
        let ascending = (0x4000_0f00..0x4000_5000).step_by(step as usize);
        let and_back = ascending.clone().step_by(7).chain(ends).chain([0x4000_1008, 0x4000_1000, 0x4000_3010]);
        let (mut cursor, mut functions) = (symbols.cursor(), symbols.cursor());
        for addr in ascending.chain(and_back) {
            // The plain definition.
            let here = || symbols.iter().filter(|symbol| symbol.addr == addr);
            let expected: Vec<&str> = here().map(|symbol| symbol.name).collect();
            assert_eq!(cursor.names_at(addr).collect::<Vec<_>>(), expected, "{addr:#x} by {step:#x}");
            assert_eq!(symbols.names_at(addr).collect::<Vec<_>>(), expected, "{addr:#x}");
            let is_function = here().any(|symbol| symbol.size != 0);
            assert_eq!(functions.is_at_function(addr), is_function, "{addr:#x} by {step:#x}");
        }
    }
}

#[test]
fn a_label_has_its_own_address_only_and_does_not_hide_the_function_it_is_in() {
    let functions = [
        function("start", 0x1000, 0),
        function("f", 0x1004, 0x40),
        function("inside", 0x1010, 0),
        function("inside too", 0x1020, 0),
        function("alias", 0x1004, 0x10),
        function("end", 0x1044, 0),
        function("inner", 0x1024, 8),
    ];
    let bytes = encode(&functions, 0).unwrap();
    let symbols = Symbols::parse(&bytes).unwrap();
    for (addr, expected) in [
        (0x1000, "start+0x0/0x0"),
        (0x1001, "0x1001"),
        (0x1004, "f+0x0/0x40"),
        (0x1010, "inside+0x0/0x0"),
        (0x1014, "f+0x10/0x40"),
        (0x1028, "inner+0x4/0x8"),
        (0x102c, "f+0x28/0x40"),
        (0x1043, "f+0x3f/0x40"),
        (0x1044, "end+0x0/0x0"),
        (0x1045, "0x1045"),
    ] {
        assert_eq!(symbols.display(addr).to_string(), expected);
    }
    assert_eq!(symbols.lookup_name("inside").map(|found| found.addr).collect::<Vec<_>>(), [0x1010]);
    let mut cursor = symbols.cursor();
    let functions = (0x1000..0x1050).filter(|addr| cursor.is_at_function(*addr));
    assert_eq!(functions.collect::<Vec<_>>(), [0x1004, 0x1024]);
}

#[test]
fn a_table_in_a_room_ends_where_only_zeros_follow() {
    let mut room = sample();
    let len = room.len();
    room.resize(len + 40, 0);
    assert_eq!(Symbols::in_room(&room).unwrap().len(), sample_functions().len());
    assert_eq!(Symbols::in_room(&room[..len]).unwrap().len(), sample_functions().len());
    // Two tables, as of two objects that were linked, are none.
    room[len + 39] = 1;
    let error = Symbols::in_room(&room).unwrap_err();
    assert_eq!(error, SymbolsError::Length { expected: len as u64, found: len as u64 + 40 });
    assert_eq!(
        Symbols::in_room(&room[..len - 1]).unwrap_err(),
        SymbolsError::Length { expected: len as u64, found: len as u64 - 1 }
    );
    for empty in [&[][..], &[0; 100]] {
        assert_eq!(Symbols::in_room(empty).unwrap_err(), SymbolsError::Absent);
    }
    assert!(matches!(Symbols::in_room(b"else"), Err(SymbolsError::Length { .. })));
}
