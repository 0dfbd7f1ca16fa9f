//! Only benchmarks: `cargo bench -p examples-bench`.
