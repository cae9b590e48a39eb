//! A passphrase asked for at a terminal. Python's `pty` module is the terminal: it types an answer once the program has
//! turned the echo off, and keeps what the screen shows.

use std::process::Command;

use serde_json::{Value, json};

use super::verbs::{Home, text};

const WORDS: &str = "six words that nobody guesses";

/// Waits for each prompt, then for the echo to be off, and types the answer.
const TERMINAL: &str = r#"
import json, os, pty, sys, termios
dialogue, command = json.loads(sys.argv[1]), sys.argv[2:]
child, screen = pty.fork()
if child == 0:
    os.execv(command[0], command)
shown, unseen = b"", True
def more():
    global shown
    try:
        part = os.read(screen, 4096)
    except OSError:  # the other end is closed
        part = b""
    shown += part
    return part
for prompt, answer in dialogue:
    begin = len(shown)
    while prompt.encode() not in shown[begin:]:
        if not more():
            break
    while termios.tcgetattr(screen)[3] & termios.ECHO:
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            break  # it ended without asking
    os.write(screen, answer.encode() + b"\n")
while more():
    pass
code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
print(json.dumps({"code": code, "shown": shown.decode()}))
"#;

/// Exit code, and what the terminal showed.
fn at_a_terminal(home: &Home, arguments: &[&str], dialogue: &[(&str, &str)]) -> (i64, String) {
    let command = home.command();
    let mut python = Command::new("python3");
    python.args(["-c", TERMINAL, &json!(dialogue).to_string()]);
    python.arg(command.get_program()).args(command.get_args()).args(arguments);
    python.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = python.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let outcome: Value = serde_json::from_slice(&output.stdout).unwrap();
    (outcome["code"].as_i64().unwrap(), outcome["shown"].as_str().unwrap().to_owned())
}

/// Holds CLI-07.
#[test]
fn passphrase_asked_without_echo_twice_for_backup() {
    let home = Home::new();
    home.enrol("Ann");
    let file = home.path("people.backup");
    let backup = ["people", "backup", text(&file)];
    let (first, again) = ("passphrase (not shown): ", "the same again (not shown): ");

    let (code, shown) = at_a_terminal(&home, &backup, &[(first, "short")]);
    assert_eq!(code, 2, "{shown}");
    assert!(shown.contains("at least 12 characters") && !shown.contains(again), "{shown}");
    let slip = [(first, WORDS), (again, "six words that nobody guessed")];
    let (code, shown) = at_a_terminal(&home, &backup, &slip);
    assert!(code == 2 && shown.contains("not the same") && !file.exists(), "{shown}");

    let (code, shown) = at_a_terminal(&home, &backup, &[(first, WORDS), (again, WORDS)]);
    assert!(code == 0 && file.exists(), "{shown}");
    assert!(!shown.contains("words") && !shown.contains("guess"), "echoed: {shown}");

    // Asked once, and what was typed is what seals the file: the wrong one does not open it.
    let restore = ["people", "restore", text(&file)];
    let (code, shown) =
        at_a_terminal(&home, &restore, &[(first, "six words that somebody guessed")]);
    assert!(code == 3 && shown.contains("another passphrase"), "{shown}");
    let (code, shown) = at_a_terminal(&home, &restore, &[(first, WORDS)]);
    // The seal held: now the model is looked for, which this home has not.
    assert!(code == 3 && shown.contains("trust.d"), "{shown}");
    assert!(!shown.contains("guess"), "echoed: {shown}");
}

#[test]
fn without_a_terminal_the_passphrase_file_is_asked_for() {
    let home = Home::new();
    home.enrol("Ann");
    let file = home.path("people.backup");
    let (code, _, stderr) = home.run(&["people", "backup", text(&file)]);
    assert!(code == 2 && stderr.contains("--passphrase-file FILE"), "{stderr}");
    assert!(!file.exists());
}
