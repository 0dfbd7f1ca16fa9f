//! The source of `core` and `alloc`, which the kernels compile for themselves, from the first place that has it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use super::debian::{Debian, Kind};
use super::{quietly, show};
use crate::kernels::toolchain::{self, RustSource, is_library};
use crate::kernels::workspace::Workspace;

/// Names a tree or a tarball that is used where no other way has given the source.
const NAMED_BY: &str = "FENTRY_RUST_SRC";

/// Where Debian may have the package of a release that is not in its stable suite.
const SUITES: [&str; 2] = ["trixie-backports", "unstable"];

/// A way to the source. Each that fails says why before the next is tried.
struct Way {
    /// What it is, for the person who waits.
    what: &'static str,
    /// Its name in the list of ways to leave out.
    name: &'static str,
    take: fn(&Place<'_>) -> Result<RustSource>,
}

/// The ways, the cheapest first. What the user names on the command line comes before all of these.
const WAYS: [Way; 3] = [
    Way { what: "rustup component add rust-src", name: "rustup", take: by_rustup },
    Way { what: "Debian's package rust-src", name: "debian", take: by_debian },
    Way { what: "the tree or tarball that FENTRY_RUST_SRC names", name: "named", take: by_environment },
];

/// What a way needs to know.
struct Place<'a> {
    workspace: &'a Workspace,
    release: String,
}

/// Finds the source, or gets it.
pub(super) fn ensure(workspace: &Workspace, named: Option<&Path>) -> Result<RustSource> {
    if let Some(named) = named {
        let place = Place { workspace, release: toolchain::release(workspace)? };
        return keep(&place, named).with_context(|| format!("cannot use {}", named.display()));
    }
    if let Some(source) = RustSource::find(workspace)? {
        return Ok(source);
    }
    let place = Place { workspace, release: toolchain::release(workspace)? };
    eprintln!("    the toolchain has no source of core");
    for way in WAYS.iter().filter(|way| !toolchain::is_left_out(way.name)) {
        eprintln!("    trying: {}", way.what);
        match (way.take)(&place) {
            Ok(source) => return Ok(source),
            Err(error) => eprintln!("    that failed: {error:#}"),
        }
    }
    bail!(
        "no way gave the source of core for Rust {}; unpack a source tree of that release and name it: \
         cargo xtask setup --rust-src PATH",
        place.release
    )
}

fn by_rustup(place: &Place<'_>) -> Result<RustSource> {
    let mut rustup = Command::new("rustup");
    rustup.args(["component", "add", "rust-src"]).current_dir(&place.workspace.root);
    quietly(&mut rustup, "getting the component")?;
    ensure!(toolchain::sysroot_has_source(place.workspace)?, "rustup is content, but the source is not there");
    Ok(RustSource::Sysroot)
}

fn by_environment(place: &Place<'_>) -> Result<RustSource> {
    let named = std::env::var_os(NAMED_BY).map(PathBuf::from);
    let named = named.with_context(|| format!("{NAMED_BY} is not set"))?;
    keep(place, &named).with_context(|| format!("cannot use {}", named.display()))
}

/// Takes a tree into use where it is, or unpacks a tarball, so that later commands find it.
fn keep(place: &Place<'_>, named: &Path) -> Result<RustSource> {
    let named = named.canonicalize().context("it is not there")?;
    if named.is_dir() {
        let library = library_in(&named).context("it is not the source tree of a Rust release")?;
        let kept = fresh_kept_dir(place)?;
        #[cfg(unix)]
        std::os::unix::fs::symlink(&library, kept.join("library")).context("cannot make a link to it")?;
        #[cfg(not(unix))]
        bail!("only a tarball can be used on this system, not the tree {}", library.display());
    } else {
        let kept = fresh_kept_dir(place)?;
        show(Command::new("tar").arg("-xf").arg(&named).arg("-C").arg(&kept))
            .context("cannot unpack it (for .tar.xz, tar needs xz)")?;
        take_library(&kept)?;
    }
    finished(place)
}

/// Fetches Debian's package, and unpacks it without installing.
fn by_debian(place: &Place<'_>) -> Result<RustSource> {
    let work = place.workspace.target_dir.join("rust-src/apt");
    let mut why = String::new();
    for suite in SUITES {
        match fetch_from(place, &work, suite) {
            Ok(source) => {
                // Nothing but disk space is lost where this fails.
                fs::remove_dir_all(&work).ok();
                return Ok(source);
            }
            Err(error) => why.push_str(&format!("\n      {suite}: {error:#}")),
        }
    }
    bail!("Debian does not have it:{why}")
}

fn fetch_from(place: &Place<'_>, work: &Path, suite: &str) -> Result<RustSource> {
    let debian = Debian::read(work, Kind::Binary, suite)?;
    let listed = quietly(debian.apt("apt-cache").args(["madison", "rust-src"]), "which versions are there")?;
    let version = version_for(&listed, &place.release)
        .with_context(|| format!("it has no rust-src of release {}", place.release))?;
    quietly(debian.apt("apt-get").args(["download", &format!("rust-src={version}")]), "fetching the package")?;

    let kept = fresh_kept_dir(place)?;
    let package = find_file(work, OsStr::new("deb")).context("apt-get left no package behind")?;
    quietly(Command::new("dpkg").arg("-x").arg(&package).arg(&kept), "unpacking the package")?;
    take_library(&kept)?;
    finished(place)
}

/// The version of the package that holds `release`, out of `name | version | where` lines.
fn version_for<'a>(listed: &'a str, release: &str) -> Option<&'a str> {
    let versions = listed.lines().filter_map(|line| line.split('|').nth(1)).map(str::trim);
    let is_release = |version: &&str| {
        version.strip_prefix(release).is_some_and(|rest| rest.starts_with(['+', '-', '~']) && !rest.contains("beta"))
    };
    versions.into_iter().find(is_release)
}

/// The `library` directory of a tree, however much of the tree was named.
fn library_in(tree: &Path) -> Option<PathBuf> {
    let places = ["", "library", "src/rust/library", "lib/rustlib/src/rust/library"];
    places.iter().map(|place| tree.join(place)).find(|library| is_library(library))
}

/// An empty directory for a source tree.
fn fresh_kept_dir(place: &Place<'_>) -> Result<PathBuf> {
    let kept = RustSource::kept_dir(place.workspace, &place.release);
    if kept.exists() {
        fs::remove_dir_all(&kept).with_context(|| format!("cannot remove {}", kept.display()))?;
    }
    fs::create_dir_all(&kept).with_context(|| format!("cannot make {}", kept.display()))?;
    Ok(kept)
}

/// Moves `library`, found a few directories below `kept`, to its top, and drops the rest.
fn take_library(kept: &Path) -> Result<()> {
    let library = find_library(kept, 4).context("there is no source of core in it")?;
    let top = kept.join("library");
    if library == top {
        return Ok(());
    }
    let rest: Vec<PathBuf> = fs::read_dir(kept)?.flatten().map(|entry| entry.path()).collect();
    fs::rename(&library, &top).with_context(|| format!("cannot move {}", library.display()))?;
    for path in rest {
        let removed = if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(())
}

fn find_library(dir: &Path, depth: u32) -> Option<PathBuf> {
    let library = dir.join("library");
    if is_library(&library) {
        return Some(library);
    }
    let deeper = depth.checked_sub(1)?;
    let mut dirs: Vec<PathBuf> = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path()).collect();
    dirs.retain(|path| path.is_dir() && !path.is_symlink());
    dirs.iter().find_map(|dir| find_library(dir, deeper))
}

fn find_file(dir: &Path, extension: &OsStr) -> Option<PathBuf> {
    let entries = fs::read_dir(dir).ok()?.flatten().map(|entry| entry.path());
    entries.into_iter().find(|path| path.extension() == Some(extension))
}

/// The source that a way has put into its place.
fn finished(place: &Place<'_>) -> Result<RustSource> {
    let library = RustSource::kept_dir(place.workspace, &place.release).join("library");
    ensure!(is_library(&library), "the source in {} is not whole", library.display());
    Ok(RustSource::Elsewhere(library))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_package_of_the_very_same_release_is_chosen() {
        let listed = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://a.example/debian trixie-backports/main amd64 Packages\n  \
                        rust-src | 1.95.0~beta.5+dfsg1-1 | http://a.example/debian experimental/main amd64 Packages\n  \
                        rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://a.example/debian trixie-backports/main amd64 Packages\n";
        assert_eq!(version_for(listed, "1.95.0"), Some("1.95.0+dfsg1-2~bpo13+1"));
        assert_eq!(version_for(listed, "1.9"), None);
        assert_eq!(version_for("", "1.95.0"), None);
    }
}
