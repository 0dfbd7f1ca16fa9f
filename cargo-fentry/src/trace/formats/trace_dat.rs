//! `trace.dat`, version 6, for trace-cmd and KernelShark.
//!
//! The file carries what a Linux machine says about its events (formats, symbols, tasks), then each CPU's ring buffer as
//! pages: `man 5 trace-cmd.dat.v6`. A page begins with a time; each event on it has the time since the one before. The
//! events are those of Linux's function and graph tracers, with their names, numbers and fields.

use std::io::Write;

use anyhow::{Result, ensure};

use super::spelling::{NO_FUNCTION, in_one_line};
use crate::trace::model::{Cpu, Event, EventKind, NO_TASK, Symbol, Trace};

const MAGIC: &[u8] = b"\x17\x08\x44tracing6\0";
const LITTLE_ENDIAN: u8 = 0;
const LONG_SIZE: u8 = 8;
const PAGE_SIZE: usize = 4096;
/// A page's time, and the length of what is on it.
const PAGE_HEADER: usize = 16;
/// In a page's length: events were lost before it, and their number stands after its last event.
const MISSED_EVENTS: u64 = 1 << 31;
const MISSED_STORED: u64 = 1 << 30;
/// An event's first word: its length in words, or one of these, then the time in 27 bits.
const TYPE_BITS: u32 = 5;
const TIME_BITS: u32 = 27;
const TIME_EXTEND: u32 = 30;
const MAX_WORDS: usize = 28;
/// How much of a marker is kept: an event must fit on a page.
const MAX_TEXT: usize = 3000;
/// The highest number of a CPU; each below it has a place in the file.
const MAX_CPU: u32 = 4095;

const HEADER_PAGE: &str = "\
\tfield: u64 timestamp;\toffset:0;\tsize:8;\tsigned:0;
\tfield: local_t commit;\toffset:8;\tsize:8;\tsigned:1;
\tfield: int overwrite;\toffset:8;\tsize:1;\tsigned:1;
\tfield: char data;\toffset:16;\tsize:4080;\tsigned:0;
";
const HEADER_EVENT: &str = "\
# compressed entry header
\ttype_len    :    5 bits
\ttime_delta  :   27 bits
\tarray       :   32 bits

\tpadding     : type == 29
\ttime_extend : type == 30
\ttime_stamp : type == 31
\tdata max type_len  == 28
";

/// A field of an event: its type, its name, its size, whether it is signed. A size of 0 is the rest of the event.
type Field = (&'static str, &'static str, usize, bool);

/// An event of Linux's.
struct Format {
    name: &'static str,
    number: u16,
    fields: &'static [Field],
    print: &'static str,
}

/// What every event begins with.
const COMMON: [Field; 4] = [
    ("unsigned short", "common_type", 2, false),
    ("unsigned char", "common_flags", 1, false),
    ("unsigned char", "common_preempt_count", 1, false),
    ("int", "common_pid", 4, true),
];
const FUNCTION: Format = Format {
    name: "function",
    number: 1,
    fields: &[("unsigned long", "ip", 8, false), ("unsigned long", "parent_ip", 8, false)],
    print: r#"" %ps <-- %ps", (void *)REC->ip, (void *)REC->parent_ip"#,
};
const MARKER: Format = Format {
    name: "print",
    number: 5,
    fields: &[("unsigned long", "ip", 8, false), ("char", "buf[]", 0, false)],
    print: r#""%ps: %s", (void *)REC->ip, REC->buf"#,
};
const EXIT: Format = Format {
    name: "funcgraph_exit",
    number: 10,
    fields: &[
        ("unsigned long", "func", 8, false),
        ("int", "depth", 4, true),
        ("unsigned int", "overrun", 4, false),
        ("unsigned long long", "calltime", 8, false),
        ("unsigned long long", "rettime", 8, false),
    ],
    print: r#""<-- %ps (%d)", (void *)REC->func, REC->depth"#,
};
/// The exit where return values are recorded.
const EXIT_WITH_VALUE: Format = Format {
    name: "funcgraph_exit",
    number: 10,
    fields: &[
        ("unsigned long", "func", 8, false),
        ("unsigned long", "retval", 8, false),
        ("int", "depth", 4, true),
        ("unsigned int", "overrun", 4, false),
        ("unsigned long long", "calltime", 8, false),
        ("unsigned long long", "rettime", 8, false),
    ],
    print: r#""<-- %ps (%d) = %lx", (void *)REC->func, REC->depth, REC->retval"#,
};
const ENTRY: Format = Format {
    name: "funcgraph_entry",
    number: 11,
    fields: &[("unsigned long", "func", 8, false), ("int", "depth", 4, true)],
    print: r#""--> %ps (%d)", (void *)REC->func, REC->depth"#,
};

impl Format {
    /// As the file `format` of the event says it.
    fn text(&self) -> String {
        let mut text = format!("name: {}\nID: {}\nformat:\n", self.name, self.number);
        let mut offset = 0;
        for (index, (kind, name, size, signed)) in COMMON.iter().chain(self.fields).enumerate() {
            let signed = u8::from(*signed);
            text += &format!("\tfield:{kind} {name};\toffset:{offset};\tsize:{size};\tsigned:{signed};\n");
            if index + 1 == COMMON.len() {
                text.push('\n');
            }
            offset += size;
        }
        text + &format!("\nprint fmt: {}\n", self.print)
    }

    /// An event's data: what is common, then the fields' values.
    fn data(&self, task: u32, values: &[&[u8]]) -> Vec<u8> {
        let mut data = self.number.to_le_bytes().to_vec();
        data.extend([0, 0]);
        data.extend(task.to_le_bytes());
        values.iter().for_each(|value| data.extend(*value));
        data
    }
}

/// Writes the file.
pub(crate) fn write(trace: &Trace, out: &mut impl Write) -> Result<()> {
    let with_values = trace.events.iter().any(|event| matches!(event.kind, EventKind::Exit { retval: Some(_), .. }));
    let exit = if with_values { &EXIT_WITH_VALUE } else { &EXIT };
    let mut head = head(trace, &[&FUNCTION, &MARKER, exit, &ENTRY]);

    // Every CPU up to the last has a place, recorded or not.
    let highest = trace.cpus.iter().map(|cpu| cpu.id).max().unwrap_or(0);
    ensure!(highest <= MAX_CPU, "CPU {highest} is beyond the {MAX_CPU} that a trace.dat is written for");
    let buffers: Vec<Vec<u8>> = (0..=highest).map(|cpu| pages(trace, cpu, exit)).collect();
    head.extend((highest + 1).to_le_bytes());
    head.extend(b"flyrecord\0");
    let table_size = buffers.len() * 16;
    let mut offset = (head.len() + table_size).next_multiple_of(PAGE_SIZE);
    let padding = offset - head.len() - table_size;
    for buffer in &buffers {
        head.extend((offset as u64).to_le_bytes());
        head.extend((buffer.len() as u64).to_le_bytes());
        offset += buffer.len();
    }
    head.resize(head.len() + padding, 0);
    out.write_all(&head)?;
    for buffer in &buffers {
        out.write_all(buffer)?;
    }
    Ok(())
}

/// All that stands before the number of CPUs.
fn head(trace: &Trace, formats: &[&Format]) -> Vec<u8> {
    let mut head = MAGIC.to_vec();
    head.extend([LITTLE_ENDIAN, LONG_SIZE]);
    head.extend((PAGE_SIZE as u32).to_le_bytes());
    for (name, text) in [("header_page", HEADER_PAGE), ("header_event", HEADER_EVENT)] {
        head.extend(name.as_bytes());
        head.push(0);
        head.extend(with_long_length(text));
    }
    head.extend((formats.len() as u32).to_le_bytes());
    formats.iter().for_each(|format| head.extend(with_long_length(&format.text())));
    let other_systems = 0_u32;
    head.extend(other_systems.to_le_bytes());
    // Readers take a name to its first space.
    let word = |name: &str| in_one_line(name).replace(' ', "_");
    // They take a function to last until the next one begins.
    let line = |(addr, symbol): (u64, Option<&Symbol>)| {
        format!("{addr:016x} T {}\n", symbol.map_or(NO_FUNCTION.to_owned(), |symbol| word(&symbol.name)))
    };
    let symbols: String = trace.symbols_and_gaps().into_iter().map(line).collect();
    head.extend((symbols.len() as u32).to_le_bytes());
    head.extend(symbols.as_bytes());
    let printk_formats = 0_u32;
    head.extend(printk_formats.to_le_bytes());
    let tasks: String = trace.named_tasks().map(|task| format!("{} {}\n", task.id, word(&task.name))).collect();
    head.extend(with_long_length(&tasks));
    head
}

fn with_long_length(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes()[..], text.as_bytes()].concat()
}

/// A CPU's ring buffer.
fn pages(trace: &Trace, cpu: u32, exit: &Format) -> Vec<u8> {
    let lost = trace.cpus.iter().find(|known| known.id == cpu);
    let Cpu { overwritten, refused, .. } = lost.copied().unwrap_or(Cpu { id: cpu, overwritten: 0, refused: 0 });
    let mut pages = Pages { whole: Vec::new(), page: Vec::new(), time_ns: 0, lost: overwritten };
    let mut events = trace.events.iter().filter(|event| event.cpu == cpu).peekable();
    // Readers tell of lost events when they come to the event behind. Where there is none, one is made that says it too.
    let mut behind = refused;
    if events.peek().is_none() {
        (pages.lost, behind) = (0, refused.saturating_add(overwritten));
        pages.time_ns = trace.end_time_ns();
    }
    for event in events {
        pages.add(event.time_ns, &event_data(event, exit));
    }
    pages.end_page();
    if behind > 0 {
        pages.lost = behind;
        let kind = EventKind::Marker { text: format!("CPU {cpu} lost {behind} events here") };
        let told = Event { time_ns: pages.time_ns, cpu, task: NO_TASK, kind };
        pages.add(told.time_ns, &event_data(&told, exit));
        pages.end_page();
    }
    pages.whole
}

fn event_data(event: &Event, exit: &Format) -> Vec<u8> {
    match &event.kind {
        EventKind::Function { ip, parent, .. } => {
            FUNCTION.data(event.task, &[&ip.to_le_bytes(), &parent.to_le_bytes()])
        }
        EventKind::Entry { ip, depth, .. } => ENTRY.data(event.task, &[&ip.to_le_bytes(), &depth.to_le_bytes()]),
        EventKind::Exit { ip, depth, entry_time_ns, retval } => {
            let value = retval.unwrap_or(0).to_le_bytes();
            let overrun = 0_u32.to_le_bytes();
            let (depth, called, returned) =
                (depth.to_le_bytes(), entry_time_ns.to_le_bytes(), event.time_ns.to_le_bytes());
            let all: [&[u8]; 6] = [&ip.to_le_bytes(), &value, &depth, &overrun, &called, &returned];
            let with_value = exit.fields.len() == all.len();
            let fields = all.iter().enumerate().filter(|(index, _)| with_value || *index != 1);
            exit.data(event.task, &fields.map(|(_, field)| *field).collect::<Vec<_>>())
        }
        EventKind::Marker { text } => {
            let text = in_one_line(text);
            let shown = &text[..text.floor_char_boundary(MAX_TEXT)];
            let nowhere = 0_u64.to_le_bytes();
            MARKER.data(event.task, &[&nowhere, shown.as_bytes(), b"\n\0"])
        }
    }
}

/// A ring buffer's pages while events are added.
struct Pages {
    whole: Vec<u8>,
    /// The events on the page that is being filled, behind its header; empty before the first.
    page: Vec<u8>,
    /// When the event before was.
    time_ns: u64,
    /// Lost events to tell of on the first page.
    lost: u64,
}

impl Pages {
    fn add(&mut self, time_ns: u64, data: &[u8]) {
        let words = data.len().div_ceil(4);
        let length = if words <= MAX_WORDS { 4 + words * 4 } else { 8 + words * 4 };
        let delta = time_ns.saturating_sub(self.time_ns);
        let extend = if delta >> TIME_BITS == 0 { 0 } else { 8 };
        let room_for_lost = if self.lost > 0 { 8 } else { 0 };
        if self.page.len() + extend + length + room_for_lost > PAGE_SIZE {
            self.end_page();
        }
        let mut delta = delta;
        if self.page.is_empty() {
            self.page.extend(time_ns.to_le_bytes());
            self.page.extend([0; PAGE_HEADER - 8]);
            delta = 0;
        }
        if delta >> TIME_BITS != 0 {
            self.put_word(TIME_EXTEND | low_bits(delta));
            self.put_word((delta >> TIME_BITS) as u32);
            delta = 0;
        }
        if words <= MAX_WORDS {
            self.put_word(words as u32 | low_bits(delta));
        } else {
            self.put_word(low_bits(delta));
            // The length counts itself.
            self.put_word((words * 4 + 4) as u32);
        }
        self.page.extend(data);
        self.page.resize(self.page.len().next_multiple_of(4), 0);
        self.time_ns = time_ns;
    }

    fn put_word(&mut self, word: u32) {
        self.page.extend(word.to_le_bytes());
    }

    fn end_page(&mut self) {
        if self.page.is_empty() {
            return;
        }
        let mut length = (self.page.len() - PAGE_HEADER) as u64;
        let lost = std::mem::take(&mut self.lost);
        if lost > 0 {
            length |= MISSED_EVENTS | MISSED_STORED;
            self.page.extend(lost.to_le_bytes());
        }
        self.page[8..PAGE_HEADER].copy_from_slice(&length.to_le_bytes());
        self.page.resize(PAGE_SIZE, 0);
        self.whole.append(&mut self.page);
    }
}

/// The time in an event's first word.
fn low_bits(delta: u64) -> u32 {
    ((delta & ((1 << TIME_BITS) - 1)) as u32) << TYPE_BITS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::formats::tests::{expect_golden, hex};
    use crate::trace::tests::fixture;

    #[test]
    fn files_are_as_expected() {
        for (name, trace) in [("graph", fixture::graph()), ("functions", fixture::functions())] {
            let mut out = Vec::new();
            write(&trace, &mut out).unwrap();
            expect_golden(&format!("{name}.trace.dat.hex"), hex(&out).as_bytes());
        }
    }

    #[test]
    fn markers_are_cut_at_a_character() {
        let text = "x".repeat(MAX_TEXT - 1) + "\u{20ac}\u{20ac}";
        let data = event_data(&fixture::marker(0, &text), &EXIT);
        assert_eq!(data.len(), 16 + MAX_TEXT - 1 + 2);
        assert!(data.ends_with(b"x\n\0"));
    }

    #[test]
    fn a_cpu_that_was_not_recorded_has_an_empty_buffer() {
        let mut trace = fixture::of_events(Vec::new());
        trace.cpus = vec![Cpu { id: 3, overwritten: 0, refused: 0 }];
        let mut out = Vec::new();
        write(&trace, &mut out).unwrap();
        let (_, table) = out.split_at(out.windows(9).position(|bytes| bytes == b"flyrecord").unwrap() + 10);
        let sizes: Vec<&[u8]> = table[..64].chunks(16).map(|entry| &entry[8..]).collect();
        assert_eq!(sizes, [[0; 8]; 4]);
        trace.cpus[0].id = u32::MAX;
        assert!(write(&trace, &mut Vec::new()).is_err());
    }
}
