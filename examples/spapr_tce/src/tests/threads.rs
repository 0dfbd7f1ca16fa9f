//! Four at once: users that map and unmap, one that enables and disables, one that attaches and detaches.

use std::sync::Arc;
use std::thread;

use super::{PAGES, READ, Random, Setting, WRITE, argument, bus, caller_of, map, user};
use crate::{Argument, Detached, PAGE_SIZE, abi};

const ROUNDS: u32 = if cfg!(miri) { 20 } else { 20_000 };

#[test]
fn nothing_is_lost_between_four() {
    let Setting { container, group, process, .. } = Setting::attached();
    thread::scope(|scope| {
        for seed in 0..2 {
            let (container, process) = (&container, &process);
            scope.spawn(move || {
                let (caller, mut random) = (caller_of(process), Random(seed));
                for _ in 0..ROUNDS {
                    let (page, count) = (random.below(PAGES), 1 + random.below(4));
                    let (iova, size) = (bus(page), count * PAGE_SIZE);
                    // Whether it is enabled at the moment is the others' affair.
                    let _ = map(container, &caller, READ | WRITE, user(page), iova, size);
                    let mut bytes = argument([24, 0], [bus(random.below(PAGES)), PAGE_SIZE]);
                    let _ = container.ioctl(&caller, abi::UNMAP_DMA, Argument::Memory(&mut bytes));
                }
            });
        }
        scope.spawn(|| {
            let caller = caller_of(&process);
            for round in 0..ROUNDS {
                let command = if round % 3 == 0 { abi::DISABLE } else { abi::ENABLE };
                let _ = container.ioctl(&caller, command, Argument::Number(0));
            }
        });
        scope.spawn(|| {
            for _ in 0..ROUNDS / 4 {
                if container.detach(&group) != Detached::NotAttached {
                    // Between the two nobody maps; nothing is left of who did.
                    assert_eq!(group.mapped(), []);
                    container.attach(&group).unwrap();
                }
            }
        });
    });
    drop(container);
    assert_eq!((process.process.pins(), process.process.locked(), group.mapped().len()), (0, 0, 0));
    assert_eq!(Arc::strong_count(&process), 1);
}
