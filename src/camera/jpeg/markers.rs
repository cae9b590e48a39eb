//! Walks along the markers of one JPEG (ITU-T T.81 Annex B) without decoding it: where it ends, how large it says it
//! is, and which of its bytes a decoder needs. Cameras are sloppier than the standard; what libjpeg passes over is
//! passed over here, within limits.

use std::borrow::Cow;
use std::ops::Range;

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;
const DRI: u8 = 0xdd;
const COM: u8 = 0xfe;
/// How a JPEG begins: start of image, then another marker.
pub const START_OF_IMAGE: [u8; 3] = [0xff, SOI, 0xff];
/// Bytes between segments that belong to none, at most; cameras leave from one to some hundred.
const STRAY: usize = 4096;
/// Segments of one JPEG, at most. An ICC profile may take 255 of them.
const SEGMENTS: usize = 1024;
/// More starts of image than this, one after another, are no start of a picture.
const STARTS: usize = 8;

/// What the markers tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// Width and height of the frame header, in pixels.
    pub size: Option<(u16, u16)>,
    /// Where the frame header says the height, among the bytes kept.
    pub height_at: usize,
    /// Rows of pixels in a row of coded units, 8 to 32.
    pub unit_rows: u16,
    /// Coded in one go from top to bottom, not progressively.
    pub sequential: bool,
    /// Whether every table of Huffman codes that a picture of these components may use came before the first scan.
    pub huffman: bool,
    /// Scans begun.
    pub scans: usize,
    /// Where the coded data of the last scan begin, among the bytes kept.
    pub data_at: usize,
    /// Coded units in a restart interval; 0: there are none.
    restart: u16,
    /// Columns of pixels in a coded unit, 8 to 32.
    unit_columns: u16,
    components: usize,
    /// Which tables came: a bit each for DC 0, DC 1, AC 0, AC 1.
    tables: u8,
}

impl Layout {
    /// Restart intervals of the whole picture; 0: it has none.
    pub fn intervals(&self) -> usize {
        let (Some((width, height)), 1..) = (self.size, self.restart) else { return 0 };
        let units = |side: u16, unit: u16| usize::from(side.div_ceil(unit.max(1)));
        let units = units(width, self.unit_columns) * units(height, self.unit_rows);
        units.div_ceil(usize::from(self.restart))
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The bytes so far are in order, but the end of image is not among them.
    More,
    /// One whole JPEG in this many bytes.
    Whole(usize),
    /// So many bytes of a JPEG that has no end of image; after them the next begins.
    Unended(usize),
    /// No JPEG; the search for the next start of image may begin at this offset.
    Broken { resume: usize },
}

/// Walks over a buffer that begins with a start of image and may grow between calls.
#[derive(Debug, Clone, Default)]
pub struct Walker {
    at: usize,
    /// Where the coded data began that it is in.
    entropy: Option<usize>,
    layout: Layout,
    /// What a decoder needs, in order, without gaps between two of them.
    kept: Vec<Range<usize>>,
    stray: usize,
    segments: usize,
    starts: usize,
}

impl Walker {
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Whether the walk has come to the coded data of a picture.
    pub fn is_in_picture(&self) -> bool {
        self.entropy.is_some()
    }

    /// Where to search on if nothing more comes. A header may have swallowed the next start of image
    /// by a wrong length, so the search begins inside it; coded data cannot hide one.
    pub fn resume(&self) -> usize {
        if self.entropy.is_some() { self.at } else { 2 }
    }

    /// The JPEG of `length` bytes without what no decoder needs: second starts, fill bytes, strays, broken comments.
    pub fn tidy<'a>(&self, bytes: &'a [u8], length: usize) -> Cow<'a, [u8]> {
        let open = self.entropy.map(|from| from..length.max(from));
        match (self.kept.as_slice(), &open) {
            ([whole], None) if *whole == (0..length) => Cow::Borrowed(&bytes[..length]),
            (kept, open) => {
                let ranges = kept.iter().chain(open);
                Cow::Owned(ranges.flat_map(|range| &bytes[range.clone()]).copied().collect())
            }
        }
    }

    /// Walks on. `bytes` holds all that earlier calls have seen, and perhaps more.
    pub fn advance(&mut self, bytes: &[u8]) -> Step {
        if self.at == 0 {
            match bytes {
                [] | [0xff] => return Step::More,
                [0xff, SOI, ..] => self.keep(2),
                _ => return Step::Broken { resume: 1 },
            }
        }
        loop {
            if let Some(from) = self.entropy {
                if !self.skip_coded_data(bytes) {
                    return Step::More;
                }
                let end = std::mem::replace(&mut self.at, from);
                self.keep(end - from);
                self.entropy = None;
            }
            match self.marker(bytes) {
                Ok(true) => {}
                Ok(false) => return Step::More,
                Err(step) => return step,
            }
        }
    }

    /// Goes to the marker that ends the coded data; false if more bytes are needed to find it.
    fn skip_coded_data(&mut self, bytes: &[u8]) -> bool {
        while let Some(found) = bytes[self.at..].iter().position(|&byte| byte == 0xff) {
            self.at += found;
            match bytes.get(self.at + 1) {
                None => return false,
                Some(0x00 | 0xd0..=0xd7) => self.at += 2, // a stuffed byte, a restart
                Some(0xff) => self.at += 1,
                Some(_) => return true,
            }
        }
        self.at = bytes.len();
        false
    }

    /// Takes one marker segment; `Ok(false)` if more bytes are needed, an error at either end.
    fn marker(&mut self, bytes: &[u8]) -> Result<bool, Step> {
        let marker = match bytes.get(self.at..) {
            None | Some([] | [0xff]) => return Ok(false),
            Some([0xff, 0xff, ..]) => return self.pass(1), // a fill byte
            Some([0xff, 0x00, ..]) => return self.pass(2),
            Some(&[0xff, marker, ..]) => marker,
            Some(strays) => {
                let length = strays.iter().position(|&byte| byte == 0xff);
                return self.pass(length.unwrap_or(strays.len()));
            }
        };
        let at = self.at;
        match marker {
            EOI => {
                self.keep(2);
                return Err(Step::Whole(at + 2));
            }
            SOI => return self.start_again(at),
            0x01 | 0xd0..=0xd7 => return self.pass(2),
            _ => {}
        }
        let Some(length) = bytes.get(at + 2..at + 4) else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        let is_table = !matches!(marker, 0xe0..=0xef | COM);
        if length < 2 {
            return if is_table { Err(Step::Broken { resume: 2 }) } else { self.pass(4) };
        }
        let Some(segment) = bytes.get(at + 4..at + 2 + length) else { return Ok(false) };
        // Tables never hold a start of image, and nothing ends with one: it is that of the next frame,
        // swallowed by one that was cut short. (Application segments may hold a thumbnail.)
        let from = if is_table { at + 3 } else { at + length };
        let swallowed = &bytes[from..at + 2 + length];
        if let Some(found) = swallowed.windows(2).position(|pair| pair == &START_OF_IMAGE[..2]) {
            return Err(Step::Broken { resume: from + found });
        }
        // What is a thumbnail's is followed by a marker; after a frame that was cut short there is none.
        let mut inside = bytes[at + 3..at + 2 + length].windows(3);
        if let Some(found) = inside.position(|window| window == START_OF_IMAGE) {
            match bytes.get(at + 2 + length) {
                None => return Ok(false),
                Some(0xff) => {}
                Some(_) => return Err(Step::Broken { resume: at + 3 + found }),
            }
        }
        self.segments += 1;
        if self.segments > SEGMENTS {
            return Err(Step::Broken { resume: 2 });
        }
        if !is_table && is_broken(marker, segment) {
            self.at += 2 + length;
            return Ok(true);
        }
        match marker {
            DHT => self.tables(segment),
            DRI => {
                if let &[high, low] = segment {
                    self.layout.restart = u16::from_be_bytes([high, low]);
                }
            }
            SOS => {
                self.layout.scans += 1;
                self.layout.data_at = self.kept_so_far() + 2 + length;
                self.entropy = Some(at + 2 + length);
            }
            // Every start of frame but DHT, JPG and DAC, which share its range.
            0xc0..=0xcf if marker != 0xc8 && marker != 0xcc => {
                self.frame_header(marker, segment)?;
            }
            _ => {}
        }
        self.keep(2 + length);
        Ok(true)
    }

    /// A second start of image: some cameras send it twice; after anything else it is that of the next picture.
    fn start_again(&mut self, at: usize) -> Result<bool, Step> {
        if self.layout.scans > 0 {
            return Err(Step::Unended(at));
        }
        self.starts += 1;
        if self.segments > 0 || self.starts > STARTS {
            return Err(Step::Broken { resume: at });
        }
        self.pass(2)
    }

    fn frame_header(&mut self, marker: u8, segment: &[u8]) -> Result<(), Step> {
        if self.layout.size.is_some() {
            return Err(Step::Broken { resume: 2 }); // two frames run into one
        }
        if let &[_, h1, h0, w1, w0, components, ref each @ ..] = segment {
            let size = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
            self.layout.size = Some(size);
            self.layout.height_at = self.kept_so_far() + 5;
            self.layout.components = usize::from(components);
            self.layout.sequential = matches!(marker, 0xc0 | 0xc1);
            // A single component is coded block by block, whatever its sampling.
            let sampling = each.as_chunks::<3>().0.iter().filter(|_| components > 1);
            let (across, down) = sampling.fold((1, 1), |(across, down), component| {
                (across.max(component[1] >> 4), down.max(component[1] & 15))
            });
            self.layout.unit_columns = 8 * u16::from(across.min(4));
            self.layout.unit_rows = 8 * u16::from(down.min(4));
        }
        Ok(())
    }

    /// Notes which tables of Huffman codes a segment brings before the first scan.
    fn tables(&mut self, mut segment: &[u8]) {
        while let [place, rest @ ..] = segment
            && self.layout.scans == 0
            && let Some((counts, values)) = rest.split_at_checked(16)
        {
            match place {
                0x00 => self.layout.tables |= 1,
                0x01 => self.layout.tables |= 2,
                0x10 => self.layout.tables |= 4,
                0x11 => self.layout.tables |= 8,
                _ => {}
            }
            let length = counts.iter().map(|&count| usize::from(count)).sum();
            segment = values.get(length..).unwrap_or_default();
        }
        let needed = if self.layout.components == 1 { 0b0101 } else { 0b1111 };
        self.layout.huffman = self.layout.tables & needed == needed;
    }

    fn kept_so_far(&self) -> usize {
        self.kept.iter().map(Range::len).sum()
    }

    /// Goes on after bytes that a decoder needs.
    fn keep(&mut self, length: usize) {
        let from = self.at;
        self.at += length;
        match self.kept.last_mut() {
            Some(last) if last.end == from => last.end = self.at,
            _ => self.kept.push(from..self.at),
        }
    }

    /// Goes on after bytes that nobody needs.
    fn pass(&mut self, length: usize) -> Result<bool, Step> {
        self.stray += length;
        self.at += length;
        if self.stray > STRAY { Err(Step::Broken { resume: 2 }) } else { Ok(true) }
    }
}

/// An application segment that decoders stumble over. Without it they take the picture for what it nearly always is,
/// Y'CbCr.
fn is_broken(marker: u8, segment: &[u8]) -> bool {
    const ADOBE: &[u8] = b"Adobe";
    // The last of its twelve bytes is one of three transforms.
    marker == 0xee && segment.starts_with(ADOBE) && segment.get(11).is_none_or(|&kind| kind > 2)
}
