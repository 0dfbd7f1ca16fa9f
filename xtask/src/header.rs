//! The C header: `include/fentry.h`, made of `src/capi` by cbindgen.
//!
//! It is committed, so that a user of the crate needs no generator, and `cargo xtask check` holds it to what would be made.

use std::path::Path;

use anyhow::{Context, Result, anyhow};
use cbindgen::{Builder, Config};

/// Where the header stands.
const HEADER: &str = "include/fentry.h";
/// What it is made of, in the header's order.
const SOURCES: [&str; 9] = ["error", "platform", "engine", "regs", "context", "filter", "ops", "recording", "symbols"];
/// How.
const CONFIG: &str = "xtask/data/cbindgen.toml";

/// What the header should be.
pub(crate) fn make(root: &Path) -> Result<String> {
    let config = Config::from_file(root.join(CONFIG)).map_err(|error| anyhow!("{CONFIG}: {error}"))?;
    let sources = SOURCES.iter().map(|name| root.join(format!("src/capi/{name}.rs")));
    let builder = sources.fold(Builder::new().with_config(config), Builder::with_src);
    let mut bytes = Vec::new();
    builder.generate().context("cbindgen makes no header")?.write(&mut bytes);
    Ok(in_c_s_words(&String::from_utf8(bytes)?))
}

/// The header's comments without what only rustdoc understands.
fn in_c_s_words(text: &str) -> String {
    let is_fence = |line: &&str| line.trim_start().starts_with("* ```");
    let text: String = text.split_inclusive('\n').filter(|line| !is_fence(line)).collect();
    text.replace(" * # Safety\n", " * Safety:\n").replace('`', "")
}

/// Whether the header is as it should be; if not, what to do.
pub(crate) fn check(root: &Path) -> Result<Option<String>> {
    let is = std::fs::read_to_string(root.join(HEADER)).unwrap_or_default();
    Ok((is != make(root)?).then(|| format!("{HEADER} is not what src/capi says; `cargo xtask header` makes it anew\n")))
}

/// Writes the header.
pub(crate) fn write(root: &Path) -> Result<()> {
    std::fs::write(root.join(HEADER), make(root)?).with_context(|| format!("cannot write {HEADER}"))
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;
    use std::mem::{align_of, offset_of};
    use std::process::Command;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use cargo_fentry::left_out::leave_out;
    use fentry::capi::context::*;
    use fentry::capi::engine::*;
    use fentry::capi::error::fentry_error;
    use fentry::capi::filter::fentry_rule;
    use fentry::capi::ops::*;
    use fentry::capi::platform::*;
    use fentry::capi::recording::*;
    use fentry::capi::regs::*;
    use fentry::capi::symbols::fentry_symbol;

    use crate::kernels::modules::C_COMPILERS;
    use crate::kernels::workspace::Workspace;

    /// Writes what C should find of a struct.
    macro_rules! layout {
        ($text:ident: $($name:ident { $($field:ident),* })*) => {$(
            let c = concat!("struct ", stringify!($name));
            let (size, align) = (size_of::<$name>(), align_of::<$name>());
            writeln!($text, "IS(sizeof({c}), {size}); IS(_Alignof({c}), {align});").unwrap();
            $(
                let (field, at) = (stringify!($field), offset_of!($name, $field));
                writeln!($text, "IS(offsetof({c}, {field}), {at});").unwrap();
            )*
        )*};
    }

    /// A source that includes the header, and compiles where its structs are as Rust has them.
    fn layouts() -> String {
        let mut text = "#include \"fentry.h\"\n".to_owned();
        text += "#ifdef __cplusplus\n#define _Static_assert static_assert\n#define _Alignof alignof\n#endif\n";
        text += "#define IS(found, expected) _Static_assert((found) == (expected), #found)\n";
        layout! { text:
            fentry_platform {
                size, abi, flags, layout, context_base, cpu_base, slide, leave_out, leave_out_count, context, map_alias, unmap_alias, begin_batch,
                end_batch, synchronize_cpus, quiesce, relax, for_each_context, for_each_cpu_area, console, panic
            }
            fentry_base { reg, offset }
            fentry_range { start, end }
            fentry_report {
                accepted, with_landing_pad, with_literal, excluded, left_out, unmatched, refused, symbols
            }
            fentry_left_out { names, start, stop }
            fentry_text_check { disabled, enabled, wrong, quarantined }
            fentry_regs { record, pc, fp, lr, x, context }
            fentry_pt_regs { regs, sp, pc, pstate }
            fentry_trace_context { engine }
            fentry_interrupted { engine }
            fentry_cpu_area { engine }
            fentry_context_counts { depth, misses, overflows, abandoned }
            fentry_rule { text, function, takes_away }
            fentry_ops { engine, size, kind, flags, callback, entry, exit, data }
            fentry_call { ip, parent_ip, entry_time, ticks, depth, regs, data }
            fentry_ring { engine }
            fentry_ring_counts { kept, read, lost }
            fentry_recording { size, rings, cpus, cpu, task, context, profile, profile_bytes }
            fentry_task { number, name }
            fentry_symbol { name, length, address, size }
        }
        for (name, number) in [
            ("FENTRY_ERROR_NONE", fentry_error::None as u32),
            ("FENTRY_ERROR_WRITE_FAILED", fentry_error::WriteFailed as u32),
            ("FENTRY_KIND_COUNTER", fentry_kind::Counter as u32),
            ("FENTRY_BASE_REGISTER_SP_EL0", fentry_base_register::SpEl0 as u32),
            ("FENTRY_LAYOUT_PREFIXED", fentry_layout::Prefixed as u32),
            ("FENTRY_LEVEL_NMI", fentry_level::Nmi as u32),
            ("FENTRY_RING_MODE_STOP", fentry_ring_mode::Stop as u32),
            ("FENTRY_ABI_BTI", FENTRY_ABI_BTI),
            ("FENTRY_OPS_PERMANENT", FENTRY_OPS_PERMANENT),
        ] {
            writeln!(text, "IS({name}, {number}u);").unwrap();
        }
        text
    }

    /// What the header says of how a source is compiled with these flags.
    const ABI: &str = "#include \"fentry.h\"
        _Static_assert(!(FENTRY_ABI & FENTRY_ABI_FLOAT) == !FLOAT, \"float\");
        _Static_assert(!(FENTRY_ABI & FENTRY_ABI_BTI) == !BTI, \"BTI\");
        _Static_assert((FENTRY_ABI & 0xffff) == FENTRY_ABI_VERSION, \"version\");
        FENTRY_NOTRACE int f(void);
        int f(void) { return 0; }
        static struct fentry_ops ops = { FENTRY_OPS_INIT, .kind = FENTRY_KIND_COUNTER };
        static const struct fentry_rule rules[] = {
            FENTRY_RULE(\"disk_*\"), FENTRY_RULE_FUNCTION(f), FENTRY_RULE_NOT_FUNCTION(f)
        };
        int g(void);
        int g(void) { return fentry_register(&ops, rules, 3, NULL); }\n";

    /// The newest and the oldest release of each compiler that takes these flags; without any, the test is left out.
    fn compilers(flags: &[&str]) -> Vec<Command> {
        let mut found: Vec<Command> = Vec::new();
        for compiler in &C_COMPILERS {
            let takes_them = |program: &&&str| {
                let mut attempt = Command::new(program);
                attempt.args(compiler.target).args(flags).args(["/dev/null", "-o", "/dev/null"]);
                attempt.output().is_ok_and(|output| output.status.success())
            };
            let (newest, oldest) =
                (compiler.programs.iter().find(takes_them), compiler.programs.iter().rev().find(takes_them));
            for program in newest.into_iter().chain(oldest.filter(|oldest| Some(*oldest) != newest)) {
                let mut command = Command::new(program);
                command.args(compiler.target).args(flags);
                found.push(command);
            }
        }
        if found.is_empty() {
            leave_out(&format!("no compiler for arm64 takes {flags:?}"));
        }
        found
    }

    /// Compiles a source as this language with each compiler that there is, and these flags besides.
    fn compile(workspace: &Workspace, language: &str, source: &str, flags: &[&str]) {
        // Each its own: tests run at the same time.
        static MADE: AtomicUsize = AtomicUsize::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("fentry-header-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let file = directory.join("source.c");
        std::fs::write(&file, source).unwrap();
        let (kind, standard) = (if language.starts_with("c++") { "c++" } else { "c" }, format!("-std={language}"));
        let all = [&["-c", "-ffreestanding", &standard, "-x", kind], flags].concat();
        for mut command in compilers(&all) {
            command.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-I"]).arg(workspace.root.join("include"));
            let output = command.arg(&file).args(["-o", "/dev/null"]).output().unwrap();
            assert!(output.status.success(), "{command:?}\n{}", String::from_utf8_lossy(&output.stderr));
        }
        std::fs::remove_dir_all(&directory).unwrap();
    }

    #[test]
    fn the_header_is_c99_and_c_plus_plus_and_its_structs_are_as_rust_has_them() {
        let workspace = Workspace::load().unwrap();
        compile(&workspace, "c99", "#include \"fentry.h\"\nint unused;\n", &[]);
        for language in ["c11", "c++11"] {
            compile(&workspace, language, &layouts(), &[]);
        }
    }

    #[test]
    fn the_header_tells_how_a_kernel_is_compiled() {
        let workspace = Workspace::load().unwrap();
        for flags in [
            ["-DFLOAT=1", "-DBTI=0", "-O1"],
            ["-DFLOAT=0", "-DBTI=0", "-mgeneral-regs-only"],
            ["-DFLOAT=1", "-DBTI=1", "-mbranch-protection=standard"],
        ] {
            compile(&workspace, "c11", ABI, &flags);
        }
    }
}
