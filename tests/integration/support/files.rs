//! A server of files that can be told to misbehave.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// What it does with files whose name ends so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Breaks off after so many bytes.
    CutAfter(usize),
    /// Goes on and on after the file.
    Endless,
    /// Does not resume.
    NoRanges,
    /// A byte now and then, for ever.
    Trickle,
}

pub struct FileServer {
    pub port: u16,
    shared: Arc<Shared>,
}

struct Shared {
    folder: PathBuf,
    fault: Mutex<Option<(String, Fault)>>,
    /// Path, first byte asked for, and bytes sent.
    log: Mutex<Vec<(String, usize, usize)>>,
    /// Requests, and bytes both ways, headers included.
    traffic: Mutex<(u64, u64)>,
}

impl FileServer {
    pub fn start(folder: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let shared = Arc::new(Shared {
            folder: folder.to_owned(),
            fault: Mutex::new(None),
            log: Mutex::new(Vec::new()),
            traffic: Mutex::new((0, 0)),
        });
        let server = Self { port, shared: Arc::clone(&shared) };
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || drop(shared.answer(stream)));
            }
        });
        server
    }

    pub fn address(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Requests so far, and bytes both ways, headers included.
    pub fn traffic(&self) -> (u64, u64) {
        *self.shared.traffic.lock().unwrap()
    }

    pub fn misbehave(&self, end: &str, fault: Fault) {
        *self.shared.fault.lock().unwrap() = Some((end.to_owned(), fault));
    }

    pub fn behave(&self) {
        *self.shared.fault.lock().unwrap() = None;
    }

    /// First byte asked for, and bytes sent, of files whose name ends so.
    pub fn sent(&self, end: &str) -> Vec<(usize, usize)> {
        let log = self.shared.log.lock().unwrap();
        log.iter().filter(|(path, ..)| path.ends_with(end)).map(|(_, a, b)| (*a, *b)).collect()
    }
}

impl Shared {
    fn answer(&self, mut stream: TcpStream) -> std::io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        let (mut line, mut from) = (String::new(), 0);
        reader.read_line(&mut line)?;
        let mut wire = line.len();
        let path = line.split(' ').nth(1).unwrap_or_default().to_owned();
        loop {
            let mut header = String::new();
            wire += reader.read_line(&mut header)?;
            if let Some(range) = header.to_ascii_lowercase().strip_prefix("range: bytes=") {
                from = range.trim().trim_end_matches('-').parse().unwrap_or(0);
            }
            if header.trim().is_empty() {
                break;
            }
        }
        let fault = self.fault.lock().unwrap().clone();
        let fault = fault.filter(|(end, _)| path.ends_with(end)).map(|(_, fault)| fault);
        let Ok(bytes) = std::fs::read(self.folder.join(path.trim_start_matches('/'))) else {
            let answer =
                b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
            self.count(wire + answer.len());
            return stream.write_all(answer);
        };
        let asked = from;
        if fault == Some(Fault::NoRanges) {
            from = 0;
        }
        let body = &bytes[from.min(bytes.len())..];
        let status = if from > 0 {
            format!(
                "206 Partial Content\r\nContent-Range: bytes {from}-{}/{}",
                bytes.len() - 1,
                bytes.len()
            )
        } else {
            "200 OK".to_owned()
        };
        let length = match fault {
            Some(Fault::Endless) => String::new(),
            _ => format!("Content-Length: {}\r\n", body.len()),
        };
        let head = format!("HTTP/1.1 {status}\r\n{length}Connection: close\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        let body = match fault {
            Some(Fault::CutAfter(count)) => &body[..count.min(body.len())],
            Some(Fault::Trickle) => &[],
            _ => body,
        };
        let mut sent = 0;
        let mut written = stream.write_all(body).map(|()| sent += body.len());
        if fault == Some(Fault::Endless) {
            let noise = vec![0x20; 64 * 1024];
            while written.is_ok() && sent < 4 << 30 {
                written = stream.write_all(&noise).map(|()| sent += noise.len());
            }
        }
        while fault == Some(Fault::Trickle) && written.is_ok() {
            let byte = [*bytes.get(sent).unwrap_or(&0)];
            written = stream.write_all(&byte).map(|()| sent += 1);
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        self.count(wire + head.len() + sent);
        self.log.lock().unwrap().push((path, asked, sent));
        written
    }

    fn count(&self, bytes: usize) {
        let mut traffic = self.traffic.lock().unwrap();
        *traffic = (traffic.0 + 1, traffic.1 + bytes as u64);
    }
}
