use super::{Callee, Exit, Flow, NoReturn, Targets, Why};
use crate::image::Image;
use crate::image::tests::file::{File, RODATA};
use crate::program::{InsnId, Program};

const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;
const BRK: u32 = 0xd420_0020;

/// BL and B from one instruction to another.
fn branch(opcode: u32, from: i64, to: i64) -> u32 {
    opcode | ((to - from) as u32 & 0x3ff_ffff)
}

fn bl(from: i64, to: i64) -> u32 {
    branch(0x9400_0000, from, to)
}

fn b(from: i64, to: i64) -> u32 {
    branch(0x1400_0000, from, to)
}

fn with<T>(file: &File, no_return: &str, look: impl FnOnce(&Program<'_>, &Flow<'_>) -> T) -> T {
    let bytes = file.write();
    let program = Program::new(Image::parse(&bytes).unwrap());
    let flow = Flow::follow(&program, &NoReturn::parse(no_return));
    look(&program, &flow)
}

#[test]
fn functions_that_never_return_are_inferred_from_their_bodies() {
    let words = [
        BRK, // 0: dies
        bl(1, 0),
        RET,     // 1: calls_it, and its RET is never reached
        b(3, 1), // 3: jumps_to_it
        bl(4, 6),
        RET, // 4: one of two that call each other for ever
        bl(6, 4),
        RET, // 6: the other
        0xb400_0040,
        bl(9, 0),
        RET, // 8: cbz x0: may die
        bl(11, 8),
        RET, // 11: calls what may die
    ];
    let ends = [("dies", 0, 1), ("calls", 1, 3), ("jumps", 3, 4), ("one", 4, 6), ("other", 6, 8), ("may", 8, 11)];
    let mut file = File::linked(&words).function("caller", 11, 13);
    for (name, from, to) in ends {
        file = file.function(name, from, to);
    }
    with(&file, "", |program, flow| {
        let never: Vec<&str> =
            program.functions().filter(|f| flow.never_returns(*f)).map(|f| program.name(f)).collect();
        assert_eq!(never, ["dies", "calls", "jumps", "one", "other"]);
        let id = InsnId::new;
        assert_eq!(flow.onward(id(1)).exits[0], Some(Exit::NoReturn));
        assert!(flow.is_dead_end(id(0)) && flow.is_dead_end(id(1)) && !flow.is_dead_end(id(11)));
        assert!(!flow.is_reached(id(2)) && flow.is_reached(id(10)) && flow.is_reached(id(12)));
    });
}

#[test]
fn other_files_functions_return_unless_they_are_named() {
    let file = File::object(&[0x9400_0000, RET]).function("f", 0, 2).external("die").relocate(0, 283, 2, 0);
    let never =
        |names: &str| with(&file, names, |program, flow| flow.never_returns(program.functions().next().unwrap()));
    assert!(!never("") && !never("# die\ndie2\n") && never("other\n  die # for good\n"));
}

#[test]
fn every_way_out_of_a_function_is_told() {
    let words = [
        0x5400_0060, // 0: b.eq g
        0xb400_0040, // 1: cbz x0, g
        RET,
        0xd69f_03e0, // 3: g: eret
        0x0400_0000, // 4: h: not known
        NOP,         // 5: i: falls off into j
        0xd61f_0020, // 6: j: br x1, with nothing on the stack
        0xa9bf_7bfd,
        0xd61f_0020, // 7: k: br x1, with something on it
        0xd400_0001,
        0xd63f_0020, // 9: l: svc, blr x1, and then nothing
    ];
    let file = File::linked(&words)
        .function("f", 0, 3)
        .function("g", 3, 4)
        .function("h", 4, 5)
        .function("i", 5, 6)
        .function("j", 6, 7)
        .function("k", 7, 9)
        .function("l", 9, 11);
    with(&file, "", |program, flow| {
        let id = InsnId::new;
        let [g, j] = ["g", "j"].map(|name| program.function_named(name).unwrap());
        let first = |index| flow.onward(id(index)).exits[0];
        assert_eq!(first(0), Some(Exit::Sibling(Callee::Function(g))));
        assert_eq!(flow.onward(id(0)).next, Some(id(1)));
        assert_eq!((first(3), flow.never_returns(g)), (Some(Exit::ExceptionReturn), false));
        assert_eq!(first(4), Some(Exit::NotFollowed(Why::Unknown { word: 0x0400_0000 })));
        assert_eq!(flow.onward(id(5)).exits[1], Some(Exit::FallsOff(Some(id(6)))));
        assert!(matches!(first(6), Some(Exit::Sibling(Callee::Register(_)))));
        assert!(matches!(first(8), Some(Exit::NotFollowed(Why::Register(_)))));
        assert_eq!(flow.onward(id(9)).next, Some(id(10)));
        assert!(matches!(flow.onward(id(10)).call, Some(Callee::Register(_))));
        assert_eq!(flow.onward(id(10)).exits[1], Some(Exit::FallsOff(None)));
        assert_eq!(flow.not_followed().iter().map(|not| not.at).collect::<Vec<_>>(), [id(4), id(8)]);
        assert!(!flow.is_followed(program.function_named("k").unwrap()) && flow.is_followed(j));
    });
}

/// cmp w0, #2; b.hi; adrp, add x9; mov w8, w0; adr x10; ldrb w11, [x9, x8]; add x10, x10, x11, lsl #2; br x10; three arms
const LLVM_BYTES: [u32; 16] = [
    0x7100_081f,
    0x5400_01c8,
    0x9000_0009,
    0x9104_0129,
    0x2a00_03e8,
    0x1000_008a,
    0x3868_692b,
    0x8b0b_094a,
    0xd61f_0140,
    0x5280_0020,
    RET,
    0x5280_0040,
    RET,
    0x5280_0060,
    RET,
    RET,
];

#[test]
fn tables_of_jumps_are_followed_in_llvms_and_gccs_forms() {
    let targets = |words: &[u32], table: &[u8], jump: u32| {
        let file = File::linked(words).rodata(table).function("f", 0, words.len() as u64);
        with(&file, "", |_, flow| {
            let table = flow.table(InsnId::new(jump)).unwrap();
            assert_eq!((table.address, flow.not_followed().len()), (RODATA, 0));
            table.targets.iter().map(|target| target.index()).collect::<Vec<_>>()
        })
    };
    assert_eq!(targets(&LLVM_BYTES, &[4, 0, 2], 8), [9, 11, 13]);
    // cmp w0, #2; b.hi; adrp, add x1; ldrh w0, [x1, w0, uxtw #1]; adr x1; add x0, x1, w0, sxth #2; br x0; three arms
    let gcc = [
        0x7100_081f,
        0x5400_01a8,
        0x9000_0001,
        0x9104_0021,
        0x7860_5820,
        0x1000_0061,
        0x8b20_a820,
        0xd61f_0000,
        0x5280_0020,
        RET,
        0x5280_0040,
        RET,
        0x5280_0060,
        RET,
        RET,
    ];
    // Half-words with a sign: the last goes back to the branch's own start.
    assert_eq!(targets(&gcc, &[2, 0, 4, 0, 0xff, 0xff], 7), [7, 10, 12]);
    // cmp x0, #3; b.hs; adrp, add x8; ldrsw x9, [x8, x0, lsl #2]; add x8, x8, x9; br x8; two arms
    let words = [
        0xf100_0c1f,
        0x5400_0142,
        0x9000_0008,
        0x9104_0108,
        0xb8a0_7909,
        0x8b09_0108,
        0xd61f_0100,
        0x5280_0020,
        RET,
        0x5280_0040,
        RET,
        RET,
    ];
    let offsets = [-0xe4_i32, -0xdc, -0xe4].map(i32::to_le_bytes).concat();
    assert_eq!(targets(&words, &offsets, 6), [7, 9]);
}

#[test]
fn an_index_may_be_taken_twice_from_one_argument() {
    // and w8, w0, #0xff; cmp w8, #2; b.hi; and x8, x0, #0xff, and on as LLVM does
    let mut words = vec![0x1200_1c08, 0x7100_091f, 0x5400_01c8, 0x9000_0009, 0x9104_0129, 0x9240_1c08];
    words.extend(&LLVM_BYTES[5..]);
    let file = File::linked(&words).rodata(&[4, 0, 2]).function("f", 0, words.len() as u64);
    with(&file, "", |_, flow| {
        let table = flow.table(InsnId::new(9)).unwrap();
        assert!(table.is_compared);
        assert_eq!((table.targets.len(), table.bytes), (3, 3));
    });
}

#[test]
fn a_table_without_a_bound_or_out_of_its_function_is_told_of() {
    let why = |words: &[u32], table: &[u8]| {
        let file = File::linked(words).rodata(table).function("f", 0, words.len() as u64);
        with(&file, "", |program, flow| {
            assert!(!flow.is_followed(program.functions().next().unwrap()));
            flow.not_followed()[0].why
        })
    };
    assert_eq!(why(&LLVM_BYTES, &[4, 0, 200]), Why::TableLeaves { table: RODATA, to: 0x1024 + 800 });
    assert_eq!(why(&LLVM_BYTES, &[4, 0]), Why::NoElement { table: RODATA, element: 2 });
    // Nothing is compared, and its first element leads out.
    let mut unbounded = LLVM_BYTES;
    unbounded[1] = NOP;
    assert_eq!(why(&unbounded, &[200]), Why::TableLeaves { table: RODATA, to: 0x1024 + 800 });
}

#[test]
fn a_table_that_no_index_is_compared_with_ends_by_the_layout() {
    let table_of = |words: &[u32], bytes: &[u8], symbol: Option<u64>| {
        let mut file = File::linked(words).rodata(bytes).function("f", 0, words.len() as u64);
        if let Some(offset) = symbol {
            file = file.symbol("object", 1, RODATA - 0x1000 + offset, 1);
            file.symbols[1].section = 2;
        }
        with(&file, "", |_, flow| {
            let (_, table) = flow.tables()[0];
            assert!(!table.is_compared);
            table.targets.iter().map(|target| target.index()).collect::<Vec<_>>()
        })
    };
    let mut unbounded = LLVM_BYTES;
    unbounded[1] = NOP;
    // To the first element that leads out of the function, to the section's end, to the next symbol.
    assert_eq!(table_of(&unbounded, &[4, 0, 2, 200], None), [9, 11, 13]);
    assert_eq!(table_of(&unbounded, &[4, 0], None), [9, 13]);
    assert_eq!(table_of(&unbounded, &[4, 0, 2, 2], Some(1)), [13]);
    // To what another function refers to: adrp x0; add x0, x0, #0x102
    let referring: Vec<u32> = unbounded.into_iter().chain([0x9000_0000, 0x9104_0800, RET]).collect();
    assert_eq!(table_of(&referring, &[4, 0, 2, 2], None), [9, 13]);
    // To where there is no landing pad, if the first has one.
    let mut padded = unbounded;
    (padded[9], padded[13]) = (0xd503_249f, 0xd503_249f);
    assert_eq!(table_of(&padded, &[4, 0, 2, 4], None), [9, 13]);
    // To one that leads behind an epilogue's ldp x29, x30, [sp], #16.
    let mut framed = unbounded;
    framed[11] = 0xa8c1_7bfd;
    assert_eq!(table_of(&framed, &[4, 0, 2, 3], None), [9, 11, 13]);
    // The index is another register than the one that was compared.
    let mut other = LLVM_BYTES;
    other[4] = 0x2a01_03e8;
    assert_eq!(table_of(&other, &[4, 0, 2, 200], None), [9, 11, 13]);
    // ldrb w8, [x0] in place of the move: at most 256, and no comparison.
    let mut byte = LLVM_BYTES;
    (byte[1], byte[4]) = (NOP, 0x3940_0008);
    assert_eq!(table_of(&byte, &[4, 0, 2, 200], None), [9, 11, 13]);
    // All 256 would lead into the function, and most are something else.
    let bytes: Vec<u8> = [4, 0, 2].into_iter().chain([1; 300]).collect();
    assert_eq!(table_of(&byte, &bytes, Some(3)), [9, 11, 13]);
}

#[test]
fn a_veneer_goes_where_its_constant_says() {
    // adrp x16; add x16, x16, #0x10; br x16; nop; g: ret
    let words = [0x9000_0010, 0x9100_4210, 0xd61f_0200, NOP, RET];
    let file = File::linked(&words).function("veneer", 0, 3).function("g", 4, 5);
    with(&file, "", |program, flow| {
        let g = program.function_named("g").unwrap();
        assert_eq!(flow.onward(InsnId::new(2)).exits[0], Some(Exit::Sibling(Callee::Function(g))));
    });
}

#[test]
fn a_graph_has_its_edges_both_ways_and_knows_a_path() {
    // cbz x0, 3; nop; b 4; nop; ret; and what nobody reaches
    let file = File::linked(&[0xb400_0060, NOP, b(2, 4), NOP, RET, NOP]).function("f", 0, 6);
    with(&file, "", |program, flow| {
        let graph = flow.graph(program.functions().next().unwrap());
        let starts: Vec<usize> = graph.blocks().iter().map(|block| block.insns.start().index()).collect();
        assert_eq!(starts, [0, 1, 3, 4]);
        assert_eq!((&graph.blocks()[0].after, &graph.blocks()[3].before), (&vec![1, 2], &vec![1, 2]));
        let path = graph.path_to(InsnId::new(3));
        assert_eq!(path.iter().map(|id| id.index()).collect::<Vec<_>>(), [0, 3]);
        assert!(graph.path_to(InsnId::new(5)).is_empty());
        assert_eq!(flow.onward(InsnId::new(0)).targets, Targets::One(InsnId::new(3)));
    });
}
