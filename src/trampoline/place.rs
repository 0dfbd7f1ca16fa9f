//! A place for a table, and who uses it.

use super::description::{InUse, OpsStruct};
use super::users::{Came, Count, Current};
use crate::address::TextAddr;
use crate::engine::GeneratedText;
use core::cell::UnsafeCell;
use core::fmt;
use core::mem::MaybeUninit;
use core::ops::Deref;
use core::ptr::NonNull;
use core::sync::atomic::{AtomicU8, AtomicU64, Ordering};

/// What a place is for, now.
pub(super) mod phase {
    /// Nobody's.
    pub(in super::super) const FREE: u8 = 0;
    /// One thread's, which fills or empties it.
    pub(in super::super) const TAKEN: u8 = 1;
    pub(in super::super) const PREPARED: u8 = 2;
    pub(in super::super) const IN_USE: u8 = 3;
    /// Being freed: a `Replaced` waits for its users.
    pub(in super::super) const REPLACED: u8 = 4;
    /// Being freed: nobody waits, so whoever comes by frees it.
    pub(in super::super) const LEFT: u8 = 5;
}

/// A place for a table.
///
/// # Invariants
///
/// 1. Who has changed `phase` from `FREE` or `LEFT` to `TAKEN` has `content` to itself, until it stores another one.
/// 2. From `PREPARED` to `LEFT`, `content` is initialised and does not change. It is read by who has the `Prepared` or the
///    `Replaced`, and by users.
/// 3. It goes from `REPLACED` to `FREE` by who has the `Replaced`, from `LEFT` by who has taken it; both once no users are left.
pub(super) struct Place<T> {
    pub(super) phase: AtomicU8,
    pub(super) users: Count,
    /// Where generated members of the table are, for who asks for their names. It may be asked at any time, and what it finds
    /// there may be over: then the name is wrong, and nothing else.
    text: [AtomicU64; 2],
    content: UnsafeCell<MaybeUninit<Content<T>>>,
}

/// What is in a place.
pub(super) struct Content<T> {
    pub(super) name: &'static str,
    pub(super) table: InUse<T>,
    pub(super) generated: Option<Generated>,
}

/// What a table with generated members has.
pub(super) struct Generated {
    /// None where no member was asked for.
    pub(super) text: Option<GeneratedText>,
    /// The place of the table behind, of which this one is a user.
    pub(super) behind: usize,
}

// SAFETY: the content is written by one thread at a time, while no other one reads it: the type's invariants. What is in it
// may be read and dropped by any thread.
unsafe impl<T: OpsStruct> Sync for Place<T> {}

impl<T: OpsStruct> Place<T> {
    pub(super) const fn new() -> Self {
        Self {
            phase: AtomicU8::new(phase::FREE),
            users: Count::new(),
            text: [const { AtomicU64::new(0) }; 2],
            content: UnsafeCell::new(MaybeUninit::uninit()),
        }
    }

    /// Takes it, if it is in this phase.
    pub(super) fn take(&self, from: u8) -> bool {
        // Acquire: who had it before is done.
        self.phase.compare_exchange(from, phase::TAKEN, Ordering::Acquire, Ordering::Relaxed).is_ok()
    }

    /// Fills it.
    ///
    /// # Safety
    ///
    /// 1. The caller has taken it while it was `FREE`.
    pub(super) unsafe fn fill(&self, content: Content<T>) {
        if let Some(Generated { text: Some(text), .. }) = &content.generated {
            let text = text.text();
            self.text
                .iter()
                .zip([text.start, text.end])
                .for_each(|(place, at)| place.store(at.get(), Ordering::Relaxed));
        }
        // SAFETY: the caller has it to itself: its promise, and the type's first invariant.
        unsafe { (*self.content.get()).write(content) };
        self.users.hold();
        // INVARIANT: 2. just written.
        self.phase.store(phase::PREPARED, Ordering::Release);
    }

    /// Empties it, and gives back what was generated for it. Of `places` it is one.
    ///
    /// # Safety
    ///
    /// 1. It was filled, and nobody reads it any more, or will: the caller has it to itself.
    pub(super) unsafe fn free(&self, current: &Current, places: &[Self]) {
        // SAFETY: the caller has it to itself: its promise.
        let content = unsafe { &mut *self.content.get() };
        // SAFETY: it was filled: our caller's promise.
        let generated = unsafe { content.assume_init_mut() }.generated.take();
        self.text.iter().for_each(|place| place.store(0, Ordering::Relaxed));
        // INVARIANT: 3. and 1. what is left in it has not to be dropped.
        self.phase.store(phase::FREE, Ordering::Release);
        if let Some(Generated { text, behind }) = generated {
            // Nobody is inside, or will be: they were this place's users.
            drop(text);
            places.get(behind).into_iter().for_each(|place| current.leave(behind, &place.users));
        }
    }

    /// Where generated members of its table are.
    pub(super) fn text(&self) -> [TextAddr; 2] {
        self.text.each_ref().map(|at| TextAddr::new(at.load(Ordering::Relaxed)))
    }

    /// What is in it. It may be read as long as the place stays in one of the phases of the second invariant.
    pub(super) fn content(&self) -> NonNull<Content<T>> {
        // SAFETY: an `UnsafeCell`'s pointer is not NULL.
        unsafe { NonNull::new_unchecked(self.content.get()) }.cast()
    }

    /// The place is not in use any more: these had come by the word.
    pub(super) fn retire(&self, came: &Came) {
        self.phase.store(phase::REPLACED, Ordering::Relaxed);
        self.users.retire(came);
    }
}

/// Somebody who uses a table. As long as it is there, so is the table, and its functions may be called: by the methods of
/// the face that it derefs to.
///
/// A user that is forgotten ([`forget`](core::mem::forget)) uses the table for ever.
///
/// # Invariants
///
/// It is counted at its place, which was in use when that was done. So the content can be read.
pub struct User<'r, T: OpsStruct> {
    pub(super) current: &'r Current,
    pub(super) users: &'r Count,
    pub(super) place: usize,
    pub(super) content: NonNull<Content<T>>,
}

// SAFETY: it is a reference to a table, which may be read by any thread, and to counts.
unsafe impl<T: OpsStruct> Send for User<'_, T> {}
// SAFETY: as above.
unsafe impl<T: OpsStruct> Sync for User<'_, T> {}

impl<T: OpsStruct> User<'_, T> {
    /// The table, for one that has the same functions, and stays no longer.
    pub(super) fn copy(&self) -> T {
        // SAFETY: it can be read, by the type's invariant.
        let table = unsafe { &(*self.content.as_ptr()).table };
        // SAFETY: 1. the copy is put into a place that is a user of this one.
        *unsafe { table.table() }
    }

    /// The name of the implementation.
    pub fn name(&self) -> &'static str {
        // SAFETY: it can be read, by the type's invariant.
        unsafe { (*self.content.as_ptr()).name }
    }
}

impl<T: OpsStruct> Deref for User<'_, T> {
    type Target = T::Calls;

    #[inline(always)]
    fn deref(&self) -> &T::Calls {
        // SAFETY: it can be read, and does not change, by the type's invariant; and so for as long as the borrow of this user.
        let table = unsafe { &(*self.content.as_ptr()).table };
        T::calls(table)
    }
}

impl<T: OpsStruct> Clone for User<'_, T> {
    fn clone(&self) -> Self {
        // INVARIANT: counted once more.
        self.users.add();
        Self { ..*self }
    }
}

impl<T: OpsStruct> Drop for User<'_, T> {
    #[inline]
    fn drop(&mut self) {
        self.current.leave(self.place, self.users);
    }
}

impl<T: OpsStruct> fmt::Debug for User<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("User").field("ops", &T::NAME).field("name", &self.name()).finish()
    }
}
