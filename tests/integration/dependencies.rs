//! What the lock file may hold, where no advisory database can be had.

use std::collections::BTreeMap;

#[derive(serde::Deserialize)]
struct Lock {
    package: Vec<Package>,
}

#[derive(serde::Deserialize)]
struct Package {
    name: String,
    version: String,
    source: Option<String>,
    checksum: Option<String>,
    #[serde(default)]
    dependencies: Vec<String>,
}

fn packages() -> BTreeMap<String, Vec<Package>> {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.lock");
    let lock: Lock = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut packages = BTreeMap::<String, Vec<Package>>::new();
    for package in lock.package {
        packages.entry(package.name.clone()).or_default().push(package);
    }
    packages
}

/// RUSTSEC-2026-0049, -0098, -0099, -0104: every `rustls-webpki` before 0.103.
#[test]
fn no_vulnerable_webpki() {
    let packages = packages();
    let found = &packages["rustls-webpki"];
    for package in found {
        let mut parts = package.version.split('.').map(|part| part.parse::<u32>().unwrap());
        let (major, minor) = (parts.next().unwrap(), parts.next().unwrap());
        assert!((major, minor) >= (0, 103), "rustls-webpki {}", package.version);
    }
}

/// rumqttc's TLS features bring the old one; the connection is ours (`src/mqtt/client.rs`).
#[test]
fn rumqttc_without_its_own_tls() {
    let packages = packages();
    for package in &packages["rumqttc"] {
        for dependency in &package.dependencies {
            let name = dependency.split(' ').next().unwrap();
            let forbidden =
                ["rustls", "tokio-rustls", "rustls-webpki", "native-tls", "tokio-native-tls"];
            assert!(!forbidden.contains(&name), "rumqttc {} brings {name}", package.version);
        }
    }
    for name in ["openssl-sys", "native-tls", "rustls-pemfile"] {
        assert!(!packages.contains_key(name), "{name}");
    }
}

/// What bitbake fetches is what Cargo.lock locks, with the same digests. `tools/yocto_crates.py` writes it.
/// Holds DEV-12.
#[test]
fn yocto_recipe_has_the_locked_crates() {
    let layer = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("yocto/meta-familiar/recipes-familiar/familiar");
    let text = std::fs::read_to_string(layer.join("familiar-crates.inc")).unwrap();
    let (names, digests) = text.split_once("\"\n\n").unwrap();
    let named: Vec<String> = names
        .lines()
        .filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" \\").map(str::to_owned))
        .collect();
    let mut locked = Vec::new();
    let mut sums = Vec::new();
    for package in packages().into_values().flatten().filter(|it| it.source.is_some()) {
        let Package { name, version, checksum, .. } = package;
        sums.push(format!("SRC_URI[{name}-{version}.sha256sum] = \"{}\"", checksum.unwrap()));
        locked.push(format!("{name}/{version}"));
    }
    assert!(locked.len() > 200, "does this test still read Cargo.lock?");
    let stale = "run tools/yocto_crates.py";
    assert_eq!(named, locked, "{stale}");
    assert_eq!(digests.lines().collect::<Vec<_>>(), sums, "{stale}");
    // The recipe is of this version.
    let recipe = format!("familiar_{}.bb", env!("CARGO_PKG_VERSION"));
    assert!(layer.join(&recipe).exists(), "{recipe}");
}
