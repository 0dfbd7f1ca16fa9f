//! What a kernel recorded: its dump, as a [`Trace`].
//!
//! A kernel records a call once, at its exit, with the time of its entry. Here each gets its entry back, in the place
//! where it was: of one context, exits come in the order of time, those of calls inside before those around them, and so
//! the calls inside one are the last ones before it that are deeper and did not begin earlier. Times alone would not do:
//! many calls can fall into one tick of the clock.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use fentry::symbols::Function;
use fentry::tracer::dump::{Dump, ModuleSymbol, ModuleText, TimedEvent};
use fentry::tracer::event;
use fentry::tracer::profiler::FunctionProfile;
use fentry::tracer::ring::Counts;

use super::model::{Context, Cpu, Event, EventKind, LeftOut, Profiled, Symbol, Task, Trace};

/// What is deeper than every call.
const NO_CALL: u32 = u32::MAX;

impl Trace {
    /// Reads a dump, or as much of it as is whole. `functions` are those of the kernel that wrote it, as linked.
    pub(crate) fn from_dump(bytes: &[u8], functions: &[Function]) -> Result<Self> {
        let (dump, damage) = Dump::salvage(bytes).context("this is not what a kernel's tracer wrote")?;
        ensure!(dump.ticks_per_second() > 0, "the dump's clock does not tick");
        let clock = Clock { ticks_per_second: dump.ticks_per_second() };
        let mut left_out = LeftOut::default();
        let mut contexts = BTreeMap::<Context, Nest>::new();
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
        for timed in dump.events() {
            match event_of(&timed, clock, &trace) {
                Ok(event) => contexts.entry(event.context()).or_default().add(event),
                Err(NotShown::Void) => left_out.void += 1,
                Err(NotShown::User) => left_out.user += 1,
            }
        }
        trace.events = contexts.into_values().flat_map(Nest::into_events).collect();
        // Stable: what a context did in one tick stays in its order.
        trace.events.sort_by_key(|event| event.time_ns);
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

/// The functions of the kernel where it ran, and those of its modules, by address.
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
        // As Linux shows them. A symbol at a module's very end is that module's too.
        let name = match module.filter(|module| addr <= module.text.end.get()) {
            Some(module) => format!("{name} [{}]", module.name),
            None => name.to_owned(),
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

/// Why a record is no event of a trace.
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
        event::Event::User { .. } => return Err(NotShown::User),
        _ => return Err(NotShown::Void),
    };
    Ok(Event { time_ns, cpu: timed.cpu, task: timed.recorded.task, kind })
}

/// What a context did, put inside each other.
#[derive(Default)]
struct Nest {
    done: Vec<Group>,
}

/// A call with all that happened inside, or an event that is none.
struct Group {
    depth: u32,
    start_ns: u64,
    events: Vec<Event>,
}

impl Nest {
    fn add(&mut self, event: Event) {
        let (depth, start_ns) = match event.kind {
            EventKind::Exit { depth, entry_time_ns, .. } => (depth, entry_time_ns),
            EventKind::Entry { depth, .. } => (depth, event.time_ns),
            EventKind::Function { .. } | EventKind::Marker { .. } => (NO_CALL, event.time_ns),
        };
        let mut events = Vec::new();
        if let EventKind::Exit { ip, .. } = event.kind {
            let inside = self.done.iter().rev().take_while(|group| group.depth > depth && group.start_ns >= start_ns);
            let first = self.done.len() - inside.count();
            let inside = self.done.split_off(first);
            // An entry of its own, where the kernel recorded one.
            match self.done.pop_if(|group| group.is_entry_of(ip, depth)) {
                Some(entry) => events = entry.events,
                None => {
                    let kind = EventKind::Entry { ip, parent: None, depth };
                    events.push(Event { time_ns: start_ns, kind, ..event });
                }
            }
            events.extend(inside.into_iter().flat_map(|group| group.events));
        }
        events.push(event);
        self.done.push(Group { depth, start_ns, events });
    }

    /// All events, in the order in which they happened.
    fn into_events(self) -> Vec<Event> {
        let mut events: Vec<Event> = self.done.into_iter().flat_map(|group| group.events).collect();
        let mut time_ns = 0;
        for event in &mut events {
            // Counters of two CPUs may differ by a little.
            time_ns = event.time_ns.max(time_ns);
            event.time_ns = time_ns;
        }
        events
    }
}

impl Group {
    fn is_entry_of(&self, function: u64, level: u32) -> bool {
        let [Event { kind: EventKind::Entry { ip, depth, .. }, .. }] = self.events[..] else { return false };
        (ip, depth) == (function, level)
    }
}
