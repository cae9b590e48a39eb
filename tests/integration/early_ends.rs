//! No test passes by ending early: it runs, fails, is `#[ignore]`d with a reason, or says by `support::not_run` what is missing.
//!
//! This reads the sources as text; rustfmt's layout is what makes that easy. A *door* is a function that gives `None` only
//! after it has called `not_run`, or another door, with `?` or by giving its value on.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

pub fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

struct Function {
    /// `Type::name`, or the name alone.
    name: String,
    is_test: bool,
    gives_option: bool,
    /// First line of the body, from 1.
    line: usize,
    body: Vec<String>,
}

/// The functions of a file laid out by rustfmt.
fn functions(text: &str) -> Vec<Function> {
    let lines: Vec<&str> = text.lines().collect();
    let mut functions = Vec::new();
    let (mut owner, mut is_test) = (String::new(), false);
    let mut owner_ends = String::new();
    let mut at = 0;
    while at < lines.len() {
        let line = lines[at];
        let trimmed = line.trim_start();
        let indent = line.len() - trimmed.len();
        if let Some(rest) = trimmed.strip_prefix("impl") {
            // `impl Type {`, `impl Trait for Type {`
            let words = rest.trim_end_matches('{').split_whitespace();
            let word = words.last().unwrap_or_default();
            word.split(['<', '(']).next().unwrap_or_default().clone_into(&mut owner);
            owner_ends = format!("{}}}", " ".repeat(indent));
        } else if line == owner_ends {
            owner.clear();
        }
        is_test |= trimmed.starts_with("#[test]") || trimmed.starts_with("#[tokio::test");
        let head = ["pub ", "pub(super) ", "pub(crate) ", "async "]
            .iter()
            .fold(trimmed, |head, word| head.strip_prefix(word).unwrap_or(head));
        let Some(rest) = head.strip_prefix("fn ") else {
            at += 1;
            continue;
        };
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        let end = format!("{}}}", " ".repeat(indent));
        let mut body = Vec::new();
        let mut signature = String::new();
        let mut in_body = false;
        let mut first = at + 1;
        for (number, line) in lines.iter().enumerate().skip(at) {
            if in_body {
                if *line == end {
                    break;
                }
                body.push((*line).to_owned());
            } else {
                signature += line;
                if line.ends_with('{') {
                    (in_body, first) = (true, number + 2);
                } else if line.ends_with(';') || line.ends_with('}') {
                    break; // a declaration, or a body on the same line
                }
            }
        }
        functions.push(Function {
            name: if owner.is_empty() { name } else { format!("{owner}::{name}") },
            is_test,
            gives_option: signature.contains("-> Option<"),
            line: first,
            body,
        });
        is_test = false;
        at += 1;
    }
    functions
}

/// Names of the functions that the text calls, as [`Function::name`] has them; of methods `.name`.
fn calls(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (at, _) in text.match_indices('(') {
        let path: String = text[..at]
            .chars()
            .rev()
            .take_while(|c| c.is_alphanumeric() || "_:".contains(*c))
            .collect();
        let path: String = path.chars().rev().collect();
        let parts: Vec<&str> = path.split("::").collect();
        let Some(name) = parts.last() else { continue };
        let owner = parts.iter().rev().nth(1).copied().unwrap_or_default();
        let of_type = owner.starts_with(char::is_uppercase);
        let method = text[..at - path.len()].ends_with('.');
        names.insert(match (of_type, method) {
            (true, _) => format!("{owner}::{name}"),
            (false, true) => format!(".{name}"),
            (false, false) => (*name).to_owned(),
        });
    }
    names
}

/// The doors among these functions.
fn doors<'a>(functions: impl Iterator<Item = &'a Function>) -> BTreeSet<String> {
    let mut doors = BTreeSet::from(["not_run".to_owned()]);
    let called: Vec<(&str, BTreeSet<String>)> = functions
        .filter(|function| function.gives_option)
        .map(|function| {
            let own = function.name.split("::").next().unwrap_or_default();
            let body = function.body.join("\n").replace("Self::", &format!("{own}::"));
            (function.name.as_str(), calls(&body))
        })
        .collect();
    loop {
        let before = doors.len();
        for (name, called) in &called {
            if !called.is_disjoint(&doors) {
                doors.insert(format!(".{}", name.rsplit("::").next().unwrap_or_default()));
                doors.insert((*name).to_owned());
            }
        }
        if doors.len() == before {
            return doors;
        }
    }
}

/// Closures of a test that are doors: `let start = |…| authority.broker(…);`
fn own_doors(test: &Function, doors: &BTreeSet<String>) -> BTreeSet<String> {
    let mut own = BTreeSet::new();
    for (at, line) in test.body.iter().enumerate() {
        let Some((name, _)) =
            line.trim_start().strip_prefix("let ").and_then(|l| l.split_once(" = |"))
        else {
            continue;
        };
        let indent = &line[..line.len() - line.trim_start().len()];
        let next = |line: &&String| {
            !line.strip_prefix(indent).is_some_and(|rest| rest.starts_with(char::is_alphanumeric))
        };
        let text: Vec<&str> =
            test.body[at + 1..].iter().take_while(next).map(String::as_str).collect();
        if !calls(&format!("{line}\n{}", text.join("\n"))).is_disjoint(doors) {
            own.insert(name.to_owned());
        }
    }
    own
}

/// Lines of a test on which it ends without a word.
fn silent_ends(test: &Function, doors: &BTreeSet<String>) -> Vec<usize> {
    let mut silent = Vec::new();
    let own = own_doors(test, doors);
    for (at, line) in test.body.iter().enumerate() {
        let code = line.split("//").next().unwrap_or_default();
        if !(code.contains("return;") || code.contains("return ")) {
            continue;
        }
        if in_a_closure(&test.body, at) {
            continue; // which it ends, not the test
        }
        // The statement that it belongs to: back to where one begins.
        let from = (0..=at)
            .rev()
            .find(|&line| {
                let line = test.body[line].trim_start();
                ["let Some", "let Ok", "let (", "if ", "match ", "not_run("]
                    .iter()
                    .any(|begin| line.starts_with(begin))
            })
            .unwrap_or(at);
        let statement = test.body[from..=at].join("\n");
        let called = calls(&statement);
        if called.is_disjoint(doors) && called.is_disjoint(&own) {
            silent.push(test.line + at);
        }
    }
    silent
}

/// Whether one of the blocks about that line is that of a closure, a future or an inner function.
fn in_a_closure(body: &[String], at: usize) -> bool {
    let indent = |line: &str| line.len() - line.trim_start().len();
    let mut inner = indent(&body[at]);
    for line in body[..at].iter().rev().filter(|line| !line.trim().is_empty()) {
        if indent(line) < inner {
            inner = indent(line);
            let is_own = line.ends_with("| {")
                || line.ends_with("async move {")
                || line.ends_with('{') && (line.contains("| -> ") || line.contains("fn "));
            if is_own {
                return true;
            }
        }
    }
    false
}

#[test]
fn test_that_ends_early_says_what_is_missing() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for folder in ["tests/integration", "src"] {
        sources(&top.join(folder), &mut files);
    }
    let read: Vec<(PathBuf, Vec<Function>, String)> = files
        .into_iter()
        .map(|path| {
            let text = fs::read_to_string(&path).unwrap();
            (path, functions(&text), text)
        })
        .collect();
    let ours = read.iter().filter(|(path, ..)| path.starts_with(top.join("tests/integration")));
    let doors = doors(ours.flat_map(|(_, functions, _)| functions));
    let mut faults = Vec::new();
    let mut tests = 0;
    for (path, functions, text) in read.iter().filter(|(path, ..)| !path.ends_with(file!())) {
        let name = path.strip_prefix(top).unwrap().display();
        for test in functions.iter().filter(|function| function.is_test) {
            tests += 1;
            let lines = silent_ends(test, &doors);
            faults.extend(lines.into_iter().map(|line| format!("{name}:{line} {}", test.name)));
        }
        let words = ["SKIPPED", "eprintln!(\"skipped"]; // said where nobody sees it
        if words.iter().any(|word| text.contains(word)) {
            faults.push(format!("{name}: a test that is skipped must say so by support::not_run"));
        }
    }
    assert!(tests > 700, "only {tests} tests: does this test still read them?");
    assert!(faults.is_empty(), "tests that end early in silence:\n{}", faults.join("\n"));
}

/// What the test above would say of such a test.
#[test]
fn silent_end_is_found_and_a_said_one_is_not() {
    let helpers = "pub fn python(test: &str) -> Option<Command> {\n    not_run(test, \"x\");\n    None\n}\n\
        impl Home {\n    pub fn new(test: &str) -> Option<Self> {\n        let a = judge::python(test)?;\n        Some(a)\n    }\n}\n\
        fn quiet() -> Option<u8> {\n    None\n}\n";
    let doors = doors(functions(helpers).iter());
    assert!(doors.contains("python") && doors.contains("Home::new") && !doors.contains("quiet"));
    let ends = |body: &str| {
        let text = format!("#[test]\nfn a_test() {{\n{body}\n    assert!(true);\n}}\n");
        let all = functions(&text);
        assert!(all[0].is_test);
        silent_ends(&all[0], &doors)
    };
    assert_eq!(ends("    let Some(home) = Home::new(\"a\") else { return };"), [0; 0]);
    assert_eq!(
        ends(
            "    let Some(x) =\n        judge::python(\"a\")\n    else {\n        return;\n    };"
        ),
        [0; 0]
    );
    assert_eq!(
        ends("    if missing {\n        not_run(\"a\", \"b\");\n        return;\n    }"),
        [0; 0]
    );
    assert_eq!(
        ends(
            "    let start = |a| {\n        judge::python(a)\n    };\n    let Some(x) = start(1) else { return };"
        ),
        [0; 0]
    );
    assert_eq!(
        ends("    let start = |a| quiet(a);\n    let Some(x) = start(1) else { return };"),
        [4]
    );
    assert_eq!(ends("    let Some(x) = quiet() else { return };"), [3]);
    assert_eq!(
        ends(
            "    if std::env::var_os(\"X\").is_none() {\n        eprintln!(\"no X\");\n        return;\n    }"
        ),
        [5]
    );
    assert_eq!(ends("    let Ok(x) = std::env::var(\"X\") else {\n        return;\n    };"), [4]);
    // With a value, be it that of a check of something else.
    assert_eq!(ends("    if !is_root() {\n        return assert_other(&output);\n    }"), [4]);
    assert_eq!(ends("    let x = |y| -> u8 {\n        return y;\n    };"), [0; 0]);
}
