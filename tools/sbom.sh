#!/usr/bin/env bash
# Writes the software bill of materials, CycloneDX 1.5, JSON: TARGET/sbom/familiar-x86_64.cdx.json and familiar-aarch64.cdx.json, TARGET
# being cargo's target folder. It names what the program for each machine is built from, with versions, licences and digests: `required` is
# linked into it, `excluded` only runs while it is built.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"
PATH=$target/cyclonedx/bin:$PATH
mkdir -p "$target/sbom"
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null || date +%s)
export SOURCE_DATE_EPOCH
for machine in x86_64 aarch64; do
  cargo cyclonedx --quiet --format json --spec-version 1.5 --target "$machine-unknown-linux-gnu" \
    --override-filename "sbom-$machine"
  mv "sbom-$machine.json" "$target/sbom/familiar-$machine.cdx.json"
  # Where it was built is nobody's business.
  sed -i "s,path+file://$top#,," "$target/sbom/familiar-$machine.cdx.json"
  python3 - "$target/sbom/familiar-$machine.cdx.json" Cargo.lock <<'PY'
import json, sys, tomllib
# Holds DEV-09.
bill = json.load(open(sys.argv[1]))
assert "file:///" not in json.dumps(bill), "a path of this machine"
locked = {(p["name"], p["version"]) for p in tomllib.load(open(sys.argv[2], "rb"))["package"]}
listed = {(c["name"], c["version"]) for c in bill["components"]}
stray = listed - locked
assert bill["bomFormat"] == "CycloneDX" and not stray, stray
assert {"tract-onnx", "ring", "rustls"} <= {name for name, _ in listed}, "the program's own dependencies are missing"
unlicensed = sorted(c["name"] for c in bill["components"] if not c.get("licenses"))
assert not unlicensed, unlicensed
print(f"{sys.argv[1]}: {len(listed)} packages")
PY
done
