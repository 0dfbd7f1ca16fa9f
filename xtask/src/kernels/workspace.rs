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
    /// The modules in Rust that kernels load.
    pub(crate) modules: Vec<Module>,
}

/// A package that is a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Module {
    pub(crate) package: String,
    pub(crate) settings: ModuleSettings,
}

/// How a module is built: `[package.metadata.module]` in its `Cargo.toml`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(crate) struct ModuleSettings {
    /// `unwind-table = true`: with its unwind table. The others go without, as modules may.
    pub(crate) unwind_table: bool,
    /// `also = { NAME = ["FEATURE"] }`: once more, as a module of this name with these features
    pub(crate) also: BTreeMap<String, Vec<String>>,
    /// `kernels = ["NAME", ...]`: where one of these is built, which load it. In all that have modules where nothing is said
    pub(crate) kernels: Vec<String>,
}

impl Module {
    /// Whether it is built with these kernels.
    pub(crate) fn is_for(&self, kernels: &[Kernel]) -> bool {
        let named = &self.settings.kernels;
        named.is_empty() || kernels.iter().any(|kernel| named.contains(&kernel.name))
    }
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
    /// What a boot test's source lists as its cases; an example is one case, without a name of its own.
    pub(crate) cases: Vec<String>,
    pub(crate) settings: Settings,
}

impl Kernel {
    /// How it is booted in this variant, for as long as it takes.
    pub(crate) fn boot(&self, variant: &Variant) -> Boot {
        Boot { icount: self.settings.icount, ..Boot::new(variant.cpu, self.settings.cpus) }
    }

    /// Whether a filter selects all of it: its name contains the text.
    pub(crate) fn is_named(&self, filter: Option<&str>) -> bool {
        filter.is_none_or(|filter| self.name.contains(filter))
    }

    /// Whether a filter selects anything of it: its name or a case's contains the text.
    pub(crate) fn has(&self, filter: Option<&str>) -> bool {
        let of_case = |filter| self.cases.iter().any(|case| case.contains(filter));
        self.is_named(filter) || filter.is_some_and(of_case)
    }
}

/// What is special about a kernel: `NAME = { ... }` under `[package.metadata.boot]` in its package's `Cargo.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Settings {
    /// `cpus = N`
    pub(crate) cpus: u32,
    /// `boots = N`: so many times, in memory that stays from one boot to the next, with `boot=1`, `boot=2`, ... on its command
    /// line; what is in its kept rings at the end is as many records as it says
    pub(crate) boots: u32,
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
        Self {
            cpus: 1,
            boots: 1,
            icount: false,
            modules: false,
            prints: None,
            traced: None,
            variants: Variants::default(),
        }
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
        let modules = modules_in(&metadata)?;
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
    let mut kernels = Vec::new();
    for program in programs {
        let source = || std::fs::read_to_string(&program.src_path).with_context(|| format!("{}", program.src_path));
        let cases = match kind {
            KernelKind::BootTest => {
                cases_in(&source()?).with_context(|| format!("{} has no boot_tests! {{ ... }}", program.src_path))?
            }
            KernelKind::Example => Vec::new(),
        };
        kernels.push(Kernel {
            kind,
            package: package.name.to_string(),
            name: program.name.clone(),
            cases,
            settings: settings.remove(&program.name).unwrap_or_default(),
        });
    }
    let nobodys: Vec<String> = settings.into_keys().collect();
    ensure!(nobodys.is_empty(), "package.metadata.boot names what is no program: {}", nobodys.join(", "));
    Ok(kernels)
}

/// The cases that a boot test's source lists in `boot_tests! { ... }`, or in a macro of its own whose name ends so: known without
/// building and booting it.
fn cases_in(source: &str) -> Option<Vec<String>> {
    let (_, behind) = source.split_once("boot_tests! {")?;
    let (list, _) = behind.split_once('}')?;
    let code = list.lines().map(|line| line.split("//").next().unwrap_or_default());
    let names = code.flat_map(|code| code.split([',', ';'])).map(str::trim).filter(|name| !name.is_empty());
    Some(names.map(str::to_owned).collect())
}

/// The packages that make modules: those in `tests/modules`, and the folders `module` beside an example's library.
fn modules_in(metadata: &Metadata) -> Result<Vec<Module>> {
    let [tests, examples] = ["tests/modules", "examples"].map(|directory| metadata.workspace_root.join(directory));
    let is_module = |package: &&Package| {
        let is_library = package.targets.iter().any(|target| target.crate_types.contains(&CrateType::StaticLib));
        let is_there = package.manifest_path.starts_with(&tests) || package.manifest_path.starts_with(&examples);
        is_library && is_there
    };
    let module = |package: &Package| {
        let settings = package.metadata.get("module").cloned().map(serde_json::from_value).transpose();
        let settings = settings.with_context(|| format!("package.metadata.module of {} is wrong", package.name))?;
        Ok(Module { package: package.name.to_string(), settings: settings.unwrap_or_default() })
    };
    metadata.packages.iter().filter(is_module).map(module).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_boot_test_s_cases_are_read_from_its_source() {
        let source =
            "use x;\nsupport::boot_tests! {\n    first, second,\n    // not, this\n    third,\n}\nfn first() { a, b }";
        assert_eq!(cases_in(source).unwrap(), ["first", "second", "third"]);
        let of_two_kinds = "script_boot_tests! {\n    first,\n    second;\n    third,\n}";
        assert_eq!(cases_in(of_two_kinds).unwrap(), ["first", "second", "third"]);
        assert_eq!(cases_in("fn main() {}"), None);
    }

    #[test]
    fn modules_are_found_beside_examples_too_with_how_they_are_built() {
        let workspace = Workspace::load().unwrap();
        let module = |name: &str| workspace.modules.iter().find(|module| module.package == name).unwrap();
        assert!(module("greeter").settings.unwind_table && !module("thousand").settings.unwind_table);
        let extents = &module("extents").settings;
        assert_eq!(extents.also["extents-use-after-free"], ["use-after-free"]);
        assert!(["greeter", "container"].iter().all(|name| module(name).settings.also.is_empty()));
        let is_for = |name: &str| {
            let kernels = [workspace.kernel(name).unwrap().clone()];
            ["greeter", "extents"].map(|name| module(name).is_for(&kernels))
        };
        assert_eq!(["modules", "modules_patients", "patients"].map(is_for), [[true, false], [true; 2], [true; 2]]);
        // Each kernel that is named is there.
        let named = workspace.modules.iter().flat_map(|module| &module.settings.kernels);
        named.for_each(|name| assert!(workspace.kernel(name).is_ok_and(|kernel| kernel.settings.modules), "{name}"));
    }

    /// Each case that is listed is a function of the kernel, or one that it imports: or else the list was read wrongly.
    #[test]
    fn every_boot_test_has_cases_and_each_is_a_name() {
        let workspace = Workspace::load().unwrap();
        let boot_tests = || workspace.kernels.iter().filter(|kernel| kernel.kind == KernelKind::BootTest);
        assert!(boot_tests().count() > 10);
        for Kernel { name, cases, .. } in boot_tests() {
            let is_name = |case: &String| case.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == '_');
            assert!(!cases.is_empty() && cases.iter().all(is_name), "{name}: {cases:?}");
        }
    }
}
