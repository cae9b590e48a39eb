//! What the documents say about the source: a threat names tests that exist, a link leads somewhere. Promises: `specification.rs`.

use std::fs;
use std::path::{Path, PathBuf};

/// Folders whose Markdown is read, besides the top.
const FOLDERS: [&str; 5] = ["", "docs", "docs/decisions", "models", "packaging"];

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

fn documents() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for folder in FOLDERS {
        let entries = fs::read_dir(top().join(folder)).unwrap();
        let paths = entries.map(|entry| entry.unwrap().path());
        found.extend(paths.filter(|path| path.extension().is_some_and(|end| end == "md")));
    }
    found
}

/// The text without what stands between fences.
fn prose(path: &Path) -> String {
    let mut inside = false;
    let text = read(path);
    let lines = text.lines().filter(|line| {
        let fence = line.trim_start().starts_with("```");
        inside ^= fence;
        !fence && !inside
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// The anchors of a document's headings, as GitHub makes them.
fn anchors(path: &Path) -> Vec<String> {
    let text = prose(path);
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title.chars().filter(|&c| c.is_alphanumeric() || " -_".contains(c));
            kept.map(|c| if c == ' ' { '-' } else { c }).collect()
        })
        .collect()
}

#[test]
fn links_lead_somewhere() {
    let (mut count, mut dead) = (0, Vec::new());
    for path in documents() {
        let folder = path.parent().unwrap();
        for target in prose(&path).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            if target.contains("://") {
                continue;
            }
            count += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let other = if file.is_empty() { path.clone() } else { folder.join(file) };
            let found = other.exists()
                && (anchor.is_empty() || anchors(&other).iter().any(|known| known == anchor));
            if !found {
                dead.push(format!("{}: {target}", path.display()));
            }
        }
    }
    assert!(count > 150, "only {count} links are read: does this test still find them?");
    assert!(dead.is_empty(), "dead links:\n{}", dead.join("\n"));
}
