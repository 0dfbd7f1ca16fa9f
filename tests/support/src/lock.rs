//! The one lock of this kernel: a spin lock that masks interrupts while it is held.
//!
//! An interrupt handler may therefore take any lock. A CPU that waits for one has its interrupts masked as well, and
//! answers requests to synchronise from the waiting loop instead (see [`smp`](crate::smp)); otherwise two CPUs, one
//! waiting for the lock and one for the answer, could wait for each other.

use crate::interrupts::Masked;
use core::ops::{Deref, DerefMut};
use spin::mutex::{SpinMutex, SpinMutexGuard};
use spin::relax::RelaxStrategy;

/// Data behind a lock that masks interrupts.
#[derive(Debug)]
pub struct Lock<T>(SpinMutex<T, Answer>);

/// The right to use the data; interrupts are as they were once it is dropped.
#[derive(Debug)]
pub struct Guard<'a, T> {
    // Dropped in this order: the lock is free before interrupts can come.
    data: SpinMutexGuard<'a, T, Answer>,
    _masked: Masked,
}

/// Waits, and answers the other CPUs meanwhile.
#[derive(Debug)]
pub struct Answer;

impl RelaxStrategy for Answer {
    fn relax() {
        crate::smp::wait();
    }
}

impl<T> Lock<T> {
    /// Puts `data` behind a lock.
    pub const fn new(data: T) -> Self {
        Self(SpinMutex::new(data))
    }

    /// Masks interrupts and waits for the lock.
    pub fn lock(&self) -> Guard<'_, T> {
        let masked = Masked::new();
        Guard { data: self.0.lock(), _masked: masked }
    }

    /// Frees the lock whoever holds it: for the report of a fault, which must reach the console.
    ///
    /// # Safety
    ///
    /// Whoever holds the lock never runs again.
    pub unsafe fn break_open(&self) {
        // SAFETY: our caller promises that no guard is used any more.
        unsafe { self.0.force_unlock() }
    }
}

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.data
    }
}

impl<T> DerefMut for Guard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        &mut self.data
    }
}
