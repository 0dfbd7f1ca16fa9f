//! The locks of the kernel around it.
//!
//! Two are taken: an inode's, around its tree, and the file system's, around the list that the shrinker walks. A user of an
//! inode takes the list's with the inode's held, where the inode comes onto the list or goes. The shrinker comes from the
//! other side: it holds the list's when it has found an inode. So it must not wait for the inode's, and only tries.

use core::ops::DerefMut;

/// The kind of lock that a kernel has. Neither lock is taken by an interrupt; either may spin.
pub trait Locks {
    /// A lock around a value.
    type Lock<T>: Lock<T>;
}

/// Mutual exclusion around a value.
pub trait Lock<T> {
    /// Access to the value, until it is dropped.
    type Guard<'a>: DerefMut<Target = T>
    where
        Self: 'a,
        T: 'a;

    /// An open lock.
    fn new(value: T) -> Self;

    /// Waits until nobody else has the lock.
    fn lock(&self) -> Self::Guard<'_>;

    /// Takes the lock where nobody has it.
    fn try_lock(&self) -> Option<Self::Guard<'_>>;
}

/// Locks that spin (the crate `spin`).
#[derive(Clone, Copy, Debug)]
pub struct Spin;

impl Locks for Spin {
    type Lock<T> = spin::Mutex<T>;
}

impl<T> Lock<T> for spin::Mutex<T> {
    type Guard<'a>
        = spin::MutexGuard<'a, T>
    where
        T: 'a;

    fn new(value: T) -> Self {
        Self::new(value)
    }

    fn lock(&self) -> Self::Guard<'_> {
        self.lock()
    }

    fn try_lock(&self) -> Option<Self::Guard<'_>> {
        self.try_lock()
    }
}
