//! What `cargo fentry verify --stack` says: how deep the stack gets from each function with which a chain of calls begins.

use std::fmt;

use fentry_verify::flow::Flow;
use fentry_verify::report::At;
use fentry_verify::rules::{Counted, Depth, Depths};
use fentry_verify::{Cfi, Finding, FunctionId};
use serde_json::{Value, json};

use crate::verify::{demangled, place};

/// The depths of some functions.
pub(crate) struct Stack<'a> {
    flow: &'a Flow<'a>,
    all: Depths<'a>,
    /// Without the calls that do not come back.
    returning: Depths<'a>,
    /// Whose depth is told; the deepest is first.
    entries: Vec<FunctionId>,
}

impl<'a> Stack<'a> {
    /// Of this function, or of all with which chains of calls begin.
    pub(crate) fn of(flow: &'a Flow<'a>, cfi: &Cfi, entry: Option<FunctionId>) -> Self {
        let all = Depths::of(flow, cfi, Counted::All);
        let returning = Depths::of(flow, cfi, Counted::Returning);
        let entries = entry.map_or_else(|| all.entries(), |entry| vec![entry]);
        Self { flow, all, returning, entries }
    }

    /// Findings for those that get deeper than so many bytes.
    pub(crate) fn deeper_than(&self, limit: u64) -> Vec<Finding> {
        self.all.deeper_than(limit, &self.entries)
    }

    pub(crate) fn json(&self) -> Value {
        let program = self.flow.program();
        let entries = self.entries.iter().map(|entry| {
            let (all, returning) = (self.all.depth(*entry), self.returning.depth(*entry));
            let chain = self
                .all
                .chain(*entry)
                .into_iter()
                .map(|link| json!({ "function": demangled(program.name(link.function)), "bytes": link.bytes }));
            let unbounded = self.all.unbounded(self.flow, *entry).into_iter().map(|why| {
                let at = At::Insn(why.at());
                json!({ "address": at.address(program), "place": place(program, at), "text": why.to_string() })
            });
            json!({
                "function": demangled(program.name(*entry)),
                "address": At::Insn(program.function(*entry).entry()).address(program),
                "bytes": all.bytes,
                "bounded": all.is_bounded,
                "returning": { "bytes": returning.bytes, "bounded": returning.is_bounded },
                "chain": chain.collect::<Vec<_>>(),
                "unknown": unbounded.collect::<Vec<_>>(),
            })
        });
        entries.collect()
    }

    /// Prints so many of them, and the deepest one's chain of calls.
    pub(crate) fn display(&self, listed: usize) -> impl fmt::Display + '_ {
        fmt::from_fn(move |f| {
            let program = self.flow.program();
            writeln!(f, "stack in bytes, with what does not come back (panics) and without; + where it may be more")?;
            for entry in self.entries.iter().take(listed) {
                let [all, returning] = [&self.all, &self.returning].map(|depths| depth(depths.depth(*entry)));
                writeln!(f, "{all:>10} {returning:>10}  {}", demangled(program.name(*entry)))?;
            }
            if self.entries.len() > listed {
                writeln!(f, "    ... (--all lists them)")?;
            }
            let Some(deepest) = self.entries.first() else { return Ok(()) };
            writeln!(f, "the deepest chain of calls:")?;
            for link in self.all.chain(*deepest) {
                writeln!(f, "{:>10}  {}", link.bytes, demangled(program.name(link.function)))?;
            }
            let unbounded = self.all.unbounded(self.flow, *deepest);
            if !unbounded.is_empty() {
                writeln!(f, "unknown because of {} places:", unbounded.len())?;
            }
            for why in unbounded.iter().take(listed) {
                writeln!(f, "    {}: {why}", place(program, At::Insn(why.at())))?;
            }
            if unbounded.len() > listed { writeln!(f, "    ... (--all lists them)") } else { Ok(()) }
        })
    }
}

fn depth(depth: Depth) -> String {
    format!("{}{}", depth.bytes, if depth.is_bounded { "" } else { "+" })
}
