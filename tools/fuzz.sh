#!/usr/bin/env bash
# Fuzzes by libFuzzer with the stable compiler: tools/fuzz.sh SECONDS [TARGET…] (default: all of them).
#
# Cargo-fuzz asks for a nightly compiler because its sanitizers do; the coverage that guides libFuzzer is made by
# flags of the stable one, and memory errors are not what a program without `unsafe` is searched for. The seeds in
# fuzz/corpus stay as they are; what a run finds is kept below the target folder, and grows from run to run. An input
# that breaks a target lies in fuzz/artifacts afterwards: mend it, and put it into fuzz/corpus/TARGET.
# Holds ROB-12.
set -euo pipefail
. "$(dirname "$0")/env.sh"
seconds=$1
shift
cd "$top/fuzz"

mapfile -t all < <(sed -n 's/^    ("\([a-z_]*\)", .*/\1/p' src/fuzzed/mod.rs)
[ $# -gt 0 ] || set -- "${all[@]}"

# What `cargo fuzz run --sanitizer none` passes, but for the compiler.
flags="-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters"
flags="$flags -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares --cfg fuzzing"
host=$(rustc -vV | sed -n 's/^host: //p')
say "Building the fuzz targets"
# A target that is named keeps build scripts and macros free of the flags.
RUSTFLAGS=$flags CARGO_TARGET_DIR=$target/fuzz cargo build --release --locked --quiet --target "$host"

longest() { sed -n "s/^    (\"$1\", $1, \([0-9]*\)),/\1/p" src/fuzzed/mod.rs; }
status=0
for name; do
  found=$target/fuzz/corpus/$name
  mkdir -p "$found" "artifacts/$name"
  log=$target/fuzz/$name.log
  outcome=0
  FAMILIAR_FUZZ=$name "$target/fuzz/$host/release/familiar-fuzz" "$found" "corpus/$name" -artifact_prefix="artifacts/$name/" \
    -max_len="$(longest "$name")" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -malloc_limit_mb=1024 \
    -print_final_stats=1 -verbosity=1 >"$log" 2>&1 || outcome=$?
  covered=$(sed -n 's/.*cov: \([0-9]*\) ft.*/\1/p' "$log" | tail -n 1)
  tried=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
  printf '%-16s %9s executions  %6s edges\n' "$name" "${tried:-?}" "${covered:-?}"
  if [ $outcome != 0 ]; then
    status=1
    grep -aE 'panicked|ERROR|SUMMARY|Test unit written' -A 2 "$log" | tail -n 20 >&2 || true
    printf '%s: see %s\n' "$name" "$log" >&2
  fi
done
rmdir artifacts/* artifacts 2>/dev/null || true
exit $status
