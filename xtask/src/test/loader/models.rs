//! Which code model's modules can be placed where, as the guide says it: objects from the compilers, loaded near the kernel,
//! beyond BL's reach and beyond ADRP's.

use std::process::Command;

use cargo_fentry::left_out::leave_out;
use fentry::fakes::{COMPILED, FakeKernel, FakeMemory, FakeText};
use fentry::module::{
    Erratum843419, Exports, Kernel, LoadError, Modules, Placement, RelocCause, Segment, Untraced, call,
};

use crate::kernels::modules::{C_COMPILERS, CCompiler, able, succeed};
use crate::kernels::workspace::Workspace;

const KERNEL: u64 = 0x4020_0000;
const NUMBER: u64 = KERNEL + 0x8000;
/// Within ADR's 1 MiB, beyond it, beyond BL's reach, beyond ADRP's.
const PLACES: [u64; 4] = [KERNEL + 0x1_0000, KERNEL + 0x40_0000, KERNEL + 0x1000_0000, 0x20_0000_0000];

/// Data and functions of others and its own, a jump table, a table of addresses; without data of its own beside those.
const SOURCE: &str = "
    extern int number; extern void run(void);
    int *address(void) { return &number; }
    void (*pointer(void))(void) { return run; }
    static const int own[4] = { 1, 2, 3, 4 };
    static int (*const calls[])(int);
    int read(int i) { run(); return number + own[i & 3] + calls[i & 1](i); }
    int jump(int i) {
        switch (i) {
        case 0: return number; case 1: return 9; case 2: run(); return 3; case 3: return own[0] - number;
        case 4: return 44; case 5: return number * 2; case 6: run(); return 8; default: return 1;
        }
    }
    static int (*const calls[])(int) = { jump, read };
    int *const table[] = { &number };
";

/// How many of the places each model reaches the kernel's data from. GCC has no large model with `-fpic`.
const MODELS: [(&[&str], usize); 7] = [
    (&["-fno-pic"], 3),
    (&["-fPIC"], 4),
    (&["-fpic"], 4),
    (&["-mcmodel=tiny", "-fno-pic"], 1),
    (&["-mcmodel=tiny", "-fpic"], 4),
    (&["-mcmodel=large", "-fno-pic"], 4),
    (&["-fno-pic", "-mgeneral-regs-only", "-O0"], 3),
];

/// Loads an object at a place; the constant that has the address of the kernel's data, read back.
fn load(file: &[u8], place: u64) -> Result<Vec<u64>, LoadError> {
    let memory = FakeMemory::new(place);
    let mut text = FakeText::new(KERNEL);
    text.function("start", COMPILED);
    let machine: &FakeKernel = text.build();
    let kernel = Kernel {
        memory: &memory,
        platform: machine,
        machine,
        regions: &Untraced,
        erratum_843419: Erratum843419::Absent,
        call,
    };
    let exports = Exports::new([("number", NUMBER), ("run", KERNEL + 0x1000)]).unwrap();
    let mut modules = Modules::new(kernel, exports);
    // SAFETY: nothing of the module is executed here.
    let id = unsafe { modules.load("model", file, Placement::Anywhere) }?;
    let constants = modules.get(id).unwrap().range(Segment::Rodata);
    let bytes = memory.read(constants.start.get(), constants.len() as usize).unwrap();
    Ok(bytes.as_chunks().0.iter().map(|bytes| u64::from_le_bytes(*bytes)).collect())
}

/// The object of a compiler that takes these flags, or why there is none.
fn compile(workspace: &Workspace, compiler: &CCompiler, flags: &[&str]) -> Result<Vec<u8>, String> {
    let usual = ["-c", "-O2", "-ffreestanding", "-fno-stack-protector", "-fpatchable-function-entry=2"];
    let all: Vec<&str> = [compiler.target, &usual, flags].concat();
    let program = able(compiler.programs, &all)?;
    let dir = workspace.target_dir.join("proofs/models");
    std::fs::create_dir_all(&dir).unwrap();
    let [source, object] = ["c", "o"].map(|end| dir.join(compiler.name).with_extension(end));
    std::fs::write(&source, SOURCE).unwrap();
    let mut command = Command::new(program);
    succeed(command.args(all).arg("-o").arg(&object).arg(&source), program).unwrap();
    Ok(std::fs::read(object).unwrap())
}

#[test]
fn each_code_model_can_be_placed_where_the_guide_says() {
    let workspace = Workspace::load().unwrap();
    for compiler in &C_COMPILERS {
        for (flags, reached) in MODELS {
            let file = match compile(&workspace, compiler, flags) {
                Ok(file) => file,
                Err(why) => {
                    leave_out(&format!("{flags:?}: {why}"));
                    continue;
                }
            };
            for (number, place) in PLACES.into_iter().enumerate() {
                let what = format!("{} {flags:?} at {place:#x}", compiler.name);
                match load(&file, place) {
                    Ok(constants) => {
                        assert!(number < reached, "{what} was loaded");
                        assert!(constants.contains(&NUMBER), "{what}: {constants:x?}");
                    }
                    Err(LoadError::Relocation { symbol, error }) => {
                        assert!(number >= reached, "{what}: {error}");
                        assert!(matches!(error.cause, RelocCause::Overflow { .. }), "{what}: {error}");
                        assert!(symbol == "number" || symbol == "run", "{what}: {symbol}");
                    }
                    Err(error) => panic!("{what}: {error}"),
                }
            }
        }
    }
}
