//! Refusals in what a kernel says.

use fentry::control::LINE_BYTES;

/// Finds the refusal of `line` in what the kernel has said to it, as `fentry::control` puts it in words:
///
/// ```text
/// FILE: COLUMN: error: REASON
///   Command: LINE
///            ^
/// ```
///
/// What a line shows may have any of this in it: the text of a trace, and in `error_log` the refusals of other lines, each with
/// its time before it. Other CPUs may say something behind it.
pub(super) fn refusal<'s>(said: &'s str, line: &str) -> Option<&'s str> {
    let lines: Vec<&str> = said.lines().collect();
    let is_refusal = |lines: &&[&str]| match lines {
        [head, command, caret] => {
            is_head(head, line)
                && command.strip_prefix("  Command: ").is_some_and(|shown| is_shown(shown, line))
                && caret.trim_start() == "^"
        }
        _ => false,
    };
    lines.windows(3).find(is_refusal).and_then(|lines| lines.first().copied())
}

/// Whether `head` is of a file that `line` names, or of no file.
fn is_head(head: &str, line: &str) -> bool {
    let Some((place, _)) = head.split_once(": error: ") else { return false };
    let Some((file, column)) = place.rsplit_once(": ") else { return false };
    (file == "control" || line.contains(file)) && column.parse::<usize>().is_ok()
}

/// Whether a refusal shows `line` so.
fn is_shown(shown: &str, line: &str) -> bool {
    let line = line.trim_ascii_end();
    if line.len() <= LINE_BYTES {
        return shown == line;
    }
    // At the end may be a part of a character.
    let whole = line.floor_char_boundary(LINE_BYTES - char::MAX.len_utf8());
    line.get(..whole).is_some_and(|whole| shown.starts_with(whole))
}

#[cfg(test)]
mod tests {
    use super::*;
    use fentry::Engine;
    use fentry::control::{Control, Tracing};
    use fentry::fakes::FakeText;
    use fentry::tracer::kernel::{RecordTo, StoreIn};
    use fentry::tracer::profiler::{Profile, ProfileSlot};
    use fentry::tracer::ring::{Mode, Ring, RingBlock};

    static MEMORY: [RingBlock; 2] = [const { RingBlock::new() }; 2];
    static RING: Ring = Ring::new(&MEMORY, Mode::Overwrite);
    static SLOTS: [ProfileSlot; 1] = [const { ProfileSlot::new() }; 1];
    static PROFILE: Profile = Profile::new(&SLOTS);
    static TRACING: Tracing<Kernel> = Tracing::new();

    struct Kernel;

    impl RecordTo for Kernel {
        fn ring() -> &'static Ring {
            &RING
        }
        fn task() -> u32 {
            1
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

    #[test]
    fn a_refusal_is_that_of_the_line_and_not_a_text_that_looks_like_one() {
        // Never initialised: nothing can be selected.
        let kernel = FakeText::new(0xffff_8000_8000_0000).build();
        let engine = Box::leak(Box::new(Engine::with_machine(kernel, kernel)));
        let mut control = Control::new(engine, TRACING.parts(), [&RING], || 1_000_000_000);
        let mut ask = |line: &str| {
            let mut said = String::new();
            // As far as the console of a kernel takes it.
            let bytes = &line.as_bytes()[..line.len().min(LINE_BYTES + 1)];
            let done = control.execute(bytes, &mut said);
            (done.is_err(), said)
        };
        // At whichever byte it is cut.
        let long = (0..5).map(|more| format!("echo {}{} > nosuch", "x".repeat(more), "\u{1f980}".repeat(130)));
        let short = [
            "nonsense",
            "cat nosuch",
            "cat /sys/kernel/tracing/nosuch  ",
            "\techo\t'a b\u{e9}' >nosuch",
            "echo 1 > error_log extra",
            "echo 'x: 1: error: y' > current_tracer",
            "echo function > current_tracer",
            "echo f",
        ];
        for line in short.into_iter().map(str::to_owned).chain(long) {
            let (is_refused, said) = ask(&line);
            assert!(is_refused, "{line}");
            assert_eq!(refusal(&said, &line), said.lines().next(), "{line}: {said}");
            // Other CPUs may have said something.
            assert!(refusal(&format!("hello\n{said}hello\n"), &line).is_some());
        }
        // Text that looks like one.
        assert_eq!(ask("echo 'cat: 1: error: marked' > trace_marker"), (false, String::new()));
        for line in ["cat trace", "cat error_log", "help", "ls"] {
            let (is_refused, said) = ask(line);
            assert!(!is_refused);
            assert_eq!(refusal(&said, line), None, "{said}");
            assert!(line != "cat trace" || said.contains(": error: marked"), "{said}");
            assert!(line != "cat error_log" || said.contains(": error: "), "{said}");
        }
        // A file of the kernel's own that has what its console has said before.
        let (_, before) = ask("cat nosuch");
        assert_eq!(refusal(&before, "cat console_log"), None);
    }
}
