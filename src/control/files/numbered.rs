//! Files that there is one of for each CPU, `per_cpu/cpuN/...`, and for each option, `options/...`.

use super::rings::{self, Of};
use crate::control::line::Value;
use crate::control::options::TraceOption;
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use core::fmt::{self, Write};

/// One of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum Numbered {
    OfCpu(usize, PerCpu),
    Option(TraceOption),
}

/// A file of a CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::control) enum PerCpu {
    Trace,
    TracePipe,
    Stats,
    Size,
    Snapshot,
}

impl PerCpu {
    const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::Size, "buffer_size_kb", "the size of this CPU's ring in KiB"),
        (Self::Snapshot, "snapshot", "this CPU's part of the snapshot"),
        (Self::Stats, "stats", "how many records this CPU's ring has, lost and gave"),
        (Self::Trace, "trace", "what this CPU recorded, which stays; written, its ring is emptied"),
        (Self::TracePipe, "trace_pipe", "what this CPU recorded, which is taken out of its ring"),
    ];
}

const OPTION_HELP: &str = "0 or 1, as trace_options has it";

impl Numbered {
    /// The first of their directories.
    pub(in crate::control) const DIRECTORY: &'static str = "options/";

    /// The file of this name, on a machine with so many CPUs.
    pub(in crate::control) fn named(name: &str, cpus: usize) -> Option<Self> {
        if let Some(option) = name.strip_prefix(Self::DIRECTORY).and_then(TraceOption::named) {
            return Some(Self::Option(option));
        }
        let (cpu, file) = name.strip_prefix("per_cpu/cpu")?.split_once('/')?;
        let is_number = cpu.bytes().all(|byte| byte.is_ascii_digit());
        let cpu = cpu.parse().ok().filter(|cpu| is_number && *cpu < cpus)?;
        PerCpu::ALL.into_iter().find(|(_, own, _)| *own == file).map(|(file, ..)| Self::OfCpu(cpu, file))
    }

    /// What it is for.
    pub(in crate::control) fn help(self) -> &'static str {
        match self {
            Self::OfCpu(_, file) => {
                PerCpu::ALL.into_iter().find(|(own, ..)| *own == file).map_or("", |(.., help)| help)
            }
            Self::Option(..) => OPTION_HELP,
        }
    }

    pub(in crate::control) fn read<const CPUS: usize>(
        self,
        state: &State<CPUS>,
        out: &mut dyn Write,
    ) -> Result<(), Reason> {
        match self {
            Self::OfCpu(cpu, PerCpu::Trace) => rings::look(state, Of::Cpu(cpu), state.live(), false, out),
            Self::OfCpu(cpu, PerCpu::TracePipe) => rings::take(state, Of::Cpu(cpu), out),
            Self::OfCpu(cpu, PerCpu::Stats) => rings::stats(state, Of::Cpu(cpu), out),
            Self::OfCpu(cpu, PerCpu::Size) => rings::size_of(state, Of::Cpu(cpu), out),
            Self::OfCpu(cpu, PerCpu::Snapshot) => rings::snapshot_of(state, Of::Cpu(cpu), out),
            Self::Option(option) => Ok(writeln!(out, "{}", u8::from(state.has_option(option)))?),
        }
    }

    pub(in crate::control) fn write<const CPUS: usize>(
        self,
        state: &mut State<CPUS>,
        value: &Value<'_>,
    ) -> Result<(), Refusal> {
        match self {
            Self::OfCpu(cpu, PerCpu::Trace) => rings::clear(state, Of::Cpu(cpu), value),
            Self::OfCpu(cpu, PerCpu::Size) => rings::set_size_of(state, Of::Cpu(cpu), value)?,
            Self::OfCpu(..) => return Err(value.all().refuse(Reason::NotWritable)),
            Self::Option(option) => state.set_option(option, value.switch()?),
        }
        Ok(())
    }

    /// Calls `each` with the names of all, in their order, and what they are for.
    pub(in crate::control) fn each(
        cpus: usize,
        each: &mut dyn FnMut(fmt::Arguments<'_>, &str) -> fmt::Result,
    ) -> fmt::Result {
        for (_, name, _) in TraceOption::ALL {
            each(format_args!("options/{name}"), OPTION_HELP)?;
        }
        for cpu in 0..cpus {
            for (_, name, help) in PerCpu::ALL {
                each(format_args!("per_cpu/cpu{cpu}/{name}"), help)?;
            }
        }
        Ok(())
    }
}
