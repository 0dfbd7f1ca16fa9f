//! For which functions a handler can answer.

use super::{NEAR, engine};
use crate::address::TextAddr;
use crate::trampoline::attach::{AttachError, Class, Signature, UntypedPoint, When};
use std::boxed::Box;
extern crate std;

#[test]
fn only_a_result_that_is_a_number_or_a_pointer_can_be_answered() {
    let (engine, function) = engine();
    let handler = TextAddr::new(NEAR);
    for (result, answered) in [
        (Class::BITS_8, Ok(())),
        (Class::BITS_64, Ok(())),
        (Class::UNIT, Err(AttachError::NoAnswer)),
        (Class::F64, Err(AttachError::NoAnswer)),
        (Class::BITS_128, Err(AttachError::NoAnswer)),
        (Class::composite::<u64>(), Err(AttachError::NoAnswer)),
        (Class::composite::<[u64; 3]>(), Err(AttachError::NoAnswer)),
    ] {
        let signature = Signature { arguments: &[Class::BITS_64], result };
        // SAFETY: 1. to 3. Nobody calls it.
        let point: &'static UntypedPoint = Box::leak(Box::new(unsafe { UntypedPoint::new(function, signature) }));
        // SAFETY: 1. and 2. as above.
        let attach = |when| unsafe { point.attach(engine, when, handler) };
        assert_eq!(attach(When::Modify), answered, "{result:?}");
        if answered.is_err() {
            assert_eq!((attach(When::Entry), engine.check_text().enabled), (Ok(()), 1), "{result:?}");
        }
        assert_eq!((point.detach(engine, handler), engine.check_text().enabled), (Ok(()), 0));
    }
}
