//! What events are, and what they record.

use super::super::definition::{Kind, name_of};
use super::super::fetch::Point;
use super::*;
use crate::module::regions::Regions;

#[test]
fn events_are_defined_listed_and_removed() {
    let mut fixture = fixture!();
    assert_eq!(fixture.run("cat kprobe_events"), "");
    fixture.run("echo 'p:reads disk::read block=$arg1 %x3' > kprobe_events");
    fixture.run("echo 'r:mine/done disk::read $retval:s32' >> kprobe_events");
    fixture.run("echo p <[u8; 4] as Debug>::fmt >> kprobe_events");
    let all = "\
p:kprobes/reads disk::read block=$arg1 arg2=%x3
r:mine/done disk::read arg1=$retval:s32
p:kprobes/p___u8__4__as_Debug___fmt_0 <[u8; 4] as Debug>::fmt
";
    assert_eq!(fixture.run("cat kprobe_events"), all);
    assert_eq!(fixture.run("cat available_events").lines().nth(1), Some("mine:done"));
    // What it lists can be written back.
    fixture.run("echo > kprobe_events");
    assert_eq!(fixture.run("cat kprobe_events"), "");
    all.lines().for_each(|line| drop(fixture.run(&format!("echo '{line}' >> kprobe_events"))));
    assert_eq!(fixture.run("cat kprobe_events"), all);
    let full = Reason::Event(EventReason::TooManyEvents { events: EVENTS });
    assert_eq!(fixture.refused("echo p disk::seek >> kprobe_events").reason, full);
    for removal in ["-:mine/done", "'!p:kprobes/reads disk::read'", "-:p___u8__4__as_Debug___fmt_0"] {
        let before = fixture.run("cat kprobe_events").lines().count();
        fixture.run(&format!("echo {removal} >> kprobe_events"));
        assert_eq!(fixture.run("cat kprobe_events").lines().count(), before - 1, "{removal}");
    }
    // Others go only where a definition takes their place.
    fixture.run("echo p:a disk::read > kprobe_events");
    fixture.run("echo p:b disk::read > kprobe_events");
    assert_eq!(fixture.run("cat kprobe_events"), "p:kprobes/b disk::read\n");
    let address = BASE + 16;
    fixture.run(&format!("echo p {address:#x} >> kprobe_events"));
    assert_eq!(
        fixture.run("cat kprobe_events").lines().last(),
        Some(&*format!("p:kprobes/p_{address:#x}_0 disk::seek"))
    );
}

#[test]
fn events_at_functions_are_of_another_kind() {
    let mut fixture = fixture!();
    let all = "\
f:fprobes/in disk::read arg1=$arg1 name=+0($arg1):string
p:kprobes/mine disk::seek
f:fprobes/disk__read__exit disk::read%return arg1=$retval
";
    all.lines().for_each(|line| drop(fixture.run(&format!("echo '{line}' >> dynamic_events"))));
    assert_eq!(fixture.run("cat dynamic_events"), all);
    assert_eq!(fixture.run("cat kprobe_events"), "p:kprobes/mine disk::seek\n");
    assert_eq!(fixture.run("cat kprobe_profile").lines().count(), 1);
    fixture.run("echo > dynamic_events");
    assert_eq!(fixture.run("cat dynamic_events"), "");
    fixture.run("echo 'f:in disk::read $arg1 name=+0($arg1):string' > dynamic_events");
    fixture.run("echo 'p:mine disk::seek' >> dynamic_events");
    fixture.run("echo 'f7 disk::read%return $retval' >> dynamic_events");
    assert_eq!(fixture.run("cat dynamic_events"), all);
    fixture.run("echo 1 > events/fprobes/enable");
    fixture.call(0, [0x1000, 0], 5);
    let exit = "disk__read__exit: (<[u8; 4] as Debug>::fmt+0x8/0xc <- disk::read) arg1=0x5";
    assert_eq!(fixture.recorded(), ["in: (disk::read+0x0/0xc) arg1=0x1000 name=\"sda1\"", exit]);

    // kprobe_events has its own go only, whether there is memory for one more or not.
    fixture.run("echo p:other disk::read > kprobe_events");
    let others = all.lines().filter(|line| line.starts_with('f'));
    let shown = fixture.run("cat dynamic_events");
    let lines: Vec<&str> = shown.lines().collect();
    assert_eq!(lines[..2], others.collect::<Vec<_>>());
    assert_eq!(lines[2..], ["p:kprobes/other disk::read"]);
    use EventReason as Is;
    for (line, at, reason) in [
        ("echo p:x disk::read >> kprobe_events", 5, Is::TooManyEvents { events: EVENTS }),
        ("echo -:in >> kprobe_events", 7, Is::NoSuchEvent),
        ("echo p:fprobes/in disk::seek > kprobe_events", 5, Is::EventExists),
        ("echo p:fprobes/in disk::seek >> kprobe_events", 5, Is::EventExists),
        ("echo > dynamic_events", 5, Is::EventInUse),
        ("echo f:x disk::seek > dynamic_events", 5, Is::EventInUse),
    ] {
        let before = fixture.run("cat dynamic_events");
        let refusal = fixture.refused(line);
        assert_eq!((refusal.at, refusal.reason), (at, Reason::Event(reason)), "{line}");
        assert_eq!(fixture.run("cat dynamic_events"), before, "{line}");
    }
    fixture.run("echo > kprobe_events");
    assert_eq!(fixture.run("cat dynamic_events").lines().count(), 2);
    fixture.run("echo f:last disk::seek >> dynamic_events");
    for line in ["echo p:x disk::read > kprobe_events", "echo p:x disk::read >> kprobe_events"] {
        let full = Reason::Event(Is::TooManyEvents { events: EVENTS });
        assert_eq!(fixture.refused(line).reason, full, "{line}");
    }
    fixture.run("echo 0 > events/enable");
    fixture.run("echo -:in >> dynamic_events");
    fixture.run("echo '!f:fprobes/last disk::seek' >> dynamic_events");
    assert_eq!(fixture.run("cat dynamic_events").lines().count(), 1);
    fixture.run("echo f <[u8; 4] as Debug>::fmt > dynamic_events");
    assert_eq!(fixture.run("cat dynamic_events"), "f:fprobes/__u8__4__as_Debug___fmt__entry <[u8; 4] as Debug>::fmt\n");
    fixture.run("echo > dynamic_events");
    assert_eq!(fixture.engine.statistics().ops, 0);
}

#[test]
fn what_is_no_event_at_a_function_is_refused_where_it_is_none() {
    let mut fixture = fixture!(|events| {
        // SAFETY: 1. and 2. Nothing executes a fake's text.
        unsafe { events.with_memory(read).anywhere() }
    });
    fixture.run("echo f:there disk::read > dynamic_events");
    use EventReason as Is;
    for (text, column, reason) in [
        ("t disk::read", 0, Is::Kind),
        ("fx disk::read", 0, Is::Kind),
        ("f", 1, Is::NoPlace),
        ("f5 disk::read", 1, Is::MaxActiveOfProbe),
        ("f5000 disk::read%return", 1, Is::MaxActive),
        ("fx disk::read%return", 1, Is::MaxActive),
        ("f:there disk::seek", 0, Is::EventExists),
        ("f disk::reed", 2, Is::BadPlace),
        ("f disk::read+4", 2, Is::FunctionInside),
        ("f disk::read+4%return", 2, Is::ReturnInside),
        ("f untraced", 0, Is::NotAtEntry),
        ("f untraced%return", 0, Is::NotAtEntry),
        ("f disk::read %x0", 13, Is::RegisterOfFunction),
        ("f disk::read a=+0(%sp)", 18, Is::RegisterOfFunction),
        ("f disk::read $retval", 13, Is::ResultOfProbe),
        ("f disk::read%return $arg1", 20, Is::ArgumentNotAtEntry),
    ] {
        let before = fixture.run("cat dynamic_events");
        let refusal = fixture.refused(&format!("echo '{text}' >> dynamic_events"));
        assert_eq!((refusal.at, refusal.reason), (6 + column, Reason::Event(reason)), "{text}");
        assert_eq!(fixture.run("cat dynamic_events"), before, "{text}");
    }
    let refusal = fixture.refused("echo f disk::seek >> kprobe_events");
    assert_eq!((refusal.at, refusal.reason), (5, Reason::Event(Is::Kind)));
}

#[test]
fn a_definition_that_can_not_be_leaves_what_it_should_take_the_place_of() {
    let mut fixture = fixture!();
    for name in ["a", "b", "c"] {
        fixture.run(&format!("echo 'p:{name} disk::read x=%x1' >> kprobe_events"));
        let before = fixture.all();
        for line in ["echo p:new untraced > kprobe_events", "echo p:a untraced > kprobe_events"] {
            assert_eq!(fixture.refused(line).reason, Reason::Event(EventReason::NotAtEntry), "{line}");
            let mut names: Vec<String> = fixture.run("cat kprobe_events").lines().map(String::from).collect();
            names.sort_unstable();
            let mut expected: Vec<&str> = before.lines().filter(|line| line.starts_with("p:")).collect();
            expected.sort_unstable();
            assert_eq!(names, expected, "{line}");
        }
    }
    fixture.run("echo p:a disk::seek > kprobe_events");
    assert_eq!(fixture.run("cat kprobe_events"), "p:kprobes/a disk::seek\n");
    assert!(size_of::<super::super::slot::Slot>() <= 12 * 1024, "{}", size_of::<super::super::slot::Slot>());
}

#[test]
fn a_long_place_gives_an_event_the_end_of_its_name() {
    let place = format!("{}::{}", "a".repeat(70), "<b as C>");
    for (kind, place, point, name) in [
        (Kind::Kprobe, format!("{place}+0x24"), Point::Inside, format!("p_{}___b_as_C__0x24", "a".repeat(47))),
        (Kind::Kprobe, "f%return".to_string(), Point::Return, "r_f_0".to_string()),
        (Kind::Fprobe, format!("{place}%return"), Point::Return, format!("{}___b_as_C___exit", "a".repeat(48))),
        (Kind::Fprobe, "a::f".to_string(), Point::Entry, "a__f__entry".to_string()),
        (Kind::Fprobe, "0x12".to_string(), Point::Entry, "_0x12__entry".to_string()),
    ] {
        assert_eq!(*name_of(kind, &place, point), *name, "{place}");
    }
}

#[test]
fn what_is_no_definition_is_refused_where_it_is_none() {
    let mut fixture = fixture!();
    fixture.run("echo p:there disk::read > kprobe_events");
    fixture.run("echo 1 > events/kprobes/there/enable");
    use EventReason as Is;
    let long = "x".repeat(65);
    for (text, column, reason) in [
        ("q disk::read", 0, Is::Kind),
        ("rx disk::read", 1, Is::MaxActive),
        ("r5000 disk::read", 1, Is::MaxActive),
        ("p5 disk::read", 1, Is::MaxActiveOfProbe),
        ("px disk::read", 0, Is::Kind),
        ("p", 1, Is::NoPlace),
        ("p: disk::read", 2, Is::NoEventName),
        ("p:/a disk::read", 2, Is::NoGroupName),
        ("p:1g/a disk::read", 2, Is::BadGroupName),
        (&format!("p:{}/a disk::read", &long[..33]), 2, Is::GroupTooLong),
        ("p:g/a-b disk::read", 4, Is::BadEventName),
        (&format!("p:{long} disk::read"), 2, Is::NameTooLong),
        ("p:there disk::seek", 0, Is::EventExists),
        ("-:nosuch", 2, Is::NoSuchEvent),
        ("-:mine/there", 7, Is::NoSuchEvent),
        ("-:", 2, Is::NoEventName),
        ("-:there", 2, Is::EventInUse),
        ("p disk::reed", 2, Is::BadPlace),
        ("p 0x123", 2, Is::BadPlace),
        ("p twice", 2, Is::NotUnique),
        ("p disk::read+x", 12, Is::BadOffset),
        ("p disk::read+12", 2, Is::BeyondFunction { bytes: 12 }),
        ("r disk::read+8", 2, Is::ReturnInside),
        ("p disk::read+8%return", 2, Is::ReturnInside),
        ("p disk::read+8", 0, Is::NotAtEntry),
        ("p untraced", 0, Is::NotAtEntry),
        ("p disk::read =%x0", 13, Is::NoFieldName),
        ("p disk::read a-b=%x0", 13, Is::BadFieldName),
        ("p disk::read a=", 15, Is::NoFetch),
        ("p disk::read a=%x0 a=%x1", 19, Is::FieldExists),
        ("p disk::read __probe_ip=%x0", 13, Is::FieldExists),
        ("p disk::read x0", 13, Is::BadFetch),
        ("p disk::read a=%x31", 15, Is::BadRegister),
        ("p disk::read a=%r0", 15, Is::BadRegister),
        ("r disk::read a=%x9", 15, Is::NotAtReturn),
        ("r disk::read $stack", 13, Is::NotAtReturn),
        ("p disk::read $arg9", 13, Is::BadVariable),
        ("p disk::read $com", 13, Is::BadVariable),
        ("p disk::read $comm:u8", 13, Is::CommIsString),
        ("p disk::read +0($comm)", 13, Is::CommIsString),
        ("p disk::read a=+0($comm):string", 15, Is::CommIsString),
        ("p disk::read $stackx", 13, Is::BadVariable),
        ("r disk::read $arg1", 13, Is::ArgumentNotAtEntry),
        ("p disk::read $retval", 13, Is::ResultOfProbe),
        ("p disk::read @0x", 13, Is::BadNumber),
        ("p disk::read @nosuch", 13, Is::BadPlace),
        ("p disk::read \\\\x", 13, Is::BadNumber),
        ("p disk::read +8", 13, Is::NoBracket),
        ("p disk::read +x(%x0)", 13, Is::BadNumber),
        ("p disk::read +8(%x0", 19, Is::OpenBracket),
        ("p disk::read +u8(%x0)", 13, Is::UserMemory),
        ("p disk::read +0(+0(+0(+0(+0(%x0)))))", 25, Is::TooDeep),
        ("p disk::read %x0:u7", 17, Is::BadType),
        ("p disk::read %x0:ustring", 17, Is::UserMemory),
        ("p disk::read %x0:u8[4]", 13, Is::ArrayNotInMemory),
        ("p disk::read a=$stack:string[2]", 15, Is::ArrayNotInMemory),
        ("p disk::read +0(%x0):u8[0]", 24, Is::BadElements),
        ("p disk::read +0(%x0):u8[65]", 24, Is::BadElements),
        ("p disk::read +0(%x0):u8[]", 24, Is::BadElements),
        ("p disk::read +0(%x0):u8[x]", 24, Is::BadElements),
        ("p disk::read +0(%x0):u8[4", 25, Is::OpenBracket),
        ("p disk::read +0(%x0):u8[4]x", 26, Is::BehindArray),
        ("p disk::read +0(%x0):u7[4]", 21, Is::BadType),
        ("p disk::read +0(%x0):u8[2][2]", 26, Is::BehindArray),
        ("p disk::read +0(%x0):ustring[2]", 21, Is::UserMemory),
        ("p disk::read $comm:string[2]", 13, Is::CommIsString),
        ("p disk::read %x1 +0(%x0):string[8]", 17, Is::FieldsTooLong),
        ("p disk::read +0(%x0):x64[64] +0(%x0):string", 29, Is::FieldsTooLong),
        ("p disk::read %x0:string", 13, Is::StringNotInMemory),
        ("p disk::read %x0:b9@0/8", 17, Is::BadBits),
        ("p disk::read %x0 %x1 %x2 %x3 %x4 %x5 %x6 %x7 %x0", 45, Is::TooManyFields),
    ] {
        let before = fixture.all();
        let text = text.replace("\\\\", "\\");
        let refusal = fixture.refused(&format!("echo '{text}' >> kprobe_events"));
        assert_eq!((refusal.at, refusal.reason), (6 + column, Reason::Event(reason)), "{text}");
        assert_eq!(fixture.all(), before, "{text}");
    }
    assert_eq!(fixture.refused("echo > kprobe_events").reason, Reason::Event(Is::EventInUse));
    let mut without = fixture!(|events| events);
    for argument in ["+0(%x0)", "@0x1000", "$stack1", "+0(%x0):string", "@0x1000:u8[4]"] {
        let refusal = without.refused(&format!("echo p disk::read {argument} > kprobe_events"));
        assert_eq!((refusal.at, refusal.reason), (18, Reason::Event(Is::NoMemory)), "{argument}");
    }
    let refusal = without.refused("echo p disk::read name=$comm > kprobe_events");
    assert_eq!((refusal.at, refusal.reason), (23, Reason::Event(Is::NoTaskNames)));
}

#[test]
fn an_event_is_recorded_with_its_fields() {
    let mut fixture = fixture!();
    for (arguments, shown) in [
        ("", ""),
        ("block=$arg1 $arg2 %x3", " block=0x1000 arg2=0xfe arg3=0x103"),
        ("%x0:u64 %x1:s8 %x1:u8 %x1:x8 %x0:u8", " arg1=4096 arg2=-2 arg3=254 arg4=0xfe arg5=0"),
        ("%x30 %lr %x29 %sp:u8", " arg1=0x11e arg2=0x11e arg3=0x11d arg4=..."),
        ("%x19 %pstate $arg1", " arg1=0x113 arg2=0x5 arg3=0x1000"),
        ("%x20", " arg1=0x114"),
        ("%x9", " arg1=0x109"),
        ("%x28 %x8", " arg1=0x11c arg2=0x108"),
        ("+8(%x0) -8(%x0) @0x1010:s32", " arg1=0x1000 arg2=(fault) arg3=-2"),
        ("+0(+8(%x0)):string +0(%x0):string", " arg1=\"sda1\" arg2=\"sda1\""),
        ("+0(%x1):string +1(%x0):char", " arg1=(fault) arg2='d'"),
        ("+32(%x0):string", " arg1=\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\""),
        ("+90(%x0):string", " arg1=\"xxxxxx\""),
        ("+56(%x0):string", " arg1=\"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\""),
        ("+4(%x0):string", " arg1=\"\""),
        ("+6(%x0):string", " arg1=\"??\""),
        ("\\5 \\-1:s64 \\0xff:u8", " arg1=0x5 arg2=-1 arg3=255"),
        ("%x1:b4@4/8 %x1:b4@0/8 %x1:b1@0/32", " arg1=15 arg2=14 arg3=0"),
        ("\\0xffff800080000014:symbol @disk::seek:u32", " arg1=disk::seek+0x4/0xc arg2=(fault)"),
        ("a=@0x1018 b=@0x1010:x16 c=@0x1014:u32", " a=0x10 b=0xfffe c=32769"),
    ] {
        fixture.run(&format!("echo 'p:e disk::read {arguments}' > kprobe_events"));
        fixture.call(0, [0x1000, 0xfe], 0);
        assert_eq!(fixture.recorded(), [""; 0], "{arguments}: it is not enabled");
        fixture.run("echo 1 > events/kprobes/e/enable");
        // All registers are saved, which takes longer, where one is asked for that is not saved anyway.
        let asks = arguments.split(' ').any(|argument| ["%x9", "%x19", "%x20", "%x28", "%pstate"].contains(&argument));
        let enabled = if asks { "disk::read (1) R\n" } else { "disk::read (1)\n" };
        assert_eq!(fixture.run("cat enabled_functions"), enabled, "{arguments}");
        fixture.call(1, [0x1000, 0xfe], 0);
        fixture.call(0, [0x1000, 0xfe], 0);
        let expected = format!("e: (disk::read+0x0/0xc){shown}");
        let recorded = fixture.recorded();
        let [line] = &recorded[..] else { panic!("{arguments}: {recorded:?}") };
        match expected.split_once("...") {
            Some((begin, _)) => assert!(line.starts_with(begin), "{arguments}: {line}"),
            None => assert_eq!(*line, expected, "{arguments}"),
        }
        fixture.run("echo 0 > events/kprobes/e/enable");
        fixture.call(0, [0x1000, 0xfe], 0);
        assert_eq!(fixture.recorded(), [""; 0], "{arguments}: it is enabled no more");
        assert_eq!(fixture.engine.statistics().ops, 0);
    }
    fixture.run("echo > kprobe_events");
    assert_eq!(fixture.engine.check_text().wrong, 0);
}

/// Each of them by itself, as far as it can be read.
#[test]
fn an_array_is_recorded_with_its_elements() {
    let mut fixture = fixture!();
    let listed = |elements: &mut dyn Iterator<Item = String>| elements.collect::<Vec<_>>().join(",");
    let bytes = listed(&mut MEMORY.iter().take(64).map(u8::to_string));
    let words = listed(&mut (0..64).map(|n| match MEMORY.get(n * 8..n * 8 + 8) {
        Some(word) => format!("{:#x}", u64::from_le_bytes(word.try_into().unwrap())),
        None => "(fault)".to_string(),
    }));
    for (arguments, shown) in [
        ("+0(%x0):x8[4]", "arg1={0x73,0x64,0x61,0x31}"),
        ("+0(%x0):x32[1] b=+0(%x0):x32", "arg1={0x31616473} b=0x31616473"),
        (
            "+16(%x0):s16[3] @0x1010:u32[2] c=+0(%x0):char[3]",
            "arg1={-2,-1,-32767} arg2={4294967294,32769} c={'s','d','a'}",
        ),
        ("+16(%x0):b4@4/8[2] +8(%x0):symbol[1]", "arg1={15,15} arg2={0x1000}"),
        ("+88(%x0):x64[2] after=%x1", "arg1={0x7878787878787878,(fault)} after=0xfe"),
        ("+90(%x0):x32[3]", "arg1={0x78787878,(fault),(fault)}"),
        ("+92(%x0):u8[9]", "arg1={120,120,120,120,(fault),(fault),(fault),(fault),(fault)}"),
        ("-4(%x0):x16[6]", "arg1={(fault),(fault),0x6473,0x3161,0xff00,0xffff}"),
        ("+0(%x1):x8[2]", "arg1={(fault),(fault)}"),
        ("+0(+0(%x1)):x8[2] after=%x1", "arg1=(fault) after=0xfe"),
        ("+8(%x0):string[3] after=$comm", "arg1={\"sda1\",(fault),(fault)} after=\"main\""),
        ("+8(%x0):string[1] +0(+8(%x0)):string", "arg1={\"sda1\"} arg2=\"sda1\""),
        ("+0(+0(%x1)):string[2] +88(%x0):string[2]", "arg1=(fault) arg2={(fault),(fault)}"),
        ("+8(%x0):string[8]", "arg1={\"sda1\",(fault),(fault),(fault),(fault),(fault),(fault),(fault)}"),
        ("+0(%x0):u8[64] after=%x1", &format!("arg1={{{bytes}}} after=0xfe")),
        (
            "+0(%x0):x64[64] %x1 %x1 %x1 %x1 %x1 %x1 after=%x1",
            &format!("arg1={{{words}}} arg2=0xfe arg3=0xfe arg4=0xfe arg5=0xfe arg6=0xfe arg7=0xfe after=0xfe"),
        ),
    ] {
        fixture.run(&format!("echo 'p:e disk::read {arguments}' > kprobe_events"));
        assert!(fixture.run("cat kprobe_events").contains(arguments.split(' ').next().unwrap()), "{arguments}");
        fixture.run("echo 1 > events/kprobes/e/enable");
        fixture.call(0, [0x1000, 0xfe], 0);
        assert_eq!(fixture.recorded(), [format!("e: (disk::read+0x0/0xc) {shown}")], "{arguments}");
        fixture.run("echo 0 > events/kprobes/e/enable");
    }
    // At a return too.
    fixture.run("echo 'r:e disk::read $retval +16($retval):x8[2]' > kprobe_events");
    fixture.run("echo 1 > events/kprobes/e/enable");
    fixture.call(0, [0; 2], 0x1000);
    let at = "e: (<[u8; 4] as Debug>::fmt+0x8/0xc <- disk::read)";
    assert_eq!(fixture.recorded(), [format!("{at} arg1=0x1000 arg2={{0xfe,0xff}}")]);
    fixture.run("echo 0 > events/enable");
}

#[test]
fn a_return_is_recorded_with_its_result_and_where_it_goes() {
    let mut fixture = fixture!();
    fixture.run("echo 'r:e disk::read $retval:s64 rest=%x7 name=+0(%x0):string' > kprobe_events");
    fixture.run("echo 1 > events/kprobes/e/enable");
    fixture.call(1, [0; 2], 0);
    fixture.call(0, [0; 2], u64::MAX);
    fixture.call(0, [0; 2], 0x1000);
    assert_eq!(
        fixture.recorded(),
        [
            "e: (<[u8; 4] as Debug>::fmt+0x8/0xc <- disk::read) arg1=-1 rest=0x8 name=(fault)",
            "e: (<[u8; 4] as Debug>::fmt+0x8/0xc <- disk::read) arg1=4096 rest=0x8 name=\"sda1\"",
        ]
    );
    fixture.run("echo 0 > events/enable");
    assert_eq!(fixture.engine.statistics().ops, 0);
}

#[test]
fn an_event_has_the_name_of_its_task() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0 name=$comm file=+0(%x0):string $COMM:string' > kprobe_events");
    fixture.run("echo 'r:back disk::seek $comm $retval' >> kprobe_events");
    fixture.run("echo 1 > events/enable");
    let cut = "a name that has more bytes than a string that is fetched, which ";
    for (task, shown) in [(7, "\"main\""), (8, "\"disk reader\""), (9, &*format!("\"{cut}\"")), (10, "(fault)")] {
        fixture.task.store(task, Ordering::Relaxed);
        fixture.call(0, [0x1000, 0], 0);
        fixture.call(1, [0; 2], 5);
        let at = format!("e: (disk::read+0x0/0xc) a=0x1000 name={shown} file=\"sda1\" arg4={shown}");
        let back = format!("back: (<[u8; 4] as Debug>::fmt+0x8/0xc <- disk::seek) arg1={shown} arg2=0x5");
        assert_eq!(fixture.recorded(), [at, back], "{task}");
    }
    let format = fixture.run("cat events/kprobes/e/format");
    assert!(format.contains("\tfield:__data_loc char[] name;\tsize:8;\tsigned:0;\n"), "{format}");
    fixture.run("echo 0 > events/enable");
}

#[test]
fn an_event_inside_a_function_is_where_the_kernel_allows_it() {
    let mut fixture = fixture!(|events| {
        // SAFETY: 1. and 2. Nothing executes a fake's text.
        unsafe { events.with_memory(read).anywhere() }
    });
    let before = fixture.kernel.snapshot();
    let at = fixture.engine.function_named("untraced").unwrap().get() + 4;
    fixture.run("echo 'p:in untraced+4 %x9 %sp %pc' > kprobe_events");
    fixture.run("echo 'p:first untraced' >> kprobe_events");
    assert_eq!(fixture.run("cat kprobe_events").lines().last(), Some("p:kprobes/first untraced"));
    assert!(fixture.run("cat kprobe_events").starts_with("p:kprobes/in untraced+0x4 arg1=%x9"));
    for (text, reason) in
        [("p untraced+2", "There can be no probe"), (&*format!("p {:#x}", at + 3), "There can be no probe")]
    {
        let refusal = fixture.refused(&format!("echo {text} >> kprobe_events"));
        assert!(refusal.to_string().starts_with(reason), "{text}: {refusal}");
    }
    assert_eq!(fixture.kernel.snapshot(), before, "none is enabled");
    fixture.run("echo 1 > events/kprobes/in/enable");
    let hit = |times| {
        for _ in 0..times {
            let mut regs = PtRegs { pc: at, ..regs(0, 0) };
            let comment = fixture.kernel.word(TextAddr::new(at)) >> 5 & 0xffff;
            assert_eq!(fixture.kprobes.handle_brk(&mut regs, comment as u16), Handled::Yes);
        }
    };
    hit(2);
    let expected = format!("in: (untraced+0x4/0x10) arg1=0x109 arg2=0x1008 arg3={at:#x}");
    assert_eq!(fixture.recorded(), [expected.clone(), expected]);
    let profile = fixture.run("cat kprobe_profile");
    let words: Vec<Vec<&str>> = profile.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words, [["in", "2", "0"], ["first", "0", "0"]]);
    fixture.run("echo 0 > events/kprobes/in/enable");
    fixture.run("echo > kprobe_events");
    assert_eq!(fixture.kernel.snapshot(), before);
    assert_eq!(fixture.kprobes.instructions().count(), 0);
}

#[test]
fn a_profile_counts_from_the_definition_on() {
    let mut fixture = fixture!();
    for kind in ["p", "r"] {
        for calls in [3, 1] {
            fixture.run(&format!("echo {kind}:e disk::read > kprobe_events"));
            fixture.run("echo 1 > events/kprobes/enable");
            (0..calls).for_each(|_| fixture.call(0, [0; 2], 0));
            let profile = fixture.run("cat kprobe_profile");
            assert_eq!(profile.split_whitespace().collect::<Vec<_>>(), ["e", &calls.to_string(), "0"], "{kind}");
            fixture.run("echo 0 > events/kprobes/enable");
        }
    }
}

/// No probe is left behind that would call a handler of the next event in the slot.
#[test]
fn an_event_whose_probe_failed_can_be_removed_or_enabled_again() {
    for (kind, mut fixture) in [("p", fixture!()), ("r", fixture!())] {
        let mut left = 0;
        for fault in (0..8).map(Fault::AliasesFrom).chain([Fault::Busy(1), Fault::Cpu(1), Fault::Batch]) {
            for goes_at_once in [true, false] {
                fixture.run(&format!("echo {kind}:e disk::read > kprobe_events"));
                fixture.kernel.set_fault(Some(fault));
                let enabled = fixture.control.execute("echo 1 > events/kprobes/e/enable", &mut String::new());
                fixture.kernel.set_fault(None);
                left += usize::from(enabled.is_err() && fixture.engine.statistics().ops > 0);
                if !goes_at_once || enabled.is_ok() {
                    fixture.run("echo 1 > events/kprobes/e/enable");
                    fixture.call(0, [0; 2], 0);
                    assert_eq!(fixture.recorded().len(), 1, "{kind} {fault:?}");
                    // What is waited for in vain is waited for when it goes.
                    fixture.kernel.set_fault(Some(Fault::Busy(1)));
                    fixture.run("echo 0 > events/kprobes/e/enable");
                    fixture.kernel.set_fault(None);
                }
                fixture.run("echo -:e >> kprobe_events");
                assert_eq!(fixture.engine.statistics().ops, 0, "{kind} {fault:?}");
                assert_eq!(fixture.engine.check_text().enabled, 0, "{kind} {fault:?}");
            }
        }
        assert!(left > 0, "the faults are no such faults");
    }
}

#[test]
fn events_that_can_not_all_go_stay_as_they_were() {
    let mut fixture = fixture!(|events| {
        // SAFETY: 1. and 2. Nothing executes a fake's text.
        unsafe { events.with_memory(read).anywhere() }
    });
    let at = fixture.engine.function_named("untraced").unwrap().get() + 4;
    fixture.run("echo 'p:a disk::read x=%x1' > kprobe_events");
    fixture.run("echo 'p:in untraced+4' >> kprobe_events");
    fixture.run("echo 'x > 1' > events/kprobes/a/filter");
    for line in ["echo > kprobe_events", "echo 'p:b disk::seek' > kprobe_events"] {
        let before = fixture.all();
        fixture.kernel.set_fault(Some(Fault::Busy(1)));
        fixture.refused(line);
        fixture.kernel.set_fault(None);
        assert_eq!(fixture.all(), before, "{line}");
        // The one that could not go has its probe yet.
        fixture.run("echo 1 > events/kprobes/in/enable");
        assert_ne!(fixture.kernel.word(TextAddr::new(at)), 0xaa00_03e0, "{line}");
        fixture.run("echo 0 > events/kprobes/in/enable");
    }
    // Also where the new one needs the memory of one of them.
    fixture.run("echo 'r:c disk::read' >> kprobe_events");
    let before = fixture.all();
    fixture.kernel.set_fault(Some(Fault::Busy(1)));
    fixture.refused("echo 'p:b disk::seek' > kprobe_events");
    fixture.kernel.set_fault(None);
    fixture.refused("echo 'p:b untraced+2' > kprobe_events");
    assert_eq!(fixture.all(), before);
    fixture.run("echo 1 > events/kprobes/a/enable");
    fixture.call(0, [0, 1], 0);
    fixture.call(0, [0, 2], 0);
    assert_eq!(fixture.recorded(), ["a: (disk::read+0x0/0xc) x=0x2"]);
    fixture.run("echo 0 > events/enable");
    fixture.run("echo 'p:b disk::seek' > kprobe_events");
    assert_eq!(fixture.run("cat kprobe_events"), "p:kprobes/b disk::seek\n");
    assert_eq!(fixture.kprobes.instructions().count(), 0);
}

#[test]
fn an_event_is_at_a_function_of_a_module() {
    let mut fixture = fixture!();
    for place in ["module:disk::format", "module:disk::read"] {
        let refusal = fixture.refused(&format!("echo p {place} >> kprobe_events"));
        assert_eq!((refusal.at, refusal.reason), (7, Reason::Event(EventReason::BadPlace)), "{place}");
    }
    // SAFETY: nothing executes a fake's text, and its modules' texts are there for ever.
    unsafe { fixture.engine.add(fixture.kernel.module(0)) }.unwrap();
    let refusal = fixture.refused("echo p disk::read >> kprobe_events");
    assert_eq!(refusal.reason, Reason::Event(EventReason::NotUnique));
    assert_eq!(
        fixture.refused("echo p nosuch:disk::read >> kprobe_events").reason,
        Reason::Event(EventReason::BadPlace)
    );
    fixture.run("echo 'p:a module:disk::read' >> kprobe_events");
    fixture.run("echo 'r module:disk::format $retval' >> kprobe_events");
    let listed = fixture.run("cat kprobe_events");
    let expected = "\
p:kprobes/a module:disk::read
r:kprobes/r_module_disk__format_0 module:disk::format arg1=$retval
";
    assert_eq!(listed, expected);
    // What it lists can be written back, though the kernel has such a function too.
    fixture.run("echo > kprobe_events");
    listed.lines().for_each(|line| drop(fixture.run(&format!("echo '{line}' >> kprobe_events"))));
    assert_eq!(fixture.run("cat kprobe_events"), listed);
    fixture.run("echo 1 > events/kprobes/a/enable");
    assert_eq!(fixture.run("cat enabled_functions"), "disk::read [module] (1)\n");
    assert!(!fixture.ops_at(MODULE).is_empty());
    fixture.run("echo 0 > events/kprobes/a/enable");
}

#[test]
fn the_files_of_events_are_listed_with_what_they_are_for() {
    let mut fixture = fixture!();
    fixture.run("echo p:a disk::read > kprobe_events");
    fixture.run("echo p:mine/b disk::read >> kprobe_events");
    fixture.run("echo p:c disk::read >> kprobe_events");
    let (listed, help) = (fixture.run("ls"), fixture.run("help"));
    let of_events: Vec<&str> =
        listed.lines().filter(|file| file.starts_with("events/") && *file != "events/enable").collect();
    assert_eq!(of_events.len(), 3 * 6 + 2, "{listed}");
    for group in ["kprobes", "mine"] {
        let file = format!("events/{group}/enable");
        assert_eq!(of_events.iter().filter(|listed| **listed == file).count(), 1, "{listed}");
    }
    for file in of_events {
        let told = fixture.run(&format!("help {file}"));
        assert!(told.starts_with(&format!("{file}: ")) && help.contains(&told), "{file}: {told}");
    }
}
