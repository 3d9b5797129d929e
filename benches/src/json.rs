//! Writes the medians for programs to read.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::case::{Case, Failure};
use crate::rounds::Entry;

/// Writes a list of `{"case", "contender", "value", "unit", "higher_is_better"}`. Contenders that failed are left out.
pub(crate) fn write(path: &Path, measured: &[(&Case, Vec<Entry>)]) -> Result<(), Failure> {
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
            }));
        }
    }
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, serde_json::to_string_pretty(&results)? + "\n")?;
    Ok(())
}
