//! Any bytes as arguments: an error or a success, and what must hold holds.

use std::vec::Vec;

use super::{PAGES, Random, Setting, bus, user};
use crate::{Argument, PAGE_SIZE, abi};

const CALLS: u32 = if cfg!(miri) { 200 } else { 300_000 };

/// A number that means something somewhere, or any.
fn any_number(random: &mut Random) -> u64 {
    let (page, count) = (random.below(40), random.below(PAGES + 2));
    match random.below(10) {
        0 => random.next(),
        1 => random.below(64),
        2 => u64::MAX - random.below(4 * PAGE_SIZE),
        3 => 1 << random.below(64),
        4 => bus(count) | random.below(2),
        5 | 6 => bus(count),
        7 | 8 => user(page),
        _ => count * PAGE_SIZE,
    }
}

fn any_bytes(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    let sizes = [0, 16, 24, 31, 32, 33, u64::from(u32::MAX)];
    let size = sizes[usize::try_from(random.below(7)).unwrap()];
    let flags = if random.below(4) == 0 { random.next() } else { random.below(4) };
    bytes.extend((size | flags << 32).to_le_bytes());
    (0..4).for_each(|_| bytes.extend(any_number(random).to_le_bytes()));
    if random.below(8) == 0 {
        bytes.truncate(usize::try_from(random.below(41)).unwrap());
    }
    bytes
}

#[test]
fn any_argument_is_an_error_or_a_success() {
    let setting = Setting::enabled();
    let mut random = Random(6);
    let (mut good, mut bad) = (0_u32, 0_u32);
    for _ in 0..CALLS {
        let command = match random.below(16) {
            0 => u32::try_from(random.below(1 << 32)).unwrap(),
            1..6 => abi::UNMAP_DMA,
            6..12 => abi::MAP_DMA,
            _ => abi::CHECK_EXTENSION + u32::try_from(random.below(16)).unwrap(),
        };
        let mut bytes = any_bytes(&mut random);
        let number = any_number(&mut random);
        let argument = if random.below(20) == 0 { Argument::Number(number) } else { Argument::Memory(&mut bytes) };
        match setting.container.ioctl(&setting.caller, command, argument) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
        setting.check();
    }
    // Both must be met, or the bytes are none that anybody writes.
    assert!(good > CALLS / 50 && bad > CALLS / 50, "{good} {bad}");
}
