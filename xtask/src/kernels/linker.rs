//! The linker of the kernels: rust-lld, run twice where the kernel keeps a place for its own symbol table.
//!
//! The first link gives every function its address. A table of those is made, and the second link puts it into the
//! image. The linker script has the table after all text, so no function moves; that is checked, and where one did move
//! the table is made anew, a few times at most.
//!
//! A kernel that is linked with `--defsym=__fentry_unwind_wanted=1` gets its unwind table the same way at the same time.
//! Following every function takes a while, so the others go without.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};

use anyhow::{Context, Result, bail};
use cargo_fentry::image;
use cargo_fentry::symbols;
use cargo_fentry::unwind::UnwindTable;
use object::{Object, ObjectSymbol};

/// The name under which this program is a linker. Its end tells rustc which kind of command line to write.
pub(crate) const NAME: &str = "fentry-ld";

/// How often a table is made before giving up.
const MOST_PASSES: usize = 3;

pub(crate) fn is_called_as_linker() -> bool {
    let name = std::env::args_os().next();
    name.is_some_and(|name| Path::new(&name).file_stem() == Some(OsStr::new(NAME)))
}

/// Makes `program`, which is this one, callable under the linker's name, in `dir`, and says where.
pub(crate) fn install(program: &Path, dir: &Path) -> Result<PathBuf> {
    let link = dir.join(NAME).with_extension(std::env::consts::EXE_EXTENSION);
    std::fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    if std::fs::read_link(&link).is_ok_and(|to| to == program) {
        return Ok(link);
    }
    // Made beside and renamed over, for another xtask that may be linking through it.
    let made = dir.join(format!("{NAME}.{}", std::process::id()));
    #[cfg(unix)]
    std::os::unix::fs::symlink(program, &made).with_context(|| format!("cannot make {}", made.display()))?;
    #[cfg(not(unix))]
    std::fs::copy(program, &made).with_context(|| format!("cannot make {}", made.display()))?;
    std::fs::rename(&made, &link).with_context(|| format!("cannot make {}", link.display()))?;
    Ok(link)
}

/// Links as the arguments say, and again with the symbol table.
pub(crate) fn run(args: impl Iterator<Item = OsString>) -> Result<ExitCode> {
    let args: Vec<OsString> = args.collect();
    // Symbols are needed to make the table, so what would remove them waits for the last link.
    let unstripped: Vec<&OsString> = args.iter().filter(|arg| !is_strip(arg)).collect();
    let output = output_path(&args)?;

    let status = link(&unstripped, None)?;
    if !status.success() {
        return Ok(exit_code(status));
    }
    let Some(mut tables) = Tables::of(&output)? else {
        let relink = unstripped.len() != args.len();
        return if relink { link(&args, None).map(exit_code) } else { Ok(ExitCode::SUCCESS) };
    };

    tables.notes.iter().for_each(|note| eprintln!("note: {note}"));
    let object = with_suffix(&output, ".symbols.o");
    for _ in 0..MOST_PASSES {
        std::fs::write(&object, &tables.object).with_context(|| format!("cannot write {}", object.display()))?;
        let status = link(&unstripped, Some(&object))?;
        if !status.success() {
            return Ok(exit_code(status));
        }
        let linked = Tables::of(&output)?.context("the second link lost the symbol table's place")?;
        if linked == tables {
            if unstripped.len() == args.len() {
                return Ok(ExitCode::SUCCESS);
            }
            return link(&args, Some(&object)).map(exit_code);
        }
        tables = linked;
    }
    bail!(
        "functions moved each time the symbol table was linked into {}: \
         the linker script must place .fentry.symbols after all text",
        output.display()
    )
}

/// What is linked into an image that has a place for it.
#[derive(PartialEq, Eq)]
struct Tables {
    /// The object file to link: the names of the functions and, where it is wanted, where the caller is at each instruction.
    object: Vec<u8>,
    notes: Vec<String>,
}

impl Tables {
    /// The tables of an image, if it has a place for them.
    fn of(image: &Path) -> Result<Option<Self>> {
        let data = std::fs::read(image).with_context(|| format!("cannot read {}", image.display()))?;
        // What is not an arm64 ELF image has no place for a table either.
        let contents = symbols::read_image(&data).ok().filter(|contents| contents.anchor.is_some());
        let Some(contents) = contents else { return Ok(None) };
        let unwind = is_unwind_wanted(&data)?.then(|| UnwindTable::of_image(image)).transpose()?;
        let object = symbols::object_file(&contents, unwind.as_ref())?;
        Ok(Some(Self { object, notes: contents.left_out.iter().map(ToString::to_string).collect() }))
    }
}

/// Whether the kernel was linked so as to get an unwind table.
fn is_unwind_wanted(data: &[u8]) -> Result<bool> {
    let image = image::parse(data)?;
    Ok(image.symbols().any(|symbol| !symbol.is_undefined() && symbol.name() == Ok("__fentry_unwind_wanted")))
}

fn link<S: AsRef<OsStr>>(args: &[S], table: Option<&Path>) -> Result<ExitStatus> {
    let mut linker = Command::new("rust-lld");
    // rustc passes the flavor only to a linker that it knows as lld.
    if args.first().is_none_or(|arg| arg.as_ref() != "-flavor") {
        linker.args(["-flavor", "gnu"]);
    }
    linker.args(args).args(table).status().context("rust-lld does not start: rustc puts its directory into PATH")
}

fn is_strip(arg: &OsStr) -> bool {
    ["-s", "-S", "--strip-all", "--strip-debug"].iter().any(|strip| arg == *strip)
}

/// The value of `-o`, also from a file of arguments that rustc writes where the command line would be too long.
fn output_path(args: &[OsString]) -> Result<PathBuf> {
    let mut flat = Vec::new();
    for arg in args {
        match arg.to_str().and_then(|arg| arg.strip_prefix('@')) {
            Some(file) => {
                let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
                flat.extend(text.lines().map(|line| OsString::from(line.trim_matches('"'))));
            }
            None => flat.push(arg.clone()),
        }
    }
    let value = flat.iter().position(|arg| arg == "-o").and_then(|at| flat.get(at + 1));
    Ok(PathBuf::from(value.map_or(OsStr::new("a.out"), OsString::as_os_str)))
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

fn exit_code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}
