//! The implementations of an ops struct: prepared, put in use, replaced.

use super::body::Body;
use super::check::check_table;
use super::description::{Description, InUse, MAX_MEMBERS, OpsStruct};
use super::error::OpsError;
use super::generate::{GeneratedName, generate, name_in};
use super::place::{Content, Generated, Place, User, phase};
use super::users::Current;
use crate::address::TextAddr;
use crate::engine::Engine;
use core::fmt;
use core::mem::ManuallyDrop;
use core::sync::atomic::Ordering;

/// The implementations of an ops struct, in a `static`: which one is in use, and places for as many as there are at a time. Two
/// are enough to replace one, if nobody stays with the old one for long.
///
/// ```
/// # use fentry::Engine;
/// # use fentry::trampoline::{Implementations, OpsError};
/// # fentry::ops_struct! {
/// #     pub struct PolicyOps => Policy {
/// #         fn pick(waiting: u64, last: u64) -> u64;
/// #     }
/// # }
/// # extern "C" fn oldest(_waiting: u64, last: u64) -> u64 { last + 1 }
/// static POLICY: Implementations<PolicyOps> = Implementations::new();
///
/// # fn start(engine: &Engine) -> Result<(), OpsError> {
/// POLICY.prepare(engine, "fifo", &PolicyOps { pick: Some(oldest) })?.put_in_use();
/// let policy = POLICY.user().expect("one is in use");
/// assert_eq!(policy.pick(10, 3), 4);
/// # Ok(())
/// # }
/// ```
pub struct Implementations<T: OpsStruct, const PLACES: usize = 4> {
    current: Current,
    places: [Place<T>; PLACES],
}

/// What becomes of a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It can be put in use.
    Prepared,
    /// New users come to it.
    InUse,
    /// It is not in use any more, and has so many users that were there before.
    BeingFreed {
        /// How many.
        users: u64,
    },
}

impl<T: OpsStruct, const PLACES: usize> Implementations<T, PLACES> {
    /// None, and none in use.
    #[expect(clippy::new_without_default, reason = "it is for statics")]
    pub const fn new() -> Self {
        const { assert!(0 < PLACES && PLACES < 1 << 16, "there are 1 to 65535 places") };
        const { assert!(T::MEMBERS.len() <= MAX_MEMBERS, "an ops struct has 64 members at most") };
        Self { current: Current::new(), places: [const { Place::new() }; PLACES] }
    }

    /// Checks a table, and gives it a place.
    ///
    /// Takes the engine's lock: by the [engine's rules](Engine) for that.
    ///
    /// # Errors
    ///
    /// [`OpsError`]: the first member that must not be called, or that there is no place.
    pub fn prepare(&self, engine: &Engine, name: &'static str, table: &T) -> Result<Prepared<'_, T>, OpsError> {
        // What is checked is what is put into the place, whatever becomes of the original.
        self.place(engine, name, *table, None)
    }

    /// Makes a table that is as the one `behind`, but that some of its members are generated: those that `bodies` names. Each may
    /// go on in the same member of the table behind, which stays as long as this one does.
    ///
    /// A generated member begins as a compiled one does: with the hash that callers look for, where they look for it, and with a
    /// landing pad. [`Unwinder`](crate::context::unwind::Unwinder) knows its way out of it, and [`name_of`](Self::name_of) its
    /// name.
    ///
    /// Takes the engine's lock: by the [engine's rules](Engine) for that; so does whoever frees the place later. It needs up to
    /// some hundred bytes for each member, of the room that the linker script has for generated code.
    ///
    /// # Errors
    ///
    /// [`OpsError`].
    pub fn prepare_generated(
        &self,
        engine: &'static Engine,
        name: &'static str,
        behind: &User<'_, T>,
        bodies: &[(&str, Body)],
    ) -> Result<Prepared<'_, T>, OpsError> {
        if !core::ptr::eq(behind.current, &raw const self.current) {
            return Err(OpsError::NotOurs { ops: T::NAME });
        }
        let mut table = behind.copy();
        let ops = Description::of::<T>();
        // SAFETY: 1. by the first and the fifth promise of who implemented `OpsStruct`. 2. The place keeps the text as long as the table,
        // and the table behind as well.
        let text = unsafe { generate(engine, &ops, (&raw mut table).cast(), bodies) }?;
        let behind = behind.clone();
        let prepared = self.place(engine, name, table, Some(Generated { text, behind: behind.place }))?;
        // From now on the place answers for this user.
        core::mem::forget(behind);
        Ok(prepared)
    }

    /// The name of the generated member that has the instruction at `at`, if it is one of these tables'.
    ///
    /// Takes the engine's lock: by the [engine's rules](Engine) for that.
    pub fn name_of(&self, engine: &Engine, at: TextAddr) -> Option<GeneratedName> {
        let ops = Description::of::<T>();
        self.places.iter().find_map(|place| name_in(engine, &ops, place.text(), at))
    }

    /// Checks a table, and gives it a place.
    fn place(
        &self,
        engine: &Engine,
        name: &'static str,
        table: T,
        generated: Option<Generated>,
    ) -> Result<Prepared<'_, T>, OpsError> {
        // SAFETY: 1. by the first and the fifth promise of who implemented `OpsStruct`.
        unsafe { check_table(engine, &Description::of::<T>(), (&raw const table).cast()) }?;
        let (number, place) = self.take_place().ok_or(OpsError::NoPlace { ops: T::NAME, places: PLACES })?;
        // SAFETY: 1. no member is NULL that must not be, as was just checked.
        let table = unsafe { InUse::new(table) };
        // SAFETY: 1. just taken.
        unsafe { place.fill(Content { name, table, generated }) };
        Ok(Prepared(Held { current: &self.current, places: &self.places, place, number }))
    }

    /// Takes a free place.
    fn take_place(&self) -> Option<(usize, &Place<T>)> {
        let free = || self.places.iter().enumerate().find(|(_, place)| place.take(phase::FREE));
        free().or_else(|| {
            self.reclaim();
            free()
        })
    }

    /// Frees the places of tables that were replaced while nobody [waits](Replaced) for their users, and that have none any more;
    /// returns how many still have.
    pub fn reclaim(&self) -> usize {
        let mut used = 0;
        for place in self.places.iter().filter(|place| place.take(phase::LEFT)) {
            if place.users.left() == 0 {
                // SAFETY: 1. taken, and it has no users.
                unsafe { place.free(&self.current, &self.places) };
            } else {
                place.phase.store(phase::LEFT, Ordering::Release);
                used += 1;
            }
        }
        used
    }

    /// Returns a user of the table that is in use; `None` where none is, or more than 2^31 users of it were forgotten.
    ///
    /// Waits for nothing, and takes no lock: for interrupt handlers and callbacks as well.
    #[inline]
    pub fn user(&self) -> Option<User<'_, T>> {
        let number = self.current.enter()?;
        let place = self.places.get(number)?;
        // INVARIANT: just counted.
        Some(User { current: &self.current, users: &place.users, place: number, content: place.content() })
    }

    /// Takes the table that is in use out of use; from then on there is none.
    pub fn take_out(&self) -> Option<Replaced<'_, T>> {
        replace(&self.current, &self.places, None)
    }

    /// Calls `show` with the state of each table.
    pub fn for_each(&self, mut show: impl FnMut(State)) {
        for place in &self.places {
            match place.phase.load(Ordering::Relaxed) {
                phase::PREPARED => show(State::Prepared),
                phase::IN_USE => show(State::InUse),
                phase::REPLACED | phase::LEFT => show(State::BeingFreed { users: place.users.left() }),
                _ => {}
            }
        }
    }
}

impl<T: OpsStruct, const PLACES: usize> fmt::Debug for Implementations<T, PLACES> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut list = f.debug_list();
        self.for_each(|state| {
            list.entry(&state);
        });
        list.finish()
    }
}

/// Puts a place in use, or none.
fn replace<'r, T: OpsStruct>(
    current: &'r Current,
    places: &'r [Place<T>],
    by: Option<usize>,
) -> Option<Replaced<'r, T>> {
    let (number, came) = current.replace(by)?;
    let place = places.get(number)?;
    place.retire(&came);
    Some(Replaced(Held { current, places, place, number }))
}

/// A place that somebody answers for.
struct Held<'r, T: OpsStruct> {
    current: &'r Current,
    places: &'r [Place<T>],
    place: &'r Place<T>,
    number: usize,
}

impl<T: OpsStruct> Held<'_, T> {
    fn name(&self) -> &'static str {
        // SAFETY: the place is prepared or replaced and stays so while it is held, so that its content does not change: the second
        // invariant of a place.
        unsafe { (*self.place.content().as_ptr()).name }
    }

    fn fmt(&self, f: &mut fmt::Formatter<'_>, state: &str) -> fmt::Result {
        f.debug_struct(state).field("ops", &T::NAME).field("name", &self.name()).finish()
    }
}

/// A table that was checked, and can be put in use. Dropped, it is forgotten.
#[must_use]
pub struct Prepared<'r, T: OpsStruct>(Held<'r, T>);

impl<'r, T: OpsStruct> Prepared<'r, T> {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// Puts it in use, in one moment: each user that comes later has this one. Returns the one that was in use before.
    pub fn put_in_use(self) -> Option<Replaced<'r, T>> {
        let this = ManuallyDrop::new(self);
        let Held { current, places, place, number } = this.0;
        // Relaxed: it is for who asks for the state. Who comes to the place is led there by the word.
        place.phase.store(phase::IN_USE, Ordering::Relaxed);
        replace(current, places, Some(number))
    }
}

impl<T: OpsStruct> Drop for Prepared<'_, T> {
    fn drop(&mut self) {
        // SAFETY: 1. it was prepared, and never in use: nobody else has it.
        unsafe { self.0.place.free(self.0.current, self.0.places) };
    }
}

impl<T: OpsStruct> fmt::Debug for Prepared<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f, "Prepared")
    }
}

/// A table that is not in use any more. It keeps its place while it has users; dropped, it is left to
/// [`reclaim`](Implementations::reclaim).
#[must_use = "its place is used again once it has no users: see `try_free`"]
pub struct Replaced<'r, T: OpsStruct>(Held<'r, T>);

impl<T: OpsStruct> Replaced<'_, T> {
    /// Its name.
    pub fn name(&self) -> &'static str {
        self.0.name()
    }

    /// How many users it has: nobody is inside one of its functions, or will be, once there are none.
    pub fn users(&self) -> u64 {
        self.0.place.users.left()
    }

    /// Frees its place.
    ///
    /// # Errors
    ///
    /// Itself, if it still has users.
    pub fn try_free(self) -> Result<(), Self> {
        if self.users() > 0 {
            return Err(self);
        }
        let this = ManuallyDrop::new(self);
        // SAFETY: 1. it was replaced, so that it gets no users any more, and has none.
        unsafe { this.0.place.free(this.0.current, this.0.places) };
        Ok(())
    }
}

impl<T: OpsStruct> Drop for Replaced<'_, T> {
    fn drop(&mut self) {
        self.0.place.phase.store(phase::LEFT, Ordering::Release);
    }
}

impl<T: OpsStruct> fmt::Debug for Replaced<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f, "Replaced")
    }
}
