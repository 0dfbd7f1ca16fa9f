use super::{Destination, InsnId, Landing, Oddity, Program};
use crate::image::tests::file::{File, TEXT};
use crate::image::{Image, PLACED_AT};

const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;
const BTI_C: u32 = 0xd503_245f;
const PACIASP: u32 = 0xd503_233f;

fn insns(range: std::ops::Range<u32>) -> Vec<InsnId> {
    range.map(InsnId::new).collect()
}

#[test]
fn an_instruction_is_found_by_address_and_by_section_and_offset() {
    let file = File::linked(&[NOP, RET]).function("f", 0, 2).write();
    let program = Program::new(Image::parse(&file).unwrap());
    let second = program.at((TEXT + 4).into()).unwrap();
    assert_eq!((program.word(second), program.address(second).get()), (RET, TEXT + 4));
    assert_eq!(
        (program.at((TEXT + 8).into()), program.at((TEXT + 2).into()), program.at(0.into())),
        (None, None, None)
    );
    let text = program.section_named(".text").unwrap();
    assert_eq!(program.at_offset(text, 4), Some(second));
    assert_eq!((program.at_offset(text, 8), program.section_of(second)), (None, text));
    assert_eq!((program.last_of(text), program.place(second).to_string()), (Some(second), "f+0x4 (0x1004)".to_owned()));

    let file = File::object(&[NOP, RET]).function("f", 1, 2).write();
    let program = Program::new(Image::parse(&file).unwrap());
    let second = program.at_offset(program.section_named(".text").unwrap(), 4).unwrap();
    assert_eq!(program.address(second).get(), PLACED_AT + 4);
    assert_eq!(program.place(second).to_string(), "f+0x0 (.text+0x4)");
}

/// f, its cold part, and g between them; a literal, 4, in f.
fn with_a_cold_part() -> Vec<u8> {
    // b.eq f.cold; nop; ret; literal; g: ret; f.cold: nop; b f+4
    let words = [0x5400_00a0, NOP, RET, 4, RET, NOP, 0x17ff_fffb];
    File::linked(&words)
        .function("f", 0, 4)
        .function("g", 4, 5)
        .function("f.cold", 5, 7)
        .function("g_alias", 4, 5)
        .symbol("$x", 0, 0, 0)
        .symbol("$d.1", 0, 12, 0)
        .symbol("$x.2", 0, 16, 0)
        .write()
}

#[test]
fn a_function_goes_on_in_its_cold_part() {
    let file = with_a_cold_part();
    let program = Program::new(Image::parse(&file).unwrap());
    let f = program.function_named("f").unwrap();
    let cold = program.function_named("f.cold").unwrap();
    assert_eq!((program.parent(cold), program.function(f).parts()), (f, &[cold][..]));
    assert_eq!(program.functions().map(|function| program.name(function)).collect::<Vec<_>>(), ["f", "g"]);
    let all = [insns(0..3), insns(5..7)].concat();
    assert_eq!(program.of_function(f).collect::<Vec<_>>(), all);
    assert_eq!(program.of_function(f).rev().collect::<Vec<_>>(), all.iter().rev().copied().collect::<Vec<_>>());
    let id = InsnId::new;
    assert_eq!((program.next_in_function(id(2)), program.prev_in_function(id(5))), (Some(id(5)), Some(id(2))));
    assert_eq!((program.next_in_function(id(6)), program.prev_in_function(id(0))), (None, None));
    assert_eq!((program.next_in_function(id(4)), program.prev_in_function(id(4))), (None, None));
    assert!(program.is_same_function(id(0), id(6)) && !program.is_same_function(id(0), id(4)));
    // What is called stands for itself.
    let called =
        File::linked(&[0x5400_0060, 0x9400_0002, RET, RET]).function("f", 0, 3).function("f.cold", 3, 4).write();
    let program = Program::new(Image::parse(&called).unwrap());
    assert_eq!(program.functions().count(), 2);
    // The outliner's piece belongs to the only function that jumps there, and to nobody where two do.
    let outlined = File::linked(&[0x1400_0001, RET]).function("f", 0, 1).function("OUTLINED_FUNCTION_0", 1, 2);
    let program_of = |file: &[u8]| Program::new(Image::parse(file).unwrap()).functions().count();
    assert_eq!(program_of(&outlined.write()), 1);
    let shared = File::linked(&[0x1400_0002, 0x1400_0001, RET]).function("f", 0, 1).function("g", 1, 2);
    assert_eq!(program_of(&shared.function("OUTLINED_FUNCTION_0", 2, 3).write()), 3);
}

#[test]
fn what_a_linker_put_elsewhere_for_an_erratum_is_part_of_the_function() {
    // veneer: nop; b f.cold+4; f: b.eq f.cold; ret; f.cold: b veneer; b f+4
    let words = [NOP, 0x1400_0004, 0x5400_0040, RET, 0x17ff_fffc, 0x17ff_fffe];
    for veneer in ["__CortexA53843419_1008", "e843419@0001_00000012_8", "__erratum_835769_veneer_0"] {
        // It stands before the cold part that it was taken from, and still is the function's.
        let file = File::linked(&words).function(veneer, 0, 2).function("f", 2, 4).function("f.cold", 4, 6).write();
        let program = Program::new(Image::parse(&file).unwrap());
        let [f, cold, veneer] = ["f", "f.cold", veneer].map(|name| program.function_named(name).unwrap());
        assert_eq!((program.parent(cold), program.parent(veneer)), (f, f));
        assert_eq!(program.of_function(f).collect::<Vec<_>>(), [insns(2..6), insns(0..2)].concat());
    }
}

#[test]
fn sections_and_symbols_are_gone_through_both_ways_without_data() {
    let file = with_a_cold_part();
    let program = Program::new(Image::parse(&file).unwrap());
    let (id, text) = (InsnId::new, program.section_named(".text").unwrap());
    let code = [insns(0..3), insns(4..7)].concat();
    assert_eq!(program.of_section(text).collect::<Vec<_>>(), code);
    assert_eq!(program.all().collect::<Vec<_>>(), code);
    assert_eq!(program.from(id(2)).collect::<Vec<_>>(), [id(2), id(4), id(5), id(6)]);
    assert_eq!(program.before(id(4)).rev().collect::<Vec<_>>(), [id(2), id(1), id(0)]);
    assert_eq!((program.next_in_section(id(2)), program.prev_in_section(id(4))), (Some(id(4)), Some(id(2))));
    assert_eq!((program.next_in_section(id(6)), program.prev_in_section(id(0))), (None, None));
    assert!(program.is_data(id(3)) && program.at((TEXT + 12).into()).is_none());
    let symbol = program.symbols().find(|symbol| program.symbol(*symbol).name == "f").unwrap();
    assert_eq!(program.of_symbol(symbol).collect::<Vec<_>>(), insns(0..3));
    assert_eq!((program.next_in_symbol(symbol, id(1)), program.next_in_symbol(symbol, id(2))), (Some(id(2)), None));
    assert_eq!((program.prev_in_symbol(symbol, id(1)), program.prev_in_symbol(symbol, id(0))), (Some(id(0)), None));
}

#[test]
fn aliases_are_one_function_and_overlaps_are_told_of() {
    let file = with_a_cold_part();
    let program = Program::new(Image::parse(&file).unwrap());
    let g = program.function_named("g_alias").unwrap();
    assert_eq!((program.name(g), program.function(g).symbols().len()), ("g", 2));
    let file = File::linked(&[NOP, NOP, RET]).function("f", 0, 3).function("g", 1, 3).write();
    let program = Program::new(Image::parse(&file).unwrap());
    let [f, g] = ["f", "g"].map(|name| program.function_named(name).unwrap());
    assert_eq!(program.oddities(), [Oddity::Overlap { first: f, second: g }]);
    assert_eq!((program.function(f).words(), program.function_of(InsnId::new(1))), (1, Some(g)));
}

#[test]
fn a_functions_first_instruction_is_found_behind_what_it_begins_with() {
    // hash; nop; nop; f: bti c; nop; ret; g: paciasp; ret; brk #0x8230
    let words = [0x1234_5678, NOP, NOP, BTI_C, NOP, RET, PACIASP, RET, 0xd430_4600];
    let file = File::linked(&words).function("f", 3, 6).function("g", 6, 9).write();
    let program = Program::new(Image::parse(&file).unwrap());
    let [f, g] = ["f", "g"].map(|name| program.function_named(name).unwrap());
    assert_eq!((program.landing(f), program.landing(g)), (Landing::Bti, Landing::Pac));
    let id = InsnId::new;
    assert_eq!((program.after_landing(f), program.after_landing(g)), (id(4), id(7)));
    let first: Vec<InsnId> = program.all().filter(|id| program.is_first(*id)).collect();
    assert_eq!(first, [id(3), id(4), id(6), id(7)]);
    assert_eq!((program.function(f).prefix_nops(), program.function(g).prefix_nops()), (2, 0));
    // Something compares hashes: the word before the NOPs is one, and no instruction.
    assert_eq!((program.has_hashes(), program.function(f).hash()), (true, Some(0x1234_5678)));
    assert!(program.is_data(id(0)) && program.at(TEXT.into()).is_none());
    let without = File::linked(&words[..8]).function("f", 3, 6).function("g", 6, 8).write();
    let program = Program::new(Image::parse(&without).unwrap());
    assert_eq!((program.has_hashes(), program.function(program.function_named("f").unwrap()).hash()), (false, None));
}

#[test]
fn a_module_that_compares_no_hash_has_them_where_all_its_functions_do() {
    let module = |one: u32, other: u32| {
        // f: nop; nop; ret, and g, each with a word and two NOPs before it.
        let words = [one, NOP, NOP, NOP, NOP, RET, other, NOP, NOP, BTI_C, NOP, NOP, RET];
        let file = File::linked(&words).function("f", 3, 6).function("g", 9, 13).write();
        let program = Program::new(Image::parse(&file).unwrap());
        let hashes: Vec<Option<u32>> = program.functions().map(|function| program.function(function).hash()).collect();
        (program.has_hashes(), hashes, program.is_data(InsnId::new(6)))
    };
    assert_eq!(module(0x1234_5678, 0x9abc_def0), (true, vec![Some(0x1234_5678), Some(0x9abc_def0)], true));
    // Padding: zero, or LLD's BRK.
    for padding in [0, 0xd420_0020] {
        assert_eq!(module(0x1234_5678, padding), (false, vec![None, None], false));
        assert_eq!(module(padding, 0x1234_5678), (false, vec![None, None], false));
    }
}

#[test]
fn branches_go_where_their_relocation_says() {
    // bl .; b.eq +8; ret; br x1
    let file = File::object(&[0x9400_0000, 0x5400_0040, RET, 0xd61f_0020])
        .function("f", 0, 4)
        .external("other")
        .relocate(0, 283, 2, 0)
        .write();
    let program = Program::new(Image::parse(&file).unwrap());
    let id = InsnId::new;
    assert_eq!(program.destination(id(0)), Some(Destination::External("other")));
    assert!(program.relocation(id(0)).is_some() && program.relocation(id(1)).is_none());
    assert_eq!(program.destination(id(1)), Some(Destination::Insn(id(3))));
    assert_eq!(program.destination(id(2)), None);
    assert!(program.is_static_jump(id(1)) && !program.is_static_jump(id(0)) && !program.is_static_jump(id(3)));
    assert!(program.is_dynamic_jump(id(3)) && !program.is_dynamic_jump(id(1)));
    let file = File::linked(&[0x17ff_fff0]).function("f", 0, 1).write();
    let program = Program::new(Image::parse(&file).unwrap());
    assert_eq!(program.destination(id(0)), Some(Destination::Outside(TEXT - 0x40)));
}
