//! Prints places and oddities with names.

use std::fmt;

use super::{InsnId, Oddity, Program};

impl Program<'_> {
    /// Prints where an instruction is: `f+0x10`, with its address or, in an object, its section and offset.
    pub fn place(&self, id: InsnId) -> PlaceName<'_> {
        PlaceName { program: self, id }
    }
}

/// Prints an instruction's place.
#[derive(Clone, Copy, Debug)]
pub struct PlaceName<'a> {
    program: &'a Program<'a>,
    id: InsnId,
}

impl fmt::Display for PlaceName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { program, id } = *self;
        if let Some(function) = program.function_of(id) {
            let distance = program.address(id).get() - program.address(program.function(function).entry()).get();
            write!(f, "{}+{distance:#x} ", program.name(function))?;
        }
        if program.image.is_relocatable() {
            let text = program.text_of(id);
            write!(f, "({}+{:#x})", text.name, 4 * (id.0 - text.first))
        } else {
            write!(f, "({})", program.address(id))
        }
    }
}

impl Oddity {
    /// Prints it with names.
    pub fn display<'a>(self, program: &'a Program<'_>) -> impl fmt::Display + 'a {
        fmt::from_fn(move |f| match self {
            Self::Overlap { first, second } => {
                write!(f, "{} begins inside {}", program.name(second), program.name(first))
            }
            Self::Sizes { function } => {
                write!(f, "symbols at {} have different sizes", program.name(function))
            }
        })
    }
}
