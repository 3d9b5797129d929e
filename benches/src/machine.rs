//! What the figures were measured on.

use std::fs;
use std::process::Command;
use std::thread;

/// The facts that a reader needs to compare these figures with those of another machine.
pub(crate) fn facts() -> impl Iterator<Item = (&'static str, String)> {
    let processors = thread::available_parallelism().map_or(0, usize::from);
    [
        ("CPUs", Some(format!("{processors} ({})", processor_model().unwrap_or("unknown model".into())))),
        ("kernel", first_line("/proc/sys/kernel/osrelease")),
        ("rustc", compiler()),
        ("load", first_line("/proc/loadavg")),
    ]
    .into_iter()
    .map(|(name, fact)| (name, fact.unwrap_or("unknown".into())))
}

pub(crate) fn print() {
    for (name, fact) in facts() {
        println!("{name:<8}{fact}");
    }
}

fn first_line(path: &str) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.lines().next()?.to_owned())
}

fn processor_model() -> Option<String> {
    let facts = fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = facts.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn compiler() -> Option<String> {
    let output = Command::new("rustc").arg("--version").output().ok()?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
