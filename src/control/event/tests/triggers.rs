//! Triggers, and the stacks that some show.

use super::*;

#[test]
fn a_trigger_switches_the_trace_as_often_as_it_says() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo p:off disk::seek >> kprobe_events");
    assert!(fixture.run("cat events/kprobes/off/trigger").starts_with("# Available triggers:\n"));
    fixture.run("echo traceoff:1 > events/kprobes/off/trigger");
    assert_eq!(fixture.run("cat events/kprobes/off/trigger"), "traceoff:count=1\n");
    let without_end = fixture.refused("echo traceoff:18446744073709551615 > events/kprobes/off/trigger").reason;
    assert_eq!(without_end, Reason::Event(EventReason::BadNumber));
    fixture.run("echo 'traceon if a == 5' > events/kprobes/e/trigger");
    assert_eq!(fixture.run("cat events/kprobes/e/trigger"), "traceon:unlimited if a == 5\n");
    fixture.run("echo 1 > events/kprobes/e/enable");
    let is_on = |fixture: &mut Fixture| fixture.run("cat tracing_on") == "1\n";
    fixture.call(0, [1, 0], 0);
    assert_eq!(fixture.recorded(), ["e: (disk::read+0x0/0xc) a=0x1"]);
    // An event need not be recorded for its trigger.
    fixture.call(1, [0, 0], 0);
    assert!(!is_on(&mut fixture));
    assert_eq!(fixture.run("cat events/kprobes/off/trigger"), "traceoff:count=0\n");
    fixture.call(0, [1, 0], 0);
    assert!(!is_on(&mut fixture));
    assert_eq!(fixture.recorded(), [""; 0]);
    // What turns it on is the first that is recorded.
    fixture.call(0, [5, 0], 0);
    assert!(is_on(&mut fixture));
    assert_eq!(fixture.recorded(), ["e: (disk::read+0x0/0xc) a=0x5"]);
    fixture.call(1, [0, 0], 0);
    assert!(is_on(&mut fixture), "it has acted as often as it may");
    // What is on already is not turned on: it counts as no time.
    fixture.run("echo traceon:3 > events/kprobes/off/trigger");
    fixture.call(1, [0, 0], 0);
    assert_eq!(fixture.run("cat events/kprobes/off/trigger"), "traceon:count=3\n");
    assert_eq!(fixture.refused("echo > kprobe_events").reason, Reason::Event(EventReason::EventInUse));
    fixture.run("echo !traceon >> events/kprobes/off/trigger");
    fixture.run("echo '!traceon if a == 6' >> events/kprobes/e/trigger");
    fixture.run("echo 0 > events/enable");
    assert_eq!(fixture.engine.statistics().ops, 0);
    fixture.run("echo > kprobe_events");
}

#[test]
fn a_trigger_switches_another_event() {
    let mut fixture = fixture!();
    fixture.run("echo p:target disk::read > kprobe_events");
    fixture.run("echo p:on disk::seek >> kprobe_events");
    fixture.run("echo r:off disk::seek >> kprobe_events");
    fixture.run("echo enable_event:kprobes:target:2 > events/kprobes/on/trigger");
    assert_eq!(fixture.run("cat events/kprobes/on/trigger"), "enable_event:kprobes:target:count=2\n");
    fixture.run("echo disable_event:kprobes:target > events/kprobes/off/trigger");
    assert_eq!(fixture.run("cat events/kprobes/target/enable"), "0*\n");
    for (seeks, recorded) in [(false, 0), (true, 0), (true, 0), (true, 0)] {
        if seeks {
            fixture.call(1, [0; 2], 0);
        }
        fixture.call(0, [0; 2], 0);
        assert_eq!(fixture.recorded().len(), recorded);
    }
    fixture.run("echo > events/kprobes/off/trigger");
    fixture.run("echo enable_event:kprobes:target:1 > events/kprobes/on/trigger");
    assert_eq!(fixture.run("cat events/kprobes/target/enable"), "0*\n");
    fixture.call(1, [0; 2], 0);
    assert_eq!(fixture.run("cat events/kprobes/target/enable"), "1*\n");
    fixture.call(0, [0; 2], 0);
    assert_eq!(fixture.recorded(), ["target: (disk::read+0x0/0xc)"]);
    for line in ["echo -:target >> kprobe_events", "echo -:on >> kprobe_events"] {
        assert_eq!(fixture.refused(line).reason, Reason::Event(EventReason::EventInUse), "{line}");
    }
    // Without the trigger it is as it was asked for.
    fixture.run("echo !enable_event:kprobes:target >> events/kprobes/on/trigger");
    assert_eq!(fixture.run("cat events/kprobes/target/enable"), "0\n");
    assert_eq!(fixture.engine.statistics().ops, 0);
    fixture.run("echo > kprobe_events");
}

#[test]
fn a_line_says_whether_an_event_is_recorded_whatever_a_trigger_has_done() {
    let mut fixture = fixture!();
    fixture.run("echo p:target disk::read > kprobe_events");
    fixture.run("echo p:off disk::seek >> kprobe_events");
    fixture.run("echo disable_event:kprobes:target > events/kprobes/off/trigger");
    fixture.run("echo 1 > events/kprobes/target/enable");
    let is_recorded = |fixture: &mut Fixture| {
        fixture.call(0, [0; 2], 0);
        !fixture.recorded().is_empty()
    };
    for (line, recorded) in [
        ("echo 1 > events/kprobes/target/enable", true),
        ("echo 1 > events/kprobes/enable", true),
        ("echo 1 > events/enable", true),
        ("echo kprobes:target >> set_event", true),
        ("echo kprobes:target > set_event", true),
        ("echo kprobes:off >> set_event", false),
        ("echo 0 > events/kprobes/target/enable", false),
    ] {
        fixture.call(1, [0; 2], 0);
        fixture.recorded();
        assert!(!is_recorded(&mut fixture), "{line}");
        fixture.run(line);
        assert_eq!(is_recorded(&mut fixture), recorded, "{line}");
        let shown = if recorded { "1*\n" } else { "0*\n" };
        assert_eq!(fixture.run("cat events/kprobes/target/enable"), shown, "{line}");
    }
}

#[test]
fn events_that_can_not_all_be_enabled_are_as_they_were() {
    let mut fixture = fixture!();
    fixture.run("echo p:a disk::read > kprobe_events");
    fixture.run("echo p:b disk::seek >> kprobe_events");
    fixture.run("echo disable_event:kprobes:a > events/kprobes/b/trigger");
    fixture.run("echo 1 > events/kprobes/a/enable");
    fixture.call(1, [0; 2], 0);
    fixture.run("echo > events/kprobes/b/trigger");
    fixture.run("echo enable_event:kprobes:b > events/kprobes/a/trigger");
    fixture.run("echo 0 > events/kprobes/a/enable");
    fixture.call(0, [0; 2], 0);
    // It is hooked for its trigger; the other one is on, though nobody asked for that.
    fixture.run("echo r:c disk::seek >> kprobe_events");
    let before = fixture.all();
    assert!(before.contains("1*\n"), "{before}");
    fixture.kernel.set_fault(Some(Fault::Batch));
    fixture.refused("echo 1 > events/enable");
    fixture.kernel.set_fault(None);
    assert_eq!(fixture.all(), before);
}

#[test]
fn a_refused_trigger_leaves_those_that_are_there() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo p:target disk::seek >> kprobe_events");
    fixture.run("echo 'stacktrace:3 if a == 1' > events/kprobes/e/trigger");
    fixture.run("echo disable_event:kprobes:target >> events/kprobes/e/trigger");
    let before = fixture.all();
    let long = format!("a == {}1", " ".repeat(300));
    for line in
        ["echo 'traceoff if LONG' > events/kprobes/e/trigger", "echo 'traceoff if LONG' >> events/kprobes/e/trigger"]
    {
        let refusal = fixture.refused(&line.replace("LONG", &long));
        assert_eq!((refusal.at, refusal.reason), (18, Reason::Event(EventReason::TooLong)), "{line}");
        assert_eq!(fixture.all(), before, "{line}");
    }
    for line in ["echo > events/kprobes/e/trigger", "echo traceoff > events/kprobes/e/trigger"] {
        fixture.kernel.set_fault(Some(Fault::Busy(1)));
        fixture.refused(line);
        fixture.kernel.set_fault(None);
        assert_eq!(fixture.all(), before, "{line}");
    }
    fixture.run("echo traceoff > events/kprobes/e/trigger");
    assert_eq!(fixture.run("cat events/kprobes/e/trigger"), "traceoff:unlimited\n");
    fixture.run("echo > events/kprobes/e/trigger");
    assert_eq!(fixture.engine.statistics().ops, 0);
}

#[test]
fn an_event_whose_trigger_could_not_come_or_go_can_be_removed() {
    let mut fixture = fixture!();
    for kind in ["p", "r"] {
        for (before, line) in [
            (None, "echo traceoff > events/kprobes/e/trigger"),
            (None, "echo traceoff >> events/kprobes/e/trigger"),
            (Some("echo traceoff > events/kprobes/e/trigger"), "echo !traceoff >> events/kprobes/e/trigger"),
            (Some("echo traceoff > events/kprobes/e/trigger"), "echo > events/kprobes/e/trigger"),
        ] {
            fixture.run(&format!("echo {kind}:e disk::read > kprobe_events"));
            before.into_iter().for_each(|before| drop(fixture.run(before)));
            fixture.kernel.set_fault(Some(Fault::Batch));
            fixture.refused(line);
            fixture.kernel.set_fault(None);
            assert!(
                fixture.run("cat events/kprobes/e/trigger").starts_with("# Available triggers:\n"),
                "{kind} {line}"
            );
            fixture.run("echo -:e >> kprobe_events");
            assert_eq!(fixture.engine.statistics().ops, 0, "{kind} {line}");
        }
    }
}

/// A handler that began before a trigger went may still do what the trigger says.
#[test]
fn a_trigger_that_switches_an_event_is_gone_when_nobody_can_pull_it() {
    let mut fixture = fixture!();
    fixture.run("echo p:target disk::read > kprobe_events");
    fixture.run("echo p:off disk::seek >> kprobe_events");
    // So that nothing is waited for but for the trigger's sake.
    fixture.run("echo 1 > events/enable");
    let waits = |fixture: &mut Fixture, line: &str| {
        fixture.kernel.take_events();
        fixture.run(line);
        fixture.kernel.take_events().into_iter().filter(|event| *event == crate::fakes::Event::Quiesce).count()
    };
    for (trigger, expected) in [("traceoff", 1), ("disable_event:kprobes:target", 2)] {
        fixture.run(&format!("echo {trigger} > events/kprobes/off/trigger"));
        assert_eq!(waits(&mut fixture, "echo > events/kprobes/off/trigger"), expected, "{trigger}");
    }
}

#[test]
fn a_stack_that_is_not_recorded_counts_as_no_time() {
    let mut fixture = fixture!();
    fixture.run("echo p:e disk::read > kprobe_events");
    fixture.run("echo stacktrace:1 > events/kprobes/e/trigger");
    let switches = fixture.switches;
    assert!(switches.ask(crate::control::switches::Asked::Dump));
    fixture.call(0, [0; 2], 0);
    switches.answer();
    assert_eq!(fixture.run("cat events/kprobes/e/trigger"), "stacktrace:count=1\n");
    fixture.call(0, [0; 2], 0);
    assert_eq!(fixture.run("cat events/kprobes/e/trigger"), "stacktrace:count=0\n");
    assert!(fixture.run("cat trace").contains("<stack trace>"));
}

#[test]
fn a_trigger_shows_the_stack() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo 'stacktrace:1 if a > 1' > events/kprobes/e/trigger");
    fixture.run("echo 1 > events/enable");
    [1, 2, 3].into_iter().for_each(|a| fixture.call(0, [a, 0], 0));
    let shown = fixture.run("cat trace_pipe");
    let lines: Vec<&str> = shown.lines().map(|line| line.split_once(": ").map_or(line, |(_, line)| line)).collect();
    let event = "e: (disk::read+0x0/0xc)";
    let expected = [
        &format!("{event} a=0x1"),
        &format!("{event} a=0x2"),
        "<stack trace>",
        " => disk::read",
        " => 0x11a",
        &format!("{event} a=0x3"),
    ];
    assert_eq!(lines, expected);
    fixture.run("echo > events/kprobes/e/trigger");
}

#[test]
fn a_trigger_takes_a_snapshot_with_the_event_in_it() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo 'snapshot:1 if a == 2' > events/kprobes/e/trigger");
    assert_eq!(fixture.run("cat events/kprobes/e/trigger"), "snapshot:count=1 if a == 2\n");
    fixture.run("echo 1 > events/enable");
    let events = |shown: &str| ["a=0x1\n", "a=0x2\n", "a=0x3\n"].map(|event| shown.contains(event));
    fixture.call(0, [1, 0], 0);
    // Not while a dump is to be written.
    let switches = fixture.switches;
    assert!(switches.ask(crate::control::switches::Asked::Dump));
    fixture.call(0, [2, 0], 0);
    switches.answer();
    assert!(fixture.run("cat snapshot").starts_with("# There is no snapshot"));
    fixture.call(0, [2, 0], 0);
    fixture.call(0, [3, 0], 0);
    assert_eq!(events(&fixture.run("cat snapshot")), [true, true, false]);
    assert_eq!(events(&fixture.run("cat trace")), [false, false, true]);
    fixture.call(0, [2, 0], 0);
    assert_eq!(events(&fixture.run("cat snapshot")), [true, true, false], "it has acted as often as it may");
    fixture.run("echo > events/kprobes/e/trigger");
}

#[test]
fn a_stack_is_followed_as_far_as_it_leads_up() {
    use super::super::fetch::{Point, Registers};
    struct At;
    impl Registers for At {
        fn x(&self, n: usize) -> Option<u64> {
            [(29, 0x1000), (30, 0x77)].iter().find(|(number, _)| *number == n).map(|(_, value)| *value)
        }
        fn sp(&self) -> Option<u64> {
            None
        }
        fn pc(&self) -> Option<u64> {
            None
        }
        fn pstate(&self) -> Option<u64> {
            None
        }
    }
    /// Records at 0x1000, 0x1020 and 0x1040; the last one points down.
    fn records(address: u64, bytes: &mut [u8]) -> bool {
        let record: [u64; 2] = match address {
            0x1000 => [0x1020, 0xa],
            0x1020 => [0x1040, 0xb],
            0x1040 => [0x1000, 0xc],
            _ => return false,
        };
        bytes.iter_mut().zip(record.iter().flat_map(|word| word.to_le_bytes())).for_each(|(place, byte)| *place = byte);
        true
    }
    let fill = |point, length: usize| {
        let mut frames = [0; 8];
        let count = super::super::stack::fill(&mut frames[..length], &At, point, [0x55, 0x66], Some(records));
        frames[..count].to_vec()
    };
    assert_eq!(fill(Point::Entry, 8), [0x55, 0x77, 0xa, 0xb, 0xc]);
    assert_eq!(fill(Point::Inside, 8), [0x55, 0xa, 0xb, 0xc]);
    assert_eq!(fill(Point::Return, 3), [0x66, 0xa, 0xb]);
}

#[test]
fn what_is_no_trigger_is_refused_where_it_is_none() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0 b=%x1:s8 name=+0(%x0):string' > kprobe_events");
    fixture.run("echo 'p:f disk::seek' >> kprobe_events");
    fixture.run("echo traceoff > events/kprobes/e/trigger");
    fixture.run("echo hist:keys=common_pid >> events/kprobes/e/trigger");
    fixture.run("echo hist:keys=common_pid > events/kprobes/f/trigger");
    use EventReason as Is;
    for (text, column, reason) in [
        ("tracing", 0, Is::BadTrigger),
        ("traceon", 0, Is::TriggerExists),
        ("stacktrace:x", 11, Is::BadNumber),
        ("stacktrace:", 11, Is::BadNumber),
        ("stacktrace when a == 1", 11, Is::NoIf),
        ("stacktrace if", 11, Is::NoIf),
        ("stacktrace if c == 1", 14, Is::NoSuchField),
        ("!stacktrace", 1, Is::NoSuchTrigger),
        ("enable_event", 12, Is::NoTarget),
        ("enable_event:kprobes", 13, Is::NoTarget),
        ("enable_event:kprobes:nosuch", 13, Is::NoSuchEvent),
        ("disable_event:kprobes:f:x", 24, Is::BadNumber),
        ("snapshot:", 9, Is::BadNumber),
        ("enable_hist:kprobes", 12, Is::NoTarget),
        ("disable_hist:kprobes:nosuch", 13, Is::NoSuchEvent),
        ("hist", 4, Is::NoKeys),
        ("hist:vals=a", 5, Is::NoKeys),
        ("hist:keys=c", 10, Is::NoSuchField),
        ("hist:keys=a,", 12, Is::NoSuchField),
        ("hist:keys=a.lg2", 12, Is::BadModifier),
        ("hist:keys=a.buckets=0", 12, Is::BadModifier),
        ("hist:keys=a.execname", 12, Is::BadModifier),
        ("hist:keys=name.hex", 15, Is::BadModifier),
        ("hist:keys=a:vals=b.hex", 19, Is::BadModifier),
        ("hist:keys=a:vals=name", 17, Is::NoNumber),
        ("hist:keys=a:vals=b,b,b,b", 23, Is::TooManySums),
        ("hist:keys=a,b,a,b", 16, Is::TooManyKeys),
        ("hist:keys=name,name,a", 20, Is::KeyTooLong),
        ("hist:keys=a,stacktrace,stacktrace", 23, Is::KeyTooLong),
        ("hist:keys=a:sort=b", 17, Is::NoSuchSort),
        ("hist:keys=a:sort=a.up", 19, Is::BadModifier),
        ("hist:keys=a:sort=a,a,a", 21, Is::TooManySorts),
        ("hist:keys=a:size=100", 17, Is::BadSize),
        ("hist:keys=a:size=64", 17, Is::BadSize),
        ("hist:keys=a:name=x", 12, Is::BadHistOption),
        ("hist:keys=a:pause", 0, Is::NoSuchTrigger),
        ("hist:keys=common_pid", 0, Is::TriggerExists),
        ("hist:keys=a", 0, Is::NoHistogram),
    ] {
        let before = fixture.all();
        let refusal = fixture.refused(&format!("echo '{text}' >> events/kprobes/e/trigger"));
        assert_eq!((refusal.at, refusal.reason), (6 + column, Reason::Event(reason)), "{text}");
        assert_eq!(fixture.all(), before, "{text}");
    }
    fixture.run("echo > events/kprobes/f/trigger");
    let refusal = fixture.refused("echo hist:keys=a:size=256 >> events/kprobes/e/trigger");
    assert_eq!(refusal.reason, Reason::Event(Is::NoHistogram), "the memory is for 128");
    for command in ["stacktrace", "enable_event:kprobes:f"] {
        fixture.run(&format!("echo {command} >> events/kprobes/e/trigger"));
    }
    let refusal = fixture.refused("echo hist:keys=a >> events/kprobes/e/trigger");
    assert_eq!(refusal.reason, Reason::Event(Is::TooManyTriggers));
    fixture.run("echo > events/kprobes/e/trigger");
    assert_eq!(fixture.engine.statistics().ops, 0);
    fixture.run("echo > kprobe_events");
    let mut without = fixture!(|events| events);
    without.run("echo p:e disk::read > kprobe_events");
    assert_eq!(without.refused("echo stacktrace > events/kprobes/e/trigger").reason, Reason::Event(Is::NoMemory));
    assert_eq!(
        without.refused("echo hist:keys=common_pid > events/kprobes/e/trigger").reason,
        Reason::Event(Is::NoHistogram)
    );
}
