//! QEMU for arm64, from the system's packages.

use std::fmt;
use std::process::Command;

use anyhow::{Context, Result, bail};
use cargo_fentry::qemu::PROGRAM;

use super::{packages, quietly};

/// A version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Version {
    major: u32,
    minor: u32,
}

/// The oldest version that is known to boot every variant.
const OLDEST: Version = Version { major: 7, minor: 2 };

/// What to do where it can't be done for the user.
const BY_HAND: &str = "\
    install QEMU 7.2 or later for arm64 with one of\n  \
      Debian, Ubuntu:  sudo apt-get install --no-install-recommends qemu-system-arm\n  \
      Fedora:          sudo dnf install qemu-system-aarch64-core\n  \
      Arch:            sudo pacman -S qemu-system-aarch64\n  \
      macOS:           brew install qemu";

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

/// Installs QEMU if there is none, and says which version there is.
///
/// An old one may boot some variants, or all: it is taken as it is, with a warning.
pub(super) fn ensure() -> Result<()> {
    let version = match installed() {
        Some(version) => version,
        None => install()?,
    };
    if version >= OLDEST {
        eprintln!("    QEMU {version}");
    } else {
        eprintln!("warning: QEMU {version} is older than what is known to boot every variant: {BY_HAND}");
    }
    Ok(())
}

fn install() -> Result<Version> {
    eprintln!("    {PROGRAM} is not installed");
    if let Err(error) = packages::install(&["qemu-system-arm"]) {
        bail!("{error:#}; {BY_HAND}");
    }
    installed().with_context(|| format!("{PROGRAM} does not start although it was installed; {BY_HAND}"))
}

fn installed() -> Option<Version> {
    let said = quietly(Command::new(PROGRAM).arg("--version"), "which version is it").ok()?;
    parse_version(&said)
}

/// Reads `QEMU emulator version 7.2.22 (...)`.
fn parse_version(said: &str) -> Option<Version> {
    let number = said.split("version ").nth(1)?;
    let mut parts = number.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (parts.next(), parts.next()) else { return None };
    Some(Version { major, minor })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_and_compared() {
        let version = parse_version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright ...");
        assert_eq!(version, Some(Version { major: 7, minor: 2 }));
        assert!(version >= Some(OLDEST));
        assert!(parse_version("QEMU emulator version 10.0.0").unwrap() > OLDEST);
        assert!(parse_version("QEMU emulator version 6.2.0").unwrap() < OLDEST);
        assert_eq!(parse_version("command not found"), None);
    }
}
