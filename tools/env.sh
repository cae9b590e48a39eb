# Sourced by the Makefile, .ci/run and the demo: where things lie. Nothing here installs or builds.
# shellcheck shell=bash

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
# mosquitto lies in a folder that a plain user of Debian does not search.
PATH=$PATH:/usr/sbin
# Cargo knows best where it builds (CARGO_TARGET_DIR, its configuration, else target/).
# Without it, tools/setup.sh says what is missing.
# shellcheck disable=SC2015 # a folder that cannot be entered and a cargo that fails mean the same
target=$({ cd "$top" && cargo metadata --offline --no-deps --format-version 1 2>/dev/null || true; } |
  sed -n 's/.*"target_directory":"\([^"]*\)".*/\1/p')
target=${target:-${CARGO_TARGET_DIR:-$top/target}}
# shellcheck disable=SC2034 # read by those who source this
familiar=$target/release/familiar

# Read by the tests (see CONTRIBUTING.md).
export FAMILIAR_JUDGES=$target/judges/bin/python
export FAMILIAR_JUDGES_HOME=$target/judges-home/bin/python
export FAMILIAR_JUDGES_NODE=$target/judges-node
export FAMILIAR_OPENPEOPLE=$target/openpeople/curated
# BUNDLE is what models/build.sh calls another folder for the bundle.
export FAMILIAR_TEST_BUNDLE=${BUNDLE:-$top/models/facenet}
export FAMILIAR_TEST_TRUST=$top/models/.build/trust.d

say() { printf '\n== %s\n' "$*" >&2; }
die() { printf '%s\n' "$*" >&2; exit 1; }

arm_triple=aarch64-unknown-linux-gnu
# The cargo and rustc that can build for ARM: those in use, else Debian's (rustc-web).
arm_rust() {
  local bin
  for bin in "" /usr/bin/; do
    [ ! -d "$("${bin}rustc" --print target-libdir --target "$arm_triple" 2>/dev/null)" ] || { echo "$bin"; return 0; }
  done
  return 1
}
