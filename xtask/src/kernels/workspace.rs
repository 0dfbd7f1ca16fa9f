//! Where things are in this repository, and which kernels it has.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use cargo_fentry::qemu::Boot;
use cargo_metadata::{CrateType, Metadata, MetadataCommand, Package, TargetKind};
use serde::Deserialize;

use crate::kernels::variant::{Variant, Variants};

/// The repository and cargo's view of it.
#[derive(Debug)]
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
    pub(crate) target_dir: PathBuf,
    /// This program's own file.
    pub(crate) program: PathBuf,
    /// Every kernel: boot tests first, then examples, each by package and name.
    pub(crate) kernels: Vec<Kernel>,
    /// The packages of the modules in Rust that boot tests load.
    pub(crate) modules: Vec<String>,
}

/// What a kernel is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum KernelKind {
    /// A program of a package in `tests/`.
    BootTest,
    /// A program of a package in `examples/`.
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

    /// Where packages of this kind stand.
    fn directory(self) -> &'static str {
        match self {
            Self::BootTest => "tests",
            Self::Example => "examples",
        }
    }
}

/// A kernel that can be built and booted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Kernel {
    pub(crate) kind: KernelKind,
    pub(crate) package: String,
    pub(crate) name: String,
    pub(crate) settings: Settings,
}

impl Kernel {
    /// How it is booted in this variant, for as long as it takes.
    pub(crate) fn boot(&self, variant: &Variant) -> Boot {
        Boot { icount: self.settings.icount, ..Boot::new(variant.cpu, self.settings.cpus) }
    }
}

/// What is special about a kernel: `NAME = { ... }` under `[package.metadata.boot]` in its package's `Cargo.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// `cpus = N`
    pub(crate) cpus: u32,
    /// `icount = true`: in virtual time
    pub(crate) icount: bool,
    /// `modules = true`: has the modules of `tests/modules` in it
    pub(crate) modules: bool,
    /// `prints = "COMMAND"`: prints what this command must be able to read
    pub(crate) prints: Option<String>,
    /// `traced = "GLOB"`: its traces are checked, too, of these functions; `cargo xtask trace` records them unless told others
    pub(crate) traced: Option<String>,
    /// `variants = ["NAME", ...]`: these only
    pub(crate) variants: Variants,
}

impl Default for Settings {
    fn default() -> Self {
        Self { cpus: 1, icount: false, modules: false, prints: None, traced: None, variants: Variants::default() }
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
        let mut kernels = Vec::new();
        for package in &metadata.packages {
            kernels.extend(kernels_of(&metadata, package).with_context(|| format!("in {}", package.manifest_path))?);
        }
        kernels.sort_by(|a, b| (a.kind, &a.package, &a.name).cmp(&(b.kind, &b.package, &b.name)));
        let target_dir = metadata.target_directory.clone().into_std_path_buf();
        let modules = modules_in(&metadata);
        Ok(Self { root, target_dir, program, kernels, modules })
    }

    /// The kernel of this name.
    pub(crate) fn kernel(&self, name: &str) -> Result<&Kernel> {
        self.kernels.iter().find(|kernel| kernel.name == name).with_context(|| {
            let known: Vec<&str> = self.kernels.iter().map(|kernel| kernel.name.as_str()).collect();
            format!("there is no kernel {name}; there are: {}", known.join(", "))
        })
    }
}

/// The kernels of a package.
fn kernels_of(metadata: &Metadata, package: &Package) -> Result<Vec<Kernel>> {
    let is_in = |kind: &KernelKind| package.manifest_path.starts_with(metadata.workspace_root.join(kind.directory()));
    let Some(kind) = KernelKind::ALL.into_iter().find(is_in) else { return Ok(Vec::new()) };
    let mut settings: BTreeMap<String, Settings> = match package.metadata.get("boot") {
        Some(boot) => serde_json::from_value(boot.clone()).context("package.metadata.boot is wrong")?,
        None => BTreeMap::new(),
    };
    let programs = package.targets.iter().filter(|target| target.kind.contains(&TargetKind::Bin));
    let kernels = programs
        .map(|program| Kernel {
            kind,
            package: package.name.to_string(),
            name: program.name.clone(),
            settings: settings.remove(&program.name).unwrap_or_default(),
        })
        .collect();
    let nobodys: Vec<String> = settings.into_keys().collect();
    ensure!(nobodys.is_empty(), "package.metadata.boot names what is no program: {}", nobodys.join(", "));
    Ok(kernels)
}

/// The packages in `tests/modules` that make modules.
fn modules_in(metadata: &Metadata) -> Vec<String> {
    let directory = metadata.workspace_root.join("tests/modules");
    let is_module = |package: &&Package| {
        let is_library = package.targets.iter().any(|target| target.crate_types.contains(&CrateType::StaticLib));
        is_library && package.manifest_path.starts_with(&directory)
    };
    metadata.packages.iter().filter(is_module).map(|package| package.name.to_string()).collect()
}
