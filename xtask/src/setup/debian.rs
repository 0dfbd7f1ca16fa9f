//! Debian's archive, read with a configuration of its own, so that the system's is neither used up nor changed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

use super::quietly;

/// What signs Debian's package lists.
const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Which packages.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Kind {
    Binary,
    Source,
}

/// The packages of one of Debian's suites.
#[derive(Debug)]
pub(crate) struct Debian {
    work: PathBuf,
}

impl Debian {
    /// Reads a suite's list into a directory, from the first Debian mirror among the machine's own package sources.
    pub(crate) fn read(work: &Path, kind: Kind, suite: &str) -> Result<Self> {
        let mirror = mirror()?;
        ensure!(Path::new(KEYRING).is_file(), "there is no {KEYRING} to check the packages with");
        for dir in ["lists/partial", "cache/archives/partial", "sources.d"] {
            fs::create_dir_all(work.join(dir)).with_context(|| format!("cannot make {dir} in {}", work.display()))?;
        }
        let debian = Self { work: work.to_owned() };
        let (kind, sources) = (
            match kind {
                Kind::Binary => "deb",
                Kind::Source => "deb-src",
            },
            debian.sources(),
        );
        fs::write(&sources, format!("{kind} [signed-by={KEYRING}] {mirror} {suite} main\n"))
            .with_context(|| format!("cannot write {}", sources.display()))?;
        quietly(debian.apt("apt-get").arg("update"), "reading the package list")
            .with_context(|| format!("{mirror} has no {suite}"))?;
        Ok(debian)
    }

    /// A program of apt's, with that list alone, in the directory.
    pub(crate) fn apt(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        for (option, path) in [
            ("Dir::Etc::sourcelist", self.sources()),
            ("Dir::Etc::sourceparts", self.work.join("sources.d")),
            ("Dir::State::lists", self.work.join("lists")),
            ("Dir::Cache", self.work.join("cache")),
        ] {
            command.arg("-o").arg(format!("{option}={}", path.display()));
        }
        command.args(["-o", "APT::Sandbox::User=root", "-o", "Acquire::Languages=none", "-o", "Debug::NoLocking=1"]);
        command.current_dir(&self.work);
        command
    }

    fn sources(&self) -> PathBuf {
        self.work.join("sources.list")
    }
}

/// The first Debian mirror among the machine's own package sources.
fn mirror() -> Result<String> {
    let mut targets = Command::new("apt-get");
    targets.args(["indextargets", "--no-release-info", "--format", "$(REPO_URI)", "Created-By: Packages"]);
    let listed = quietly(&mut targets, "which mirrors does this machine use")?;
    mirror_in(&listed).context("this machine's package sources name no Debian mirror")
}

fn mirror_in(listed: &str) -> Option<String> {
    let is_debian = |uri: &&str| uri.trim_end_matches('/').ends_with("/debian");
    listed.lines().map(str::trim).find(is_debian).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mirror_is_one_of_debian_s_packages() {
        let listed = "https://packages.example/apt/\nhttp://m.example/debian-security/\nhttp://m.example/debian/\n";
        assert_eq!(mirror_in(listed).as_deref(), Some("http://m.example/debian/"));
        assert_eq!(mirror_in("http://m.example/ubuntu/\n"), None);
    }
}
