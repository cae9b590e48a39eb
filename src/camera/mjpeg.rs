//! Cuts a file of concatenated JPEGs into pieces, in bounded memory.

use std::io::{self, Read};

use super::jpeg::{JPEG_BYTES, START_OF_IMAGE, Step, Walker};

const CHUNK: usize = 64 * 1024;

/// One thing found in the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A whole JPEG, by its markers.
    Jpeg(Vec<u8>),
    /// The start of a JPEG that does not go on as one.
    Broken,
    /// A JPEG of more than [`JPEG_BYTES`].
    TooLarge,
}

/// Reads pieces one after another. Between two of them anything may lie; after a broken one it goes on
/// at the next start of image.
pub struct Splitter<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Everything before it is done with.
    start: usize,
    ended: bool,
}

impl<R: Read> Splitter<R> {
    pub fn new(reader: R) -> Self {
        Self { reader, buffer: Vec::new(), start: 0, ended: false }
    }

    /// The next piece, `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Piece>> {
        if !self.seek_start()? {
            return Ok(None);
        }
        let mut walker = Walker::default();
        loop {
            let rest = &self.buffer[self.start..];
            let (piece, skip) = match walker.advance(rest) {
                Step::Whole(length) if length > JPEG_BYTES => (Piece::TooLarge, length),
                Step::Whole(length) => (Piece::Jpeg(rest[..length].to_vec()), length),
                Step::Broken { resume } => (Piece::Broken, resume),
                Step::More if rest.len() > JPEG_BYTES => (Piece::TooLarge, walker.resume()),
                Step::More if self.fill()? => continue,
                Step::More => (Piece::Broken, walker.resume()),
            };
            self.start += skip;
            return Ok(Some(piece));
        }
    }

    /// Goes to the next start of image; false at the end of the file.
    fn seek_start(&mut self) -> io::Result<bool> {
        loop {
            let rest = &self.buffer[self.start..];
            if let Some(found) = rest.windows(3).position(|window| window == START_OF_IMAGE) {
                self.start += found;
                return Ok(true);
            }
            self.start += rest.len().saturating_sub(2);
            if !self.fill()? {
                return Ok(false);
            }
        }
    }

    /// Reads some more; false at the end of the file.
    fn fill(&mut self) -> io::Result<bool> {
        self.buffer.drain(..self.start);
        self.start = 0;
        if self.ended {
            return Ok(false);
        }
        let read = (&mut self.reader).take(CHUNK as u64).read_to_end(&mut self.buffer)?;
        self.ended = read == 0;
        Ok(read > 0)
    }
}
