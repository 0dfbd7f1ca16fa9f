//! Where arguments are: AAPCS64 6.8.2 read once more, argument by argument, for what the tests expect; and by hand.

use crate::insn::PairSize;
use crate::stub::{Part, ResultPlace};
use crate::trampoline::attach::class::{Class, Kind, Signature};
use crate::trampoline::attach::error::AttachError;
use std::vec::Vec;
extern crate std;

/// Where eight bytes of an argument are, or fewer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    X(usize),
    V(usize),
    /// So many bytes above SP.
    Stack(usize),
}

/// One argument: where its parts are, and how many bits of each are its own.
pub(super) type Parts = Vec<(At, u32)>;

/// Where the arguments are, and the length of those on the stack in bytes; last, where one more pointer would be.
pub(super) fn places(arguments: &[Class]) -> (Vec<Parts>, usize, At) {
    let (mut x, mut v, mut stack) = (0, 0, 0);
    let mut all = Vec::new();
    let mut on_stack = |bytes: usize, align: usize, bits: u32| -> Parts {
        stack = usize::next_multiple_of(stack, align.max(8));
        let parts = (0..bytes.div_ceil(8)).map(|n| (At::Stack(stack + 8 * n), bits)).collect();
        stack += bytes.next_multiple_of(8);
        parts
    };
    for class in arguments {
        let parts = match class.0 {
            Kind::Integer(part) => {
                let bits = match part {
                    Part::Bit => 1,
                    Part::Byte => 8,
                    Part::Half => 16,
                    Part::Word => 32,
                    Part::Whole => 64,
                };
                x += 1;
                if x <= 8 { Vec::from([(At::X(x - 1), bits)]) } else { on_stack(8, 8, bits) }
            }
            Kind::Composite { words, is_aligned } => {
                let words = usize::from(words);
                if is_aligned && x % 2 == 1 {
                    x += 1;
                }
                x += words;
                if x <= 8 {
                    (x - words..x).map(|n| (At::X(n), 64)).collect()
                } else {
                    // "The NGRN is set to 8": no later one is in a register.
                    x = 8;
                    on_stack(8 * words, if is_aligned { 16 } else { 8 }, 64)
                }
            }
            Kind::Floats { count, size } => {
                let (count, bytes) = (usize::from(count), if size == PairSize::S { 4 } else { 8 });
                v += count;
                if v <= 8 {
                    (v - count..v).map(|n| (At::V(n), 8 * bytes as u32)).collect()
                } else {
                    v = 8;
                    on_stack(count * bytes, bytes, 64)
                }
            }
            Kind::Unit | Kind::Large => unreachable!("no argument"),
        };
        all.push(parts);
    }
    let pointer = if x < 8 { At::X(x) } else { At::Stack(stack) };
    (all, stack, pointer)
}

#[test]
fn arguments_are_where_the_procedure_call_standard_says() {
    const PAIR: Class = Class(Kind::Composite { words: 2, is_aligned: false });
    const FOUR: Class = Class(Kind::Floats { count: 4, size: PairSize::S });
    /// Arguments, and how many general registers they take, up to which, how many vector registers and words of the stack.
    type Case = (&'static [Class], (u8, u8, u8, u8));
    let cases: [Case; 8] = [
        (&[], (0, 0, 0, 0)),
        (&[Class::BITS_8; 8], (8, 8, 0, 0)),
        (&[Class::BITS_64; 12], (8, 8, 0, 4)),
        // A pair that does not fit is on the stack, and all that come after it.
        (&[Class::BITS_64, PAIR, PAIR, PAIR, PAIR, Class::BITS_64], (7, 8, 0, 3)),
        // One of 128 bits begins with an even register; on the stack, at a multiple of 16.
        (&[Class::BITS_64, Class::BITS_128], (4, 4, 0, 0)),
        (&[Class::BITS_64, PAIR, PAIR, PAIR, PAIR, Class::BITS_64, Class::BITS_128], (7, 8, 0, 6)),
        // Floats have registers of their own, and are side by side on the stack.
        (&[FOUR, FOUR, Class::F64, FOUR, Class::BITS_64], (1, 1, 8, 3)),
        (&[FOUR, Class::F32, FOUR, Class::F32], (0, 0, 5, 3)),
    ];
    for (arguments, expected) in cases {
        let shape = Signature { arguments, result: Class::UNIT }.shape().unwrap();
        let found = (shape.generals, shape.next_general, shape.vectors, shape.stack_words);
        assert_eq!(found, expected, "{arguments:?}");
        assert_eq!(places(arguments).1, 8 * usize::from(shape.stack_words), "{arguments:?}");
    }
}

#[test]
fn results_are_where_the_procedure_call_standard_says() {
    let place = |result| Signature { arguments: &[], result }.shape().unwrap().result;
    assert_eq!(place(Class::UNIT), ResultPlace::Nowhere);
    assert_eq!(place(Class::BITS_16), ResultPlace::General(Part::Half));
    assert_eq!(place(Class::BITS_128), ResultPlace::GeneralPair);
    assert_eq!(place(Class::composite::<[u8; 3]>()), ResultPlace::General(Part::Whole));
    assert_eq!(place(Class::composite::<[u32; 3]>()), ResultPlace::GeneralPair);
    assert_eq!(place(Class::composite::<[u32; 5]>()), ResultPlace::Memory);
    assert_eq!(place(Class::F32), ResultPlace::Vectors(1, PairSize::S));
    assert_eq!(place(Class::floats::<[f64; 4], f64>()), ResultPlace::Vectors(4, PairSize::D));
}

#[test]
fn what_is_no_argument_is_refused() {
    let shape = |arguments: &[Class]| Signature { arguments, result: Class::UNIT }.shape().err();
    assert_eq!(shape(&[Class::BITS_8; 13]), Some(AttachError::TooManyArguments { arguments: 13 }));
    let large = Class::composite::<[u64; 3]>();
    assert_eq!(shape(&[Class::F64, large]), Some(AttachError::NotAnArgument { argument: 1 }));
    assert_eq!(shape(&[Class::UNIT]), Some(AttachError::NotAnArgument { argument: 0 }));
    // Most of them all on the stack.
    let most = [Class::floats::<[f64; 4], f64>(); 12];
    assert_eq!(Signature { arguments: &most, result: Class::UNIT }.shape().unwrap().stack_words, 40);
}
