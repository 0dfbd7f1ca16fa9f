//! A flame graph: one rectangle for each stack, as wide as the time that was spent in it, above the one that called it.
//! An SVG that needs nothing else: what a rectangle is stands in its title, which browsers show under the pointer.

use std::io::Write;

use anyhow::Result;

use super::folded::{Frame, ROOT, Stacks};
use super::spelling::micros;
use crate::trace::model::Trace;

const WIDTH: f64 = 1200.0;
const MARGIN: f64 = 10.0;
const ROW: f64 = 17.0;
const HEADING: f64 = 40.0;
const FONT_SIZE: f64 = 12.0;
/// The width of a character of the monospaced font.
const CHARACTER: f64 = 0.61 * FONT_SIZE;
/// What is narrower cannot be seen and is left out.
const MIN_WIDTH: f64 = 0.2;

/// Writes the SVG.
pub(crate) fn write(trace: &Trace, out: &mut impl Write) -> Result<()> {
    let Stacks { frames, .. } = Stacks::of(trace)?;
    let mut total_ns: Vec<u64> = frames.iter().map(|frame| frame.self_ns).collect();
    for (index, frame) in frames.iter().enumerate().skip(1).rev() {
        total_ns[frame.outer] = total_ns[frame.outer].saturating_add(total_ns[index]);
    }
    let scale = (WIDTH - 2.0 * MARGIN) / total_ns[ROOT] as f64;
    let mut picture = Picture { out: Vec::new(), frames: &frames, total_ns: &total_ns, scale, rows: 0 };
    picture.draw(ROOT, MARGIN, 0)?;
    let Picture { out: drawn, rows, .. } = picture;

    let height = HEADING + ROW * rows as f64 + MARGIN;
    writeln!(
        out,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
         height=\"{height}\" font-family=\"monospace\" font-size=\"{FONT_SIZE}\">"
    )?;
    writeln!(out, "<rect width=\"100%\" height=\"100%\" fill=\"#fffdf8\"/>")?;
    let middle = WIDTH / 2.0;
    writeln!(out, "<text x=\"{middle}\" y=\"25\" text-anchor=\"middle\" font-size=\"17\">Time in functions</text>")?;
    writeln!(out, "<g transform=\"translate(0 {})\">", height - MARGIN)?;
    out.write_all(&drawn)?;
    writeln!(out, "</g>\n</svg>")?;
    Ok(())
}

/// The rectangles, from the floor at 0 upwards.
struct Picture<'a> {
    out: Vec<u8>,
    frames: &'a [Frame],
    /// Of each frame, with what is inside.
    total_ns: &'a [u64],
    /// Width per nanosecond.
    scale: f64,
    /// How many rows have something to see.
    rows: usize,
}

impl Picture<'_> {
    fn draw(&mut self, index: usize, x: f64, row: usize) -> Result<()> {
        let (frame, total_ns) = (&self.frames[index], self.total_ns[index]);
        let width = total_ns as f64 * self.scale;
        if width < MIN_WIDTH {
            return Ok(());
        }
        self.rows = self.rows.max(row + 1);
        let y = -ROW * (row + 1) as f64;
        let percent = 100.0 * total_ns as f64 / self.total_ns[ROOT] as f64;
        let title = format!("{}: {} us, {percent:.2} %", frame.name, micros(total_ns));
        let (shown_width, shown_height) = ((width - 0.5).max(MIN_WIDTH), ROW - 1.0);
        write!(
            self.out,
            "<g><title>{}</title><rect x=\"{x:.2}\" y=\"{y:.2}\" width=\"{shown_width:.2}\" \
             height=\"{shown_height:.2}\" rx=\"2\" fill=\"{}\"/>",
            escaped(&title),
            colour(&frame.name)
        )?;
        if let Some(text) = fitted(&frame.name, width) {
            let (x, y) = (x + 3.0, y + ROW - 5.0);
            write!(self.out, "<text x=\"{x:.2}\" y=\"{y:.2}\">{}</text>", escaped(&text))?;
        }
        writeln!(self.out, "</g>")?;
        let mut x = x;
        for inner in frame.inside.values() {
            self.draw(*inner, x, row + 1)?;
            x += self.total_ns[*inner] as f64 * self.scale;
        }
        Ok(())
    }
}

/// As much of a name as fits; nothing where that would say nothing.
fn fitted(name: &str, width: f64) -> Option<String> {
    let room = ((width - 6.0) / CHARACTER).floor().max(0.0) as usize;
    match name.chars().count() {
        length if length <= room => Some(name.to_owned()),
        _ if room < 3 => None,
        _ => Some(name.chars().take(room - 2).chain("..".chars()).collect()),
    }
}

/// A warm colour, the same for the same name.
fn colour(name: &str) -> String {
    // FNV-1a.
    let hash = name
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let part = |shift: u32, range: u64| (((hash >> shift) & 0xffff) * range) >> 16;
    let (red, green, blue) = (215 + part(0, 40), 90 + part(16, 130), 40 + part(32, 50));
    format!("rgb({red},{green},{blue})")
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped += "&amp;",
            '<' => escaped += "&lt;",
            '>' => escaped += "&gt;",
            '"' => escaped += "&quot;",
            // XML has no place for these: its production Char (2.2).
            control if control.is_control() => escaped.push(' '),
            '\u{fffe}' | '\u{ffff}' => escaped.push(char::REPLACEMENT_CHARACTER),
            other => escaped.push(other),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::formats::tests::expect_golden;
    use crate::trace::tests::fixture;

    #[test]
    fn the_picture_is_as_expected() {
        let mut out = Vec::new();
        write(&fixture::graph(), &mut out).unwrap();
        expect_golden("graph.svg", &out);
    }

    #[test]
    fn names_are_fitted() {
        assert_eq!(fitted("kernel::main", 200.0).as_deref(), Some("kernel::main"));
        assert_eq!(fitted("kernel::main", 60.0).as_deref(), Some("kerne.."));
        assert_eq!(fitted("kernel::main", 20.0), None);
    }

    #[test]
    fn names_cannot_break_the_picture() {
        assert_eq!(escaped("<a as b<\"&\">>\n"), "&lt;a as b&lt;&quot;&amp;&quot;&gt;&gt; ");
        // XML 1.0, production 2: Char.
        let is_char = |c: char| matches!(u32::from(c), 9 | 10 | 13 | 0x20..=0xd7ff | 0xe000..=0xfffd | 0x1_0000..);
        for character in char::MIN..=char::MAX {
            let escaped = escaped(&character.to_string());
            assert!(!escaped.is_empty() && escaped.chars().all(is_char), "{character:?}: {escaped:?}");
        }
    }
}
