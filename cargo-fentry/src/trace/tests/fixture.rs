//! Traces for the tests.

use std::path::PathBuf;

use crate::trace::model::{Cpu, Event, EventKind, LeftOut, Profiled, Symbol, Task, Trace};

/// Where a kernel of the tests is linked; functions are 0x100 apart.
const TEXT: u64 = 0x4008_0000;
/// Where [`entry`]'s calls return to.
pub(in crate::trace) const PARENT: Option<u64> = Some(TEXT + 0x10);
/// Functions by number. The names have what Rust's have: spaces, brackets, semicolons, quotes.
const FUNCTIONS: [&str; 10] = [
    "kernel::main",
    "kernel::work",
    "kernel::step",
    "<kernel::disk::Disk as kernel::io::Read>::read",
    "kernel::disk::wait",
    "kernel::irq::handle",
    "kernel::parse::<[u8; 4]>",
    "kernel::idle",
    "kernel::sleep::{closure#0}",
    "c_function",
];

pub(in crate::trace) fn function(number: u64) -> u64 {
    TEXT + 0x100 * number
}

pub(in crate::trace) fn entry(time_ns: u64, ip: u64, depth: u32) -> Event {
    Event { time_ns, cpu: 0, task: 7, kind: EventKind::Entry { ip, parent: PARENT, depth } }
}

pub(in crate::trace) fn exit(time_ns: u64, ip: u64, depth: u32, entry_time_ns: u64) -> Event {
    Event { time_ns, cpu: 0, task: 7, kind: EventKind::Exit { ip, depth, entry_time_ns, retval: None } }
}

pub(in crate::trace) fn marker(time_ns: u64, text: &str) -> Event {
    Event { time_ns, cpu: 0, task: 7, kind: EventKind::Marker { text: text.to_owned() } }
}

/// A trace of these events and of the functions above.
pub(in crate::trace) fn of_events(events: Vec<Event>) -> Trace {
    let symbols = (0..).zip(FUNCTIONS).map(|(number, name)| Symbol {
        addr: function(number),
        size: 0x100,
        name: name.to_owned(),
    });
    let task = |id, name: &str| Task { id, name: name.to_owned() };
    Trace {
        counter_hz: 62_500_000,
        start_time_ns: 0,
        cpus: [0, 1].map(|id| Cpu { id, overwritten: 0, refused: 0 }).to_vec(),
        symbols: symbols.collect(),
        tasks: vec![task(7, "worker"), task(12, "disk reader")],
        events,
        profile: Vec::new(),
        left_out: LeftOut::default(),
        damage: None,
    }
}

/// Writes down calls as they happen on two CPUs.
struct Script {
    events: Vec<Event>,
    time_ns: u64,
    cpu: u32,
    task: u32,
    /// The open calls: task, function, time of entry.
    open: Vec<(u32, u64, u64)>,
}

impl Script {
    fn new() -> Self {
        Self { events: Vec::new(), time_ns: 5_000_000_000, cpu: 0, task: 7, open: Vec::new() }
    }

    fn on(&mut self, cpu: u32, task: u32) -> &mut Self {
        (self.cpu, self.task) = (cpu, task);
        self
    }

    fn add(&mut self, kind: EventKind) -> &mut Self {
        self.events.push(Event { time_ns: self.time_ns, cpu: self.cpu, task: self.task, kind });
        self
    }

    fn after(&mut self, nanoseconds: u64) -> &mut Self {
        self.time_ns += nanoseconds;
        self
    }

    fn enter(&mut self, number: u64) -> &mut Self {
        let callers: Vec<u64> =
            self.open.iter().filter(|(task, ..)| *task == self.task).map(|(_, ip, _)| *ip).collect();
        let parent = callers.last().map_or(0xffff_0000, |ip| ip + 0x24);
        let depth = u32::try_from(callers.len()).unwrap();
        self.open.push((self.task, function(number), self.time_ns));
        self.add(EventKind::Entry { ip: function(number), parent: Some(parent), depth })
    }

    fn leave(&mut self, retval: Option<u64>) -> &mut Self {
        let last = self.open.iter().rposition(|(task, ..)| *task == self.task).unwrap();
        let (_, ip, entry_time_ns) = self.open.remove(last);
        let depth = self.open.iter().filter(|(task, ..)| *task == self.task).count();
        self.add(EventKind::Exit { ip, depth: u32::try_from(depth).unwrap(), entry_time_ns, retval })
    }

    /// A call of so many nanoseconds that calls nothing.
    fn leaf(&mut self, number: u64, nanoseconds: u64) -> &mut Self {
        self.enter(number).after(nanoseconds).leave(None)
    }
}

/// Balanced calls: two CPUs, two tasks and a CPU's own context, one task that moves to the other CPU, durations with
/// every mark.
pub(in crate::trace) fn graph() -> Trace {
    let mut script = Script::new();
    script.enter(1).after(120);
    script.leaf(2, 800).after(40).leaf(2, 10_001).after(40);
    script.on(1, 0).enter(7).after(30).on(0, 7);
    script.enter(3).after(100).leaf(4, 250_000).after(60).leave(Some(512)).after(10);
    // Another task on CPU 0, which an interrupt's function calls into.
    script.on(0, 12).enter(3).after(16).enter(5).after(7).leaf(9, 0).leave(Some(0)).after(90);
    script.leaf(4, 2_000_000).leave(Some((-5_i64).cast_unsigned())).after(500);
    // The worker goes on, on the other CPU.
    script.on(1, 7).add(EventKind::Marker { text: "half done: 50 %\n".to_owned() }).after(20);
    script.enter(6).after(15).leaf(8, 30_000_000).after(5).leaf(8, 300_000_000).after(4).leave(None).after(3);
    script.leave(Some(u64::MAX - 5000)).after(9);
    script.leaf(0, 1_500_000_000).after(11);
    script.on(1, 0).leave(None);
    Trace { start_time_ns: 4_999_999_000, ..of_events(script.events) }
}

/// Function events only.
pub(in crate::trace) fn functions() -> Trace {
    let mut script = Script::new();
    let call = |number: u64, parent: u64, args: &[u64]| EventKind::Function {
        ip: function(number),
        parent: function(parent) + 0x24,
        args: args.to_vec(),
    };
    script.add(call(1, 0, &[])).after(1_500).add(call(3, 1, &[0x4010_0000, 512])).after(700);
    script.on(1, 0).add(call(7, 0, &[])).after(1_000_000_000);
    script.on(1, 12).add(call(6, 1, &[])).after(999).add(EventKind::Marker { text: "two\nlines".to_owned() });
    script.after(400).on(0, 99).add(call(9, 0x40, &[])).after(3);
    let mut trace = of_events(script.events);
    trace.cpus[1].overwritten = 17;
    trace
}

/// A trace that begins and ends inside calls, and lost events between.
pub(in crate::trace) fn damaged() -> Trace {
    let mut trace = of_events(vec![
        exit(1_000, function(4), 2, 400),
        exit(1_200, function(3), 1, 300),
        entry(1_300, function(2), 1),
        exit(1_400, function(2), 1, 1_300),
        // The exit of 6, and the entry of 3, are lost.
        entry(1_500, function(6), 1),
        marker(1_600, "lost some"),
        entry(2_000, function(4), 2),
        exit(2_500, function(4), 2, 2_000),
        exit(2_600, function(3), 1, 1_900),
        exit(2_700, function(1), 0, 100),
        entry(3_000, function(0), 0),
        entry(3_100, function(2), 1),
        marker(4_000, "the end"),
    ]);
    trace.cpus[0].overwritten = 3;
    trace
}

/// Rings that were full: of CPU 0 the last events are missing, of CPU 1 some at both ends, of CPU 2 all.
pub(in crate::trace) fn full() -> Trace {
    let mut trace = graph();
    trace.cpus.push(Cpu { id: 2, overwritten: 4, refused: 5 });
    (trace.cpus[0].refused, trace.cpus[1].overwritten, trace.cpus[1].refused) = (7, 21, 22);
    trace
}

/// What a profiler counted.
pub(in crate::trace) fn profile() -> Trace {
    let profiled = |number, hits, total_ns, own_ns, min_ns, max_ns| Profiled {
        ip: function(number),
        hits,
        total_ns,
        own_ns,
        min_ns,
        max_ns,
    };
    let profile = vec![profiled(1, 1, 70_000, 9_500, 70_000, 70_000), profiled(2, 40, 60_500, 60_500, 1_000, 2_016)];
    Trace { profile, left_out: LeftOut { unprofiled: 3, ..LeftOut::default() }, ..of_events(Vec::new()) }
}

/// A directory that goes away with its owner.
pub(in crate::trace) struct Scratch(pub(in crate::trace) PathBuf);

impl Scratch {
    pub(in crate::trace) fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("fentry-trace-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}
