//! LLVM's programs, of which a machine may have several releases: `llvm-mca`, `llvm-mca-19`.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Error, Result};

/// The newest release of a program that does `probe`; the reason where there is none.
///
/// Options and instructions come and go between releases, and help texts hide some: only trying tells.
pub(crate) fn newest(name: &str, probe: impl Fn(&Path) -> Result<()>) -> Result<PathBuf, String> {
    let dirs = std::env::var_os("PATH").unwrap_or_default();
    let files = std::env::split_paths(&dirs).flat_map(|dir| dir.read_dir().into_iter().flatten().flatten());
    let programs = files.map(|file| file.path()).filter(|path| is_program(path, name));
    let mut by_version: Vec<(Vec<u32>, PathBuf)> =
        programs.filter_map(|path| Some((version_of(&path)?, path))).collect();
    by_version.sort();
    let mut why = format!("{name} is not installed");
    for (_, path) in by_version.into_iter().rev() {
        match probe(&path) {
            Ok(()) => return Ok(path),
            Err(error) => why = unusable(&path, &error),
        }
    }
    Err(why)
}

/// Says in one line why a program can't be used.
pub(crate) fn unusable(program: &Path, error: &Error) -> String {
    let why = format!("{error:#}");
    format!("{} can't be used: {}", program.display(), why.lines().next().unwrap_or_default())
}

/// Whether a file is `name` or `name-19`.
fn is_program(path: &Path, name: &str) -> bool {
    let file = path.file_name().and_then(OsStr::to_str);
    let rest = file.and_then(|file| file.strip_prefix(name));
    rest.is_some_and(|rest| rest.trim_start_matches(|c: char| c == '-' || c.is_ascii_digit()).is_empty())
}

fn version_of(path: &Path) -> Option<Vec<u32>> {
    let said = Command::new(path).arg("--version").output().ok()?;
    version_in(&String::from_utf8_lossy(&said.stdout))
}

/// The number behind `LLVM version `.
fn version_in(said: &str) -> Option<Vec<u32>> {
    let (_, behind) = said.split_once("LLVM version ")?;
    let number = behind.split(|c: char| c != '.' && !c.is_ascii_digit()).next()?;
    number.split('.').map(|part| part.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_release_is_known_by_its_number() {
        let version = |text: &str| version_in(&format!("LLVM:\n  Debian LLVM version {text}\n  Optimized build.\n"));
        assert_eq!(version("14.0.6"), Some(vec![14, 0, 6]));
        assert!(version("9.0.1") < version("14.0.6") && version("14.0.6") < version("19.1.7git"));
        assert_eq!(version_in("no LLVM"), None);
        for (name, is) in [("llvm-mca", true), ("llvm-mca-19", true), ("llvm-mc", false), ("llvm-mca.1.gz", false)] {
            assert_eq!(is_program(Path::new(name), "llvm-mca"), is, "{name}");
        }
    }
}
