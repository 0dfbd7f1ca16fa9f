//! A walk over the tables that the running CPU uses: what is mapped, and what may be done with it.
//!
//! From TTBR0_EL1 and the descriptors themselves, not from what this kernel believes that it mapped.

use aarch64_cpu::registers::TTBR0_EL1;
use alloc::vec::Vec;
use core::fmt;

/// A contiguous piece of the address space with the same permissions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mapped {
    /// The first virtual address.
    pub virtual_start: u64,
    /// The physical address that it stands for.
    pub physical_start: u64,
    /// The length in bytes.
    pub size: u64,
    /// Whether the kernel may write there.
    pub writable: bool,
    /// Whether the kernel or a user may execute what is there.
    pub executable: bool,
    /// Whether indirect branches must find a landing pad there.
    pub guarded: bool,
    /// Whether it is device memory.
    pub device: bool,
}

impl Mapped {
    /// Whether some of the `size` bytes of physical memory from `physical` on are mapped by this.
    pub fn reaches(&self, physical: u64, size: u64) -> bool {
        self.physical_start < physical + size && physical < self.physical_start + self.size
    }

    fn is_continued_by(&self, next: &Self) -> bool {
        let moved = Self {
            virtual_start: self.virtual_start + self.size,
            physical_start: self.physical_start + self.size,
            size: next.size,
            ..*self
        };
        moved == *next
    }
}

impl fmt::Display for Mapped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flag = |set: bool, letter| if set { letter } else { '-' };
        write!(
            f,
            "{:#014x}..{:#014x} -> {:#014x} r{}{}{}{}",
            self.virtual_start,
            self.virtual_start + self.size,
            self.physical_start,
            flag(self.writable, 'w'),
            flag(self.executable, 'x'),
            flag(self.guarded, 'g'),
            flag(self.device, 'd'),
        )
    }
}

const ENTRIES: u64 = 512;
const LAST_LEVEL: u32 = 3;
/// Bits 47 to 12: where a table or page is.
const ADDRESS: u64 = 0x0000_ffff_ffff_f000;

/// Everything that the running CPU has mapped, in ascending order.
pub fn mappings() -> Vec<Mapped> {
    let mut found = Vec::new();
    // 39 bits of address: the first level is 1.
    walk_table(TTBR0_EL1.get_baddr(), 1, 0, &mut found);
    found
}

fn walk_table(table: u64, level: u32, base: u64, found: &mut Vec<Mapped>) {
    let entry_size = 4096 << (9 * (LAST_LEVEL - level));
    for index in 0..ENTRIES {
        let address = core::ptr::with_exposed_provenance::<u64>((table + index * 8) as usize);
        // SAFETY: the tables are in this kernel's memory, which is mapped at its physical addresses.
        let descriptor = unsafe { address.read_volatile() };
        let virtual_start = base + index * entry_size;
        match (descriptor & 0b11, level) {
            (0b11, LAST_LEVEL) => push(found, leaf(descriptor, virtual_start, entry_size)),
            (0b11, _) => walk_table(descriptor & ADDRESS, level + 1, virtual_start, found),
            (0b01, 1 | 2) => push(found, leaf(descriptor, virtual_start, entry_size)),
            _ => {}
        }
    }
}

fn leaf(descriptor: u64, virtual_start: u64, size: u64) -> Mapped {
    let bit = |number: u32| descriptor >> number & 1 != 0;
    Mapped {
        virtual_start,
        physical_start: descriptor & ADDRESS & !(size - 1),
        size,
        writable: !bit(7),
        executable: !bit(53) || !bit(54),
        guarded: bit(50),
        device: descriptor >> 2 & 0b111 == 0,
    }
}

fn push(found: &mut Vec<Mapped>, next: Mapped) {
    match found.last_mut() {
        Some(last) if last.is_continued_by(&next) => last.size += next.size,
        _ => found.push(next),
    }
}
