//! What code without `unsafe` must not be able to say does not compile. Each file in `refused` is a program of its own, with
//! the compiler's words beside it; `TRYBUILD=overwrite cargo test -p safe refused` writes those anew.

#[test]
#[cfg_attr(miri, ignore = "starts a compiler")]
fn safe_code_can_not_say_it() {
    trybuild::TestCases::new().compile_fail("refused/*.rs");
}
