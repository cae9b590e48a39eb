//! SPECIFICATION.md and the tests hold each other: a promise has a test, and a test holds a promise that exists.
//!
//! This reads sources as text, laid out by rustfmt. A test says what it holds by its doc comment, `/// Holds EVT-03, EVT-04.`
//! directly above its attributes; a script, if SPECIFICATION.md names it, by a comment, `# Holds UPD-29.`

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use crate::early_ends::sources;

const LONGEST_PROMISE: usize = 160;
const EVIDENCE: &str = "docs/evidence.md";
const WRITE: &str =
    "FAMILIAR_WRITE_EVIDENCE=1 cargo test --release --locked --test integration -- specification::";

struct Promise {
    id: String,
    pending: bool,
}

/// A test, or a place in a script, that carries an id.
struct Holder {
    id: String,
    file: String,
    name: Option<String>,
}

fn is_id(text: &str) -> bool {
    text.split_once('-').is_some_and(|(area, number)| {
        area.len() == 3
            && area.bytes().all(|b| b.is_ascii_uppercase())
            && number.len() == 2
            && number.bytes().all(|b| b.is_ascii_digit())
    })
}

/// The rows of all tables, and what is wrong with them.
fn promises(text: &str) -> (Vec<Promise>, Vec<String>) {
    let (mut promises, mut faults) = (Vec::<Promise>::new(), Vec::new());
    for (line, row) in text.lines().enumerate().filter(|(_, line)| line.starts_with('|')) {
        if ["| id | promise | bound |", "|---|---|---|"].contains(&row) {
            continue;
        }
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let ["", id, promise, bound, ""] = cells[..] else {
            faults.push(format!("line {}: a row is `| id | promise | bound |`: {row}", line + 1));
            continue;
        };
        if !is_id(id) || promise.is_empty() || bound.is_empty() {
            faults.push(format!("line {}: a row is `| id | promise | bound |`: {row}", line + 1));
            continue;
        }
        if promise.chars().count() > LONGEST_PROMISE {
            faults.push(format!("{id}: a promise has at most {LONGEST_PROMISE} characters"));
        }
        if promises.iter().any(|other| other.id == id) {
            faults.push(format!("{id}: two promises have this id"));
            continue;
        }
        let pending = bound == "pending" || bound.ends_with("; pending");
        promises.push(Promise { id: id.to_owned(), pending });
    }
    (promises, faults)
}

/// The scripts that hold promises, by the sentence that lists them.
fn scripts(text: &str) -> Vec<&str> {
    let (_, list) = text.split_once("scripts hold promises:").unwrap_or_default();
    let list = list.split("\n\n").next().unwrap_or_default();
    list.split('`').skip(1).step_by(2).collect()
}

/// What stands after `Holds ` in a comment, if it is about promises: other sentences begin with this word, too.
fn claim<'a>(line: &'a str, mark: &str) -> Option<&'a str> {
    let comment = line.trim_start().strip_prefix(mark)?;
    let rest = comment.trim_start_matches(['/', '!', '#']).trim_start().strip_prefix("Holds ")?;
    let word: &str = rest.split([' ', ',', '.']).next().unwrap_or_default();
    let named = word.contains('-')
        && word.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'-');
    named.then_some(rest)
}

/// The ids of `EVT-03, EVT-04.`
fn ids(claimed: &str) -> Option<Vec<&str>> {
    let ids: Vec<&str> = claimed.strip_suffix('.')?.split(", ").collect();
    ids.iter().all(|id| is_id(id)).then_some(ids)
}

/// The function that the lines begin with, after its comments and attributes; none if it is no test.
fn test_name<'a>(lines: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (mut is_test, mut in_attribute) = (false, false);
    for line in lines.map(str::trim) {
        if in_attribute {
            in_attribute = !line.ends_with(")]");
        } else if line.starts_with("#[") {
            is_test |= line == "#[test]" || line.starts_with("#[tokio::test");
            in_attribute = !line.ends_with(']') && !line.contains("] // ");
        } else if !line.starts_with("//") {
            let head = ["pub ", "pub(super) ", "pub(crate) ", "async "]
                .iter()
                .fold(line, |head, word| head.strip_prefix(word).unwrap_or(head));
            let name = head.strip_prefix("fn ")?.split(['(', '<']).next();
            return name.filter(|_| is_test);
        }
    }
    None
}

/// What a script's line begins or calls by a name: `def NAME(`, `NAME() {`, `holds NAME …`, `….holds("NAME", …`.
fn script_item(line: &str) -> Option<&str> {
    let line = line.trim();
    if let Some(rest) = line.strip_prefix("def ") {
        return rest.split('(').next();
    }
    if let Some((name, "{")) = line.split_once("() ") {
        return Some(name);
    }
    if let Some(rest) = line.strip_prefix("holds ") {
        return rest.split(' ').next();
    }
    if line.contains(".holds(") || line.contains(".whole_chain(") {
        return line.split('"').nth(1);
    }
    None
}

/// What carries an id in a file, and what is wrong with its comments.
fn holders(file: &str, text: &str) -> (Vec<Holder>, Vec<String>) {
    let rust = Path::new(file).extension().is_some_and(|extension| extension == "rs");
    let (mut holders, mut faults) = (Vec::new(), Vec::new());
    let lines: Vec<&str> = text.lines().collect();
    for (at, line) in lines.iter().enumerate() {
        let Some(claimed) = claim(line, if rust { "//" } else { "#" }) else { continue };
        let form = if rust { "/// Holds " } else { "# Holds " };
        let (Some(ids), true) = (ids(claimed), line.trim_start().starts_with(form)) else {
            faults.push(format!("{file}:{}: not of the form `{form}EVT-03, EVT-04.`", at + 1));
            continue;
        };
        let mut after = lines[at + 1..].iter().copied();
        let name = if rust {
            let Some(name) = test_name(after) else {
                faults.push(format!("{file}:{}: what comes next is no test", at + 1));
                continue;
            };
            Some(name)
        } else {
            let Some(next) = after.find(|line| !line.trim_start().starts_with('#')) else {
                faults.push(format!("{file}:{}: nothing comes next", at + 1));
                continue;
            };
            script_item(next)
        };
        holders.extend(ids.into_iter().map(|id| Holder {
            id: id.to_owned(),
            file: file.to_owned(),
            name: name.map(str::to_owned),
        }));
    }
    (holders, faults)
}

/// Where promises and tests do not agree.
fn disagreements(promises: &[Promise], holders: &[Holder]) -> Vec<String> {
    let held: BTreeSet<&str> = holders.iter().map(|holder| holder.id.as_str()).collect();
    let known: BTreeSet<&str> = promises.iter().map(|promise| promise.id.as_str()).collect();
    let mut faults = Vec::new();
    for Promise { id, pending } in promises {
        match (held.contains(id.as_str()), pending) {
            (false, false) => faults.push(format!("{id}: no test carries this id")),
            (true, true) => faults.push(format!("{id}: says pending, and a test carries its id")),
            _ => {}
        }
    }
    for Holder { id, file, name } in holders {
        if !known.contains(id.as_str()) {
            let name = name.as_deref().unwrap_or("a comment");
            faults.push(format!("{file}: {name} carries {id}, which is no promise"));
        }
    }
    faults
}

/// The contents of docs/evidence.md.
fn evidence(promises: &[Promise], holders: &[Holder]) -> String {
    let mut text = format!(
        "# Evidence\n\nThe tests that hold each promise of SPECIFICATION.md. Written by\n\n    {WRITE}\n\n\
         | id | held by |\n|---|---|\n"
    );
    for Promise { id, pending } in promises {
        let mut files: BTreeMap<&str, Vec<String>> = BTreeMap::new();
        for holder in holders.iter().filter(|holder| holder.id == *id) {
            let names = files.entry(&holder.file).or_default();
            names.extend(holder.name.iter().map(|name| format!("`{name}`")));
        }
        let mut cells: Vec<String> = files
            .into_iter()
            .map(|(file, names)| {
                let names = names.join(", ");
                if names.is_empty() { format!("`{file}`") } else { format!("`{file}`: {names}") }
            })
            .collect();
        if *pending {
            cells.push("pending".to_owned());
        }
        writeln!(text, "| {id} | {} |", cells.join("; ")).unwrap();
    }
    text
}

#[test]
fn promises_and_tests_hold_each_other() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |path: &Path| {
        fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    };
    let specification = read(&top.join("SPECIFICATION.md"));
    let (promises, mut faults) = promises(&specification);
    let mut files: Vec<PathBuf> =
        scripts(&specification).into_iter().map(|script| top.join(script)).collect();
    for folder in ["src", "tests"] {
        sources(&top.join(folder), &mut files);
    }
    files.sort();
    let mut all = Vec::new();
    for path in files.iter().filter(|path| !path.ends_with(file!())) {
        let name = path.strip_prefix(top).unwrap().to_str().unwrap();
        let (found, wrong) = holders(name, &read(path));
        all.extend(found);
        faults.extend(wrong);
    }
    assert!(promises.len() > 300, "only {} promises: are they still read?", promises.len());
    assert!(all.len() > 600, "only {} ids in tests: are they still read?", all.len());
    faults.extend(disagreements(&promises, &all));
    assert!(faults.is_empty(), "SPECIFICATION.md and the tests:\n{}", faults.join("\n"));

    let (path, now) = (top.join(EVIDENCE), evidence(&promises, &all));
    if std::env::var_os("FAMILIAR_WRITE_EVIDENCE").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let was = fs::read_to_string(&path).unwrap_or_default();
    assert!(was == now, "{EVIDENCE} is out of date; this writes it:\n\n    {WRITE}\n");
}

const TABLE: &str = "| id | promise | bound |\n|---|---|---|\n";

fn faults_of(rows: &str, file: &str, source: &str) -> Vec<String> {
    let (promises, mut faults) = promises(&format!("{TABLE}{rows}"));
    let (holders, wrong) = holders(file, source);
    faults.extend(wrong);
    faults.extend(disagreements(&promises, &holders));
    faults
}

#[track_caller]
fn assert_fault(rows: &str, file: &str, source: &str, fault: &str) {
    let faults = faults_of(rows, file, source);
    assert!(faults.iter().any(|found| found.contains(fault)), "{fault}: {faults:?}");
}

const HELD: &str = "/// Holds EVT-01.\n#[test]\nfn a_test() {}\n";

#[test]
fn nothing_is_found_where_all_is_well() {
    let rows = "| EVT-01 | It holds. | — |\n| EVT-02 | So does this. | 4 KiB |\n\
        | EVT-03 | Not yet. | 2 s; pending |\n| EVT-04 | Not yet. | pending |\n";
    for source in [
        "/// Holds EVT-01, EVT-02.\n#[test]\nfn a_test() {}\n",
        "/// Why.\n/// Holds EVT-01, EVT-02.\n#[test]\n#[ignore = \"slow\"]\nfn a_test() {}\n",
        "    /// Holds EVT-01, EVT-02.\n    #[test]\n    #[cfg_attr(\n        debug_assertions,\n        \
         ignore = \"slow\"\n    )]\n    pub fn a_test() {}\n",
        "/// Holds EVT-01, EVT-02.\n#[test]\n#[allow(dead_code)] // as it is\nfn a_test() {}\n",
        "/// Holds EVT-01, EVT-02.\n#[tokio::test(flavor = \"x\")]\nasync fn a_test() {}\n",
        "/// Holds EVT-01, EVT-02.\n#[test]\nfn a_test() {}\n/// Holds up to so many tokens.\nfn other() {}\n",
    ] {
        assert_eq!(faults_of(rows, "a.rs", source), [""; 0], "{source}");
    }
    assert_eq!(faults_of(rows, "a.py", "# Holds EVT-01, EVT-02.\ndef a_test():\n"), [""; 0]);
}

#[test]
fn promise_without_test_is_found() {
    assert_fault(
        "| EVT-01 | It. | — |\n| EVT-02 | It. | — |\n",
        "a.rs",
        HELD,
        "EVT-02: no test carries",
    );
    // The word alone does not excuse it.
    assert_fault("| EVT-01 | It is pending. | — |\n", "a.rs", "", "EVT-01: no test carries");
}

#[test]
fn pending_promise_with_a_test_is_found() {
    assert_fault("| EVT-01 | It. | pending |\n", "a.rs", HELD, "EVT-01: says pending");
}

#[test]
fn id_that_is_no_promise_is_found() {
    assert_fault("| EVT-02 | It. | pending |\n", "a.rs", HELD, "a_test carries EVT-01");
    assert_fault("", "a.sh", "# Holds EVT-01.\nholds it true\n", "it carries EVT-01");
}

#[test]
fn id_used_twice_is_found() {
    let rows = "| EVT-01 | It. | — |\n| EVT-01 | Another. | — |\n";
    assert_fault(rows, "a.rs", HELD, "EVT-01: two promises");
}

#[test]
fn malformed_row_is_found() {
    for row in [
        "| EVT-1 | It. | — |",
        "| evt-01 | It. | — |",
        "| EVENT-01 | It. | — |",
        "| It. | EVT-01 | — |",
        "| EVT-01 | | — |",
        "| EVT-01 | It. | |",
        "| EVT-01 | It. |",
        "| EVT-01 | It. | — | `a_test` |",
        "| promise | held by |",
    ] {
        assert_fault(&format!("{row}\n"), "a.rs", HELD, "a row is");
    }
    let long = "x".repeat(LONGEST_PROMISE + 1);
    assert_fault(&format!("| EVT-01 | {long} | — |\n"), "a.rs", HELD, "at most");
}

#[test]
fn comment_on_what_is_no_test_is_found() {
    let rows = "| EVT-01 | It. | — |\n";
    for source in [
        "/// Holds EVT-01.\nfn no_test() {}\n",
        "/// Holds EVT-01.\n#[allow(dead_code)]\nfn no_test() {}\n#[test]\nfn a_test() {}\n",
        "/// Holds EVT-01.\n#[test]\nmod tests {}\n",
        "/// Holds EVT-01.\nstruct Thing;\n",
        "/// Holds EVT-01.\n\n#[test]\nfn a_test() {}\n",
        "/// Holds EVT-01.\n",
        "#[test]\nfn a_test() {\n    /// Holds EVT-01.\n    let it = 1;\n}\n",
    ] {
        assert_fault(rows, "a.rs", source, "is no test");
        assert_fault(rows, "a.rs", source, "no test carries");
    }
    assert_fault(rows, "a.sh", "# Holds EVT-01.\n", "nothing comes next");
}

#[test]
fn malformed_comment_is_found() {
    let rows = "| EVT-01 | It. | — |\n";
    for comment in [
        "// Holds EVT-01.",
        "//! Holds EVT-01.",
        "/// Holds EVT-01",
        "/// Holds EVT-1.",
        "/// Holds EVT-01,EVT-02.",
        "/// Holds EVT-01 and EVT-02.",
    ] {
        let source = format!("{comment}\n#[test]\nfn a_test() {{}}\n");
        assert_fault(rows, "a.rs", &source, "not of the form");
    }
    assert_fault(rows, "a.sh", "## Holds EVT-01.\nholds it true\n", "not of the form");
}

#[test]
fn scripts_are_those_of_the_sentence() {
    let text = "`x`. A comment (`# Holds UPD-29.`).\n\nThese scripts hold promises: `Makefile`,\n`a/b.sh`.\n\n`c`\n";
    assert_eq!(scripts(text), ["Makefile", "a/b.sh"]);
    assert_eq!(scripts(""), [""; 0]);
}

#[test]
fn evidence_names_files_and_tests() {
    let (promises, _) = promises(&format!(
        "{TABLE}| EVT-01 | It. | — |\n| EVT-02 | It. | pending |\n| EVT-03 | It. | — |\n"
    ));
    let mut all = holders("b.rs", HELD).0;
    all.extend(holders("a.rs", "/// Holds EVT-01.\n#[test]\nfn other() {}\n").0);
    all.extend(holders("a.sh", "# Holds EVT-03.\nmeasure it\n").0);
    all.extend(
        holders("v.py", "  # Holds EVT-03.\n  run.holds(\"boots\", x)\n# Holds EVT-03.\nf() {\n").0,
    );
    let text = evidence(&promises, &all);
    assert!(text.ends_with(
        "| EVT-01 | `a.rs`: `other`; `b.rs`: `a_test` |\n| EVT-02 | pending |\n\
         | EVT-03 | `a.sh`; `v.py`: `boots`, `f` |\n"
    ));
}
