// SPDX-License-Identifier: Apache-2.0
//! Tables for people: a line each, columns aligned.

use crate::error::Escaped;

/// Spaces between two columns.
const GAP: &str = "  ";

/// Stands for what there is not, so that every line has as many words as the first.
pub const NONE: &str = "-";

/// A cell: text that came from elsewhere, escaped.
pub fn cell(text: &str) -> String {
    if text.is_empty() { NONE.to_owned() } else { Escaped(text.as_bytes()).to_string() }
}

/// Heading and rows, all of as many cells.
pub fn table<const N: usize>(heading: [&str; N], rows: impl IntoIterator<Item = [String; N]>) -> String {
    let mut lines = vec![heading.map(str::to_owned)];
    lines.extend(rows);
    let mut widths = [0; N];
    for line in &lines {
        for (width, cell) in widths.iter_mut().zip(line) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let shown = |line: &[String; N]| {
        let cells: Vec<_> = line.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        format!("{}\n", cells.join(GAP).trim_end())
    };
    lines.iter().map(shown).collect()
}
