//! What memory holds after loading: the file's bytes, with the relocations filled in that stand for data.

use object::elf;

use super::{Image, Relocation, Target};

/// The word that a place holds, where it is an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pointer<'data> {
    /// This address, or this number.
    Address(u64),
    /// What another file defines, and so many bytes.
    External(&'data str, i64),
}

impl<'data> Image<'data> {
    /// The bytes of an address range, as they stand in the file; `None` where they are not all in one section of it.
    pub fn bytes_at(&self, address: u64, len: usize) -> Option<&'data [u8]> {
        let section = self.section_at(address)?;
        let start = usize::try_from(address - section.range.start).ok()?;
        section.bytes.get(start..start.checked_add(len)?)
    }

    /// The relocations of an address range.
    pub fn relocations_in(&self, start: u64, end: u64) -> &[Relocation<'data>] {
        let from = self.relocations.partition_point(|relocation| relocation.at < start);
        let to = self.relocations.partition_point(|relocation| relocation.at < end);
        self.relocations.get(from..to).unwrap_or_default()
    }

    /// The first relocation of this very place.
    pub fn relocation_at(&self, address: u64) -> Option<&Relocation<'data>> {
        self.relocations_in(address, address.saturating_add(1)).first()
    }

    /// The little-endian number of 1, 2, 4 or 8 bytes at an address, with the place's relocation filled in; `None` where there
    /// is none, or where another file says what it is.
    pub fn number_at(&self, address: u64, bytes: usize) -> Option<u64> {
        if let Some(relocation) = self.relocation_at(address)
            && let Some(value) = filled_in(relocation)
        {
            return value.map(|value| if bytes < 8 { value & ((1 << (8 * bytes)) - 1) } else { value });
        }
        let mut number = [0; 8];
        number.get_mut(..bytes)?.copy_from_slice(self.bytes_at(address, bytes)?);
        Some(u64::from_le_bytes(number))
    }

    /// The 64-bit word at an address, which may be another file's symbol.
    pub fn pointer_at(&self, address: u64) -> Option<Pointer<'data>> {
        if let Some(Relocation { target: Target::External(name), addend, .. }) = self.relocation_at(address) {
            return Some(Pointer::External(name, *addend));
        }
        self.number_at(address, 8).map(Pointer::Address)
    }
}

/// The value that a data relocation gives its place (AAELF64 5.7.5, 5.7.16): `None` for another kind of relocation, and for no
/// value where another file gives it.
fn filled_in(relocation: &Relocation<'_>) -> Option<Option<u64>> {
    match elf::RelocationType(relocation.kind) {
        elf::R_AARCH64_ABS64 | elf::R_AARCH64_ABS32 | elf::R_AARCH64_ABS16 | elf::R_AARCH64_RELATIVE => {
            Some(relocation.address())
        }
        elf::R_AARCH64_PREL64 | elf::R_AARCH64_PREL32 | elf::R_AARCH64_PREL16 => {
            Some(relocation.address().map(|address| address.wrapping_sub(relocation.at)))
        }
        _ => None,
    }
}
