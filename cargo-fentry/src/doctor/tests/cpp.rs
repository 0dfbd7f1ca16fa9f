//! Kernels in C++: their functions have the names of the source, as the linker's own tool spells them.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use object::{Object, ObjectSymbol, SymbolKind};

use super::{GOOD, assert_says, directory, examine, link, sections};
use crate::left_out::leave_out;
use crate::{image, names, symbols};

/// Members, overloads, templates, operators, lambdas, anonymous namespaces, clones.
const SOURCE: &str = r#"
    namespace disk {
        struct Block { int data; };
        template <typename T, int N> struct Queue {
            T items[N];
            __attribute__((noinline)) T take(int at) { return items[at % N]; }
        };
        struct Disk {
            int unit;
            Disk(int unit);
            virtual ~Disk();
            virtual int read(int at, void *to) const;
            int read(int at) const;
            Disk &operator+=(int blocks);
        };
        Disk::Disk(int unit) : unit(unit) {}
        Disk::~Disk() { unit = 0; }
        int Disk::read(int at, void *to) const { return at + unit + (to != nullptr); }
        int Disk::read(int at) const { return at * unit; }
        Disk &Disk::operator+=(int blocks) { unit += blocks; return *this; }
        template <typename T> __attribute__((noinline)) T largest(T a, T b) { return a > b ? a : b; }
        namespace {
            __attribute__((noinline)) int hidden(int x) { return x * 3; }
        }
        Queue<Block *, 4> queue;
    }
    void operator delete(void *) noexcept {}
    void operator delete(void *, unsigned long) noexcept {}
    extern "C" long plain(int x) {
        auto twice = [](int y) __attribute__((noinline)) { return disk::hidden(y) * 2; };
        disk::Disk disk(x);
        disk += 2;
        return disk.read(x) + disk::largest<int>(x, 2) + disk::largest<long>(x, 3) + twice(x) + (long)disk::queue.take(x);
    }
"#;

/// Compiles as the first compiler of C++ that is there.
fn compile(dir: &Path) -> Option<std::path::PathBuf> {
    let (source, output) = (dir.join("kernel.cpp"), dir.join("kernel.o"));
    std::fs::write(&source, SOURCE).unwrap();
    let flags = ["-c", "-x", "c++", "-O1", "-ffreestanding", "-fno-exceptions", "-fno-rtti", "-ffunction-sections"];
    let gcc: &[&str] = &[];
    let clang: &[&str] = &["--target=aarch64-unknown-none-elf"];
    let compilers = [("aarch64-linux-gnu-g++", gcc), ("clang++", clang), ("clang", clang), ("clang-19", clang)];
    compilers.into_iter().chain([("clang-14", clang)]).find_map(|(compiler, target)| {
        let mut command = Command::new(compiler);
        command.args(target).args(flags).arg("-fpatchable-function-entry=2").arg("-o").arg(&output).arg(&source);
        let compiled = command.output().ok()?;
        compiled.status.success().then(|| output.clone())
    })
}

#[test]
fn functions_of_cpp_have_the_names_of_the_source() {
    let dir = directory("cpp");
    let Some(object) = compile(&dir) else {
        std::fs::remove_dir_all(&dir).unwrap();
        leave_out("no compiler of C++ for arm64 is installed");
        return;
    };
    let image = link(&dir, &[object], &sections(GOOD), &["--no-gc-sections"]);
    std::fs::remove_dir_all(&dir).unwrap();
    let contents = symbols::read_image(&image).unwrap();
    let shown: BTreeSet<&str> = contents.functions.iter().map(|function| function.name.as_str()).collect();
    for expected in [
        "disk::Disk::Disk",
        "disk::Disk::~Disk",
        "disk::Disk::read",
        "disk::Disk::operator+=",
        "disk::Queue<disk::Block*, 4>::take",
        "disk::largest<int>",
        "disk::largest<long>",
        "disk::(anonymous namespace)::hidden",
        "operator delete",
        "plain",
    ] {
        assert!(shown.contains(expected), "{expected} is missing in {shown:#?}");
    }
    assert_says(&examine(&image).unwrap(), "callsites of the form: NOP NOP");

    let parsed = image::parse(&image).unwrap();
    let functions = parsed.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text);
    let mangled: BTreeSet<&str> = functions.filter_map(|symbol| symbol.name().ok()).collect();
    let filter = ["aarch64-linux-gnu-c++filt", "c++filt"].into_iter().find_map(|filter| {
        Command::new(filter).arg("--no-params").args(&mangled).output().ok().filter(|output| output.status.success())
    });
    let Some(filtered) = filter else {
        leave_out("c++filt is not installed");
        return;
    };
    let filtered = String::from_utf8(filtered.stdout).unwrap();
    let ours: Vec<_> = mangled.iter().map(|name| names::demangled(name)).collect();
    assert_eq!(ours, filtered.lines().collect::<Vec<_>>());
}
