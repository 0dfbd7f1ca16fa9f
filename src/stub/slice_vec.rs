//! A vector in memory that it is given: what an engine holds is as much as the kernel says.

use core::mem::MaybeUninit;
use core::ops::{Deref, DerefMut};

/// A vector of at most as many elements as it was given places for. Those that are in it when it goes are not dropped.
pub(crate) struct SliceVec<T: 'static> {
    places: &'static mut [MaybeUninit<T>],
    /// # Invariants
    ///
    /// So many places, from the first on, are initialised.
    len: usize,
}

impl<T> SliceVec<T> {
    /// Makes an empty one in these places.
    pub(crate) const fn new(places: &'static mut [MaybeUninit<T>]) -> Self {
        Self { places, len: 0 }
    }

    /// Appends an element; returns whether there was a place for it.
    #[inline]
    pub(crate) fn push(&mut self, value: T) -> bool {
        let Some(place) = self.places.get_mut(self.len) else { return false };
        place.write(value);
        // INVARIANT: just written.
        self.len += 1;
        true
    }

    /// Removes the last element.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let last = self.len.checked_sub(1)?;
        let place = self.places.get(last)?;
        // INVARIANT: it is moved out.
        self.len = last;
        // SAFETY: it was initialised, by the type's invariant, and is not looked at again.
        Some(unsafe { place.assume_init_read() })
    }

    /// Inserts an element before those from `at` on; returns whether there was a place for it.
    #[cfg(feature = "module")]
    pub(crate) fn insert(&mut self, at: usize, value: T) -> bool {
        if !self.push(value) {
            return false;
        }
        // (Not `rotate_right`, which takes a kibibyte of stack.)
        for place in (at + 1..self.len).rev() {
            self.swap(place - 1, place);
        }
        true
    }

    /// Removes the element at `at`, if there is one.
    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        for place in at + 1..self.len {
            self.swap(place - 1, place);
        }
        if at < self.len { self.pop() } else { None }
    }

    /// How many there are places for.
    #[cfg(feature = "module")]
    pub(crate) const fn capacity(&self) -> usize {
        self.places.len()
    }

    /// How many there are.
    #[inline]
    pub(crate) const fn len(&self) -> usize {
        self.len
    }
}

impl<T: Copy> SliceVec<T> {
    pub(crate) const fn clear(&mut self) {
        self.truncate(0);
    }

    /// Removes all elements behind so many.
    #[inline]
    pub(crate) const fn truncate(&mut self, len: usize) {
        // INVARIANT: of no more places than before.
        if len < self.len {
            self.len = len;
        }
    }
}

impl<T> Deref for SliceVec<T> {
    type Target = [T];

    #[inline]
    fn deref(&self) -> &[T] {
        let places = self.places.get(..self.len).unwrap_or_default();
        // SAFETY: these places are initialised, by the type's invariant.
        unsafe { places.assume_init_ref() }
    }
}

impl<T> DerefMut for SliceVec<T> {
    #[inline]
    fn deref_mut(&mut self) -> &mut [T] {
        let places = self.places.get_mut(..self.len).unwrap_or_default();
        // SAFETY: these places are initialised, by the type's invariant.
        unsafe { places.assume_init_mut() }
    }
}

impl<'a, T> IntoIterator for &'a SliceVec<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'a, T> IntoIterator for &'a mut SliceVec<T> {
    type Item = &'a mut T;
    type IntoIter = core::slice::IterMut<'a, T>;

    #[inline]
    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

#[cfg(test)]
mod tests {
    use super::SliceVec;
    use core::mem::MaybeUninit;
    use std::boxed::Box;
    use std::string::{String, ToString};
    use std::vec::Vec;
    extern crate std;

    fn places<T, const N: usize>() -> SliceVec<T> {
        SliceVec::new(Box::leak(Box::new([const { MaybeUninit::uninit() }; N])))
    }

    #[test]
    fn it_holds_as_many_as_it_has_places_for_and_no_more() {
        let mut vec = places::<_, 3>();
        assert!(vec.push(1) && vec.push(2));
        assert_eq!(*vec, [1, 2]);
        assert!(vec.push(3) && !vec.push(4));
        vec[0] = 7;
        assert_eq!((&*vec, vec.len(), vec.capacity()), (&[7, 2, 3][..], 3, 3));
        vec.truncate(4);
        assert_eq!(vec.len(), 3);
        vec.truncate(1);
        assert_eq!(*vec, [7]);
        vec.clear();
        assert_eq!(*vec, []);
        let mut none = places::<_, 0>();
        assert!(!none.push(1) && none.pop().is_none());
    }

    #[test]
    fn what_owns_memory_is_moved_in_and_out() {
        let mut vec = places::<String, 3>();
        let mut model = Vec::new();
        for (at, name) in [(0, "b"), (0, "a"), (1, "c")] {
            assert!(vec.insert(at, name.to_string()));
            model.insert(at, name.to_string());
            assert_eq!(*vec, *model);
        }
        assert!(!vec.insert(1, "d".to_string()));
        assert_eq!(*vec, *model);
        assert_eq!((vec.remove(3), vec.remove(1)), (None, Some(model.remove(1))));
        assert_eq!(*vec, *model);
        assert_eq!((vec.remove(0), vec.pop(), vec.pop(), vec.len()), (Some("a".into()), Some("b".into()), None, 0));
    }
}
