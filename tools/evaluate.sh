#!/usr/bin/env bash
# Accuracy on a folder of labelled pictures, by familiar and by the same networks in onnxruntime.
#
#   tools/evaluate.sh FOLDER      with lfw/NAME/NAME_0001.jpg and lfw_pairs.txt, as LFW has them,
#                                 and recorded frames webcam/live/SUBJECT/SEQUENCE/0000.jpg where there are any
set -euo pipefail
. "$(dirname "$0")/env.sh"

data=$(realpath -- "${1:-.}")
if [ ! -d "$data/lfw" ] || [ ! -f "$data/lfw_pairs.txt" ]; then
  die "make evaluate DATA=FOLDER: a folder with lfw/NAME/NAME_0001.jpg and lfw_pairs.txt (pictures are yours to get; none come with familiar)"
fi
say "familiar (tract, int8 weights)"
# Holds REC-01, REC-04.
"$familiar" evaluate --images "$data/lfw" --pairs "$data/lfw_pairs.txt" \
  --bundle "$FAMILIAR_TEST_BUNDLE" --trust "$FAMILIAR_TEST_TRUST"
say "onnxruntime on one thread, the same files, and the float graph before quantization"
float=$top/models/.build/embedder-float.onnx
embedders=(--embedder "$FAMILIAR_TEST_BUNDLE/embedder.onnx")
[ ! -e "$float" ] || embedders+=(--embedder "$float")
# Holds REC-03.
"$top/models/.build/venv/bin/python" -B "$top/models/judge_onnxruntime.py" pairs --bundle "$FAMILIAR_TEST_BUNDLE" \
  --images "$data/lfw" --pairs "$data/lfw_pairs.txt" "${embedders[@]}"
if [ -d "$data/webcam/live" ]; then
  say "Recorded people before a camera: enrolled from one sequence, watched in another"
  (cd "$top" && FAMILIAR_WEBCAM="$data/webcam/live" cargo test --release --locked --quiet --test integration -- \
    --ignored --exact webcam::webcam_subjects_are_recognized_and_never_confused --nocapture)
fi
if [ -d "$data/webcam/live" ] && [ -d "$data/webcam/print" ]; then
  say "Photographs of these people, and they themselves, before familiar run"
  (cd "$top" && FAMILIAR_WEBCAM="$data/webcam/live" cargo test --release --locked --quiet --test integration -- \
    --ignored --exact webcam::photographs_name_nobody_and_live_people_are_named --nocapture)
fi
