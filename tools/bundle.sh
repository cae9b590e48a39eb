#!/bin/sh
# Says which detector a bundle finds faces with, and whether it has liveness networks: what a build packs depends on which weights
# it could get.
#
#   tools/bundle.sh DIR [BEFORE]     BEFORE: what it said of the bundle that was replaced; what got lost is said, too
set -eu
manifest=$1/bundle.toml
[ -e "$manifest" ] || { echo "no bundle: $1" >&2; exit 1; }
detector=$(sed -n 's/^decoder = "\(.*\)".*/\1/p' "$manifest")
case $detector in yunet) detector=YuNet ;; centerface) detector=CenterFace ;; esac
if grep -q '^\[\[liveness\]\]' "$manifest"; then
    liveness="liveness networks: yes"
else
    liveness="liveness networks: NONE, a photograph of a person is taken for the person"
fi
said="detector: $detector; $liveness"
echo "$1: $said"
case ${2:-} in
    "" | *"$said") ;;
    *)
        bar='******************************************************************************'
        printf '%s\n*** OTHER NETWORKS THAN IN THE BUNDLE THAT IT REPLACES:\n***   before: %s\n' "$bar" "${2#*: }"
        printf '***   now:    %s\n*** If that was not wanted: MODEL_CACHE=FOLDER make models (models/README.md).\n%s\n' "$said" "$bar"
        ;;
esac
