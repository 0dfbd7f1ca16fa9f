//! What is odd about an image's symbols.

use super::function::FunctionId;

/// Something odd about the symbols, that does not keep the image from being read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Oddity {
    /// A function begins inside another one, which is taken to end there.
    Overlap {
        /// The function that is taken to end earlier.
        first: FunctionId,
        /// The one that begins inside it.
        second: FunctionId,
    },
    /// Two symbols of one address have different sizes; the larger is taken.
    Sizes {
        /// Their function.
        function: FunctionId,
    },
}
