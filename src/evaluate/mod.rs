//! Accuracy on pictures whose truth is known: verification pairs, calibration, detector boxes.

mod boxes;
mod calibrate;
mod pairs;
mod pictures;
mod plot;
mod verification;

use std::path::PathBuf;

pub use boxes::{BoxReport, measure_boxes, read_boxes};
pub use calibrate::{LOOKS, calibrate};
pub use pairs::{Pair, PairList, PictureName};
pub use pictures::{People, embed_all, most_central};
pub use plot::roc_svg;
pub use verification::{Accuracy, RocPoint, Score, VerificationReport, verify, wilson};

use crate::model::NetworkError;

#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}, line {line}: {reason}", .path.display())]
    Line { path: PathBuf, line: usize, reason: String },
    #[error("no picture {name} below {}", .directory.display())]
    NoPicture { name: String, directory: PathBuf },
    #[error("{}: {source}", .path.display())]
    Network { path: PathBuf, source: NetworkError },
    #[error("{0}")]
    TooFew(String),
}
