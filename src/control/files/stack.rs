//! Files about the deepest stack.

use crate::control::line::Value;
use crate::control::reason::{Reason, Refusal};
use crate::control::state::State;
use core::fmt::Write;

pub(super) fn is_traced<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    Ok(writeln!(out, "{}", u8::from(state.traces_stack))?)
}

pub(super) fn set_traced<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let wanted = value.switch()?;
    if wanted == state.traces_stack {
        return Ok(());
    }
    state.trace_stack(wanted).map_err(|reason| value.all().refuse(reason))
}

pub(super) fn max_size<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let (_, deepest) = state.deepest.ok_or(Reason::NoStacks)?;
    Ok(writeln!(out, "{}", deepest.used())?)
}

pub(super) fn clear<const CPUS: usize>(state: &mut State<CPUS>, value: &Value<'_>) -> Result<(), Refusal> {
    let (_, deepest) = state.deepest.ok_or(value.all().refuse(Reason::NoStacks))?;
    if value.all().number()? != 0 {
        return Err(value.all().refuse(Reason::Expected("0")));
    }
    deepest.clear();
    Ok(())
}

pub(super) fn frames<const CPUS: usize>(state: &State<CPUS>, out: &mut dyn Write) -> Result<(), Reason> {
    let (_, deepest) = state.deepest.ok_or(Reason::NoStacks)?;
    writeln!(out, "        {} bytes of stack, {} functions", deepest.used(), deepest.frames().count())?;
    for (number, frame) in deepest.frames().enumerate() {
        write!(out, "{number:>3})  ")?;
        // The first is the function's callsite, the others are where calls return to.
        let inside = if number == 0 { frame } else { frame.offset(-4) };
        state.names().write(inside.get(), out)?;
        writeln!(out)?;
    }
    Ok(())
}
