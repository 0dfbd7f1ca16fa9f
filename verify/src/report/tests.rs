use super::{At, Finding, Report, Rule, WaiverError, Waivers};
use crate::image::Image;
use crate::image::tests::file::File;
use crate::program::{InsnId, Program};

const RET: u32 = 0xd65f_03c0;

/// The rules that are left when these waivers are applied to a finding in `f`, and one in `g`.
fn left(file: &File, waivers: &str) -> Vec<(&'static str, At)> {
    let bytes = file.write();
    let program = Program::new(Image::parse(&bytes).unwrap());
    let found = |at| Finding::new(Rule::CallsiteForm, At::Insn(InsnId::new(at)), "it is wrong");
    let waivers = Waivers::parse(waivers).unwrap();
    let demangled = |name: &str| format!("<kernel::{name} as Log>::log");
    let report = Report::new(&program, vec![found(3), found(1)], &waivers, &demangled);
    report.unwaived().map(|finding| (finding.rule.id(), finding.at)).collect()
}

#[test]
fn a_waiver_names_a_function_or_an_address() {
    let functions = |file: File| file.function("f", 0, 2).function("g", 2, 4);
    let linked = functions(File::linked(&[RET; 4]));
    let object = functions(File::object(&[RET; 4]));
    let at = |index| ("callsite-form", At::Insn(InsnId::new(index)));
    assert_eq!(left(&linked, "# nothing\n\n"), [at(1), at(3)]);
    assert_eq!(left(&linked, "callsite-form f -- naked"), [at(3)]);
    assert_eq!(left(&linked, "callsite-form <kernel::g as Log>::log -- naked -- and more"), [at(1)]);
    assert_eq!(left(&linked, "callsite-form 0x1004 -- naked\ncallsite-form g -- too"), []);
    assert_eq!(left(&object, "callsite-form .text+0xc -- naked"), [at(1)]);
    // `*` stands for the start or the end of a name, or for the whole file.
    assert_eq!(left(&linked, "callsite-form <kernel::f* -- naked\ncallsite-form *f -- naked"), [at(3)]);
    assert_eq!(left(&linked, "callsite-form *::g as * -- naked"), [at(1)]);
    assert_eq!(left(&linked, "callsite-form * -- naked"), []);
}

#[test]
fn a_waiver_that_waives_nothing_is_a_finding() {
    let file = File::linked(&[RET; 4]).function("f", 0, 2).function("g", 2, 4);
    let at = |index| ("callsite-form", At::Insn(InsnId::new(index)));
    let unused = |line| ("waiver-unused", At::Waiver(line));
    assert_eq!(left(&file, "callsite-form f -- a\n\ncallsite-form h -- b"), [at(3), unused(3)]);
    // Another rule; the address of another instruction.
    assert_eq!(left(&file, "callsite-stray f -- a"), [at(1), at(3), unused(1)]);
    assert_eq!(left(&file, "callsite-form 0x1000 -- a"), [at(1), at(3), unused(1)]);
}

#[test]
fn a_waiver_needs_a_rule_a_place_and_a_reason() {
    let (rule, place) = (Rule::CallsiteForm, "f".to_owned());
    let reason = |line| Err(WaiverError::NoReason { line, rule, place: place.clone() });
    assert_eq!(Waivers::parse("# why\ncallsite-form f"), reason(2));
    assert_eq!(Waivers::parse("callsite-form f -- "), reason(1));
    assert_eq!(Waivers::parse("callsite-form -- why"), Err(WaiverError::NoPlace { line: 1, rule }));
    assert_eq!(Waivers::parse("callsites f -- why"), Err(WaiverError::NoRule { line: 1, id: "callsites".to_owned() }));
    for rule in Rule::ALL {
        assert_eq!(Rule::of_id(rule.id()), Some(rule));
    }
}

#[test]
fn the_engines_stubs_are_waived_where_the_engine_is() {
    assert!(Waivers::parse(super::waivers::ENGINE).is_ok());
    let left = |file: File| {
        let bytes = file.function("fentry_return", 0, 2).function("x::__fentry_direct_trampoline", 2, 4).write();
        let program = Program::new(Image::parse(&bytes).unwrap());
        let found = |rule, at| Finding::new(rule, At::Insn(InsnId::new(at)), "it is wrong");
        let found = [found(Rule::RegisterLost, 1), found(Rule::CallsiteForm, 1), found(Rule::ReturnRegister, 3)];
        // That a line of those is not needed is no finding.
        let waivers = Waivers::default().with_engine();
        let report = Report::new(&program, found.to_vec(), &waivers, &|name: &str| name.to_owned());
        report.unwaived().map(|finding| finding.rule.id()).collect::<Vec<_>>()
    };
    let linked = || File::linked(&[RET; 4]);
    let with_engine = linked().symbol("__fentry_text_start", 0, 0, 0).symbol("__fentry_text_stop", 0, 16, 0);
    assert_eq!(left(with_engine), ["callsite-form"]);
    assert_eq!(left(File::object(&[RET; 4])), ["callsite-form"]);
    // Somebody else's functions of those names.
    assert_eq!(left(linked()), ["callsite-form", "register-lost", "return-register"]);
}
