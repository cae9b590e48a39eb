//! How hot the machine is.

use std::path::Path;

/// The hottest thermal zone, in degrees Celsius (`/sys/class/thermal`); `None` where the kernel
/// knows of none, as in most virtual machines.
pub fn hottest() -> Option<f64> {
    hottest_below(Path::new("/sys/class/thermal"))
}

fn hottest_below(folder: &Path) -> Option<f64> {
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("thermal_zone"))
        .filter_map(|entry| std::fs::read_to_string(entry.path().join("temp")).ok())
        .filter_map(|text| text.trim().parse::<f64>().ok())
        .map(|thousandths| thousandths / 1000.0)
        // Zones that are switched off report nonsense.
        .filter(|degrees| (-40.0..=150.0).contains(degrees))
        .max_by(f64::total_cmp)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn hottest_sensible_zone() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(hottest_below(folder.path()), None);
        for (zone, text) in [("0", "48312\n"), ("1", "51000\n"), ("2", "-274000\n"), ("3", "?")] {
            let zone = folder.path().join(format!("thermal_zone{zone}"));
            std::fs::create_dir(&zone).unwrap();
            std::fs::write(zone.join("temp"), text).unwrap();
        }
        assert_eq!(hottest_below(folder.path()), Some(51.0));
    }
}
