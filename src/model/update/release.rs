//! What a repository offers: bundles, as the `custom` field of their targets describes them, and for whom.

use jiff::Timestamp;
use serde::Deserialize;

use super::metadata::TargetFile;
use crate::config::Group;
use crate::model::digest::Sha256;
use crate::model::manifest::Version;

/// A bundle that the repository lists.
#[derive(Debug, Clone, PartialEq)]
pub struct Release {
    /// The target's path.
    pub path: String,
    pub target: TargetFile,
    pub bundle: Described,
}

/// `custom.familiar` of a target. Keys that are not known make it a target for later versions, not for this.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Described {
    pub name: String,
    pub version: Version,
    /// OMS root digest of the bundle, `sha256:…`.
    pub digest: String,
    /// Absent: no device needs to be as new as that.
    pub minimum_daemon: Option<Version>,
    /// Absent: for all devices, at once.
    #[serde(default)]
    pub rollout: Rollout,
}

/// Who takes a release, and from when on.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rollout {
    /// Share of devices, 0 (halted) to 100. Which these are goes by a hash of the device's key and the
    /// release; raising the share adds devices and takes none away.
    pub percent: f64,
    pub not_before: Option<Timestamp>,
    /// For devices in one of these groups; `None`: for all, whatever they are in. An empty list is for none.
    pub groups: Option<Vec<String>>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self { percent: 100.0, not_before: None, groups: None }
    }
}

impl Release {
    /// The release that a target is; `None` if it is none that this version knows.
    pub fn of(path: &str, target: &TargetFile) -> Option<Self> {
        let described = target.custom.get("familiar")?;
        match serde_json::from_value(described.clone()) {
            Ok(bundle) => Some(Self { path: path.to_owned(), target: target.clone(), bundle }),
            Err(error) => {
                log::warn!("the repository's {path:?} is passed over: {error}");
                None
            }
        }
    }

    /// Whether this device, by the thumbprint of its key and the groups it is in, takes the release now.
    pub fn is_for(&self, device: &str, ours: &[Group], now: Timestamp) -> bool {
        let Rollout { percent, not_before, groups } = &self.bundle.rollout;
        let is_ours = |group: &String| ours.iter().any(|ours| ours.as_str() == group);
        let version = env!("CARGO_PKG_VERSION").parse::<Version>().ok();
        self.bundle.minimum_daemon.is_none_or(|needed| Some(needed) <= version)
            && not_before.is_none_or(|start| start <= now)
            && groups.as_ref().is_none_or(|groups| groups.iter().any(is_ours))
            && place(device, &self.bundle.digest) < *percent
    }
}

/// Where a device stands in the wave of a release, 0 to 100 (exclusive); evenly spread over devices and
/// independent from release to release.
fn place(device: &str, digest: &str) -> f64 {
    let hash = Sha256::of(format!("{device}\n{digest}").as_bytes());
    let [a, b, c, d, ..] = *hash.as_bytes();
    f64::from(u32::from_be_bytes([a, b, c, d])) / 2f64.powi(32) * 100.0
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn release(custom: &str) -> Option<Release> {
        let target = TargetFile {
            length: 1,
            hashes: std::collections::BTreeMap::new(),
            custom: serde_json::from_str(custom).unwrap(),
        };
        Release::of("facenet.tar", &target)
    }

    fn in_wave(percent: f64) -> Vec<usize> {
        let custom = format!(
            r#"{{"familiar":{{"name":"facenet","version":"1.2.0","digest":"sha256:00","rollout":{{"percent":{percent}}}}}}}"#
        );
        let release = release(&custom).unwrap();
        let now = Timestamp::UNIX_EPOCH;
        (0..10_000).filter(|device| release.is_for(&format!("device {device}"), &[], now)).collect()
    }

    /// Holds UPD-36.
    #[test]
    fn waves_widen_and_halt() {
        let (none, one, half, all) = (in_wave(0.0), in_wave(1.0), in_wave(50.0), in_wave(100.0));
        assert!(none.is_empty());
        assert!((60..140).contains(&one.len()), "{}", one.len());
        assert!((4800..5200).contains(&half.len()), "{}", half.len());
        assert_eq!(all.len(), 10_000);
        assert!(one.iter().all(|device| half.contains(device)));
    }

    /// Holds UPD-37.
    #[test]
    fn not_before_and_not_for_older_daemons() {
        let of = |more: &str| {
            release(&format!(
                r#"{{"familiar":{{"name":"f","version":"1.2.0","digest":"sha256:00"{more}}}}}"#
            ))
        };
        let now: Timestamp = "2026-11-23T00:00:00Z".parse().unwrap();
        let is_for = |more: &str| of(more).unwrap().is_for("device", &[], now);
        assert!(is_for(""));
        assert!(is_for(r#","rollout":{"not_before":"2026-11-23T00:00:00Z"}"#));
        assert!(!is_for(r#","rollout":{"not_before":"2026-11-23T00:00:01Z"}"#));
        assert!(!is_for(r#","minimum_daemon":"99.0.0""#));
        // A condition that this version does not know is one that it cannot keep.
        assert!(of(r#","rollout":{"regions":["east"]}"#).is_none());
        assert!(of(r#","rollout":{"groups":"east"}"#).is_none());
        assert!(release("{}").is_none() && release("null").is_none());
    }

    /// Holds UPD-38.
    #[test]
    fn release_for_some_groups() {
        let is_for = |rollout: &str, groups: &[&str]| {
            let release = release(&format!(
                r#"{{"familiar":{{"name":"f","version":"1.2.0","digest":"sha256:00","rollout":{rollout}}}}}"#
            ));
            let groups: Vec<Group> =
                groups.iter().map(|name| (*name).to_owned().try_into().unwrap()).collect();
            release.unwrap().is_for("device", &groups, Timestamp::UNIX_EPOCH)
        };
        let east = r#"{"groups":["east","pilot"]}"#;
        assert!(is_for(east, &["east"]) && is_for(east, &["west", "pilot"]));
        assert!(!is_for(east, &[]) && !is_for(east, &["west"]) && !is_for(east, &["eas"]));
        assert!(is_for("{}", &["west"]) && is_for(r#"{"groups":null}"#, &[]));
        assert!(!is_for(r#"{"groups":[]}"#, &["east"]));
        assert!(!is_for(r#"{"groups":["east"],"percent":0}"#, &["east"]));
    }
}
