//! What callsites call keeps to a convention, which the compiler can't see.
use fentry::{Ops, TextAddr};
use fentry::ops::direct::Trampoline;

unsafe extern "C" fn code() {}

static BY_ADDRESS: Ops = Ops::direct(TextAddr::new(0x1000));
static BY_FUNCTION: Ops = Ops::direct_call(Trampoline::new(code));

fn main() {}
