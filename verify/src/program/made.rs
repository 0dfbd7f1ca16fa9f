//! Addresses that code makes of numbers in its instructions.

use fentry::insn::{DataImm, Insn};

use super::{FunctionId, InsnId, Program};

impl Program<'_> {
    /// The addresses that code makes of a page and an offset, by ADRP and ADD, or at once, by ADR, each with the instruction
    /// that completes it. Functions are gone through from their start to their end, whatever jumps say. What a relocation fills
    /// in is left out: it is in the list of those.
    pub(crate) fn made_addresses(&self) -> Vec<(InsnId, u64)> {
        let mut made = Vec::new();
        let mut pages = [None; 32];
        let mut function: Option<FunctionId> = None;
        for id in self.all() {
            let here = self.function_of(id);
            if here != function {
                (function, pages) = (here, [None; 32]);
            }
            let (insn, address) = (self.insn(id), self.address(id).get());
            let mut page = None;
            match insn {
                Insn::DataImm(_) if self.relocation(id).is_some() => {}
                Insn::DataImm(DataImm::Adr { offset, .. }) => {
                    made.push((id, address.wrapping_add_signed(offset.bytes())));
                }
                Insn::DataImm(DataImm::Adrp { offset, .. }) => {
                    page = Some((address & !0xfff).wrapping_add_signed(offset.bytes()));
                }
                Insn::DataImm(DataImm::AddSub { rn, .. }) => {
                    let sum = insn.effects().sum;
                    let base = pages.get(usize::from(rn.number())).copied().flatten();
                    made.extend(base.zip(sum).map(|(base, sum)| (id, u64::wrapping_add_signed(base, sum.bytes))));
                }
                _ => {}
            }
            let writes = insn.effects().writes.bits();
            for (number, known) in pages.iter_mut().enumerate() {
                if writes >> number & 1 == 1 {
                    *known = page;
                }
            }
        }
        made
    }
}
