//! C: what compilers make of it by the flags that fentry asks for breaks no rule, and by others does.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use super::leave_out;
use crate::flow::{Flow, NoReturn};
use crate::image::Image;
use crate::program::Program;
use crate::proof::{DIES, source};
use crate::report::{Finding, Level};
use crate::{Cfi, rules};

const GCC: (&[&str], &[&str]) = (&["aarch64-linux-gnu-gcc"], &[]);
const CLANG: (&[&str], &[&str]) = (
    &["clang", "clang-19", "clang-18", "clang-17", "clang-16", "clang-15", "clang-14"],
    &["--target=aarch64-linux-gnu"],
);

/// The flags that both are always given: a kernel's.
const FLAGS: [&str; 5] = ["-w", "-c", "-ffreestanding", "-mgeneral-regs-only", "-fno-stack-protector"];

/// Compiles a source. Where no such compiler is, or takes the flags, it says so, loudly, and gives `None`.
fn compile((programs, target): (&[&str], &[&str]), flags: &[&str], source: &str) -> Option<Vec<u8>> {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let is_there = |name: &&&str| Command::new(name).arg("--version").output().is_ok_and(|ran| ran.status.success());
    let Some(program) = programs.iter().find(is_there) else {
        leave_out(&format!("{} is not installed", programs[0]));
        return None;
    };
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let object = std::env::temp_dir().join(format!("fentry-verify-compiled-{}-{number}.o", std::process::id()));
    let mut command = Command::new(program);
    command.args(target).args(FLAGS).args(flags).args(["-x", "c", "-", "-o"]).arg(&object);
    let mut running = command.stdin(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    running.stdin.take().unwrap().write_all(source.as_bytes()).unwrap();
    let ran = running.wait_with_output().unwrap();
    assert!(ran.status.success(), "{command:?}: {}", String::from_utf8_lossy(&ran.stderr));
    let bytes = std::fs::read(&object).unwrap();
    std::fs::remove_file(&object).unwrap();
    Some(bytes)
}

/// What is found in an object: the rules, each with the function's name.
fn found(object: &[u8], is_meant: impl Fn(&Finding) -> bool) -> Vec<(&'static str, String)> {
    let program = Program::new(Image::parse(object).unwrap());
    let flow = Flow::follow(&program, &NoReturn::parse(DIES));
    let findings = rules::check(&flow, &Cfi::of(&flow)).into_iter().filter(is_meant);
    let name = |finding: &Finding| {
        finding.function(&program).map_or(String::new(), |function| program.name(function).to_owned())
    };
    let mut found: Vec<_> = findings.map(|finding| (finding.rule.id(), name(&finding))).collect();
    found.sort_unstable();
    found
}

fn is_defect(finding: &Finding) -> bool {
    finding.rule.level() == Level::Defect
}

/// Flags of kernels: both forms of callsites, at each level of optimisation, with landing pads and without.
const WAYS: [&[&str]; 6] = [
    &["-O0", "-fpatchable-function-entry=2"],
    &["-O2", "-fpatchable-function-entry=2"],
    &["-Os", "-fpatchable-function-entry=2", "-ffunction-sections"],
    &["-O0", "-fpatchable-function-entry=4,2", "-falign-functions=8"],
    &["-O2", "-fpatchable-function-entry=4,2", "-falign-functions=8", "-mbranch-protection=standard"],
    // At -Os, GCC does not align functions, whatever it is told.
    &["-O1", "-fpatchable-function-entry=4,2", "-falign-functions=8", "-mbranch-protection=bti"],
];

fn nothing_is_found_in_what_it_compiles(compiler: (&[&str], &[&str])) {
    for (number, way) in WAYS.iter().enumerate() {
        let flags = [*way, &["-fno-omit-frame-pointer"]].concat();
        let Some(object) = compile(compiler, &flags, &source(number as u64, 12, false)) else { return };
        let found = found(&object, is_defect);
        assert!(found.is_empty(), "{way:?}: {found:#?}");
    }
}

#[test]
fn nothing_is_found_in_what_gcc_compiles() {
    nothing_is_found_in_what_it_compiles(GCC);
}

#[test]
fn nothing_is_found_in_what_clang_compiles() {
    nothing_is_found_in_what_it_compiles(CLANG);
}

#[test]
fn nothing_is_found_where_clang_keeps_a_shadow_call_stack() {
    for level in ["-O0", "-O2"] {
        let scs = ["-fsanitize=shadow-call-stack", "-ffixed-x18"];
        let flags = [&[level, "-fpatchable-function-entry=2", "-fno-omit-frame-pointer"][..], &scs].concat();
        let Some(object) = compile(CLANG, &flags, &source(7, 12, false)) else { return };
        // ldr x30, [x18, #-8]!
        assert!(object.as_chunks().0.contains(&0xf85f_8e5e_u32.to_le_bytes()), "{level}: nothing is kept on it");
        let found = found(&object, is_defect);
        assert!(found.is_empty(), "{level}: {found:#?}");
    }
}

/// GCC knows which registers `leaf` leaves alone, and that it is to be patched only by an attribute.
const KEPT: &str = "
    int table[8];
    __attribute__((noinline, patchable_function_entry(2))) static int leaf(int n) { table[n & 7] += n; return n; }
    int sum(int *p, int n) {
        int a = p[0], b = p[1], c = p[2], d = p[3], e = p[4], f = p[5], g = p[6], h = p[7], i = p[8], j = p[9], k = p[10];
        int x = leaf(n);
        return x + a * b * c * d * e * f * g * h * i * j * k + a + b + c + d + e + f + g + h + i + j + k + p[11];
    }
";

#[test]
fn gcc_keeps_values_over_a_call_of_what_is_patchable_by_an_attribute_alone() {
    let find = |flags: &[&str]| Some(found(&compile(GCC, flags, KEPT)?, is_defect));
    let Some(kept) = find(&["-O2", "-fno-omit-frame-pointer"]) else { return };
    assert_eq!(kept, [("kept-over-call", "sum".to_owned())]);
    // By the flag for all functions, and without optimising over calls, it does not.
    for flag in ["-fpatchable-function-entry=2", "-fno-ipa-ra"] {
        assert_eq!(find(&["-O2", "-fno-omit-frame-pointer", flag]), Some(Vec::new()));
    }
}

#[test]
fn callsites_of_other_forms_are_found() {
    let two = "void other(void); int f(int a) { other(); return a; } int g(int a) { other(); other(); return a + 1; }";
    let find = |flags: &[&str]| Some(found(&compile(GCC, &[&["-O2"], flags].concat(), two)?, is_defect));
    let both = |rule| Some(vec![(rule, "f".to_owned()), (rule, "g".to_owned())]);
    if find(&["-fpatchable-function-entry=2"]).is_none() {
        return;
    }
    assert_eq!(find(&["-fpatchable-function-entry=1"]), both("callsite-form"));
    assert!(find(&["-fpatchable-function-entry=6,4"]).unwrap().iter().any(|(rule, _)| *rule == "callsite-form"));
    // Of two functions one behind the other, one has its literal at an odd word.
    let found = find(&["-fpatchable-function-entry=4,2", "-falign-functions=4", "-fno-align-functions"]).unwrap();
    assert!(found.iter().all(|(rule, _)| *rule == "callsite-alignment") && !found.is_empty(), "{found:?}");
    assert_eq!(find(&["-fpatchable-function-entry=4,2", "-falign-functions=8"]), Some(Vec::new()));
}

#[test]
fn what_is_compiled_without_frame_pointers_is_found() {
    let source = source(3, 12, false);
    let flags = ["-O2", "-fpatchable-function-entry=2", "-fomit-frame-pointer"];
    let Some(object) = compile(GCC, &flags, &source) else { return };
    let found = found(&object, |_| true);
    let has = |rule: &str| found.iter().any(|(other, _)| *other == rule);
    assert!(has("call-without-record"), "{found:#?}");
}
