//! Where things are in this repository, and which kernels it has.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use cargo_metadata::{Metadata, MetadataCommand, TargetKind};
use serde_json::Value;

use crate::variant::Variant;

/// The repository and cargo's view of it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target_dir: PathBuf,
    /// This program's own file.
    pub(crate) program: PathBuf,
    metadata: Metadata,
}

/// What cargo calls a kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KernelKind {
    /// A test of a package in `tests/`, or one of the crate's that cargo doesn't run on the host (`test = false`).
    BootTest,
    /// A package in `examples/`.
    Example,
}

impl KernelKind {
    /// Both, in the order in which they are built.
    pub(crate) const ALL: [Self; 2] = [Self::BootTest, Self::Example];

    /// What several of this kind are called.
    pub(crate) fn plural(self) -> &'static str {
        match self {
            Self::BootTest => "boot tests",
            Self::Example => "examples",
        }
    }
}

/// A kernel that can be built and booted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Kernel {
    pub(crate) kind: KernelKind,
    pub(crate) package: String,
    pub(crate) name: String,
}

/// How a kernel wants to be booted: `[package.metadata.boot.NAME]` in its package's `Cargo.toml`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    /// `cpus = N`
    pub(crate) cpus: u32,
    /// `icount = true`: in virtual time
    pub(crate) icount: bool,
    /// `variants = ["NAME", ...]`: these only
    variants: Option<Vec<String>>,
}

impl Settings {
    /// Whether the kernel boots in this variant.
    pub(crate) fn allows(&self, variant: &Variant) -> bool {
        self.variants.as_ref().is_none_or(|names| names.iter().any(|name| name == variant.name))
    }
}

/// The directory of the repository, whichever directory below it xtask was started in.
fn root() -> PathBuf {
    let manifest_dir = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
    let xtask = manifest_dir.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
    xtask.parent().map_or(xtask.clone(), Path::to_path_buf)
}

impl Workspace {
    pub(crate) fn load() -> Result<Self> {
        let root = root();
        // Now and not later: a test run may replace the file, and then its name is no longer known.
        let program = std::env::current_exe().context("this program cannot find itself")?;
        let metadata = MetadataCommand::new()
            .manifest_path(root.join("Cargo.toml"))
            .no_deps()
            .exec()
            .with_context(|| format!("cargo cannot read the workspace in {}", root.display()))?;
        let target_dir = metadata.target_directory.clone().into_std_path_buf();
        Ok(Self { root, target_dir, program, metadata })
    }

    /// Every kernel of the workspace: boot tests first, then examples, each by name.
    pub(crate) fn kernels(&self) -> Vec<Kernel> {
        let mut kernels = Vec::new();
        for package in &self.metadata.packages {
            let is_in = |dir: &str| package.manifest_path.starts_with(self.metadata.workspace_root.join(dir));
            for target in &package.targets {
                let kind = if target.kind.contains(&TargetKind::Test) && (!target.test || is_in("tests")) {
                    KernelKind::BootTest
                } else if is_in("examples") && target.kind.contains(&TargetKind::Bin) {
                    KernelKind::Example
                } else {
                    continue;
                };
                kernels.push(Kernel { kind, package: package.name.to_string(), name: target.name.clone() });
            }
        }
        kernels.sort();
        kernels
    }

    /// How this kernel wants to be booted.
    pub(crate) fn settings(&self, kernel: &Kernel) -> Settings {
        let package = self.metadata.packages.iter().find(|package| *package.name == kernel.package);
        let of_kernel = package.and_then(|package| package.metadata.get("boot")?.get(&kernel.name));
        let value = |key: &str| of_kernel.and_then(|settings| settings.get(key));
        let names = |value: &Vec<_>| value.iter().filter_map(|name: &Value| name.as_str().map(str::to_owned)).collect();
        Settings {
            cpus: value("cpus").and_then(Value::as_u64).and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1),
            icount: value("icount").and_then(Value::as_bool).unwrap_or(false),
            variants: value("variants").and_then(Value::as_array).map(names),
        }
    }
}
