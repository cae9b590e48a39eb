//! Questions to whoever sits at the terminal: asked on stderr, answered on stdin.

use std::io::{self, BufRead, IsTerminal, Write};

use rustix::termios::{LocalModes, OptionalActions, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

/// Longest answer, in bytes.
const LIMIT: usize = 4096;

/// Both ends of a terminal.
#[derive(Debug, Clone, Copy)]
pub struct Terminal(());

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

    /// Asks for a secret, which the terminal does not show.
    pub fn ask_hidden(self, question: &str) -> io::Result<Zeroizing<String>> {
        let answer = {
            let _hidden = Hidden::start()?;
            read(&format!("{question} (not shown): "))
        };
        eprintln!();
        let answer = answer?;
        Ok(Zeroizing::new(answer.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

fn read(prompt: &str) -> io::Result<Zeroizing<String>> {
    let mut stderr = io::stderr().lock();
    stderr.write_all(prompt.as_bytes())?;
    stderr.flush()?;
    // Room for the whole: growing would leave copies of a secret behind.
    let mut line = Zeroizing::new(String::with_capacity(LIMIT));
    match io::stdin().lock().read_line(&mut line)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the input ended")),
        _ => Ok(line),
    }
}

/// What is typed is not shown until this is dropped.
struct Hidden(Termios);

impl Hidden {
    fn start() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut hidden = before.clone();
        hidden.local_modes.remove(LocalModes::ECHO);
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
