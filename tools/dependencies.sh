#!/usr/bin/env bash
# Holds the dependency tree to deny.toml. Advisories need RustSec's database, a git repository that a
# network of package registries alone cannot reach: then that check is left out, and said so.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"
PATH=$target/lint/bin:$PATH

cargo deny --locked check bans licenses sources
if timeout 120 cargo deny --locked fetch db >/dev/null 2>&1; then
  cargo deny --locked --offline check advisories
else
  echo "advisories NOT CHECKED: RustSec's database cannot be fetched from this network" >&2
fi
