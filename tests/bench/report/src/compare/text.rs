//! The comparison for a terminal.

use vetch_bench_record::Summary;

use super::{Basis, Comparison, Finding, Row};
use crate::aims::DIRECT;
use crate::{number, words};

impl Comparison {
    /// Tables of plain text, with the changes first.
    pub fn text(&self) -> String {
        let mut lines = Vec::new();
        if let Some(refused) = &self.refused {
            lines.push(refused.clone());
        } else {
            lines.push(self.summary());
            lines.push(String::new());
            self.changes(&mut lines);
            self.pools(&mut lines);
        }
        lines.extend(self.remarks.iter().map(|remark| format!("- {remark}")));
        // What came from a file does not steer the terminal.
        let plain = |line: &String| {
            line.chars()
                .map(|c| if c.is_control() { '\u{fffd}' } else { c })
                .collect::<String>()
        };
        let mut text = lines.iter().map(plain).collect::<Vec<_>>().join("\n");
        text.push('\n');
        text
    }

    fn summary(&self) -> String {
        // Direct is what the others are held against.
        let asked = || self.rows.iter().filter(|row| row.figure.subject != DIRECT);
        let count = |finding| asked().filter(|row| row.finding == finding).count();
        let mut text = format!("{} figures compared", asked().count());
        match self.rows.len() - asked().count() {
            0 => {}
            direct => text.push_str(&format!(" (beside {direct} of direct)")),
        }
        text.push_str(&format!(
            ": {} better, {} worse, {} within noise",
            count(Finding::Better),
            count(Finding::Worse),
            count(Finding::WithinNoise)
        ));
        match count(Finding::TooFewRounds) {
            0 => {}
            few => text.push_str(&format!(", {few} with too few rounds to tell")),
        }
        let direct_moved = self.rows.iter().any(|row| {
            row.figure.subject == DIRECT && matches!(row.finding, Finding::Better | Finding::Worse)
        });
        text.push_str(match (self.changed(), direct_moved) {
            (true, _) => ". Something changed beyond noise.",
            (false, false) => ". Nothing changed beyond noise.",
            (false, true) => {
                ". Nothing changed beside plain routing, but plain routing itself moved: see below."
            }
        });
        text
    }

    fn changes(&self, lines: &mut Vec<String>) {
        let changed: Vec<&Row> = self
            .rows
            .iter()
            .filter(|row| row.finding.is_change())
            .collect();
        if changed.is_empty() {
            return;
        }
        let mut table = vec![
            [
                "",
                "measure",
                "subject",
                "conditions",
                "before",
                "after",
                "change",
                "p",
            ]
            .map(String::from),
        ];
        table.extend(changed.iter().map(|row| {
            [
                word(row.finding, &row.figure.subject).into(),
                words::title(&row.figure.measure),
                row.figure.subject.clone(),
                words::conditions(&row.figure.conditions, |_| true).join(", "),
                spread(&row.before, row),
                format!("{} {}", spread(&row.after, row), row.unit),
                number::percent(row.change),
                p(row.p),
            ]
        }));
        lines.push("Figures that changed".into());
        lines.extend(align(&table));
        lines.push(String::new());
    }

    fn pools(&self, lines: &mut Vec<String>) {
        if self.pooled.is_empty() {
            return;
        }
        let mut table = vec![
            [
                "", "measure", "subject", "figures", "compared", "change", "p",
            ]
            .map(String::from),
        ];
        table.extend(self.pooled.iter().map(|pool| {
            [
                word(pool.finding, &pool.subject).into(),
                words::title(&pool.measure),
                pool.subject.clone(),
                pool.figures.to_string(),
                match pool.basis {
                    Basis::Direct => "÷ direct".into(),
                    Basis::Absolute => "as it is".into(),
                },
                number::percent(pool.change),
                p(pool.p),
            ]
        }));
        lines.push("Each measure over all its conditions".into());
        lines.extend(align(&table));
        lines.push(String::new());
    }
}

fn word(finding: Finding, subject: &str) -> &'static str {
    match finding {
        Finding::Better | Finding::Worse if subject == DIRECT => "moved",
        Finding::Better => "better",
        Finding::Worse => "worse",
        Finding::WithinNoise => "",
        Finding::TooFewRounds => "too few",
    }
}

fn spread(found: &Summary, row: &Row) -> String {
    let show = |value: f64| match row.basis {
        Basis::Direct => format!("{value:.3}"),
        Basis::Absolute => number::value(value),
    };
    number::spread(found, show)
}

fn p(p: f64) -> String {
    match p < 0.0001 {
        true => "<0.0001".into(),
        false => format!("{p:.4}"),
    }
}

/// Columns as wide as their widest cell.
fn align<const COLUMNS: usize>(table: &[[String; COLUMNS]]) -> Vec<String> {
    let widths: Vec<usize> = (0..COLUMNS)
        .map(|column| {
            table
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or(0)
        })
        .collect();
    let line = |row: &[String; COLUMNS]| {
        let cells: Vec<String> = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell}{}", " ".repeat(width - cell.chars().count())))
            .collect();
        format!("  {}", cells.join("  ").trim_end())
    };
    table.iter().map(line).collect()
}
