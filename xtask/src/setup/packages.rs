//! Packages of a system that has apt-get.

use std::process::Command;

use anyhow::{Result, bail};

use super::{quietly, show};

/// apt-get, for a user who may install packages without being asked for a password.
#[derive(Debug)]
pub(super) struct Apt {
    prefix: &'static [&'static str],
}

impl Apt {
    /// Finds apt-get and updates its lists.
    pub(super) fn updated() -> Result<Self> {
        if quietly(Command::new("apt-get").arg("--version"), "is it there").is_err() {
            bail!("this system has no apt-get");
        }
        let may = |program: &str, args: &[&str]| quietly(Command::new(program).args(args), "may I").ok();
        let prefix: &[&str] = if may("id", &["-u"]).as_deref() == Some("0") {
            &["env"]
        } else if may("sudo", &["-n", "true"]).is_some() {
            &["sudo", "-n", "env"]
        } else {
            bail!("installing packages needs root, and sudo asks for a password");
        };
        let apt = Self { prefix };
        apt.run(&["update"])?;
        Ok(apt)
    }

    pub(super) fn install(&self, packages: &[&str]) -> Result<()> {
        self.run(&[&["install", "-y", "--no-install-recommends"], packages].concat())
    }

    fn run(&self, args: &[&str]) -> Result<()> {
        let mut command = Command::new(self.prefix[0]);
        command.args(&self.prefix[1..]).args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "-q"]).args(args);
        show(&mut command)
    }
}

/// Installs packages where this user may do that without being asked for a password.
pub(crate) fn install(packages: &[&str]) -> Result<()> {
    Apt::updated()?.install(packages)
}
