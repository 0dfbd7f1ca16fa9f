use super::{Sources, Verdict, judge};

/// The first page of a small crate: the list of these rooms, the highest first, and then code.
fn first_page(rooms: &[&str], code: &str) -> String {
    let list: String =
        rooms.iter().map(|room| format!("//! {room:9} what it is for\n//!           in two lines\n")).collect();
    let heading = "//! A crate.\n//!\n//! # The rooms\n//! One uses those below.\n//!\n";
    format!("{heading}//! ```text\n{list}//! ```\n{code}")
}

/// What is wrong with a crate of these files and this first page.
fn wrong(first_page: &str, files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(path, text)| (format!("src/{path}"), (*text).to_owned()));
    let sources: Sources = files.chain([("src/lib.rs".to_owned(), first_page.to_owned())]).collect();
    match judge(&sources).unwrap() {
        Verdict::Broken(wrong) => wrong,
        Verdict::Holds(_) => Vec::new(),
    }
}

/// What is wrong with a crate of three rooms, `top/`, `middle` and `low`.
fn wrong_in_three(top: &str, middle: &str, low: &str) -> Vec<String> {
    let page = first_page(&["top/", "middle", "low"], "pub mod low; mod middle; mod top;");
    wrong(&page, &[("top/mod.rs", top), ("middle.rs", middle), ("low.rs", low)])
}

const UPWARD: &str = "is from room `middle`, which is above room `low`";

#[test]
fn imports_downward_are_counted() {
    let page = first_page(
        &["top/", "middle", "low"],
        "#[cfg(a)] pub mod low; #[cfg(not(a))] mod low; mod middle; mod top; pub use top::Top;",
    );
    let files = [
        ("src/lib.rs", page.as_str()),
        ("src/top/mod.rs", "mod inner; use crate::middle::Middle; pub struct Top(Middle, inner::Inner);"),
        ("src/top/inner.rs", "use crate::low::{Low, self}; pub struct Inner(Low, low::Other);"),
        ("src/middle.rs", "pub struct Middle(u8);"),
        ("src/low.rs", "use core::fmt; pub struct Low(fmt::Error); pub struct Other;"),
    ];
    let sources = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
    let counts = "3 rooms, 5 files, 3 arrows between files, 2 between rooms";
    assert_eq!(judge(&sources).unwrap(), Verdict::Holds(counts.to_owned()));
}

#[test]
fn a_first_page_without_a_list_is_wrong() {
    for page in ["//! A crate.", "//! # The rooms\n//! are to come.\n//! # Use\n//! ```\n//! a\n//! ```"] {
        let sources = Sources::from([("src/lib.rs".to_owned(), page.to_owned())]);
        assert_eq!(judge(&sources).unwrap(), Verdict::Broken(vec!["src/lib.rs has no list of rooms".to_owned()]));
    }
}

#[test]
fn an_import_from_above_is_wrong() {
    let low = "\nuse crate::{\n    middle::Middle as M,\n};";
    assert_eq!(wrong_in_three("", "pub struct Middle;", low), [format!("src/low.rs:3: `Middle` {UPWARD}")]);
}

#[test]
fn the_first_page_stands_above_all_rooms() {
    let page = first_page(&["low"], "mod low; pub struct Face;");
    let told = wrong(&page, &[("low.rs", "use super::Face;")]);
    assert_eq!(told, ["src/low.rs:1: `Face` is from the first page, which is above room `low`"]);
}

#[test]
fn paths_in_code_are_imports() {
    let middle = "pub struct Middle; pub fn call() {} pub mod call {}";
    for low in [
        "use crate::middle::call;",
        "fn f(_: crate::middle::Middle) {}",
        "fn f() { super::middle::call() }",
        "use crate::middle; fn f() { middle::call() }",
        "fn f() { use crate::middle::Middle; }",
        "mod inner { fn f() { super::super::middle::call() } }",
        "fn f() { assert!(matches!(g(), Some(crate::middle::Middle))) }",
        "macro_rules! m { () => { $crate::middle::call() } }",
        "m! { use crate::{low::Own, middle::{self, Middle}}; }",
        "use crate::middle::*;",
        "m! { use crate::middle::*; }",
        "#[cfg(any(test, feature = \"fakes\"))] fn f(_: crate::middle::Middle) {}",
    ] {
        let told = wrong_in_three("", middle, low);
        assert!(
            told.iter().any(|line| line.starts_with("src/low.rs:1: ") && line.ends_with(UPWARD)),
            "{low}: {told:?}"
        );
    }
}

#[test]
fn what_only_looks_like_an_import_is_none() {
    let middle = "pub struct Middle; pub fn call() {}";
    for low in [
        "//! [`Middle`](crate::middle::Middle)",
        "/// [`Middle`](crate::middle::Middle)\nfn f() { log(\"crate::middle::Middle\") }",
        "pub(in crate::low) fn f(middle: u8) -> u8 { middle }",
        "use ::middle::Middle;",
        "use middle::Middle;",
        "use log::log; fn f() { log::middle(); log() }",
    ] {
        assert_eq!(wrong_in_three("", middle, low), Vec::<String>::new(), "{low}");
    }
    let page = first_page(&["low/"], "mod low;");
    for (low, a) in [
        ("mod a; fn f(_: a::A) {}", "pub(in crate::low) struct A;"),
        ("mod a; use ::a::A; fn f(_: ::a::B) {} pub struct Own;", "use super::Own;"),
    ] {
        assert_eq!(wrong(&page, &[("low/mod.rs", low), ("low/a.rs", a)]), Vec::<String>::new(), "{low}");
    }
}

#[test]
fn tests_may_import_anything() {
    let page = first_page(&["middle", "low/"], "mod low; mod middle;");
    let low = "#[cfg(test)] mod tests;
        #[cfg(all(test, not(loom)))] use crate::middle::Middle;
        struct S { #[cfg(test)] field: crate::middle::Middle }
        impl S {
            #[cfg(test)] fn f() { crate::middle::call() }
            fn g() { #[cfg(test)] crate::middle::call(); }
        }";
    let tests = "mod more; use crate::middle::Middle;";
    let files = [
        ("middle.rs", "use crate::low;"),
        ("low/mod.rs", low),
        ("low/tests/mod.rs", tests),
        ("low/tests/more.rs", tests),
    ];
    assert_eq!(wrong(&page, &files), Vec::<String>::new());
}

#[test]
fn a_circle_of_two_files_is_wrong() {
    let page = first_page(&["low/"], "mod low;");
    let files = [
        ("low/mod.rs", "mod a; mod b;"),
        ("low/a.rs", "use super::b::B; pub struct A(B); pub struct R;"),
        ("low/b.rs", "pub struct B; fn f(_: super::a::A) -> super::a::R {}"),
    ];
    let told = wrong(&page, &files);
    assert_eq!(told, ["a circle among 2 files: src/low/a.rs -> src/low/b.rs: B -> src/low/a.rs: A, R"]);
}

#[test]
fn a_circle_of_three_files_is_a_chain() {
    let page = first_page(&["low/"], "mod low;");
    let files = [
        ("low/mod.rs", "mod a; mod b; mod c; mod user;"),
        ("low/a.rs", "use super::b::B; pub struct A;"),
        ("low/b.rs", "use super::c::C; pub struct B;"),
        ("low/c.rs", "use super::a::A; pub struct C;"),
        ("low/user.rs", "use super::{a::A, b::B};"),
    ];
    let told = wrong(&page, &files);
    let chain = "src/low/a.rs -> src/low/b.rs: B -> src/low/c.rs: C -> src/low/a.rs: A";
    assert_eq!(told, [format!("a circle among 3 files: {chain}")]);
}

#[test]
fn a_reexport_is_followed_and_makes_no_arrow() {
    let page = first_page(&["low/"], "mod low;");
    let face = "mod item; mod user; pub use item::Item; pub(super) use item::*; fn f(_: user::User) {}";
    let user = "use super::{Item, Other}; pub struct User;";
    let files = [("low/mod.rs", face), ("low/item.rs", "pub struct Item; pub struct Other;"), ("low/user.rs", user)];
    assert_eq!(wrong(&page, &files), Vec::<String>::new());
    // `item` needs what the face defines, so the face must not use `Item` itself.
    let item = ("low/item.rs", "use super::Own; pub struct Item;");
    let circle = ["a circle among 2 files: src/low/mod.rs -> src/low/item.rs: Item -> src/low/mod.rs: Own"];
    for (code, told) in [
        ("", &[][..]),
        ("pub use item::*;", &[]),
        ("fn f() { m!(it.Item) }", &[]),
        ("fn f() { m!(Item) }", &circle),
        ("fn f(_: Item) {}", &circle),
    ] {
        let face = format!("mod item; pub use item::Item; pub struct Own; {code}");
        assert_eq!(wrong(&page, &[("low/mod.rs", &face), item]), told, "{code}");
    }
}

#[test]
fn a_reexport_from_below_is_no_import_from_above() {
    let top = "use crate::middle::{Low, fmt};";
    assert_eq!(
        wrong_in_three(top, "pub use crate::low::Low; pub(crate) use core::fmt;", "pub struct Low;"),
        Vec::<String>::new()
    );
    let middle = "pub use crate::low::Low; pub struct Own; fn f() { struct Low; }";
    let told = wrong_in_three("", middle, "use crate::middle::Own; use crate::middle::Low; pub struct Low;");
    assert_eq!(told, [format!("src/low.rs:1: `Own` {UPWARD}")]);
}

#[test]
fn a_reexport_from_above_is_wrong() {
    for low in ["pub use crate::middle::Middle;", "pub(crate) use crate::middle::{Other, Middle};"] {
        let told = wrong_in_three("", "pub struct Middle; pub type Other = u8;", low);
        assert!(told.contains(&format!("src/low.rs:1: `Middle` {UPWARD}")), "{told:?}");
    }
    let told = wrong_in_three("", "pub struct Middle;", "pub use crate::middle::*;");
    assert_eq!(told, [format!("src/low.rs:1: `middle` {UPWARD}")]);
}

#[test]
fn macros_are_names_of_the_files_that_define_them() {
    let page = first_page(&["top/", "low"], "mod low; mod top;");
    let top = "macro_rules! seen { () => {} } mod inner; use inner::Inner;";
    let files = |inner| [("top/mod.rs", top), ("top/inner.rs", inner), ("low.rs", "use crate::exported;")];
    let told = wrong(&page, &files("seen!(); pub struct Inner; #[macro_export] macro_rules! exported { () => {} }"));
    assert_eq!(
        told,
        [
            "src/low.rs:1: `exported` is from room `top`, which is above room `low`",
            "a circle among 2 files: src/top/mod.rs -> src/top/inner.rs: Inner -> src/top/mod.rs: seen",
        ]
    );
}

#[test]
fn the_list_and_the_modules_are_the_same() {
    let page = first_page(&["top", "gone/", "low", "low"], "mod low; mod guide; mod new; mod top; mod inline {}");
    let files = [("top/mod.rs", ""), ("low.rs", "fn f() {}"), ("new.rs", "fn f() {}"), ("guide.rs", "//! Reads well.")];
    let told = wrong(&page, &files);
    assert_eq!(
        told,
        [
            "src/lib.rs:13: room `low` is listed twice",
            "src/lib.rs:7: room `top` is src/top.rs, not src/top/mod.rs",
            "src/lib.rs:9: room `gone` is no module of the crate",
            "src/lib.rs: module `new` is not in the list of rooms",
        ]
    );
}

#[test]
fn a_file_that_cannot_be_read_is_an_error() {
    for (files, error) in [
        (&[("src/lib.rs", "mod gone;")][..], "src/gone.rs is not there"),
        (&[("src/lib.rs", "mod low;"), ("src/low.rs", "\nfn {")], "src/low.rs:2: cannot parse"),
    ] {
        let sources = files.iter().map(|&(path, text)| (path.to_owned(), text.to_owned())).collect();
        assert_eq!(judge(&sources).unwrap_err().to_string(), error);
    }
}
