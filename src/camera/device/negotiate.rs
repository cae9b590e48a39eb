//! Which of a camera's formats, sizes and rates is nearest to what was wished for.

use std::path::Path;

use super::super::CameraError;
use super::super::jpeg::FRAME_PIXELS;
use super::super::pixels::{Colors, Encoding, Pixels, Raw};
use super::{Device, FourCc, Given, Offer, Rates, Sizes, Wish, name_of};

/// What a camera was set to.
#[derive(Debug, Clone, PartialEq)]
pub struct Negotiated {
    pub encoding: Encoding,
    /// In words, for the log.
    pub format: String,
}

/// Sets the camera to the nearest it has.
pub fn negotiate(
    path: &Path,
    device: &mut dyn Device,
    wish: Wish,
) -> Result<Negotiated, CameraError> {
    let failed = |doing| move |source| CameraError::Device { path: path.to_owned(), doing, source };
    let offers = device.offers().map_err(failed("cannot list its formats"))?;
    let names = |offers: &[Offer]| {
        let names: Vec<_> = offers.iter().map(|offer| name_of(offer.fourcc)).collect();
        if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
    };
    let unusable =
        || CameraError::NoUsableFormat { path: path.to_owned(), offered: names(&offers) };
    let choice = choose(&offers, wish, |fourcc, width, height| device.rates(fourcc, width, height))
        .ok_or_else(unusable)?;
    let given = device
        .configure(choice.fourcc, choice.width, choice.height, choice.fps)
        .map_err(failed("cannot set its format"))?;
    let pixels = given.width as usize * given.height as usize;
    if pixels == 0 || pixels > FRAME_PIXELS {
        let reason = format!("it insists on {}x{} pixels", given.width, given.height);
        return Err(CameraError::NotACamera { path: path.to_owned(), reason });
    }
    let encoding = encoding(&given).ok_or_else(unusable)?;
    let rate = given.fps.map_or_else(
        || "at a rate it does not tell".to_owned(),
        |fps| format!("at {} frames a second", tidy(fps)),
    );
    let format = format!(
        "{}: {} {}x{} {rate} (wished for {}x{} at {}; it offers {})",
        device.name(),
        name_of(given.fourcc),
        given.width,
        given.height,
        wish.width,
        wish.height,
        tidy(wish.fps),
        names(&offers),
    );
    Ok(Negotiated { encoding, format })
}

/// At most two digits after the point.
fn tidy(rate: f64) -> f64 {
    (rate * 100.0).round() / 100.0
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Choice {
    fourcc: FourCc,
    width: u32,
    height: u32,
    fps: f64,
}

/// The offer of least [`cost`].
fn choose(
    offers: &[Offer],
    wish: Wish,
    mut rates: impl FnMut(FourCc, u32, u32) -> Vec<Rates>,
) -> Option<Choice> {
    let mut best: Option<(f64, Choice)> = None;
    for offer in offers {
        let Some(taste) = taste(offer.fourcc) else { continue };
        // A driver that lists no sizes is asked for the wished one and says what it makes of it.
        let any = [Sizes { least: (1, 1), most: (u32::MAX, u32::MAX), step: (1, 1) }];
        let sizes = if offer.sizes.is_empty() { &any[..] } else { &offer.sizes };
        for size in sizes {
            let width = nearest(wish.width, size.least.0, size.most.0, size.step.0);
            let height = nearest(wish.height, size.least.1, size.most.1, size.step.1);
            if width as usize * height as usize > FRAME_PIXELS {
                continue;
            }
            let fps = rate(&rates(offer.fourcc, width, height), wish.fps);
            let choice = Choice { fourcc: offer.fourcc, width, height, fps };
            let cost = cost(choice, wish) + taste;
            if best.is_none_or(|(least, _)| cost < least) {
                best = Some((cost, choice));
            }
        }
    }
    best.map(|(_, choice)| choice)
}

/// Distance from the wish, in logarithms of the ratios: too few pixels or frames weigh twice as much as
/// too many pixels; too many frames weigh nothing, since surplus ones are dropped undecoded.
fn cost(choice: Choice, wish: Wish) -> f64 {
    let pixels = |given: u32, wished: u32| {
        let ratio = (f64::from(given) / f64::from(wished)).ln();
        if ratio < 0.0 { -2.0 * ratio } else { ratio }
    };
    let too_slow = (wish.fps / choice.fps).ln().max(0.0);
    pixels(choice.width, wish.width) + pixels(choice.height, wish.height) + 2.0 * too_slow
}

/// What breaks ties: uncompressed before MJPG, which costs decoding and loses detail; colour before
/// grey, since the networks were made for colour. `None` is a format that cannot be read.
fn taste(fourcc: FourCc) -> Option<f64> {
    Some(match &fourcc {
        b"YUYV" => 0.000,
        b"NV12" => 0.001,
        b"RGB3" => 0.002,
        b"MJPG" => 0.010,
        b"JPEG" => 0.011,
        b"GREY" => 0.500,
        _ => return None,
    })
}

/// The smallest offered that is not under the wish, else the largest.
fn nearest(wished: u32, least: u32, most: u32, step: u32) -> u32 {
    let steps = wished.saturating_sub(least).div_ceil(step.max(1));
    least.saturating_add(steps.saturating_mul(step.max(1))).min(most)
}

/// The slowest offered rate that is not under the wish, else the fastest. A driver that tells none is
/// asked for the wished one.
fn rate(offered: &[Rates], wished: f64) -> f64 {
    let slightly_less = wished * 0.99; // 14.99 is 15
    offered
        .iter()
        .filter(|rates| rates.most >= slightly_less)
        .map(|rates| wished.clamp(rates.least, rates.most.max(rates.least)))
        .min_by(f64::total_cmp)
        .or_else(|| offered.iter().map(|rates| rates.most).max_by(f64::total_cmp))
        .filter(|fps| fps.is_finite() && *fps > 0.0)
        .unwrap_or(wished)
}

fn encoding(given: &Given) -> Option<Encoding> {
    let (pixels, row) = match &given.fourcc {
        b"MJPG" | b"JPEG" => return Some(Encoding::Jpeg),
        b"YUYV" => (Pixels::Yuyv, given.width.div_ceil(2) * 4),
        b"NV12" => (Pixels::Nv12, given.width.div_ceil(2) * 2),
        b"RGB3" => (Pixels::Rgb, given.width * 3),
        b"GREY" => (Pixels::Grey, given.width),
        _ => return None,
    };
    // Grey sensors (infrared) use all values unless the driver says otherwise; Y'CbCr does not.
    let full_range = given.full_range.unwrap_or(pixels == Pixels::Grey);
    Some(Encoding::Raw(Raw {
        pixels,
        width: given.width,
        height: given.height,
        stride: if given.stride == 0 { row } else { given.stride },
        colors: Colors { matrix: given.matrix, full_range },
    }))
}
