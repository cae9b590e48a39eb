//! Folders of pictures, strictly: what does not fit the layout is an error, not a smaller measurement.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::EvaluateError;
use super::pictures::{is_picture, list};

/// Folders within folders that are looked into (links may make a circle).
const DEPTH: usize = 4;

/// Pictures by whose they are, each in the order of their paths.
pub type ByPerson = BTreeMap<String, Vec<PathBuf>>;

/// A folder of consecutive frames.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrackFolder {
    /// Path below the directory given.
    pub name: String,
    /// The first part of its path, if it is not the track itself: tracks of one subject are alike.
    pub subject: Option<String>,
    /// In name order.
    pub frames: Vec<PathBuf>,
}

/// A sub-folder for each person; pictures may lie in folders below it.
pub fn people(directory: &Path) -> Result<ByPerson, EvaluateError> {
    let (folders, pictures) = entries(directory)?;
    if let Some(stray) = pictures.first() {
        return Err(layout(
            stray,
            "lies outside any person's folder; each person needs a folder of its own",
        ));
    }
    if folders.is_empty() {
        return Err(layout(directory, "has no sub-folder; each person needs one, with pictures"));
    }
    folders.iter().map(|folder| Ok((name(folder), some_pictures(folder)?))).collect()
}

/// A picture or a sub-folder for each stranger.
pub fn strangers(directory: &Path) -> Result<ByPerson, EvaluateError> {
    let (folders, pictures) = entries(directory)?;
    if folders.is_empty() && pictures.is_empty() {
        return Err(layout(directory, "has neither pictures nor sub-folders of strangers"));
    }
    let mut strangers = ByPerson::new();
    for folder in &folders {
        strangers.insert(name(folder), some_pictures(folder)?);
    }
    // With its extension, a file cannot be taken for a folder of the same name.
    strangers.extend(pictures.into_iter().map(|picture| (name(&picture), vec![picture])));
    Ok(strangers)
}

/// Every folder below that holds pictures is a track.
pub fn tracks(directory: &Path) -> Result<Vec<TrackFolder>, EvaluateError> {
    let (folders, pictures) = entries(directory)?;
    if !pictures.is_empty() {
        return Err(layout(
            directory,
            "holds pictures itself; each track needs a sub-folder of its own",
        ));
    }
    let mut tracks = Vec::new();
    for folder in &folders {
        collect(folder, &[], &mut tracks)?;
    }
    if tracks.is_empty() {
        return Err(layout(directory, "has no sub-folder with pictures (a track)"));
    }
    Ok(tracks)
}

/// A sub-folder for each kind of attack, with tracks below it.
pub fn attacks(directory: &Path) -> Result<BTreeMap<String, Vec<TrackFolder>>, EvaluateError> {
    let (folders, pictures) = entries(directory)?;
    if !pictures.is_empty() || folders.is_empty() {
        return Err(layout(
            directory,
            "is not a folder of attacks: KIND/TRACK/0000.jpg, a sub-folder for each kind and in it one for each track",
        ));
    }
    folders.iter().map(|kind| Ok((name(kind), tracks(kind)?))).collect()
}

fn collect(
    folder: &Path,
    above: &[String],
    tracks: &mut Vec<TrackFolder>,
) -> Result<(), EvaluateError> {
    let path = [above, &[name(folder)]].concat();
    let (folders, frames) = entries(folder)?;
    match (folders.is_empty(), frames.is_empty()) {
        (true, true) => return Err(layout(folder, "is empty")),
        (false, false) => {
            return Err(layout(folder, "holds both pictures and folders; is it a track or not?"));
        }
        (true, false) => {
            let subject = above.first().cloned();
            tracks.push(TrackFolder { name: path.join("/"), subject, frames });
        }
        (false, true) if path.len() >= DEPTH => return Err(layout(folder, "lies too deep")),
        (false, true) => {
            for folder in &folders {
                collect(folder, &path, tracks)?;
            }
        }
    }
    Ok(())
}

fn some_pictures(folder: &Path) -> Result<Vec<PathBuf>, EvaluateError> {
    let pictures = below(folder, DEPTH)?;
    if pictures.is_empty() {
        return Err(layout(folder, "holds no picture (.jpg, .jpeg, .png, .webp)"));
    }
    Ok(pictures)
}

fn below(folder: &Path, depth: usize) -> Result<Vec<PathBuf>, EvaluateError> {
    if depth == 0 {
        return Err(layout(folder, "lies too deep"));
    }
    let (folders, mut pictures) = entries(folder)?;
    for folder in &folders {
        pictures.extend(below(folder, depth - 1)?);
    }
    pictures.sort();
    Ok(pictures)
}

/// Folders and pictures of a directory, in name order; hidden ones and other files are passed over.
fn entries(directory: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), EvaluateError> {
    let shown = list(directory)?.into_iter().filter(|path| !name(path).starts_with('.'));
    let (folders, files): (Vec<_>, Vec<_>) = shown.partition(|path| path.is_dir());
    Ok((folders, files.into_iter().filter(|path| is_picture(path)).collect()))
}

fn name(path: &Path) -> String {
    path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned())
}

fn layout(path: &Path, reason: &'static str) -> EvaluateError {
    EvaluateError::Layout { path: path.to_owned(), reason }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            if file.ends_with('/') {
                std::fs::create_dir_all(path).unwrap();
            } else {
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, "").unwrap();
            }
        }
        root
    }

    fn counts(people: &ByPerson) -> Vec<(&str, usize)> {
        people.iter().map(|(name, pictures)| (name.as_str(), pictures.len())).collect()
    }

    #[test]
    fn people_have_folders_and_strangers_need_none() {
        let root = tree(&["a/1.jpg", "a/deep/2.JPG", "b/1.png", "b/notes.txt", ".git/x.jpg"]);
        assert_eq!(counts(&people(root.path()).unwrap()), [("a", 2), ("b", 1)]);
        let root = tree(&["a/1.jpg", "a/2.jpg", "b.jpg", "README"]);
        assert_eq!(counts(&strangers(root.path()).unwrap()), [("a", 2), ("b.jpg", 1)]);
    }

    #[test]
    fn tracks_lie_at_any_depth_and_know_their_subject() {
        let root =
            tree(&["print/s1/t1/0.jpg", "print/s1/t1/1.jpg", "print/t2/0.jpg", "video/t/0.jpg"]);
        let kinds = attacks(root.path()).unwrap();
        let told: Vec<_> = kinds["print"]
            .iter()
            .map(|track| (track.name.as_str(), track.subject.as_deref(), track.frames.len()))
            .collect();
        assert_eq!(told, [("s1/t1", Some("s1"), 2), ("t2", None, 1)]);
        assert_eq!(kinds["video"].len(), 1);
    }

    #[test]
    fn malformed_folders_are_refused() {
        let refused = |files: &[&str], read: fn(&Path) -> bool| read(tree(files).path());
        let layout = |error| matches!(error, EvaluateError::Layout { .. });
        let no_people: fn(&Path) -> bool = |path| people(path).is_err();
        assert!(refused(&[], no_people));
        assert!(refused(&["1.jpg"], no_people));
        assert!(refused(&["a/1.jpg", "1.jpg"], no_people));
        assert!(refused(&["a/1.jpg", "b/"], no_people));
        assert!(refused(&["a/b/c/d/e/1.jpg"], no_people));
        assert!(refused(&["README"], |path| strangers(path).is_err()));
        let no_tracks: fn(&Path) -> bool = |path| tracks(path).is_err();
        assert!(refused(&["0.jpg"], no_tracks));
        assert!(refused(&["t/0.jpg", "t/u/0.jpg"], no_tracks));
        assert!(refused(&["t/0.jpg", "u/"], no_tracks));
        assert!(refused(&["print/0.jpg"], |path| attacks(path).is_err()));
        assert!(layout(people(tree(&[]).path()).unwrap_err()));
    }
}
