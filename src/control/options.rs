//! The options of `trace_options`: what is recorded besides, and how events are shown.

/// An option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum TraceOption {
    PrintParent,
    SymOffset,
    SymAddr,
    FuncStackTrace,
    GraphCpu,
    GraphOverhead,
    GraphProc,
    GraphDuration,
    GraphAbsTime,
    GraphTail,
    GraphRetval,
}

impl TraceOption {
    /// All of them, with Linux's names and whether they are on where nothing is said.
    pub(super) const ALL: [(Self, &'static str, bool); 11] = [
        (Self::FuncStackTrace, "func_stack_trace", false),
        (Self::GraphAbsTime, "funcgraph-abstime", false),
        (Self::GraphCpu, "funcgraph-cpu", true),
        (Self::GraphDuration, "funcgraph-duration", true),
        (Self::GraphOverhead, "funcgraph-overhead", true),
        (Self::GraphProc, "funcgraph-proc", false),
        (Self::GraphRetval, "funcgraph-retval", false),
        (Self::GraphTail, "funcgraph-tail", true),
        (Self::PrintParent, "print-parent", true),
        (Self::SymAddr, "sym-addr", false),
        (Self::SymOffset, "sym-offset", false),
    ];

    pub(super) fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|(_, own, _)| *own == name).map(|(option, ..)| option)
    }
}

/// Which options are on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Options(u16);

impl Options {
    pub(super) const DEFAULT: Self = {
        let (mut bits, mut number) = (0, 0);
        while number < TraceOption::ALL.len() {
            let (option, _, is_on) = TraceOption::ALL[number];
            bits |= (is_on as u16) << option as u8;
            number += 1;
        }
        Self(bits)
    };

    pub(super) const fn has(self, option: TraceOption) -> bool {
        self.0 & 1 << option as u8 != 0
    }

    pub(super) const fn with(self, option: TraceOption, is_on: bool) -> Self {
        let bit = 1 << option as u8;
        Self(if is_on { self.0 | bit } else { self.0 & !bit })
    }
}
