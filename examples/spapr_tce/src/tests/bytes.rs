//! Any bytes as arguments: an error or a success, and what must hold holds.

use std::vec::Vec;

use super::second::Second;
use super::{Failing, PAGES, Random, Setting, bus, user};
use crate::{Argument, Caller, Container, PAGE_SIZE, abi};

const CALLS: u32 = if cfg!(miri) { 200 } else { 150_000 };

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

fn any_command(random: &mut Random) -> u32 {
    match random.below(16) {
        0 => u32::try_from(random.below(1 << 32)).unwrap(),
        1..5 => abi::UNMAP_DMA,
        5..10 => abi::MAP_DMA,
        10 => abi::REGISTER_MEMORY,
        _ => abi::CHECK_EXTENSION + u32::try_from(random.below(21)).unwrap(),
    }
}

/// Calls with any bytes; `check` says what must hold after each. Both errors and successes must be met, or the bytes are none
/// that anybody writes.
fn call_with_any_bytes(container: &Container<Failing>, caller: &Caller<Failing>, check: impl Fn()) {
    let mut random = Random(6);
    let (mut good, mut bad) = (0_u32, 0_u32);
    for _ in 0..CALLS {
        let command = any_command(&mut random);
        let mut bytes = any_bytes(&mut random);
        let number = any_number(&mut random);
        let argument = if random.below(20) == 0 { Argument::Number(number) } else { Argument::Memory(&mut bytes) };
        match container.ioctl(caller, command, argument) {
            Ok(_) => good += 1,
            Err(_) => bad += 1,
        }
        check();
    }
    assert!(good > CALLS / 100 && bad > CALLS / 100, "{good} {bad}");
}

#[test]
fn any_argument_is_an_error_or_a_success() {
    let setting = Setting::enabled();
    call_with_any_bytes(&setting.container, &setting.caller, || setting.check());
}

#[test]
fn any_argument_of_the_second_version_is_an_error_or_a_success() {
    let setting = Second::attached();
    call_with_any_bytes(&setting.container, &setting.caller, || setting.check());
}
