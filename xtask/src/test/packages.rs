//! The crates as users get them: packed, unpacked where this repository is not, and put to use there on a kernel of its own
//! workspace by the guide's commands alone.
//!
//! The kernel is in `xtask/data/elsewhere`. It goes from nothing to a trace, with its names and its unwind table in a second
//! link; then it is traced in the other ways that `cargo fentry trace` knows: as a flat file on another board, by a command of the
//! user's, and with the two tables filled in after the link.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use anyhow::{Context, Result, bail, ensure};
use cargo_fentry::progress::Step;
use cargo_fentry::qemu;
use cargo_metadata::{DependencyKind, MetadataCommand};

use crate::kernels::toolchain::{self, RustSource, kernel_cargo, toml_string};
use crate::kernels::variant::HARD_FLOAT;
use crate::kernels::workspace::Workspace;
use crate::llvm;

/// The crate that users install, and the one that their kernels depend on.
const TOOL: &str = "cargo-fentry";
const CRATE: &str = "fentry";

/// The kernel's files.
const FILES: [(&str, &str); 6] = [
    ("Cargo.toml", include_str!("../../data/elsewhere/Cargo.toml")),
    (".cargo/config.toml", include_str!("../../data/elsewhere/.cargo/config.toml")),
    ("build.rs", include_str!("../../data/elsewhere/build.rs")),
    ("kernel.ld", include_str!("../../data/elsewhere/kernel.ld")),
    ("src/main.rs", include_str!("../../data/elsewhere/src/main.rs")),
    ("src/market.rs", include_str!("../../data/elsewhere/src/market.rs")),
];

/// The functions that are traced, and the graph of them without its times.
const TRACED: &str = "elsewhere::market::*";
const GRAPH: [&str; 14] = [
    "elsewhere::market::day() {",
    "elsewhere::market::sell() {",
    "elsewhere::market::weigh(); /* = 0xb */",
    "elsewhere::market::price(); /* = 0xb */",
    "} /* = 0xb */",
    "elsewhere::market::sell() {",
    "elsewhere::market::weigh(); /* = 0x16 */",
    "elsewhere::market::price(); /* = 0x16 */",
    "} /* = 0x16 */",
    "elsewhere::market::sell() {",
    "elsewhere::market::weigh(); /* = 0x21 */",
    "elsewhere::market::price(); /* = 0x21 */",
    "} /* = 0x21 */",
    "} /* = 0x42 */",
];

/// A command of a user's own that boots a kernel, on a board with a GICv2.
const RUNNER: &str = "qemu-system-aarch64 -machine virt -cpu cortex-a72 -display none -net none -serial stdio \
                      -semihosting-config enable=on,target=native -append {append} -kernel {boot}";

/// The proof's result.
#[derive(Debug, Default)]
pub(crate) struct Proved {
    /// How many traces were as they should be.
    pub(crate) traces: usize,
    /// What could not be done, each with the reason.
    pub(crate) left_out: Vec<String>,
}

/// Packs the crates, unpacks them elsewhere, and traces a kernel there. What failed is left where it is.
pub(crate) fn run(workspace: &Workspace, source: &RustSource, step: &Step) -> Result<Proved> {
    if let Some(why) = missing() {
        return Ok(Proved { traces: 0, left_out: vec![why] });
    }
    let elsewhere = Elsewhere::new(workspace, source)?;
    let proved = elsewhere.prove(step).with_context(|| format!("in {}", elsewhere.dir.display()))?;
    std::fs::remove_dir_all(&elsewhere.dir).with_context(|| format!("cannot remove {}", elsewhere.dir.display()))?;
    Ok(proved)
}

/// What is not there and needed from the first step on.
fn missing() -> Option<String> {
    let starts = |program: &str| Command::new(program).arg("--version").output().is_ok();
    let program = [qemu::PROGRAM, "tar"].into_iter().find(|program| !starts(program))?;
    Some(format!("{program} is not installed"))
}

/// A directory outside of the repository, and what a user has there.
struct Elsewhere<'a> {
    workspace: &'a Workspace,
    source: &'a RustSource,
    dir: PathBuf,
}

impl<'a> Elsewhere<'a> {
    /// Makes it anew, with the kernel in it. Its name is always the same for one repository, so that cargo knows again what it
    /// has built there.
    fn new(workspace: &'a Workspace, source: &'a RustSource) -> Result<Self> {
        let repository = workspace.root.to_string_lossy().replace(['/', '\\', ':'], "-");
        let dir = std::env::temp_dir().join(format!("fentry-elsewhere{repository}"));
        ensure!(!dir.starts_with(&workspace.root), "{} is inside of the repository: set TMPDIR", dir.display());
        let elsewhere = Self { workspace, source, dir };
        match std::fs::remove_dir_all(&elsewhere.dir) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("cannot remove {}", elsewhere.dir.display()));
            }
            _ => {}
        }
        for (name, text) in FILES {
            elsewhere.write(&elsewhere.kernel().join(name), text)?;
        }
        // The same toolchain, and the same versions of everybody else's crates.
        for (name, to) in [("rust-toolchain.toml", elsewhere.dir.clone()), ("Cargo.lock", elsewhere.kernel())] {
            std::fs::copy(workspace.root.join(name), to.join(name)).with_context(|| format!("cannot copy {name}"))?;
        }
        Ok(elsewhere)
    }

    fn write(&self, file: &Path, text: &str) -> Result<()> {
        let parent = file.parent().unwrap_or(&self.dir);
        std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        std::fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
    }

    fn kernel(&self) -> PathBuf {
        self.dir.join("kernel")
    }

    /// Where the kernel is built: kept from one run to the next.
    fn target_dir(&self) -> PathBuf {
        self.workspace.target_dir.join("elsewhere")
    }

    fn image(&self) -> PathBuf {
        self.target_dir().join(HARD_FLOAT).join("release/elsewhere")
    }

    fn prove(&self, step: &Step) -> Result<Proved> {
        let mut proved = Proved::default();
        step.note("packing");
        let packed = self.pack()?;
        step.note("building the tool");
        self.install(&packed)?;

        step.note("the way of the guide");
        self.fentry(&["linker-script", "-o", "fentry.ld"])?;
        self.build(&[])?;
        let image = self.image().display().to_string();
        let sick = self.said(self.command(&["fentry", "doctor", &image]).output(), "doctor")?;
        ensure!(
            sick.contains("linked without a symbol table") && sick.contains("\n  1 problem\n"),
            "doctor does not miss the symbol table, and that only:\n{sick}"
        );
        self.fentry(&["symbols", "--unwind", &image, "-o", "symbols.o"])?;
        self.build(&[])?;
        self.is_healthy()?;
        self.trace("EL1, GICv3", &[])?;
        proved.traces += 1;

        step.note("a flat file on another board");
        match self.flat()? {
            Ok(flat) => {
                let board = ["--machine", "virt,gic-version=2,virtualization=on", "--boot", &flat];
                self.trace("EL2, GICv2", &board)?;
                proved.traces += 1;
            }
            Err(why) => proved.left_out.push(format!("the flat file: {why}")),
        }
        step.note("a runner");
        self.trace("EL1, GICv2", &["--runner", RUNNER, "--append", "console"])?;
        step.note("names and unwind table in place");
        self.build(&["--features", "in-place"])?;
        self.fentry(&["symbols", "--in-place", "--unwind", &image])?;
        self.is_healthy()?;
        self.trace("EL1, GICv3", &["--tracer", "graph"])?;
        proved.traces += 2;
        Ok(proved)
    }

    /// Packs the tool, the crate, and what else of this repository they need; gives their names, unpacked.
    fn pack(&self) -> Result<Vec<String>> {
        let packages = packages(self.workspace)?;
        let packed = self.target_dir().join("packages");
        let mut cargo = toolchain::cargo();
        // Nothing is built here: what is built is what was unpacked.
        cargo.args(["package", "--offline", "--no-verify", "--allow-dirty", "--target-dir"]).arg(&packed);
        for (name, _) in &packages {
            cargo.args(["--package", name]);
        }
        self.succeed(cargo.current_dir(&self.workspace.root))?;
        for (name, version) in &packages {
            let name_and_version = format!("{name}-{version}");
            let mut tar = Command::new("tar");
            // Newer than what was built of an earlier package, since cargo goes by the time.
            tar.args(["-x", "-z", "-m", "-f"]).arg(packed.join("package").join(format!("{name_and_version}.crate")));
            self.succeed(tar.current_dir(&self.dir))?;
            let (from, to) = (self.dir.join(&name_and_version), self.dir.join(name));
            std::fs::rename(&from, &to).with_context(|| format!("cannot rename {}", from.display()))?;
        }
        Ok(packages.into_iter().map(|(name, _)| name).collect())
    }

    /// Builds the unpacked tool with the unpacked crates in place of those of crates.io, and puts it where cargo finds it.
    /// Everybody else's crates are those that this program was built with.
    fn install(&self, packed: &[String]) -> Result<()> {
        let target_dir = &self.workspace.target_dir;
        let mut cargo = toolchain::cargo();
        cargo.args(["build", "--offline", "--quiet", "--target-dir"]).arg(target_dir);
        for name in packed.iter().filter(|name| *name != TOOL) {
            let path = toml_string(&self.dir.join(name).display().to_string());
            cargo.arg("--config").arg(format!("patch.crates-io.{name}.path={path}"));
        }
        self.succeed(cargo.current_dir(self.dir.join(TOOL)))?;
        let file = format!("{TOOL}{}", std::env::consts::EXE_SUFFIX);
        let (from, bin) = (target_dir.join("debug").join(&file), self.dir.join("bin"));
        std::fs::create_dir_all(&bin).with_context(|| format!("cannot make {}", bin.display()))?;
        std::fs::copy(&from, bin.join(&file)).with_context(|| format!("cannot copy {}", from.display())).map(drop)
    }

    /// Cargo in the kernel's directory, which finds the tool.
    fn command(&self, args: &[&str]) -> Command {
        let mut cargo = kernel_cargo(self.workspace, self.source);
        let path = std::env::var_os("PATH").unwrap_or_default();
        let path = std::iter::once(self.dir.join("bin")).chain(std::env::split_paths(&path));
        cargo.env("PATH", std::env::join_paths(path).unwrap_or_else(|_| OsString::new()));
        cargo.current_dir(self.kernel()).args(args);
        cargo
    }

    fn fentry(&self, args: &[&str]) -> Result<String> {
        self.succeed(self.command(&["fentry"]).args(args))
    }

    fn build(&self, more: &[&str]) -> Result<()> {
        let mut cargo = self.command(&["build", "--release", "-Zbuild-std=core", "--target", HARD_FLOAT]);
        self.succeed(cargo.args(["--offline", "--target-dir"]).arg(self.target_dir()).args(more)).map(drop)
    }

    fn is_healthy(&self) -> Result<()> {
        let said = self.fentry(&["doctor", &self.image().display().to_string()])?;
        ensure!(said.ends_with("\n  healthy\n") && said.contains("the unwind table is of this link"), "{said}");
        Ok(())
    }

    /// The image as a flat file, or why there is none.
    fn flat(&self) -> Result<Result<String, String>> {
        let flat = self.dir.join("Image");
        let gnu = PathBuf::from("aarch64-linux-gnu-objcopy");
        let objcopy = match Command::new(&gnu).arg("--version").output() {
            Ok(_) => Ok(gnu),
            Err(_) => llvm::newest("llvm-objcopy", |program| {
                toolchain::output_of(Command::new(program).arg("--version"), "does it start").map(drop)
            }),
        };
        let Ok(objcopy) = objcopy else { return Ok(objcopy.map(|_| String::new())) };
        self.succeed(Command::new(objcopy).args(["-O", "binary"]).arg(self.image()).arg(&flat))?;
        Ok(Ok(flat.display().to_string()))
    }

    /// Traces the kernel on this board, and compares the graph.
    fn trace(&self, board: &str, more: &[&str]) -> Result<()> {
        let (image, output) = (self.image().display().to_string(), self.dir.join("trace.txt"));
        let written = output.display().to_string();
        let usual = ["trace", "--image", &image, "--filter", TRACED, "--output", &written];
        let said = self.fentry(&[&usual, more].concat())?;
        let text = std::fs::read_to_string(&output).with_context(|| format!("no trace in {written}"))?;
        let graph: Vec<&str> = text.lines().filter_map(|line| Some(line.split_once("|  ")?.1.trim())).collect();
        let graph: Vec<&str> = graph.into_iter().filter(|line| !line.starts_with('|')).collect();
        let marker = format!("/* {board} */");
        let expected: Vec<&str> = std::iter::once(marker.as_str()).chain(GRAPH).collect();
        ensure!(graph == expected, "{more:?}: the trace is not the expected one, of {board}:\n{text}");
        // The table at the end has every function.
        ensure!(said.contains("  elsewhere::market::day\n") && said.contains("21 events"), "{said}");
        std::fs::remove_file(&output).with_context(|| format!("cannot remove {written}"))
    }

    /// What a command prints that succeeds; else the error has all that it says.
    fn succeed(&self, command: &mut Command) -> Result<String> {
        let output = command.output();
        let has_succeeded = output.as_ref().is_ok_and(|output| output.status.success());
        let shown = format!("{command:?}");
        let said = self.said(output, &shown)?;
        if !has_succeeded {
            bail!("{shown} failed:\n{said}");
        }
        Ok(said)
    }

    fn said(&self, output: std::io::Result<Output>, what: &str) -> Result<String> {
        let Output { stdout, stderr, .. } = output.with_context(|| format!("{what} does not start"))?;
        // What it was asked for comes last.
        Ok(String::from_utf8_lossy(&[stderr, stdout].concat()).into_owned())
    }
}

/// The packages to be packed, with their versions: the crate, the tool, and those of this workspace that they depend on.
fn packages(workspace: &Workspace) -> Result<Vec<(String, String)>> {
    let metadata = MetadataCommand::new()
        .manifest_path(workspace.root.join("Cargo.toml"))
        .no_deps()
        .exec()
        .with_context(|| format!("cargo cannot read the workspace in {}", workspace.root.display()))?;
    let mut names = vec![CRATE.to_owned(), TOOL.to_owned()];
    let mut found = Vec::new();
    while let Some(name) = names.get(found.len()) {
        let package = metadata.packages.iter().find(|package| package.name.as_str() == name);
        let package = package.with_context(|| format!("there is no package {name}"))?;
        found.push((name.clone(), package.version.to_string()));
        let is_local = |kind| kind != DependencyKind::Development;
        for dependency in package.dependencies.iter().filter(|dep| dep.path.is_some() && is_local(dep.kind)) {
            if !names.contains(&dependency.name) {
                names.push(dependency.name.clone());
            }
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_what_users_need() {
        let packages = packages(&Workspace::load().unwrap()).unwrap();
        let names: Vec<&str> = packages.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names[..2], [CRATE, TOOL]);
        assert!(!names.contains(&"xtask"), "{names:?}");
    }
}
