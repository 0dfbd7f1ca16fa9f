//! A mask says what the CPU's interrupts were: only the machine that masked them knows.
use fentry::text::InterruptMask;

fn made() -> InterruptMask {
    InterruptMask::from_daif(0)
}

fn main() {}
