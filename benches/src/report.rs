//! The table that people read.

use crate::case::Case;
use crate::rounds::Entry;

/// Prints a case: per contender the median, the spread, and how many times better procpool's median is.
pub(crate) fn print(case: &Case, entries: &[Entry]) {
    let procpool = entries.iter().find(|entry| entry.name == "procpool").and_then(Entry::median);
    let better = if case.higher_is_better { "higher is better" } else { "lower is better" };
    println!("\n{} [{}, {better}]", case.name, case.unit);
    println!("  {:<22}{:>14}   {:<26}{:>16}", "contender", "median", "min .. max", "procpool ahead");
    for entry in entries {
        print_entry(case, entry, procpool);
    }
    if !case.note.is_empty() {
        println!("  ({})", case.note);
    }
}

fn print_entry(case: &Case, entry: &Entry, procpool: Option<f64>) {
    if let Some(failure) = &entry.failure {
        println!("  {:<22}{:>14}   {failure}", entry.name, "failed");
        return;
    }
    let Some(median) = entry.median() else { return };
    let (lowest, highest) = entry.spread();
    let spread = format!("{} .. {}", figure(lowest), figure(highest));
    let ahead = match procpool {
        Some(procpool) if entry.name != "procpool" => times(advantage(case, procpool, median)),
        _ => String::new(),
    };
    println!("  {:<22}{:>14}   {spread:<26}{ahead:>16}", entry.name, figure(median));
}

/// How many times better `ours` is than `theirs`; below 1 it is worse.
fn advantage(case: &Case, ours: f64, theirs: f64) -> f64 {
    if case.higher_is_better { ours / theirs } else { theirs / ours }
}

fn times(ratio: f64) -> String {
    if ratio.is_finite() { format!("{} x", figure(ratio)) } else { "-".to_owned() }
}

/// A figure as people write it: three digits that count, or whole and in groups of three.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        magnitude if magnitude < 0.01 => format!("{value:.1e}"),
        magnitude if magnitude < 10.0 => format!("{value:.2}"),
        magnitude if magnitude < 100.0 => format!("{value:.1}"),
        _ => grouped(value),
    }
}

fn grouped(value: f64) -> String {
    let digits = format!("{:.0}", value.abs());
    let mut text = if value < 0.0 { "-".to_owned() } else { String::new() };
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position).is_multiple_of(3) {
            text.push(' ');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::figure;

    #[test]
    fn figures_keep_three_digits_and_large_ones_are_grouped() {
        let figures = [0.0, 0.001_234, 1.234, 56.78, 123.4, 1_234_567.8, -1234.0].map(figure);
        assert_eq!(figures, ["0", "1.2e-3", "1.23", "56.8", "123", "1 234 568", "-1 234"]);
    }
}
