//! Accuracy on pictures whose truth is known: verification pairs, open-set identification, liveness, calibration, detector boxes.

pub(crate) mod boxes;
mod calibrate;
pub mod folders;
mod frames;
mod honoured;
mod interval;
mod liveness;
mod open_set;
pub(crate) mod pairs;
mod pictures;
mod plot;
mod verification;

use std::path::PathBuf;

pub use boxes::{BoxReport, measure_boxes, read_boxes};
pub use calibrate::{LOOKS, calibrate};
pub use frames::score_tracks;
pub use honoured::{Honoured, held_out};
pub use interval::{Share, interval, wilson};
pub use liveness::{
    ByKind as AttacksByKind, Choice, Counts as LivenessCounts, HeldOut, LivenessPoint,
    LivenessReport, ScoredTrack, judge_liveness, liveness_curves,
};
pub use open_set::{Configured, DetPoint, OpenSet, OpenSetPoint, OpenSetReport};
pub use pairs::{Pair, PairList, PictureName};
pub use pictures::{People, all_cores, embed_all, most_central};
pub use plot::{DetSeries, det_svg, roc_svg};
pub use verification::{Accuracy, RocPoint, Score, VerificationReport, verify};

use crate::model::{EngineError, NetworkError};

#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    #[error("{}: {source}", .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}, line {line}: {reason}", .path.display())]
    Line { path: PathBuf, line: usize, reason: String },
    #[error("{}: {reason}", .path.display())]
    Layout { path: PathBuf, reason: &'static str },
    #[error("no picture {name} below {}", .directory.display())]
    NoPicture { name: String, directory: PathBuf },
    #[error("{}: {source}", .path.display())]
    Network { path: PathBuf, source: NetworkError },
    #[error("{}: {source}", .path.display())]
    Liveness { path: PathBuf, source: EngineError },
    #[error("{0}")]
    TooFew(String),
}
