//! Each failure in its turn: of a charge, of a pin, of an entry; and what is left then.

use super::{READ, Setting, WRITE, bus, user};
use crate::{Errno, Error, PAGE_SIZE};

#[test]
fn a_failed_enable_changes_nothing() {
    let setting = Setting::attached();
    setting.process.fail_after(0);
    assert_eq!(setting.enable().map_err(Error::errno), Err(Errno::ENOMEM));
    setting.check();
    assert_eq!(setting.map(READ, user(0), bus(0), PAGE_SIZE), Err(Error::NotEnabled));
    assert_eq!(setting.enable(), Ok(0));
}

#[test]
fn any_one_pin_can_fail() {
    for nth in 0..8 {
        let setting = Setting::enabled();
        setting.map(READ, user(8), bus(12), 2 * PAGE_SIZE).unwrap();
        let before = setting.group.mapped();
        setting.process.fail_after(nth);
        let refused = setting.map(READ | WRITE, user(0), bus(1), 8 * PAGE_SIZE);
        assert_eq!(refused, Err(Error::PageFault { address: user(nth) }));
        assert_eq!(setting.group.mapped(), before);
        setting.check();
        // And again, without the failure.
        assert_eq!(setting.map(READ | WRITE, user(0), bus(1), 8 * PAGE_SIZE), Ok(0));
        setting.check();
    }
}

#[test]
fn any_one_entry_can_be_in_use() {
    for nth in 0..8 {
        let setting = Setting::enabled();
        setting.map(READ, user(8), bus(1 + nth), PAGE_SIZE).unwrap();
        let before = setting.group.mapped();
        let refused = setting.map(READ, user(0), bus(1), 8 * PAGE_SIZE);
        assert_eq!(refused, Err(Error::EntryInUse { iova: bus(1 + nth) }));
        assert_eq!(setting.group.mapped(), before);
        setting.check();
    }
}

#[test]
fn what_a_device_has_used_meanwhile_is_undone_too() {
    let setting = Setting::enabled();
    let memory = setting.process.process.memory();
    setting.process.fail_after(3);
    assert!(setting.map(WRITE, user(0), bus(0), 4 * PAGE_SIZE).is_err());
    assert!(setting.group.dma_write(memory, bus(0), &[1]).is_err());
}
