//! Each kind of relocation at its edges and just beyond.

use super::fixture::{ADD_X0_X0, ADRP_X0, BL, LDR_X0_X0};
use crate::module::kinds::RelocKind;
use crate::module::reloc::{RelocCause, RelocOperands};

const P: u64 = 0x4000_0000;
const MOVZ_X0: u32 = 0xd280_0000;
const MOVN_X0: u32 = 0x9280_0000;
const MOVK_X0: u32 = 0xf280_0000;

/// A kind, a place's old content, the least and the greatest value that it takes, and the steps that it counts in.
struct Edges {
    number: u32,
    old: u32,
    least: i64,
    greatest: i64,
    unit: i64,
}

const fn edges(number: u32, old: u32, least: i64, greatest: i64, unit: i64) -> Edges {
    Edges { number, old, least, greatest, unit }
}

/// AAELF64 5.7.3 to 5.7.9, "Check that".
const EDGES: [Edges; 26] = [
    edges(258, 0, -(1 << 31), (1 << 32) - 1, 1),
    edges(259, 0, -(1 << 15), (1 << 16) - 1, 1),
    edges(261, 0, -(1 << 31), (1 << 32) - 1, 1),
    edges(262, 0, -(1 << 15), (1 << 16) - 1, 1),
    edges(263, MOVZ_X0, 0, (1 << 16) - 1, 1),
    edges(265, MOVZ_X0, 0, (1 << 32) - 1, 1),
    edges(267, MOVZ_X0, 0, (1 << 48) - 1, 1),
    edges(270, MOVZ_X0, -(1 << 16), (1 << 16) - 1, 1),
    edges(271, MOVZ_X0, -(1 << 32), (1 << 32) - 1, 1),
    edges(272, MOVZ_X0, -(1 << 48), (1 << 48) - 1, 1),
    edges(273, 0x5800_0000, -(1 << 20), (1 << 20) - 4, 4),
    edges(274, 0x1000_0000, -(1 << 20), (1 << 20) - 1, 1),
    edges(275, ADRP_X0, -(1 << 32), (1 << 32) - 0x1000, 0x1000),
    edges(279, 0x3600_0000, -(1 << 15), (1 << 15) - 4, 4),
    edges(280, 0x5400_0000, -(1 << 20), (1 << 20) - 4, 4),
    edges(280, 0xb500_0000, -(1 << 20), (1 << 20) - 4, 4),
    edges(282, 0x1400_0000, -(1 << 27), (1 << 27) - 4, 4),
    edges(283, BL, -(1 << 27), (1 << 27) - 4, 4),
    edges(287, MOVZ_X0, -(1 << 16), (1 << 16) - 1, 1),
    edges(289, MOVZ_X0, -(1 << 32), (1 << 32) - 1, 1),
    edges(291, MOVZ_X0, -(1 << 48), (1 << 48) - 1, 1),
    edges(309, 0x5800_0000, -(1 << 20), (1 << 20) - 4, 4),
    edges(310, LDR_X0_X0, 0, (1 << 15) - 8, 8),
    edges(311, ADRP_X0, -(1 << 32), (1 << 32) - 0x1000, 0x1000),
    edges(313, LDR_X0_X0, 0, (1 << 15) - 8, 8),
    edges(314, 0, -(1 << 31), (1 << 31) - 1, 1),
];

/// The operands for which a kind's value is `value`, at a place that is the start of a page.
fn operands(kind: RelocKind, value: i64) -> RelocOperands {
    let relative = kind.is_relative() || kind.needs_got();
    let address = if relative { P.wrapping_add_signed(value) } else { value.cast_unsigned() };
    RelocOperands { target: address, place: P, got_entry: address, got_start: P }
}

#[test]
fn each_kind_takes_its_edges_and_refuses_what_is_beyond() {
    for Edges { number, old, least, greatest, unit } in EDGES {
        let kind = RelocKind::of(number).unwrap();
        let apply = |value| kind.apply(operands(kind, value), old.into());
        for value in [least, greatest, 0, unit, -unit] {
            if (least..=greatest).contains(&value) {
                let new = apply(value).unwrap_or_else(|error| panic!("{error}"));
                assert!(kind.bytes() == 8 || new >> (8 * kind.bytes()) == 0, "{kind}: {new:#x}");
            }
        }
        for value in [least - unit, greatest + unit] {
            let error = apply(value).unwrap_err();
            assert!(
                matches!(error.cause, RelocCause::Overflow { value: found, .. } if found == value),
                "{kind}: {value:#x} gave {error}"
            );
            assert_eq!((error.kind, error.place), (kind, P));
        }
        if unit == 4 || unit == 8 {
            let cause = apply(unit / 2).unwrap_err().cause;
            let multiple_of = unit.cast_unsigned();
            assert_eq!(cause, RelocCause::Misaligned { value: unit / 2, multiple_of }, "{kind}");
        }
    }
}

#[test]
fn each_kind_writes_its_field_and_nothing_else() {
    // number, old, value, new; the words as the assembler prints them stand beside.
    #[rustfmt::skip]
    let table: [(u32, u64, i64, u64); 36] = [
        (257, 0, -2, 0xffff_ffff_ffff_fffe),
        (258, 0, -2, 0xffff_fffe),
        (259, 0, -2, 0xfffe),
        (260, 0, 0x12, 0x12),
        (261, 0, -4, 0xffff_fffc),
        (262, 0, -4, 0xfffc),
        (263, MOVZ_X0.into(), 0x1234, 0xd282_4680),            // movz x0, #0x1234
        (264, MOVK_X0.into(), 0xffff_1234, 0xf282_4680),       // movk x0, #0x1234
        (265, 0xd2a0_0000, 0x5678_0000, 0xd2aa_cf00),          // movz x0, #0x5678, lsl #16
        (266, 0xf2a0_0000, 0x1_5678_0000, 0xf2aa_cf00),        // movk x0, #0x5678, lsl #16
        (267, 0xd2c0_0000, 0x9abc_0000_0000, 0xd2d3_5780),     // movz x0, #0x9abc, lsl #32
        (268, 0xf2c0_0000, 0x1_9abc_0000_0000, 0xf2d3_5780),   // movk x0, #0x9abc, lsl #32
        (269, 0xf2e0_0000, -0x1000_0000_0000_0000, 0xf2fe_0000), // movk x0, #0xf000, lsl #48
        (270, MOVZ_X0.into(), -2, 0x9280_0020),                // movn x0, #1
        (270, MOVN_X0.into(), 2, 0xd280_0040),                 // movz x0, #2
        (271, 0xd2a0_0000, -0x1_0000, 0x92a0_0000),            // movn x0, #0, lsl #16
        (272, 0xd2c0_0000, 0x1_0000_0000, 0xd2c0_0020),        // movz x0, #1, lsl #32
        (273, 0x5800_0003, -4, 0x58ff_ffe3),                   // ldr x3, -4
        (274, 0x1000_0003, 5, 0x3000_0023),                    // adr x3, +5
        (275, 0x9000_0003, 0x5000, 0xb000_0023),               // adrp x3, +0x5000
        (276, 0x9000_0003, -0x1000, 0xf0ff_ffe3),              // adrp x3, -0x1000
        (277, ADD_X0_X0.into(), 0x12345, 0x910d_1400),         // add x0, x0, #0x345
        (278, 0x3940_0000, 0x12345, 0x394d_1400),              // ldrb w0, [x0, #0x345]
        (279, 0x3600_0000, -8, 0x3607_ffc0),                   // tbz w0, #0, -8
        (280, 0x5400_0001, 8, 0x5400_0041),                    // b.ne +8
        (282, 0x1400_0000, -4, 0x17ff_ffff),                   // b -4
        (283, BL.into(), 0x1000, 0x9400_0400),                 // bl +0x1000
        (284, 0x7940_0000, 0x12346, 0x7946_8c00),              // ldrh w0, [x0, #0x346]
        (285, 0xb940_0000, 0x12344, 0xb943_4400),              // ldr w0, [x0, #0x344]
        (286, LDR_X0_X0.into(), 0x12348, 0xf941_a400),         // ldr x0, [x0, #0x348]
        (299, 0x3dc0_0000, 0x12340, 0x3dc0_d000),              // ldr q0, [x0, #0x340]
        (288, 0xf280_0000, -2, 0xf29f_ffc0),                   // movk x0, #0xfffe
        (290, 0xf2a0_0000, -2, 0xf2bf_ffe0),                   // movk x0, #0xffff, lsl #16
        (293, 0xf2e0_0000, -2, 0xf2ff_ffe0),                   // movk x0, #0xffff, lsl #48
        (310, LDR_X0_X0.into(), 0x348, 0xf941_a400),           // ldr x0, [x0, #0x348]
        (313, LDR_X0_X0.into(), 0x7ff8, 0xf97f_fc00),          // ldr x0, [x0, #0x7ff8]
    ];
    for (number, old, value, new) in table {
        let kind = RelocKind::of(number).unwrap();
        let found = kind.apply(operands(kind, value), old);
        assert_eq!(found, Ok(new), "{kind}: {:#x}", found.unwrap_or(0));
        // What stood in the field before doesn't matter.
        let again = kind.apply(operands(kind, value), new);
        assert_eq!(again, Ok(new), "{kind}");
    }
}

#[test]
fn a_place_that_is_no_such_instruction_is_refused() {
    const NOP: u64 = 0xd503_201f;
    for number in 263..=313 {
        let Some(kind) = RelocKind::of(number) else { continue };
        let cause = kind.apply(operands(kind, 0), NOP).unwrap_err().cause;
        assert_eq!(cause, RelocCause::OtherInstruction { word: 0xd503_201f }, "{kind}");
    }
    for number in [0, 1, 281, 294, 300, 308, 512, 1024] {
        assert_eq!(RelocKind::of(number), None, "{number}");
    }
}

#[test]
fn accesses_must_be_aligned_to_their_size() {
    for (number, old, size) in [
        (284, 0x7940_0000, 2),
        (285, 0xb940_0000, 4),
        (286, 0xf940_0000, 8),
        (299, 0x3dc0_0000, 16),
        (312, 0xf940_0000, 8),
    ] {
        let kind = RelocKind::of(number).unwrap();
        let operands =
            RelocOperands { target: 0x1000 + size / 2, place: P, got_entry: 0x1000 + size / 2, got_start: P };
        let cause = kind.apply(operands, old).unwrap_err().cause;
        assert!(matches!(cause, RelocCause::Misaligned { multiple_of, .. } if multiple_of == size), "{kind}");
    }
}

/// AAELF64 5.7, by the names that readelf prints.
#[test]
fn a_kind_is_named_as_the_abi_does() {
    for (number, name) in [
        (257, "R_AARCH64_ABS64"),
        (275, "R_AARCH64_ADR_PREL_PG_HI21"),
        (283, "R_AARCH64_CALL26"),
        (311, "R_AARCH64_ADR_GOT_PAGE"),
    ] {
        let kind = RelocKind::of(number).unwrap();
        assert_eq!(
            (kind.number(), kind.name(), std::format!("{kind:>30}")),
            (number, name, std::format!("{name:>30}"))
        );
        assert_eq!(std::format!("{kind:?}"), name);
    }
    assert!([0, 256, 281, 294, 308, 316, u32::MAX].into_iter().all(|number| RelocKind::of(number).is_none()));
}
