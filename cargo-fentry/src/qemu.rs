//! QEMU's virtual machine: a kernel booted, its console read, its exit status brought back.

use std::ffi::OsString;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::console;
pub use crate::console::{End, Outcome};

/// The program that emulates the machine.
pub const PROGRAM: &str = "qemu-system-aarch64";

/// The CPU where none is named: it has all that QEMU knows, branch targets and pointer authentication too.
pub const DEFAULT_CPU: &str = "max";

/// The machine where none is named: a board that is QEMU's own.
pub const DEFAULT_MACHINE: &str = "virt,gic-version=3";

/// How to boot.
#[derive(Clone, Debug)]
pub struct Boot {
    /// QEMU's name of the machine, and its options.
    pub machine: String,
    /// QEMU's name of the CPU; the machine's own where none is named.
    pub cpu: Option<String>,
    /// The number of CPUs; the machine's own where none is said.
    pub cpus: Option<u32>,
    /// After how long a boot counts as hung.
    pub limit: Option<Duration>,
    /// Wait for a debugger before the first instruction.
    pub gdb: bool,
    /// Run in virtual time, one instruction a nanosecond, the same each time.
    pub icount: bool,
    /// The kernel's command line.
    pub append: Option<String>,
    /// More arguments for QEMU.
    pub more: Vec<OsString>,
}

impl Boot {
    /// Boots on so many of these CPUs, for as long as it takes.
    pub fn new(cpu: &str, cpus: u32) -> Self {
        let (cpu, cpus) = (Some(cpu.to_owned()), Some(cpus));
        Self { cpu, cpus, ..Self::on(DEFAULT_MACHINE) }
    }

    /// Boots on this machine as it is of itself, for as long as it takes.
    pub fn on(machine: &str) -> Self {
        let (machine, more) = (machine.to_owned(), Vec::new());
        Self { machine, cpu: None, cpus: None, limit: None, gdb: false, icount: false, append: None, more }
    }
}

/// Whether a machine is QEMU's own board, `virt` or `virt-7.2`, which takes any CPU, any number of them, and any memory. Other
/// boards have those that they were built with.
pub fn is_virt(machine: &str) -> bool {
    let name = machine.split(',').next().unwrap_or_default();
    let name = name.strip_prefix("type=").unwrap_or(name);
    name == "virt" || name.starts_with("virt-")
}

/// The command that boots `image`.
pub fn command(image: &Path, boot: &Boot) -> Command {
    let mut qemu = Command::new(PROGRAM);
    qemu.args(["-machine", &boot.machine]);
    if is_virt(&boot.machine) {
        qemu.args(["-m", "512M"]);
    }
    if let Some(cpu) = &boot.cpu {
        qemu.args(["-cpu", cpu]);
    }
    if let Some(cpus) = boot.cpus {
        qemu.args(["-smp", &cpus.to_string()]);
    }
    qemu.args(["-display", "none", "-monitor", "none", "-serial", "stdio", "-net", "none", "-no-reboot"]);
    qemu.args(["-semihosting-config", "enable=on,target=native"]);
    if boot.icount {
        qemu.args(["-icount", "shift=0"]);
    }
    if boot.gdb {
        qemu.args(["-s", "-S"]);
    }
    if let Some(text) = &boot.append {
        qemu.args(["-append", text]);
    }
    qemu.args(&boot.more).arg("-kernel").arg(image);
    qemu
}

/// Boots `image` and gives each console line to `on_line` as it comes.
pub fn boot(image: &Path, boot: &Boot, mut on_line: impl FnMut(&str)) -> Result<Outcome> {
    boot_until(image, boot, |line| {
        on_line(line);
        ControlFlow::Continue(())
    })
}

/// Boots `image` until it ends, or until soon after `on_line` has seen enough.
pub(crate) fn boot_until(image: &Path, boot: &Boot, on_line: impl FnMut(&str) -> ControlFlow<()>) -> Result<Outcome> {
    let is_file = std::fs::metadata(image).with_context(|| format!("there is no image {}", image.display()))?.is_file();
    ensure!(is_file, "{} is not a file", image.display());
    console::run(&mut command(image, boot), boot.limit, on_line).with_context(|| {
        format!("{PROGRAM} does not start: install QEMU 7.2 or later for arm64 (Debian: qemu-system-arm)")
    })
}

/// What to tell a person who wants to debug `image`.
pub fn how_to_attach(image: &Path) -> String {
    let image = image.canonicalize().unwrap_or_else(|_| PathBuf::from(image));
    let image = image.display();
    format!(
        "QEMU waits for a debugger on port 1234. In another terminal, one of:\n\
         \n  gdb-multiarch {image} -ex 'target remote :1234'\
         \n  RUST_GDB=gdb-multiarch rust-gdb {image} -ex 'target remote :1234'\
         \n  lldb {image} -o 'gdb-remote 1234'\n\
         \nthen `continue`. Ctrl-C here ends QEMU.\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_the_one_that_kernels_expect() {
        let more = vec!["-trace".into()];
        let boot = Boot { gdb: true, icount: true, append: Some("filter".into()), more, ..Boot::new("max", 4) };
        let command = command(Path::new("kernel"), &boot);
        let args: Vec<_> = command.get_args().filter_map(|arg| arg.to_str()).collect();
        for expected in ["virt,gic-version=3", "max", "4", "shift=0", "-S", "filter", "-trace"] {
            assert!(args.contains(&expected), "{expected} is missing in {args:?}");
        }
        assert_eq!(args.last(), Some(&"kernel"));
    }
    #[test]
    fn a_board_with_its_own_cpus_and_memory_is_given_none() {
        let args = |boot: &Boot| -> Vec<String> {
            let command = command(Path::new("kernel"), boot);
            command.get_args().map(|arg| arg.to_str().unwrap().to_owned()).collect()
        };
        for machine in ["raspi3b", "xlnx-versal-virt", "sbsa-ref,secure=off"] {
            let args = args(&Boot::on(machine));
            assert_eq!(args[..2], ["-machine", machine]);
            for option in ["-cpu", "-smp", "-m"] {
                assert!(!args.iter().any(|arg| arg == option), "{args:?}");
            }
        }
        for machine in ["virt", "virt-7.2,virtualization=on", "type=virt,gic-version=2"] {
            assert!(args(&Boot::on(machine)).contains(&"-m".to_owned()));
        }
    }
}
