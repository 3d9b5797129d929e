//! A short run of everything, so that what breaks a promise is seen before it is merged. Long ones are for hands:
//! `make chaos SECONDS=600`.

use std::process::Command;

/// Long enough for a storm, some parents that die, and a system call that is refused.
const SECONDS: &str = "10";

#[test]
fn all_promises_are_kept_in_a_short_run() {
    let mut chaos = Command::new(env!("CARGO_BIN_EXE_procpool-chaos"));
    let output = chaos.args(["--seconds", SECONDS, "--seed", "1"]).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    println!("{text}");
    assert!(output.status.success() && text.ends_with("\n0 violations\n"));
}
