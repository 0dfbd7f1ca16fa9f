//! The plot: how costs grow with callsites and with ops.

use std::ops::Range;
use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::coord::Shift;
use plotters::prelude::{
    ChartBuilder, Color, DrawingArea, IntoDrawingArea, IntoLogRange, LineSeries, PathElement, RGBColor, SVGBackend,
    SeriesLabelPosition, WHITE,
};
use plotters::style::BLACK;

use super::report::{FAIR, Growth, Report};
use super::table::number;

/// Distinct on paper and for most kinds of colour blindness (Okabe and Ito).
const COLOURS: [RGBColor; 12] = [
    RGBColor(0, 114, 178),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(230, 159, 0),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(148, 130, 40),
    RGBColor(110, 60, 160),
    RGBColor(120, 120, 120),
    RGBColor(150, 50, 40),
    RGBColor(0, 90, 80),
];

/// The key whose sizes are numbers of ops; those of all others are numbers of callsites.
const BY_OPS: &str = "call-ops";

const SIZE: (u32, u32) = (1000, 600);

/// Draws all costs that were counted at three sizes or more, of the fair column or what there is.
pub(super) fn draw(report: &Report, file: &Path) -> Result<()> {
    let column = if report.growth.iter().any(|growth| growth.column == FAIR) {
        FAIR
    } else {
        report.growth.first().map(|growth| growth.column.as_str()).ok_or_else(|| {
            anyhow!("there is nothing to plot: a cost must be counted at three sizes or more (see --size)")
        })?
    };
    let (by_ops, by_callsites): (Vec<&Growth>, Vec<&Growth>) =
        report.growth.iter().filter(|growth| growth.column == column).partition(|growth| growth.key == BY_OPS);
    let charts: Vec<_> = [("callsites", by_callsites), ("ops on the callsite", by_ops)]
        .into_iter()
        .filter(|(_, lines)| !lines.is_empty())
        .collect();
    let area = SVGBackend::new(file, (SIZE.0, SIZE.1 * charts.len() as u32)).into_drawing_area();
    // Plotters' errors hold what isn't known beyond the drawing.
    let failed = |error: &dyn std::fmt::Display| anyhow!("cannot draw {}: {error}", file.display());
    area.fill(&WHITE).map_err(|error| failed(&error))?;
    for ((sizes_are, lines), part) in charts.iter().zip(area.split_evenly((charts.len(), 1))) {
        chart(&part, column, sizes_are, lines).map_err(|error| failed(&error))?;
    }
    area.present().map_err(|error| failed(&error))
}

fn chart(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    column: &str,
    sizes_are: &str,
    lines: &[&Growth],
) -> Result<(), Box<dyn std::error::Error>> {
    let points = || lines.iter().flat_map(|line| line.points.iter());
    let sizes = span(points().map(|(size, _)| *size as f64));
    let costs = span(points().map(|(_, cost)| *cost as f64));
    let mut chart = ChartBuilder::on(area)
        .caption(format!("fentry, {column}: guest instructions by {sizes_are}"), ("sans-serif", 22))
        .margin(15)
        .margin_right(50)
        .x_label_area_size(45)
        .y_label_area_size(90)
        .build_cartesian_2d(sizes.log_scale(), costs.log_scale())?;
    let label = |value: &f64| number(*value);
    chart
        .configure_mesh()
        .x_desc(sizes_are)
        .y_desc("guest instructions in all")
        .x_label_formatter(&label)
        .y_label_formatter(&label)
        .draw()?;
    for (line, colour) in lines.iter().zip(COLOURS.iter().cycle()) {
        let points = line.points.iter().map(|(size, cost)| (*size as f64, *cost as f64));
        let name = format!("{} (exponent {:.2})", line.key, line.exponent);
        chart
            .draw_series(LineSeries::new(points, colour.filled().stroke_width(2)).point_size(3))?
            .label(name)
            .legend(|(x, y)| PathElement::new([(x, y), (x + 20, y)], colour.stroke_width(2)));
    }
    // Costs that grow leave that corner free.
    let labels = &mut chart.configure_series_labels();
    labels.position(SeriesLabelPosition::UpperLeft).background_style(WHITE).border_style(BLACK).draw()?;
    Ok(())
}

/// From the power of ten below the lowest value to the one above the highest.
fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    let (low, high) = values.fold((f64::MAX, 1.0_f64), |(low, high), value| (low.min(value), high.max(value)));
    let power = |exponent: f64| 10_f64.powf(exponent);
    let low = power(low.max(1.0).log10().floor());
    low..power(high.log10().ceil()).max(low * 10.0)
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::{count, report};
    use super::*;

    #[test]
    fn a_span_is_of_whole_powers_of_ten() {
        assert_eq!(span([120.0, 90_000.0].into_iter()), 100.0..100_000.0);
        assert_eq!(span([100.0].into_iter()), 100.0..1000.0);
    }

    #[test]
    fn the_plot_names_each_cost_and_both_kinds_of_size() {
        let file = std::env::temp_dir().join(format!("fentry-bench-{}.svg", std::process::id()));
        let mut counts: Vec<_> = [100, 1000, 10_000].map(|size| count("init", size, 800 * size)).into();
        counts.extend([(1, 30), (2, 50), (10, 150)].map(|(ops, cost)| count("call-ops", ops, cost)));
        draw(&report(&counts), &file).unwrap();
        let svg = std::fs::read_to_string(&file);
        drop(std::fs::remove_file(&file));
        let svg = svg.unwrap();
        for expected in
            ["<svg", "init (exponent 1.00)", "call-ops (exponent 0.", "by callsites", "by ops on the callsite"]
        {
            assert!(svg.contains(expected), "{expected}");
        }
    }

    #[test]
    fn nothing_to_plot_is_an_error() {
        assert!(draw(&report(&[count("init", 100, 5)]), Path::new("/nowhere/plot.svg")).is_err());
    }
}
