//! The command line.

use std::env;
use std::path::{Path, PathBuf};

use crate::case::Case;
use crate::cases;
use crate::curve::Curve;
use crate::curves;

pub(crate) const USAGE: &str = "\
usage: procpool-benches [--quick] [--rounds N] [--only CASE]... [--out FOLDER]
       procpool-benches --curves [--quick] [--only CURVE]... [--out FOLDER]
       procpool-benches --list

  --quick        5 rounds of each case instead of 15, done within a minute; curves: one round, shorter
  --rounds N     N rounds of each case
  --curves       measure how cost grows, and not the cases
  --only NAME    only the cases or curves whose names contain NAME; may be repeated
  --out FOLDER   where to write results.json, goals.json, machine.json and curves (default: target/bench)
  --list         print the cases and the curves with their contenders";

const ROUNDS: usize = 15;
const ROUNDS_QUICK: usize = 5;

/// What this run of the program is to do.
pub(crate) enum Command {
    Compare(Options),
    Trace(Options),
    List,
    Help,
    /// Not for people: one measurement in a process of its own, asked for by the program itself.
    Child {
        measurement: String,
        contender: String,
    },
    /// The same for points of a curve.
    ChildCurve {
        curve: String,
        contender: String,
        points: Vec<u64>,
    },
}

/// How to compare.
pub(crate) struct Options {
    pub(crate) quick: bool,
    pub(crate) rounds: usize,
    pub(crate) out: PathBuf,
    only: Vec<String>,
}

impl Command {
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options { quick: false, rounds: ROUNDS, out: default_out(), only: Vec::new() };
        let mut curves = false;
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => (options.quick, options.rounds) = (true, ROUNDS_QUICK),
                "--rounds" => options.rounds = rounds(&value()?)?,
                "--curves" => curves = true,
                "--only" => options.only.push(value()?),
                "--out" => options.out = PathBuf::from(value()?),
                "--list" => return Ok(Command::List),
                "--help" | "-h" => return Ok(Command::Help),
                "--child" => return Ok(Command::Child { measurement: value()?, contender: value()? }),
                "--child-curve" => {
                    let (curve, contender) = (value()?, value()?);
                    let points =
                        arguments.map(|point| point.parse().map_err(|_| format!("no point is at {point}")));
                    return Ok(Command::ChildCurve {
                        curve,
                        contender,
                        points: points.collect::<Result<_, _>>()?,
                    });
                }
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        options.check(curves)?;
        Ok(if curves { Command::Trace(options) } else { Command::Compare(options) })
    }
}

impl Options {
    /// The chosen cases, in the order in which they are listed.
    pub(crate) fn cases(&self) -> impl Iterator<Item = &'static Case> {
        cases::ALL.iter().copied().filter(|case| self.chosen(case.name))
    }

    /// The chosen curves, in the order in which they are listed.
    pub(crate) fn curves(&self) -> impl Iterator<Item = &'static Curve> {
        curves::ALL.iter().copied().filter(|curve| self.chosen(curve.name))
    }

    /// Whether no choice was made.
    pub(crate) fn all(&self) -> bool {
        self.only.is_empty()
    }

    fn chosen(&self, name: &str) -> bool {
        self.all() || self.only.iter().any(|only| name.contains(only))
    }

    /// Whether each name that was asked for is one.
    fn check(&self, curves: bool) -> Result<(), String> {
        let names: Vec<&str> = if curves {
            curves::ALL.iter().map(|curve| curve.name).collect()
        } else {
            cases::ALL.iter().map(|case| case.name).collect()
        };
        let unknown = |only: &&String| !names.iter().any(|name| name.contains(only.as_str()));
        match self.only.iter().find(unknown) {
            Some(only) => Err(format!("nothing has {only} in its name; --list prints what there is")),
            None => Ok(()),
        }
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|rounds| *rounds > 0)
        .ok_or(format!("--rounds needs a number above 0, not {text}"))
}

fn default_out() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    Path::new(&target).join("bench")
}
