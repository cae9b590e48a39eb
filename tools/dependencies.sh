#!/usr/bin/env bash
# Holds the dependency tree to deny.toml. Advisories need RustSec's database, a git repository that a
# network of package registries alone cannot reach: then that check is left out, and said so. ADVISORY_DB=FOLDER
# names a clone of it (https://github.com/rustsec/advisory-db) to be used instead.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"
PATH=$target/lint/bin:$PATH

if [ -n "${ADVISORY_DB:-}" ]; then
  export GIT_CONFIG_COUNT=2
  export GIT_CONFIG_KEY_0=url.file://$ADVISORY_DB.insteadOf GIT_CONFIG_VALUE_0=https://github.com/rustsec/advisory-db
  export GIT_CONFIG_KEY_1=safe.directory GIT_CONFIG_VALUE_1='*'
fi
cargo deny --locked check bans licenses sources
if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then
  cargo deny --locked --offline check advisories
else
  echo "advisories NOT CHECKED: RustSec's database cannot be fetched from this network" >&2
fi
