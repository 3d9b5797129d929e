//! Measures a curve, in child processes, and writes it as a table of comma-separated values.

use std::collections::BTreeMap;
use std::env;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use crate::case::{Failure, median};
use crate::curve::{Curve, Processes, Tracer};
use crate::curves;
use crate::report::figure;

/// All figures of a curve, by measure, contender and point, each by its place in the curve's own lists.
type Figures = BTreeMap<(usize, usize, u64), Vec<f64>>;

/// Measures `curve`, prints it, and writes it into `folder`.
pub(crate) fn run(curve: &Curve, quick: bool, folder: &Path) -> Result<(), Failure> {
    println!("\n{}", curve.name);
    let rounds = if quick { 1 } else { curve.rounds };
    let mut figures = Figures::new();
    for round in 0..rounds {
        for turn in 0..curve.contenders.len() {
            let contender = (round + turn) % curve.contenders.len();
            measure(curve, contender, quick, &mut figures);
        }
    }
    print(curve, quick, &figures);
    fs::create_dir_all(folder)?;
    fs::write(folder.join(curve.name).with_extension("csv"), table(curve, &figures))?;
    Ok(())
}

/// Measures a contender once at every point. What fails is said, and has no place in the curve.
fn measure(curve: &Curve, contender: usize, quick: bool, figures: &mut Figures) {
    let points = curve.points(quick);
    let together = match curve.processes {
        Processes::OneForEachPoint => 1,
        Processes::OneForAllPoints => points.len(),
    };
    for points in points.chunks(together) {
        let name = curve.contenders[contender].name;
        let ended = in_child(curve, name, points, |point, values| {
            for (measure, value) in values.into_iter().enumerate() {
                figures.entry((measure, contender, point)).or_default().push(value);
            }
        });
        if let Err(failure) = ended {
            println!("  {name}, {} from {} on: {failure}", curve.axis, points[0]);
        }
    }
}

/// Runs this program once more for these points, and tells of each that it measured.
fn in_child(
    curve: &Curve,
    contender: &str,
    points: &[u64],
    mut tell: impl FnMut(u64, Vec<f64>),
) -> Result<(), Failure> {
    let output = Command::new(env::current_exe()?)
        .args(["--child-curve", curve.name, contender])
        .args(points.iter().map(u64::to_string))
        .stderr(Stdio::inherit())
        .output()?;
    for line in String::from_utf8(output.stdout)?.lines() {
        let mut numbers = line.split(' ');
        let point = numbers.next().ok_or("a line without a point")?.parse()?;
        tell(point, numbers.map(str::parse).collect::<Result<_, _>>()?);
    }
    if output.status.success() {
        Ok(())
    } else {
        Err(format!("its process failed: {}", output.status).into())
    }
}

/// The child's side: prints each point with its figures, as soon as it is measured.
pub(crate) fn serve(curve: &str, contender: &str, points: &[u64]) -> Result<ExitCode, Failure> {
    let curve = curves::ALL.iter().find(|known| known.name == curve).ok_or("no such curve")?;
    let known = |tracer: &&Tracer| tracer.name == contender;
    let tracer = curve.contenders.iter().find(known).ok_or("no such contender")?;
    let mut trace = (tracer.prepare)()?;
    for point in points {
        if let Some(values) = trace(*point)? {
            let values: Vec<_> = values.iter().map(f64::to_string).collect();
            println!("{point} {}", values.join(" "));
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn print(curve: &Curve, quick: bool, figures: &Figures) {
    for (number, measure) in curve.measures.iter().enumerate() {
        let headings: String =
            curve.contenders.iter().map(|contender| format!("{:>22}", contender.name)).collect();
        println!("  {measure}\n  {:>16}{headings}", curve.axis);
        for point in curve.points(quick) {
            let row = (0..curve.contenders.len()).map(|contender| figures.get(&(number, contender, *point)));
            let cells: String = row
                .map(|values| format!("{:>22}", values.map_or("-".into(), |values| figure(median(values)))))
                .collect();
            println!("  {:>16}{cells}", figure(*point as f64));
        }
    }
}

fn table(curve: &Curve, figures: &Figures) -> String {
    let mut text = format!("measure,contender,{},median,lowest,highest\n", curve.axis);
    for ((measure, contender, point), values) in figures {
        let (measure, contender) = (curve.measures[*measure], curve.contenders[*contender].name);
        let lowest = values.iter().copied().fold(f64::INFINITY, f64::min);
        let highest = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        // Cannot fail: it writes into a string.
        let _ =
            writeln!(text, "{measure},{contender},{point},{:.6},{lowest:.6},{highest:.6}", median(values));
    }
    text
}
