//! Real threads on one ring: more writers than it is made for, and readers.

use super::{Journal, ring};
use crate::tracer::ring::Mode;
use core::sync::atomic::{AtomicBool, AtomicU64, Ordering};

const RECORDS: usize = 20_000;

#[test]
fn what_threads_write_is_read_whole_or_counted_as_lost() {
    for mode in [Mode::Overwrite, Mode::Stop] {
        let (ring, journal) = (ring::<AtomicU64, 64>(8, mode), &Journal::default());
        let over = &AtomicBool::new(false);
        std::thread::scope(|scope| {
            let writers: [_; 3] = core::array::from_fn(|thread| {
                scope.spawn(move || {
                    (0..RECORDS).for_each(|record| {
                        if !journal.write(ring, 1 + (record * 7 + thread) % 11) {
                            // Full: let the reader on.
                            std::thread::yield_now();
                        }
                    });
                })
            });
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    journal.consume(ring);
                    journal.look(ring);
                }
            });
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            over.store(true, Ordering::Relaxed);
        });
        let counts = journal.settle(ring);
        assert_eq!(counts.produced(), 3 * RECORDS as u64);
    }
}
