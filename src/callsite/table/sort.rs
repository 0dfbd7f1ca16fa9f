//! Sorting in place, in next to no stack: `sort_unstable` calls itself, with a frame of some hundred bytes for each of up to twice
//! as many levels as the length has bits.

/// Sorts by Shell's method, with the gaps of Gonnet and Baeza-Yates ("Handbook of Algorithms and Data Structures", 1991, 4.1.4): what is
/// nearly sorted, as a linker's order is, takes little more than to look at it.
pub(super) fn sort(slots: &mut [u64]) {
    if slots.is_sorted() {
        return;
    }
    let mut gap = slots.len();
    while gap > 1 {
        gap = (gap * 5 / 11).max(1);
        for index in gap..slots.len() {
            let slot = slots[index];
            let mut place = index;
            while place >= gap && slots[place - gap] > slot {
                slots[place] = slots[place - gap];
                place -= gap;
            }
            slots[place] = slot;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::sort;
    use std::vec::Vec;
    extern crate std;

    #[test]
    fn whatever_the_order_was_it_is_ascending() {
        let mut seed = 1_u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 33) % below
        };
        for length in (0..70).chain([1000, 5000]).take(if cfg!(miri) { 40 } else { 72 }) {
            for kinds in [2, 10, 1 << 30] {
                let mut slots: Vec<u64> = (0..length).map(|_| random(kinds)).collect();
                let mut expected = slots.clone();
                expected.sort_unstable();
                sort(&mut slots);
                assert_eq!(slots, expected);
                // Downwards, and nearly sorted.
                slots.reverse();
                sort(&mut slots);
                assert_eq!(slots, expected);
                if length > 2 {
                    slots.swap(1, length as usize - 1);
                    sort(&mut slots);
                    assert_eq!(slots, expected);
                }
            }
        }
    }
}
