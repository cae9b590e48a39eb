//! The judgement over all that arrived, by the real `familiar verify --chain`.

use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::support::program;

/// What `verify --chain` counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Figures {
    pub events: u64,
    pub duplicates: u64,
}

/// Whether `messages`, in the order they came, are all events from number 1 to `last`, each as signed
/// by `jwk`, the chain whole, none out of order; a message that came twice is no fault.
pub fn judge(messages: &[String], jwk: &str, last: u64) -> Result<Figures, String> {
    let folder = tempfile::tempdir().unwrap();
    let (received, key) = (folder.path().join("received.jsonl"), folder.path().join("key.jwk"));
    std::fs::write(&received, messages.join("\n")).unwrap();
    std::fs::write(&key, jwk).unwrap();
    let output = Command::new(program::familiar())
        .args(["verify", "--chain", "--json", "--jwks"])
        .args([&key, &received])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    if output.status.code() != Some(0) {
        return Err(format!("verify --chain ended with {}: {said}", output.status));
    }
    let lines: Vec<Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let (report, verdicts) = lines.split_last().ok_or("verify said nothing")?;
    let figures = Figures {
        events: report["events"].as_u64().unwrap_or_default(),
        duplicates: report["duplicates"].as_u64().unwrap_or_default(),
    };
    if report["ok"] != true || report["gaps"] != serde_json::json!([]) {
        return Err(format!("the chain is not whole: {report}"));
    }
    if verdicts.len() != messages.len() || verdicts.iter().any(|v| v["verified"] != true) {
        return Err(format!("{} messages, {} verdicts", messages.len(), verdicts.len()));
    }
    if figures.events + figures.duplicates != messages.len() as u64 {
        return Err(format!("{} messages are not {figures:?}", messages.len()));
    }
    // A chain may begin late and end early and still be whole: here it must not.
    let seqs: Vec<u64> = verdicts.iter().map(seq).collect();
    if seqs.iter().min() != Some(&1) || seqs.iter().max() != Some(&last) || figures.events != last {
        return Err(format!(
            "{} events, {:?} to {:?}, of {last} that were recorded",
            figures.events,
            seqs.iter().min(),
            seqs.iter().max()
        ));
    }
    Ok(figures)
}

fn seq(verdict: &Value) -> u64 {
    let payload = verdict["payload"].as_str().unwrap_or_default();
    let payload: Value = serde_json::from_str(payload).unwrap_or_default();
    payload["seq"].as_u64().unwrap_or_default()
}

/// The number of the last event that a device recorded, from its outbox.
pub fn last_recorded(state: &Path) -> u64 {
    let connection = rusqlite::Connection::open(state.join("outbox.db")).unwrap();
    connection.busy_timeout(std::time::Duration::from_secs(10)).unwrap();
    connection.query_row("SELECT max(seq) FROM chain", [], |row| row.get::<_, i64>(0)).unwrap()
        as u64
}
