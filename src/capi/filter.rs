//! Rules as C has them.

use super::error::fentry_error;
use super::from_c;
use super::platform::{FENTRY_MAX_RULES, KERNEL};
use crate::address::TextAddr;
use crate::filter::{Filter, Rule};
use crate::platform::Platform as _;
use crate::tracer::session::{MAX_RULES, Options};
use core::ffi::{c_char, c_void};

/// One rule of a filter: FENTRY_RULE("disk_*"), FENTRY_RULE("!disk_poll"), FENTRY_RULE_FUNCTION(disk_read),
/// FENTRY_RULE_NOT_FUNCTION(disk_poll).
///
/// A function is selected if a rule that selects matches it, or if there is none, and no rule that takes away does. As text:
///
/// ```text
///     disk_read      the functions of exactly this name
///     disk_*         the functions whose whole name matches: `*` is any characters, `?` one, `[a-z]` one of these, `[!a-z]`
///                    one of the others, and `\` takes the next character as it is
///     "TEXT"         (with the quotes) a name, whatever characters it has
///     0x40201000     the function whose entry holds this address
///     !RULE          takes away what RULE matches
/// ```
///
/// Rules by name need the kernel's symbol table.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct fentry_rule {
    /// The rule as text, in UTF-8; or NULL, and `function` counts.
    pub text: *const c_char,
    /// The function, by its address.
    pub function: *const c_void,
    /// Not 0: what `function` is about is taken away.
    pub takes_away: u32,
}

impl fentry_rule {
    /// # Safety
    ///
    /// 1. `text` is NULL, or ends in a zero and stays as it is for `'a`.
    unsafe fn to_rust<'a>(self) -> Result<Rule<'a>, fentry_error> {
        if self.text.is_null() {
            if self.function.is_null() {
                return Err(fentry_error::NullPointer);
            }
            let rule = Rule::address(TextAddr::new(self.function.addr() as u64));
            return Ok(if self.takes_away == 0 { rule } else { rule.negated() });
        }
        // SAFETY: 1. our caller's promise.
        let text = unsafe { from_c::text(self.text, fentry_error::BadRule) }?;
        Rule::parse(text).map_err(|error| {
            super::console::say(format_args!("fentry: the rule {text}: {error}\n"));
            fentry_error::BadRule
        })
    }
}

/// What the call that is under way was asked for: not on the stack, which is small in a kernel.
static OPTIONS: spin::Mutex<Options<'static>> = spin::Mutex::new(Options::NONE);

const _: () = assert!(FENTRY_MAX_RULES == MAX_RULES);

/// Calls `use_them` with options that ask for nothing yet, and that nobody else uses meanwhile. What they are given is forgotten
/// before this returns, so that it need not live any longer.
pub(super) fn with_options<R>(use_them: impl FnOnce(&mut Options<'static>) -> R) -> R {
    let mut options = loop {
        if let Some(options) = OPTIONS.try_lock() {
            break options;
        }
        // Its owner may be waiting for this CPU to synchronise.
        KERNEL.relax();
    };
    let result = use_them(&mut options);
    *options = Options::NONE;
    result
}

/// Calls `use_it` with the filter that these rules make.
///
/// # Safety
///
/// 1. `rules` is NULL, or points at `count` rules, whose texts are NULL or end in a zero; they stay as they are meanwhile.
pub(super) unsafe fn with_filter<R>(
    rules: *const fentry_rule,
    count: usize,
    use_it: impl FnOnce(&Filter<'_>) -> Result<R, fentry_error>,
) -> Result<R, fentry_error> {
    // SAFETY: 1. our caller's promise.
    let rules = unsafe { from_c::slice(rules, count) }?;
    with_options(|options| {
        for rule in rules {
            // SAFETY: 1. our caller's promise; the rule is forgotten before this returns.
            let rule = unsafe { rule.to_rust() }?;
            options.rules.try_push(rule).map_err(|_| fentry_error::TooManyRules)?;
        }
        use_it(&Filter::new(&options.rules))
    })
}
