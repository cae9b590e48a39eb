//! `--help` of every verb: it says what the verb and each argument are, arguments as they are, and examples that parse.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Command, CommandFactory, Parser};

use super::Cli;

/// Every verb that can be called, by its words: `familiar people show`, also `familiar people` itself.
fn verbs() -> Vec<(Vec<String>, Command)> {
    fn walk(command: &Command, words: Vec<String>, found: &mut Vec<(Vec<String>, Command)>) {
        let mut inner = command.get_subcommands().filter(|c| c.get_name() != "help").peekable();
        if inner.peek().is_none() || !command.is_subcommand_required_set() {
            found.push((words.clone(), command.clone()));
        }
        for command in inner {
            let words = [&words[..], &[command.get_name().to_owned()]].concat();
            walk(command, words, found);
        }
    }
    let mut command = Cli::command();
    command.build();
    let mut found = Vec::new();
    walk(&command, vec!["familiar".to_owned()], &mut found);
    found
}

fn help(command: &Command) -> String {
    command.clone().render_long_help().to_string()
}

/// The command lines that the help shows.
fn examples(command: &Command) -> Vec<String> {
    let shown = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let lines = shown.lines().skip_while(|line| !line.starts_with("Example")).skip(1);
    lines.map(|line| line.trim().to_owned()).collect()
}

/// As a shell splits it; what is redirected or piped is no argument.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    let line = line.trim_start();
    let mut rest = line.strip_prefix("sudo ").unwrap_or(line);
    while !rest.is_empty() && !rest.starts_with(['>', '<', '|']) {
        let (word, after) = match rest.strip_prefix('\'') {
            Some(quoted) => quoted.split_once('\'').unwrap(),
            None => rest.split_once(' ').unwrap_or((rest, "")),
        };
        words.push(word.to_owned());
        rest = after.trim_start();
    }
    words
}

/// Holds CLI-05.
#[test]
fn every_verb_and_argument_says_what_it_is() {
    let verbs = verbs();
    assert!(verbs.len() > 25, "{} verbs", verbs.len());
    for (path, command) in verbs {
        let name = path.join(" ");
        let about = command.get_about().map(ToString::to_string).unwrap_or_default();
        assert!(about.len() > 8, "{name}: says not what it does");
        for argument in command.get_arguments() {
            let text = argument.get_help().map(ToString::to_string).unwrap_or_default();
            assert!(!text.is_empty(), "{name}: nothing on {argument}");
        }
        for line in help(&command).lines() {
            assert!(!line.contains("{\""), "{name}: JSON belongs in the documents: {line}");
        }
    }
}

/// Holds CLI-06.
#[test]
fn arguments_are_shown_as_required_that_are() {
    for (path, command) in verbs() {
        let name = path.join(" ");
        let required: BTreeSet<String> = command
            .get_arguments()
            .filter(|argument| argument.is_required_set())
            .map(ToString::to_string)
            .collect();
        let missing: BTreeSet<String> = match Cli::try_parse_from(&path) {
            Ok(_) => BTreeSet::new(),
            Err(error) => match (error.kind(), error.get(ContextKind::InvalidArg)) {
                (ErrorKind::MissingRequiredArgument, Some(ContextValue::Strings(missing))) => {
                    missing.iter().cloned().collect()
                }
                _ => panic!("{name}: {error}"),
            },
        };
        assert_eq!(missing, required, "{name}");
        let help = help(&command);
        for positional in command.get_positionals() {
            let shown = positional.to_string();
            let (open, close) = if positional.is_required_set() { ('<', '>') } else { ('[', ']') };
            assert!(shown.starts_with(open) && shown.contains(close), "{name}: {shown}");
            assert!(help.contains(&shown), "{name}: {shown} is not in its help: {help}");
        }
    }
}

/// Holds CLI-05.
#[test]
fn every_verb_has_examples_that_parse() {
    for (path, command) in verbs() {
        let name = path.join(" ");
        let examples = examples(&command);
        assert!(!examples.is_empty(), "{name}: no example");
        for example in examples {
            let words = words(&example);
            assert!(words.starts_with(&path), "{name}: {example}");
            if let Err(error) = Cli::try_parse_from(&words) {
                panic!("{example}: {error}");
            }
        }
    }
}

/// More than one line is said of what needs it: how it ends, and what it leaves alone.
#[test]
fn long_help_is_shown_where_there_is_one() {
    for (verb, words) in [
        ("check", "Ends with the exit code"),
        ("forget", "finished by the daemon's next start"),
        ("identify", "Ends with 1 when"),
        ("listen", "pinned on first use"),
        ("verify", "Ends with 3"),
        ("evaluate", "nearest its centre"),
        ("command", "Ends with 0 when"),
        ("people", "docs/people.md"),
    ] {
        let found = verbs().into_iter().find(|(path, _)| path[1..] == [verb]);
        let help = help(&found.unwrap().1).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(help.contains(words), "{verb}: {help}");
    }
}

/// What `src/cli/enroll` refuses a picture for, in its help.
#[test]
fn help_of_enroll_lists_every_refusal() {
    let (_, enroll) =
        verbs().into_iter().find(|(path, _)| path.ends_with(&["enroll".into()])).unwrap();
    let help = help(&enroll).split_whitespace().collect::<Vec<_>>().join(" ");
    for reason in [
        "cannot be read",
        "no JPEG, PNG or WebP",
        "shows no face",
        "several",
        "too small",
        "cut off",
        "turned away",
        "looking up or down",
        "tilted",
        "too dark",
        "too bright",
        "badly exposed",
        "without contrast",
        "blurred",
        "not clearly a face",
        "looks like somebody else",
        "does not fit",
        "enrolled before",
        "one too many",
    ] {
        assert!(help.contains(reason), "{reason}: {help}");
    }
}
