//! Reads linked images: maps the file, so that only what is read of it costs anything, and says what a file is that is
//! not an ELF image.

use std::fs::File;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use memmap2::Mmap;
use object::read::elf::ElfFile64;
use object::{Architecture, LittleEndian, Object};

/// A 64-bit little-endian ELF image.
pub type Image<'a> = ElfFile64<'a, LittleEndian>;

/// The magic number of arm64 Linux's flat Image, and its offset (Linux, Documentation/arch/arm64/booting.rst).
const FLAT_MAGIC_AT: usize = 56;
const FLAT_MAGIC: &[u8] = b"ARM\x64";

/// The compression formats of images, by their first bytes.
const PACKINGS: [(&[u8], &str); 4] = [
    (&[0x1f, 0x8b], "gzip"),
    (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
    (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
    (&[0x02, 0x21, 0x4c, 0x18], "lz4"),
];

/// Maps a file.
pub fn map(path: &Path) -> Result<Mmap> {
    let file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let is_file = file.metadata().is_ok_and(|metadata| metadata.is_file());
    ensure!(is_file, "{} is not a file", path.display());
    // SAFETY: whoever changes the file meanwhile makes this program read something else, and whoever truncates it ends it, as
    // with any linker's tool. What is read is checked wherever it is used, and never trusted to be the same twice.
    unsafe { Mmap::map(&file) }.with_context(|| format!("cannot map {}", path.display()))
}

/// Parses an arm64 image; the error names the usual other kinds of files.
pub fn parse(data: &[u8]) -> Result<Image<'_>> {
    if !data.starts_with(b"\x7fELF") {
        bail!(what_else(data));
    }
    let image = Image::parse(data).context("this is not a 64-bit little-endian ELF image")?;
    ensure!(image.architecture() == Architecture::Aarch64, "this image is for {:?}", image.architecture());
    Ok(image)
}

/// Says what a file is that is not ELF, and what to give instead.
pub fn what_else(data: &[u8]) -> String {
    let instead = "give the ELF file that it was made from (Linux: vmlinux), which has the symbols";
    if let Some((_, packing)) = PACKINGS.iter().find(|(magic, _)| data.starts_with(magic)) {
        return format!(
            "this is packed with {packing}: if there is an ELF image in it, unpack it first; else {instead}"
        );
    }
    if data.get(FLAT_MAGIC_AT..).is_some_and(|rest| rest.starts_with(FLAT_MAGIC)) {
        return format!("this is a flat Image with the boot header of arm64 Linux, not ELF: {instead}");
    }
    if data.starts_with(b"MZ") {
        let packed = if data.get(4..8) == Some(b"zimg") { ", with a packed kernel in it" } else { "" };
        return format!("this is an EFI application{packed}, not ELF: {instead}");
    }
    format!("this is not an ELF image; where it is a flat binary, {instead}")
}
