//! The locks' order: `loom` tries every order in which the shrinker and users can take them.
#![cfg(not(miri))]

use core::ops::{Deref, DerefMut};
use std::sync::Arc;

use super::{blocks, extent};
use crate::Status::{Hole, Written};
use crate::{Allocated, Blocks, Clusters, FileSystem, Heap, Inode, Lock, Locks};

/// Locks made of what `loom` explores, so that it says where threads wait for each other.
///
/// Its own lock does not do: a thread that is about to try it is held up where another one takes it first.
#[derive(Debug)]
struct Explored;

struct ExploredLock<T> {
    is_taken: loom::sync::Mutex<bool>,
    is_free: loom::sync::Condvar,
    /// Nobody ever waits for this one: the flag says who may take it.
    value: std::sync::Mutex<T>,
}

struct ExploredGuard<'a, T> {
    value: Option<std::sync::MutexGuard<'a, T>>,
    lock: &'a ExploredLock<T>,
}

impl<T> ExploredLock<T> {
    fn take(&self, mut is_taken: loom::sync::MutexGuard<'_, bool>) -> ExploredGuard<'_, T> {
        *is_taken = true;
        ExploredGuard { value: Some(self.value.try_lock().expect("the flag says that it is free")), lock: self }
    }
}

impl Locks for Explored {
    type Lock<T> = ExploredLock<T>;
}

impl<T> Lock<T> for ExploredLock<T> {
    type Guard<'a>
        = ExploredGuard<'a, T>
    where
        T: 'a;

    fn new(value: T) -> Self {
        let is_taken = loom::sync::Mutex::new(false);
        Self { is_taken, is_free: loom::sync::Condvar::new(), value: std::sync::Mutex::new(value) }
    }

    fn lock(&self) -> Self::Guard<'_> {
        let mut is_taken = self.is_taken.lock().unwrap();
        while *is_taken {
            is_taken = self.is_free.wait(is_taken).unwrap();
        }
        self.take(is_taken)
    }

    fn try_lock(&self) -> Option<Self::Guard<'_>> {
        let is_taken = self.is_taken.lock().unwrap();
        (!*is_taken).then(|| self.take(is_taken))
    }
}

impl<T> Drop for ExploredGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        if std::thread::panicking() {
            return;
        }
        *self.lock.is_taken.lock().unwrap() = false;
        self.lock.is_free.notify_one();
    }
}

impl<T> Deref for ExploredGuard<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_deref().expect("it is there until it is dropped")
    }
}

impl<T> DerefMut for ExploredGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_deref_mut().expect("it is there until it is dropped")
    }
}

type ExploredInode = Inode<Heap, Explored>;

/// Runs a user beside the shrinker in every order, and then checks what must hold.
fn beside_the_shrinker(user: fn(&ExploredInode)) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(move || {
        let file_system = FileSystem::<Heap, Explored>::new(Heap, Clusters::default());
        let [used, other] = [(); 2].map(|()| Inode::new(&file_system));
        for inode in [&used, &other] {
            inode.insert(extent(0, 4, Written(100)));
            inode.insert_delayed(blocks(8, 2), Allocated::default());
        }
        let shrinker = {
            let file_system = Arc::clone(&file_system);
            loom::thread::spawn(move || file_system.shrink(8))
        };
        user(&used);
        shrinker.join().unwrap();
        for inode in [&used, &other] {
            inode.check().unwrap();
            assert_eq!(inode.delayed_clusters(Blocks::ALL), 2);
        }
        file_system.check().unwrap();
    });
}

#[test]
fn an_inode_that_gets_something_to_take_meets_the_shrinker() {
    beside_the_shrinker(|inode| {
        inode.clear();
        inode.insert(extent(20, 4, Hole));
    });
}

#[test]
fn a_lookup_meets_the_shrinker() {
    beside_the_shrinker(|inode| {
        // Whichever comes first, what is found is whole.
        assert!(inode.lookup(2).is_none_or(|found| found.extent == extent(0, 4, Written(100))));
    });
}

#[test]
fn the_last_of_an_inode_may_be_the_shrinker_s() {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(3);
    model.check(|| {
        let file_system = FileSystem::<Heap, Explored>::new(Heap, Clusters::default());
        let inode = Inode::new(&file_system);
        inode.insert(extent(0, 4, Written(100)));
        let shrinker = {
            let file_system = Arc::clone(&file_system);
            loom::thread::spawn(move || file_system.shrink(8))
        };
        drop(inode);
        shrinker.join().unwrap();
        assert_eq!((file_system.statistics().nodes, Arc::strong_count(&file_system)), (0, 1));
    });
}
