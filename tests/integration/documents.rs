//! What the documents say about the source: a threat names tests that exist, a link leads somewhere. Promises: `specification.rs`.

use std::fs;
use std::path::{Path, PathBuf};

const DOCUMENTS: [&str; 23] = [
    "README.md",
    "SPECIFICATION.md",
    "SECURITY.md",
    "RESPONSIBLE_USE.md",
    "CONTRIBUTING.md",
    "docs/appliance.md",
    "docs/architecture.md",
    "docs/camera.md",
    "docs/commands.md",
    "docs/configuration.md",
    "docs/evaluation.md",
    "docs/fleet.md",
    "docs/home-assistant.md",
    "docs/integrations.md",
    "docs/limits.md",
    "docs/messages.md",
    "docs/operations.md",
    "docs/people.md",
    "docs/privacy.md",
    "docs/threat-model.md",
    "docs/updates.md",
    "docs/vm-run.md",
    "packaging/README.md",
];

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `file::test`, in backticks, with the file's path below `src` or `tests/integration`.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let allowed = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "_/-".contains(c);
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|span| span.split_once("::"))
        .filter(|(file, test)| {
            file.chars().all(allowed) && (*test == "*" || test.chars().all(allowed))
        })
        .collect()
}

/// Where the test of such a name may stand.
fn places(file: &str) -> impl Iterator<Item = PathBuf> {
    [
        format!("tests/integration/{file}.rs"),
        format!("src/{file}.rs"),
        format!("src/{file}/mod.rs"),
        format!("src/{file}/tests.rs"),
    ]
    .into_iter()
    .map(|path| top().join(path))
    .filter(|path| path.exists())
}

#[test]
fn threats_name_tests_that_exist() {
    let mut missing = Vec::new();
    let text = read(&top().join("docs/threat-model.md"));
    let named = named_tests(&text);
    for &(file, test) in &named {
        let found = places(file).any(|path| {
            let text = read(&path);
            text.contains("test]") && (test == "*" || text.contains(&format!("fn {test}(")))
        });
        if !found {
            missing.push(format!("{file}::{test}"));
        }
    }
    assert!(named.len() > 50, "only {} tests are named: does this still read them?", named.len());
    assert!(missing.is_empty(), "no such test:\n{}", missing.join("\n"));
}

#[test]
fn links_lead_somewhere() {
    let mut dead = Vec::new();
    for document in DOCUMENTS {
        let path = top().join(document);
        let folder = path.parent().unwrap_or(&path).to_owned();
        for target in read(&path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            if !target.contains("://") && !file.is_empty() && !folder.join(file).exists() {
                dead.push(format!("{document}: {target}"));
            }
        }
    }
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}
