//! Pools under load, an adversary, and a ledger that checks the promises.
//!
//! ```text
//! procpool-chaos [--seconds 60] [--seed N] [SCENE]
//! ```
//!
//! Without a scene it plays all of them in turn, each in a process of its own, until the time is over, and adds up what
//! came of them; the first violation ends it. With one it plays that scene alone. Scenes are `storm` (signals, limits,
//! memory), `orphans` (the parent dies), and `without-CALL` and `losing-CALL` (the kernel refuses a system call from
//! the beginning on, or from a random instant).

mod adversary;
mod ledger;
mod load;
mod orphans;
mod scene;
mod series;
mod verdict;
mod watchdog;

// What the tests of the crate use to look at processes, and at what is left behind.
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../crates/procpool/tests/common/inventory.rs"]
mod inventory;
#[allow(dead_code, reason = "the tests use more of it")]
#[path = "../../crates/procpool/tests/common/processes.rs"]
mod processes;

use std::process::ExitCode;
use std::time::Duration;

/// How long the inventory waits for what takes a moment to be gone.
const PATIENCE: Duration = Duration::from_secs(60);

/// The variable that makes this program play one scene, instead of directing them.
const PLAY: &str = "PROCPOOL_CHAOS_PLAY";

/// What the command line says.
struct Arguments {
    seconds: f64,
    seed: Option<u64>,
    scene: Option<String>,
}

fn main() -> ExitCode {
    let Arguments { seconds, seed, scene } = match Arguments::read(std::env::args().skip(1)) {
        Ok(arguments) => arguments,
        Err(fault) => {
            eprintln!("{fault}\nusage: procpool-chaos [--seconds N] [--seed N] [SCENE]");
            return ExitCode::from(2);
        }
    };
    let seed = seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    match (std::env::var_os(PLAY), scene) {
        (Some(_), Some(scene)) => series::play(&scene, seconds, seed),
        (None, Some(scene)) => series::run(&[&scene], seconds, seed),
        (_, None) => series::run_all(seconds, seed),
    }
}

impl Arguments {
    fn read(mut words: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut found = Self { seconds: 60.0, seed: None, scene: None };
        while let Some(word) = words.next() {
            match word.as_str() {
                "--seconds" => found.seconds = number(&word, words.next())?,
                "--seed" => found.seed = Some(number(&word, words.next())?),
                _ if word.starts_with('-') => return Err(format!("there is no option {word}")),
                _ => found.scene = Some(word),
            }
        }
        Ok(found)
    }
}

fn number<N: std::str::FromStr>(option: &str, word: Option<String>) -> Result<N, String> {
    word.and_then(|word| word.parse().ok()).ok_or_else(|| format!("{option} needs a number"))
}
