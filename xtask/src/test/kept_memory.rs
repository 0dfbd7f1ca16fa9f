//! A kernel that is booted again in the memory that it has left, as after a reset.
//!
//! The machine's memory is a file, of which QEMU loads the image's part anew. What is in the rest at the end is what a tool must
//! find there.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_fentry::progress::Step;
use cargo_fentry::qemu::{self, Boot, Outcome};
use cargo_fentry::trace::proof;

use crate::kernels::console::Verdict;

/// As QEMU is told.
const MEGABYTES: u64 = 512;

/// The file, for as long as a machine may need it.
struct Memory(PathBuf);

impl Memory {
    fn new(directory: &Path) -> Result<Self> {
        std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
        let memory = Self(directory.join("memory"));
        File::create(&memory.0)
            .and_then(|file| file.set_len(MEGABYTES << 20))
            .context("cannot make a machine's memory")?;
        Ok(memory)
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // Where it can't be removed it could not be made, or its directory is gone.
        let _ = std::fs::remove_file(&self.0);
    }
}

/// Boots an image so many times in the same memory, a file in `directory`, each time judged by `judge`; what all of it came to, and
/// the last lines of the console.
pub(crate) fn boot(
    image: &Path,
    boot: &Boot,
    boots: u32,
    directory: &Path,
    step: &Step,
    judge: impl Fn(&Outcome) -> Verdict,
) -> Result<(Verdict, String)> {
    let memory = Memory::new(directory)?;
    let (mut verdict, mut shown, mut left) = (Verdict::default(), String::new(), None::<u64>);
    for number in 1..=boots {
        let mut this = boot.clone();
        this.machine.push_str(",memory-backend=kept");
        let backend = format!("memory-backend-file,id=kept,size={MEGABYTES}M,share=on,mem-path={}", memory.0.display());
        this.more.extend(["-object".into(), backend.into()]);
        let words = this.append.take().unwrap_or_default();
        this.append = Some(format!("{words} boot={number}"));
        let outcome = qemu::boot(image, &this, |line| step.note(line))?;
        let Verdict { passed, failed, problems } = judge(&outcome);
        verdict.passed += passed;
        verdict.failed += failed;
        verdict.problems.extend(problems);
        shown = outcome.last_lines();
        let told = |line: &String| line.strip_suffix(" records are left")?.rsplit(' ').next()?.parse().ok();
        left = outcome.console.iter().find_map(told).or(left);
        if verdict.failed > 0 {
            return Ok((verdict, shown));
        }
    }
    let calls: u64 = proof::calls_in_memory(&memory.0, image, directory)?.values().sum();
    std::fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    match left {
        Some(left) if calls == left => verdict.passed += 1,
        _ => {
            verdict.failed += 1;
            verdict.problems.push(format!("{calls} calls are in the memory, where the kernel has left {left:?}"));
        }
    }
    Ok((verdict, shown))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_that_fails_leaves_no_memory() {
        let directory = std::env::temp_dir().join(format!("fentry-kept-memory-{}", std::process::id()));
        let step = Step::start("a boot in kept memory");
        let judge = |_: &Outcome| Verdict::default();
        let booted = boot(Path::new("/no/image"), &Boot::new("max", 1), 2, &directory, &step, judge);
        let left = std::fs::read_dir(&directory).unwrap().count();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(format!("{:#}", booted.unwrap_err()).split(':').next(), Some("there is no image /no/image"));
        assert_eq!(left, 0);
    }
}
