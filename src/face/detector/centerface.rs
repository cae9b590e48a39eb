//! CenterFace (Xu, Yan, Sun, Yang: "CenterFace: Joint Face Detection and Alignment Using Face as Point", 2019),
//! decoded as its authors do (github.com/Star-Clouds/CenterFace, prj-python/centerface.py, `decode`).

use super::{BoundingBox, DetectedFace, NetworkError, Output, Point};

/// Pixels of the input to a cell of the outputs.
const STRIDE: usize = 4;

/// Faces above `threshold` in an input of `width` x `height` pixels, before suppression.
///
/// Four outputs of one value for each cell, told apart by their place in the file: heat map (1 channel), log size
/// (height, width), offset of the centre (y, x), five landmarks (y, x), in units of the box from its corner.
pub(super) fn decode(
    outputs: &[Output],
    (width, height): (usize, usize),
    threshold: f32,
) -> Result<Vec<DetectedFace>, NetworkError> {
    let (columns, rows) = (width / STRIDE, height / STRIDE);
    let cells = columns * rows;
    let [heat, size, offset, points] = planes(outputs, cells)?;
    let (limit_x, limit_y) = (width as f32, height as f32);
    let stride = STRIDE as f32;
    let mut faces = Vec::new();
    for (cell, &score) in heat.iter().enumerate() {
        if !(score > threshold) {
            continue;
        }
        let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
        let plane = |values: &[f32], channel: usize| values[channel * cells + cell];
        let (tall, wide) = (plane(size, 0).exp() * stride, plane(size, 1).exp() * stride);
        let x = ((column + plane(offset, 1) + 0.5) * stride - wide / 2.0).max(0.0).min(limit_x);
        let y = ((row + plane(offset, 0) + 0.5) * stride - tall / 2.0).max(0.0).min(limit_y);
        faces.push(DetectedFace {
            bounds: BoundingBox {
                x,
                y,
                width: (x + wide).min(limit_x) - x,
                height: (y + tall).min(limit_y) - y,
            },
            score: score.min(1.0),
            landmarks: std::array::from_fn(|at| Point {
                x: plane(points, 2 * at + 1) * wide + x,
                y: plane(points, 2 * at) * tall + y,
            }),
        });
    }
    Ok(faces)
}

/// The four outputs, their channels checked.
fn planes(outputs: &[Output], cells: usize) -> Result<[&[f32]; 4], NetworkError> {
    const CHANNELS: [usize; 4] = [1, 2, 2, 10];
    let fits = outputs.len() == CHANNELS.len()
        && outputs.iter().zip(CHANNELS).all(|(output, channels)| {
            output.values.len() == cells * channels && output.shape.get(1) == Some(&channels)
        });
    match outputs {
        [heat, size, offset, points] if fits => {
            Ok([&heat.values, &size.values, &offset.values, &points.values])
        }
        _ => Err(NetworkError::Output {
            wanted: format!("four outputs of 1, 2, 2 and 10 channels of {cells} values"),
            found: format!("{:?}", outputs.iter().map(|output| &output.shape).collect::<Vec<_>>()),
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    /// Outputs of a 32x16 input (8x4 cells) with nothing in them.
    fn empty() -> Vec<Output> {
        [1, 2, 2, 10]
            .into_iter()
            .map(|channels| Output {
                name: channels.to_string(),
                shape: vec![1, channels, 4, 8],
                values: vec![0.0; channels * 32],
            })
            .collect()
    }

    #[test]
    fn cell_becomes_box_and_landmarks() {
        let mut outputs = empty();
        let cell = 2 * 8 + 3; // row 2, column 3
        outputs[0].values[cell] = 0.9;
        outputs[1].values[cell] = 2.0_f32.ln(); // height 8
        outputs[1].values[32 + cell] = 0.0; // width 4
        outputs[2].values[cell] = 0.5; // y
        outputs[2].values[32 + cell] = 0.25; // x
        outputs[3].values[cell] = 0.5; // y of the first point
        outputs[3].values[32 + cell] = 0.25; // its x
        let faces = decode(&outputs, (32, 16), 0.5).unwrap();
        assert_eq!(faces.len(), 1);
        assert_eq!(faces[0].bounds, BoundingBox { x: 13.0, y: 8.0, width: 4.0, height: 8.0 });
        assert_eq!(faces[0].landmarks[0], Point { x: 14.0, y: 12.0 });
        assert_eq!(faces[0].landmarks[1], Point { x: 13.0, y: 8.0 });
    }

    #[test]
    fn box_ends_at_the_edge() {
        let mut outputs = empty();
        outputs[0].values[0] = 0.9;
        outputs[1].values[0] = 8.0_f32.ln(); // height 32
        let faces = decode(&outputs, (32, 16), 0.5).unwrap();
        assert_eq!(faces[0].bounds, BoundingBox { x: 0.0, y: 0.0, width: 4.0, height: 16.0 });
    }

    #[test]
    fn outputs_of_another_network_are_an_error() {
        let mut outputs = empty();
        assert!(decode(&outputs, (64, 16), 0.5).is_err());
        outputs.swap(0, 3);
        assert!(decode(&outputs, (32, 16), 0.5).is_err());
    }
}
