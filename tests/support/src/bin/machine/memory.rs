use alloc::format;
use alloc::string::String;
use core::arch::asm;
use core::hint::black_box;
use fentry::{Platform, TextAddr};
use support::exceptions::{Syndrome, catch};
use support::memory::{self, Alias};
use support::{PLATFORM, println, smp};

unsafe extern "C" {
    static __fentry_stubs_start: u32;
}

/// A word of text that nothing executes.
fn word_of_text() -> *mut u32 {
    (&raw const __fentry_stubs_start).cast_mut()
}

pub(super) fn a_store_to_text_faults() {
    let word = word_of_text();
    // SAFETY: nothing executes the word; the store is expected not to happen.
    let fault = catch(|| unsafe { word.write_volatile(1) }).expect_err("text was writable");
    assert!(fault.is_write_permission(), "{fault}");
    assert_eq!(fault.far, word.addr() as u64);
    let constant: &'static str = "constant";
    // SAFETY: the store is expected not to happen.
    let fault =
        catch(|| unsafe { constant.as_ptr().cast_mut().write_volatile(1) }).expect_err("constants were writable");
    assert!(fault.is_write_permission(), "{fault}");
}

pub(super) fn data_is_not_executable() {
    const RET: u32 = 0xd65f_03c0;
    let on_the_stack = [RET; 2];
    let on_the_heap = alloc::boxed::Box::new([RET; 2]);
    let in_rodata: &'static [u32; 2] = &[RET, RET];
    let aliased = memory::ALIAS_OFFSET + word_of_text().addr();
    for place in
        [(&raw const on_the_stack).addr(), (&raw const *on_the_heap).addr(), (&raw const *in_rodata).addr(), aliased]
    {
        // SAFETY: there is a RET there, or something that is expected not to be executed.
        let fault = catch(|| unsafe { asm!("blr {}", in(reg) place, clobber_abi("C")) });
        let fault = fault.expect_err("data was executed");
        assert!(fault.is_execute_permission(), "{fault}");
        assert_eq!(fault.pc, place as u64);
    }
}

pub(super) fn an_overflow_hits_the_guard() {
    #[expect(unconditional_recursion, reason = "that is the test")]
    #[inline(never)]
    fn overflow(depth: u64) -> u64 {
        let room = black_box([depth; 64]);
        overflow(depth + 1) + room[3]
    }
    let fault = catch(|| {
        black_box(overflow(0));
    });
    let fault = fault.expect_err("the stack has no end");
    assert!(fault.is_translation(), "{fault}");
}

pub(super) fn an_unexpected_branch_faults() {
    let guarded = memory::mappings().iter().any(|mapped| mapped.executable && mapped.guarded);
    let has_bti: bool;
    {
        let features: u64;
        // SAFETY: reading an identification register changes nothing.
        unsafe { asm!("mrs {}, id_aa64pfr1_el1", out(reg) features) };
        has_bti = features & 0xf != 0;
    }
    // SAFETY: the branch goes to a NOP just after it; the function goes on there.
    let result = catch(|| unsafe { asm!("adr x9, 1f", "br x9", "1: nop", out("x9") _) });
    match result {
        Ok(()) => {
            assert!(!(guarded && has_bti), "there is BTI, and a branch into the middle of a function was let through");
        }
        Err(fault) => {
            assert!(guarded && has_bti, "{fault}");
            assert_eq!(fault.class(), 0x0d, "{fault}");
        }
    }
    println!("({} BTI)", if guarded { "compiled with" } else { "compiled without" });
    wrong_type_faults_with_kcfi();
}

/// An indirect call by a pointer of another type, which kCFI refuses, if this kernel is compiled with it.
fn wrong_type_faults_with_kcfi() {
    extern "C" fn takes_one(number: u64) -> u64 {
        number
    }
    let pointer: extern "C" fn(u64) -> u64 = black_box(takes_one);
    // SAFETY: both have the same calling convention, and the argument too many is not looked at.
    let wrong =
        unsafe { core::mem::transmute::<extern "C" fn(u64) -> u64, extern "C" fn(u64, u8, &str) -> u64>(pointer) };
    match catch(|| {
        black_box(wrong(1, 2, "three"));
    }) {
        Ok(()) => println!("(compiled without kCFI)"),
        Err(fault) => {
            let text = format!("{}", Syndrome(fault.esr));
            assert!(text.contains("kCFI"), "{fault}");
        }
    }
}

pub(super) fn a_caught_fault_leaves_no_trace() {
    for round in 0..1000 {
        let result = catch(|| {
            // SAFETY: nothing is mapped there, which is expected.
            unsafe { core::ptr::with_exposed_provenance::<u64>(0x7000_0000_0000 >> 12 << 3).read_volatile() };
        });
        assert!(result.is_err_and(|fault| fault.is_translation()), "round {round}");
        assert_eq!(catch(|| ()), Ok(()));
    }
    assert!(!support::interrupts::are_masked());
}

pub(super) fn an_alias_writes_text() -> Result<(), String> {
    for alias in [Alias::Permanent, Alias::Window, Alias::Permanent] {
        memory::use_alias(alias);
        let word = word_of_text();
        let page = TextAddr::new(word.addr() as u64);
        for value in [0x1234_5678, 0] {
            let masked = support::interrupts::Masked::new();
            let written = PLATFORM.map_alias(page).map_err(|error| format!("{error}"))?;
            // SAFETY: the alias is that of a page whose first word nothing executes.
            unsafe { written.cast::<u32>().write_volatile(value) };
            PLATFORM.unmap_alias(page, written);
            drop(masked);
            // SAFETY: text can be read.
            let found = unsafe { word.read_volatile() };
            assert_eq!(found, value, "through {alias:?}");
        }
    }
    let elsewhere = TextAddr::new(&raw const elsewhere_marker as u64);
    let _masked = support::interrupts::Masked::new();
    assert!(PLATFORM.map_alias(elsewhere).is_err(), "data has an alias as if it were text");
    Ok(())
}

#[expect(non_upper_case_globals, reason = "only its address matters")]
static mut elsewhere_marker: u64 = 0;

pub(super) fn nothing_is_writable_and_executable() {
    let mapped = memory::mappings();
    assert!(!mapped.is_empty());
    for one in &mapped {
        assert!(!(one.writable && one.executable), "{one}");
    }
    let text = memory::text();
    let aliases = mapped.iter().filter(|one| one.writable && reaches_text(one)).count();
    assert_eq!(aliases, 1, "the permanent alias, and nothing else");
    let executable: u64 = mapped.iter().filter(|one| one.executable).map(|one| one.size).sum();
    assert_eq!(executable, text.len() as u64, "exactly the text is executable");
}

fn reaches_text(mapped: &memory::Mapped) -> bool {
    let text = memory::text();
    mapped.reaches(text.start as u64, text.len() as u64)
}

pub(super) fn windows_leave_nothing_behind() {
    smp::start_all();
    memory::use_alias(Alias::Window);
    smp::on_all(|cpu| {
        let check = |what| {
            for one in memory::mappings() {
                assert!(!(one.writable && one.executable), "{one}");
                let own = one.virtual_start <= (memory::WINDOWS + cpu * 4096) as u64
                    && ((memory::WINDOWS + cpu * 4096) as u64) < one.virtual_start + one.size;
                assert!(!(one.writable && reaches_text(&one) && own), "{what}: {one}");
            }
        };
        check("at rest");
        let word = word_of_text().wrapping_add(1024 * cpu);
        let page = TextAddr::new(word.addr() as u64);
        for value in (0..1000_u32).rev() {
            let masked = support::interrupts::Masked::new();
            let alias = PLATFORM.map_alias(page).expect("the window");
            // SAFETY: the alias is that of a page whose first word nothing executes, one for each CPU.
            unsafe { alias.cast::<u32>().write_volatile(value) };
            PLATFORM.unmap_alias(page, alias);
            // SAFETY: nothing is mapped there any more, which is expected.
            let fault = catch(|| unsafe { alias.cast::<u32>().write_volatile(u32::MAX) });
            assert!(fault.is_err_and(|fault| fault.is_translation()), "the window stayed open");
            drop(masked);
            // SAFETY: text can be read.
            let found = unsafe { word.read_volatile() };
            assert_eq!(found, value);
        }
        check("after writing");
    });
    let writable = memory::mappings().into_iter().find(|one| one.writable && reaches_text(one));
    assert_eq!(writable, None);
    memory::use_alias(Alias::Permanent);
}
