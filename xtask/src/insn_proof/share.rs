//! The share of real code that the model knows.
//!
//! In an ELF file with mapping symbols (`$x`, `$d`) only what follows a `$x` is code; without them, all of each executable
//! section is.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};
use fentry::insn::{Class, Insn};
use object::read::archive::ArchiveFile;
use object::{Object, ObjectSection, ObjectSymbol, SectionKind};

#[derive(Debug, Default)]
struct Share {
    known: u64,
    total: u64,
    unknown: BTreeMap<String, (u64, u32)>,
}

impl Share {
    fn count(&mut self, word: u32) {
        self.total += 1;
        match Insn::decode(word) {
            // Padding between functions, as the linker leaves it.
            Insn::Unknown { class, .. } => {
                let entry = self.unknown.entry(family(word, class)).or_insert((0, word));
                entry.0 += 1;
            }
            _ => self.known += 1,
        }
    }

    fn print(&self, name: &str) {
        let percent = 100.0 * self.known as f64 / self.total.max(1) as f64;
        println!("share, {name}: {} of {} words known, {percent:.3} %", self.known, self.total);
        let mut unknown: Vec<_> = self.unknown.iter().collect();
        unknown.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (family, (count, example)) in unknown.iter().take(12) {
            println!("    unknown: {count:6} {family}, {example:#010x} for instance");
        }
    }
}

fn family(word: u32, class: Class) -> String {
    format!("{class} {:#04x}......", word >> 24)
}

/// Prints the shares of the files, and of `core` and `alloc` where the toolchain has them built for arm64.
pub(super) fn print(files: &[PathBuf]) -> Result<()> {
    for file in files {
        let mut share = Share::default();
        count_file(file, &mut share)?;
        share.print(&file.display().to_string());
    }
    for target in ["aarch64-unknown-none", "aarch64-unknown-none-softfloat"] {
        let mut share = Share::default();
        for library in sysroot_libraries(target)? {
            count_file(&library, &mut share)?;
        }
        if share.total > 0 {
            share.print(&format!("core and alloc for {target}"));
        }
    }
    Ok(())
}

fn sysroot_libraries(target: &str) -> Result<Vec<PathBuf>> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).output().context("cannot run rustc")?;
    let sysroot = String::from_utf8(output.stdout)?;
    let folder = Path::new(sysroot.trim()).join("lib/rustlib").join(target).join("lib");
    let Ok(entries) = folder.read_dir() else {
        return Ok(Vec::new());
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let wanted = name.starts_with("libcore-") || name.starts_with("liballoc-");
        if wanted && name.ends_with(".rlib") {
            found.push(path);
        }
    }
    Ok(found)
}

fn count_file(file: &Path, share: &mut Share) -> Result<()> {
    let data = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let Ok(archive) = ArchiveFile::parse(data.as_slice()) else {
        return count_object(&data, share).with_context(|| format!("cannot read {}", file.display()));
    };
    for member in archive.members() {
        let bytes = member?.data(data.as_slice())?;
        if bytes.starts_with(b"\x7fELF") {
            count_object(bytes, share)?;
        }
    }
    Ok(())
}

fn count_object(data: &[u8], share: &mut Share) -> Result<()> {
    let object = object::File::parse(data)?;
    for section in object.sections().filter(|section| section.kind() == SectionKind::Text) {
        let mut marks: Vec<(u64, bool)> = object
            .symbols()
            .filter(|symbol| symbol.section_index() == Some(section.index()))
            .filter_map(|symbol| {
                let name = symbol.name().ok()?;
                let code = match name.get(..2)? {
                    "$x" => true,
                    "$d" => false,
                    _ => return None,
                };
                Some((symbol.address(), code))
            })
            .collect();
        marks.sort_unstable();
        let mut marks = marks.into_iter().peekable();
        let mut code = marks.peek().is_none();
        for (place, bytes) in section.data()?.chunks_exact(4).enumerate() {
            let address = section.address() + 4 * place as u64;
            while let Some((_, now)) = marks.next_if(|(at, _)| *at <= address) {
                code = now;
            }
            if let (true, Ok(bytes)) = (code, bytes.try_into()) {
                share.count(u32::from_le_bytes(bytes));
            }
        }
    }
    Ok(())
}
