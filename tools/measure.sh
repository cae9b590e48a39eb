#!/usr/bin/env bash
# Strangers and attacks: the tables of docs/evaluation.md.
#
#   tools/measure.sh FOLDER [thresholds|open-set|liveness|screens|cues|replay|frames|one-camera]...
#
# FOLDER holds lfw/NAME/NAME_0001.jpg and webcam/{live,print}/SUBJECT/SEQUENCE/0000.jpg. Links to the pictures are laid
# out in a temporary folder; nothing is copied. Plots and JSON go to OUT, if that names a folder.
set -euo pipefail
. "$(dirname "$0")/env.sh"

data=$(realpath -- "${1:?tools/measure.sh FOLDER [thresholds|open-set|liveness|screens|cues|replay|frames|one-camera]...}")
shift
[ $# -gt 0 ] || set -- thresholds open-set liveness screens cues replay frames one-camera
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
out=${OUT:-$work}
mkdir -p "$out"
bundle=(--bundle "$FAMILIAR_TEST_BUNDLE" --trust "$FAMILIAR_TEST_TRUST")
rates=(--false-match-rate 1e-2 --false-match-rate 1e-3 --false-match-rate 1e-4)

# Calibrated on half of the people, judged on the other half.
# Holds REC-08.
thresholds() {
  "$familiar" evaluate --images "$data/lfw" --calibrate --held-out "${bundle[@]}"
}

# The twenty people with most pictures are enrolled (ties by name); everybody else is a stranger.
open_set() {
  mkdir -p "$work/lfw/people" "$work/lfw/strangers"
  local name rank=0
  while read -r _ name; do
    rank=$((rank + 1))
    if [ "$rank" -le 20 ]; then ln -s "$data/lfw/$name" "$work/lfw/people/"; else ln -s "$data/lfw/$name" "$work/lfw/strangers/"; fi
  done < <(cd "$data/lfw" && for name in *; do echo "$(find "$name/" -name '*.jpg' | wc -l) $name"; done | LC_ALL=C sort -k1,1nr -k2,2)
  "$familiar" evaluate --people "$work/lfw/people" --strangers "$work/lfw/strangers" "${bundle[@]}" "${rates[@]}" \
    --plot "$out/open-set.svg"
}

# Holds LIV-03, LIV-04.
liveness() {
  mkdir -p "$work/attacks"
  ln -s "$data/webcam/print" "$work/attacks/print"
  "$familiar" evaluate --genuine "$data/webcam/live" --attacks "$work/attacks" "${bundle[@]}" --plot "$out/liveness.svg"
}

# Simulated screens (tools/simulate_screens.py), made first; ten minutes. SCREENS names a folder of them that is there already.
simulated=${SCREENS:-$work/screens}
simulate() {
  [ -d "$simulated" ] || "$top/models/.build/venv/bin/python" -B "$top/tools/simulate_screens.py" "$data/webcam/live" "$simulated"
}

# Holds LIV-05, LIV-06.
screens() {
  simulate
  "$familiar" evaluate --genuine "$data/webcam/live" --attacks "$simulated" "${bundle[@]}" --plot "$out/screens.svg"
}

# What else was tried to tell a face from a picture of one; four minutes.
cues() {
  simulate
  "$top/models/.build/venv/bin/python" -B "$top/tools/liveness_cues.py" "live=$data/webcam/live" "print=$data/webcam/print" \
    "phone=$simulated/phone" "tablet=$simulated/tablet" "monitor=$simulated/monitor"
}

# Live people and photographs of them before `familiar run`, liveness enforced and off; five minutes.
# Holds LIV-01, LIV-02.
replay() {
  python3 -B "$top/tools/replay.py" "$familiar" "$data/webcam" "$FAMILIAR_TEST_BUNDLE" "$FAMILIAR_TEST_TRUST"
}

# From appearing to named, by the looks that must agree and by the gates.
# Holds REC-12.
frames() {
  (cd "$top" && FAMILIAR_WEBCAM="$data/webcam/live" cargo test --release --locked --quiet --test integration -- \
    --ignored --exact webcam::time_from_appearing_to_named --nocapture) 2>/dev/null | grep '^|'
}

# Each subject enrolled alone by four pictures spread over the first sequence (the first half, where there is one); every
# eighth frame of the rest is a probe, every eighth of the other five subjects a stranger's.
# Holds REC-06, REC-07.
one_camera() {
  local subject report=()
  for subject in "$data"/webcam/live/*; do
    subject=$(basename "$subject")
    rm -rf "$work/camera"
    python3 -B "$top/tools/one_camera.py" lay "$data/webcam/live" "$subject" "$work/camera"
    "$familiar" evaluate --people "$work/camera/people" --strangers "$work/camera/strangers" --enroll 4 \
      "${bundle[@]}" "${rates[@]}" --json >"$out/one-camera-$subject.json"
    report+=("$out/one-camera-$subject.json")
  done
  python3 -B "$top/tools/one_camera.py" sum "${report[@]}"
}

for measurement in "$@"; do
  say "$measurement"
  case $measurement in
    thresholds) thresholds ;;
    open-set) open_set ;;
    liveness) liveness ;;
    screens) screens ;;
    cues) cues ;;
    replay) replay ;;
    frames) frames ;;
    one-camera) one_camera ;;
    *) die "not a measurement: $measurement" ;;
  esac
done
