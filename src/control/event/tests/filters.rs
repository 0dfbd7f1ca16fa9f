//! Filters, and which events are enabled.

use super::*;
use crate::filter::GlobError;

#[test]
fn a_filter_lets_through_what_it_says() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0 b=%x1:s8 name=+0(%x0):string' > kprobe_events");
    fixture.run("echo e > set_event");
    assert_eq!(fixture.run("cat set_event"), "kprobes:e\n");
    // The calls: (0x1000, -2) with the name "sda1", and (5, 3) with none that can be read.
    for (filter, passes) in [
        ("a == 5", [false, true]),
        ("a != 5", [true, false]),
        ("a==0x1000", [true, false]),
        ("a > 5", [true, false]),
        ("a >= 5 ", [true, true]),
        ("a < 0x1000", [false, true]),
        ("a <= 4096", [true, true]),
        ("a & 0x1001", [true, true]),
        ("a & 0x1002", [true, false]),
        ("b < 0", [true, false]),
        ("b == -2", [true, false]),
        ("b > -3", [true, true]),
        ("name == sda1", [true, false]),
        ("name == \"sda\"", [false, false]),
        ("name != \"sda\"", [true, false]),
        ("name ~ \"s*1\"", [true, false]),
        ("name ~ \"*\"", [true, false]),
        ("name ~ \"?d?*\"", [true, false]),
        ("name ~ \"?d?*1?\"", [false, false]),
        ("name ~ \"[r-t]d[!b]?\"", [true, false]),
        ("name ~ \"sd\\a1\"", [true, false]),
        ("!(name == sda1)", [false, true]),
        ("a == 5 || b == -2", [true, true]),
        ("a == 5 && b == -2", [false, false]),
        ("a == 5 || a == 6 && b == 9", [false, true]),
        ("(a == 5 || a == 6) && b == 9", [false, false]),
        ("!(a == 5 || a == 6) && b < 9", [true, false]),
        ("!!(a == 5)", [false, true]),
        ("!(a == 5 && !(b == 3))", [true, true]),
        ("a==1||a==2||a==3||a==4||a==5", [false, true]),
        ("(((a > 1)) && (b < 0 || b > 2))", [true, true]),
        ("common_pid == 7 && __probe_ip == 0xffff800080000000", [true, true]),
        ("common_pid != 7", [false, false]),
        ("0", [true, true]),
    ] {
        fixture.run(&format!("echo '{filter}' > events/kprobes/e/filter"));
        let shown = fixture.run("cat events/kprobes/e/filter");
        assert_eq!(shown.trim_end(), if filter == "0" { "none" } else { filter.trim_end() });
        fixture.call(0, [0x1000, 0xfe], 0);
        fixture.call(0, [5, 3], 0);
        let recorded = fixture.recorded();
        let passed = ["a=0x1000 ", "a=0x5 "].map(|call| recorded.iter().any(|line| line.contains(call)));
        assert_eq!((passed, recorded.len()), (passes, passes.iter().filter(|passes| **passes).count()), "{filter}");
    }
}

#[test]
fn what_is_no_filter_is_refused_where_it_is_none() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0 b=%x1:s8 c=%x2:b3@1/8 name=+0(%x0):string' > kprobe_events");
    fixture.run("echo a == 5 > events/kprobes/e/filter");
    use EventReason as Is;
    let many = "a==1&&".repeat(8);
    for (text, column, reason) in [
        ("d == 1", 0, Is::NoSuchField),
        ("a == 1 && d == 1", 10, Is::NoSuchField),
        ("== 1", 0, Is::NoSuchField),
        ("a", 1, Is::BadOperator),
        ("a = 1", 2, Is::BadOperator),
        ("a && b", 2, Is::BadOperator),
        ("a ~ 1", 2, Is::OperatorOfOtherType),
        ("name < x", 5, Is::OperatorOfOtherType),
        ("a ==", 4, Is::NoValue),
        ("name == ", 7, Is::NoValue),
        ("a == x", 5, Is::BadNumber),
        ("a == 1x", 5, Is::BadNumber),
        ("a == -1", 5, Is::ValueOutOfRange),
        ("b == 128", 5, Is::ValueOutOfRange),
        ("c == 8", 5, Is::ValueOutOfRange),
        ("name == \"x", 8, Is::OpenString),
        ("a == 1 b == 2", 7, Is::ExpectedConnective),
        ("(a == 1 b == 2)", 8, Is::ExpectedConnective),
        ("a == 1)", 6, Is::StrayBracket),
        ("(a == 1", 0, Is::OpenBracket),
        ("a == 1 &&", 9, Is::NoSuchField),
        (&format!("{many}a==1"), 48, Is::FilterTooLong),
        (&"(".repeat(200), 8, Is::FilterTooLong),
        (&"!".repeat(200), 8, Is::FilterTooLong),
        (&format!("name == {}", "x".repeat(49)), 8, Is::PatternTooLong),
        (&format!("a == {}1", "0".repeat(260)), 0, Is::TooLong),
    ] {
        let before = fixture.all();
        let refusal = fixture.refused(&format!("echo '{text}' > events/kprobes/e/filter"));
        assert_eq!((refusal.at, refusal.reason), (6 + column, Reason::Event(reason)), "{text}");
        assert_eq!(fixture.all(), before, "{text}");
    }
}

#[test]
fn an_event_is_filtered_by_the_name_of_its_task() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0 name=$comm' > kprobe_events");
    fixture.run("echo 1 > events/enable");
    // The tasks: main, disk reader, and one that has no name.
    for (filter, passes) in [
        ("comm == main", [true, false, false]),
        ("COMM == \"disk reader\"", [false, true, false]),
        ("comm != \"main\"", [false, true, false]),
        ("comm ~ \"*r\"", [false, true, false]),
        ("comm ~ \"*\"", [true, true, false]),
        ("comm == mai || comm ~ mai? && a == 5", [true, false, false]),
        ("!(comm == main)", [false, true, true]),
        ("name == main", [true, false, false]),
        ("name ~ \"disk*\"", [false, true, false]),
    ] {
        fixture.run(&format!("echo '{filter}' > events/kprobes/e/filter"));
        let passed = [7, 8, 10].map(|task| {
            fixture.task.store(task, Ordering::Relaxed);
            fixture.call(0, [5, 0], 0);
            fixture.recorded().len() == 1
        });
        assert_eq!(passed, passes, "{filter}");
    }
    for (text, column, reason) in [
        ("comm < x", 5, EventReason::OperatorOfOtherType),
        ("comm & 1", 5, EventReason::OperatorOfOtherType),
        ("comm ==", 7, EventReason::NoValue),
        ("Comm == x", 0, EventReason::NoSuchField),
    ] {
        let refusal = fixture.refused(&format!("echo '{text}' > events/kprobes/e/filter"));
        assert_eq!((refusal.at, refusal.reason), (6 + column, Reason::Event(reason)), "{text}");
    }
    // A field of this name is meant first.
    fixture.run("echo 0 > events/enable");
    fixture.run("echo 'p:e disk::read comm=%x0' > kprobe_events");
    fixture.run("echo 'comm == 5' > events/kprobes/e/filter");
    let mut without = fixture!(|events| events);
    without.run("echo p:e disk::read > kprobe_events");
    for (file, text, column) in [("filter", "comm == x", 6), ("trigger", "hist:keys=comm", 16)] {
        let refusal = without.refused(&format!("echo '{text}' > events/kprobes/e/{file}"));
        assert_eq!((refusal.at, refusal.reason), (column, Reason::Event(EventReason::NoTaskNames)), "{text}");
    }
}

#[test]
fn an_array_is_compared_with_nothing() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0 b=+0(%x0):u8[4] c=+0(%x0):char[4] d=+0(%x0):string[2]' > kprobe_events");
    for (file, text, column) in [
        ("filter", "b == 1", 0),
        ("filter", "a == 1 && c == sda1", 10),
        ("filter", "d ~ \"s*\"", 0),
        ("trigger", "hist:keys=b", 10),
        ("trigger", "hist:keys=a:vals=c", 17),
        ("trigger", "traceoff if d == x", 12),
    ] {
        let before = fixture.all();
        let refusal = fixture.refused(&format!("echo '{text}' > events/kprobes/e/{file}"));
        assert_eq!((refusal.at, refusal.reason), (6 + column, Reason::Event(EventReason::ArrayField)), "{text}");
        assert_eq!(fixture.all(), before, "{text}");
    }
}

#[test]
fn a_pattern_is_a_glob_as_elsewhere() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read name=+0(%x0):string' > kprobe_events");
    for (pattern, error) in [("sd[a", GlobError::OpenClass(2)), ("sda\\", GlobError::TrailingEscape)] {
        let refusal = fixture.refused(&format!("echo 'name ~ \"{pattern}\"' > events/kprobes/e/filter"));
        assert_eq!((refusal.at, refusal.reason), (13, Reason::Glob(error)), "{pattern}");
    }
}

#[test]
fn events_are_chosen_as_on_linux() {
    let mut fixture = fixture!();
    assert_eq!(fixture.run("cat events/enable"), "?\n");
    for (name, place) in [("a", "disk::read"), ("b", "disk::seek"), ("g/c", "disk::read")] {
        fixture.run(&format!("echo p:{name} {place} >> kprobe_events"));
    }
    for (line, enabled) in [
        ("echo a > set_event", "kprobes:a\n"),
        ("echo kprobes:b >> set_event", "kprobes:a\nkprobes:b\n"),
        ("echo c > set_event", "g:c\n"),
        ("echo 'kprobes:* !a' >> set_event", "kprobes:b\ng:c\n"),
        ("echo !g:* >> set_event", "kprobes:b\n"),
        ("echo > set_event", ""),
        ("echo *:* > set_event", "kprobes:a\nkprobes:b\ng:c\n"),
        ("echo 0 > events/kprobes/enable", "g:c\n"),
        ("echo 1 > events/kprobes/b/enable", "kprobes:b\ng:c\n"),
        ("echo 0 > events/enable", ""),
        ("echo 1 > events/enable", "kprobes:a\nkprobes:b\ng:c\n"),
    ] {
        fixture.run(line);
        assert_eq!(fixture.run("cat set_event"), enabled, "{line}");
        let all = ["?", "1", "0", "X"][usize::from(!enabled.is_empty()) + 2 * usize::from(enabled.lines().count() < 3)];
        let all = if enabled.is_empty() { "0" } else { all };
        assert_eq!(fixture.run("cat events/enable").trim(), all, "{line}");
    }
    fixture.call(0, [0; 2], 0);
    assert_eq!(fixture.recorded(), ["a: (disk::read+0x0/0xc)", "c: (disk::read+0x0/0xc)"]);
    fixture.run("echo 0 > tracing_on");
    fixture.call(0, [0; 2], 0);
    assert_eq!(fixture.recorded(), [""; 0]);
    let before = fixture.all();
    let refusal = fixture.refused("echo a kprobes:nosuch > set_event");
    assert_eq!((refusal.at, refusal.reason), (7, Reason::Event(EventReason::NoSuchEvent)));
    assert_eq!(fixture.all(), before);
    let files: Vec<String> = fixture.run("ls").lines().filter(|file| file.contains("g/c")).map(String::from).collect();
    assert_eq!(files, ["enable", "filter", "format", "hist", "id", "trigger"].map(|file| format!("events/g/c/{file}")));
    assert_eq!(fixture.run("help events/g/c/id"), "events/g/c/id: the number of its records\n");
    assert_eq!(fixture.refused("echo 1 > events/g/c/id").reason, Reason::NotWritable);
    assert_eq!(fixture.refused("cat events/g/a/id").reason, Reason::UnknownFile);
}

#[test]
fn the_form_of_an_event_is_shown() {
    let mut fixture = fixture!();
    fixture.run("echo 'r:e disk::read a=%x0:s16 b=+0(%x0):string c=%x1' > kprobe_events");
    let expected = "\
name: e
ID: 1
format:
\tfield:int common_pid;\tsize:4;\tsigned:1;

\tfield:unsigned long __probe_func;\tsize:8;\tsigned:0;
\tfield:unsigned long __probe_ret_ip;\tsize:8;\tsigned:0;
\tfield:s16 a;\tsize:2;\tsigned:1;
\tfield:__data_loc char[] b;\tsize:8;\tsigned:0;
\tfield:u64 c;\tsize:8;\tsigned:0;

print fmt: \"(%lx <- %lx) a=%Ld b=\\\"%s\\\" c=0x%Lx\", REC->__probe_ret_ip, REC->__probe_func, REC->a, REC->b, REC->c
";
    assert_eq!(fixture.run("cat events/kprobes/e/format"), expected);
    assert_eq!(fixture.run("cat events/kprobes/e/id"), "1\n");
    fixture.run("echo 'p:e disk::read a=+0(%x0):s16[2] b=+0(%x0):string[3] c=%x1' > kprobe_events");
    let format = fixture.run("cat events/kprobes/e/format");
    let expected = "\
\tfield:unsigned long __probe_ip;\tsize:8;\tsigned:0;
\tfield:s16 a[2];\tsize:4;\tsigned:1;
\tfield:__data_loc char[][3] b;\tsize:24;\tsigned:0;
\tfield:u64 c;\tsize:8;\tsigned:0;

print fmt: \"(%lx) a={%Ld,%Ld} b={\\\"%s\\\",\\\"%s\\\",\\\"%s\\\"} c=0x%Lx\", REC->__probe_ip, REC->a[0], REC->a[1], REC->b[0], REC->b[1], \
REC->b[2], REC->c
";
    assert!(format.ends_with(expected), "{format}");
}
