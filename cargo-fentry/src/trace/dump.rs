//! Reads the dump that a kernel's tracer wrote into a [`Trace`].

use anyhow::{Context as _, Result, ensure};
use fentry::symbols::Function;
use fentry::tracer::dump::{Dump, ModuleSymbol, ModuleText, TimedEvent};
use fentry::tracer::event;
use fentry::tracer::profiler::FunctionProfile;
use fentry::tracer::ring::Counts;

use super::calls;
use super::model::{Cpu, Event, EventKind, LeftOut, Profiled, Symbol, Task, Trace};
use crate::names;

impl Trace {
    /// Reads a dump, or as much of it as is intact. `functions` are those of the kernel that wrote it, as linked.
    pub(crate) fn from_dump(bytes: &[u8], functions: &[Function]) -> Result<Self> {
        let (dump, damage) = Dump::salvage(bytes).context("this is not a dump of a kernel's tracer")?;
        ensure!(dump.ticks_per_second() > 0, "the dump's clock has a frequency of 0");
        let clock = Clock { ticks_per_second: dump.ticks_per_second() };
        let mut left_out = LeftOut::default();
        let mut trace = Self {
            counter_hz: dump.ticks_per_second(),
            start_time_ns: 0,
            cpus: (0..dump.cpus())
                .map(|id| {
                    let Counts { overwritten, refused, .. } = dump.counts(id).unwrap_or_default();
                    Cpu { id, overwritten, refused }
                })
                .collect(),
            symbols: symbols(&dump, functions),
            tasks: dump.tasks().map(|(id, name)| Task { id, name: name.to_owned() }).collect(),
            events: Vec::new(),
            profile: Vec::new(),
            left_out,
            damage: damage.map(|error| error.to_string()),
        };
        let mut events = Vec::new();
        for timed in dump.events() {
            match event_of(&timed, clock, &trace) {
                Ok(event) => events.push(event),
                Err(NotShown::Void) => left_out.void += 1,
                Err(NotShown::User) => left_out.user += 1,
            }
        }
        trace.events = calls::with_entries(events);
        trace.start_time_ns = trace.events.first().map_or(0, |event| event.time_ns);
        for FunctionProfile { ip, hits, total, own, min, max } in dump.functions() {
            if ip.get() == 0 {
                left_out.unprofiled = left_out.unprofiled.saturating_add(hits);
                continue;
            }
            let [total_ns, own_ns, min_ns, max_ns] = [total, own, min, max].map(|ticks| clock.nanoseconds(ticks));
            trace.profile.push(Profiled { ip: ip.get(), hits, total_ns, own_ns, min_ns, max_ns });
        }
        trace.left_out = left_out;
        trace.check()?;
        Ok(trace)
    }
}

/// The functions of the kernel, at the addresses where it ran, and those of its modules, by address.
fn symbols(dump: &Dump<'_>, functions: &[Function]) -> Vec<Symbol> {
    let slide = dump.slide();
    let moved = |Function { name, addr, size, .. }: &Function| {
        let addr = addr.wrapping_add(slide);
        addr.checked_add(*size).map(|_| Symbol { addr, size: *size, name: name.clone() })
    };
    let mut modules: Vec<ModuleText<'_>> = dump.modules().collect();
    modules.sort_by_key(|module| module.text.start);
    let of_module = |symbol: ModuleSymbol<'_>| {
        let ModuleSymbol { addr, size, name } = symbol;
        let after = modules.partition_point(|module| module.text.start.get() <= addr);
        let module = after.checked_sub(1).map(|index| &modules[index]);
        // The kernel's loader demangles names of Rust.
        let name = names::demangled(name);
        // As Linux shows them. A symbol at a module's very end is that module's too.
        let name = match module.filter(|module| addr <= module.text.end.get()) {
            Some(module) => format!("{name} [{}]", module.name),
            None => name.into_owned(),
        };
        Symbol { addr, size, name }
    };
    let mut symbols: Vec<Symbol> = functions.iter().filter_map(moved).chain(dump.symbols().map(of_module)).collect();
    // Stable: of several names for one address, the first stays the first.
    symbols.sort_by_key(|symbol| symbol.addr);
    symbols
}

/// The clock of a dump.
#[derive(Clone, Copy)]
struct Clock {
    ticks_per_second: u64,
}

impl Clock {
    fn nanoseconds(self, ticks: u64) -> u64 {
        let nanoseconds = u128::from(ticks) * 1_000_000_000 / u128::from(self.ticks_per_second.max(1));
        u64::try_from(nanoseconds).unwrap_or(u64::MAX)
    }
}

/// Why a record becomes no event of the trace.
enum NotShown {
    Void,
    User,
}

fn event_of(timed: &TimedEvent<'_>, clock: Clock, trace: &Trace) -> Result<Event, NotShown> {
    let time_ns = clock.nanoseconds(timed.recorded.time);
    let kind = match timed.recorded.event {
        event::Event::Function { ip, parent, arguments } => {
            EventKind::Function { ip: ip.get(), parent: parent.get(), args: arguments.iter().collect() }
        }
        event::Event::GraphEntry { ip, parent, depth } => {
            EventKind::Entry { ip: ip.get(), parent: Some(parent.get()), depth: depth.into() }
        }
        event::Event::GraphExit { ip, entry_time, depth, value } => EventKind::Exit {
            ip: ip.get(),
            depth: depth.into(),
            entry_time_ns: clock.nanoseconds(entry_time).min(time_ns),
            retval: Some(value),
        },
        event::Event::Stack { ip, frames } => {
            let frames: String = frames.iter().map(|frame| format!(" <- {}", trace.name_at(frame))).collect();
            EventKind::Marker { text: format!("stack: {}{frames}", trace.name_at(ip.get())) }
        }
        event::Event::Marker { text } => EventKind::Marker { text: text.to_owned() },
        event::Event::User { .. } | event::Event::Probe { .. } => return Err(NotShown::User),
        _ => return Err(NotShown::Void),
    };
    Ok(Event { time_ns, cpu: timed.cpu, task: timed.recorded.task, kind })
}
