//! Questions to whoever sits at the terminal: asked on stderr, answered on stdin.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr,
};
use zeroize::Zeroizing;

/// Longest answer, in bytes.
const LIMIT: usize = 4096;
const CTRL_C: u8 = 3;

/// Both ends of a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal(());

#[allow(clippy::unused_self)] // it stands for a terminal that was found
impl Terminal {
    /// `None` where nobody can be asked.
    pub fn open() -> Option<Self> {
        (io::stdin().is_terminal() && io::stderr().is_terminal()).then_some(Self(()))
    }

    /// Asks, and gives the answer without the blanks around it; the `default` for an empty one. End of input is an error.
    pub fn ask(self, question: &str, default: &str) -> io::Result<String> {
        let shown = if default.is_empty() { String::new() } else { format!(" [{default}]") };
        let answer = read(&format!("{question}{shown}: "))?;
        let answer = answer.trim();
        Ok(if answer.is_empty() { default.to_owned() } else { answer.to_owned() })
    }

    /// A question that is answered by yes or no; by an empty answer, no.
    pub fn agrees(self, question: &str) -> io::Result<bool> {
        let answer = read(&format!("{question} [y/N]: "))?;
        Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
    }

    /// Asks for a secret, which the terminal does not show. Ctrl-C is an error, and leaves the terminal as it was.
    pub fn ask_hidden(self, question: &str) -> io::Result<Zeroizing<String>> {
        let answer = {
            let _hidden = Hidden::start()?;
            prompt(&format!("{question} (not shown): "))?;
            read_hidden()
        };
        eprintln!();
        answer
    }
}

fn prompt(text: &str) -> io::Result<()> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(text.as_bytes())?;
    stderr.flush()
}

fn read(question: &str) -> io::Result<String> {
    prompt(question)?;
    let mut line = String::new();
    match io::stdin().lock().read_line(&mut line)? {
        0 => Err(ended()),
        _ => Ok(line),
    }
}

fn ended() -> io::Error {
    io::Error::new(io::ErrorKind::UnexpectedEof, "the input ended")
}

/// A line, straight from the terminal, which gives one at a time: no buffer of the library's keeps a copy.
fn read_hidden() -> io::Result<Zeroizing<String>> {
    let mut bytes = Zeroizing::new([0; LIMIT]);
    let mut length = 0;
    loop {
        match rustix::io::read(io::stdin(), &mut bytes[length..])? {
            0 => return Err(ended()),
            count => length += count,
        }
        let line = &bytes[..length];
        if line.contains(&CTRL_C) {
            return Err(io::Error::new(io::ErrorKind::Interrupted, "interrupted"));
        }
        if let Some(line) = line.strip_suffix(b"\n") {
            let text = std::str::from_utf8(line).map_err(|_| io::Error::other("not UTF-8 text"))?;
            return Ok(Zeroizing::new(text.to_owned()));
        }
        if length == LIMIT {
            return Err(io::Error::other("longer than any secret"));
        }
    }
}

/// What is typed is not shown until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
        // A signal would end the program before the terminal is as it was: Ctrl-C ends the line instead.
        hidden.local_modes.remove(LocalModes::ISIG);
        hidden.special_codes[SpecialCodeIndex::VEOL] = CTRL_C;
        // What was typed before the question is no answer to it.
        tcsetattr(io::stdin(), OptionalActions::Flush, &hidden)?;
        Ok(Self(before))
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        // Nothing can be done about a terminal that is gone.
        let _ = tcsetattr(io::stdin(), OptionalActions::Now, &self.0);
    }
}
