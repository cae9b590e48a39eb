//! Pairs files as Labeled Faces in the Wild has them (View 2 and the development sets).
//!
//! The first line tells folds and pairs of each kind per fold, separated by a tab (one number: one fold). Then each
//! fold gives that many lines `NAME i j` (same person) and as many `NAME i NAME j` (different people).

use std::path::{Path, PathBuf};

use super::EvaluateError;
use crate::system::bounded;

/// Largest file, in bytes; the longest of Labeled Faces in the Wild has 160,000.
const LIMIT: u64 = 64 << 20;

/// A picture of a person: `NAME/NAME_0001.jpg`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PictureName {
    pub person: String,
    pub number: u32,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    pub left: PictureName,
    pub right: PictureName,
    pub same: bool,
    /// From 0.
    pub fold: usize,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PairList {
    pub folds: usize,
    pub pairs: Vec<Pair>,
}

impl PictureName {
    /// The file below `directory`: `.jpg`, else `.jpeg`, `.png` or `.webp`.
    pub fn find(&self, directory: &Path) -> Result<PathBuf, EvaluateError> {
        let stem = format!("{}_{:04}", self.person, self.number);
        let folder = directory.join(&self.person);
        let candidates = ["jpg", "jpeg", "png", "webp"];
        candidates
            .iter()
            .map(|extension| folder.join(format!("{stem}.{extension}")))
            .find(|path| path.is_file())
            .ok_or_else(|| EvaluateError::NoPicture {
                name: format!("{}/{stem}.jpg", self.person),
                directory: directory.to_owned(),
            })
    }
}

impl PairList {
    pub fn read(path: &Path) -> Result<Self, EvaluateError> {
        let text = bounded::read_text(path, LIMIT)
            .map_err(|source| EvaluateError::Io { path: path.to_owned(), source })?;
        Self::parse(&text).map_err(|(line, reason)| EvaluateError::Line {
            path: path.to_owned(),
            line,
            reason,
        })
    }

    /// An error is a line's number, from 1, and what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(at, line)| (at + 1, line.split_whitespace().collect::<Vec<_>>()))
            .filter(|(_, fields)| !fields.is_empty());
        let (line, header) = lines.next().ok_or((1, "the file is empty".to_owned()))?;
        let number = |field: &str| {
            field.parse::<usize>().map_err(|_| (line, format!("{field:?} is not a number")))
        };
        let (folds, each) = match header[..] {
            [each] => (1, number(each)?),
            [folds, each] => (number(folds)?, number(each)?),
            _ => return Err((line, "the first line is not `folds pairs-per-fold`".to_owned())),
        };
        if folds == 0 || each == 0 {
            return Err((line, "no folds or no pairs".to_owned()));
        }
        let mut pairs = Vec::new();
        for fold in 0..folds {
            for at in 0..each.saturating_mul(2) {
                let (line, fields) = lines
                    .next()
                    .ok_or_else(|| (line, format!("fewer pairs than its {folds} x 2 x {each}")))?;
                pairs.push(pair(&fields, at < each, fold).map_err(|reason| (line, reason))?);
            }
        }
        match lines.next() {
            Some((line, _)) => Err((line, format!("more pairs than its {folds} x 2 x {each}"))),
            None => Ok(Self { folds, pairs }),
        }
    }
}

fn pair(fields: &[&str], same: bool, fold: usize) -> Result<Pair, String> {
    let picture = |person: &str, number: &str| {
        let number = number.parse().map_err(|_| format!("{number:?} is not a picture's number"))?;
        // The name becomes a path.
        if person.contains('/') || person.starts_with('.') {
            return Err(format!("{person:?} is not a name"));
        }
        Ok(PictureName { person: person.to_owned(), number })
    };
    let (left, right) = match (fields, same) {
        ([name, left, right], true) => (picture(name, left)?, picture(name, right)?),
        ([name, left, other, right], false) => (picture(name, left)?, picture(other, right)?),
        (_, true) => return Err("not `NAME i j`, a pair of one person".to_owned()),
        (_, false) => return Err("not `NAME i NAME j`, a pair of two people".to_owned()),
    };
    Ok(Pair { left, right, same, fold })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn folds_give_first_same_then_different() {
        let list = PairList::parse("2\t1\nA\t1\t4\nA\t1\tB\t2\nC_D\t2\t3\nE\t1\tF\t1\n").unwrap();
        assert_eq!(list.folds, 2);
        let told: Vec<_> = list
            .pairs
            .iter()
            .map(|p| (p.left.person.as_str(), p.right.person.as_str(), p.same, p.fold))
            .collect();
        assert_eq!(
            told,
            [
                ("A", "A", true, 0),
                ("A", "B", false, 0),
                ("C_D", "C_D", true, 1),
                ("E", "F", false, 1)
            ]
        );
    }

    #[test]
    fn one_number_is_one_fold() {
        assert_eq!(PairList::parse("1\nA 1 2\nA 1 B 1\n").unwrap().folds, 1);
    }

    #[test]
    fn broken_files_say_which_line() {
        for (text, line) in [
            ("", 1),
            ("2 1\nA 1 2\nA 1 B 2\n", 1),
            ("1\nA 1 2\nA 1 2\n", 3),
            ("1\nA 1 x\nA 1 B 2\n", 2),
            ("1\nA 1 2\nA 1 B 2\nA 1 2\n", 4),
            ("1\n../A 1 2\nA 1 B 2\n", 2),
            ("0 5\n", 1),
        ] {
            assert_eq!(PairList::parse(text).unwrap_err().0, line, "{text:?}");
        }
    }
}
