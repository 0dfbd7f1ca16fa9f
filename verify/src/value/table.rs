//! How tables of jumps are laid out.
//!
//! | | table | element | goes to |
//! |---|---|---|---|
//! | LLVM, bytes and half-words | `adrp`, `add` | `ldrb`, `ldrh`: unsigned | `adr` + 4 × element |
//! | LLVM, words | `adrp`, `add` | `ldrsw`: signed | table + element |
//! | GCC | `adrp`, `add` | `ldrb`, `ldrh`, `ldr`; `add` with `sxtb`, `sxth`, `sxtw` | `adr` + 4 × element |
//! | addresses | `adrp`, `add` | `ldr` of 64 bits | element |
//!
//! The number of elements is what the index is compared with before (`cmp`, `b.hi`), or at most what its width allows.

/// Larger tables are not believed.
pub(super) const MAX_ELEMENTS: u64 = 1 << 16;

/// The number of a shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ShapeId(u32);

/// A table of jumps, as far as the instructions have said by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Shape {
    /// Where it is.
    pub table: u64,
    /// The size of an element in bytes, as a power of two: 0 to 3.
    pub log2_bytes: u8,
    /// Whether an element has a sign.
    pub is_signed: bool,
    /// The number of elements; `None` where nothing bounds the index.
    pub count: Option<u32>,
    /// Whether that is by a comparison, and not by the width of what the index was loaded from.
    pub is_compared: bool,
    /// What an element is added to; zero where it is an address itself.
    pub anchor: u64,
    /// How far an element is shifted left before.
    pub shift: u8,
}

/// The shapes that were seen, each once.
#[derive(Clone, Debug, Default)]
pub struct Shapes(Vec<Shape>);

impl Shapes {
    /// The number of this shape.
    pub fn intern(&mut self, shape: Shape) -> ShapeId {
        let index = self.0.iter().position(|known| *known == shape).unwrap_or_else(|| {
            self.0.push(shape);
            self.0.len() - 1
        });
        ShapeId(index as u32)
    }

    /// The shape of this number.
    pub fn get(&self, id: ShapeId) -> Option<Shape> {
        self.0.get(id.0 as usize).copied()
    }
}
