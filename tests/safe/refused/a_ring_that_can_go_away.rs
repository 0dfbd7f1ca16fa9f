//! Stubs write to the slots for as long as the CPU lives.
use fentry::CpuArea;
use fentry::flight::Slot;

fn give(area: &CpuArea) {
    let slots = [const { Slot::new() }; 4];
    let _ = area.set_ring(&slots);
}

fn main() {}
