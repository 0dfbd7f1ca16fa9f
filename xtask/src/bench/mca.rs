//! The stubs' cycles on LLVM's models of CPUs, which instruction counts can't tell.
//!
//! A model runs the instructions one after the other as they stand, branches not taken, calls that return at once, and
//! every load in the first-level cache: it tells one stub from another, not what a call takes on a real CPU.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};
use fentry::insn::Insn;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::lines::Code;
use crate::llvm;

const CPUS: [&str; 4] = ["cortex-a53", "cortex-a72", "neoverse-n1", "neoverse-v1"];
/// Enough calls for the first one's start and the last one's end not to matter.
const CALLS: u32 = 100;

/// One stub on one CPU.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Pipeline {
    pub(super) name: String,
    pub(super) column: String,
    pub(super) cpu: String,
    pub(super) instructions: usize,
    /// For each of many calls, one behind the other.
    pub(super) cycles: f64,
    /// For one call alone, from its first instruction's dispatch until its last one is done.
    pub(super) critical_path: u64,
}

/// Finds the newest llvm-mca that has the options used here; the error is the reason why there is none.
pub(super) fn find() -> Result<PathBuf, String> {
    llvm::newest("llvm-mca", |path| cycles(path, CPUS[0], "ret\n", 1).map(drop))
}

/// Runs a stub on every model. A model that the program doesn't have is an error of its own.
pub(super) fn run(llvm_mca: &Path, column: &str, code: &Code) -> Result<Vec<Result<Pipeline>>> {
    let assembly = assembly(code)?;
    let on = |cpu: &str| -> Result<Pipeline> {
        let cycles = cycles(llvm_mca, cpu, &assembly, CALLS)?;
        Ok(Pipeline {
            name: code.name.clone(),
            column: column.to_owned(),
            cpu: cpu.to_owned(),
            instructions: code.words.len(),
            cycles: cycles as f64 / f64::from(CALLS),
            critical_path: self::cycles(llvm_mca, cpu, &assembly, 1)?,
        })
    };
    Ok(CPUS.into_iter().map(|cpu| on(cpu).with_context(|| format!("{} on {cpu}", code.name))).collect())
}

/// The instructions as text, which is what the program reads.
fn assembly(code: &Code) -> Result<String> {
    let mut text = String::new();
    for &word in &code.words {
        match Insn::decode(word) {
            Insn::Unknown { .. } => bail!("{} contains the unknown instruction {word:08x}", code.name),
            insn => text.push_str(&format!("{insn}\n")),
        }
    }
    Ok(text)
}

fn cycles(llvm_mca: &Path, cpu: &str, assembly: &str, calls: u32) -> Result<u64> {
    let mut child = Command::new(llvm_mca)
        .args(["-mtriple=aarch64", "-mattr=+v8.5a", "-call-latency=0", "-json"])
        .args([format!("-mcpu={cpu}"), format!("-iterations={calls}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("{} does not start", llvm_mca.display()))?;
    // A few hundred lines: the pipe takes them whole, and the program answers after it has read all. One that refuses its
    // arguments reads nothing, and says why.
    let written = child.stdin.take().context("the program has no input")?.write_all(assembly.as_bytes());
    let output = child.wait_with_output()?;
    let complaint = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "llvm-mca failed: {}", complaint.lines().next().unwrap_or_default());
    written.context("llvm-mca did not read its whole input")?;
    total_cycles(&String::from_utf8_lossy(&output.stdout))
}

/// The cycles in the program's answer, before which it may warn that a call is taken to do nothing.
fn total_cycles(answer: &str) -> Result<u64> {
    let json = answer.find('{').map_or("", |start| &answer[start..]);
    let value: Value = serde_json::from_str(json).context("llvm-mca's answer can't be read")?;
    value
        .pointer("/CodeRegions/0/SummaryView/TotalCycles")
        .and_then(Value::as_u64)
        .context("llvm-mca's answer has no number of cycles")
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_stub_is_written_as_assembly() {
        let code = |words: &[u32]| Code { name: "stub".to_owned(), words: words.to_vec() };
        let text = assembly(&code(&[0xd503_245f, 0xa9bf_7bfd, 0xd65f_0120])).unwrap();
        assert_eq!(text.lines().collect::<Vec<_>>(), ["bti c", "stp x29, x30, [sp, #-16]!", "ret x9"]);
        assert!(assembly(&code(&[0x0420_0000])).unwrap_err().to_string().contains("04200000"));
    }

    #[test]
    fn a_model_that_the_program_lacks_is_left_out_alone() {
        let folder = std::env::temp_dir().join(format!("fentry-mca-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let program = folder.join("llvm-mca");
        let script = "#!/bin/sh\n\
                      cat > /dev/null\n\
                      case \"$*\" in *neoverse-v1*) echo 'no such CPU' >&2; exit 1;; esac\n\
                      echo '{\"CodeRegions\":[{\"SummaryView\":{\"TotalCycles\":300}}]}'\n";
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        let code = Code { name: "stub".to_owned(), words: vec![0xd65f_0120] };
        let all = run(&program, "softfloat", &code);
        drop(std::fs::remove_dir_all(&folder));
        let all = all.unwrap();
        let cycles: Vec<_> = all.iter().filter_map(|one| Some(one.as_ref().ok()?.cycles)).collect();
        assert_eq!(cycles, [3.0; 3]);
        let error = format!("{:#}", all[3].as_ref().unwrap_err());
        assert!(error.contains("stub on neoverse-v1") && error.contains("no such CPU"), "{error}");
    }

    #[test]
    fn cycles_are_read_behind_a_warning() {
        let answer = "warning: a call\n{\"CodeRegions\":[{\"SummaryView\":{\"TotalCycles\":1141}}]}";
        assert_eq!(total_cycles(answer).unwrap(), 1141);
        assert!(total_cycles("no").is_err());
    }
}
