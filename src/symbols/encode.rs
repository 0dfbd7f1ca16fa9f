//! The other direction: a table made from a list of functions, by a tool on the host.

extern crate alloc;

use alloc::string::String;
use alloc::vec::Vec;
use core::fmt;

use super::{ENTRY_LEN, HEADER_LEN, MAGIC, VERSION};

/// A function to put into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// The demangled name, without the hash.
    pub name: String,
    /// The address of its first byte, as linked.
    pub addr: u64,
    /// Its length in bytes.
    pub size: u64,
}

/// Why a list of functions does not fit into a table.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EncodeError {
    /// The function is 4 GiB or more away from the first one, or larger than that.
    TooFar {
        /// The function's name.
        name: String,
        /// The function's address.
        addr: u64,
    },
    /// The functions or their names are too many to be counted in 32 bits.
    TooMany,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFar { name, addr } => {
                write!(f, "The function {name} at {addr:#x} is 4 GiB or more away from the first one")
            }
            Self::TooMany => write!(f, "The functions and their names do not fit into 4 GiB"),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Makes a table of `functions`, to be linked at address `anchor` (0 where that isn't known).
///
/// The order of `functions` matters only among those with one address: of these the first is what a lookup by address
/// finds.
///
/// # Errors
/// Where the functions lie too far apart, or are too many; see [`EncodeError`].
pub fn encode(functions: &[Function], anchor: u64) -> Result<Vec<u8>, EncodeError> {
    let mut sorted: Vec<&Function> = functions.iter().collect();
    sorted.sort_by_key(|function| function.addr);
    let base = sorted.first().map_or(0, |function| function.addr);
    let mut by_name: Vec<u32> = (0..fit(sorted.len())?).collect();
    by_name.sort_by_key(|&index| (sorted[index as usize].name.as_str(), index));

    let (mut offsets, mut sizes, mut name_starts, mut names) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    for function in &sorted {
        let too_far = || EncodeError::TooFar { name: function.name.clone(), addr: function.addr };
        offsets.push(u32::try_from(function.addr - base).map_err(|_| too_far())?);
        sizes.push(u32::try_from(function.size).map_err(|_| too_far())?);
        name_starts.push(fit(names.len())?);
        names.push_str(&function.name);
    }

    let mut bytes = Vec::with_capacity(HEADER_LEN + sorted.len() * ENTRY_LEN + names.len());
    bytes.extend(MAGIC);
    bytes.extend(VERSION.to_le_bytes());
    bytes.extend(base.to_le_bytes());
    bytes.extend(anchor.to_le_bytes());
    bytes.extend(fit(sorted.len())?.to_le_bytes());
    bytes.extend(fit(names.len())?.to_le_bytes());
    for array in [offsets, sizes, name_starts, by_name] {
        bytes.extend(array.into_iter().flat_map(u32::to_le_bytes));
    }
    bytes.extend(names.as_bytes());
    Ok(bytes)
}

fn fit(count: usize) -> Result<u32, EncodeError> {
    u32::try_from(count).map_err(|_| EncodeError::TooMany)
}
