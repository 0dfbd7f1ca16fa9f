//! Histograms as lines ask for them.

use super::*;

#[test]
fn a_histogram_counts_by_its_keys() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0 b=%x1:s8 name=+0(%x0):string' > kprobe_events");
    // 1: the calls; then the entries, and what was hit.
    let calls = [[0x1000, 1], [0x1000, 0xfe], [5, 0xff], [0x1000, 1], [40, 3]];
    for (hist, entries) in [
        (
            "keys=a",
            &[
                "{ a:          5 } hitcount:          1",
                "{ a:         40 } hitcount:          1",
                "{ a:       4096 } hitcount:          3",
            ][..],
        ),
        (
            "keys=a.hex:sort=a.descending",
            &["{ a: 1000 } hitcount:          3", "{ a: 28 } hitcount:          1", "{ a: 5 } hitcount:          1"],
        ),
        (
            "keys=b:sort=b",
            &[
                "{ b:         -2 } hitcount:          1",
                "{ b:         -1 } hitcount:          1",
                "{ b:          1 } hitcount:          2",
                "{ b:          3 } hitcount:          1",
            ],
        ),
        (
            "keys=a.log2:sort=a",
            &[
                "{ a: ~ 2^3  } hitcount:          1",
                "{ a: ~ 2^6  } hitcount:          1",
                "{ a: ~ 2^12 } hitcount:          3",
            ],
        ),
        (
            "keys=a.buckets=32:sort=a",
            &[
                "{ a: ~ 0-31 } hitcount:          1",
                "{ a: ~ 32-63 } hitcount:          1",
                "{ a: ~ 4096-4127 } hitcount:          3",
            ],
        ),
        (
            "keys=name:vals=a,hitcount.percent:sort=hitcount.descending",
            &[
                "{ name: sda1                                } hitcount (%):  60.00  a:      12288",
                "{ name:                                     } hitcount (%):  40.00  a:         45",
            ],
        ),
        (
            "keys=common_pid.execname,b:vals=a:sort=a.descending,b:size=128 if b > 0",
            &[
                "{ common_pid: <...>           [         7], b:          1 } hitcount:          2  a:       8192",
                "{ common_pid: <...>           [         7], b:          3 } hitcount:          1  a:         40",
            ],
        ),
        (
            "keys=__probe_ip.sym",
            &["{ __probe_ip: [ffff800080000000] disk::read                                    } hitcount:          5"],
        ),
        (
            "keys=stacktrace",
            &["{ stacktrace:", "         disk::read+0x0/0xc", "         0x11e", "} hitcount:          5"],
        ),
    ] {
        fixture.run(&format!("echo 'hist:{hist}' > events/kprobes/e/trigger"));
        calls.iter().for_each(|call| fixture.call(0, *call, 0));
        let shown = fixture.run("cat events/kprobes/e/hist");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[..2], ["# event histogram", "#"], "{hist}");
        assert!(
            lines[2].starts_with("# trigger info: hist:keys=") && lines[2].ends_with(" [active]"),
            "{hist}: {shown}"
        );
        let end = lines.iter().position(|line| line.is_empty() && shown.contains("Totals")).unwrap();
        let all = &lines[end + 1..];
        let (shown_entries, totals) = all.split_at(all.iter().position(|line| *line == "Totals:").unwrap() - 1);
        assert_eq!(shown_entries, entries, "{hist}");
        let hits = if hist.contains(" if ") { 3 } else { 5 };
        let count = entries.iter().filter(|line| line.contains("hitcount")).count();
        let expected =
            ["", "Totals:", &format!("    Hits: {hits}"), &format!("    Entries: {count}"), "    Dropped: 0", ""];
        assert_eq!(totals, expected, "{hist}");
        // As it is shown, it can be written again.
        let info = lines[2].trim_start_matches("# trigger info: ").trim_end_matches(" [active]").to_string();
        fixture.run(&format!("echo '{info}' > events/kprobes/e/trigger"));
        assert_eq!(fixture.run("cat events/kprobes/e/trigger"), format!("{info} [active]\n"));
        assert!(fixture.run("cat events/kprobes/e/hist").contains("Hits: 0\n"), "it begins anew");
    }
    fixture.run("echo > events/kprobes/e/trigger");
    fixture.run("echo > kprobe_events");
}

#[test]
fn a_histogram_counts_by_the_names_of_tasks() {
    let mut fixture = fixture!();
    fixture.control = fixture.control.with_task_names(name);
    fixture.run("echo 'p:e disk::read name=$comm' > kprobe_events");
    let calls = [7, 8, 8, 10, 8, 7];
    for (keys, entries) in [
        (
            "comm",
            [
                "{ comm:                                     } hitcount:          1",
                "{ comm: main                                } hitcount:          2",
                "{ comm: disk reader                         } hitcount:          3",
            ],
        ),
        (
            "name",
            [
                "{ name:                                     } hitcount:          1",
                "{ name: main                                } hitcount:          2",
                "{ name: disk reader                         } hitcount:          3",
            ],
        ),
        (
            "common_pid.execname",
            [
                "{ common_pid: <...>           [        10] } hitcount:          1",
                "{ common_pid: main            [         7] } hitcount:          2",
                "{ common_pid: disk reader     [         8] } hitcount:          3",
            ],
        ),
    ] {
        fixture.run(&format!("echo 'hist:keys={keys}' > events/kprobes/e/trigger"));
        for task in calls {
            fixture.task.store(task, Ordering::Relaxed);
            fixture.call(0, [0; 2], 0);
        }
        let shown = fixture.run("cat events/kprobes/e/hist");
        assert_eq!(shown.lines().filter(|line| line.starts_with('{')).collect::<Vec<_>>(), entries, "{keys}");
        let trigger = fixture.run("cat events/kprobes/e/trigger");
        assert!(trigger.starts_with(&format!("hist:keys={keys}:vals=hitcount")), "{trigger}");
    }
    for (text, column, reason) in
        [("keys=comm.hex", 21, EventReason::BadModifier), ("keys=name:vals=comm", 26, EventReason::NoNumber)]
    {
        let refusal = fixture.refused(&format!("echo 'hist:{text}' >> events/kprobes/e/trigger"));
        assert_eq!((refusal.at, refusal.reason), (column, Reason::Event(reason)), "{text}");
    }
    fixture.run("echo > events/kprobes/e/trigger");
}

#[test]
fn a_power_of_two_is_that_of_what_is_not_above_it() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo hist:keys=a.log2:sort=a > events/kprobes/e/trigger");
    [0, 1, 2, 3, 4, 5, u64::MAX].iter().for_each(|a| fixture.call(0, [*a, 0], 0));
    let shown = fixture.run("cat events/kprobes/e/hist");
    let entries: Vec<_> = shown.lines().filter_map(|line| line.strip_prefix("{ a: ~ 2^")).collect();
    let counts = [(0, 2), (1, 1), (2, 2), (3, 1), (64, 1)];
    assert_eq!(entries, counts.map(|(power, count)| format!("{power:<2} }} hitcount: {count:>10}")));
    fixture.run("echo > events/kprobes/e/trigger");
}

#[test]
fn another_event_has_a_histogram_count() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo 'p:on disk::seek' >> kprobe_events");
    fixture.run("echo 'r:off disk::seek' >> kprobe_events");
    fixture.run("echo hist:keys=a > events/kprobes/e/trigger");
    fixture.run("echo hist:keys=a:pause >> events/kprobes/e/trigger");
    fixture.run("echo enable_hist:kprobes:e:3 > events/kprobes/on/trigger");
    fixture.run("echo disable_hist:kprobes:e > events/kprobes/off/trigger");
    assert_eq!(fixture.run("cat events/kprobes/off/trigger"), "disable_hist:kprobes:e:unlimited\n");
    let refusal = fixture.refused("echo disable_hist:kprobes:e >> events/kprobes/on/trigger");
    assert_eq!(refusal.reason, Reason::Event(EventReason::TriggerExists));
    let hits = |fixture: &mut Fixture| {
        let shown = fixture.run("cat events/kprobes/e/hist");
        let hits = shown.split("Hits: ").nth(1).unwrap().lines().next().unwrap().parse::<u64>().unwrap();
        (hits, shown.contains("[paused]"))
    };
    fixture.call(0, [1, 0], 0);
    assert_eq!(hits(&mut fixture), (0, true));
    // Both of its triggers act: at its entry it goes on, at its return it is paused.
    fixture.call(1, [0; 2], 0);
    fixture.call(0, [1, 0], 0);
    assert_eq!(hits(&mut fixture), (0, true));
    assert_eq!(fixture.run("cat events/kprobes/on/trigger"), "enable_hist:kprobes:e:count=2\n");
    fixture.run("echo > events/kprobes/off/trigger");
    (0..3).for_each(|_| fixture.call(1, [0; 2], 0));
    fixture.call(0, [1, 0], 0);
    assert_eq!(hits(&mut fixture), (1, false));
    assert_eq!(fixture.run("cat events/kprobes/on/trigger"), "enable_hist:kprobes:e:count=1\n");
    // It is hooked for the sake of the other's trigger, and can't go before that.
    fixture.run("echo > events/kprobes/e/trigger");
    assert_eq!(fixture.refused("echo -:e >> kprobe_events").reason, Reason::Event(EventReason::EventInUse));
    fixture.run("echo > events/kprobes/on/trigger");
    assert_eq!(fixture.engine.statistics().ops, 0);
    fixture.run("echo > kprobe_events");
}

#[test]
fn a_histogram_is_paused_goes_on_and_is_cleared() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo hist:keys=a:vals=a > events/kprobes/e/trigger");
    let hits = |fixture: &mut Fixture| {
        let shown = fixture.run("cat events/kprobes/e/hist");
        let number = |name: &str| shown.split(name).nth(1).unwrap().lines().next().unwrap().parse::<u64>().unwrap();
        [number("Hits: "), number("Entries: "), number("Dropped: ")]
    };
    let calls = |fixture: &Fixture, range: core::ops::Range<u64>| range.for_each(|a| fixture.call(0, [a, 0], 0));
    calls(&fixture, 0..200);
    assert_eq!(hits(&mut fixture), [128, 128, 72]);
    fixture.run("echo hist:keys=a:pause >> events/kprobes/e/trigger");
    assert!(fixture.run("cat events/kprobes/e/trigger").ends_with("[paused]\n"));
    calls(&fixture, 0..200);
    assert_eq!(hits(&mut fixture), [128, 128, 72]);
    fixture.run("echo hist:keys=a:cont >> events/kprobes/e/trigger");
    calls(&fixture, 0..10);
    assert_eq!(hits(&mut fixture), [138, 128, 72]);
    fixture.run("echo hist:keys=a:clear >> events/kprobes/e/trigger");
    assert_eq!(hits(&mut fixture), [0, 0, 0]);
    calls(&fixture, 190..200);
    assert_eq!(hits(&mut fixture), [10, 10, 0]);
    fixture.run("echo > events/kprobes/e/trigger");
}
