//! Cortex-A53 erratum 843419: a load that follows an ADRP in the last two words of a 4 KiB page may get a wrong address.
//! The loader puts something else in the place of such an ADRP.

use crate::address::TextAddr;
use crate::callsite::veneer::{UDF, Veneer};
use crate::insn::{AdrOffset, BranchOffset, DataImm, EncodeError, Insn, PageOffset};

/// Whether the CPUs have Cortex-A53 erratum 843419.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Erratum843419 {
    /// No ADRP may be at the end of a page.
    Present,
    /// ADRP may be anywhere.
    Absent,
}

impl Erratum843419 {
    /// Reads MIDR_EL1 and REVIDR_EL1 of one CPU: the erratum is Cortex-A53's up to r0p4, unless the part was fixed.
    pub const fn of_cpu(midr: u64, revidr: u64) -> Self {
        const CORTEX_A53: u64 = 0x4100_d030;
        let (part, revision) = (midr & 0xff00_fff0, (midr >> 20 & 0xf) << 4 | midr & 0xf);
        let fixed = revision == 4 && revidr >> 8 & 1 != 0;
        if part == CORTEX_A53 && revision <= 4 && !fixed { Self::Present } else { Self::Absent }
    }
}

/// What stands in the place of an ADRP that Cortex-A53 erratum 843419 forbids there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AdrpInstead {
    /// ADR, which computes the same page address and is not affected.
    Adr(u32),
    /// B to a veneer that has the ADRP and the way back.
    Veneer {
        /// The branch.
        branch: u32,
        /// The veneer.
        veneer: Veneer,
    },
}

impl AdrpInstead {
    /// Finds what replaces `adrp`, the word at `at`, given a veneer's room at `room`; `None` if that word is no ADRP.
    ///
    /// # Errors
    ///
    /// [`EncodeError`] where the veneer is out of reach of B, or the page out of reach of the veneer.
    pub(crate) fn of(adrp: u32, at: TextAddr, room: TextAddr) -> Option<Result<Self, EncodeError>> {
        let Some(DataImm::Adrp { rd, offset }) = DataImm::decode(adrp) else { return None };
        let page = offset.target(at.get());
        if let Ok(offset) = AdrOffset::between(at.get(), page) {
            return Some(Ok(Self::Adr(Insn::DataImm(DataImm::Adr { rd, offset }).encode())));
        }
        let instead = || {
            let there = BranchOffset::between(at.get(), room.get())?;
            let back = BranchOffset::between(room.offset(4).get(), at.offset(4).get())?;
            let adrp = Insn::adrp(rd, PageOffset::between(room.get(), page)?);
            let veneer = Veneer::from_words([adrp.encode(), Insn::b(back).encode(), UDF, UDF]);
            Ok(Self::Veneer { branch: Insn::b(there).encode(), veneer })
        };
        Some(instead())
    }
}

#[cfg(test)]
mod tests {
    use super::AdrpInstead;
    use crate::address::TextAddr;
    use crate::insn::{Insn, PageOffset, Reg};

    const fn at(addr: u64) -> TextAddr {
        TextAddr::new(addr)
    }

    #[test]
    fn a_forbidden_adrp_becomes_adr_or_goes_through_a_veneer() {
        let place = at(0x4000_0ffc);
        let adrp = |to| Insn::adrp(Reg::X3, PageOffset::between(place.get(), to).unwrap()).encode();
        assert_eq!(
            AdrpInstead::of(adrp(0x4000_8000), place, at(0x4001_0000)),
            // adr x3, +0x7004
            Some(Ok(AdrpInstead::Adr(0x1003_8023)))
        );
        let Some(Ok(AdrpInstead::Veneer { branch, veneer })) =
            AdrpInstead::of(adrp(0x5000_0000), place, at(0x4001_0000))
        else {
            panic!("1 MiB is ADR's reach");
        };
        // b +0xf004; adrp x3, +0xfff0000; b -0xf004
        assert_eq!((branch, veneer.words()), (0x1400_3c01, [0x9007_ff83, 0x17ff_c3ff, 0, 0]));
        assert_eq!(AdrpInstead::of(0xd503_201f, place, at(0x4001_0000)), None);
    }
}
