//! Why a file is refused.

use thiserror::Error;

/// Why a file is refused. Each names what is wrong with it, and where.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the texts say what the fields are")]
pub enum ImageError {
    /// The file does not begin as an ELF file does.
    #[error("this is not an ELF file")]
    NotElf,
    /// It is a 32-bit or a big-endian one.
    #[error("this is not a 64-bit little-endian ELF file")]
    NotElf64Little,
    /// It is another machine's.
    #[error("this is a file for ELF machine {machine}, not for arm64 (183)")]
    OtherMachine { machine: u16 },
    /// It is neither an image nor an object: a core dump, for instance.
    #[error("this is an ELF file of type {kind}, neither a linked image (2, 3) nor a relocatable object (1)")]
    OtherKind { kind: u16 },
    /// What ELF requires does not hold.
    #[error("the file is damaged or truncated: {what}: {cause}")]
    Malformed { what: &'static str, cause: String },
    /// A section's bytes are not all in the file.
    #[error("the file is truncated: section `{section}` is not all in it")]
    Truncated { section: String },
    /// Nothing in it can be executed.
    #[error("there are no instructions: no section is executable")]
    NoText,
    /// Nothing says where functions are.
    #[error("there are no symbols of functions: the file is stripped; give the one that it was made from")]
    Stripped,
    /// Two sections lie at the same addresses.
    #[error("sections `{first}` and `{second}` overlap at {address:#x}")]
    Overlap { first: String, second: String, address: u64 },
    /// A section reaches past the end of the address space.
    #[error("section `{section}` does not fit into the address space")]
    TooLarge { section: String },
    /// Instructions that are not at multiples of four.
    #[error("the instructions of section `{section}` are not aligned: it begins at {address:#x}")]
    Misaligned { section: String, address: u64 },
    /// A function that is not where its section is.
    #[error("function `{name}` at {address:#x}, {size} bytes, is not inside its section `{section}`")]
    SymbolOutside { name: String, address: u64, size: u64, section: String },
    /// A function that begins inside an instruction.
    #[error("function `{name}` at {address:#x} does not begin at a multiple of 4")]
    SymbolMisaligned { name: String, address: u64 },
    /// Execution would begin where there are no instructions.
    #[error("the file's entry {address:#x} is not an instruction's address")]
    EntryNowhere { address: u64 },
    /// A relocation of something that is not there.
    #[error("relocation {number} of section `{section}` is at {offset:#x}, outside of it")]
    RelocationOutside { section: String, number: usize, offset: u64 },
    /// A relocation by a symbol that is not there.
    #[error("relocation {number} of section `{section}` refers to symbol {symbol}, which is not in the file")]
    RelocationSymbol { section: String, number: usize, symbol: usize },
}
