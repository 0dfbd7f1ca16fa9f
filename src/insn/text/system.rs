//! Exceptions, hints, barriers and system registers as text.

use core::fmt;

use super::Hex;
use crate::insn::{Barrier, BarrierOption, Exception, Hint, Reg, SysOp, SysReg, System, Width};

impl fmt::Display for Hint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "hint #{}", self.number()),
        }
    }
}

impl fmt::Display for SysReg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Register(*self, self.name()).fmt(f)
    }
}

/// A system register by its name, or by its place.
struct Register(SysReg, Option<&'static str>);

impl fmt::Display for Register {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = self.1 {
            return f.write_str(name);
        }
        let [op0, op1, crn, crm, op2] = self.0.parts();
        write!(f, "S{op0}_{op1}_C{crn}_C{crm}_{op2}")
    }
}

impl Exception {
    fn name(self) -> &'static str {
        match self {
            Self::Svc => "svc",
            Self::Hvc => "hvc",
            Self::Smc => "smc",
            Self::Brk => "brk",
            Self::Hlt => "hlt",
            Self::Dcps1 => "dcps1",
            Self::Dcps2 => "dcps2",
            Self::Dcps3 => "dcps3",
        }
    }

    fn changes_debug_state(self) -> bool {
        matches!(self, Self::Dcps1 | Self::Dcps2 | Self::Dcps3)
    }
}

impl fmt::Display for System {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Udf { imm } => write!(f, "udf #{}", imm.get()),
            Self::Exception { kind, imm } if kind.changes_debug_state() && imm.get() == 0 => f.write_str(kind.name()),
            Self::Exception { kind, imm } => write!(f, "{} {}", kind.name(), Hex(imm.get().into())),
            Self::Hint(hint) => hint.fmt(f),
            Self::Barrier { kind, option } => barrier(f, kind, option),
            Self::Sb => f.write_str("sb"),
            Self::Mrs { rt, reg } => {
                write!(f, "mrs {}, {}", rt.name(Width::X), Register(reg, reg.name_for_reading()))
            }
            Self::Msr { reg, rt } => {
                write!(f, "msr {}, {}", Register(reg, reg.name_for_writing()), rt.name(Width::X))
            }
            Self::MsrImm(write) => write!(f, "msr {}, #{}", write.field().name(), write.value()),
            Self::Cfinv => f.write_str("cfinv"),
            Self::Xaflag => f.write_str("xaflag"),
            Self::Axflag => f.write_str("axflag"),
            Self::Sys { op, rt } => sys(f, op, rt),
            Self::Sysl { rt, op } => write!(f, "sysl {}, {}", rt.name(Width::X), Operation(op)),
        }
    }
}

fn barrier(f: &mut fmt::Formatter<'_>, kind: Barrier, option: BarrierOption) -> fmt::Result {
    match (kind, option.number(), option.name()) {
        (Barrier::Clrex, 15, _) => f.write_str("clrex"),
        (Barrier::Clrex, number, _) => write!(f, "clrex #{number}"),
        (Barrier::Isb, 15, _) => f.write_str("isb"),
        (Barrier::Isb, number, _) => write!(f, "isb #{number}"),
        (Barrier::Dsb, 0, _) => f.write_str("ssbb"),
        (Barrier::Dsb, 4, _) => f.write_str("pssbb"),
        (Barrier::Dsb, 12, _) => f.write_str("dfb"),
        (Barrier::Dsb, _, Some(name)) => write!(f, "dsb {name}"),
        (Barrier::Dsb, number, None) => write!(f, "dsb #{number}"),
        (Barrier::Dmb, _, Some(name)) => write!(f, "dmb {name}"),
        (Barrier::Dmb, number, None) => write!(f, "dmb #{number}"),
    }
}

/// The operands of SYS: `#3, c7, c5, #1`.
struct Operation(SysOp);

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let SysOp { op1, crn, crm, op2 } = self.0;
        write!(f, "#{}, c{}, c{}, #{}", op1.get(), crn.get(), crm.get(), op2.get())
    }
}

fn sys(f: &mut fmt::Formatter<'_>, op: SysOp, rt: Reg) -> fmt::Result {
    match op.name() {
        Some(named) if named.takes_register() => {
            return write!(f, "{} {}, {}", named.mnemonic(), named.operation(), rt.name(Width::X));
        }
        Some(named) if rt.is_zero() => {
            return write!(f, "{} {}", named.mnemonic(), named.operation());
        }
        _ => {}
    }
    write!(f, "sys {}", Operation(op))?;
    if rt.is_zero() { Ok(()) } else { write!(f, ", {}", rt.name(Width::X)) }
}
