//! A recorded trace, as the formats take it: events in the order of time, with the names of functions and tasks.
//!
//! It knows nothing of where it comes from; `dump` reads it from a kernel's dump.

use std::borrow::Cow;

use anyhow::{Result, ensure};

/// The number of no task: what a CPU runs outside of tasks. As with Linux's idle tasks, each CPU has one.
pub(super) const NO_TASK: u32 = 0;

/// A trace. All times are nanoseconds since boot; the symbols are by address, the events by time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trace {
    /// The frequency of the counter that the times were read from.
    pub(crate) counter_hz: u64,
    /// When recording began.
    pub(crate) start_time_ns: u64,
    pub(crate) cpus: Vec<Cpu>,
    pub(crate) symbols: Vec<Symbol>,
    pub(crate) tasks: Vec<Task>,
    pub(crate) events: Vec<Event>,
    /// What a profiler counted in the kernel; a trace has this or events.
    pub(crate) profile: Vec<Profiled>,
    pub(crate) left_out: LeftOut,
    /// What is wrong with the dump that it was read from; all behind that place is missing.
    pub(crate) damage: Option<String>,
}

/// A function's calls, counted and timed in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Profiled {
    pub(crate) ip: u64,
    pub(crate) hits: u64,
    pub(crate) total_ns: u64,
    /// Without the calls inside that were counted too.
    pub(crate) own_ns: u64,
    pub(crate) min_ns: u64,
    pub(crate) max_ns: u64,
}

/// Records that are not in the trace, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct LeftOut {
    /// Records that their writers abandoned.
    pub(crate) void: u64,
    /// Records of the kernel's own kinds.
    pub(crate) user: u64,
    /// Calls that the profiler had no room for.
    pub(crate) unprofiled: u64,
}

/// A CPU that was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cpu {
    pub(crate) id: u32,
    /// Events lost because newer ones overwrote them: those before the first that is there.
    pub(crate) overwritten: u64,
    /// Events lost because there was no room for them: those behind the last that is there.
    pub(crate) refused: u64,
}

impl Cpu {
    /// All events that were lost.
    pub(super) fn lost(&self) -> u64 {
        self.overwritten.saturating_add(self.refused)
    }
}

/// A function of the kernel or of a module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Symbol {
    pub(crate) addr: u64,
    pub(crate) size: u64,
    pub(crate) name: String,
}

/// A task that has a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Task {
    pub(crate) id: u32,
    pub(crate) name: String,
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) time_ns: u64,
    pub(crate) cpu: u32,
    /// The task's identifier; 0 where there is no task.
    pub(crate) task: u32,
    pub(crate) kind: EventKind,
}

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum EventKind {
    /// A function was called; when it returns is not recorded.
    Function {
        ip: u64,
        /// Where it returns to.
        parent: u64,
        /// The argument registers that were recorded, from x0 on.
        args: Vec<u64>,
    },
    /// A function was called, and its return is recorded too.
    Entry {
        ip: u64,
        /// Where it returns to, where that was recorded.
        parent: Option<u64>,
        /// How many recorded calls it is inside of.
        depth: u32,
    },
    /// A function returned.
    Exit {
        ip: u64,
        /// As at its entry.
        depth: u32,
        entry_time_ns: u64,
        /// x0, where it was recorded.
        retval: Option<u64>,
    },
    /// The kernel's own words.
    Marker { text: String },
}

/// What calls nest in: a task, or a CPU where there are no tasks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Context {
    Cpu(u32),
    Task(u32),
}

impl Event {
    pub(super) fn context(&self) -> Context {
        if self.task == NO_TASK { Context::Cpu(self.cpu) } else { Context::Task(self.task) }
    }
}

impl Trace {
    /// Checks what the formats rely on.
    pub(super) fn check(&self) -> Result<()> {
        ensure!(self.counter_hz > 0, "the counter's frequency is 0");
        for pair in self.cpus.windows(2) {
            ensure!(pair[0].id < pair[1].id, "CPU {} does not come before CPU {}", pair[0].id, pair[1].id);
        }
        for pair in self.symbols.windows(2) {
            ensure!(pair[0].addr <= pair[1].addr, "{} and {} are not by address", pair[0].name, pair[1].name);
        }
        for symbol in &self.symbols {
            let Symbol { addr, size, name } = symbol;
            ensure!(addr.checked_add(*size).is_some(), "{name} ends beyond the last address");
        }
        for task in &self.tasks {
            ensure!(i32::try_from(task.id).is_ok(), "task {} has too high a number", task.id);
        }
        let mut before = self.start_time_ns;
        for (index, event) in self.events.iter().enumerate() {
            let Event { time_ns, cpu, task, kind } = event;
            ensure!(*time_ns >= before, "event {index} is at {time_ns} ns, the one before it at {before} ns");
            ensure!(self.cpus.iter().any(|known| known.id == *cpu), "event {index} is of the unknown CPU {cpu}");
            ensure!(i32::try_from(*task).is_ok(), "event {index}: task {task} has too high a number");
            if let EventKind::Exit { entry_time_ns, .. } = kind {
                ensure!(entry_time_ns <= time_ns, "event {index} returns before it was called, at {entry_time_ns} ns");
            }
            before = *time_ns;
        }
        Ok(())
    }

    /// When the last event happened.
    pub(super) fn end_time_ns(&self) -> u64 {
        self.events.last().map_or(self.start_time_ns, |event| event.time_ns)
    }

    /// The name of the function that an address is in, or the address where there is none.
    pub(super) fn name_at(&self, addr: u64) -> Cow<'_, str> {
        let after = self.symbols.partition_point(|symbol| symbol.addr <= addr);
        let reaches = |symbol: &&Symbol| addr - symbol.addr < symbol.size.max(1) && !is_blank(&symbol.name);
        // Inside a function there may be labels, and other functions that end before, as for the kernel's own lookup.
        let last = self.symbols[..after].iter().rev().take(64).find(reaches);
        // Of several names for one address, the first is the best.
        let symbol = last.and_then(|last| {
            let same = self.symbols.partition_point(|symbol| symbol.addr < last.addr);
            self.symbols[same..after].iter().find(reaches)
        });
        match symbol {
            Some(symbol) => Cow::Borrowed(&symbol.name),
            None => Cow::Owned(format!("{addr:#x}")),
        }
    }

    /// The functions as readers want them that know no ends: one for each address, by address, and `None` where one ends
    /// and none begins.
    pub(super) fn symbols_and_gaps(&self) -> Vec<(u64, Option<&Symbol>)> {
        let mut all: Vec<(u64, Option<&Symbol>)> = Vec::with_capacity(self.symbols.len() + 1);
        // Where the one before ends.
        let mut end = None;
        for same in self.symbols.chunk_by(|symbol, next| symbol.addr == next.addr) {
            let symbol = &same[0];
            all.extend(end.filter(|end| *end < symbol.addr).map(|end| (end, None)));
            // A label inside a function takes nothing of it.
            if symbol.size == 0 && end.is_some_and(|end| symbol.addr < end) {
                continue;
            }
            all.push((symbol.addr, Some(symbol).filter(|symbol| !is_blank(&symbol.name))));
            let own = symbol.addr.checked_add(symbol.size.max(1));
            end = own.map(|own| end.map_or(own, |end| own.max(end)));
        }
        all.extend(end.map(|end| (end, None)));
        all
    }

    /// The tasks that have names to show.
    pub(super) fn named_tasks(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().filter(|task| !is_blank(&task.name))
    }

    /// The name of a task, or what Linux shows instead.
    pub(super) fn task_name(&self, id: u32) -> &str {
        let without_name = if id == NO_TASK { "<idle>" } else { "<...>" };
        self.named_tasks().find(|task| task.id == id).map_or(without_name, |task| &task.name)
    }

    /// The name of a context. A CPU's says which one.
    pub(super) fn context_name(&self, context: Context) -> Cow<'_, str> {
        match context {
            Context::Task(id) => Cow::Borrowed(self.task_name(id)),
            Context::Cpu(cpu) => Cow::Owned(format!("{}/{cpu}", self.task_name(NO_TASK))),
        }
    }

    /// A number for a context that no other has, for readers that know only numbered threads.
    pub(super) fn context_number(&self, context: Context) -> u32 {
        match context {
            Context::Task(id) => id,
            Context::Cpu(cpu) => {
                let of_tasks = self.tasks.iter().map(|task| task.id);
                let highest = of_tasks.chain(self.events.iter().map(|event| event.task)).max().unwrap_or(0);
                highest.saturating_add(1).saturating_add(cpu)
            }
        }
    }
}

/// Whether there is nothing to see of a name; files of many formats cannot be read any more behind such a one.
fn is_blank(name: &str) -> bool {
    name.chars().all(|character| character.is_whitespace() || character.is_control())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::tests::fixture;

    #[test]
    fn a_function_has_an_end_and_a_name_that_says_nothing_is_none() {
        let mut trace = fixture::graph();
        let symbol = |addr, size, name: &str| Symbol { addr, size, name: name.to_owned() };
        trace.symbols = vec![
            symbol(0x1000, 0x10, "first"),
            symbol(0x1000, 0x10, "alias"),
            symbol(0x1010, 0x10, "next"),
            symbol(0x1030, 8, " "),
            symbol(0x1040, 0, "label"),
            symbol(u64::MAX, 0, "last"),
        ];
        trace.tasks[0].name = "\n ".to_owned();
        let all: Vec<_> = trace.symbols_and_gaps();
        let all: Vec<_> = all.into_iter().map(|(addr, symbol)| (addr, symbol.map_or("", |one| &one.name))).collect();
        let expected = [
            (0x1000, "first"),
            (0x1010, "next"),
            (0x1020, ""),
            (0x1030, ""),
            (0x1038, ""),
            (0x1040, "label"),
            (0x1041, ""),
            (u64::MAX, "last"),
        ];
        assert_eq!(all, expected);
        for (addr, name) in expected {
            let expected = if name.is_empty() { format!("{addr:#x}") } else { name.to_owned() };
            assert_eq!(trace.name_at(addr), expected);
        }
        assert_eq!((trace.task_name(7), trace.task_name(12)), ("<...>", "disk reader"));
    }

    #[test]
    fn an_address_has_the_name_of_the_function_around_it() {
        let mut trace = fixture::graph();
        trace.symbols = vec![
            Symbol { addr: 0x1000, size: 0x10, name: "first".to_owned() },
            Symbol { addr: 0x1000, size: 0x10, name: "alias".to_owned() },
            Symbol { addr: 0x1020, size: 0, name: "label".to_owned() },
        ];
        let names = [0xfff, 0x1000, 0x100f, 0x1010, 0x1020, 0x1021].map(|addr| trace.name_at(addr).into_owned());
        assert_eq!(names, ["0xfff", "first", "first", "0x1010", "label", "0x1021"]);
    }

    #[test]
    fn contexts_without_tasks_are_told_apart() {
        let trace = fixture::graph();
        let numbers = [Context::Cpu(0), Context::Cpu(1), Context::Task(7), Context::Task(12)]
            .map(|context| trace.context_number(context));
        assert_eq!(numbers, [13, 14, 7, 12]);
        assert_eq!(trace.context_name(Context::Cpu(1)), "<idle>/1");
        assert_eq!(trace.context_name(Context::Task(7)), "worker");
        assert_eq!(trace.context_name(Context::Task(99)), "<...>");
    }

    #[test]
    fn what_exporters_rely_on_is_checked() {
        type Damage = fn(&mut Trace);
        let damages: [(Damage, &str); 7] = [
            (|trace| trace.counter_hz = 0, "frequency"),
            (|trace| trace.cpus.swap(0, 1), "CPU"),
            (|trace| trace.symbols.swap(0, 1), "by address"),
            (|trace| trace.symbols[0].size = u64::MAX, "last address"),
            (|trace| trace.events.swap(0, 5), "the one before it"),
            (|trace| trace.events[3].cpu = 9, "unknown CPU 9"),
            (|trace| trace.events[3].task = u32::MAX, "too high"),
        ];
        assert!(fixture::graph().check().is_ok());
        for (damage, expected) in damages {
            let mut trace = fixture::graph();
            damage(&mut trace);
            let error = trace.check().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
