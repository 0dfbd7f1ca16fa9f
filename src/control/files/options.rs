//! The options: all of them in `trace_options`, each in a file of its own.

use crate::control::line::Value;
use crate::control::options::TraceOption;
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use core::fmt::Write;

impl<const CPUS: usize> State<CPUS> {
    pub(in crate::control) fn has_option(&self, option: TraceOption) -> bool {
        match option {
            TraceOption::FuncStackTrace => self.tracing.switches.wants_stacks(),
            shown => self.options.has(shown),
        }
    }

    pub(in crate::control) fn set_option(&mut self, option: TraceOption, is_on: bool) {
        match option {
            TraceOption::FuncStackTrace => self.tracing.switches.set_stacks(is_on),
            shown => self.options = self.options.with(shown, is_on),
        }
    }
}

pub(super) fn list<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    for (option, name, _) in TraceOption::ALL {
        writeln!(out, "{}{name}", if state.has_option(option) { "" } else { "no" })?;
    }
    Ok(())
}

pub(super) fn set<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let named = |text| TraceOption::named(text).ok_or(value.all().refuse(Reason::UnknownOption));
    let text = value.all().text();
    let (option, is_on) = match text.strip_prefix("no") {
        Some(rest) => (named(rest)?, false),
        None => (named(text)?, true),
    };
    state.set_option(option, is_on);
    Ok(())
}
