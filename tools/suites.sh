#!/usr/bin/env bash
# Suites that not every machine can run: each is run, or one line says that it was not, why, and what would help.
#
#   tools/suites.sh [mount] [root] [landlock] [c_library] [liveness]      (default: all of these)
#   tools/suites.sh bundle                                    detector and embedder of the bundle (a part of `cargo test`)
#
# FAMILIAR_NOT_RUN=FILE collects these lines (`make test` ends with them). FAMILIAR_REQUIRE_SUITES=1: what cannot be run fails.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"

not_run() {
  printf 'not run: %s\n' "$*" >&2
  [ -z "${FAMILIAR_NOT_RUN:-}" ] || printf 'not run: %s\n' "$*" >>"$FAMILIAR_NOT_RUN"
  [ "${FAMILIAR_REQUIRE_SUITES:-}" != 1 ] || exit 1
}
log=$(mktemp)
trap 'rm -f "$log"' EXIT
tests() { # ARGUMENT…: of cargo test; a filter that fits no test fails, for cargo calls that a success
  cargo test --release --locked "$@" 2>&1 | tee "$log"
  grep -qE '^test result: ok\. [1-9]' "$log" || die "no test ran: cargo test $*"
}
integration() { # MODULE…
  local module
  for module; do FAMILIAR_REQUIRE_JUDGES=1 tests --test integration -- --ignored "$module"; done
}

# A full disk, a read-only one.
mount() {
  local folder may=no
  folder=$(mktemp -d)
  if unshare -rm -- "$(type -P mount)" -t tmpfs tmpfs "$folder" 2>/dev/null; then may=yes; fi
  rmdir "$folder"
  if [ $may = yes ]; then
    integration full_disk:: broken_disk::
  else
    not_run "full_disk, broken_disk: this system lets nobody mount a disk in a name space of their own (unshare -rm; kernel.unprivileged_userns_clone, or root)"
  fi
}

# What root does with files that are the daemon's, and sees of its process.
root() {
  if [ "$(id -u)" = 0 ]; then
    integration state_directory:: setup:: check_unit:: sockets::
  else
    not_run "state_directory, setup, check_unit, sockets: only root can make another user's files, and see what the daemon has open"
  fi
}

# On which systems what is built here runs.
c_library() {
  local version
  version=$(getconf GNU_LIBC_VERSION)
  version=${version##*.}
  if [ "$version" -le 36 ]; then
    integration binary::
  else
    not_run "binary, C library: what is built here needs this system's (2.$version) or a later one; what is given away is built in Debian 12, or by make arm"
  fi
}

# The version of Landlock that this kernel has, 0 for none: landlock_create_ruleset(NULL, 0, LANDLOCK_CREATE_RULESET_VERSION).
landlock_version() { python3 -c 'import ctypes; print(max(0, ctypes.CDLL(None).syscall(444, None, 0, 1)))'; }

landlock() {
  local version skip=()
  version=$(landlock_version)
  if [ "$version" = 0 ]; then
    not_run "landlock: this kernel has no Landlock; make test-landlock runs these tests under kernels that have it, emulated"
    return
  fi
  if [ "$version" -lt 4 ]; then
    skip=(--skip no_port_but_the_configured)
    not_run "landlock, ports: this kernel is older than 6.7; make test-landlock has a newer one, emulated"
  fi
  # A proxy opens more ports than the configuration names.
  (
    unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
    tests --lib -- --ignored system::landlock:: "${skip[@]}"
  )
}

liveness() {
  if grep -qs '^\[\[liveness\]\]' "$FAMILIAR_TEST_BUNDLE/bundle.toml"; then
    integration liveness_networks::
  else
    not_run "no liveness networks: package registries carry none; give a folder with the files of models/README.md as MODEL_CACHE to make models, then make test-liveness"
  fi
}

# For a bundle other than that of `make test`.
bundle() { FAMILIAR_REQUIRE_JUDGES=1 tests --test integration -- default_bundle::; }

[ $# != 0 ] || set -- mount root landlock c_library liveness
for suite; do
  case $suite in
    mount | root | landlock | c_library | liveness | bundle) "$suite" ;;
    *) die "no such suite: $suite" ;;
  esac
done
