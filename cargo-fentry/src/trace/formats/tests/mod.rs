//! What is written, compared with the files in `golden` and with what the real readers make of it.

mod readers;

use std::path::PathBuf;

/// With this variable set, the tests write the expected files instead of comparing:
/// `FENTRY_RENEW_GOLDEN=1 cargo test --package cargo-fentry trace`
const RENEW: &str = "FENTRY_RENEW_GOLDEN";

/// Bytes as text, 16 a line; lines of zeros are left out.
pub(in crate::trace) fn hex(bytes: &[u8]) -> String {
    let mut text = String::new();
    for (number, line) in bytes.chunks(16).enumerate().filter(|(_, line)| line.iter().any(|byte| *byte != 0)) {
        let words: Vec<String> = line.iter().map(|byte| format!("{byte:02x}")).collect();
        let letters: String =
            line.iter().map(|byte| if (0x20..0x7f).contains(byte) { char::from(*byte) } else { '.' }).collect();
        text += &format!("{:06x}  {:47}  {letters}\n", number * 16, words.join(" "));
    }
    text
}

/// Compares with the expected file of this name, or writes it.
pub(in crate::trace) fn expect_golden(name: &str, found: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("src/trace/formats/tests/golden").join(name);
    if std::env::var_os(RENEW).is_some() {
        std::fs::write(&path, found).unwrap();
        return;
    }
    let expected = std::fs::read(&path).unwrap_or_default();
    if expected != found {
        let differs = expected.split(|byte| *byte == b'\n').zip(found.split(|byte| *byte == b'\n'));
        let line = differs.take_while(|(expected, found)| expected == found).count();
        let line_of = |text: &[u8]| {
            let line = text.split(|byte| *byte == b'\n').nth(line).unwrap_or_default();
            String::from_utf8_lossy(line).into_owned()
        };
        panic!(
            "{name} differs in line {}:\nexpected: {}\n   found: {}\n{RENEW}=1 cargo test --package cargo-fentry trace renews it",
            line + 1,
            line_of(&expected),
            line_of(found)
        );
    }
}
