//! Kernels built with cargo, each variant in a target directory of its own so that one doesn't undo another's work.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use anyhow::{Context, Result, bail, ensure};
use cargo_fentry::progress::Step;
use cargo_metadata::Message;

use crate::kernels::linker;
use crate::kernels::modules;
use crate::kernels::toolchain::{RustSource, kernel_cargo, toml_string};
use crate::kernels::variant::{Profile, Variant};
use crate::kernels::workspace::{Kernel, Workspace};

/// In a kernel the profile `dev` optimises nothing. On the host, the same profile builds this program, which decodes every
/// instruction of every kernel.
const NOT_OPTIMISED: &str = "profile.dev.package.fentry.opt-level=0";

/// A kernel that was built.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) kernel: Kernel,
    pub(crate) path: PathBuf,
    /// What should be in it and could not be built on this machine, with the reasons.
    pub(crate) left_out: Vec<String>,
}

/// Builds `kernels` and returns their images in the same order.
///
/// Each package by itself: the features that one wants of a dependency are not the other's.
pub(crate) fn images(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    kernels: &[Kernel],
    step: &Step,
) -> Result<Vec<Image>> {
    images_with(workspace, source, variant, kernels, &[], step)
}

/// Builds `kernels` as [`images`] does, with environment variables for their build scripts.
pub(crate) fn images_with(
    workspace: &Workspace,
    source: &RustSource,
    variant: &Variant,
    kernels: &[Kernel],
    variables: &[(&str, String)],
    step: &Step,
) -> Result<Vec<Image>> {
    let mut built = Vec::new();
    let mut left_out = Vec::new();
    for of_one_package in kernels.chunk_by(|a, b| a.package == b.package) {
        let mut cargo = command(workspace, source, variant, of_one_package)?;
        cargo.envs(variables.iter().map(|(name, value)| (name, value)));
        // Always the same, since another one would have cargo build again.
        cargo.env(modules::DIR_VARIABLE, modules::dir(workspace, variant)?);
        if of_one_package.iter().any(|kernel| kernel.settings.modules) {
            left_out = modules::build(workspace, source, variant, of_one_package)
                .with_context(|| format!("cannot build the modules for {variant}"))?;
        }
        built.extend(run(&mut cargo, step).with_context(|| format!("cannot build the kernels for {variant}"))?);
    }
    let image = |kernel: &Kernel| {
        let found = built.iter().find(|(name, _)| *name == kernel.name);
        let (_, path) = found.with_context(|| format!("cargo built no kernel {}", kernel.name))?;
        let left_out = if kernel.settings.modules { left_out.clone() } else { Vec::new() };
        Ok(Image { kernel: kernel.clone(), path: path.clone(), left_out })
    };
    kernels.iter().map(image).collect()
}

fn command(workspace: &Workspace, source: &RustSource, variant: &Variant, kernels: &[Kernel]) -> Result<Command> {
    let dir = workspace.target_dir.join("kernels");
    let mut cargo = kernel_cargo(workspace, source);
    cargo.args(["build", "--locked", "-Zbuild-std=core,alloc", "--message-format=json-render-diagnostics"]);
    cargo.args(["--target", variant.target]).arg("--target-dir").arg(dir.join(variant.name));
    if variant.profile == Profile::Release {
        cargo.arg("--release");
    }
    cargo.args(["--config", NOT_OPTIMISED]);
    for config in config(variant, &linker::install(&workspace.program, &dir)?) {
        cargo.args(["--config", &config]);
    }
    for kernel in kernels {
        cargo.args(["--package", &kernel.package, "--bin", &kernel.name]);
    }
    Ok(cargo)
}

/// The kernels of a variant that were built.
pub(crate) fn built(workspace: &Workspace, variant: &Variant) -> Vec<PathBuf> {
    let profile = if variant.profile == Profile::Release { "release" } else { "debug" };
    let dir = workspace.target_dir.join("kernels").join(variant.name).join(variant.target).join(profile);
    let kernels = workspace.kernels.iter().filter(|kernel| kernel.settings.variants.contains(variant));
    kernels.map(|kernel| dir.join(&kernel.name)).filter(|image| image.is_file()).collect()
}

/// What a variant changes in cargo's configuration. Flags add to those of the configuration file.
fn config(variant: &Variant, linker: &Path) -> [String; 2] {
    let target = variant.target;
    let flags: Vec<String> = variant.rustflags().into_iter().map(toml_string).collect();
    [
        format!("target.{target}.rustflags=[{}]", flags.join(",")),
        format!("target.{target}.linker={}", toml_string(&linker.display().to_string())),
    ]
}

/// Runs cargo, and gives the name and the place of each executable that it has made.
fn run(cargo: &mut Command, step: &Step) -> Result<Vec<(String, PathBuf)>> {
    let mut child = cargo
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .context("cargo does not start")?;
    let stdout = child.stdout.take().context("cargo has no output")?;
    let stderr = child.stderr.take().context("cargo has no error output")?;
    let (executables, diagnostics) = thread::scope(|scope| {
        let executables = scope.spawn(|| executables(stdout));
        let diagnostics = collect_lines(stderr, step);
        (executables.join(), diagnostics)
    });
    let status = child.wait().context("cargo was lost")?;
    if !status.success() || diagnostics.contains("warning") {
        eprint!("{diagnostics}");
    }
    ensure!(status.success(), "cargo failed; its messages are above");
    match executables {
        Ok(executables) => executables,
        Err(_) => bail!("the reader of cargo's messages failed"),
    }
}

fn executables(stdout: impl Read) -> Result<Vec<(String, PathBuf)>> {
    let mut found = Vec::new();
    for message in Message::parse_stream(BufReader::new(stdout)) {
        if let Message::CompilerArtifact(artifact) = message.context("cargo's messages cannot be read")?
            && let Some(executable) = artifact.executable
        {
            found.push((artifact.target.name, executable.into_std_path_buf()));
        }
    }
    Ok(found)
}

fn collect_lines(stderr: impl Read, step: &Step) -> String {
    let mut all = String::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        step.note(&line);
        all.push_str(&line);
        all.push('\n');
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_variant_adds_its_flags_and_the_linker_to_cargo_s_configuration() {
        let variant = Variant::named("hardened42-release").unwrap();
        let [flags, linker] = config(variant, Path::new("/a \"b\"/fentry-ld"));
        assert!(flags.starts_with("target.aarch64-unknown-none.rustflags=[\"-Zpatchable-function-entry=4,2\",\""));
        assert!(flags.ends_with("\"]"));
        assert_eq!(linker, r#"target.aarch64-unknown-none.linker="/a \"b\"/fentry-ld""#);
    }
}
