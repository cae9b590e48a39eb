//! What the camera sees, as characters on the terminal: to aim it, turn it and mask it by. Nothing is written anywhere
//! else.

use std::fmt::Write as _;
use std::io::{IsTerminal as _, Write as _};
use std::time::{Duration, Instant};

use image::{Rgb, RgbImage, imageops};

use crate::camera::{self, Feed, Frame, Mask, Next};
use crate::cli::{Failure, Global};

/// How long frames are read before one is shown; cameras set their exposure meanwhile.
const SETTLE: Duration = Duration::from_secs(1);
/// How long the first one may take.
const FIRST: Duration = Duration::from_secs(5);
/// Where nobody is looked at.
const MASKED: Rgb<u8> = Rgb([96, 0, 96]);

pub fn run(global: &Global) -> Result<(), Failure> {
    let stdout = std::io::stdout();
    if global.json || !stdout.is_terminal() {
        return Err(Failure::usage(
            "--preview shows a picture on a terminal and nowhere else: leave out --json, `|` and `>`",
        ));
    }
    let located = global.located()?;
    let camera = |error: camera::CameraError| Failure::Camera(error.to_string());
    let feed = camera::open(&located.config.camera).map_err(camera)?;
    let frame = settled(&feed)?;
    // The lines before and after it stay in view.
    let (columns, rows) = terminal_size::terminal_size_of(&stdout)
        .filter(|(columns, rows)| columns.0 > 0 && rows.0 > 0)
        .map_or((80, 21), |(columns, rows)| {
            (columns.0.into(), u32::from(rows.0).saturating_sub(3))
        });
    let style = Style::of(|name| std::env::var(name).ok());
    let drawn = draw(&frame.image, frame.mask.as_deref(), (columns, rows.max(1)), style);
    eprintln!("familiar: {}", feed.format());
    let (width, height) = frame.image.dimensions();
    let mask = if frame.mask.is_some() { ", masks in violet (`x` without colours)" } else { "" };
    eprintln!("familiar: {width}x{height} pixels after `rotate` and `flip`{mask}");
    (&stdout).write_all(drawn.as_bytes()).map_err(Failure::failed)
}

/// The newest frame after the camera has had time to settle.
fn settled(feed: &Feed) -> Result<Frame, Failure> {
    let start = Instant::now();
    let mut newest: Option<(Frame, Instant)> = None;
    loop {
        let deadline = newest.as_ref().map_or(start + FIRST, |(_, first)| *first + SETTLE);
        let left = deadline.saturating_duration_since(Instant::now());
        let next = if left.is_zero() { Next::End } else { feed.next(left) };
        match (next, newest.take()) {
            (Next::Frame(frame), None) => newest = Some((frame, Instant::now())),
            (Next::Frame(frame), Some((_, first))) => newest = Some((frame, first)),
            (Next::Failed(error), _) => return Err(Failure::Camera(error.to_string())),
            (Next::End | Next::Lost(_), Some((frame, _))) => return Ok(frame),
            (Next::Lost(why), None) => return Err(Failure::Camera(why)),
            (Next::End, None) => {
                let why = feed.first_skipped().unwrap_or_else(|| "none came".to_owned());
                return Err(Failure::Camera(format!("there is no picture to show: {why}")));
            }
            (Next::Nothing, kept) => newest = kept,
        }
    }
}

/// What the terminal can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    /// Two pixels to a character, in 24-bit colours.
    TrueColor,
    /// The same in the 256 colours of xterm.
    Palette,
    /// Letters from light to dark; two pixels to a character, one above the other.
    Letters,
}

impl Style {
    fn of(variable: impl Fn(&str) -> Option<String>) -> Self {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let locale = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
        let utf8 = locale.is_some_and(|name| {
            let name = name.to_ascii_lowercase();
            name.contains("utf-8") || name.contains("utf8")
        });
        let terminal = set("TERM").unwrap_or_default();
        if !utf8 || set("NO_COLOR").is_some() || terminal.is_empty() || terminal == "dumb" {
            return Self::Letters;
        }
        match set("COLORTERM").as_deref() {
            Some("truecolor" | "24bit") => Self::TrueColor,
            _ if terminal.contains("direct") => Self::TrueColor,
            _ if terminal.contains("256color") => Self::Palette,
            _ => Self::Letters,
        }
    }
}

/// A picture within so many columns and rows of characters, each about twice as high as wide.
fn draw(image: &RgbImage, mask: Option<&Mask>, within: (u32, u32), style: Style) -> String {
    let (width, height) = image.dimensions();
    let scale = f64::min(
        f64::from(within.0) / f64::from(width),
        f64::from(within.1 * 2) / f64::from(height),
    )
    .min(1.0);
    let side = |length: u32| ((f64::from(length) * scale) as u32).max(1);
    let (columns, lines) = (side(width), side(height).next_multiple_of(2));
    let small = imageops::thumbnail(image, columns, lines);
    let is_masked = |x: u32, y: u32| {
        let middle = |at: u32, of: u32, length: u32| (2 * at + 1) * length / (2 * of);
        mask.is_some_and(|mask| mask.contains(middle(x, columns, width), middle(y, lines, height)))
    };
    let color = |x, y| if is_masked(x, y) { MASKED } else { *small.get_pixel(x, y) };
    let mut drawn = String::new();
    for y in (0..lines).step_by(2) {
        for x in 0..columns {
            let (Rgb([r, g, b]), Rgb([r2, g2, b2])) = (color(x, y), color(x, y + 1));
            // Writing to a String cannot fail.
            let _ = match style {
                Style::TrueColor => {
                    write!(drawn, "\x1b[38;2;{r};{g};{b};48;2;{r2};{g2};{b2}m▀")
                }
                Style::Palette => {
                    let (above, below) = (palette([r, g, b]), palette([r2, g2, b2]));
                    write!(drawn, "\x1b[38;5;{above};48;5;{below}m▀")
                }
                Style::Letters if is_masked(x, y) => write!(drawn, "x"),
                Style::Letters => write!(drawn, "{}", letter([[r, g, b], [r2, g2, b2]])),
            };
        }
        drawn.push_str(if style == Style::Letters { "\n" } else { "\x1b[0m\n" });
    }
    drawn
}

/// The nearest of xterm's colours 16 to 231, a cube of six steps a side.
fn palette(rgb: [u8; 3]) -> u32 {
    let [r, g, b] = rgb.map(|value| match value {
        0..48 => 0,
        48..115 => 1,
        _ => (u32::from(value) - 35) / 40,
    });
    16 + 36 * r + 6 * g + b
}

/// The lighter, the more ink: most terminals are dark.
fn letter(two: [[u8; 3]; 2]) -> char {
    const INK: &[u8] = b" .:-=+*#%@";
    let luma = |[r, g, b]: [u8; 3]| u32::from(r) + 2 * u32::from(g) + u32::from(b);
    let mean = (luma(two[0]) + luma(two[1])) / 8;
    char::from(INK[mean as usize * INK.len() / 256])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// White at the left, black at the right.
    fn halves(width: u32, height: u32) -> RgbImage {
        RgbImage::from_fn(width, height, |x, _| Rgb([if x < width / 2 { 255 } else { 0 }; 3]))
    }

    #[test]
    fn picture_keeps_its_shape_and_fits() {
        let size = |image: &RgbImage, within| {
            let drawn = draw(image, None, within, Style::Letters);
            (drawn.lines().next().unwrap().len(), drawn.lines().count())
        };
        assert_eq!(size(&halves(640, 480), (80, 50)), (80, 30));
        assert_eq!(size(&halves(640, 480), (200, 24)), (64, 24));
        assert_eq!(size(&halves(480, 640), (80, 24)), (36, 24));
        assert_eq!(size(&halves(640, 480), (1, 1)), (1, 1));
        assert_eq!(size(&halves(20, 10), (80, 24)), (20, 5), "no larger than it is");
    }

    #[test]
    fn letters_show_light_dark_and_masks() {
        let image = halves(8, 8);
        assert_eq!(draw(&image, None, (4, 2), Style::Letters), "@@  \n@@  \n");
        let top = vec![[0.0, 0.0], [1.0, 0.0], [1.0, 0.5], [0.0, 0.5]].try_into().unwrap();
        let mask = Mask::new(&[top], (8, 8));
        assert_eq!(draw(&image, Some(&mask), (4, 2), Style::Letters), "xxxx\n@@  \n");
    }

    #[test]
    fn colours_are_those_of_the_picture() {
        let mut image = RgbImage::from_pixel(1, 2, Rgb([255, 128, 0]));
        image.put_pixel(0, 1, Rgb([0, 0, 95]));
        let drawn = draw(&image, None, (1, 1), Style::TrueColor);
        assert_eq!(drawn, "\x1b[38;2;255;128;0;48;2;0;0;95m▀\x1b[0m\n");
        // 255, 135, 0 and 0, 0, 95 are the nearest of the cube.
        assert_eq!(draw(&image, None, (1, 1), Style::Palette), "\x1b[38;5;208;48;5;17m▀\x1b[0m\n");
    }

    #[test]
    fn terminal_that_can_do_less_is_shown_less() {
        let style = |variables: &[(&str, &str)]| {
            let found = |name: &str| variables.iter().find(|(known, _)| *known == name);
            Style::of(|name| found(name).map(|(_, value)| (*value).to_owned()))
        };
        let utf8 = ("LANG", "de_DE.UTF-8");
        let xterm = ("TERM", "xterm-256color");
        assert_eq!(style(&[utf8, xterm, ("COLORTERM", "truecolor")]), Style::TrueColor);
        assert_eq!(style(&[utf8, xterm]), Style::Palette);
        assert_eq!(style(&[utf8, ("TERM", "vt220")]), Style::Letters);
        assert_eq!(style(&[utf8, xterm, ("NO_COLOR", "1")]), Style::Letters);
        assert_eq!(style(&[("LANG", "C"), xterm]), Style::Letters);
        assert_eq!(style(&[("LC_ALL", "C"), utf8, xterm]), Style::Letters);
        assert_eq!(style(&[]), Style::Letters);
    }
}
