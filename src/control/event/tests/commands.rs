//! Commands at functions that switch events.

use super::*;

#[test]
fn a_function_switches_an_event() {
    let mut fixture = fixture!();
    fixture.run("echo p:target disk::read > kprobe_events");
    fixture.run("echo disk::seek:enable_event:kprobes:target:2 twice:disable_event:kprobes:target > set_ftrace_filter");
    let listed = "#### all functions enabled ####\ndisk::seek:enable_event:kprobes:target:count=2\n\
                  twice:disable_event:kprobes:target:unlimited\n";
    assert_eq!(fixture.run("cat set_ftrace_filter"), listed);
    // Its probe is there, and it is not recorded yet.
    assert_eq!(fixture.run("cat events/kprobes/target/enable"), "0*\n");
    let read = |fixture: &mut Fixture| {
        fixture.call(0, [0; 2], 0);
        fixture.recorded().len()
    };
    assert_eq!(read(&mut fixture), 0);
    for recorded in [1, 1, 0] {
        // What is so already counts as no time.
        (0..2).for_each(|_| fixture.call(1, [0; 2], 0));
        assert_eq!(read(&mut fixture), recorded);
        (0..2).for_each(|_| fixture.call(3, [0; 2], 0));
        assert_eq!(read(&mut fixture), 0);
    }
    assert!(fixture.run("cat set_ftrace_filter").contains("disk::seek:enable_event:kprobes:target:count=0\n"));
    // The same again has its count anew, and what names an event keeps it.
    fixture.run("echo disk::seek:enable_event:kprobes:target >> set_ftrace_filter");
    assert_eq!(fixture.refused("echo > kprobe_events").reason, Reason::Event(EventReason::EventInUse));
    fixture.call(1, [0; 2], 0);
    assert_eq!((read(&mut fixture), fixture.run("cat events/kprobes/target/enable")), (1, "1*\n".into()));
    fixture.run("echo '!twice:disable_event:kprobes:target' >> set_ftrace_filter");
    assert_eq!(read(&mut fixture), 1);
    // The last one gone, it is as it was asked for.
    fixture.run("echo '!disk::seek:enable_event:kprobes:target:0' >> set_ftrace_filter");
    assert_eq!((read(&mut fixture), fixture.run("cat events/kprobes/target/enable")), (0, "0\n".into()));
    assert_eq!(fixture.engine.statistics().ops, 0);
    fixture.run("echo > kprobe_events");
}

#[test]
fn a_command_that_names_no_event_is_refused() {
    let mut fixture = fixture!();
    fixture.run("echo p:target disk::read > kprobe_events");
    let before = fixture.all();
    for (line, column, reason) in [
        ("echo disk::seek:enable_event > set_ftrace_filter", 28, EventReason::NoTarget),
        ("echo disk::seek:enable_event:kprobes > set_ftrace_filter", 29, EventReason::NoTarget),
        ("echo disk::seek:disable_event:kprobes:nosuch > set_ftrace_filter", 30, EventReason::NoSuchEvent),
        ("echo !disk::seek:disable_event:a:target > set_ftrace_filter", 31, EventReason::NoSuchEvent),
    ] {
        let refusal = fixture.refused(line);
        assert_eq!((refusal.at, refusal.reason), (column, Reason::Event(reason)), "{line}");
    }
    let count = fixture.refused("echo disk::seek:enable_event:kprobes:target:often > set_ftrace_filter");
    assert_eq!((count.at, count.reason), (44, Reason::Expected("A number")));
    let other = fixture.refused("echo !disk::seek:enable_event:kprobes:target > set_ftrace_filter");
    assert_eq!(other.reason, Reason::NoSuchCommand);
    assert_eq!(fixture.all(), before);
}

#[test]
fn a_command_that_can_not_be_registered_names_no_event() {
    let mut fixture = fixture!();
    fixture.run("echo p:target disk::read > kprobe_events");
    fixture.run("echo twice:disable_event:kprobes:target > set_ftrace_filter");
    let state = |fixture: &mut Fixture| (fixture.all(), fixture.run("cat set_ftrace_filter"));
    let before = state(&mut fixture);
    for fault in (0..4).map(Fault::Alias).chain([Fault::Batch, Fault::Write(1)]) {
        fixture.kernel.set_fault(Some(fault));
        let line =
            "echo '!twice:disable_event:kprobes:target' disk::seek:enable_event:kprobes:target > set_ftrace_filter";
        let refused = fixture.control.execute(line, &mut String::new()).is_err();
        fixture.kernel.set_fault(None);
        fixture.kernel.repair();
        if refused {
            assert_eq!(state(&mut fixture), before, "{fault:?}");
        } else {
            fixture.run("echo '!disk::seek:enable_event:kprobes:target' >> set_ftrace_filter");
            fixture.run("echo twice:disable_event:kprobes:target >> set_ftrace_filter");
        }
    }
    fixture.run("echo '!twice:disable_event:kprobes:target' >> set_ftrace_filter");
    // Nothing names it any more.
    fixture.run("echo > kprobe_events");
    assert_eq!(fixture.engine.statistics().ops, 0);
}
