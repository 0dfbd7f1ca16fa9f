//! Hook ids: which exit handler runs at a return, if its ops is still registered.
//!
//! A hooked call can be under way for as long as it likes, and its ops may be gone when it
//! returns: unregistered, and with a module its memory freed. So a frame of the shadow stack holds no pointer, but the
//! [`HookId`] that the ops was given when it was registered: the number of a slot in this file's table, and a generation
//! that no other registration gets. The return stub looks the slot up and compares:
//!
//! ```text
//!   frame.hook:  [ generation | where the slot is ]
//!                                    |
//!   table:       [ id | exit handler | ops | last id ]     the same id: the handler runs; another one: the ops is gone
//! ```
//!
//! A slot is given to another ops only when nobody can be between the two: after quiescence, which covers the return
//! stub's text. A number of 48 bits is not used twice.

use super::{ExitHandler, MAX_OPS, Ops};
use core::mem::offset_of;
use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

/// How many ops can hook returns at a time. The tests of a host share the table between many engines.
const SLOTS: usize = if cfg!(target_os = "none") { MAX_OPS } else { 1024 };

/// A registration of an ops that hooks returns.
///
/// The low 16 bits say where its slot is: the distance from the start of the 4 KiB page in which the table begins, as
/// `ADRP` gives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct HookId(u64);

/// What the return stub looks at.
#[repr(C)]
pub(crate) struct ExitSlot {
    /// The [`HookId`] whose exits are handled, or 0.
    id: AtomicU64,
    /// An [`ExitHandler`].
    exit: AtomicPtr<()>,
    /// The ops that has the slot; null if it is free.
    ops: AtomicPtr<Ops>,
    /// The id that was given last.
    last: AtomicU64,
}

// The stub loads both at once.
const _: () = assert!(offset_of!(ExitSlot, id) == 0 && offset_of!(ExitSlot, exit) == 8);
const _: () = assert!(size_of::<[ExitSlot; SLOTS]>() + 4096 <= 1 << 16);

/// The table, of all engines.
pub(crate) static EXITS: [ExitSlot; SLOTS] = [const { ExitSlot::new() }; SLOTS];

impl ExitSlot {
    const fn new() -> Self {
        Self {
            id: AtomicU64::new(0),
            exit: AtomicPtr::new(core::ptr::null_mut()),
            ops: AtomicPtr::new(core::ptr::null_mut()),
            last: AtomicU64::new(0),
        }
    }
}

impl HookId {
    const PLACE: u64 = 0xffff;

    /// Gives an ops a slot, with this exit handler; `None` if there is none left. Exits are handled from now on.
    pub(crate) fn take(ops: &'static Ops, exit: ExitHandler) -> Option<Self> {
        let address = core::ptr::from_ref(ops).cast_mut();
        let is_ours = |slot: &&ExitSlot| {
            let null = core::ptr::null_mut();
            slot.ops.compare_exchange(null, address, Ordering::Acquire, Ordering::Relaxed).is_ok()
        };
        let slot = EXITS.iter().find(is_ours)?;
        let place = core::ptr::from_ref(slot).addr() - page_of_table();
        let generation = (slot.last.load(Ordering::Relaxed) & !Self::PLACE) + (Self::PLACE + 1);
        let id = Self(generation | place as u64);
        slot.last.store(id.0, Ordering::Relaxed);
        slot.exit.store(exit as *mut (), Ordering::Relaxed);
        id.resume();
        Some(id)
    }

    /// Stops the handling of exits.
    pub(crate) fn suspend(self) {
        self.slot().id.store(0, Ordering::Release);
    }

    /// Resumes the handling of exits, those of calls that were entered before as well.
    pub(crate) fn resume(self) {
        self.slot().id.store(self.0, Ordering::Release);
    }

    /// Gives the slot back. Nobody can be inside the exit handler any more, or on the way there.
    pub(crate) fn give_back(self) {
        self.suspend();
        self.slot().ops.store(core::ptr::null_mut(), Ordering::Release);
    }

    /// Returns the id as a frame holds it.
    pub(crate) const fn get(self) -> u64 {
        self.0
    }

    fn slot(self) -> &'static ExitSlot {
        slot_of(self.0)
    }
}

/// Returns the ops of a frame's hook; null if it is gone.
pub(crate) fn ops_of(hook: u64) -> *const Ops {
    slot_of(hook).ops.load(Ordering::Acquire)
}

#[cfg(test)]
impl Ops {
    /// Returns whether the exits of calls that are hooked for it now will be handled.
    pub(crate) fn handles_exits(&self) -> bool {
        are_handled(self.hook.load(Ordering::Relaxed))
    }
}

/// Returns whether the exits of this hook's calls are handled.
#[cfg(test)]
pub(crate) fn are_handled(hook: u64) -> bool {
    hook != 0 && slot_of(hook).id.load(Ordering::Relaxed) == hook
}

fn slot_of(hook: u64) -> &'static ExitSlot {
    let first = EXITS.as_ptr().addr() - page_of_table();
    let number = ((hook & HookId::PLACE) as usize).wrapping_sub(first) / size_of::<ExitSlot>();
    // A number that was never given leads to a slot whose id is another one.
    &EXITS[number.min(SLOTS - 1)]
}

fn page_of_table() -> usize {
    EXITS.as_ptr().addr() & !0xfff
}

#[cfg(test)]
mod tests {
    use super::{HookId, are_handled, ops_of};
    use crate::ops::Ops;
    use crate::ops::probe::{Exit, Handlers, Probe};

    struct Nothing;
    impl Probe for Nothing {
        const ENTRY: bool = false;
        type Data = ();
        fn exit(_: &mut Exit<'_>, (): &()) {}
    }
    static OPS: Ops = Ops::returning::<Nothing>();

    fn take() -> HookId {
        HookId::take(&OPS, Handlers::<Nothing>::exit).unwrap()
    }

    fn is_handled(id: HookId) -> bool {
        are_handled(id.get())
    }

    #[test]
    fn a_slot_that_was_given_back_handles_no_exits_of_before() {
        let first = take();
        assert!(is_handled(first) && core::ptr::eq(ops_of(first.get()), &raw const OPS));
        first.give_back();
        assert!(!is_handled(first));
        // All there are: one of them has the slot of the first.
        let others: std::vec::Vec<_> = (0..100).map(|_| take()).collect();
        assert!(!others.contains(&first) && !is_handled(first));
        assert!(others.iter().all(|id| is_handled(*id)));
        others.into_iter().for_each(HookId::give_back);
    }

    #[test]
    fn suspended_exits_are_handled_again_when_they_are_resumed() {
        let id = take();
        id.suspend();
        assert!(!is_handled(id));
        id.resume();
        assert!(is_handled(id));
        id.give_back();
    }

    extern crate std;
}
