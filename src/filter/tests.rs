//! What rules and filters select.

extern crate std;

use super::{Filter, GlobError, Rule, Sign};
use crate::address::TextAddr;
use std::string::ToString;

const AT: TextAddr = TextAddr::new(0x4000);

fn glob(glob: &str, name: &str) -> bool {
    Rule::glob(glob).unwrap().matches(Some(name), AT)
}

#[test]
fn a_function_is_asked_for_by_its_name_or_address_and_not_by_a_glob_or_in_order_to_leave_it_out() {
    let at = TextAddr::new(0x1000);
    let asks = |rule: Rule<'_>| Filter::new(&[rule]).asks_for("setjmp", at);
    assert!(asks(Rule::name("setjmp")) && asks(Rule::address(at)));
    let others = [Rule::name("longjmp"), Rule::address(at.offset(4))];
    let negative = Rule::parse("!setjmp").unwrap();
    let negative_address = Rule { sign: Sign::TakeAway, ..Rule::address(at) };
    let glob = Rule::parse("set*").unwrap();
    assert!(!others.into_iter().chain([negative, negative_address, glob]).any(asks));
}

#[test]
fn globs_match_whole_names() {
    for (pattern, name, expected) in [
        ("*", "", true),
        ("alloc::*", "alloc::vec::Vec<u8>::push", true),
        ("alloc::*", "core::alloc::x", false),
        ("*::push", "alloc::vec::Vec<u8>::push", true),
        ("*::push", "alloc::vec::Vec<u8>::push_within", false),
        ("*vec*p?sh", "alloc::vec::Vec<u8>::push", true),
        ("a*b*c", "aXbXbXc", true),
        ("a*b*c", "aXbXbX", false),
        ("sort[0-9]", "sort7", true),
        ("sort[0-9]", "sortx", false),
        ("sort[!0-9]", "sortx", true),
        ("sort[]x]", "sort]", true),
        ("sort[a-]", "sort-", true),
        ("<\\[u8\\]>::\\*", "<[u8]>::*", true),
        ("?", "é", true),
        ("", "", true),
        ("", "x", false),
    ] {
        assert_eq!(glob(pattern, name), expected, "{pattern} on {name}");
    }
}

#[test]
fn a_glob_of_many_stars_does_not_take_exponential_time() {
    let name = "a".repeat(2000);
    assert!(!glob("*a*a*a*a*a*a*a*a*a*a*a*a*b", &name));
}

#[test]
fn a_rule_for_a_module_concerns_its_functions_only() {
    for (rule, module, name, expected) in [
        (":mod:net", Some("net"), "send", true),
        (":mod:net", Some("disk"), "send", false),
        (":mod:net", None, "send", false),
        ("send:mod:net", Some("net"), "send", true),
        ("send:mod:net", Some("net"), "receive", false),
        ("s*:mod:net", Some("net"), "send", true),
        ("a::mod::b", None, "a::mod::b", true),
        ("!:mod:net", Some("net"), "send", false),
        ("!:mod:net", Some("disk"), "send", true),
        (":mod:my-module", Some("my_module"), "send", true),
        (":mod:my_module", Some("my-module"), "send", true),
        (":mod:my-module", Some("my_modules"), "send", false),
        (":mod:my-m*", Some("my_module"), "send", true),
        (":mod:*-mod*", Some("my_module"), "send", true),
        (":mod:n?t", Some("net"), "send", true),
        (":mod:[dn]et", Some("net"), "send", true),
        (":mod:n?t", Some("neat"), "send", false),
        (":mod:*", Some("net"), "send", true),
        (":mod:*", None, "send", false),
        ("s*:mod:*", Some("net"), "receive", false),
        (":mod:", Some("net"), "send", true),
        (":mod:", None, "send", false),
        ("!:mod:*", None, "send", true),
        ("!:mod:*", Some("net"), "send", false),
        ("!:mod:", Some("net"), "send", false),
        // Of a function's own name they are not the same.
        ("s-x:mod:net", Some("net"), "s_x", false),
    ] {
        let rules = [Rule::parse(rule).unwrap()];
        assert_eq!(Filter::new(&rules).selects(Some(name), AT, module), expected, "{rule} on {name} of {module:?}");
        assert_eq!(Rule::parse(&rules[0].to_string()), Ok(rules[0]), "{}", rules[0]);
    }
}

#[test]
fn white_space_around_a_rule_is_none_of_it() {
    for (text, expected) in [
        ("f\n", Rule::name("f")),
        (" f\r\n", Rule::name("f")),
        ("! f ", Rule::name("f").negated()),
        ("f:mod:net\n", Rule::name("f").in_module("net")),
        ("<a as b>::f\t", Rule::name("<a as b>::f")),
    ] {
        assert_eq!(Rule::parse(text), Ok(expected), "{text:?}");
    }
}

#[test]
fn a_name_that_is_copied_selects_its_function_whatever_characters_it_has() {
    for name in [
        "<[u8; 4] as core::fmt::Debug>::fmt",
        "core::ptr::drop_in_place::<*const u8>",
        "a::<[u8]>::b?",
        "kernel::main::{closure#0}",
    ] {
        let rule = Rule::parse(name).unwrap();
        assert!(rule.matches([name], AT), "{name}");
        for exact in [Rule::parse(&std::format!("\"{name}\"")).unwrap(), Rule::name(name)] {
            assert_eq!(exact, Rule::name(name));
            assert!(exact.matches([name], AT) && !exact.matches([&*std::format!("{name}x")], AT), "{exact}");
            assert_eq!(Rule::parse(&exact.to_string()), Ok(exact));
        }
    }
    // In quotes nothing has a meaning.
    let exact = Rule::parse("!\"*\":mod:net").unwrap();
    assert_eq!(exact, Rule::name("*").in_module("net").negated());
    assert!(!exact.matches(["f"], AT));
}

#[test]
fn a_function_of_several_names_is_selected_and_taken_away_by_each() {
    let names = ["memcpy", "__memcpy", "memmove"];
    for name in names {
        for rule in [Rule::name(name), Rule::glob(&std::format!("{name}*")).unwrap()] {
            assert!(Filter::new(&[rule]).selects(names, AT, None), "{rule}");
            assert!(!Filter::new(&[rule.negated()]).selects(names, AT, None), "!{rule}");
        }
    }
    assert!(!Filter::new(&[Rule::name("mem")]).selects(names, AT, None));
    assert!(Filter::new(&[Rule::name("mem").negated()]).selects(names, AT, None));
}

#[cfg(feature = "module")]
#[test]
fn a_filter_that_is_kept_for_later_text_has_no_addresses() {
    let (f, at) = (Rule::name("f"), Rule::address(AT));
    let selects = |rules: &[Rule<'_>], name: &str| {
        let kept = Filter::new(rules).to_owned();
        kept.with(|filter| filter.selects([name], AT, Some("net")))
    };
    assert_eq!(selects(&[at], "f"), None);
    assert_eq!(selects(&[at, f.negated()], "g"), None);
    assert_eq!([selects(&[at, f], "f"), selects(&[at, f], "g")], [Some(true), Some(false)]);
    assert_eq!([selects(&[at.negated()], "f"), selects(&[], "f")], [Some(true); 2]);
    let in_module = |name| selects(&[Rule::parse(name).unwrap()], "f");
    assert_eq!(
        [in_module("f:mod:n*"), in_module("f:mod:disk"), in_module("!:mod:net")],
        [Some(true), Some(false), Some(false)]
    );
}

#[test]
fn a_rule_of_any_length_is_read_without_recursion() {
    const LENGTH: usize = 2_000_000;
    for (text, expected) in [
        ("!".repeat(LENGTH) + "f", Rule::name("f").negated()),
        (":mod:m".repeat(LENGTH / 6), Rule::glob("*").unwrap().in_module("m")),
        (std::format!("f{}", ":mod:m".repeat(LENGTH / 6)), Rule::name("f").in_module("m")),
    ] {
        assert_eq!(Rule::parse(&text), Ok(expected), "{}", &text[..20]);
    }
}

#[test]
fn bad_globs_are_refused() {
    assert_eq!(Rule::glob("a[b"), Err(GlobError::OpenClass(1)));
    assert_eq!(Rule::glob("a\\"), Err(GlobError::TrailingEscape));
    assert_eq!(Rule::parse("!x[").unwrap_err(), GlobError::OpenClass(1));
}

#[test]
fn negative_rules_take_away_from_positive_ones_or_from_everything() {
    let rules = [Rule::parse("alloc::*").unwrap(), Rule::parse("!alloc::fmt::*").unwrap()];
    let filter = Filter::new(&rules);
    assert!(filter.selects(Some("alloc::vec::x"), AT, None));
    assert!(!filter.selects(Some("alloc::fmt::x"), AT, None));
    assert!(!filter.selects(Some("core::x"), AT, None));
    let only_negative = [Rule::name("f").negated()];
    assert!(Filter::new(&only_negative).selects(Some("g"), AT, None));
    assert!(!Filter::new(&only_negative).selects(Some("f"), AT, None));
    assert!(Filter::ALL.selects(None, AT, None));
}

#[test]
fn addresses_select_by_the_functions_entry() {
    let rule = Rule::parse("0x4004").unwrap();
    assert!(rule.matches(None, AT));
    assert!(!rule.matches(None, AT.offset(8)));
    assert!(!rule.matches(None, AT.offset(-8)));
}
