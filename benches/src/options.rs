//! The command line.

use std::env;
use std::path::{Path, PathBuf};

use crate::case::Case;
use crate::cases;

pub(crate) const USAGE: &str = "\
usage: procpool-benches [--quick] [--rounds N] [--only CASE]... [--out PATH]
       procpool-benches --list

  --quick        5 rounds of each case instead of 15; done within a minute
  --rounds N     N rounds of each case
  --only CASE    only the cases whose names contain CASE; may be repeated
  --out PATH     where to write the results (default: bench/results.json in the target directory)
  --list         print the cases and their contenders";

const ROUNDS: usize = 15;
const ROUNDS_QUICK: usize = 5;

/// What this run of the program is to do.
pub(crate) enum Command {
    Compare(Options),
    List,
    Help,
    /// Not for people: one measurement in a process of its own, asked for by the program itself.
    Child {
        measurement: String,
        contender: String,
    },
}

/// How to compare.
pub(crate) struct Options {
    pub(crate) rounds: usize,
    pub(crate) out: PathBuf,
    only: Vec<String>,
}

impl Command {
    pub(crate) fn from_arguments(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Options { rounds: ROUNDS, out: default_out(), only: Vec::new() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--quick" => options.rounds = ROUNDS_QUICK,
                "--rounds" => options.rounds = rounds(&value()?)?,
                "--only" => options.only.push(known_case(value()?)?),
                "--out" => options.out = PathBuf::from(value()?),
                "--list" => return Ok(Command::List),
                "--help" | "-h" => return Ok(Command::Help),
                "--child" => return Ok(Command::Child { measurement: value()?, contender: value()? }),
                _ => return Err(format!("unknown argument {argument}")),
            }
        }
        Ok(Command::Compare(options))
    }
}

impl Options {
    /// The chosen cases, in the order in which they are listed.
    pub(crate) fn cases(&self) -> impl Iterator<Item = &'static Case> {
        let chosen =
            |case: &&Case| self.only.is_empty() || self.only.iter().any(|only| case.name.contains(only));
        cases::ALL.iter().copied().filter(chosen)
    }
}

fn rounds(text: &str) -> Result<usize, String> {
    text.parse()
        .ok()
        .filter(|rounds| *rounds > 0)
        .ok_or(format!("--rounds needs a number above 0, not {text}"))
}

fn known_case(text: String) -> Result<String, String> {
    if cases::ALL.iter().any(|case| case.name.contains(&text)) {
        Ok(text)
    } else {
        Err(format!("no case has {text} in its name; --list prints them"))
    }
}

fn default_out() -> PathBuf {
    let target = env::var_os("CARGO_TARGET_DIR").unwrap_or("target".into());
    Path::new(&target).join("bench").join("results.json")
}
