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
