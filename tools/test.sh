#!/usr/bin/env bash
# `make test`: all tests, the suites that not every machine can run, and at the end what was not run, one line each.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"

work=$(mktemp -d)
# Many tests wait for a broker or a daemon more than they compute.
export RUST_TEST_THREADS=${RUST_TEST_THREADS:-$((2 * $(nproc)))}
export FAMILIAR_REQUIRE_JUDGES=1 FAMILIAR_NOT_RUN=$work/not-run
touch "$work/log" "$FAMILIAR_NOT_RUN"

# Ignored tests, by their module and reason, but for those that are parts of others or test nothing, and for the suites that
# say so themselves.
ignored() {
  sed -n 's/^test \([a-z_]*\)[^ ]* \.\.\. ignored, /\1: /p' "$work/log" |
    grep -vE '^[a-z_]*: (a part of|a measurement|measures|writes )|^(full_disk|broken_disk|state_directory|setup|check_unit|sockets|system|liveness_networks): ' | sed 's/^/not run: /' || true
}
finish() {
  local status=$?
  { cat "$FAMILIAR_NOT_RUN"; ignored; } | sort -u >"$work/list"
  grep '^test result: ' "$work/log" || true
  if [ $status != 0 ]; then
    say "FAILED; what comes after the failure was not run, nor was:"
  elif [ -s "$work/list" ]; then
    say "All tests passed, but for what was not run:"
  else
    say "All tests passed, and all were run."
  fi
  cat "$work/list"
  rm -rf "$work"
}
trap finish EXIT

models/.build/venv/bin/python -B -m unittest discover -q -s models
python3 -B -m unittest discover -q -s tools -p 'test_*.py'
cargo test --release --locked 2>&1 | tee "$work/log"
tools/suites.sh 2>&1 | tee -a "$work/log"
