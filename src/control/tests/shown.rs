//! How what was recorded is shown.

use super::*;

#[test]
fn calls_are_shown_in_the_order_of_their_times_and_stay_until_they_are_taken_out() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    let name = |number: u64| FUNCTIONS[number as usize];
    let base = |number: u64| at(number);
    writer(&fixture, 1, 2, 5_000_001_499).function(base(1), base(0).offset(4), &[]);
    writer(&fixture, 0, 1, 5_000_000_000).function(base(0), TextAddr::new(0x404), &[7, 0x10]);
    writer(&fixture, 0, 99, 5_000_003_000).marker("one\ntwo");
    let head = "\
# tracer: function
#
# entries-in-buffer/entries-written: 3/3   #P:2
#
#           TASK-PID     CPU#  flags  TIMESTAMP  FUNCTION
#              | |         |     |       |         |
";
    let events = format!(
        "            main-1       [000] .....     5.000000: {}(0x7, 0x10) <-0x400
     disk reader-2       [001] .....     5.000001: {} <-{}
           <...>-99      [000] .....     5.000003: tracing_mark_write: one two
",
        name(0),
        name(1),
        name(0),
    );
    for _ in 0..2 {
        assert_eq!(fixture.run("cat trace"), format!("{head}{events}"));
    }
    assert_eq!(fixture.run("cat trace_pipe"), events);
    assert_eq!(fixture.run("cat trace_pipe"), "");
    assert_eq!(fixture.run("cat trace"), head.replace("3/3", "0/0"));
    writer(&fixture, 1, 2, 6_000_000_000).marker("gone");
    fixture.run("echo >> trace");
    assert!(fixture.run("cat trace").contains("gone"));
    fixture.run("echo > trace");
    assert_eq!(fixture.run("cat trace"), head.replace("3/3", "0/0"));
}

#[test]
fn calls_are_shown_inside_each_other() {
    let mut fixture = fixture!();
    fixture.run("echo function_graph > current_tracer");
    let call = |cpu, task, time, number| {
        writer(&fixture, cpu, task, time).graph_entry(at(number), at(5), u16::from(number != 1));
    };
    let exit = |cpu, task, time, number, entry| {
        writer(&fixture, cpu, task, time).graph_exit(at(number), entry, u16::from(number != 1), 0);
    };
    call(0, 1, 1_000, 1);
    call(0, 1, 1_100, 2);
    call(1, 2, 1_150, 1);
    exit(0, 1, 1_916, 2, 1_100);
    exit(0, 1, 14_000, 1, 1_000);
    call(0, 2, 15_000, 3);
    let graph = "\
# tracer: function_graph
#
# CPU  DURATION                  FUNCTION CALLS
# |     |   |                     |   |   |   |
 0)               |  disk::read() {
 0)   0.816 us    |    disk::seek();
 1)               |  disk::read() {
 0) + 13.000 us   |  } /* disk::read */
 ------------------------------------------
 0)     main-1     =>   disk re-2   
 ------------------------------------------

 0)               |    net::send() {
";
    assert_eq!(fixture.run("cat trace"), graph);
    assert_eq!(
        fixture.run("cat trace_pipe"),
        graph.lines().skip(4).map(|line| format!("{line}\n")).collect::<String>()
    );
    // What another tracer has recorded goes with it.
    writer(&fixture, 0, 1, 20_000).marker("old");
    fixture.run("echo function > current_tracer");
    assert!(!fixture.run("cat trace").contains("old"));
}

#[test]
fn nothing_is_recorded_while_tracing_is_off() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    let function = fixture.function;
    let call = || {
        let mut regs = FakeRegs::new(&PtRegs { regs: [0; 31], sp: 0, pc: at(1).get(), pstate: 0 });
        (function.callback)(at(1), at(2), function, regs.view());
    };
    call();
    assert_eq!(fixture.run("cat trace").matches("disk::read <-disk::seek").count(), 1);
    assert!((fixture.is_on)());
    fixture.run("echo 0 > tracing_on");
    assert!(!(fixture.is_on)());
    call();
    assert_eq!(fixture.refused("echo hello > trace_marker").0.reason, Reason::TracingIsOff);
    assert_eq!(fixture.run("cat trace").lines().count(), 7);
    fixture.run("echo 1 > tracing_on");
    call();
    fixture.run("echo 'hello; world' > trace_marker");
    assert_eq!(fixture.run("cat trace").lines().count(), 9);
    assert_eq!(fixture.run("cat buffer_size_kb"), "8\n");
    // Whoever asks for what is there has it.
    fixture.run("echo 8 > buffer_size_kb");
    fixture.run("echo 8 > per_cpu/cpu1/buffer_size_kb");
    for line in ["echo 16 > buffer_size_kb", "echo 4 > per_cpu/cpu1/buffer_size_kb", "echo all > buffer_size_kb"] {
        assert_eq!(fixture.refused(line).0, Refusal { at: 5, reason: Reason::SizeIsFixed { kib: 8 } }, "{line}");
    }
    assert_eq!(fixture.run("cat buffer_total_size_kb"), "16\n");
}

#[test]
fn a_profile_is_the_longest_first() {
    let mut fixture = fixture!();
    fixture.run("echo disk::* > set_ftrace_filter");
    fixture.run("echo 1 > function_profile_enabled");
    assert_eq!(fixture.enabled(), FUNCTIONS[..3]);
    fixture.run("echo disk::re* > set_ftrace_filter");
    assert_eq!(fixture.enabled(), FUNCTIONS[1..2], "the filter is the profiler's too");
    for (number, nanos) in [(0, 1_000), (1, 2_000_500), (0, 3_000), (2, 2_000_500)] {
        fixture.profile.add(at(number), nanos, 0);
    }
    let expected = [
        "  Function                               Hit    Time            Avg             Max",
        "  --------                               ---    ----            ---             ---",
        "  disk::seek                               1    2000.500 us     2000.500 us     2000.500 us",
        "  disk::read                               1    2000.500 us     2000.500 us     2000.500 us",
        "  disk::poll                               2    4.000 us        2.000 us        3.000 us",
    ];
    assert_eq!(fixture.run("cat trace_stat/function").lines().collect::<Vec<_>>(), expected);
    fixture.run("echo 0 > function_profile_enabled");
    assert_eq!(fixture.enabled(), [""; 0]);
    fixture.run("echo 1 > function_profile_enabled");
    assert_eq!(fixture.run("cat trace_stat/function").lines().count(), 2, "from zero");
}

#[test]
fn a_reader_goes_on_as_long_as_it_is_told_to() {
    static ASKED: AtomicUsize = AtomicUsize::new(0);
    let mut fixture = fixture!();
    fixture.control = fixture.control.while_it_goes_on(|| ASKED.fetch_add(1, Ordering::Relaxed) < 10);
    writer(&fixture, 0, 1, 1).marker("one");
    writer(&fixture, 0, 1, 2).marker("two");
    assert_eq!(fixture.run("cat trace_pipe").lines().count(), 2);
    assert_eq!(ASKED.load(Ordering::Relaxed), 11);
}
