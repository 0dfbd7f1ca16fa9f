//! QEMU's log of a kernel that it executes one instruction at a time: the registers before each (`-d cpu`).
//!
//! ```text
//!  PC=0000000040200044 X00=0000000000000000 X01=0000000000000000
//! X02=0000000000000000 ...
//! X29=0000000000000000 X30=0000000040200004  SP=0000000000000000
//! PSTATE=400003c5 -Z-- EL1h
//! ```

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};
use cargo_fentry::qemu;

/// The general registers, SP and PC before an instruction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Registers {
    /// X0 to X30, then SP.
    pub(super) general: [u64; 32],
    pub(super) pc: u64,
}

impl Registers {
    pub(super) fn sp(&self) -> u64 {
        self.general[31]
    }

    pub(super) fn lr(&self) -> u64 {
        self.general[30]
    }
}

/// A kernel that is executed; it ends with this.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How QEMU is told to execute one instruction at a time: before 8.1, and since.
pub(super) const SINGLE: [&[&str]; 2] = [&["-singlestep"], &["-accel", "tcg,one-insn-per-tb=on"]];

/// Starts a kernel on one CPU, told by one of [`SINGLE`]; what QEMU tells of each instruction comes out of the log.
pub(super) fn run(image: &Path, cpu: &str, single: &[&str]) -> Result<(Running, Log<impl Read + use<>>)> {
    let mut command = Command::new(qemu::PROGRAM);
    command.args(["-machine", qemu::DEFAULT_MACHINE, "-m", "512M", "-cpu", cpu, "-smp", "1", "-display", "none"]);
    command.args(["-monitor", "none", "-serial", "null", "-net", "none", "-no-reboot"]);
    command.args(["-semihosting-config", "enable=on,target=native"]).args(single);
    command.args(["-d", "cpu,nochain", "-D", "/dev/stdout", "-kernel"]).arg(image);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("{} does not start", qemu::PROGRAM))?;
    let stdout = child.stdout.take().context("QEMU has no output")?;
    Ok((Running { child }, Log::new(stdout)))
}

/// Reads a log.
#[derive(Debug)]
pub(super) struct Log<R> {
    lines: BufReader<R>,
    line: Vec<u8>,
}

impl<R: Read> Log<R> {
    pub(super) fn new(log: R) -> Self {
        Self { lines: BufReader::with_capacity(1 << 16, log), line: Vec::new() }
    }
}

impl<R: Read> Iterator for Log<R> {
    type Item = Result<Registers>;

    /// The registers before the next instruction; `None` where the log ends.
    fn next(&mut self) -> Option<Result<Registers>> {
        let mut registers = Registers::default();
        loop {
            self.line.clear();
            match self.lines.read_until(b'\n', &mut self.line) {
                Ok(0) => return None,
                Ok(_) if self.line.starts_with(b"PSTATE=") => return Some(Ok(registers)),
                Ok(_) => read_line(&self.line, &mut registers),
                Err(error) => return Some(Err(error).context("QEMU's log cannot be read")),
            }
        }
    }
}

/// Takes the registers in that a line names; what else is in it stands for nothing.
fn read_line(line: &[u8], registers: &mut Registers) {
    for word in line.split(|byte| byte.is_ascii_whitespace()) {
        let Some((name, value)) = name_and_value(word) else { continue };
        match name {
            b"PC" => registers.pc = value,
            b"SP" => registers.general[31] = value,
            [b'X', tens @ b'0'..=b'3', ones @ b'0'..=b'9'] => {
                let number = usize::from((tens - b'0') * 10 + (ones - b'0'));
                if let Some(register) = registers.general.get_mut(number).filter(|_| number < 31) {
                    *register = value;
                }
            }
            _ => {}
        }
    }
}

/// What stands on both sides of `=`, the right side as a hexadecimal number.
fn name_and_value(word: &[u8]) -> Option<(&[u8], u64)> {
    let at = word.iter().position(|byte| *byte == b'=')?;
    let digit = |byte: u8| char::from(byte).to_digit(16).map(u64::from);
    let value = word[at + 1..].iter().try_fold(0_u64, |value, byte| Some(value << 4 | digit(*byte)?))?;
    Some((&word[..at], value))
}

#[cfg(test)]
mod tests {
    use super::{Log, Registers};

    #[test]
    fn registers_are_read_from_what_qemu_writes() {
        let log = " PC=0000000040200044 X00=0000000000000001 X01=ffffffffffffffff\n\
                   X28=0000000000000000 X29=00000000402003f0 X30=0000000040200004  SP=0000000040300000\n\
                   PSTATE=400003c5 -Z-- EL1h\n PC=0000000040200048 X00=";
        let mut expected = Registers { pc: 0x4020_0044, ..Registers::default() };
        (expected.general[0], expected.general[1], expected.general[29]) = (1, u64::MAX, 0x4020_03f0);
        (expected.general[30], expected.general[31]) = (0x4020_0004, 0x4030_0000);
        let read: Vec<_> = Log::new(log.as_bytes()).map(Result::unwrap).collect();
        // The last one was cut off.
        assert_eq!(read, [expected]);
    }
}
