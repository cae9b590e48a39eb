//! Lists the cameras that set-up can offer.

use std::path::{Path, PathBuf};

use super::negotiate::names;
use super::{Device, v4l2};

/// A device that can be opened as a camera.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// A name that stays with this camera where udev gives one, else its node.
    pub path: PathBuf,
    /// Name and driver, and the pixel formats that it offers.
    pub about: String,
}

/// Cameras among `/dev/video*`, in the order of their numbers. Nodes that give no pictures are left out.
pub fn list() -> Vec<Found> {
    let mut nodes: Vec<(u32, PathBuf)> = std::fs::read_dir("/dev")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| {
            let number = entry.file_name().to_str()?.strip_prefix("video")?.parse().ok()?;
            Some((number, entry.path()))
        })
        .collect();
    nodes.sort();
    nodes.into_iter().filter_map(|(_, node)| look(&node)).collect()
}

fn look(node: &Path) -> Option<Found> {
    let mut camera = v4l2::Camera::open(node).ok()?;
    let offers = camera.offers().unwrap_or_default();
    let about = format!("{}: {}", camera.name(), names(&offers));
    let path = stable_name(node, Path::new("/dev/v4l/by-id")).unwrap_or_else(|| node.to_owned());
    Some(Found { path, about })
}

/// The link in `folder` that leads to this node.
fn stable_name(node: &Path, folder: &Path) -> Option<PathBuf> {
    let node = node.canonicalize().ok()?;
    let mut links: Vec<PathBuf> = std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .map(|entry| entry.path())
        .filter(|link| link.canonicalize().is_ok_and(|target| target == node))
        .collect();
    links.sort();
    links.into_iter().next()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn name_that_stays_is_found_by_where_it_leads() {
        let folder = tempfile::tempdir().unwrap();
        let names = folder.path().join("by-id");
        std::fs::create_dir(&names).unwrap();
        for node in ["video0", "video1"] {
            std::fs::write(folder.path().join(node), "").unwrap();
        }
        std::os::unix::fs::symlink("../video1", names.join("usb-doorbell-index0")).unwrap();
        let name = |node: &str| stable_name(&folder.path().join(node), &names);
        assert_eq!(name("video1"), Some(names.join("usb-doorbell-index0")));
        assert_eq!(name("video0"), None);
        assert_eq!(stable_name(&folder.path().join("video1"), &folder.path().join("none")), None);
    }
}
