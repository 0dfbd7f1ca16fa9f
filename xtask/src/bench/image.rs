//! What the engine adds to a kernel's image, read from the image.

use anyhow::{Context, Result};
use object::{Object, ObjectSymbol, SymbolKind};

use super::lines::Count;

/// The engine's text, and the room for generated stubs.
pub(super) fn sizes(data: &[u8]) -> Result<Vec<Count>> {
    let image = cargo_fentry::image::parse(data)?;
    let addr_of = |name: &str| {
        let symbol = image.symbol_by_name(name).with_context(|| format!("the image has no symbol {name}"))?;
        anyhow::Ok(symbol.address())
    };
    let range = |name: &str| anyhow::Ok(addr_of(&format!("{name}_start"))?..addr_of(&format!("{name}_stop"))?);
    let text = range("__fentry_text")?;
    // A kernel has them in any case; they stand there only because the engine calls some of them.
    let builtins: u64 = image
        .symbols()
        .filter(|symbol| symbol.kind() == SymbolKind::Text && text.contains(&symbol.address()))
        .filter(|symbol| symbol.name().is_ok_and(is_of_compiler_builtins))
        .map(|symbol| symbol.size())
        .sum();
    let stubs = range("__fentry_stubs")?;
    let count = |key: &str, count| Count { key: key.to_owned(), size: None, count };
    Ok(vec![count("image-text", text.end - text.start - builtins), count("image-stubs", stubs.end - stubs.start)])
}

fn is_of_compiler_builtins(symbol: &str) -> bool {
    let name = format!("{:#}", rustc_demangle::demangle(symbol));
    name.contains("compiler_builtins::") || ["memcpy", "memmove", "memset", "memcmp", "bcmp"].contains(&symbol)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_builtins_are_told_from_the_engine() {
        assert!(is_of_compiler_builtins("memcpy"));
        assert!(is_of_compiler_builtins("_RNvNtCsabc_17compiler_builtins3mem6memcpy"));
        assert!(!is_of_compiler_builtins("_RNvNtCsabc_6fentry6engine8register"));
    }

    #[test]
    fn what_is_no_image_is_an_error() {
        assert!(sizes(b"no").is_err());
    }
}
