//! Writes what was measured for programs to read. Python's benchmarks, which run afterwards, add their cases.

use std::fs;
use std::path::Path;

use serde_json::{Map, Value, json};

use crate::case::{Case, Failure};
use crate::goals::Verdict;
use crate::machine;
use crate::rounds::Entry;

/// Begins anew: a run of all cases keeps nothing of earlier ones.
pub(crate) fn clear(folder: &Path) -> Result<(), Failure> {
    for name in ["results.json", "goals.json", "machine.json"] {
        let path = folder.join(name);
        if path.exists() {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Writes `results.json`: a list of `{"case", "contender", "value", "unit", "higher_is_better", "rounds", "note"}`, where
/// the value is the median of the rounds. Contenders that failed are left out.
pub(crate) fn write_results(folder: &Path, measured: &[(&Case, Vec<Entry>)]) -> Result<(), Failure> {
    let mut results: Vec<Value> = Vec::new();
    for (case, entries) in measured {
        for entry in entries {
            let Some(value) = entry.median() else { continue };
            results.push(json!({
                "case": case.name,
                "contender": entry.name,
                "value": value,
                "unit": case.unit,
                "higher_is_better": case.higher_is_better,
                "rounds": entry.figures,
                "note": case.note,
            }));
        }
    }
    let names: Vec<&str> = measured.iter().map(|(case, _)| case.name).collect();
    write_list(&folder.join("results.json"), &names, results)
}

/// Writes `goals.json`: a list of `{"case", "wanted", "reached", "met"}`.
pub(crate) fn write_goals(folder: &Path, verdicts: &[Verdict]) -> Result<(), Failure> {
    let goals = verdicts.iter().map(|Verdict { case, wanted, reached, met }| {
        json!({"case": case, "wanted": wanted, "reached": reached, "met": met})
    });
    let names: Vec<&str> = verdicts.iter().map(|verdict| verdict.case).collect();
    write_list(&folder.join("goals.json"), &names, goals.collect())
}

/// Adds to `machine.json` what this was measured on: facts by name.
pub(crate) fn write_machine(folder: &Path) -> Result<(), Failure> {
    let path = folder.join("machine.json");
    let mut facts: Map<String, Value> = read(&path)?.unwrap_or_default();
    facts.extend(machine::facts().map(|(name, fact)| (name.to_owned(), fact.into())));
    write(&path, &facts)
}

/// Puts `entries` in the place of what the file has about `cases`. Others stay in it.
fn write_list(path: &Path, cases: &[&str], mut entries: Vec<Value>) -> Result<(), Failure> {
    let known: Vec<Value> = read(path)?.unwrap_or_default();
    let measured_now = |entry: &Value| entry["case"].as_str().is_some_and(|case| cases.contains(&case));
    entries.extend(known.into_iter().filter(|entry| !measured_now(entry)));
    write(path, &entries)
}

fn read<T: serde::de::DeserializeOwned>(path: &Path) -> Result<Option<T>, Failure> {
    if !path.exists() {
        return Ok(None);
    }
    Ok(Some(serde_json::from_str(&fs::read_to_string(path)?)?))
}

fn write(path: &Path, content: &impl serde::Serialize) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    Ok(fs::write(path, serde_json::to_string_pretty(content)? + "\n")?)
}
