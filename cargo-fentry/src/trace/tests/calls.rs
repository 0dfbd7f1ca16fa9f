//! Entries and exits, whole and with losses, and the calls that they make.

use super::fixture::{self, entry, exit, marker};
use crate::damage::Random;
use crate::trace::calls::{Step, StepKind, threads, with_entries};
use crate::trace::model::{Event, EventKind};

/// The steps in words: `time enter ip`, `time leave ip (duration)`.
fn steps_of(events: Vec<Event>) -> Vec<String> {
    let trace = fixture::of_events(events);
    let threads = threads(&trace);
    assert_eq!(threads.len(), 1);
    let thread = &threads[0];
    let in_words = |step: &Step| {
        let time = step.time_ns;
        match step.kind {
            StepKind::Enter(call) => format!("{time} enter {:x}", thread.calls[call].ip),
            StepKind::Leave(call) => match thread.calls[call].duration_ns {
                Some(duration) => format!("{time} leave {:x} ({duration})", thread.calls[call].ip),
                None => format!("{time} leave {:x}", thread.calls[call].ip),
            },
            StepKind::Instant(_) => format!("{time} instant"),
        }
    };
    thread.steps.iter().map(in_words).collect()
}

#[test]
fn entries_and_exits_are_paired_at_one_time_too() {
    // A coarse clock: three calls in one moment, the middle one inside the first.
    let events = vec![
        entry(5, 0xa, 0),
        entry(5, 0xb, 1),
        exit(5, 0xb, 1, 5),
        exit(5, 0xa, 0, 5),
        entry(5, 0xc, 0),
        exit(9, 0xc, 0, 5),
    ];
    let expected = ["5 enter a", "5 enter b", "5 leave b (0)", "5 leave a (0)", "5 enter c", "9 leave c (4)"];
    assert_eq!(steps_of(events), expected);
}

#[test]
fn a_lost_entry_is_put_before_what_was_called_inside() {
    let events = vec![
        entry(10, 0xa, 0),
        entry(12, 0xb, 1),
        exit(14, 0xb, 1, 12),
        // The entry of c, at 14, is lost.
        entry(16, 0xd, 2),
        exit(18, 0xd, 2, 16),
        exit(20, 0xc, 1, 14),
        exit(22, 0xa, 0, 10),
    ];
    let expected = [
        "10 enter a",
        "12 enter b",
        "14 leave b (2)",
        "14 enter c",
        "16 enter d",
        "18 leave d (2)",
        "20 leave c (6)",
        "22 leave a (12)",
    ];
    assert_eq!(steps_of(events), expected);
}

#[test]
fn a_trace_that_begins_inside_calls_gets_their_entries() {
    let events = vec![exit(20, 0xb, 3, 15), marker(21, "here"), exit(30, 0xa, 2, 10)];
    let expected = ["10 enter a", "15 enter b", "20 leave b (5)", "21 instant", "30 leave a (20)"];
    assert_eq!(steps_of(events), expected);
}

#[test]
fn a_lost_exit_ends_its_call_where_it_was_last_seen() {
    let events = vec![
        entry(1, 0xa, 0),
        entry(2, 0xb, 1),
        marker(3, "in b"),
        // The exit of b is lost; then that of a.
        entry(5, 0xc, 1),
        exit(6, 0xc, 1, 5),
        entry(8, 0xd, 0),
        exit(9, 0xd, 0, 8),
    ];
    let expected = [
        "1 enter a",
        "2 enter b",
        "3 instant",
        "3 leave b",
        "5 enter c",
        "6 leave c (1)",
        "6 leave a",
        "8 enter d",
        "9 leave d (1)",
    ];
    assert_eq!(steps_of(events), expected);
}

#[test]
fn a_lost_exit_and_a_lost_entry_leave_each_call_what_is_its_own() {
    let events = vec![
        entry(1, 0xa, 0),
        entry(2, 0xb, 1),
        marker(3, "in b"),
        // The exit of b and the entry of c, at 5, are lost.
        entry(6, 0xd, 2),
        exit(7, 0xd, 2, 6),
        entry(8, 0xe, 2),
        // So is the exit of e.
        exit(9, 0xc, 1, 5),
        exit(10, 0xa, 0, 1),
    ];
    let expected = [
        "1 enter a",
        "2 enter b",
        "3 instant",
        "3 leave b",
        "5 enter c",
        "6 enter d",
        "7 leave d (1)",
        "8 enter e",
        "8 leave e",
        "9 leave c (4)",
        "10 leave a (9)",
    ];
    assert_eq!(steps_of(events), expected);
}

#[test]
fn an_exit_ends_the_calls_that_never_returned() {
    let events = vec![entry(1, 0xa, 0), entry(2, 0xb, 1), entry(3, 0xc, 2), exit(9, 0xa, 0, 1)];
    let expected = ["1 enter a", "2 enter b", "3 enter c", "3 leave c", "3 leave b", "9 leave a (8)"];
    assert_eq!(steps_of(events), expected);
}

#[test]
fn an_entry_is_of_an_earlier_call_where_others_came_between() {
    let events = vec![entry(1, 0xa, 0), entry(2, 0xb, 1), exit(3, 0xb, 1, 2), exit(9, 0xa, 0, 5)];
    let expected = ["1 enter a", "2 enter b", "3 leave b (1)", "3 leave a", "5 enter a", "9 leave a (4)"];
    assert_eq!(steps_of(events), expected);
}

#[test]
fn exits_alone_get_their_entries_back() {
    let mut random = Random(1);
    for _ in 0..2000 {
        let (mut time_ns, mut open, mut all) = (0, Vec::new(), Vec::new());
        for _ in 0..30 {
            // Many events fall into one tick.
            time_ns += u64::from(random.below(4) == 0);
            match (random.below(3), open.last().copied()) {
                (0, Some((ip, entered))) => {
                    open.pop();
                    all.push(exit(time_ns, ip, open.len() as u32, entered));
                }
                (1, _) => {
                    let ip = random.below(3) as u64;
                    all.push(entry(time_ns, ip, open.len() as u32));
                    open.push((ip, time_ns));
                }
                _ => {}
            }
        }
        while let Some((ip, entered)) = open.pop() {
            all.push(exit(time_ns, ip, open.len() as u32, entered));
        }
        let mut found =
            with_entries(all.iter().filter(|event| matches!(event.kind, EventKind::Exit { .. })).cloned().collect());
        for event in &mut found {
            if let EventKind::Entry { parent, .. } = &mut event.kind {
                *parent = fixture::PARENT;
            }
        }
        assert_eq!(found, all);
    }
}

#[test]
fn recursive_calls_are_told_apart_by_depth() {
    let events = vec![entry(1, 0xa, 0), entry(2, 0xa, 1), exit(9, 0xa, 0, 1)];
    assert_eq!(steps_of(events), ["1 enter a", "2 enter a", "2 leave a", "9 leave a (8)"]);
}

#[test]
fn what_is_open_at_the_end_lasts_to_the_end() {
    let events = vec![entry(1, 0xa, 0), entry(2, 0xb, 1), exit(7, 0xb, 1, 2)];
    assert_eq!(steps_of(events), ["1 enter a", "2 enter b", "7 leave b (5)", "7 leave a"]);
}

#[test]
fn any_order_of_entries_and_exits_gives_balanced_steps() {
    // Every trace of up to five events out of these: two functions, two depths, right and wrong.
    let choices: [fn(u64) -> Event; 6] = [
        |time| entry(time, 0xa, 0),
        |time| entry(time, 0xb, 1),
        |time| exit(time, 0xa, 0, 1),
        |time| exit(time, 0xb, 1, time - 1),
        |time| exit(time, 0xb, 0, 0),
        |time| marker(time, "m"),
    ];
    for number in 0..6_usize.pow(5) {
        let digits = (0..5).map(|place| number / 6_usize.pow(place) % 6);
        let events = digits.zip(1..).map(|(digit, time)| choices[digit](time)).collect();
        let trace = fixture::of_events(events);
        for thread in threads(&trace) {
            let mut stack = Vec::new();
            let mut time = 0;
            for step in &thread.steps {
                assert!(step.time_ns >= time, "{number}: {:?}", thread.steps);
                time = step.time_ns;
                match step.kind {
                    StepKind::Enter(call) => stack.push(call),
                    StepKind::Leave(call) => assert_eq!(stack.pop(), Some(call), "{number}: {:?}", thread.steps),
                    StepKind::Instant(_) => {}
                }
            }
            assert!(stack.is_empty());
        }
    }
}

#[test]
fn self_time_leaves_out_the_calls_inside() {
    let trace = fixture::of_events(vec![
        entry(0, 0xa, 0),
        entry(10, 0xb, 1),
        exit(13, 0xb, 1, 10),
        entry(20, 0xb, 1),
        exit(25, 0xb, 1, 20),
        exit(100, 0xa, 0, 0),
    ]);
    let mut seen = Vec::new();
    threads(&trace)[0].for_each_call(|left| seen.push((left.call.ip, left.stack.len(), left.self_ns)));
    assert_eq!(seen, [(0xb, 2, 3), (0xb, 2, 5), (0xa, 1, 92)]);
}
