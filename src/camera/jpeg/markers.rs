//! Walks along the markers of one JPEG (ITU-T T.81 Annex B) without decoding it: where it ends, how
//! large it says it is, whether it brings Huffman tables.

const SOI: u8 = 0xd8;
const EOI: u8 = 0xd9;
const SOS: u8 = 0xda;
const DHT: u8 = 0xc4;
/// Bytes between start of image and end of image that a frame must have to be looked at at all.
pub const START_OF_IMAGE: [u8; 3] = [0xff, SOI, 0xff];

/// What the markers tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Layout {
    /// Width and height of the frame header, in pixels.
    pub size: Option<(u16, u16)>,
    /// Whether a table of Huffman codes came before the first scan.
    pub huffman: bool,
    /// Offset of the first start-of-scan marker.
    pub scan: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The bytes so far are in order, but the end of image is not among them.
    More,
    /// One whole JPEG in this many bytes.
    Whole(usize),
    /// No JPEG; the search for the next start of image may begin at this offset.
    Broken { resume: usize },
}

/// Walks over a buffer that begins with a start of image and may grow between calls.
#[derive(Debug, Clone, Default)]
pub struct Walker {
    at: usize,
    entropy: bool,
    layout: Layout,
}

impl Walker {
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// Where to search on if nothing more comes. A header may have swallowed the next start of image
    /// by a wrong length, so the search begins inside it; coded data cannot hide one.
    pub fn resume(&self) -> usize {
        if self.entropy { self.at } else { 2 }
    }

    /// Walks on. `bytes` holds all that earlier calls have seen, and perhaps more.
    pub fn advance(&mut self, bytes: &[u8]) -> Step {
        if self.at == 0 {
            match bytes {
                [] | [0xff] => return Step::More,
                [0xff, SOI, ..] => self.at = 2,
                _ => return Step::Broken { resume: 1 },
            }
        }
        loop {
            if self.entropy && !self.skip_coded_data(bytes) {
                return Step::More;
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
                Some(_) => {
                    self.entropy = false;
                    return true;
                }
            }
        }
        self.at = bytes.len();
        false
    }

    /// Takes one marker segment; `Ok(false)` if more bytes are needed, an error at either end.
    fn marker(&mut self, bytes: &[u8]) -> Result<bool, Step> {
        let at = match bytes.get(self.at..) {
            None | Some([]) => return Ok(false),
            Some([0xff]) => return Ok(false),
            Some([0xff, 0xff, ..]) => {
                self.at += 1; // a fill byte
                return Ok(true);
            }
            Some([0xff, ..]) => self.at,
            Some(_) => return Err(Step::Broken { resume: 2 }),
        };
        let marker = bytes[at + 1];
        match marker {
            EOI => return Err(Step::Whole(at + 2)),
            // The one before was cut short.
            SOI => return Err(Step::Broken { resume: at }),
            0x01 | 0xd0..=0xd7 => {
                self.at += 2;
                return Ok(true);
            }
            0x00 => return Err(Step::Broken { resume: 2 }),
            _ => {}
        }
        let Some(length) = bytes.get(at + 2..at + 4) else { return Ok(false) };
        let length = usize::from(u16::from_be_bytes([length[0], length[1]]));
        if length < 2 {
            return Err(Step::Broken { resume: 2 });
        }
        let Some(segment) = bytes.get(at + 4..at + 2 + length) else { return Ok(false) };
        match marker {
            DHT => self.layout.huffman |= self.layout.scan.is_none(),
            SOS => {
                self.layout.scan.get_or_insert(at);
                self.entropy = true;
            }
            // Every start of frame but DHT, JPG and DAC, which share its range.
            0xc0..=0xcf if marker != 0xc8 && marker != 0xcc => {
                if let &[_, h1, h0, w1, w0, ..] = segment {
                    let size = (u16::from_be_bytes([w1, w0]), u16::from_be_bytes([h1, h0]));
                    self.layout.size = Some(size);
                }
            }
            _ => {}
        }
        self.at = at + 2 + length;
        Ok(true)
    }
}
