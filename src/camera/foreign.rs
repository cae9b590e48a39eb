//! Files that people take for pictures that familiar reads: named by their content, with the way to a JPEG.

/// What a file is that is no JPEG, PNG or WebP, and what to do; `None` for what is not known.
pub fn foreign(bytes: &[u8]) -> Option<Foreign> {
    KNOWN.iter().find(|(_, looks_so)| looks_so(bytes)).map(|(foreign, _)| *foreign)
}

/// A kind of file that is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Foreign {
    /// "a HEIC picture"
    pub what: &'static str,
    /// How a JPEG is made of it.
    pub advice: &'static str,
}

const HEIC: Foreign = Foreign {
    what: "a HEIC picture",
    advice: "export it as JPEG (on an iPhone: Settings > Camera > Formats > Most Compatible, for new pictures), or \
             `heif-convert IN.heic OUT.jpg` (Debian: libheif-examples)",
};
const AVIF: Foreign = Foreign {
    what: "an AVIF picture",
    advice: "export it as JPEG, or `avifdec IN.avif OUT.png` (Debian: libavif-bin)",
};
const JPEG_XL: Foreign = Foreign {
    what: "a JPEG XL picture",
    advice: "export it as JPEG, or `djxl IN.jxl OUT.jpg` (Debian: libjxl-tools)",
};
const JPEG_2000: Foreign = Foreign {
    what: "a JPEG 2000 picture",
    advice: "export it as JPEG, or `opj_decompress -i IN.jp2 -o OUT.png` (Debian: libopenjp2-tools)",
};
const OTHER_STILL: &str = "export it as JPEG or PNG, or `convert IN OUT.jpg` (Debian: imagemagick)";
const GIF: Foreign = Foreign { what: "a GIF picture", advice: OTHER_STILL };
const BMP: Foreign = Foreign { what: "a BMP picture", advice: OTHER_STILL };
const PSD: Foreign = Foreign { what: "a Photoshop document", advice: OTHER_STILL };
const SVG: Foreign = Foreign { what: "an SVG drawing", advice: OTHER_STILL };
const TIFF: Foreign = Foreign {
    what: "a TIFF picture or a camera's raw file",
    advice: "export it as JPEG; of a raw file `exiftool -b -PreviewImage IN > OUT.jpg` gives the camera's own JPEG \
             (Debian: libimage-exiftool-perl)",
};
const RAW: Foreign = Foreign {
    what: "a camera's raw file",
    advice: "export it as JPEG, or take the camera's own JPEG out of it: `exiftool -b -PreviewImage IN > OUT.jpg` \
             (Debian: libimage-exiftool-perl)",
};
const PDF: Foreign = Foreign {
    what: "a PDF document",
    advice: "`pdftoppm -jpeg -r 150 IN.pdf OUT` makes a JPEG of each page (Debian: poppler-utils)",
};
const VIDEO: Foreign = Foreign {
    what: "a video",
    advice: "`ffmpeg -i IN -vf fps=1 OUT-%03d.jpg` makes a picture of each second (Debian: ffmpeg)",
};
const PAGE: Foreign =
    Foreign { what: "a web page", advice: "open it in a browser and save the picture itself" };

type Looks = fn(&[u8]) -> bool;

const KNOWN: &[(Foreign, Looks)] = &[
    (AVIF, |b| is_media(b, &[b"avif", b"avis"])),
    (HEIC, |b| {
        is_media(b, &[b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"])
    }),
    (RAW, |b| is_media(b, &[b"crx "])),
    // Whatever else has this box is a film: mp42, isom, qt, M4V, 3gp4, …
    (VIDEO, |b| brand(b).is_some()),
    (VIDEO, |b| b.starts_with(b"\x1a\x45\xdf\xa3")), // Matroska, WebM
    (VIDEO, |b| b.starts_with(b"RIFF") && b.get(8..12) == Some(b"AVI ")),
    (VIDEO, |b| b.starts_with(b"\x00\x00\x01\xba") || b.starts_with(b"\x00\x00\x01\xb3")), // MPEG
    // Before the transport stream, which begins with a G as well.
    (GIF, |b| b.starts_with(b"GIF87a") || b.starts_with(b"GIF89a")),
    (VIDEO, |b| b.first() == Some(&0x47) && b.get(188) == Some(&0x47)), // MPEG transport stream
    (RAW, |b| b.get(8..10) == Some(b"CR") && b.starts_with(b"II*\0")),
    (RAW, |b| {
        [&b"FUJIFILMCCD-RAW"[..], b"IIRO", b"IIRS", b"IIU\0", b"\0MRM"]
            .iter()
            .any(|m| b.starts_with(m))
    }),
    (TIFF, |b| [b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"].iter().any(|m| b.starts_with(*m))),
    (BMP, |b| b.starts_with(b"BM") && b.get(6..10) == Some(&[0; 4])),
    (PDF, |b| b.starts_with(b"%PDF-")),
    (PSD, |b| b.starts_with(b"8BPS")),
    (JPEG_XL, |b| b.starts_with(b"\xff\x0a") || b.starts_with(b"\0\0\0\x0cJXL ")),
    (JPEG_2000, |b| b.starts_with(b"\0\0\0\x0cjP  ") || b.starts_with(b"\xff\x4f\xff\x51")),
    (SVG, |b| begins_with_tag(b, "<svg") || (begins_with_tag(b, "<?xml") && has(b, "<svg"))),
    (PAGE, |b| begins_with_tag(b, "<!doctype html") || begins_with_tag(b, "<html")),
];

/// The brand of an ISO base media file (ISO/IEC 14496-12).
fn brand(bytes: &[u8]) -> Option<&[u8]> {
    (bytes.get(4..8)? == b"ftyp").then(|| bytes.get(8..12))?
}

/// Whether its brand is one of these, or one that it is compatible with. `mif1` and `msf1` are said of HEIC and
/// of AVIF, so AVIF is asked for first.
fn is_media(bytes: &[u8], brands: &[&[u8; 4]]) -> bool {
    let Some(brand) = brand(bytes) else { return false };
    let length = bytes.first_chunk().map_or(0, |length| u32::from_be_bytes(*length) as usize);
    let end = length.clamp(16, 256).min(bytes.len());
    let compatible = bytes.get(16..end).unwrap_or_default().chunks_exact(4);
    std::iter::once(brand).chain(compatible).any(|found| brands.iter().any(|b| found == &b[..]))
}

fn begins_with_tag(bytes: &[u8], tag: &str) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    text.get(..tag.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(tag.as_bytes()))
}

fn has(bytes: &[u8], text: &str) -> bool {
    bytes[..bytes.len().min(4096)].windows(text.len()).any(|window| window == text.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Holds CAM-20.
    #[test]
    fn file_of_another_kind_is_named() {
        let media = |brands: &[u8]| {
            let length = (8 + brands.len() as u32).to_be_bytes();
            [&length[..], b"ftyp", brands, b"\0\0\0\x08mdat"].concat()
        };
        let gif = [&b"GIF89a"[..], &[0; 182], &[0x47; 1], &[0; 9]].concat();
        let transport = [&[0x47; 1][..], &[0; 187], &[0x47; 1], &[0; 187]].concat();
        for (bytes, what) in [
            (&media(b"heic\0\0\0\0mif1heic")[..], "a HEIC picture"),
            (&media(b"mif1\0\0\0\0mif1heic"), "a HEIC picture"),
            (&media(b"mif1\0\0\0\0mif1avif"), "an AVIF picture"),
            (&media(b"avif\0\0\0\0mif1miaf"), "an AVIF picture"),
            (&media(b"isom\0\0\x02\0isomiso2"), "a video"),
            (&media(b"qt  \0\0\0\0qt  "), "a video"),
            (&media(b"crx \0\0\0\x01crx isom"), "a camera's raw file"),
            (b"\x1a\x45\xdf\xa3\x01\0\0\0", "a video"),
            (b"RIFF\0\0\0\0AVI LIST", "a video"),
            (&transport, "a video"),
            (b"GIF89a\x01\0\x01\0", "a GIF picture"),
            (&gif, "a GIF picture"),
            (b"II*\0\x10\0\0\0CR\x02\0", "a camera's raw file"),
            (b"II*\0\x08\0\0\0\0\0\0\0", "a TIFF picture or a camera's raw file"),
            (b"MM\0*\0\0\0\x08", "a TIFF picture or a camera's raw file"),
            (b"FUJIFILMCCD-RAW 0201", "a camera's raw file"),
            (b"BM\x36\0\0\0\0\0\0\0\x36\0", "a BMP picture"),
            (b"%PDF-1.7\n", "a PDF document"),
            (b"\xff\x0a\xfa\x1f", "a JPEG XL picture"),
            (b"\0\0\0\x0cjP  \r\n\x87\n", "a JPEG 2000 picture"),
            (b"<?xml version=\"1.0\"?>\n<svg xmlns=", "an SVG drawing"),
            (b"\xef\xbb\xbf\n<!DOCTYPE html><html>", "a web page"),
        ] {
            assert_eq!(foreign(bytes).map(|f| f.what), Some(what), "{:?}", &bytes[..8]);
        }
    }

    #[test]
    fn what_is_read_or_unknown_is_not_misnamed() {
        for bytes in [
            &b"\xff\xd8\xff\xe0\0\x10JFIF"[..],
            b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR",
            b"RIFF\0\0\0\0WEBPVP8 ",
            b"hello",
            b"BMW is a car",
            b"",
        ] {
            assert_eq!(foreign(bytes), None);
        }
    }
}
