//! The result as a person reads it.

use std::fmt::{self, Write as _};

use super::report::{FAIR, Report, Row};

/// An exponent beyond this is more than a cost for each.
const SUPERLINEAR: f64 = 1.05;

/// A table: each column as wide as its widest cell, the first to the left and the others to the right.
#[derive(Default)]
struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    fn new(heading: &[&str]) -> Self {
        Self { rows: vec![heading.iter().map(|&cell| cell.to_owned()).collect()] }
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or(0);
        let cell_width = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
        let widths: Vec<usize> =
            (0..columns).map(|column| self.rows.iter().map(|row| cell_width(row, column)).max().unwrap_or(0)).collect();
        for row in &self.rows {
            let mut line = String::new();
            for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
                match column {
                    0 => write!(line, "  {cell:width$}")?,
                    _ => write!(line, "  {cell:>width$}")?,
                }
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A number with a comma between thousands, and a decimal where there are few digits before it.
pub(super) fn number(value: f64) -> String {
    if value < 100.0 && value.fract() != 0.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

fn or_dash<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map_or("-".to_owned(), show)
}

fn cells(row: &Row, columns: &[&str]) -> Vec<String> {
    let mut cells = vec![title(row), or_dash(row.size, |size| number(size as f64))];
    cells.extend(columns.iter().map(|column| or_dash(row.value(column), number)));
    cells.push(or_dash(row.linux.as_ref(), |linux| format!("{} ({})", number(linux.figure), linux.kernel)));
    cells.push(or_dash(row.ratio, |ratio| if ratio < 0.01 { format!("{ratio:.5}") } else { format!("{ratio:.2}") }));
    cells.push(or_dash(row.aim, |aim| format!("{}{}", number(aim), if row.misses_aim() { " missed" } else { "" })));
    cells
}

fn title(row: &Row) -> String {
    let mut title = row.title.clone();
    if row.unit != "instructions" {
        let _ = write!(title, ", {}", row.unit);
    }
    if let Some(each) = &row.each {
        let _ = write!(title, ", each {}", each.of);
    }
    title
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut columns: Vec<&str> = self.rows.iter().flat_map(|row| row.counts.keys().map(String::as_str)).collect();
        columns.sort_unstable();
        columns.dedup();
        let mut heading = vec!["guest instructions", "size"];
        heading.extend(&columns);
        heading.extend(["Linux's best", "ratio", "aim"]);
        let mut table = Table::new(&heading);
        table.rows.extend(self.rows.iter().map(|row| cells(row, &columns)));
        writeln!(f, "{table}")?;
        writeln!(
            f,
            "  ratio: ours by Linux's, of {FAIR} where it was counted, as Linux is compiled; below 1 we are ahead"
        )?;
        self.show_growth(f)?;
        self.show_stubs(f)?;
        let names = |is_so: fn(&Row) -> bool| {
            let names: Vec<String> = self.rows.iter().filter(|row| is_so(row)).map(Row::name).collect();
            if names.is_empty() { "none".to_owned() } else { names.join(", ") }
        };
        writeln!(f, "\n  behind an aim: {}", names(Row::misses_aim))?;
        writeln!(f, "  behind Linux:  {}", names(Row::is_behind_linux))
    }
}

impl Report {
    fn show_growth(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.growth.is_empty() {
            return Ok(());
        }
        let mut table = Table::new(&["growth: cost ~ size^exponent", "column", "exponent", "from", "to"]);
        for growth in &self.growth {
            let range = |point: Option<&(u64, u64)>| or_dash(point, |(_, cost)| number(*cost as f64));
            let mark = if growth.exponent > SUPERLINEAR { " superlinear" } else { "" };
            table.rows.push(vec![
                growth.key.clone(),
                growth.column.clone(),
                format!("{:.2}{mark}", growth.exponent),
                range(growth.points.first()),
                range(growth.points.last()),
            ]);
        }
        write!(f, "\n{table}")
    }

    fn show_stubs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.stubs.is_empty() {
            return Ok(());
        }
        let heading = ["stub, by llvm-mca", "column", "instructions", "CPU", "cycles a call", "one call alone"];
        let mut table = Table::new(&heading);
        for stub in &self.stubs {
            table.rows.push(vec![
                stub.name.clone(),
                stub.column.clone(),
                stub.instructions.to_string(),
                stub.cpu.clone(),
                format!("{:.1}", stub.cycles),
                stub.critical_path.to_string(),
            ]);
        }
        write!(f, "\n{table}")
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{count, report};
    use super::*;

    #[test]
    fn numbers_are_short_and_readable() {
        let shown = [0.0, 4.0, 8.5, 127.7, 1552.4, 8_000_000.0].map(number);
        assert_eq!(shown, ["0", "4", "8.5", "128", "1,552", "8,000,000"]);
    }

    #[test]
    fn a_row_shows_both_sides_and_whether_the_aim_is_missed() {
        let text = report(&[count("call-ops", 1, 60), count("enable-all", 1000, 130_500)]).to_string();
        let lines: Vec<Vec<&str>> = text
            .lines()
            .map(|line| line.split("  ").map(str::trim).filter(|cell| !cell.is_empty()).collect())
            .collect();
        assert_eq!(lines[1], ["call, one ops, empty callback", "1", "60", "60", "40 (6.12)", "1.50", "30 missed"]);
        assert_eq!(
            lines[2],
            [
                "enable all callsites, all text with a permanent alias, each callsite",
                "1,000",
                "130",
                "130",
                "1,215 (6.12)",
                "0.11",
                "60 missed"
            ]
        );
        assert!(text.contains("behind an aim: call-ops [1], enable-all [1000]\n"));
        assert!(text.ends_with("behind Linux:  call-ops [1]\n"));
    }
}
