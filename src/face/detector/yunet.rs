//! YuNet (Wu, Peng, Yu: "YuNet: A Tiny Millisecond-level Face Detector", 2023), decoded as OpenCV's
//! `FaceDetectorYN` does (modules/objdetect/src/face_detect.cpp, `postProcess`).

use super::{BoundingBox, DetectedFace, NetworkError, Output, Point, output};

const STRIDES: [usize; 3] = [8, 16, 32];

/// Faces of at least `threshold` in an input of `width` x `height` pixels, before suppression.
///
/// Outputs for each stride S, one row for each cell in row-major order: `cls_S` and `obj_S` (1 value),
/// `bbox_S` (4: centre offset, log size), `kps_S` (10: five points), all in units of the stride.
pub(super) fn decode(
    outputs: &[Output],
    (width, height): (usize, usize),
    threshold: f32,
) -> Result<Vec<DetectedFace>, NetworkError> {
    let mut faces = Vec::new();
    for stride in STRIDES {
        let (columns, rows) = (width / stride, height / stride);
        let cells = columns * rows;
        let class = output(outputs, &format!("cls_{stride}"), cells)?;
        let object = output(outputs, &format!("obj_{stride}"), cells)?;
        let (boxes, _) = output(outputs, &format!("bbox_{stride}"), cells * 4)?.as_chunks::<4>();
        let (points, _) = output(outputs, &format!("kps_{stride}"), cells * 10)?.as_chunks::<10>();
        for cell in 0..cells {
            let score = (class[cell].clamp(0.0, 1.0) * object[cell].clamp(0.0, 1.0)).sqrt();
            // Written so that a score which is not a number is refused.
            if !(score >= threshold) {
                continue;
            }
            let (column, row) = ((cell % columns) as f32, (cell / columns) as f32);
            faces.push(face(&boxes[cell], &points[cell], score, (column, row), stride as f32));
        }
    }
    Ok(faces)
}

fn face(
    bounds: &[f32; 4],
    points: &[f32; 10],
    score: f32,
    (column, row): (f32, f32),
    stride: f32,
) -> DetectedFace {
    let (width, height) = (bounds[2].exp() * stride, bounds[3].exp() * stride);
    DetectedFace {
        bounds: BoundingBox {
            x: (column + bounds[0]) * stride - width / 2.0,
            y: (row + bounds[1]) * stride - height / 2.0,
            width,
            height,
        },
        score,
        // Its "right eye" is the person's, so the one at the left of the picture: the order is ours.
        landmarks: std::array::from_fn(|at| Point {
            x: (column + points[2 * at]) * stride,
            y: (row + points[2 * at + 1]) * stride,
        }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::float_cmp)]
mod tests {
    use super::*;

    /// Outputs of a 64x32 input with nothing in them.
    fn empty() -> Vec<Output> {
        let mut outputs = Vec::new();
        for stride in STRIDES {
            let cells = (64 / stride) * (32 / stride);
            for (name, each) in [("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)] {
                outputs.push(Output {
                    name: format!("{name}_{stride}"),
                    shape: vec![1, cells, each],
                    values: vec![0.0; cells * each],
                });
            }
        }
        outputs
    }

    fn set(outputs: &mut [Output], name: &str, at: usize, values: &[f32]) {
        let output = outputs.iter_mut().find(|output| output.name == name).unwrap();
        output.values[at..at + values.len()].copy_from_slice(values);
    }

    #[test]
    fn cell_becomes_box_and_landmarks() {
        let mut outputs = empty();
        let cell = 6; // column 2, row 1 of the 4x2 cells of stride 16
        set(&mut outputs, "cls_16", cell, &[0.81]);
        set(&mut outputs, "obj_16", cell, &[1.5]); // clamped to 1
        set(&mut outputs, "bbox_16", cell * 4, &[0.5, 0.25, 2.0_f32.ln(), 0.0]);
        set(&mut outputs, "kps_16", cell * 10, &[0.0, 0.0, 1.0, 0.0, 0.5, 0.5, 0.0, 1.0, 1.0, 1.0]);
        let faces = decode(&outputs, (64, 32), 0.7).unwrap();
        assert_eq!(faces.len(), 1);
        let face = faces[0];
        assert!((face.score - 0.9).abs() < 1e-6);
        assert_eq!(face.bounds, BoundingBox { x: 24.0, y: 12.0, width: 32.0, height: 16.0 });
        assert_eq!(face.landmarks[0], Point { x: 32.0, y: 16.0 });
        assert_eq!(face.landmarks[2], Point { x: 40.0, y: 24.0 });
        assert_eq!(face.landmarks[4], Point { x: 48.0, y: 32.0 });
    }

    #[test]
    fn score_below_the_threshold_or_not_a_number_is_no_face() {
        let mut outputs = empty();
        set(&mut outputs, "cls_8", 3, &[0.4]);
        set(&mut outputs, "obj_8", 3, &[0.4]);
        set(&mut outputs, "cls_8", 4, &[f32::NAN]);
        set(&mut outputs, "obj_8", 4, &[1.0]);
        assert!(decode(&outputs, (64, 32), 0.5).unwrap().is_empty());
    }

    #[test]
    fn outputs_of_another_network_are_an_error() {
        let outputs = empty();
        assert!(matches!(decode(&outputs, (64, 64), 0.5), Err(NetworkError::Output { .. })));
        assert!(matches!(decode(&outputs[1..], (64, 32), 0.5), Err(NetworkError::Output { .. })));
    }
}
