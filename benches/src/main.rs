//! What procpool costs, beside its rivals and beside the limits themselves.
//!
//! Every case runs all of its contenders in one run of this program, in interleaved rounds whose order rotates, so that
//! a machine that is slow for a while is slow for all of them. Medians over the rounds go into a table and into
//! `results.json`; the goals that the project has set itself are compared with them at the end.
//!
//! One file per concern: [`case`] says what is measured, [`cases`] holds the cases, [`contenders`] the rivals' setups,
//! [`rounds`] measures, [`report`] and [`goals`] print, [`json`] writes, and [`child`] runs this program once more for
//! what can only be measured in a fresh process. How cost grows is the other half: [`curve`] says what a curve is,
//! [`curves`] holds them, [`trace`] measures and writes.

mod case;
mod cases;
mod child;
mod contenders;
mod curve;
mod curves;
mod goals;
mod json;
mod machine;
mod options;
mod report;
mod rounds;
mod trace;
mod usage;

use std::env;
use std::process::ExitCode;

use crate::case::Failure;
use crate::options::{Command, Options};

fn main() -> ExitCode {
    // A worker of procspawn is this program, run again; it comes no further than this. procpool needs no such line.
    procspawn::init();

    let done = match Command::from_arguments(env::args().skip(1)) {
        Ok(Command::Compare(options)) => compare(&options),
        Ok(Command::Trace(options)) => trace_all(&options),
        Ok(Command::List) => list(),
        Ok(Command::Help) => help(),
        Ok(Command::Child { measurement, contender }) => child::serve(&measurement, &contender),
        Ok(Command::ChildCurve { curve, contender, points }) => trace::serve(&curve, &contender, &points),
        Err(complaint) => Err(format!("{complaint}\n\n{}", options::USAGE).into()),
    };
    match done {
        Ok(code) => code,
        Err(failure) => {
            eprintln!("procpool-benches: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the chosen cases, prints each as soon as it is known, and writes everything to a file.
fn compare(options: &Options) -> Result<ExitCode, Failure> {
    machine::print();
    let mut measured = Vec::new();
    for case in options.cases() {
        let entries = rounds::run(case, options.rounds);
        report::print(case, &entries);
        measured.push((case, entries));
    }
    if options.all() {
        json::clear(&options.out)?;
    }
    let verdicts = goals::verdicts(&measured);
    goals::print(&verdicts);
    json::write_results(&options.out, &measured)?;
    json::write_goals(&options.out, &verdicts)?;
    json::write_machine(&options.out)?;
    println!("\nwritten to {}", options.out.display());

    let all_measured = measured.iter().flat_map(|(_, entries)| entries).all(|entry| entry.failure.is_none());
    Ok(if all_measured { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Measures the chosen curves, prints each as soon as it is known, and writes it to a file of its own.
fn trace_all(options: &Options) -> Result<ExitCode, Failure> {
    machine::print();
    let folder = options.out.join("curves");
    for curve in options.curves() {
        trace::run(curve, options.quick, &folder)?;
    }
    println!("\nwritten to {}", folder.display());
    Ok(ExitCode::SUCCESS)
}

fn list() -> Result<ExitCode, Failure> {
    for case in cases::ALL {
        let names: Vec<_> = case.contenders.iter().map(|contender| contender.name).collect();
        println!("{:<34} {:<16} {}", case.name, case.unit, names.join(", "));
    }
    for curve in curves::ALL {
        let names: Vec<_> = curve.contenders.iter().map(|contender| contender.name).collect();
        println!("--curves {:<25} {:<24} {}", curve.name, curve.axis, names.join(", "));
    }
    Ok(ExitCode::SUCCESS)
}

fn help() -> Result<ExitCode, Failure> {
    println!("{}", options::USAGE);
    Ok(ExitCode::SUCCESS)
}
