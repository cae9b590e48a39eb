#!/usr/bin/env bash
# Holds the dependency tree to deny.toml.
#
#   tools/dependencies.sh             licences, sources, versions, and RustSec's advisories
#   tools/dependencies.sh --prove     that a tree with a known vulnerability is refused (needs the advisories and crates.io)
#
# The advisories are a git repository (https://github.com/rustsec/advisory-db), which a network of package registries alone cannot
# reach: then that check is left out, in one line. ADVISORY_DB=FOLDER names a clone to be used instead, bare or not; an advisory
# that matches fails, and so does a clone that cannot be read.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"
PATH=$target/lint/bin:$PATH
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

readable() { git -c safe.directory='*' -C "$1" rev-parse --quiet --verify HEAD >/dev/null 2>&1; }
if [ -n "${ADVISORY_DB:-}" ]; then
  db=$(realpath -- "$ADVISORY_DB")
  if ! readable "$db" && [ -d "$db/objects" ]; then
    # A bare repository that was copied without its empty folders is none to git.
    cp -R "$db" "$work/advisory-db"
    chmod -R u+w "$work/advisory-db"
    db=$work/advisory-db
    mkdir -p "$db/refs/heads"
  fi
  readable "$db" || die "ADVISORY_DB=$ADVISORY_DB is no git repository"
  export GIT_CONFIG_COUNT=2
  export GIT_CONFIG_KEY_0=url.file://$db.insteadOf GIT_CONFIG_VALUE_0=https://github.com/rustsec/advisory-db
  export GIT_CONFIG_KEY_1=safe.directory GIT_CONFIG_VALUE_1='*'
  dated=", of $(git -C "$db" log -1 --format=%cs)"
fi
advisories_reached() { timeout 120 cargo deny --locked fetch db >"$work/log" 2>&1; }
reach() {
  advisories_reached || {
    [ -z "${ADVISORY_DB:-}" ] || { cat "$work/log" >&2; die "the advisories cannot be fetched from ADVISORY_DB=$ADVISORY_DB"; }
    echo "advisories NOT CHECKED: RustSec's database cannot be fetched from this network (ADVISORY_DB=FOLDER names a clone)" >&2
    return 1
  }
}

check() {
  cargo deny --locked check bans licenses sources
  if reach; then
    cargo deny --locked --offline check advisories
    echo "advisories checked${dated:-}" >&2
  fi
}

# A tree with rustls-webpki 0.102.8, which four advisories of 2026 are about.
prove() {
  reach || return 0
  mkdir -p "$work/vulnerable/src"
  cp deny.toml "$work/vulnerable/"
  touch "$work/vulnerable/src/lib.rs"
  cat >"$work/vulnerable/Cargo.toml" <<'TOML'
[package]
name = "vulnerable"
version = "0.1.0"
edition = "2024"
license = "MIT"
[dependencies]
rustls-webpki = "=0.102.8"
TOML
  if (cd "$work/vulnerable" && cargo generate-lockfile --quiet && cargo deny --locked check advisories) >"$work/log" 2>&1; then
    die "a tree with a known vulnerability passes the check of advisories"
  fi
  grep -q 'RUSTSEC-2026-0049' "$work/log" || { tail -n 20 "$work/log" >&2; die "the check of advisories failed, but for no advisory"; }
  echo "advisories: a tree with a known vulnerability is refused" >&2
}

case "${1:-}" in
  "") check ;;
  --prove) prove ;;
  *) die "tools/dependencies.sh [--prove]" ;;
esac
