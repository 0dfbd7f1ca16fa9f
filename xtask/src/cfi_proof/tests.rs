use fentry::insn::Insn;
use fentry_verify::image::PLACED_AT;
use fentry_verify::{Cfi, Flow, Image, NoReturn, Program};
use object::write::{Object, StandardSection, Symbol, SymbolSection};
use object::{Architecture, BinaryFormat, Endianness, SymbolFlags, SymbolKind, SymbolScope};

use super::log::{Log, Registers};
use super::memory::Memory;
use super::{Proof, follow};

const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;

/// f calls g by a callsite that the image has as NOPs: nop; nop; stp x29, x30, [sp, #-16]!; mov x29, sp; bl g;
/// ldp x29, x30, [sp], #16; ret; g: mov x0, #1; ret.
const WORDS: [u32; 9] = [NOP, NOP, 0xa9bf_7bfd, 0x9100_03fd, 0x9400_0003, 0xa8c1_7bfd, RET, 0xd280_0020, RET];

fn object() -> Vec<u8> {
    let mut object = Object::new(BinaryFormat::Elf, Architecture::Aarch64, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    object.append_section_data(text, &WORDS.map(u32::to_le_bytes).concat(), 4);
    for (name, from, to) in [("f", 0, 7), ("g", 7, 9)] {
        object.add_symbol(Symbol {
            name: name.into(),
            value: 4 * from,
            size: 4 * (to - from),
            kind: SymbolKind::Text,
            scope: SymbolScope::Linkage,
            weak: false,
            section: SymbolSection::Section(text),
            flags: SymbolFlags::None,
        });
    }
    object.write().unwrap()
}

/// What is so before each instruction, as an emulator would log it.
fn executed() -> Vec<Registers> {
    let word = |index: u64| PLACED_AT + 4 * index;
    let mut now = Registers { pc: word(0), ..Registers::default() };
    (now.general[29], now.general[30], now.general[31]) = (0x7f00, 0x4444, 0x8000);
    let mut all = vec![now];
    let mut go = |pc: u64, changes: &[(usize, u64)]| {
        now.pc = pc;
        changes.iter().for_each(|(number, value)| now.general[*number] = *value);
        all.push(now);
    };
    go(word(1), &[]);
    // The callsite calls a stub that nobody knows, which comes back.
    go(0x5000, &[(9, 0x4444), (30, word(2))]);
    go(0x5004, &[]);
    go(word(2), &[(30, 0x4444)]);
    go(word(3), &[(31, 0x7ff0)]);
    go(word(4), &[(29, 0x7ff0)]);
    go(word(7), &[(30, word(5))]);
    go(word(8), &[(0, 1)]);
    go(word(5), &[]);
    go(word(6), &[(29, 0x7f00), (30, 0x4444), (31, 0x8000)]);
    all
}

fn prove(executed: &[Registers]) -> Proof {
    let mut log = String::new();
    for now in executed {
        log.push_str(&format!(" PC={:016x}", now.pc));
        for (number, value) in now.general[..31].iter().enumerate() {
            log.push_str(&format!(" X{number:02}={value:016x}"));
        }
        log.push_str(&format!("  SP={:016x}\nPSTATE=400003c5 -Z-- EL1h\n", now.sp()));
    }
    let object = object();
    let program = Program::new(Image::parse(&object).unwrap());
    let flow = Flow::follow(&program, &NoReturn::default());
    follow(&program, &flow, &Cfi::of(&flow), Log::new(log.as_bytes()), u64::MAX).unwrap()
}

#[test]
fn what_is_claimed_is_so() {
    let proof = prove(&executed());
    assert_eq!(proof.shown, Vec::<String>::new());
    // All but the two in the stub.
    assert_eq!((proof.steps, proof.compared_at, proof.functions, proof.lost), (11, 9, 2, 0));
    // The record's words were stored, and seen.
    assert_eq!(proof.compared.unseen, 0);
}

#[test]
fn a_claim_that_is_not_so_is_told_of() {
    let wrong_with = |at: usize, change: fn(&mut Registers)| {
        let mut executed = executed();
        executed[at..].iter_mut().for_each(change);
        let proof = prove(&executed);
        assert!(proof.wrong > 0);
        proof.shown.concat()
    };
    // The stub gives another x19, another SP; the frame pointer is another one; the record has another return address.
    assert!(wrong_with(4, |now| now.general[19] = 1).contains("x19, the caller's, is 0x1 and not 0x0"));
    assert!(wrong_with(6, |now| now.general[29] -= 8).contains("x29 + 16, the CFA, is 0x7ff8 and not 0x8000"));
    let other_return = wrong_with(5, |now| now.general[31] -= 16);
    assert!(other_return.contains("sp + 16, the CFA, is 0x7ff0 and not 0x8000"), "{other_return}");
    // g gives back another x30's register than was stored.
    assert!(wrong_with(10, |now| now.general[30] = 0x4448).contains("x30, the caller's, is 0x4448 and not 0x4444"));
}

#[test]
fn memory_is_known_where_it_was_stored_whole() {
    let mut memory = Memory::default();
    let mut before = Registers::default();
    (before.general[1], before.general[2], before.general[3]) = (0x1000, 77, 2);
    let mut execute = |word: u32, at: u64| {
        let insn = Insn::decode(word);
        memory.execute(&insn, &insn.effects(), &before);
        memory.word(at)
    };
    // str x2, [x1, #8]; str x2, [x1, x3, lsl #3]; stp xzr, x2, [x1, #32]
    assert_eq!(execute(0xf900_0422, 0x1008), Some(77));
    assert_eq!(execute(0xf823_7822, 0x1010), Some(77));
    assert_eq!((execute(0xa902_083f, 0x1020), execute(NOP, 0x1028)), (Some(0), Some(77)));
    // strb w2, [x1, #9] and str q0, [x1, #32] leave nothing known; stur x2, [x1, #12] is in two words.
    assert_eq!((execute(0x3900_2422, 0x1008), execute(NOP, 0x1010)), (None, Some(77)));
    assert_eq!((execute(0x3d80_0820, 0x1020), execute(NOP, 0x1028)), (None, None));
    assert_eq!(execute(0xf800_c022, 0x1010), None);
}
