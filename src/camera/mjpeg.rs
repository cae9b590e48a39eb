//! Cuts a file of concatenated JPEGs into pieces, in bounded memory.

use std::io::{self, Read};

use super::jpeg::{JPEG_BYTES, START_OF_IMAGE, Step, Walker};

const CHUNK: usize = 64 * 1024;

/// One thing found in the stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// A JPEG to its end of image, or without one to the start of the next or the end of the file.
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
    pub fn next_piece(&mut self) -> io::Result<Option<Piece>> {
        if !self.seek_start()? {
            return Ok(None);
        }
        let mut walker = Walker::default();
        loop {
            let rest = &self.buffer[self.start..];
            let (piece, skip) = match walker.advance(rest) {
                Step::Whole(length) | Step::Unended(length) if length > JPEG_BYTES => {
                    (Piece::TooLarge, length)
                }
                Step::Whole(length) | Step::Unended(length) => {
                    (Piece::Jpeg(rest[..length].to_vec()), length)
                }
                Step::Broken { resume } => (Piece::Broken, resume),
                Step::More if rest.len() > JPEG_BYTES => (Piece::TooLarge, walker.resume()),
                Step::More if self.fill()? => continue,
                Step::More if walker.is_in_picture() => {
                    let rest = &self.buffer[self.start..];
                    (Piece::Jpeg(rest.to_vec()), rest.len())
                }
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
        // Whatever is there: more of a live stream may be long in coming.
        let from = self.buffer.len();
        self.buffer.resize(from + CHUNK, 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[from..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => break outcome,
            }
        };
        self.buffer.truncate(from + read.as_ref().map_or(0, |read| *read));
        self.ended = read? == 0;
        Ok(!self.ended)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::jpeg::decode;
    use super::super::testing::{is_near, jpeg, noise, shade};
    use super::*;

    /// Gives one byte more or less at each read, to move the seams between reads about.
    struct Dripping<'a>(&'a [u8], usize);

    impl Read for Dripping<'_> {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            self.1 = self.1 % 7 + 1;
            let length = self.1.min(self.0.len()).min(into.len());
            into[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn pieces(stream: &[u8]) -> Vec<Piece> {
        let all = |mut splitter: Splitter<Box<dyn Read + '_>>| {
            std::iter::from_fn(|| splitter.next_piece().unwrap()).collect::<Vec<_>>()
        };
        let pieces = all(Splitter::new(Box::new(stream)));
        assert_eq!(pieces, all(Splitter::new(Box::new(Dripping(stream, 0)))));
        pieces
    }

    fn whole(pieces: &[Piece]) -> Vec<&[u8]> {
        pieces
            .iter()
            .filter_map(|piece| match piece {
                Piece::Jpeg(bytes) => Some(bytes.as_slice()),
                Piece::Broken | Piece::TooLarge => None,
            })
            .collect()
    }

    #[test]
    fn frames_come_out_as_they_went_in() {
        let (a, b) = (jpeg(10), jpeg(200));
        assert_eq!(whole(&pieces(&[&a[..], &b, &a].concat())), [&a[..], &b, &a]);
        assert_eq!(pieces(b""), []);
    }

    #[test]
    fn mjpeg_file_with_garbage_between_frames() {
        let (a, b) = (jpeg(10), jpeg(200));
        // Noise may hold what looks like a start of image; then a broken piece is told too.
        for seed in 0..50 {
            let garbage = noise(seed, 700);
            let stream = [&garbage[..], &a, &garbage, &b, &[0; 300], &a, &garbage].concat();
            assert_eq!(whole(&pieces(&stream)), [&a[..], &b, &a], "seed {seed}");
        }
    }

    #[test]
    fn truncated_frame_costs_only_itself() {
        let (a, b) = (jpeg(10), jpeg(200));
        let data = a.windows(2).position(|pair| pair == [0xff, 0xda]).unwrap();
        for length in 3..a.len() {
            let found = pieces(&[&a[..length], &b].concat());
            let whole = whole(&found);
            // What a cut header swallows of the next frame's start is what it has itself: they may be one picture then.
            if found.len() == 1 && length < data {
                let image = decode(whole[0]).unwrap();
                assert!(is_near(shade(&image), 200), "cut at {length}");
                continue;
            }
            assert_eq!(found.len(), 2, "cut at {length}");
            // As far as it came, if it came to its picture: whether that is enough the decoder knows.
            assert!(found[0] == Piece::Broken || whole[0] == &a[..length], "cut at {length}");
            assert_eq!(whole.last(), Some(&&b[..]), "cut at {length}");
        }
        assert_eq!(whole(&pieces(&b[..b.len() - 1])), [&b[..b.len() - 1]]);
        assert_eq!(pieces(&b[..100]), [Piece::Broken]);
    }

    /// Holds CAM-02.
    #[test]
    fn frames_without_ends_are_told_apart_by_their_starts() {
        let (a, b) = (jpeg(10), jpeg(200));
        let (a, b) = (&a[..a.len() - 2], &b[..b.len() - 2]);
        assert_eq!(whole(&pieces(&[a, b, a].concat())), [a, b, a]);
    }

    #[test]
    fn endless_frame_is_passed_over_in_bounded_memory() {
        let a = jpeg(10);
        let scan = a.windows(2).position(|window| window == [0xff, 0xda]).unwrap() + 14;
        let endless = [&a[..scan], &vec![0x55; JPEG_BYTES + 3 * CHUNK]].concat();
        let stream = [&endless[..], &a].concat();
        let mut splitter = Splitter::new(&stream[..]);
        assert_eq!(splitter.next_piece().unwrap(), Some(Piece::TooLarge));
        assert!(splitter.buffer.len() <= JPEG_BYTES + 2 * CHUNK);
        assert_eq!(splitter.next_piece().unwrap(), Some(Piece::Jpeg(a)));
        assert_eq!(splitter.next_piece().unwrap(), None);
    }

    #[test]
    fn mutated_stream_never_panics_and_always_ends() {
        let mut random = fastrand::Rng::with_seed(3);
        let stream = [jpeg(10), jpeg(100), jpeg(200)].concat();
        for _ in 0..3000 {
            let mut stream = stream.clone();
            for _ in 0..random.usize(1..10) {
                let at = random.usize(..stream.len());
                stream[at] = if random.bool() { random.u8(..) } else { 0xff };
            }
            let mut splitter = Splitter::new(&stream[..]);
            let mut pieces = 0;
            while splitter.next_piece().unwrap().is_some() {
                pieces += 1;
            }
            assert!(pieces <= stream.len() / 2);
        }
    }
}
