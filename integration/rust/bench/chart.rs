// SPDX-License-Identifier: Apache-2.0
//! The chart: for each case a bar for each contender, as long as its share of the slowest one's wall time.

use std::fmt::Write as _;

use crate::Outcome;
use crate::report::short;
use crate::results::Results;

/// In pixels.
const WIDTH: f64 = 900.0;
const LABELS: f64 = 210.0;
const BARS: f64 = 470.0;
const ROW: f64 = 18.0;
const GAP: f64 = 30.0;
const TOP: f64 = 52.0;

const COLOURS: [(&str, &str); 2] = [("continuity", "#2563a8"), ("floor", "#8a8f98")];
const OTHER_COLOUR: &str = "#c9a25b";

/// Draws what has a wall time and more than one contender.
pub fn draw(results: &Results) -> Outcome<String> {
    let mut body = String::new();
    let mut y = TOP;
    for (case, cache) in results.cases() {
        let bars: Vec<_> = results
            .contenders(case, cache)
            .into_iter()
            .filter_map(|who| {
                let wall = results.median(case, cache, who, "wall")?;
                Some((who, wall, results.median(case, cache, who, "peak")))
            })
            .collect();
        if bars.len() < 2 {
            continue;
        }
        writeln!(body, r#"<text x="14" y="{}" font-weight="bold">{case}, {cache} cache</text>"#, y + 2.0)?;
        y += 8.0;
        let slowest = bars.iter().map(|(_, wall, _)| *wall).fold(0.0, f64::max);
        for (who, wall, peak) in bars {
            let colour = COLOURS.iter().find(|(name, _)| *name == who).map_or(OTHER_COLOUR, |(_, colour)| colour);
            let length = (wall / slowest * BARS).max(1.0);
            let memory = peak.map_or_else(String::new, |mib| format!(", {} MiB", short(mib)));
            writeln!(body, r#"<text x="{}" y="{}" text-anchor="end">{who}</text>"#, LABELS - 8.0, y + 13.0)?;
            writeln!(
                body,
                r#"<rect x="{LABELS}" y="{}" width="{length:.1}" height="{}" fill="{colour}"/>"#,
                y + 2.0,
                ROW - 4.0
            )?;
            writeln!(
                body,
                r#"<text x="{:.1}" y="{}">{} s{memory}</text>"#,
                LABELS + length + 6.0,
                y + 13.0,
                short(wall)
            )?;
            y += ROW;
        }
        y += GAP;
    }
    let mut out = String::new();
    writeln!(
        out,
        r#"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" viewBox="0 0 {WIDTH} {y}" font-family="sans-serif" font-size="12">"#
    )?;
    writeln!(out, r#"<rect width="{WIDTH}" height="{y}" fill="white"/>"#)?;
    writeln!(
        out,
        r#"<text x="14" y="24" font-size="15" font-weight="bold">Wall time and peak memory, medians; shorter is better</text>"#
    )?;
    out.push_str(&body);
    out.push_str("</svg>\n");
    Ok(out)
}
