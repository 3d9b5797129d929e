//! Measurements that need a fresh process: the program runs itself with `--child MEASUREMENT CONTENDER` and reads the
//! figure that this prints.
//!
//! The child is an ordinary process: a new execution, not a fork, so it has no threads, pools or touched memory of the
//! other cases.

use std::env;
use std::process::{Command, ExitCode, Stdio};

use crate::case::Failure;
use crate::cases::{pending, start};

/// Takes the measurement in a child process and returns its figure.
pub(crate) fn measure(measurement: &str, contender: &str) -> Result<f64, Failure> {
    let output = Command::new(env::current_exe()?)
        .args(["--child", measurement, contender])
        .stderr(Stdio::inherit())
        .output()?;
    if !output.status.success() {
        return Err(format!("the process that measured it failed: {}", output.status).into());
    }
    let printed = String::from_utf8(output.stdout)?;
    printed.trim().parse().map_err(|_| format!("the process that measured it printed {printed:?}").into())
}

/// The child's side: takes the measurement and prints the figure.
pub(crate) fn serve(measurement: &str, contender: &str) -> Result<ExitCode, Failure> {
    let figure = match measurement {
        start::FIRST_RESULT => start::first_result(contender)?,
        pending::MEMORY => pending::measure(contender)?.bytes_per_task(),
        pending::DESCRIPTORS => pending::measure(contender)?.descriptors_per_task(),
        _ => return Err(format!("no measurement is called {measurement}").into()),
    };
    println!("{figure}");
    Ok(ExitCode::SUCCESS)
}
