//! A data directory for uftrace, as `uftrace record` leaves it after a program of many threads.
//!
//! | file | what is in it |
//! |---|---|
//! | `info` | a header of 40 bytes, then lines of text about the machine |
//! | `task.txt` | the session and its tasks |
//! | `sid-*.map` | where what was mapped |
//! | `kernel.sym` | the symbols, relative to the mapping |
//! | `TID.dat` | a task's records of 16 bytes: the time, then type, depth and address; values behind |
//! | `events.txt` | the names of user events: here, the markers |
//! | `perf-cpu0.dat` | the tasks' names, as perf records them |
//!
//! uftrace takes the kernel for a program: its kernel mode reads Linux's own buffers. A function event has no end;
//! it becomes a call of no duration. Of an address 48 bits are recorded. Lost events are a CPU's, and uftrace knows tasks
//! only: they are told in the task whose event is the one behind or before them, where that is in no call (uftrace takes the
//! calls around a loss for lost too).

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::spelling::{NO_FUNCTION, in_one_line};
use crate::trace::calls::{self, Direction, Step, StepKind, Thread};
use crate::trace::model::{Context, Cpu, EventKind, Trace};

const MAGIC: &[u8; 8] = b"Ftrace!\0";
const VERSION: u32 = 4;
const HEADER_SIZE: u16 = 40;
const LITTLE_ENDIAN: u8 = 1;
const CLASS_64: u8 = 2;
/// What the files have: sessions in `task.txt`, arguments, return values, symbols relative to mappings, this header's
/// last field, user events, files from perf.
const FEATURES: u64 = 1 << 1 | 1 << 3 | 1 << 4 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 8;
/// Which lines follow the header: the program's name, the command line, CPUs, tasks, what arguments and return values
/// there are, how names in that are matched, the writer's version.
const INFOS: u64 = 1 << 0 | 1 << 3 | 1 << 4 | 1 << 7 | 1 << 10 | 1 << 12 | 1 << 13;
/// How deep calls can be: the depth has 10 bits.
const MAX_DEPTH: usize = 1024;

const SESSION: &str = "0000000000000001";
/// Stands for the program's file. It need not exist.
const IMAGE: &str = "/kernel";
/// uftrace works out from the stack's place which addresses are not the program's.
const STACK: &str = "7fffffff0000-7ffffffff000 rw-p 00000000 00:00 0                          [stack]";
const ADDR_MASK: u64 = (1 << 48) - 1;
const PAGE: u64 = 4096;
/// The number of the first user event.
const FIRST_EVENT: u64 = 1_000_000;
/// How much of a marker's text becomes its name.
const MAX_EVENT_NAME: usize = 120;
/// perf's record of a task's name, and the room for the name with its end.
const PERF_COMM: u32 = 3;
const COMM_SIZE: usize = 16;

/// The kinds of records.
#[derive(Clone, Copy, Debug)]
enum Record {
    Entry = 0,
    Exit = 1,
    /// Its address is how many records were lost.
    Lost = 2,
    Event = 3,
}

/// Writes the directory. One that is there must be empty, or an earlier one of uftrace's.
pub(crate) fn write(trace: &Trace, directory: &Path) -> Result<()> {
    clear(directory)?;
    let mut threads = calls::threads(trace);
    // A CPU that has nothing but losses is a task of its own.
    let is_silent = |cpu: &&Cpu| cpu.lost() > 0 && trace.events.iter().all(|event| event.cpu != cpu.id);
    threads.extend(trace.cpus.iter().filter(is_silent).map(|cpu| Thread::new(Context::Cpu(cpu.id))));
    // What was called before recording began counts too.
    let first = threads.iter().filter_map(|thread| thread.steps.first()).map(|step| step.time_ns);
    let begin = first.fold(trace.start_time_ns, u64::min);
    let numbers: Vec<u32> = threads.iter().map(|thread| trace.context_number(thread.context)).collect();
    let put = |name: &str, contents: &[u8]| {
        let path = directory.join(name);
        fs::write(&path, contents).with_context(|| format!("cannot write {}", path.display()))
    };
    let mut events = Events::default();
    for (thread, number) in threads.iter().zip(&numbers) {
        let losses = losses(trace, &threads, thread, begin);
        put(&format!("{number}.dat"), &records(trace, thread, &losses, &mut events))?;
    }
    put("info", &info(trace, &numbers))?;
    put("task.txt", tasks(&numbers, begin).as_bytes())?;
    let (map, symbols) = symbols(trace);
    put(&format!("sid-{SESSION}.map"), map.as_bytes())?;
    put("kernel.sym", symbols.as_bytes())?;
    put("events.txt", events.text.as_bytes())?;
    let names = threads.iter().zip(&numbers).flat_map(|(thread, number)| {
        comm_record(*number, numbers.first().copied().unwrap_or(0), begin, &trace.context_name(thread.context))
    });
    put("perf-cpu0.dat", &names.collect::<Vec<u8>>())
}

/// Makes the directory, without what an earlier trace left in it.
fn clear(directory: &Path) -> Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let files: Vec<_> = fs::read_dir(directory)?.collect::<Result<_, _>>()?;
    let is_ours = fs::read(directory.join("info")).is_ok_and(|info| info.starts_with(MAGIC));
    ensure!(files.is_empty() || is_ours, "{} has files in it that are not uftrace's", directory.display());
    for file in files {
        fs::remove_file(file.path()).with_context(|| format!("cannot remove {}", file.path().display()))?;
    }
    Ok(())
}

fn info(trace: &Trace, numbers: &[u32]) -> Vec<u8> {
    let mut info = MAGIC.to_vec();
    info.extend(VERSION.to_le_bytes());
    info.extend(HEADER_SIZE.to_le_bytes());
    info.extend([LITTLE_ENDIAN, CLASS_64]);
    info.extend(FEATURES.to_le_bytes());
    info.extend(INFOS.to_le_bytes());
    info.extend((MAX_DEPTH as u64).to_le_bytes());
    let cpus = trace.cpus.len();
    let tasks: Vec<String> = numbers.iter().map(u32::to_string).collect();
    // Of every function: the pattern `.` matches all. Without arguments, that line is left out.
    let numbers = 1..=argument_count(trace);
    let args: Vec<String> = numbers.map(|number| format!("arg{number}/x64")).collect();
    let args = if args.is_empty() { String::new() } else { format!("argspec:.@{}\n", args.join(",")) };
    let lines = format!(
        "exename:{IMAGE}\ncmdline:cargo fentry trace\n\
         cpuinfo:lines=2\ncpuinfo:nr_cpus={cpus} / {cpus} (online/possible)\ncpuinfo:desc=arm64\n\
         taskinfo:lines=2\ntaskinfo:nr_tid={}\ntaskinfo:tids={}\n\
         argspec:lines={}\n{args}retspec:.@retval\npattern_type:regex\nuftrace_version:fentry\n",
        tasks.len(),
        tasks.join(","),
        args.lines().count() + 1
    );
    info.extend(lines.as_bytes());
    info
}

/// How many arguments of function events are written. There is one number for all; events with another go without.
fn argument_count(trace: &Trace) -> usize {
    let counts = trace.events.iter().map(|event| match &event.kind {
        EventKind::Function { args, .. } => args.len(),
        _ => 0,
    });
    counts.max().unwrap_or(0)
}

fn tasks(numbers: &[u32], begin: u64) -> String {
    let time = format!("{}.{:09}", begin / 1_000_000_000, begin % 1_000_000_000);
    let process = numbers.first().copied().unwrap_or(0);
    let mut text = format!("SESS timestamp={time} pid={process} sid={SESSION} exename=\"{IMAGE}\"\n");
    for number in numbers {
        text += &format!("TASK timestamp={time} tid={number} pid={process}\n");
    }
    text
}

/// The mapping of all text, and its symbols.
fn symbols(trace: &Trace) -> (String, String) {
    let mut symbols: Vec<(u64, &str)> = trace
        .symbols_and_gaps()
        .into_iter()
        .map(|(addr, symbol)| (addr & ADDR_MASK, symbol.map_or("", |symbol| symbol.name.as_str())))
        .collect();
    // A function before the end of another one, where two are one in 48 bits.
    symbols.sort_by_key(|(addr, name)| (*addr, name.is_empty()));
    symbols.dedup_by_key(|(addr, _)| *addr);
    let base = symbols.first().map_or(0, |(addr, _)| addr / PAGE * PAGE);
    let end = symbols.last().map_or(base + 1, |(addr, name)| addr + u64::from(!name.is_empty()));
    // The end of the last one is the end of all.
    symbols.pop_if(|(_, name)| name.is_empty());
    let map = format!(
        "{base:012x}-{:012x} r-xp 00000000 00:00 0                          {IMAGE}\n{STACK}\n",
        end.next_multiple_of(PAGE)
    );
    let mut text = format!("# symbols: {}\n# path name: {IMAGE}\n", symbols.len() + 1);
    for (addr, name) in symbols {
        let name = if name.is_empty() { NO_FUNCTION.to_owned() } else { in_one_line(name) };
        text += &format!("{:016x} T {name}\n", addr - base);
    }
    text += &format!("{:016x} ? __sym_end\n", end - base);
    (map, text)
}

/// The user events that the markers become: one a text.
#[derive(Debug, Default)]
struct Events {
    numbers: HashMap<String, u64>,
    text: String,
}

impl Events {
    fn number_of(&mut self, marker: &str) -> u64 {
        // uftrace reads the name to the first space.
        let words = in_one_line(marker).split_whitespace().collect::<Vec<_>>().join("_");
        let name: String = words.chars().take(MAX_EVENT_NAME).collect();
        let name = if name.is_empty() { "empty".to_owned() } else { name };
        let next = FIRST_EVENT + self.numbers.len() as u64;
        let number = *self.numbers.entry(name.clone()).or_insert(next);
        if number == next {
            self.text += &format!("EVENT: {number} marker:{name}\n");
        }
        number
    }
}

/// Lost events of a CPU, told in a task's records.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    /// Before the step of this index.
    step: usize,
    time_ns: u64,
    count: u64,
}

/// The losses that are told in this thread, in the order of its steps.
fn losses(trace: &Trace, threads: &[Thread], thread: &Thread, begin: u64) -> Vec<Loss> {
    let mut losses = Vec::new();
    for cpu in trace.cpus.iter().filter(|cpu| cpu.lost() > 0) {
        let is_here = |step: &Step| step.cpu == cpu.id;
        let ends = |thread: &Thread| {
            let (first, last) = (thread.steps.iter().position(is_here)?, thread.steps.iter().rposition(is_here)?);
            Some((first, last))
        };
        let Some((first, last)) = ends(thread) else {
            if thread.steps.is_empty() && thread.context == Context::Cpu(cpu.id) {
                losses.push(Loss { step: 0, time_ns: begin, count: cpu.lost() });
            }
            continue;
        };
        let of_all = threads.iter().filter_map(|other| Some((other, ends(other)?)));
        let times =
            of_all.map(|(other, (first, last))| (other.context, other.steps[first].time_ns, other.steps[last].time_ns));
        let times: Vec<_> = times.collect();
        let is_first = times.iter().min_by_key(|(_, first, _)| *first).is_some_and(|one| one.0 == thread.context);
        let is_last = times.iter().max_by_key(|(.., last)| *last).is_some_and(|one| one.0 == thread.context);
        if is_first && cpu.overwritten > 0 {
            let step = thread.outside(first, Direction::Back);
            losses.push(Loss { step, time_ns: thread.steps[step].time_ns, count: cpu.overwritten });
        }
        if is_last && cpu.refused > 0 {
            let step = thread.outside(last + 1, Direction::On);
            losses.push(Loss { step, time_ns: thread.steps[step - 1].time_ns, count: cpu.refused });
        }
    }
    losses.sort_by_key(|loss| loss.step);
    losses
}

/// The records of one task.
fn records(trace: &Trace, thread: &Thread, losses: &[Loss], events: &mut Events) -> Vec<u8> {
    let mut records = Vec::with_capacity(thread.steps.len() * 16);
    let argument_count = argument_count(trace);
    let mut depth = 0;
    let mut put = |record: Record, time_ns: u64, depth: usize, addr: u64, data: &[u64]| {
        // Calls that are too deep are left out.
        if depth < MAX_DEPTH {
            const RECORD_MAGIC: u64 = 5;
            let word = record as u64
                | u64::from(!data.is_empty()) << 2
                | RECORD_MAGIC << 3
                | (depth as u64) << 6
                | (addr & ADDR_MASK) << 16;
            records.extend(time_ns.to_le_bytes());
            records.extend(word.to_le_bytes());
            data.iter().for_each(|value| records.extend(value.to_le_bytes()));
        }
    };
    let mut losses = losses.iter().peekable();
    let mut losses_before =
        move |step: usize| std::iter::from_fn(|| losses.next_if(|loss| loss.step <= step)).collect::<Vec<_>>();
    for (number, step) in thread.steps.iter().enumerate() {
        for Loss { time_ns, count, .. } in losses_before(number) {
            put(Record::Lost, *time_ns, 0, *count, &[]);
        }
        match step.kind {
            StepKind::Enter(call) => {
                put(Record::Entry, step.time_ns, depth, thread.calls[call].ip, &[]);
                depth += 1;
            }
            StepKind::Leave(call) => {
                depth = depth.saturating_sub(1);
                let call = &thread.calls[call];
                put(Record::Exit, step.time_ns, depth, call.ip, call.retval.as_slice());
            }
            StepKind::Instant(event) => match &trace.events[event].kind {
                EventKind::Function { ip, args, .. } => {
                    let args = if args.len() == argument_count { args.as_slice() } else { &[] };
                    put(Record::Entry, step.time_ns, depth, *ip, args);
                    put(Record::Exit, step.time_ns, depth, *ip, &[]);
                }
                EventKind::Marker { text } => put(Record::Event, step.time_ns, depth, events.number_of(text), &[]),
                EventKind::Entry { .. } | EventKind::Exit { .. } => {}
            },
        }
    }
    for Loss { time_ns, count, .. } in losses_before(usize::MAX) {
        put(Record::Lost, *time_ns, 0, *count, &[]);
    }
    records
}

/// What perf records when a task gets its name.
fn comm_record(task: u32, process: u32, time_ns: u64, name: &str) -> Vec<u8> {
    let mut comm = [0; COMM_SIZE];
    let name = &name.as_bytes()[..name.floor_char_boundary(COMM_SIZE - 1)];
    comm[..name.len()].copy_from_slice(name);
    let ids: Vec<u8> = [process, task].iter().flat_map(|id| id.to_le_bytes()).collect();
    let body = [&ids, &comm[..], &ids, &time_ns.to_le_bytes()[..]].concat();
    let misc = 0_u16;
    let size = (8 + body.len()) as u16;
    [&PERF_COMM.to_le_bytes()[..], &misc.to_le_bytes()[..], &size.to_le_bytes()[..], &body].concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::formats::tests::{expect_golden, hex};
    use crate::trace::tests::fixture::{self, Scratch, entry, exit};

    #[test]
    fn directories_are_as_expected() {
        let scratch = Scratch::new("directory");
        for (name, trace) in [("graph", fixture::graph()), ("functions", fixture::functions())] {
            let directory = scratch.0.join(name);
            write(&trace, &directory).unwrap();
            let mut files: Vec<_> = fs::read_dir(&directory).unwrap().map(|file| file.unwrap().path()).collect();
            files.sort();
            let mut all = String::new();
            for file in files {
                let bytes = fs::read(&file).unwrap();
                let contents = String::from_utf8(bytes.clone()).ok().filter(|text| !text.contains('\0'));
                let file_name = file.file_name().unwrap().to_str().unwrap();
                all += &format!("== {file_name}\n{}", contents.unwrap_or_else(|| hex(&bytes)));
            }
            expect_golden(&format!("{name}.uftrace"), all.as_bytes());
        }
    }

    #[test]
    fn only_an_earlier_trace_is_replaced() {
        let scratch = Scratch::new("replaced");
        let trace = fixture::graph();
        fs::write(scratch.0.join("1.dat"), "of somebody else").unwrap();
        assert!(write(&trace, &scratch.0).unwrap_err().to_string().contains("not uftrace's"));
        let directory = scratch.0.join("traces");
        write(&trace, &directory).unwrap();
        assert!(directory.join("12.dat").exists());
        write(&fixture::damaged(), &directory).unwrap();
        assert!(directory.join("7.dat").exists() && !directory.join("12.dat").exists());
    }

    #[test]
    fn calls_too_deep_for_the_format_are_left_out() {
        let depths = 0..1100_u32;
        let entries = depths.clone().map(|depth| entry(depth.into(), 0x1000, depth));
        let exits = depths.rev().map(|depth| exit(5000 - u64::from(depth), 0x1000, depth, depth.into()));
        let trace = fixture::of_events(entries.chain(exits).collect());
        let records = records(&trace, &calls::threads(&trace)[0], &[], &mut Events::default());
        assert_eq!(records.len(), 2 * MAX_DEPTH * 16);
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let record = comm_record(1, 1, 0, "a name of \u{20ac}\u{20ac}\u{20ac}");
        assert_eq!(&record[16..32], "a name of \u{20ac}\0\0\0".as_bytes());
        assert_eq!(usize::from(record[6]), record.len());
    }
}
