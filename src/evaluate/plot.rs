//! A ROC curve as a small SVG picture.

use std::fmt::Write as _;

use super::RocPoint;

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 440.0;
const MARGIN: f64 = 60.0;

/// True accept rate over the logarithm of the false accept rate, from 1 down to what `pairs` of different people can
/// tell.
pub fn roc_svg(roc: &[RocPoint], different_pairs: usize) -> String {
    let decades = (different_pairs.max(10) as f64).log10().ceil();
    let lowest = 10_f64.powf(-decades);
    let x = |far: f64| MARGIN + (WIDTH - 2.0 * MARGIN) * (1.0 + far.max(lowest).log10() / decades);
    let bottom = roc.first().map_or(0.0, |point| (point.tar * 10.0).floor() / 10.0).min(0.9);
    let y = |tar: f64| {
        HEIGHT - MARGIN - (HEIGHT - 2.0 * MARGIN) * ((tar - bottom) / (1.0 - bottom)).max(0.0)
    };
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    // Writing to a String cannot fail.
    for decade in 0..=decades as i32 {
        let at = x(10_f64.powi(-decade));
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {:.1}V{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">1e-{decade}</text>",
            y(1.0),
            y(bottom),
            y(bottom) + 18.0
        );
    }
    for line in 0..=5 {
        let tar = bottom + (1.0 - bottom) * f64::from(line) / 5.0;
        let at = y(tar);
        let _ = writeln!(
            svg,
            "<path d=\"M{:.1} {at:.1}H{:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.1} %</text>",
            x(lowest),
            x(1.0),
            x(lowest) - 6.0,
            at + 4.0,
            tar * 100.0
        );
    }
    let mut path = String::new();
    for (at, point) in roc.iter().enumerate() {
        let letter = if at == 0 { 'M' } else { 'L' };
        let _ = write!(path, "{letter}{:.1} {:.1}", x(point.far), y(point.tar));
    }
    let _ = writeln!(svg, "<path d=\"{path}\" fill=\"none\" stroke=\"#06c\" stroke-width=\"2\"/>");
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">false accept rate</text>\
         <text x=\"{:.1}\" y=\"{:.1}\">true accept rate</text>\n</svg>",
        WIDTH / 2.0,
        HEIGHT - 14.0,
        MARGIN,
        MARGIN - 20.0
    );
    svg
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn curve_stays_within_the_picture() {
        let point = |far, tar| RocPoint { far, tar, threshold: 0.5 };
        let svg = roc_svg(&[point(0.0, 0.5), point(0.001, 0.9), point(1.0, 1.0)], 1000);
        // No false accept is drawn at the left edge; the curve ends at the upper right.
        assert!(svg.contains("d=\"M60.0 380.0L60.0 124.0L580.0 60.0\""), "{svg}");
    }
}
