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
    let unusable = || CameraError::NoUsableFormat {
        path: path.to_owned(),
        offered: described(&offers),
        advice: advice(&offers),
    };
    let choice = choose(&offers, wish, |fourcc, width, height| device.rates(fourcc, width, height))
        .ok_or_else(unusable)?;
    let given = device
        .configure(choice.fourcc, choice.width, choice.height, choice.fps)
        .map_err(failed("cannot set its format"))?;
    let pixels = (given.width as usize).saturating_mul(given.height as usize);
    if pixels == 0 || pixels > FRAME_PIXELS {
        let reason = format!("it insists on {}x{} pixels", given.width, given.height);
        return Err(CameraError::NotACamera { path: path.to_owned(), reason });
    }
    let encoding = encoding(&given).ok_or_else(|| CameraError::NotACamera {
        path: path.to_owned(),
        reason: format!("it insists on the format {}", name_of(given.fourcc)),
    })?;
    let rate = given.fps.map_or_else(
        || "at an unknown rate".to_owned(),
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

/// The formats alone.
pub(super) fn names(offers: &[Offer]) -> String {
    let names: Vec<_> = offers.iter().map(|offer| name_of(offer.fourcc)).collect();
    names.join(", ")
}

/// Every format with its sizes, the first few of each.
fn described(offers: &[Offer]) -> String {
    const SHOWN: usize = 4;
    let of = |offer: &Offer| {
        let sizes = offer.sizes.iter().take(SHOWN).map(|size| match size {
            Sizes { least, most, .. } if least == most => format!("{}x{}", least.0, least.1),
            Sizes { least, most, .. } => {
                format!("{}x{} to {}x{}", least.0, least.1, most.0, most.1)
            }
        });
        let sizes: Vec<_> = sizes.collect();
        let more = if offer.sizes.len() > SHOWN { ", …" } else { "" };
        let name = name_of(offer.fourcc);
        if sizes.is_empty() { name } else { format!("{name} ({}{more})", sizes.join(", ")) }
    };
    if offers.is_empty() {
        return "nothing".to_owned();
    }
    offers.iter().map(of).collect::<Vec<_>>().join(", ")
}

/// What would make a camera usable whose formats are not.
fn advice(offers: &[Offer]) -> &'static str {
    if offers.is_empty() {
        "another node of the same camera may give pictures (`v4l2-ctl --list-devices`)"
    } else if offers.iter().any(|offer| taste(offer.fourcc).is_some()) {
        // It can be read, and is too large.
        "choose a size of at most 16 megapixels in its own settings"
    } else if offers.iter().all(|offer| is_bayer(offer.fourcc)) {
        "these are raw sensor data, which need a libcamera bridge (docs/appliance.md, \"A camera on the ribbon cable\")"
    } else {
        "let ffmpeg convert them into a loopback device (docs/camera.md, \"Other formats\")"
    }
}

/// What sensors on a ribbon cable give: mosaics of 8 to 16 bits.
fn is_bayer(fourcc: FourCc) -> bool {
    let [first, second, third, _] = fourcc;
    let mosaic = matches!(&[first, second], b"BA" | b"GB" | b"GR" | b"RG" | b"BG" | b"BY")
        && !matches!(&[first, second, third], b"BGR" | b"RGB" | b"GRE")
        && !matches!(&fourcc, b"BA15" | b"BA24"); // packed RGB
    // pBAA, pgAA and their like: ten bits and more, packed.
    let packed = first == b'p' && b"BGgR".contains(&second) && b"ACE".contains(&third);
    mosaic || packed
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
            if (width as usize).saturating_mul(height as usize) > FRAME_PIXELS {
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
        b"UYVY" => 0.001,
        b"NV12" => 0.002,
        b"NV21" => 0.003,
        b"YU12" => 0.004,
        b"YV12" => 0.005,
        b"RGB3" => 0.006,
        b"BGR3" => 0.007,
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
    if matches!(&given.fourcc, b"MJPG" | b"JPEG") {
        return Some(Encoding::Jpeg);
    }
    let (pixels, _) = Pixels::ALL.into_iter().find(|(_, fourcc)| *fourcc == given.fourcc)?;
    // Grey sensors (infrared) use all values unless the driver says otherwise; Y'CbCr does not.
    let full_range = given.full_range.unwrap_or(pixels == Pixels::Grey);
    Some(Encoding::Raw(Raw {
        pixels,
        width: given.width,
        height: given.height,
        stride: if given.stride == 0 { pixels.row(given.width) } else { given.stride },
        colors: Colors { matrix: given.matrix, full_range },
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used)]
mod tests {
    use super::super::fake::size;
    use super::*;

    fn wish(width: u32, height: u32, fps: f64) -> Wish {
        Wish { width, height, fps }
    }

    /// Offers as `(format, width, height, frames a second)`.
    fn chosen(wish: Wish, offers: &[(&FourCc, u32, u32, f64)]) -> Option<(String, u32, u32, f64)> {
        let listed: Vec<_> = offers
            .iter()
            .map(|&(fourcc, width, height, _)| Offer {
                fourcc: *fourcc,
                sizes: vec![size(width, height)],
            })
            .collect();
        let rates = |fourcc, width, height| {
            let of = |offer: &&(&FourCc, u32, u32, f64)| {
                (*offer.0, offer.1, offer.2) == (fourcc, width, height)
            };
            offers.iter().filter(of).map(|offer| Rates { least: offer.3, most: offer.3 }).collect()
        };
        let choice = choose(&listed, wish, rates)?;
        Some((name_of(choice.fourcc), choice.width, choice.height, choice.fps))
    }

    fn is(
        choice: Option<(String, u32, u32, f64)>,
        fourcc: &str,
        width: u32,
        height: u32,
        fps: f64,
    ) {
        let (found, found_width, found_height, found_fps) = choice.unwrap();
        assert_eq!(
            (found.as_str(), found_width, found_height, found_fps),
            (fourcc, width, height, fps)
        );
    }

    /// What a common USB camera offers: uncompressed at full rate only when small.
    const WEBCAM: [(&FourCc, u32, u32, f64); 6] = [
        (b"MJPG", 640, 480, 30.0),
        (b"MJPG", 1280, 720, 30.0),
        (b"MJPG", 1920, 1080, 30.0),
        (b"YUYV", 640, 480, 30.0),
        (b"YUYV", 1280, 720, 10.0),
        (b"YUYV", 1920, 1080, 5.0),
    ];

    #[test]
    fn uncompressed_comes_first_where_it_is_fast_enough() {
        is(chosen(wish(640, 480, 15.0), &WEBCAM), "YUYV", 640, 480, 30.0);
        is(chosen(wish(1280, 720, 10.0), &WEBCAM), "YUYV", 1280, 720, 10.0);
        is(chosen(wish(1280, 720, 15.0), &WEBCAM), "MJPG", 1280, 720, 30.0);
        is(chosen(wish(1920, 1080, 30.0), &WEBCAM), "MJPG", 1920, 1080, 30.0);
    }

    #[test]
    fn larger_comes_before_smaller() {
        is(chosen(wish(800, 600, 15.0), &WEBCAM), "MJPG", 1280, 720, 30.0);
        is(chosen(wish(320, 240, 15.0), &WEBCAM), "YUYV", 640, 480, 30.0);
        is(chosen(wish(4096, 2160, 15.0), &WEBCAM), "MJPG", 1920, 1080, 30.0);
    }

    #[test]
    fn slowest_rate_that_suffices() {
        let offers: Vec<_> =
            [5.0, 7.5, 14.99, 20.0, 30.0].map(|fps| (b"YUYV", 640, 480, fps)).to_vec();
        is(chosen(wish(640, 480, 15.0), &offers), "YUYV", 640, 480, 14.99);
        is(chosen(wish(640, 480, 16.0), &offers), "YUYV", 640, 480, 20.0);
        is(chosen(wish(640, 480, 60.0), &offers), "YUYV", 640, 480, 30.0);
    }

    #[test]
    fn colour_comes_before_grey_and_grey_before_nothing() {
        let infrared = (b"GREY", 640, 480, 30.0);
        is(chosen(wish(640, 480, 15.0), &[infrared]), "GREY", 640, 480, 30.0);
        let colour = (b"MJPG", 640, 480, 30.0);
        is(chosen(wish(640, 480, 15.0), &[infrared, colour]), "MJPG", 640, 480, 30.0);
        assert_eq!(chosen(wish(640, 480, 15.0), &[(b"pBAA", 640, 480, 30.0)]), None);
        assert_eq!(chosen(wish(640, 480, 15.0), &[]), None);
        // Nothing over the limit of pixels, whoever offers it.
        assert_eq!(chosen(wish(640, 480, 15.0), &[(b"MJPG", 8000, 6000, 30.0)]), None);
    }

    #[test]
    fn sizes_on_a_grid_and_sizes_untold() {
        let grid = Sizes { least: (320, 180), most: (3840, 2160), step: (16, 8) };
        let offers = [Offer { fourcc: *b"YUYV", sizes: vec![grid] }];
        let at = |width, height| {
            choose(&offers, wish(width, height, 15.0), |_, _, _| Vec::new())
                .map(|choice| (choice.width, choice.height, choice.fps))
        };
        assert_eq!(at(640, 480), Some((640, 484, 15.0)));
        assert_eq!(at(100, 100), Some((320, 180, 15.0)));
        assert_eq!(at(9000, 9000), Some((3840, 2160, 15.0)));
        let untold = [Offer { fourcc: *b"NV12", sizes: Vec::new() }];
        let choice = choose(&untold, wish(640, 480, 15.0), |_, _, _| Vec::new()).unwrap();
        assert_eq!((choice.width, choice.height, choice.fps), (640, 480, 15.0));
    }

    #[test]
    fn nonsense_from_a_driver_does_no_harm() {
        let backwards = Sizes { least: (640, 480), most: (320, 240), step: (0, 0) };
        let offers = [Offer { fourcc: *b"YUYV", sizes: vec![backwards] }];
        for rates in [
            Rates { least: f64::NAN, most: f64::NAN },
            Rates { least: f64::INFINITY, most: f64::INFINITY },
            Rates { least: 30.0, most: 0.0 },
            Rates { least: 0.0, most: 0.0 },
        ] {
            let choice = choose(&offers, wish(640, 480, 15.0), |_, _, _| vec![rates]).unwrap();
            assert!(choice.fps.is_finite() && choice.fps > 0.0, "{rates:?}: {choice:?}");
        }
    }

    /// Holds CAM-05.
    #[test]
    fn every_layout_of_pixels_can_be_chosen() {
        for (pixels, fourcc) in Pixels::ALL {
            is(
                chosen(wish(640, 480, 15.0), &[(&fourcc, 640, 480, 30.0)]),
                &name_of(fourcc),
                640,
                480,
                30.0,
            );
            let given = Given { fourcc, ..super::super::fake::mjpg(5, 4) };
            let Some(Encoding::Raw(raw)) = encoding(&given) else { panic!("{pixels:?}") };
            assert_eq!((raw.pixels, raw.stride), (pixels, pixels.row(5)));
        }
    }

    /// Holds CAM-06.
    #[test]
    fn unusable_camera_lists_offers_and_remedy() {
        let refusal = |offers: &[(&FourCc, &[(u32, u32)])]| {
            let sizes = |sizes: &[(u32, u32)]| sizes.iter().map(|&(w, h)| size(w, h)).collect();
            let listed =
                offers.iter().map(|(fourcc, all)| Offer { fourcc: **fourcc, sizes: sizes(all) });
            let listed: Vec<Offer> = listed.collect();
            let error = CameraError::NoUsableFormat {
                path: "/dev/video9".into(),
                offered: described(&listed),
                advice: advice(&listed),
            };
            error.to_string()
        };
        let encoder = refusal(&[(b"H264", &[(1920, 1080), (1280, 720)]), (b"HEVC", &[])]);
        assert_eq!(
            encoder,
            "camera /dev/video9: offers H264 (1920x1080, 1280x720), HEVC; usable are MJPG, JPEG, YUYV, NV12, RGB3, \
             GREY, UYVY, NV21, YU12, YV12, BGR3: let ffmpeg convert them into a loopback device (docs/camera.md, \
             \"Other formats\")"
        );
        for raw in [b"pBAA", b"BA81", b"RG10", b"GBRG", b"pgAA", b"BYR2"] {
            let sensor = refusal(&[(raw, &[(4608, 2592)])]);
            assert!(sensor.contains("libcamera"), "{sensor}");
        }
        for other in [b"BGR4", b"RGBP", b"H264", b"Z16 ", b"Y16 ", b"BA24", b"BA15"] {
            assert!(!refusal(&[(other, &[(640, 480)])]).contains("libcamera"), "{other:?}");
        }
        assert!(refusal(&[]).contains("offers nothing"));
        assert!(refusal(&[(b"MJPG", &[(8000, 6000)])]).contains("16 megapixels"));
    }

    /// Holds CAM-05.
    #[test]
    fn range_and_matrix_of_the_driver_are_respected() {
        let given = Given {
            fourcc: *b"YUYV",
            width: 640,
            height: 480,
            stride: 0,
            fps: None,
            matrix: super::super::super::pixels::Matrix::Bt709,
            full_range: None,
        };
        let raw = |given| match encoding(&given) {
            Some(Encoding::Raw(raw)) => raw,
            other => panic!("{other:?}"),
        };
        assert_eq!((raw(given).stride, raw(given).colors.full_range), (1280, false));
        assert_eq!(raw(given).colors.matrix, given.matrix);
        assert!(raw(Given { full_range: Some(true), ..given }).colors.full_range);
        assert!(raw(Given { fourcc: *b"GREY", ..given }).colors.full_range);
        assert_eq!(raw(Given { stride: 1344, ..given }).stride, 1344);
    }
}
