//! Tracers beside the first ones.

use super::*;
use crate::control::Instance;
use crate::fakes::Event;

/// What the fixture's rings and tracers are, once more.
macro_rules! instance {
    ($engine:expr) => {{
        static MEMORY: [[RingBlock; 2]; 2] = [const { [const { RingBlock::new() }; 2] }; 2];
        static RINGS: [Ring; 2] = [Ring::new(&MEMORY[0], Mode::Overwrite), Ring::new(&MEMORY[1], Mode::Overwrite)];
        static SLOTS: [ProfileSlot; 1] = [const { ProfileSlot::new() }; 1];
        static PROFILE: Profile = Profile::new(&SLOTS);
        static TRACING: Tracing<Beside> = Tracing::new();
        struct Beside;
        impl RecordTo for Beside {
            fn ring() -> &'static Ring {
                &RINGS[0]
            }
            fn task() -> u32 {
                1
            }
        }
        impl StoreIn<Profile> for Beside {
            fn store() -> &'static Profile {
                &PROFILE
            }
        }
        impl StoreIn<Tracing<Self>> for Beside {
            fn store() -> &'static Tracing<Self> {
                &TRACING
            }
        }
        (Instance::new($engine, TRACING.parts(), [&RINGS[0], &RINGS[1]]), TRACING.parts().function)
    }};
}

#[test]
fn an_instance_traces_beside_the_first_tracers_with_rules_and_rings_of_its_own() {
    let mut fixture = fixture!();
    let (instance, function) = instance!(fixture.engine);
    fixture.control = fixture.control.with_instances(Box::leak(Box::new([instance])));
    let before = (fixture.run("ls"), fixture.all());
    assert_eq!(fixture.run("mkdir instances/net"), "");
    assert_eq!(fixture.all(), before.1);
    let listed = fixture.run("ls");
    let added: Vec<&str> = listed.lines().filter(|line| !before.0.lines().any(|old| old == *line)).collect();
    assert!(added.iter().all(|file| file.starts_with("instances/net/")), "{added:?}");
    assert!(
        ["trace", "set_ftrace_filter", "per_cpu/cpu1/stats", "options/sym-addr"]
            .map(|file| format!("instances/net/{file}"))
            .iter()
            .all(|file| added.contains(&file.as_str())),
        "{added:?}"
    );
    for file in &added {
        assert!(!fixture.run(&format!("help {file}")).is_empty());
    }

    fixture.run("echo net::send > /sys/kernel/tracing/instances/net/set_ftrace_filter");
    fixture.run("echo function > instances/net/current_tracer");
    fixture.run("echo disk::read > set_ftrace_filter");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.enabled(), ["disk::read", "net::send"]);
    call(3, function);
    call(1, fixture.function);
    let has = |text: &str| ["disk::read", "net::send"].map(|name| text.contains(name));
    assert_eq!(has(&fixture.run("cat instances/net/trace")), [false, true]);
    assert_eq!(has(&fixture.run("cat trace")), [true, false]);
    // Each has its own switch.
    fixture.run("echo 0 > instances/net/tracing_on");
    fixture.run("echo > instances/net/trace");
    call(3, function);
    call(1, fixture.function);
    assert_eq!(has(&fixture.run("cat instances/net/trace")), [false, false]);
    assert_eq!(fixture.run("cat tracing_on"), "1\n");
    fixture.run("echo 1 > instances/net/set_ftrace_pid");
    fixture.run("echo 3 > instances/net/max_graph_depth");
    fixture.run("echo net::send:traceoff >> instances/net/set_ftrace_filter");

    // Removed, it leaves nothing, and made again, it has nothing.
    assert_eq!(fixture.run("rmdir instances/net"), "");
    assert_eq!((fixture.enabled(), fixture.run("ls")), (["disk::read"].to_vec(), before.0));
    fixture.run("mkdir instances/other");
    for (file, content) in [
        ("current_tracer", "nop\n"),
        ("set_ftrace_filter", "#### all functions enabled ####\n"),
        ("set_ftrace_pid", "no pid\n"),
        ("max_graph_depth", "0\n"),
        ("tracing_on", "1\n"),
    ] {
        assert_eq!(fixture.run(&format!("cat instances/other/{file}")), content, "{file}");
    }
    assert!(fixture.run("cat instances/other/trace").contains("entries-in-buffer/entries-written: 0/0"));
    let stats = "entries: 0\noverrun: 0\ndropped events: 0\nread events: 0\n";
    assert_eq!(fixture.run("cat instances/other/per_cpu/cpu0/stats"), stats);
    assert_eq!(has(&fixture.run("cat trace")), [true, false]);
}

#[test]
fn an_instance_goes_when_nobody_can_record_into_it_any_more() {
    let mut fixture = fixture!();
    let (instance, _) = instance!(fixture.engine);
    fixture.control = fixture.control.with_instances(Box::leak(Box::new([instance])));
    fixture.run("mkdir instances/a");
    fixture.run("echo function > instances/a/current_tracer");
    // The tracer's own wait fails, which keeps no tracer; so there is another one.
    fixture.kernel.set_fault(Some(Fault::Busy(0)));
    fixture.kernel.take_events();
    fixture.run("rmdir instances/a");
    let waits = fixture.kernel.take_events().into_iter().filter(|event| *event == Event::Quiesce).count();
    assert_eq!((fixture.enabled(), waits), (Vec::new(), 2));
}

#[test]
fn what_is_no_instance_is_refused_by_what_it_is() {
    let mut fixture = fixture!();
    let (instance, _) = instance!(fixture.engine);
    let reason = |fixture: &mut Fixture, line: &str| fixture.refused(line).0.reason;
    assert_eq!(reason(&mut fixture, "mkdir instances/a"), Reason::NoInstance { instances: 0 });
    fixture.control = fixture.control.with_instances(Box::leak(Box::new([instance])));
    for line in
        ["mkdir a", "mkdir instances", "mkdir instances/", "mkdir instances/a/b", "mkdir instances/a:b", "rmdir a"]
    {
        assert_eq!(reason(&mut fixture, line), Reason::InstanceName, "{line}");
    }
    let long = format!("mkdir instances/{}", "a".repeat(33));
    assert_eq!(reason(&mut fixture, &long), Reason::InstanceName);
    assert_eq!(reason(&mut fixture, "mkdir"), Reason::NoFile);
    assert_eq!(reason(&mut fixture, "mkdir instances/a b"), Reason::Extra);
    assert_eq!(reason(&mut fixture, "rmdir instances/a"), Reason::NoSuchInstance);
    assert_eq!(reason(&mut fixture, "cat instances/a/trace"), Reason::NoSuchInstance);
    fixture.run("mkdir instances/a");
    let (refusal, text) = fixture.refused("mkdir instances/a");
    assert_eq!((refusal.at, refusal.reason), (6, Reason::InstanceExists));
    assert!(text.starts_with("instances/a: 7: error: There is such an instance already\n"), "{text}");
    assert_eq!(reason(&mut fixture, "mkdir instances/b"), Reason::NoInstance { instances: 1 });
    for file in ["kprobe_events", "events/enable", "stack_trace", "error_log", "nosuch", "instances/a/trace", ""] {
        assert_eq!(reason(&mut fixture, &format!("cat instances/a/{file}")), Reason::UnknownFile, "{file}");
    }
    assert_eq!(reason(&mut fixture, "cat instances/a"), Reason::UnknownFile);
}

#[test]
fn an_instance_whose_text_can_not_be_changed_stays() {
    let mut fixture = fixture!();
    let (instance, _) = instance!(fixture.engine);
    fixture.control = fixture.control.with_instances(Box::leak(Box::new([instance])));
    fixture.run("mkdir instances/a");
    fixture.run("echo function > instances/a/current_tracer");
    fixture.kernel.set_fault(Some(Fault::Alias(0)));
    assert!(matches!(fixture.refused("rmdir instances/a").0.reason, Reason::Register(RegisterError::Text { .. })));
    fixture.kernel.repair();
    assert_eq!((fixture.run("cat instances/a/current_tracer").as_str(), fixture.enabled().len()), ("function\n", 6));
    fixture.run("rmdir instances/a");
    assert_eq!(fixture.enabled(), [""; 0]);
}
