//! Events as lines define them, on simulated text.

extern crate std;

use super::reason::EventReason;
use super::store::Events;
use crate::address::{TextAddr, TextRange};
use crate::context::TraceContext;
use crate::context::regs::PtRegs;
use crate::context::shadow::HookedCall;
use crate::control::{Control, HistMemory, Histogram, Reason, Refusal, Tracing};
use crate::engine::Engine;
use crate::fakes::{COMPILED, FakeKernel, FakeRegs, FakeText};
use crate::inject::{Injectable, Injection};
use crate::kprobe::{Handled, Kprobes};
use crate::ops::{Action, Ops, leave, thread};
use crate::tracer::kernel::{RecordTo, StoreIn};
use crate::tracer::profiler::{Profile, ProfileSlot};
use crate::tracer::ring::{Mode, Ring, RingBlock};
use core::sync::atomic::Ordering;
use std::boxed::Box;
use std::format;
use std::string::{String, ToString};
use std::vec::Vec;

/// How many events there can be.
const EVENTS: usize = 3;
const BASE: u64 = 0xffff_8000_8000_0000;
const FUNCTIONS: [&str; 4] = ["disk::read", "disk::seek", "<[u8; 4] as Debug>::fmt", "twice"];

/// What events can read: from 0x1000 on.
const MEMORY: [u8; 96] = {
    let mut memory = [b'x'; 96];
    let (name, at) = (b"sda1\0", 0x10_u64.to_le_bytes());
    let mut n = 0;
    while n < 8 {
        // A string, a pointer to it, a number.
        memory[n] = if n < name.len() { name[n] } else { 0xff };
        memory[8 + n] = [0x00, 0x10, 0, 0, 0, 0, 0, 0][n];
        memory[16 + n] = [0xfe, 0xff, 0xff, 0xff, 0x01, 0x80, 0, 0][n];
        memory[24 + n] = at[n];
        n += 1;
    }
    memory
};

pub(super) fn read(address: u64, bytes: &mut [u8]) -> bool {
    let from = address.wrapping_sub(0x1000) as usize;
    let found = from.checked_add(bytes.len()).and_then(|end| MEMORY.get(from..end));
    found.inspect(|found| bytes.copy_from_slice(found)).is_some()
}

/// A kernel with one CPU, its events and its control interface.
struct Fixture {
    kernel: &'static FakeKernel,
    engine: &'static Engine,
    kprobes: &'static Kprobes<4>,
    context: &'static TraceContext,
    control: Control<1>,
}

macro_rules! fixture {
    ($with:expr) => {{
        static MEMORY: [RingBlock; 2] = [const { RingBlock::new() }; 2];
        static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
        static SLOTS: [ProfileSlot; 4] = [const { ProfileSlot::new() }; 4];
        static PROFILE: Profile = Profile::new(&SLOTS);
        static TRACING: Tracing<Kernel> = Tracing::new();
        static STORE: spin::Once<Events<Kernel, EVENTS>> = spin::Once::new();
        struct Kernel;
        impl RecordTo for Kernel {
            fn ring() -> &'static Ring {
                &RING
            }
            fn task() -> u32 {
                7
            }
        }
        impl StoreIn<Profile> for Kernel {
            fn store() -> &'static Profile {
                &PROFILE
            }
        }
        impl StoreIn<Tracing<Self>> for Kernel {
            fn store() -> &'static Tracing<Self> {
                &TRACING
            }
        }
        impl StoreIn<Events<Self, EVENTS>> for Kernel {
            fn store() -> &'static Events<Self, EVENTS> {
                STORE.wait()
            }
        }
        let (kernel, engine, kprobes, context) = machine();
        let with: fn(Events<Kernel, EVENTS>) -> Events<Kernel, EVENTS> = $with;
        let events = STORE.call_once(|| with(Events::new(kprobes)));
        let control = Control::new(engine, TRACING.parts(), [&RING], || 1_000_000_000).with_events(events.parts());
        Fixture { kernel, engine, kprobes, context, control }
    }};
    () => {{
        static HISTS: [HistMemory<128>; 2] = [const { HistMemory::new() }; 2];
        static HISTOGRAMS: [Histogram; 2] = [Histogram::new(&HISTS[0]), Histogram::new(&HISTS[1])];
        fixture!(|events| events.with_memory(read).with_histograms(&HISTOGRAMS))
    }};
}

fn machine() -> (&'static FakeKernel, &'static Engine, &'static Kprobes<4>, &'static TraceContext) {
    let mut text = FakeText::new(BASE);
    for name in FUNCTIONS {
        text.function(name, COMPILED);
    }
    text.function("twice", COMPILED);
    // MOV X0, X0, thrice; RET
    let at = text.words(&[0xaa00_03e0, 0xaa00_03e0, 0xaa00_03e0, 0xd65f_03c0]);
    text.symbol("untraced", at, 16);
    text.words(&[0; 4]);
    let kernel = text.build();
    let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
    let context = thread();
    kernel.set_context(context);
    kernel.set_brk_range(Some(TextRange::new(TextAddr::new(0x1000), TextAddr::new(0x2000))));
    // SAFETY: nothing executes a fake's text.
    unsafe { engine.init(kernel.image()) }.unwrap();
    (kernel, engine, Box::leak(Box::new(Kprobes::new(engine))), context)
}

/// Registers of which each is 0x100 and its number, but for x0 and x1.
fn regs(x0: u64, x1: u64) -> PtRegs {
    let mut regs = PtRegs { regs: core::array::from_fn(|n| 0x100 + n as u64), sp: 0x1008, pc: BASE + 8, pstate: 5 };
    (regs.regs[0], regs.regs[1]) = (x0, x1);
    regs
}

impl Fixture {
    fn run(&mut self, line: &str) -> String {
        let mut out = String::new();
        let done = self.control.execute(line, &mut out);
        assert_eq!(done, Ok(()), "{line}: {out}");
        out
    }

    fn refused(&mut self, line: &str) -> Refusal {
        self.control.execute(line, &mut String::new()).unwrap_err()
    }

    /// The ops at the entry of a function.
    fn ops_at(&self, function: u64) -> Vec<&'static Ops> {
        let mut here = Vec::new();
        self.engine.for_each_callsite(|status| {
            if status.callsite.function().get() == function {
                here.extend(status.ops().map(core::ptr::from_ref));
            }
        });
        self.engine.all_ops().into_iter().filter(|ops| here.contains(&core::ptr::from_ref(*ops))).collect()
    }

    /// The function of this number is called with these in x0 and x1, and returns `result`.
    fn call(&self, number: u64, [x0, x1]: [u64; 2], result: u64) {
        let (function, parent) = (BASE + number * 16, BASE + 0x28);
        let mut hooked = Vec::new();
        for ops in self.ops_at(function) {
            if matches!(ops.action(), Action::Return) {
                let hook = ops.hook.load(Ordering::Relaxed);
                let call = HookedCall { return_address: parent, function: function + 8, sp: 0x9000, hook };
                assert!(self.context.calls.push(call).is_some());
                hooked.push(ops);
                continue;
            }
            let mut saved = FakeRegs::new(&regs(x0, x1));
            if ops.flags().contains(crate::ops::OpsFlags::SAVE_REGS) {
                saved = saved.with_all_saved();
            }
            (ops.callback)(TextAddr::new(function + 4), TextAddr::new(parent), ops, saved.view());
        }
        for ops in hooked.into_iter().rev() {
            leave(self.context, ops, [result, 2, 3, 4, 5, 6, 7, 8]);
        }
    }

    /// What was recorded since this was asked for last, without what stands in front.
    fn recorded(&mut self) -> Vec<String> {
        let shown = self.run("cat trace_pipe");
        shown.lines().map(|line| line.split_once(": ").map_or(line, |(_, event)| event).to_string()).collect()
    }

    /// All that a line can change.
    fn all(&mut self) -> String {
        let files = ["kprobe_events", "set_event", "trace", "kprobe_profile", "events/enable"];
        let mut all = files.map(|file| self.run(&format!("cat {file}"))).concat();
        for file in self.run("ls").lines().filter(|file| file.contains("/kprobes/")) {
            all += &self.run(&format!("cat {file}"));
        }
        all
    }
}

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
    assert!(size_of::<super::slot::Slot>() <= 12 * 1024, "{}", size_of::<super::slot::Slot>());
}

#[test]
fn a_long_place_gives_an_event_the_end_of_its_name() {
    let place = format!("{}::{}", "a".repeat(70), "<b as C>");
    let name = super::definition::name_of(&format!("{place}+0x24"), super::fetch::Point::Inside);
    assert_eq!(&*name, format!("p_{}___b_as_C__0x24", "a".repeat(47)));
    assert_eq!(&*super::definition::name_of("f%return", super::fetch::Point::Return), "r_f_0");
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
        ("p disk::read $comm", 13, Is::BadVariable),
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
        ("p disk::read %x0:u8[4]", 17, Is::NoArrays),
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
    for argument in ["+0(%x0)", "@0x1000", "$stack1", "+0(%x0):string"] {
        let refusal = without.refused(&format!("echo p disk::read {argument} > kprobe_events"));
        assert_eq!((refusal.at, refusal.reason), (18, Reason::Event(Is::NoMemory)), "{argument}");
    }
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
}

#[test]
fn a_trigger_switches_the_trace_as_often_as_it_says() {
    let mut fixture = fixture!();
    fixture.run("echo 'p:e disk::read a=%x0' > kprobe_events");
    fixture.run("echo p:off disk::seek >> kprobe_events");
    assert!(fixture.run("cat events/kprobes/off/trigger").starts_with("# Available triggers:\n"));
    fixture.run("echo traceoff:1 > events/kprobes/off/trigger");
    assert_eq!(fixture.run("cat events/kprobes/off/trigger"), "traceoff:count=1\n");
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
fn a_stack_is_followed_as_far_as_it_leads_up() {
    use super::fetch::{Point, Registers};
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
        let count = super::stack::fill(&mut frames[..length], &At, point, [0x55, 0x66], Some(records));
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

#[test]
fn functions_fail_as_lines_say() {
    static INJECTION: Injection = Injection::new();
    let mut fixture = fixture!();
    for file in ["inject", "injectable", "probability", "interval", "times", "space", "task-filter"] {
        assert_eq!(fixture.refused(&format!("cat fail_function/{file}")).reason, Reason::NothingFails, "{file}");
    }
    let site = |number: u64, name| {
        let function = core::ptr::without_provenance((BASE + number * 16) as usize);
        // SAFETY: 1. and 2. nothing executes a fake's text.
        unsafe { Injectable::new(name, function, function) }
    };
    let sites = Box::leak(Box::new([site(0, FUNCTIONS[0]), site(1, FUNCTIONS[1]), site(9, "gone")]));
    fixture.control = fixture.control.with_injection(&INJECTION, sites);
    assert_eq!(fixture.run("cat fail_function/injectable"), "disk::read\ndisk::seek\ngone\n");
    for (line, failing) in [
        ("echo disk::seek > fail_function/inject", "disk::seek\n"),
        ("echo disk::read >> fail_function/inject", "disk::seek\ndisk::read\n"),
        ("echo '!disk::seek' > fail_function/inject", "disk::read\n"),
        ("echo > fail_function/inject", ""),
        ("echo disk::read disk::seek > fail_function/inject", "disk::read\ndisk::seek\n"),
        ("echo disk::read > fail_function/inject", "disk::read\n"),
    ] {
        fixture.run(line);
        assert_eq!(fixture.run("cat fail_function/inject"), failing, "{line}");
        let enabled = fixture.run("cat enabled_functions");
        let names: Vec<&str> = enabled.lines().filter_map(|line| line.split(' ').next()).collect();
        let mut expected: Vec<&str> = failing.lines().collect();
        expected.sort_unstable();
        assert_eq!(names, expected, "{line}");
    }
    let all = |fixture: &mut Fixture| {
        ["inject", "probability", "interval", "times", "space", "task-filter"]
            .map(|file| fixture.run(&format!("cat fail_function/{file}")))
            .concat()
    };
    assert_eq!(all(&mut fixture), "disk::read\n0\n1\n-1\n0\nN\n");
    for (file, value) in
        [("probability", "50"), ("interval", "7"), ("times", "3"), ("space", "9"), ("task-filter", "Y")]
    {
        fixture.run(&format!("echo {value} > fail_function/{file}"));
    }
    let before = "disk::read\n50\n7\n3\n9\nY\n";
    assert_eq!(all(&mut fixture), before);
    for (line, column, reason) in [
        ("echo 101 > fail_function/probability", 5, Reason::Expected("0 to 100")),
        ("echo -2 > fail_function/times", 5, Reason::Expected("A number")),
        ("echo 4294967296 > fail_function/interval", 5, Reason::Expected("A number of 32 bits")),
        ("echo maybe > fail_function/task-filter", 5, Reason::Expected("Y or N")),
        ("echo disk::seek nosuch > fail_function/inject", 16, Reason::NotInjectable),
        ("echo 1 > fail_function/injectable", 9, Reason::NotWritable),
    ] {
        let refusal = fixture.refused(line);
        assert_eq!((refusal.at, refusal.reason), (column, reason), "{line}");
        assert_eq!(all(&mut fixture), before, "{line}");
    }
    // It can't be attached there, and is where it was.
    assert!(matches!(fixture.refused("echo gone > fail_function/inject").reason, Reason::Register(_)));
    assert_eq!(all(&mut fixture), before);
    assert_eq!(fixture.run("cat enabled_functions").lines().count(), 1);
    fixture.run("echo -1 > fail_function/times");
    fixture.run("echo > fail_function/inject");
    assert_eq!(fixture.engine.statistics().ops, 0);
}

/// Definitions, filters and triggers as somebody may type them who does not know how.
#[test]
fn no_line_about_events_panics_and_a_refused_one_changes_nothing() {
    const PARTS: [&str; 44] = [
        "p",
        "r",
        "-",
        "!",
        ":",
        "e",
        "f",
        "/",
        " disk::read",
        " disk::seek",
        "+",
        "8",
        "(",
        ")",
        "%x0",
        "%x31",
        "$arg1",
        "$retval",
        "$stack",
        "@",
        "0x1008",
        "\\",
        "=",
        "a",
        " ",
        " && ",
        "||",
        "==",
        "<",
        "~",
        "\"",
        ":string",
        ":u8",
        ":b3@1/8",
        "traceoff",
        "stacktrace",
        "enable_event",
        "kprobes",
        "hist:keys=",
        ".log2",
        ",",
        " if ",
        "common_pid",
        "\u{e9}",
    ];
    const STARTS: [&str; 8] = [
        "p:e disk::read a=",
        "r:f disk::seek ",
        "-:",
        "a ==",
        "!(a",
        "hist:keys=",
        "enable_event:kprobes:",
        "traceoff:",
    ];
    const FILES: [&str; 8] = [
        "kprobe_events",
        "events/kprobes/e/filter",
        "events/kprobes/e/trigger",
        "events/kprobes/f/trigger",
        "events/kprobes/f/enable",
        "events/enable",
        "set_event",
        "events/kprobes/f/filter",
    ];
    let mut fixture = fixture!();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = |count: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % count
    };
    let lines = if cfg!(miri) { 40 } else { 4_000 };
    let (mut refused, mut before) = (0, fixture.all());
    for _ in 0..lines {
        let file = FILES[below(FILES.len())];
        let mut line = String::from("echo '");
        if file.contains("enable") {
            line += ["0", "1"][below(2)];
        } else {
            line += if below(3) > 0 { STARTS[below(STARTS.len())] } else { "" };
            (0..below(6)).for_each(|_| line += PARTS[below(PARTS.len())]);
        }
        line += &format!("' {} {file}", [">", ">>"][usize::from(below(4) > 0)]);
        let done = fixture.control.execute(&line, &mut String::new());
        fixture.call(0, [0x1000, 1], 0);
        fixture.call(1, [5, 1], 0);
        fixture.recorded();
        let after = fixture.all();
        if let Err(refusal) = done {
            refused += 1;
            // But for what is counted meanwhile.
            let without_counts = |all: &str| -> Vec<String> {
                let counts = |line: &&str| !(line.starts_with("  ") || line.contains("count") || line.contains("Hits"));
                all.lines().filter(counts).map(String::from).collect()
            };
            assert_eq!(without_counts(&after), without_counts(&before), "{line} was refused: {refusal}");
        }
        before = after;
    }
    // Neither kind is rare.
    assert!((lines / 5..lines * 19 / 20).contains(&refused), "{refused} of {lines}");
    assert_eq!(fixture.engine.check_text().wrong, 0);
}
