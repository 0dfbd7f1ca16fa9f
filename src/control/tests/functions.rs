//! Which functions are traced, and by which tracer.

use super::*;

#[test]
fn functions_are_chosen_as_on_linux() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.enabled(), FUNCTIONS);
    assert_eq!(fixture.run("cat set_ftrace_filter"), "#### all functions enabled ####\n");
    let [poll, read, seek, send, array, slice] = FUNCTIONS;
    for (line, expected) in [
        ("echo disk::read > set_ftrace_filter", &[read][..]),
        ("echo net::* >> set_ftrace_filter", &[read, send]),
        ("echo 'disk::*' > set_ftrace_filter", &[poll, read, seek]),
        ("echo !disk::poll >> set_ftrace_filter", &[read, seek]),
        ("echo disk::poll >> set_ftrace_filter", &[poll, read, seek]),
        ("echo !disk::* >> set_ftrace_filter", &[poll]),
        ("echo 2 4 > set_ftrace_filter", &[read, send]),
        ("echo '*' > set_ftrace_filter", &FUNCTIONS),
        ("echo 'disk::*' 'net::*' > set_ftrace_filter", &[poll, read, seek, send]),
        ("echo '\"<[u8; 4] as Debug>::fmt\"' > set_ftrace_filter", &[array]),
        ("echo <[u8; 4] as Debug>::fmt net::send > set_ftrace_filter", &[send, array]),
        ("echo '\"<[u8] as Debug>::fmt\" disk::read'> set_ftrace_filter", &[read, slice]),
        ("echo !*Debug* > set_ftrace_filter", &[poll, read, seek, send]),
        ("echo \"\" >> set_ftrace_filter", &[poll, read, seek, send]),
    ] {
        assert_eq!(fixture.run(line), "");
        assert_eq!(fixture.enabled(), expected, "{line}");
        let listed = fixture.run("cat set_ftrace_filter");
        assert_eq!(listed.lines().collect::<Vec<_>>(), expected, "{line}");
    }
    fixture.run("echo > set_ftrace_filter");
    assert_eq!(fixture.run("cat set_ftrace_notrace"), "#### no functions disabled ####\n");
    fixture.run("echo disk::* > set_ftrace_notrace");
    fixture.run("echo net::send >> set_ftrace_notrace");
    assert_eq!(fixture.enabled(), [array, slice]);
    assert_eq!(fixture.run("cat set_ftrace_notrace"), "disk::poll\ndisk::read\ndisk::seek\nnet::send\n");
    fixture.run("echo !disk::* >> set_ftrace_notrace");
    assert_eq!(fixture.enabled(), [poll, read, seek, array, slice]);
    // Nothing would be left: the filter that was in force stays so.
    assert_eq!(
        fixture.refused("echo net::send > set_ftrace_filter").0.reason,
        Reason::Register(RegisterError::EmptySelection)
    );
    assert_eq!(fixture.enabled(), [poll, read, seek, array, slice]);
    fixture.run("echo > set_ftrace_notrace");
    fixture.run("echo nop > current_tracer");
    assert_eq!(fixture.enabled(), [""; 0]);
    // Chosen while nothing is traced, for the next tracer.
    fixture.run("echo disk::read > set_ftrace_filter");
    assert_eq!(fixture.run("cat set_ftrace_filter"), "disk::read\n");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.run("cat enabled_functions"), "disk::read (1)\n");
}

#[test]
fn a_filter_has_no_more_rules_than_there_is_room_for() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    // All of them match.
    let rule = |number: usize| format!("{}disk::read", "*".repeat(number));
    let rules = |count| (0..count).map(rule).collect::<Vec<_>>().join(" ");
    fixture.run(&format!("echo {} > set_ftrace_filter", rules(20)));
    (20..MAX_RULES - 1).for_each(|number| drop(fixture.run(&format!("echo {} >> set_ftrace_filter", rule(number)))));
    fixture.run("echo disk::read >> set_ftrace_filter");
    fixture.run("echo net::send > set_ftrace_notrace");
    let before = fixture.all();
    for line in [format!("echo {} >> set_ftrace_filter", rule(40)), "echo net::s* >> set_ftrace_notrace".to_string()] {
        assert_eq!(fixture.refused(&line).0.reason, Reason::TooManyRules, "{line}");
    }
    assert_eq!(fixture.all(), before);
    fixture.run("echo > set_ftrace_notrace");
    fixture.run(&format!("echo {} > set_ftrace_filter", "*".repeat(400)));
    fixture.run(&format!("echo {} >> set_ftrace_filter", "*".repeat(401)));
    let (refusal, _) = fixture.refused(format!("echo {} >> set_ftrace_filter", "*".repeat(402)));
    assert_eq!(refusal.reason, Reason::TooManyRules);
}

#[test]
fn a_tracer_that_can_not_be_leaves_the_one_that_is() {
    let mut fixture = fixture!();
    fixture.run("echo disk::* > set_ftrace_filter");
    fixture.run("echo function > current_tracer");
    let before = fixture.all();
    for fault in [Fault::Batch, Fault::Cpu(0), Fault::Alias(0), Fault::Write(1)] {
        fixture.kernel.set_fault(Some(fault));
        let (refusal, _) = fixture.refused("echo function_graph > current_tracer");
        fixture.kernel.repair();
        assert!(matches!(refusal.reason, Reason::Register(_)), "{fault:?}: {refusal}");
        assert_eq!(fixture.all(), before, "{fault:?}");
        fixture.kernel.set_fault(Some(fault));
        let (refusal, _) = fixture.refused("echo net::* > set_ftrace_filter");
        fixture.kernel.repair();
        assert!(matches!(refusal.reason, Reason::Register(_)), "{fault:?}: {refusal}");
        assert_eq!(fixture.all(), before, "{fault:?}");
    }
    fixture.run("echo function_graph > current_tracer");
    assert_eq!(fixture.run("cat current_tracer"), "function_graph\n");
    assert_eq!(fixture.enabled(), FUNCTIONS[..3]);
    assert_eq!(fixture.engine.statistics().ops, 1);
}

#[test]
fn an_old_tracer_that_is_waited_for_in_vain_can_be_taken_again() {
    let mut fixture = fixture!();
    fixture.run("echo function > current_tracer");
    fixture.kernel.set_fault(Some(Fault::Busy(1)));
    fixture.run("echo nop > current_tracer");
    assert_eq!((fixture.enabled(), fixture.engine.statistics().ops), (Vec::new(), 1), "the fault is no such fault");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.enabled(), FUNCTIONS);
    fixture.run("echo nop > current_tracer");
    assert_eq!((fixture.enabled(), fixture.engine.statistics().ops), (Vec::new(), 0));
}

#[test]
fn what_has_called_something_stays_touched() {
    let mut fixture = fixture!();
    assert_eq!(fixture.run("cat touched_functions"), "");
    fixture.run("echo net::send disk::seek > set_ftrace_filter");
    assert_eq!(fixture.run("cat touched_functions"), "");
    fixture.run("echo function > current_tracer");
    assert_eq!(fixture.run("cat touched_functions"), "disk::seek (1)\nnet::send (1)\n");
    fixture.run("echo disk::read > set_ftrace_filter");
    assert_eq!(fixture.run("cat touched_functions"), "disk::read (1)\ndisk::seek (0)\nnet::send (0)\n");
    // What could not be done touches nothing.
    fixture.kernel.set_fault(Some(Fault::Alias(0)));
    fixture.refused("echo disk::poll > set_ftrace_filter");
    fixture.kernel.repair();
    fixture.run("echo nop > current_tracer");
    assert_eq!(fixture.run("cat touched_functions"), "disk::read (0)\ndisk::seek (0)\nnet::send (0)\n");
    // Those that call something and those that have done so are changed together.
    fixture.run("echo > set_ftrace_filter");
    fixture.run("echo function > current_tracer");
    assert_eq!((fixture.enabled().len(), fixture.run("cat touched_functions").lines().count()), (6, 6));
}
