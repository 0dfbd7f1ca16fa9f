//! A machine that runs what is generated: just the instructions that trampolines consist of.

use crate::insn::{
    Access, AddSub, Address, Atomic, AtomicOp, Branch, DataImm, DataReg, Direction, Insn, Literal, Logical, LogicalOp,
    Memory, MoveWide, PairMode, PairSize, Reg, RegOrSp, SimdMemory, System, VSize, Width, Zero,
};
use std::collections::BTreeMap;
use std::vec::Vec;
extern crate std;

/// Where the stack is, and how large.
pub(super) const STACK: u64 = 0x7000_0000;
const STACK_BYTES: u64 = 4096;

/// The registers, and what there is of memory.
#[derive(Clone)]
pub(super) struct Machine<'a> {
    code: &'a [Insn],
    words: &'a [u32],
    start: u64,
    pub(super) pc: u64,
    /// X0 to X30, and SP.
    pub(super) x: [u64; 32],
    pub(super) v: [u64; 8],
    /// What MRS reads.
    pub(super) base: u64,
    stack: Vec<u8>,
    /// Elsewhere.
    pub(super) words_elsewhere: BTreeMap<u64, u64>,
    pub(super) instructions: u64,
}

impl<'a> Machine<'a> {
    pub(super) fn new(code: &'a [Insn], words: &'a [u32], start: u64) -> Self {
        let (x, v, stack) = ([0; 32], [0; 8], std::vec![0; STACK_BYTES as usize]);
        let words_elsewhere = BTreeMap::new();
        Self { code, words, start, pc: start, x, v, base: 0, stack, words_elsewhere, instructions: 0 }
    }

    /// Whether the next instruction is one of the code's.
    pub(super) fn is_inside(&self) -> bool {
        self.pc.wrapping_sub(self.start) / 4 < self.code.len() as u64
    }

    fn get(&self, reg: Reg) -> u64 {
        if reg == Reg::XZR { 0 } else { self.x[usize::from(reg.number())] }
    }

    fn set(&mut self, reg: Reg, value: u64) {
        if reg != Reg::XZR {
            self.x[usize::from(reg.number())] = value;
        }
    }

    fn base(&self, reg: RegOrSp) -> u64 {
        self.x[usize::from(reg.number())]
    }

    pub(super) fn load(&self, at: u64, bytes: u64) -> u64 {
        if at.wrapping_sub(STACK) < STACK_BYTES {
            let from = (at - STACK) as usize;
            let mut value = [0; 8];
            value[..bytes as usize].copy_from_slice(&self.stack[from..][..bytes as usize]);
            return u64::from_le_bytes(value);
        }
        assert_eq!(bytes, 8, "at {at:#x}");
        self.words_elsewhere[&at]
    }

    pub(super) fn store(&mut self, at: u64, bytes: u64, value: u64) {
        if at.wrapping_sub(STACK) < STACK_BYTES {
            let to = (at - STACK) as usize;
            self.stack[to..][..bytes as usize].copy_from_slice(&value.to_le_bytes()[..bytes as usize]);
            return;
        }
        assert_eq!(bytes, 8, "at {at:#x}");
        *self.words_elsewhere.get_mut(&at).unwrap_or_else(|| panic!("a store to {at:#x}")) = value;
    }

    /// A store of the code's, which is never below SP.
    fn store_checked(&mut self, at: u64, bytes: u64, value: u64) {
        let is_stack = at.wrapping_sub(STACK) < STACK_BYTES;
        assert!(!is_stack || self.x[31] <= at, "a store to {at:#x}, SP is {:#x}", self.x[31]);
        self.store(at, bytes, value);
    }

    /// Where an access of a base and an offset goes, with SP as it is then.
    fn place(&mut self, rn: RegOrSp, mode: PairMode, bytes: i64) -> u64 {
        let base = self.base(rn);
        // AAPCS64 6.4.5.1, and SCTLR_EL1.SA: SP is aligned wherever it is used.
        assert!(rn != RegOrSp::SP || base.is_multiple_of(16), "SP is {base:#x}");
        let moved = base.wrapping_add_signed(bytes);
        if mode != PairMode::Offset {
            self.x[usize::from(rn.number())] = moved;
        }
        if mode == PairMode::PostIndex { base } else { moved }
    }

    fn single_place(&mut self, rn: RegOrSp, address: Address, log2_bytes: u32) -> u64 {
        match address {
            Address::Unsigned(units) => self.place(rn, PairMode::Offset, i64::from(units.get()) << log2_bytes),
            Address::Unscaled(bytes) => self.place(rn, PairMode::Offset, bytes.get().into()),
            _ => panic!("{address:?}"),
        }
    }

    /// Runs one instruction.
    pub(super) fn step(&mut self) {
        let index = ((self.pc - self.start) / 4) as usize;
        let insn = self.code[index];
        let mut next = self.pc + 4;
        let target = |bytes: i64| self.pc.wrapping_add_signed(bytes);
        match insn {
            Insn::System(System::Hint(_)) => {}
            Insn::System(System::Mrs { rt, .. }) => self.set(rt, self.base),
            Insn::Branch(Branch::B { offset }) => next = target(offset.bytes()),
            Insn::Branch(Branch::Bl { offset }) => {
                self.x[30] = next;
                next = target(offset.bytes());
            }
            Insn::Branch(Branch::Register { link: crate::insn::Link::Call, rn }) => {
                let to = self.get(rn);
                self.x[30] = next;
                next = to;
            }
            Insn::Branch(Branch::Ret { rn }) => next = self.get(rn),
            Insn::Branch(Branch::CompareBranch { on, width, rt, offset }) => {
                let value = if width == Width::W { u64::from(self.get(rt) as u32) } else { self.get(rt) };
                if (value == 0) == (on == Zero::Zero) {
                    next = target(offset.bytes());
                }
            }
            Insn::Branch(Branch::TestBranch { on, rt, bit, offset }) => {
                if (self.get(rt) >> bit.get() & 1 == 0) == (on == Zero::Zero) {
                    next = target(offset.bytes());
                }
            }
            Insn::DataImm(DataImm::AddSub { op, rd, rn, imm, .. }) => {
                let (value, imm) = (self.base(rn), u64::from(imm.value()));
                let sum = if op == AddSub::Add { value.wrapping_add(imm) } else { value.wrapping_sub(imm) };
                self.x[usize::from(rd.number())] = sum;
            }
            Insn::DataImm(DataImm::Logical { op: Logical::And, rd, rn, imm }) => {
                self.x[usize::from(rd.number())] = self.get(rn) & imm.value();
            }
            Insn::DataImm(DataImm::MoveWide { op: MoveWide::Zero, rd, imm, .. }) => self.set(rd, imm.get().into()),
            Insn::DataImm(DataImm::MoveWide { op: MoveWide::Not, rd, imm, .. }) => self.set(rd, !u64::from(imm.get())),
            Insn::DataReg(DataReg::Logical { op: LogicalOp::Orr, rd, rn: Reg::XZR, rm, .. }) => {
                self.set(rd, self.get(rm));
            }
            Insn::Memory(Memory::Literal { literal: Literal::LoadX, rt, offset }) => {
                let at = ((target(offset.bytes()) - self.start) / 4) as usize;
                let [low, high] = [self.words[at], self.words[at + 1]];
                self.set(rt, u64::from(low) | u64::from(high) << 32);
            }
            Insn::Memory(Memory::Single { access, rt, rn, address }) => {
                let at = self.single_place(rn, address, access.log2_bytes());
                let bytes = 1 << access.log2_bytes();
                match access {
                    Access::StoreX => self.store_checked(at, bytes, self.get(rt)),
                    Access::LoadX | Access::LoadW | Access::LoadHalf | Access::LoadByte => {
                        let value = self.load(at, bytes);
                        self.set(rt, value);
                    }
                    _ => panic!("{insn}"),
                }
            }
            Insn::Memory(Memory::Pair { access, mode, rt, rt2, rn, offset }) => {
                let values = [self.get(rt), self.get(rt2)];
                let at = self.place(rn, mode, i64::from(offset.get()) * 8);
                for (n, (reg, value)) in [rt, rt2].into_iter().zip(values).enumerate() {
                    let at = at + 8 * n as u64;
                    if access.is_load() {
                        let value = self.load(at, 8);
                        self.set(reg, value);
                    } else {
                        self.store_checked(at, 8, value);
                    }
                }
            }
            Insn::SimdMemory(SimdMemory::Single { direction, size, rt, rn, address }) => {
                assert!(matches!(size, VSize::S | VSize::D), "{insn}");
                let at = self.single_place(rn, address, size.log2_bytes());
                self.vector(direction, rt.number(), at, 1 << size.log2_bytes());
            }
            Insn::SimdMemory(SimdMemory::Pair { direction, size, mode, rt, rt2, rn, offset }) => {
                assert!(size != PairSize::Q, "{insn}");
                let bytes = 1 << size.log2_bytes();
                let at = self.place(rn, mode, i64::from(offset.get()) * bytes);
                self.vector(direction, rt.number(), at, bytes as u64);
                self.vector(direction, rt2.number(), at + bytes as u64, bytes as u64);
            }
            Insn::Atomic(Atomic::LoadExclusive { rt, rn, .. }) => self.set(rt, self.load(self.base(rn), 8)),
            Insn::Atomic(Atomic::StoreExclusive { rs, rt, rn, .. }) => {
                self.store(self.base(rn), 8, self.get(rt));
                self.set(rs, 0);
            }
            Insn::Atomic(Atomic::ReadModifyWrite { op: AtomicOp::Add, rs, rt: Reg::XZR, rn, .. }) => {
                let at = self.base(rn);
                self.store(at, 8, self.load(at, 8).wrapping_add(self.get(rs)));
            }
            _ => panic!("{insn} at {:#x}", self.pc),
        }
        self.instructions += 1;
        self.pc = next;
    }

    fn vector(&mut self, direction: Direction, number: u8, at: u64, bytes: u64) {
        let register = usize::from(number);
        if direction == Direction::Load {
            self.v[register] = self.load(at, bytes);
        } else {
            self.store_checked(at, bytes, self.v[register]);
        }
    }
}
