//! Who and where: graphs, commands at functions, tasks, CPUs, options, snapshots.

use super::*;
use crate::control::{MAX_CLOSED, MAX_COMMANDS, MAX_PIDS};
use crate::tracer::dump::{Dump, LAST_LINE, LINE_PREFIX};

impl Fixture {
    /// The functions of this name are called, with all that their callsites call.
    fn call(&self, name: &str) {
        let mut called = Vec::new();
        self.engine.for_each_callsite(|status| {
            if status.name == Some(name) {
                let number = FUNCTIONS.iter().position(|own| *own == name).unwrap();
                called.extend(status.ops().map(|ops| (number as u64, core::ptr::from_ref(ops))));
            }
        });
        for (number, ops) in called {
            // SAFETY: ops that are registered live for ever.
            call(number, unsafe { &*ops });
        }
    }

    /// The functions in what was recorded, in their order.
    fn taken(&mut self) -> Vec<String> {
        let taken = self.run("cat trace_pipe");
        let name =
            |line: &str| line.split(": ").nth(1).unwrap_or(line).split(" <-").next().unwrap_or_default().to_string();
        taken.lines().map(name).collect()
    }
}

#[test]
fn a_graph_is_below_the_functions_of_its_file_and_the_filter_is_for_the_rest() {
    let mut fixture = fixture!();
    assert_eq!(fixture.run("cat set_graph_function"), "#### all functions enabled ####\n");
    assert_eq!(fixture.run("cat set_graph_notrace"), "#### no functions disabled ####\n");
    fixture.run("echo disk::* > set_ftrace_filter");
    fixture.run("echo net::* > set_graph_function");
    fixture.run("echo function_graph > current_tracer");
    let [poll, read, seek, send, ..] = FUNCTIONS;
    assert_eq!(fixture.enabled(), [poll, read, seek, send]);
    assert_eq!(fixture.run("cat set_graph_function"), "net::send\n");
    fixture.run("echo disk::poll > set_graph_notrace");
    assert_eq!(fixture.run("cat set_graph_notrace"), "disk::poll\n");
    fixture.run("echo disk::read >> set_graph_function");
    fixture.run("echo !net::* >> set_graph_function");
    assert_eq!(fixture.enabled(), [poll, read, seek]);
    fixture.run("echo > set_graph_notrace");
    // The profiler has the filter alone, and another tracer too.
    fixture.run("echo 1 > function_profile_enabled");
    fixture.run("echo net::send > set_graph_function");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.enabled(), [poll, read, seek]);
    fixture.run("echo 0 > function_profile_enabled");
    fixture.run("echo function_graph > current_tracer");
    let before = fixture.all();
    for fault in [Fault::Batch, Fault::Cpu(0), Fault::Alias(0)] {
        fixture.kernel.set_fault(Some(fault));
        let (refusal, _) = fixture.refused("echo disk::seek > set_graph_function");
        fixture.kernel.repair();
        assert!(matches!(refusal.reason, Reason::Register(_)), "{fault:?}: {refusal}");
        assert_eq!(fixture.all(), before, "{fault:?}");
    }
    let many = (0..9).map(|number| format!("{}send", "*".repeat(number + 1))).collect::<Vec<_>>().join(" ");
    assert_eq!(fixture.refused(format!("echo {many} > set_graph_function")).0.reason, Reason::TooManyUnder);
    assert_eq!(fixture.all(), before);
    fixture.run("echo nop > current_tracer");
    assert_eq!(fixture.engine.statistics().ops, 0);
}

#[test]
fn commands_at_functions_start_and_stop_recording_as_often_as_they_are_asked_to() {
    let mut fixture = fixture!();
    fixture.run("echo disk::* > set_ftrace_filter");
    fixture.run("echo function > current_tracer");
    fixture.run("echo net::send:traceoff:2 disk::read:traceon > set_ftrace_filter");
    // The rules are those of before.
    let listed = "disk::poll\ndisk::read\ndisk::seek\nnet::send:traceoff:count=2\ndisk::read:traceon:unlimited\n";
    assert_eq!(fixture.run("cat set_ftrace_filter"), listed);
    for _ in 0..3 {
        for name in ["disk::seek", "net::send", "disk::poll", "net::send", "disk::read", "disk::poll"] {
            fixture.call(name);
        }
    }
    // Nothing between the two, twice: what is off already is not counted. Then there is nothing left of the count.
    let twice = ["disk::seek", "disk::read", "disk::poll"];
    let once = ["disk::seek", "disk::poll", "disk::read", "disk::poll"];
    let seen = fixture.taken();
    let without_read =
        |names: &[String]| names.iter().filter(|name| *name != "disk::read").cloned().collect::<Vec<_>>();
    let expected: Vec<String> = [&twice[..], &twice, &once].concat().into_iter().map(String::from).collect();
    // Which of two ops at one function is called first is of no matter here.
    assert_eq!(without_read(&seen), without_read(&expected));
    assert!(fixture.run("cat set_ftrace_filter").contains("net::send:traceoff:count=0\n"));
    // The same command again has its count anew.
    fixture.run("echo net::send:traceoff:1 >> set_ftrace_filter");
    fixture.call("net::send");
    assert_eq!(fixture.run("cat tracing_on"), "0\n");
    fixture.run("echo '!net::send:traceoff:0' >> set_ftrace_filter");
    fixture.run("echo !disk::read:traceon > set_ftrace_filter");
    assert_eq!(fixture.run("cat set_ftrace_filter"), "disk::poll\ndisk::read\ndisk::seek\n");
    assert_eq!(fixture.engine.statistics().ops, 1);
}

#[test]
fn a_line_with_rules_and_commands_is_carried_out_as_a_whole_or_not_at_all() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    fixture.run("echo disk::poll disk::read:traceoff > set_ftrace_filter");
    assert_eq!(fixture.enabled(), FUNCTIONS[..2]);
    let before = fixture.all();
    for line in [
        "echo net::send:dump nosuch > set_ftrace_filter",
        "echo net::send:dump !disk::read:dump > set_ftrace_filter",
        "echo net::send nosuch:dump > set_ftrace_filter",
    ] {
        fixture.refused(line);
        assert_eq!(fixture.all(), before, "{line}");
    }
    for fault in [Fault::Batch, Fault::Cpu(0), Fault::Alias(0), Fault::Write(1)] {
        fixture.kernel.set_fault(Some(fault));
        fixture.refused("echo net::send disk::seek:dump !disk::read:traceoff > set_ftrace_filter");
        fixture.kernel.repair();
        assert_eq!(fixture.all(), before, "{fault:?}");
    }
    let rules = (0..MAX_COMMANDS).map(|number| format!("{}seek:dump", "*".repeat(number + 1)));
    let line = format!("echo {} >> set_ftrace_filter", rules.collect::<Vec<_>>().join(" "));
    assert_eq!(fixture.refused(line).0.reason, Reason::TooManyCommands);
    assert_eq!(fixture.all(), before);
    let name = "<[u8; 4] as Debug>::fmt";
    fixture.run(&format!("echo '\"{name}\":stacktrace:5' >> set_ftrace_filter"));
    assert!(fixture.run("cat set_ftrace_filter").ends_with(&format!("\"{name}\":stacktrace:count=5\n")));
    fixture.run("echo '*:mod:nosuch:traceoff' >> set_ftrace_filter");
}

#[test]
fn a_command_records_the_callers_takes_a_snapshot_or_has_all_be_written() {
    let mut fixture = fixture!();
    fixture.run("echo net::send:stacktrace:1 disk::read:snapshot:1 disk::seek:dump > set_ftrace_filter");
    (0..2).for_each(|_| fixture.call("net::send"));
    let stack = fixture.run("cat trace");
    assert_eq!(stack.matches("<stack trace>\n => net::send\n => <[u8] as Debug>::fmt\n").count(), 1, "{stack}");
    assert!(fixture.run("cat snapshot").starts_with("# There is no snapshot"));
    fixture.call("disk::read");
    assert!(fixture.run("cat snapshot").contains("net::send"));
    assert!(!fixture.run("cat trace").contains("net::send"));
    fixture.run("echo later > trace_marker");
    fixture.call("disk::read");
    assert!(fixture.run("cat trace").contains("later"), "the count is used up");
    let mut out = String::new();
    assert_eq!((fixture.control.attend(&mut out), out.as_str()), (Ok(()), ""));
    fixture.call("disk::seek");
    // Until it is written nothing is recorded.
    let function = fixture.function;
    call(1, function);
    fixture.control.attend(&mut out).unwrap();
    assert!(out.contains("later") && !out.contains("disk::read"), "{out}");
    call(1, function);
    assert!(fixture.run("cat trace").contains("disk::read"));
    out.clear();
    fixture.call("disk::seek");
    assert_eq!((fixture.control.attend(&mut out), out.as_str()), (Ok(()), ""), "once");
}

#[test]
fn until_what_a_command_asked_for_is_written_nothing_comes_and_nothing_goes() {
    let mut fixture = fixture!();
    fixture.run("echo before > trace_marker");
    fixture.run("echo disk::read:snapshot:1 disk::seek:dump > set_ftrace_filter");
    fixture.call("disk::seek");
    fixture.call("disk::read");
    assert_eq!(fixture.refused("echo late > trace_marker").0.reason, Reason::RecordingIsHeld);
    let mut out = String::new();
    fixture.control.attend(&mut out).unwrap();
    assert!(out.contains("before"), "{out}");
    fixture.run("echo after > trace_marker");
    // The snapshot was not taken, nor counted.
    assert!(fixture.run("cat set_ftrace_filter").contains("disk::read:snapshot:count=1\n"));
    fixture.call("disk::read");
    assert!(fixture.run("cat snapshot").contains("after"));
}

#[test]
fn a_mark_is_recorded_where_a_call_would_be() {
    let mut fixture = fixture!();
    // Another task's too, as on Linux.
    fixture.run("echo 2 > set_ftrace_pid");
    fixture.run("echo one > trace_marker");
    fixture.run("echo 2 > tracing_cpumask");
    assert_eq!(fixture.refused("echo two > trace_marker").0.reason, Reason::CpuIsLeftOut);
    fixture.run("echo 3 > tracing_cpumask");
    fixture.run("echo three > trace_marker");
    assert_eq!(fixture.taken(), ["tracing_mark_write"; 2]);
}

#[test]
fn what_a_ring_has_of_an_earlier_turn_is_neither_shown_nor_counted_nor_dumped() {
    let mut fixture = fixture!();
    let switches = fixture.parts.switches;
    writer(&fixture, 0, 1, 5).marker("first");
    // As a command does it, which can't empty the rings that are written to now.
    switches.swap_at(10);
    switches.swap_at(20);
    writer(&fixture, 0, 1, 25).marker("third");
    let shown = fixture.run("cat trace");
    assert!(shown.contains("\n# entries-in-buffer/entries-written: 1/1   #P:2\n"), "{shown}");
    assert!(!shown.contains("first") && shown.contains("third"), "{shown}");
    assert!(fixture.run("cat per_cpu/cpu0/stats").starts_with("entries: 1\n"));
    let lines = fixture.run("cat trace_dump");
    let bytes = lines.lines().filter_map(|line| line.strip_prefix(LINE_PREFIX)).filter(|line| *line != LAST_LINE);
    let byte = |digits: &[u8]| u8::from_str_radix(core::str::from_utf8(digits).unwrap(), 16).unwrap();
    let bytes: Vec<u8> = bytes.flat_map(|line| line.as_bytes().chunks(2).map(byte)).collect();
    let dump = Dump::parse(&bytes).unwrap();
    let texts: Vec<String> = dump.events().map(|event| format!("{:?}", event.recorded.event)).collect();
    assert_eq!((texts.len(), dump.counts(0).unwrap().kept), (1, 1), "{texts:?}");
    assert!(texts[0].contains("third"), "{texts:?}");
}

#[test]
fn no_more_cpus_are_left_out_than_there_is_room_for() {
    const CPUS: usize = MAX_CLOSED + 2;
    let rings: [&'static Ring; CPUS] = core::array::from_fn(|_| {
        let memory: &'static [RingBlock; 2] = Box::leak(Box::new([RingBlock::new(), RingBlock::new()]));
        &*Box::leak(Box::new(Ring::new(memory, Mode::Overwrite)))
    });
    let fixture = fixture!();
    let mut control = Control::new(fixture.engine, fixture.parts, rings, || 1_000_000_000);
    let mut write = |mask: &str| control.execute(format!("echo {mask} > tracing_cpumask"), &mut String::new());
    assert_eq!(write("1").unwrap_err().reason, Reason::TooManyLeftOut);
    assert_eq!(write("3"), Ok(()));
    let closed = rings.iter().filter(|ring| !fixture.parts.switches.is_open(ring)).count();
    assert_eq!(closed, MAX_CLOSED);
}

#[test]
fn tasks_and_cpus_are_chosen() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    let function = fixture.function;
    let recorded = |fixture: &mut Fixture, line: &str| {
        fixture.run(line);
        call(1, function);
        fixture.taken().len()
    };
    assert_eq!(fixture.run("cat set_ftrace_pid"), "no pid\n");
    assert_eq!(fixture.run("cat tracing_cpumask"), "3\n");
    for (line, count) in [
        ("echo 2 > set_ftrace_pid", 0),
        ("echo 1 3 >> set_ftrace_pid", 1),
        ("echo 1 > set_ftrace_notrace_pid", 0),
        ("echo > set_ftrace_notrace_pid", 1),
        ("echo 3 > set_ftrace_pid", 0),
        ("echo > set_ftrace_pid", 1),
        ("echo 2 > tracing_cpumask", 0),
        ("echo ffff,ffffff01 > tracing_cpumask", 1),
        ("echo 0x3 > tracing_cpumask", 1),
    ] {
        assert_eq!(recorded(&mut fixture, line), count, "{line}");
    }
    fixture.run("echo 2 > tracing_cpumask");
    assert_eq!(fixture.run("cat tracing_cpumask"), "2\n");
    fixture.run("echo 12 7 12 > set_ftrace_pid");
    assert_eq!(fixture.run("cat set_ftrace_pid"), "12\n7\n");
    let many = (1..MAX_PIDS + 2).map(|pid| pid.to_string()).collect::<Vec<_>>().join(" ");
    assert_eq!(fixture.refused(format!("echo {many} > set_ftrace_pid")).0.reason, Reason::TooManyPids);
}

#[test]
fn options_change_how_events_are_shown() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    writer(&fixture, 0, 1, 5_000).function(at(1), at(0).offset(4), &[]);
    for (line, expected) in [
        ("echo print-parent > trace_options", "disk::read <-disk::poll"),
        ("echo noprint-parent > trace_options", "disk::read"),
        ("echo 1 > options/sym-offset", "disk::read+0x4/0xc"),
        ("echo sym-addr > trace_options", "disk::read+0x4/0xc <ffff800080000014>"),
        ("echo nosym-offset > trace_options", "disk::read <ffff800080000014>"),
    ] {
        fixture.run(line);
        let shown = fixture.run("cat trace");
        assert_eq!(shown.lines().last().unwrap().split(": ").nth(1), Some(expected), "{line}");
    }
    assert_eq!(fixture.run("cat options/sym-addr"), "1\n");
    let listed = fixture.run("cat trace_options");
    assert!(listed.contains("\nnosym-offset\n") || listed.ends_with("\nnosym-offset\n"), "{listed}");
    // With its callers, each call.
    fixture.run("echo func_stack_trace > trace_options");
    let function = fixture.function;
    call(1, function);
    assert!(fixture.run("cat trace").contains("<stack trace>\n => disk::read"));
    fixture.run("echo 0 > options/func_stack_trace");
    call(1, function);
    assert_eq!(fixture.run("cat trace").matches("<stack trace>").count(), 1);
}

#[test]
fn options_change_the_columns_of_a_graph() {
    let mut fixture = fixture!();
    fixture.run("echo function_graph > current_tracer");
    writer(&fixture, 0, 1, 1_000_000).graph_entry(at(1), at(5), 0);
    writer(&fixture, 0, 1, 1_001_000).graph_entry(at(2), at(5), 1);
    writer(&fixture, 0, 1, 1_014_000).graph_exit(at(2), 1_001_000, 1, 7);
    writer(&fixture, 0, 1, 1_020_000).graph_exit(at(1), 1_000_000, 0, 0);
    for (lines, expected) in [
        (
            &[][..],
            [
                " 0)               |  disk::read() {",
                " 0) + 13.000 us   |    disk::seek();",
                " 0) + 20.000 us   |  } /* disk::read */",
            ],
        ),
        (
            &["nofuncgraph-overhead", "funcgraph-retval"],
            [
                " 0)               |  disk::read() {",
                " 0)   13.000 us   |    disk::seek(); /* = 0x7 */",
                " 0)   20.000 us   |  } /* disk::read = 0x0 */",
            ],
        ),
        (
            &["nofuncgraph-cpu", "nofuncgraph-tail", "nofuncgraph-retval", "funcgraph-abstime"],
            [
                "    0.001000 |                |  disk::read() {",
                "    0.001001 |    13.000 us   |    disk::seek();",
                "    0.001020 |    20.000 us   |  }",
            ],
        ),
        (
            &["nofuncgraph-abstime", "nofuncgraph-duration", "funcgraph-proc"],
            ["    main-1     | |  disk::read() {", "    main-1     | |    disk::seek();", "    main-1     | |  }"],
        ),
    ] {
        lines.iter().for_each(|option| drop(fixture.run(&format!("echo {option} > trace_options"))));
        let shown = fixture.run("cat trace");
        assert_eq!(shown.lines().skip(4).collect::<Vec<_>>(), expected, "{lines:?}");
    }
}

#[test]
fn each_cpu_has_its_files_and_a_snapshot_its_turn() {
    let mut fixture = fixture!();
    let at_time = |fixture: &Fixture, cpu, text: &str| -> bool { writer(fixture, cpu, 1, 9).marker(text) };
    at_time(&fixture, 0, "zero");
    at_time(&fixture, 1, "one");
    let of = |fixture: &mut Fixture, file: &str| {
        let text = fixture.run(&format!("cat {file}"));
        ["zero", "one"].map(|word| text.contains(word))
    };
    assert_eq!(of(&mut fixture, "per_cpu/cpu0/trace"), [true, false]);
    assert_eq!(of(&mut fixture, "per_cpu/cpu1/trace"), [false, true]);
    assert_eq!(fixture.run("cat per_cpu/cpu1/stats"), "entries: 1\noverrun: 0\ndropped events: 0\nread events: 0\n");
    assert_eq!(fixture.run("cat per_cpu/cpu1/buffer_size_kb"), "8\n");
    assert_eq!(fixture.run("help per_cpu/cpu1/stats").split(": ").next(), Some("per_cpu/cpu1/stats"));
    fixture.run("echo 1 > snapshot");
    assert_eq!(of(&mut fixture, "snapshot"), [true, true]);
    assert_eq!(of(&mut fixture, "per_cpu/cpu0/snapshot"), [true, false]);
    assert_eq!(of(&mut fixture, "trace"), [false, false]);
    fixture.run("echo new > trace_marker");
    assert!(fixture.run("cat trace").contains("new") && !fixture.run("cat snapshot").contains("new"));
    fixture.run("echo 2 > snapshot");
    assert!(fixture.run("cat snapshot").starts_with("# There is no snapshot"));
    fixture.run("echo 1 > snapshot");
    assert!(fixture.run("cat snapshot").contains("new") && !fixture.run("cat trace").contains("new"));
    assert_eq!(of(&mut fixture, "trace"), [false, false], "forgotten is forgotten");
    fixture.run("echo > per_cpu/cpu1/trace");
    at_time(&fixture, 1, "one");
    assert_eq!(fixture.run("cat per_cpu/cpu1/trace_pipe").lines().count(), 1);
    assert_eq!(of(&mut fixture, "trace"), [false, false]);
}

#[test]
fn a_command_line_asks_for_what_lines_ask_for() {
    let mut fixture = fixture!();
    let mut out = String::new();
    let line = "root=sda ftrace=function ftrace_filter=disk::*,<[u8; 4] as Debug>::fmt ftrace_filter=!disk::seek \
                ftrace_graph_filter=net::send ftrace_graph_max_depth=3 trace_options=sym-offset,noprint-parent quiet";
    let words = crate::tracer::session::words(line);
    assert_eq!(fixture.control.boot(words.collect::<Vec<_>>().iter().copied(), &mut out), Ok(()), "{out}");
    assert_eq!(out, "");
    let [poll, read, _, _, array, _] = FUNCTIONS;
    assert_eq!(fixture.enabled(), [poll, read, array]);
    for (file, expected) in [
        ("current_tracer", "function"),
        ("set_graph_function", "net::send"),
        ("max_graph_depth", "3"),
        ("options/sym-offset", "1"),
        ("options/print-parent", "0"),
    ] {
        assert_eq!(fixture.run(&format!("cat {file}")), format!("{expected}\n"));
    }
    assert_eq!(fixture.control.boot(["trace_tracing_on=0"], &mut out), Ok(()));
    assert_eq!(fixture.run("cat tracing_on"), "0\n");
    // What is wrong is told, and the rest is carried out.
    let words = ["trace_buf_size=1M", "ftrace_notrace=nosuch", "ftrace=nosuch", "ftrace_graph_notrace=disk::poll"];
    assert!(fixture.control.boot(words, &mut out).is_err());
    for told in [
        "set_ftrace_notrace: 6: error: The rule selects no traceable function\n  Command: echo nosuch >> set_ftrace_notrace\n",
        "buffer_size_kb: 6: error: The ring has 8 KiB, which the kernel has given it\n",
        "current_tracer: 6: error: There is no such tracer",
    ] {
        assert!(out.contains(told), "{told}: {out}");
    }
    assert_eq!(fixture.run("cat set_graph_notrace"), "disk::poll\n");
    out.clear();
    let long = format!("ftrace_filter={}", "a".repeat(LINE_BYTES));
    assert_eq!(fixture.control.boot([long.as_str()], &mut out).unwrap_err().reason, Reason::TooLong);
}
