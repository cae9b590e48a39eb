//! Curves as small SVG pictures: ROC, and detection error trade-off (DET).

use std::fmt::Write as _;

use super::{DetPoint, RocPoint};

const WIDTH: f64 = 640.0;
const HEIGHT: f64 = 440.0;
const MARGIN: f64 = 60.0;

/// By series, dark enough for white paper and told apart by most colour-blind readers (Okabe and Ito).
const COLOURS: [&str; 6] = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9"];
/// Decades drawn at most.
const DECADES: i32 = 6;

/// A curve with its name.
#[derive(Debug, Clone, PartialEq)]
pub struct DetSeries {
    pub label: String,
    /// From strict to lax.
    pub points: Vec<DetPoint>,
    pub dashed: bool,
}

/// Two error rates over each other, both on logarithmic axes that end a decade below the smallest rate seen. A rate of
/// 0 is drawn on the edge, which is marked so.
pub fn det_svg(title: &str, x_label: &str, y_label: &str, series: &[DetSeries]) -> String {
    let points = || series.iter().flat_map(|series| &series.points);
    let (across, down) = (
        decades(points().map(|point| point.false_positive)),
        decades(points().map(|point| point.false_negative)),
    );
    let (left, right, top, bottom) = (84.0, WIDTH - 24.0, 44.0, HEIGHT - 60.0);
    let place = |rate: f64, decades: i32| {
        1.0 + rate.max(10_f64.powi(-decades)).log10() / f64::from(decades)
    };
    let x = |rate: f64| left + (right - left) * place(rate, across);
    let y = |rate: f64| bottom - (bottom - top) * place(rate, down);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n\
         <text x=\"{left}\" y=\"24\" font-size=\"15\">{}</text>\n",
        escaped(title)
    );
    // Writing to a String cannot fail.
    for decade in 0..=across {
        let at = x(10_f64.powi(-decade));
        let label = tick(decade, across);
        let _ = writeln!(
            svg,
            "<path d=\"M{at:.1} {top:.1}V{bottom:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{label}</text>",
            bottom + 18.0
        );
    }
    for decade in 0..=down {
        let at = y(10_f64.powi(-decade));
        let label = tick(decade, down);
        let _ = writeln!(
            svg,
            "<path d=\"M{left:.1} {at:.1}H{right:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{label}</text>",
            left - 6.0,
            at + 4.0
        );
    }
    for (at, series) in series.iter().enumerate() {
        let colour = COLOURS[at % COLOURS.len()];
        let dashes = if series.dashed { " stroke-dasharray=\"6 4\"" } else { "" };
        let mut path = String::new();
        for (at, point) in series.points.iter().enumerate() {
            let letter = if at == 0 { 'M' } else { 'L' };
            let _ = write!(
                path,
                "{letter}{:.1} {:.1}",
                x(point.false_positive),
                y(point.false_negative)
            );
        }
        let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"{dashes}");
        let legend = top + 18.0 + 18.0 * at as f64;
        let _ = writeln!(
            svg,
            "<path d=\"{path}\" {style}/>\n\
             <path d=\"M{:.1} {:.1}h26\" {style}/><text x=\"{:.1}\" y=\"{legend:.1}\">{}</text>",
            right - 190.0,
            legend - 4.0,
            right - 158.0,
            escaped(&series.label)
        );
    }
    let middle = f64::midpoint(top, bottom);
    let _ = writeln!(
        svg,
        "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>\
         <text x=\"20\" y=\"{middle:.1}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 20 {middle:.1})\">{}</text>\n</svg>",
        f64::midpoint(left, right),
        HEIGHT - 16.0,
        escaped(x_label),
        escaped(y_label)
    );
    svg
}

/// How many decades below 1 show the smallest rate and leave an edge for 0.
fn decades(rates: impl Iterator<Item = f64>) -> i32 {
    let least = rates.filter(|rate| *rate > 0.0).fold(0.1, f64::min);
    ((-least.log10() + 1e-9).floor() as i32 + 1).clamp(2, DECADES)
}

fn tick(decade: i32, last: i32) -> String {
    match decade {
        _ if decade == last => "0".to_owned(),
        0 => "100 %".to_owned(),
        1 => "10 %".to_owned(),
        2 => "1 %".to_owned(),
        _ => format!("{:.*} %", (decade - 2) as usize, 10_f64.powi(2 - decade)),
    }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

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

    #[test]
    fn rates_of_zero_lie_on_the_edge_and_names_are_text() {
        let point = |false_positive, false_negative| DetPoint { false_positive, false_negative };
        let curve = DetSeries {
            label: "<a&b>".to_owned(),
            points: vec![point(0.0, 1.0), point(0.01, 0.1), point(1.0, 0.0)],
            dashed: false,
        };
        let svg = det_svg("t", "x", "y", &[curve]);
        // Across three decades (84 to 616), down two (44 to 380).
        assert!(svg.contains("d=\"M84.0 44.0L261.3 212.0L616.0 380.0\""), "{svg}");
        assert!(svg.contains("&lt;a&amp;b&gt;") && !svg.contains(">0.1 %<"));
        assert_eq!(
            (tick(0, 3), tick(2, 4), tick(3, 4), tick(3, 3)),
            ("100 %".into(), "1 %".into(), "0.1 %".into(), "0".into())
        );
    }
}
