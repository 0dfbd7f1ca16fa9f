//! Short ways to make the instructions that generated code consists of.

use super::{
    Access, AddSub, Address, ArithImm, Barrier, BarrierOption, BitPos, Branch, BranchOffset, DataImm, DataReg,
    EncodeError, Exception, HalfWord, Hint, Insn, Link, LogicalOp, Memory, MoveWide, PageOffset, PairAccess, PairMode,
    Reg, RegOrSp, Shift, SysReg, System, UImm, Width, pair_offset,
};

impl Insn {
    /// MOV X9, X30: the callsite's first instruction, which saves LR.
    pub const MOV_X9_LR: Self = Self::mov(Reg::X9, Reg::LR);
    /// NOP.
    pub const NOP: Self = Self::hint(Hint::NOP);
    /// ISB: what follows is fetched again.
    pub const ISB: Self = Self::barrier(Barrier::Isb, BarrierOption::SY);
    /// RET: to the address in LR.
    pub const RET: Self = Self::Branch(Branch::Ret { rn: Reg::LR });

    /// MOV of an X register into another: ORR with the zero register.
    pub const fn mov(rd: Reg, rm: Reg) -> Self {
        let (op, shift) = (LogicalOp::Orr, Shift::Lsl);
        let amount = BitPos::zero(Width::X);
        Self::DataReg(DataReg::Logical { op, rd, rn: Reg::XZR, rm, shift, amount })
    }

    /// A hint: NOP, BTI C and so on.
    pub const fn hint(hint: Hint) -> Self {
        Self::System(System::Hint(hint))
    }

    /// A barrier.
    pub const fn barrier(kind: Barrier, option: BarrierOption) -> Self {
        Self::System(System::Barrier { kind, option })
    }

    /// B: a jump.
    pub const fn b(offset: BranchOffset) -> Self {
        Self::Branch(Branch::B { offset })
    }

    /// BL: a call.
    pub const fn bl(offset: BranchOffset) -> Self {
        Self::Branch(Branch::Bl { offset })
    }

    /// BR: a jump to the address in a register.
    pub const fn br(rn: Reg) -> Self {
        Self::Branch(Branch::Register { link: Link::Jump, rn })
    }

    /// BLR: a call to the address in a register.
    pub const fn blr(rn: Reg) -> Self {
        Self::Branch(Branch::Register { link: Link::Call, rn })
    }

    /// BRK: a breakpoint.
    pub const fn brk(imm: u16) -> Self {
        Self::System(System::Exception { kind: Exception::Brk, imm: UImm::truncated(imm as u32) })
    }

    /// MRS: a system register into a general one.
    pub const fn mrs(rt: Reg, reg: SysReg) -> Self {
        Self::System(System::Mrs { rt, reg })
    }

    /// MSR: a general register into a system register.
    pub const fn msr(reg: SysReg, rt: Reg) -> Self {
        Self::System(System::Msr { reg, rt })
    }

    /// MOVZ, MOVN or MOVK of an X register: `imm` at bit `shift`, which is 0, 16, 32 or 48.
    ///
    /// # Errors
    /// [`EncodeError::NotEncodable`] for any other shift.
    pub const fn move_wide(op: MoveWide, rd: Reg, imm: u16, shift: u32) -> Result<Self, EncodeError> {
        match HalfWord::new(Width::X, shift) {
            Ok(at) => {
                let imm = UImm::truncated(imm as u32);
                Ok(Self::DataImm(DataImm::MoveWide { op, rd, imm, at }))
            }
            Err(error) => Err(error),
        }
    }

    /// ADD: X registers or SP, and a number.
    ///
    /// # Errors
    /// As [`ArithImm::new`].
    pub const fn add_imm(rd: RegOrSp, rn: RegOrSp, value: u32) -> Result<Self, EncodeError> {
        Self::add_sub_imm(AddSub::Add, rd, rn, value)
    }

    /// SUB: X registers or SP, and a number.
    ///
    /// # Errors
    /// As [`ArithImm::new`].
    pub const fn sub_imm(rd: RegOrSp, rn: RegOrSp, value: u32) -> Result<Self, EncodeError> {
        Self::add_sub_imm(AddSub::Sub, rd, rn, value)
    }

    const fn add_sub_imm(op: AddSub, rd: RegOrSp, rn: RegOrSp, value: u32) -> Result<Self, EncodeError> {
        match ArithImm::new(value) {
            Ok(imm) => Ok(Self::DataImm(DataImm::AddSub { op, width: Width::X, rd, rn, imm })),
            Err(error) => Err(error),
        }
    }

    /// ADRP.
    pub const fn adrp(rd: Reg, offset: PageOffset) -> Self {
        Self::DataImm(DataImm::Adrp { rd, offset })
    }

    /// LDR of an X register, `bytes` from the base.
    ///
    /// # Errors
    /// As [`Address::offset`].
    pub const fn ldr(rt: Reg, rn: RegOrSp, bytes: i64) -> Result<Self, EncodeError> {
        Self::access(Access::LoadX, rt, rn, bytes)
    }

    /// STR of an X register, `bytes` from the base.
    ///
    /// # Errors
    /// As [`Address::offset`].
    pub const fn str(rt: Reg, rn: RegOrSp, bytes: i64) -> Result<Self, EncodeError> {
        Self::access(Access::StoreX, rt, rn, bytes)
    }

    /// Any load or store, `bytes` from the base.
    ///
    /// # Errors
    /// As [`Address::offset`].
    pub const fn access(access: Access, rt: Reg, rn: RegOrSp, bytes: i64) -> Result<Self, EncodeError> {
        match Address::offset(bytes, access.log2_bytes()) {
            Ok(address) => Ok(Self::Memory(Memory::Single { access, rt, rn, address })),
            Err(error) => Err(error),
        }
    }

    /// LDP or STP, `bytes` from the base.
    ///
    /// # Errors
    /// As [`pair_offset`].
    pub const fn pair(
        access: PairAccess,
        rt: Reg,
        rt2: Reg,
        rn: RegOrSp,
        mode: PairMode,
        bytes: i64,
    ) -> Result<Self, EncodeError> {
        match pair_offset(bytes, access.log2_bytes()) {
            Ok(offset) => Ok(Self::Memory(Memory::Pair { access, mode, rt, rt2, rn, offset })),
            Err(error) => Err(error),
        }
    }
}
