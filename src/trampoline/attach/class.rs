//! Where AAPCS64 puts arguments and results.

use super::error::AttachError;
use crate::insn::PairSize;
use crate::stub::{ARGUMENT_REGISTERS, CallShape, MAX_STACK_WORDS, Part, ResultPlace};
use arrayvec::ArrayVec;

/// The most arguments of a function.
pub(super) const MAX_ARGUMENTS: usize = 12;

/// How a value of a type is passed and returned (AAPCS64 6.8.2 and 6.9).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Class(pub(super) Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Unit,
    /// A number or a pointer, in one general register.
    Integer(Part),
    /// In as many vector registers as there are floats, or in as many bytes of the stack.
    Floats {
        count: u8,
        size: PairSize,
    },
    /// In one or two general registers; from an even one on, where it is aligned to 16 bytes.
    Composite {
        words: u8,
        is_aligned: bool,
    },
    /// In memory.
    Large,
}

impl Class {
    /// Of `()`.
    pub const UNIT: Self = Self(Kind::Unit);
    /// Of a `bool`.
    pub const BOOL: Self = Self(Kind::Integer(Part::Bit));
    /// Of a number of 8 bits.
    pub const BITS_8: Self = Self(Kind::Integer(Part::Byte));
    /// Of a number of 16 bits.
    pub const BITS_16: Self = Self(Kind::Integer(Part::Half));
    /// Of a number of 32 bits.
    pub const BITS_32: Self = Self(Kind::Integer(Part::Word));
    /// Of a number of 64 bits, or a pointer.
    pub const BITS_64: Self = Self(Kind::Integer(Part::Whole));
    /// Of a number of 128 bits.
    pub const BITS_128: Self = Self(Kind::Composite { words: 2, is_aligned: true });
    /// Of an `f32`, in a kernel that has registers for it.
    pub const F32: Self = Self(Kind::Floats { count: 1, size: PairSize::S });
    /// Of an `f64`, in a kernel that has registers for it.
    pub const F64: Self = Self(Kind::Floats { count: 1, size: PairSize::D });

    /// Of a struct, a union or an array, which is not one of [floats](Self::floats), and none of whose members has 128 bits. To
    /// what else it is aligned, as by `repr(align)`, makes no difference: its natural alignment is its members' (AAPCS64 5.10).
    ///
    /// # Panics
    ///
    /// It has no bytes.
    pub const fn composite<T>() -> Self {
        Self::composite_of::<T>(false)
    }

    /// The same, where a member has 128 bits: its natural alignment is 16.
    ///
    /// # Panics
    ///
    /// It has no bytes.
    pub const fn composite_16<T>() -> Self {
        Self::composite_of::<T>(true)
    }

    const fn composite_of<T>(is_aligned: bool) -> Self {
        assert!(size_of::<T>() > 0, "what has no bytes is not passed");
        match size_of::<T>() {
            1..=16 => Self(Kind::Composite { words: size_of::<T>().div_ceil(8) as u8, is_aligned }),
            _ => Self(Kind::Large),
        }
    }

    /// Of a struct or an array of one to four floats of the same type and nothing else (a homogeneous aggregate, AAPCS64
    /// 5.10.5), in a kernel that has registers for them.
    ///
    /// # Panics
    ///
    /// Its size is not that of one to four of them.
    pub const fn floats<T, Float: Copy>() -> Self {
        let (bytes, size) = (size_of::<T>(), size_of::<Float>());
        assert!(size == 4 || size == 8, "a float has 4 or 8 bytes");
        assert!(0 < bytes && bytes <= 4 * size && bytes.is_multiple_of(size), "it has one to four floats");
        let size_of_pair = if size == 4 { PairSize::S } else { PairSize::D };
        Self(Kind::Floats { count: (bytes / size) as u8, size: size_of_pair })
    }
}

/// A function's type: the classes of its arguments and of its result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Signature<'a> {
    /// Twelve at most.
    pub arguments: &'a [Class],
    /// What it returns.
    pub result: Class,
}

impl Signature<'_> {
    /// Where all of it is: the stages of AAPCS64 6.8.2, of which the names are in the comments.
    pub(super) fn shape(&self) -> Result<CallShape, AttachError> {
        if self.arguments.len() > MAX_ARGUMENTS {
            return Err(AttachError::TooManyArguments { arguments: self.arguments.len() });
        }
        let mut general = [Part::Whole; ARGUMENT_REGISTERS];
        let mut stack = ArrayVec::<Part, MAX_STACK_WORDS>::new();
        // A: the next general and vector registers; NSAA is the length of `stack`.
        let (mut ngrn, mut nsrn) = (0_usize, 0_usize);
        let (mut generals, mut vectors) = (0_usize, 0_usize);
        let is_whole = |stack: &mut ArrayVec<Part, MAX_STACK_WORDS>, part, words: usize| {
            (0..words).all(|_| stack.try_push(part).is_ok())
        };
        for (number, class) in self.arguments.iter().enumerate() {
            let fits = match class.0 {
                Kind::Unit | Kind::Large => return Err(AttachError::NotAnArgument { argument: number }),
                Kind::Integer(part) => {
                    if let Some(register) = general.get_mut(ngrn) {
                        // C.9
                        *register = part;
                        ngrn += 1;
                        generals = ngrn;
                        true
                    } else {
                        // C.14, C.16, C.17
                        is_whole(&mut stack, part, 1)
                    }
                }
                Kind::Floats { count, size } => {
                    let count = usize::from(count);
                    if nsrn + count <= ARGUMENT_REGISTERS {
                        // C.1, C.2
                        nsrn += count;
                        vectors = nsrn;
                        true
                    } else {
                        // C.3, C.5, C.6
                        nsrn = ARGUMENT_REGISTERS;
                        is_whole(&mut stack, Part::Whole, (count << size.log2_bytes()).div_ceil(8))
                    }
                }
                Kind::Composite { words, is_aligned } => {
                    let words = usize::from(words);
                    if is_aligned {
                        // C.10
                        ngrn = ngrn.next_multiple_of(2);
                    }
                    if ngrn + words <= ARGUMENT_REGISTERS {
                        // C.11, C.12
                        ngrn += words;
                        generals = ngrn;
                        true
                    } else {
                        // C.13, C.14, C.15
                        ngrn = ARGUMENT_REGISTERS;
                        let padding = usize::from(is_aligned && !stack.len().is_multiple_of(2));
                        is_whole(&mut stack, Part::Whole, padding + words)
                    }
                }
            };
            if !fits {
                return Err(AttachError::TooManyArguments { arguments: self.arguments.len() });
            }
        }
        let mut words = [Part::Whole; MAX_STACK_WORDS];
        words.iter_mut().zip(&stack).for_each(|(word, part)| *word = *part);
        let result = match self.result.0 {
            Kind::Unit => ResultPlace::Nowhere,
            Kind::Integer(part) => ResultPlace::General(part),
            Kind::Composite { words: 1, .. } => ResultPlace::General(Part::Whole),
            Kind::Composite { .. } => ResultPlace::GeneralPair,
            Kind::Floats { count, size } => ResultPlace::Vectors(count, size),
            Kind::Large => ResultPlace::Memory,
        };
        Ok(CallShape {
            general,
            generals: generals as u8,
            next_general: ngrn as u8,
            vectors: vectors as u8,
            stack: words,
            stack_words: stack.len() as u8,
            result,
        })
    }

    /// Whether a handler can answer: what is zero and what isn't is one general register.
    pub(super) const fn can_be_answered(&self) -> bool {
        matches!(self.result.0, Kind::Integer(_))
    }
}
