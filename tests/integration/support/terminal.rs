//! A program at a terminal, with somebody who answers its questions.

use std::fs::File;
use std::io::{Read, Write};
use std::process::{Child, Command, ExitStatus};

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

pub struct Dialogue {
    child: Child,
    terminal: File,
    said: Vec<u8>,
    /// How much of it was read by `until`.
    seen: usize,
}

impl Dialogue {
    /// Starts it with a terminal as stdin, stdout and stderr.
    pub fn start(command: &mut Command) -> Self {
        let terminal = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&terminal).unwrap();
        unlockpt(&terminal).unwrap();
        let name = ptsname(&terminal, Vec::new()).unwrap();
        let end = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        // The command keeps its ends open until it is dropped or given others.
        command.stdin(std::process::Stdio::null());
        command.stdout(std::process::Stdio::null());
        command.stderr(std::process::Stdio::null());
        Self { child, terminal: terminal.into(), said: Vec::new(), seen: 0 }
    }

    /// Waits until it has asked this, after what it asked before.
    pub fn until(&mut self, question: &str) -> &mut Self {
        loop {
            let rest = String::from_utf8_lossy(&self.said[self.seen..]).into_owned();
            if let Some(at) = rest.find(question) {
                self.seen += at + question.len();
                return self;
            }
            assert!(self.read(), "it ended before {question:?}:\n{}", self.text());
        }
    }

    pub fn answer(&mut self, line: &str) -> &mut Self {
        self.terminal.write_all(format!("{line}\n").as_bytes()).unwrap();
        self
    }

    /// Ctrl-C, while what is typed is hidden.
    pub fn interrupt(&mut self) -> &mut Self {
        self.terminal.write_all(&[3]).unwrap();
        self
    }

    /// Whether the terminal shows what is typed.
    pub fn shows_typing(&self) -> bool {
        let modes = rustix::termios::tcgetattr(&self.terminal).unwrap().local_modes;
        modes.contains(rustix::termios::LocalModes::ECHO)
    }

    /// Ctrl-D.
    pub fn hang_up(&mut self) -> &mut Self {
        self.terminal.write_all(&[4]).unwrap();
        self
    }

    /// Waits for its end; gives how it ended and all that the terminal showed.
    pub fn end(&mut self) -> (ExitStatus, String) {
        while self.read() {}
        (self.child.wait().unwrap(), self.text())
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.said).into_owned()
    }

    /// `false` once nobody has the other end open.
    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        match self.terminal.read(&mut bytes) {
            Ok(0) | Err(_) => false,
            Ok(count) => {
                self.said.extend_from_slice(&bytes[..count]);
                true
            }
        }
    }
}
