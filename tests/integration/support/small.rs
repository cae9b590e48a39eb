//! A whole bundle of small networks, made by the tests: detector, embedder and two liveness networks,
//! signed and self-tested like any other, which the daemon loads in milliseconds.
//!
//! Their faces are those of [`super::painted`]. They go the whole way of a real one: detector, quality
//! gate, crop, embedding, liveness, consensus. Nothing here depends on what the default bundle has.
//!
//! ```ignore
//! let home = Home::small();                  // a device that trusts and runs this bundle
//! home.enroll("Ada", "P001");                // P001 to P015 are painted people, see `Face::of`
//! home.record("P001", 20);                   // a recording of her ...
//! home.record_face(&Face::of(2).spoof(), 20) // ... or of a picture of somebody else
//! let bundle = small::bundle();              // the bundle alone, with its key and trust.d
//! ```
#![allow(clippy::format_push_string)] // a self-test is written piece by piece

use std::path::Path;
use std::sync::LazyLock;

use image::RgbImage;
use image::imageops::{FilterType, resize};

use super::bundle::TestBundle;
use super::onnx::{Graph, Name, PICTURE};
use super::painted::{CLEAR, Face, MEAN, RED, TILES, YELLOW, portrait, wall};

/// What `bundle.toml` says; tests change it by replacing lines.
pub const MANIFEST: &str = r#"format = 1
name = "small"
version = "1.0.0"
licence = "MIT"
minimum_daemon = "0.1.0"

[embedder]
file = "embedder.onnx"
dimensions = 16
distance = "cosine"
crop = { kind = "box", margin = 0.2 }
input = { width = 24, height = 24, layout = "nchw", channels = "rgb", mean = [127.5, 127.5, 127.5], scale = [0.0078125, 0.0078125, 0.0078125] }

[detector]
file = "detector.onnx"
decoder = "centerface"
score_threshold = 0.6
overlap_threshold = 0.3
input = { width = 160, height = 128, layout = "nchw", channels = "rgb", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }

[[liveness]]
file = "liveness-near.onnx"
crop_scale = 1.5
live_class = 1
input = { width = 32, height = 32, layout = "nchw", channels = "rgb", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }

[[liveness]]
file = "liveness-wide.onnx"
crop_scale = 2.7
live_class = 1
input = { width = 32, height = 32, layout = "nchw", channels = "rgb", mean = [0.0, 0.0, 0.0], scale = [1.0, 1.0, 1.0] }

[liveness_decision]
threshold = 0.35

[[calibration]]
looks = 1
pairs = 1000000
points = [ { false_match_rate = 1e-1, similarity = 0.2 }, { false_match_rate = 1e-2, similarity = 0.3 }, { false_match_rate = 1e-3, similarity = 0.4 }, { false_match_rate = 1e-4, similarity = 0.5 }, { false_match_rate = 1e-5, similarity = 0.6 } ]

[[calibration]]
looks = 4
pairs = 100000
points = [ { false_match_rate = 1e-1, similarity = 0.22 }, { false_match_rate = 1e-2, similarity = 0.33 }, { false_match_rate = 1e-3, similarity = 0.44 }, { false_match_rate = 1e-4, similarity = 0.55 } ]

[[mapping]]
from = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
file = "mapping-before.bin"
dimensions = 16
reserve = 0.0
pairs = 1000000
"#;

/// Leads out of the space of [`before`].
pub const MAPPING: &str = "mapping-before.bin";

/// The files of its liveness networks.
pub const LIVENESS: [&str; 2] = ["liveness-near.onnx", "liveness-wide.onnx"];

/// A new copy, signed by a new key.
pub fn bundle() -> TestBundle {
    let bundle = TestBundle::new();
    for (name, bytes) in FILES.iter() {
        bundle.write(name, bytes);
    }
    bundle.sign();
    bundle
}

/// The same with an embedder of 32 MiB that takes some milliseconds, for what is measured of a model.
pub fn heavy() -> TestBundle {
    let bundle = bundle();
    bundle.write("embedder.onnx", &embedder(&TURN, 1 << 18));
    bundle.sign();
    bundle
}

/// The same without liveness networks, as registries alone give a bundle.
pub fn without_liveness() -> TestBundle {
    let bundle = bundle();
    for name in LIVENESS {
        std::fs::remove_file(bundle.file(name)).unwrap();
    }
    let (head, rest) = MANIFEST.split_once("[[liveness]]").unwrap();
    let (_, tables) = rest.split_once("[[calibration]]").unwrap();
    bundle.write("bundle.toml", format!("{head}[[calibration]]{tables}").as_bytes());
    forget_liveness_cases(&bundle.path());
    bundle.sign();
    bundle
}

/// Takes the cases of liveness networks out of the self-test in that folder.
pub fn forget_liveness_cases(folder: &Path) {
    let path = folder.join("selftest.toml");
    let cases = std::fs::read_to_string(&path).unwrap();
    let (head, rest) = cases.split_once("[[liveness]]").unwrap();
    let rest = &rest[rest.find("[[mapping]]").unwrap()..];
    std::fs::write(path, format!("{head}{rest}")).unwrap();
}

/// Puts the embedder of a model before this one into a bundle's folder: people are as far apart in its space, and an
/// embedding of it says nothing in this one's. [`MAPPING`] leads here from there; the manifest names it by the digest
/// of nothing, so a test writes the true one.
pub fn before(folder: &Path) {
    let (cases, pictures) = self_test(&[1.0; DIMENSIONS]);
    std::fs::write(folder.join("embedder.onnx"), embedder(&[1.0; DIMENSIONS], 0)).unwrap();
    std::fs::write(folder.join("selftest.toml"), cases).unwrap();
    std::fs::write(folder.join("selftest.bin"), pictures).unwrap();
}

type File = (&'static str, Vec<u8>);

/// Made once for each process.
static FILES: LazyLock<Vec<File>> = LazyLock::new(|| {
    let (cases, pictures) = self_test(&TURN);
    vec![
        ("bundle.toml", MANIFEST.as_bytes().to_vec()),
        ("embedder.onnx", embedder(&TURN, 0)),
        ("detector.onnx", detector()),
        (LIVENESS[0], liveness()),
        (LIVENESS[1], liveness()),
        (MAPPING, mapping()),
        ("selftest.toml", cases.into_bytes()),
        ("selftest.bin", pictures),
        ("CARD.md", b"# small\n\nMade by the tests of familiar; knows painted squares.\n".to_vec()),
    ]
});

const WIDTH: usize = 160;
const HEIGHT: usize = 128;
/// Pixels of a cell of the detector's outputs: CenterFace's.
const STRIDE: usize = 4;
/// Cells of the window in which it looks for a face, and from its middle to its edge.
const WINDOW: usize = 25;
const REACH: usize = WINDOW / 2;
/// Of a crop for the embedder and for liveness.
const CROP: usize = 24;
const LIVE_CROP: usize = 32;
/// Eyes, nose, corners of the mouth of a face that looks straight ahead: y and x in its box.
const LANDMARKS: [[f32; 2]; 5] =
    [[0.35, 0.3], [0.35, 0.7], [0.596, 0.5], [0.79, 0.35], [0.79, 0.65]];

const DIMENSIONS: usize = TILES * TILES;
/// Signs of this model's embedding against that of [`before`]: a bent function, so that no painted person turned by it
/// looks like any painted person (cosine 0.25 or -0.25).
const TURN: [f32; DIMENSIONS] =
    [1., 1., 1., -1., 1., 1., 1., -1., 1., 1., 1., -1., -1., -1., -1., 1.];

/// How yellow each pixel is, times `factor`, plus `bias`.
fn yellow(graph: &mut Graph, factor: f32, bias: f32) -> Name {
    let weights = [0.5 * factor, 0.5 * factor, -factor];
    graph.conv(PICTURE, [1, 3, 1, 1], &weights, bias, 1, [0, 0])
}

/// 1 where a pixel belongs to a face, 0 where not.
fn mask(graph: &mut Graph) -> Name {
    // Half of the full yellowness is the border between them.
    let border = f32::midpoint(YELLOW.0, YELLOW.0 + YELLOW.1) - 12.5;
    let slope = yellow(graph, 1.0 / 20.0, (10.0 - border) / 20.0);
    graph.clip(&slope)
}

/// Finds squares: in a window about each cell, how many pixels belong to a face (its area), and where their
/// centre is; a face is where that centre is the cell itself.
fn detector() -> Vec<u8> {
    let mut graph = Graph::default();
    let g = &mut graph;
    let ones = [1.0; WINDOW];
    let ramp: [f32; WINDOW] = std::array::from_fn(|at| at as f32 - REACH as f32);
    let pooled = |g: &mut Graph, of: &str| {
        let area = STRIDE * STRIDE;
        g.conv(of, [1, 1, STRIDE, STRIDE], &vec![1.0 / area as f32; area], 0.0, STRIDE, [0, 0])
    };
    let window = |g: &mut Graph, of: &str, across: &[f32], down: &[f32]| {
        let rows = g.conv(of, [1, 1, 1, WINDOW], across, 0.0, 1, [0, REACH]);
        g.conv(&rows, [1, 1, WINDOW, 1], down, 0.0, 1, [REACH, 0])
    };

    let mask = mask(g);
    let here = pooled(g, &mask);
    let strength = yellow(g, 1.0 / YELLOW.1, -YELLOW.0 / YELLOW.1);
    let strength = g.operator("Relu", &[&strength]);
    let strength = pooled(g, &strength);

    let area = window(g, &here, &ones, &ones);
    let divisor = g.linear(&area, 1.0, 1e-3);
    let moment = window(g, &here, &ramp, &ones);
    let across = g.operator("Div", &[&moment, &divisor]);
    let moment = window(g, &here, &ones, &ramp);
    let down = g.operator("Div", &[&moment, &divisor]);
    let strength = window(g, &strength, &ones, &ones);
    let strength = g.operator("Div", &[&strength, &divisor]);

    // The score: each factor 0 to 1.
    let (x, y) = (g.operator("Abs", &[&across]), g.operator("Abs", &[&down]));
    let off = g.operator("Max", &[&x, &y]);
    let near = g.linear(&off, -4.0, 4.0);
    let inside = g.linear(&here, 4.0, -1.0);
    let large = g.linear(&area, 1.0 / 3.0, -3.0);
    let mut score = g.clip(&strength);
    for factor in [near, inside, large] {
        let factor = g.clip(&factor);
        score = g.operator("Mul", &[&score, &factor]);
    }
    let score = g.linear(&score, CLEAR, 0.0);

    let least = g.scalar(1e-3);
    let side = g.operator("Max", &[&area, &least]);
    let side = g.operator("Log", &[&side]);
    let side = g.linear(&side, 0.5, 0.0); // of the root of the area
    let size = g.concat(&[&side, &side]);
    let offset = g.concat(&[&down, &across]);
    let nothing = g.linear(&area, 0.0, 0.0);
    let points = g.constant(&[1, 10, 1, 1], LANDMARKS.as_flattened());
    let points = g.operator("Add", &[&nothing, &points]);

    let (rows, columns) = (HEIGHT / STRIDE, WIDTH / STRIDE);
    let shape = |channels: usize| [1, channels, rows, columns];
    graph.bytes(
        [1, 3, HEIGHT, WIDTH],
        &[(&score, &shape(1)), (&size, &shape(2)), (&offset, &shape(2)), (&points, &shape(10))],
    )
}

/// The luma in the middle of each tile, less the mean of all faces; some with the other sign. With `ballast` it goes by way
/// of a vector of that length, which changes nothing.
fn embedder(turn: &[f32], ballast: usize) -> Vec<u8> {
    let mut graph = Graph::default();
    // Of 24 pixels, the margin takes two at each side and a tile five, of which the inner three count.
    let (kernel, inner) = (7, 3..6);
    let mut weights = Vec::new();
    for part in [0.299, 0.587, 0.114] {
        for y in 0..kernel {
            for x in 0..kernel {
                let counts = inner.contains(&x) && inner.contains(&y);
                weights.push(if counts { part / 9.0 } else { 0.0 });
            }
        }
    }
    let bias = (127.5 - MEAN) / 128.0;
    let tiles = graph.conv(PICTURE, [1, 3, kernel, kernel], &weights, bias, 5, [0, 0]);
    let tiles = graph.operator("Flatten", &[&tiles]);
    let turn = graph.constant(&[1, DIMENSIONS], turn);
    let mut embedding = graph.operator("Mul", &[&tiles, &turn]);
    if ballast > 0 {
        let (mut out, mut back) =
            (vec![0.0; DIMENSIONS * ballast], vec![0.0; ballast * DIMENSIONS]);
        for at in 0..DIMENSIONS {
            out[at * ballast + at] = 1.0;
            back[at * DIMENSIONS + at] = 1.0;
        }
        for (shape, values) in [([DIMENSIONS, ballast], out), ([ballast, DIMENSIONS], back)] {
            let matrix = graph.constant(&shape, &values);
            embedding = graph.operator("MatMul", &[&embedding, &matrix]);
        }
    }
    graph.bytes([1, 3, CROP, CROP], &[(&embedding, &[1, DIMENSIONS])])
}

/// A matrix with [`TURN`] on its diagonal, and no offset.
fn mapping() -> Vec<u8> {
    let mut values = vec![0.0; DIMENSIONS * (DIMENSIONS + 1)];
    for (at, sign) in TURN.iter().enumerate() {
        values[at * (DIMENSIONS + 1)] = *sign;
    }
    bytes(values)
}

fn bytes(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

/// Red less green, as a mean over the face: two classes, the second is live.
fn liveness() -> Vec<u8> {
    let mut graph = Graph::default();
    let g = &mut graph;
    let mask = mask(g);
    let red = g.conv(PICTURE, [1, 3, 1, 1], &[1.0, -1.0, 0.0], 0.0, 1, [0, 0]);
    let red = g.operator("Mul", &[&red, &mask]);
    let red = g.operator("GlobalAveragePool", &[&red]);
    let area = g.operator("GlobalAveragePool", &[&mask]);
    let area = g.linear(&area, 1.0, 1e-6);
    let red = g.operator("Div", &[&red, &area]);
    // The difference of the classes is the argument of a sigmoid.
    let (live, spoof) = (g.linear(&red, 0.5 / RED, 0.0), g.linear(&red, -0.5 / RED, 0.0));
    let classes = g.concat(&[&spoof, &live]);
    let classes = g.operator("Flatten", &[&classes]);
    graph.bytes([1, 3, LIVE_CROP, LIVE_CROP], &[(&classes, &[1, 2])])
}

/// Cases whose outcome follows from how faces are painted, not from what the networks gave.
fn self_test(turn: &[f32]) -> (String, Vec<u8>) {
    let (mut cases, mut store) = (String::new(), Vec::new());
    let mut put = |content: &[u8]| {
        store.extend_from_slice(content);
        store.len() - content.len()
    };
    let look = |face: &Face, turn: &[f32]| {
        bytes(face.tiles.iter().zip(turn).map(|(tile, sign)| tile * sign))
    };
    for person in [1, 6] {
        let face = Face::of(person);
        // The face with its margin, cut from a portrait.
        let mut picture = wall(288, 288);
        face.paint(&mut picture, 24, 24, 240);
        let picture = resize(&picture, CROP as u32, CROP as u32, FilterType::Triangle);
        let (image, embedding) = (put(picture.as_raw()), put(&look(&face, turn)));
        cases += &format!(
            "[[embedder]]\nimage = {{ offset = {image} }}\nembedding = {{ offset = {embedding} }}\nminimum_cosine = 0.99\n"
        );
    }
    let mut picture = wall(WIDTH as u32, HEIGHT as u32);
    let nobody = put(picture.as_raw());
    let (left, top, side) = (50, 30, 48);
    Face::of(1).paint(&mut picture, left, top, side);
    let image = put(picture.as_raw());
    let landmarks = LANDMARKS
        .map(|[y, x]| [left as f32 + x * side as f32, top as f32 + y * side as f32])
        .map(|point| format!("{point:?}"))
        .join(", ");
    cases += &format!(
        "[[detector]]\nimage = {{ offset = {image} }}\ntolerance = 1.5\n\
         faces = [ {{ box = [{left}.0, {top}.0, {side}.0, {side}.0], landmarks = [{landmarks}], score = {CLEAR} }} ]\n\
         [[detector]]\nimage = {{ offset = {nobody} }}\ntolerance = 1.0\nfaces = []\n"
    );
    for (face, score) in [(Face::of(1), 0.95), (Face::of(1).spoof(), 0.05)] {
        let picture: RgbImage = portrait(&face);
        let side = LIVE_CROP as u32;
        let image = put(resize(&picture, side, side, FilterType::Nearest).as_raw());
        for model in LIVENESS {
            cases += &format!(
                "[[liveness]]\nmodel = \"{model}\"\nimage = {{ offset = {image} }}\nscores = [{}, {score}]\ntolerance = 0.03\n",
                1.0 - score
            );
        }
    }
    let (other, own) =
        (put(&look(&Face::of(1), &[1.0; DIMENSIONS])), put(&look(&Face::of(1), &TURN)));
    cases += &format!(
        "[[mapping]]\nfile = \"{MAPPING}\"\nother = {{ offset = {other} }}\nown = {{ offset = {own} }}\nminimum_cosine = 0.999\n"
    );
    (cases, store)
}
