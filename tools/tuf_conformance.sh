#!/usr/bin/env bash
# Runs theupdateframework/tuf-conformance, as it is, against our client of model updates (`make tuf-conformance`).
# TUF_CONFORMANCE names a folder with a copy of that repository; its Python packages land below cargo's target folder.
set -euo pipefail
. "$(dirname "$0")/env.sh"

suite=${TUF_CONFORMANCE:-}
[ -f "$suite/tuf_conformance/conftest.py" ] ||
  die "TUF_CONFORMANCE=FOLDER names a copy of github.com/theupdateframework/tuf-conformance; there is none in \"$suite\""
command -v faketime >/dev/null || die "faketime is missing (tools/setup.sh judges installs it)"

cargo build --quiet --release --locked --example tuf_client
if [ ! -x "$target/tuf-conformance/bin/pytest" ]; then
  say "Installing the suite's packages"
  python3 -m venv "$target/tuf-conformance"
  # The packages that the suite itself pins, and not the suite: it runs from its folder.
  "$target/tuf-conformance/bin/python" - "$suite/pyproject.toml" <<'PYTHON' |
import sys, tomllib
print("\n".join(tomllib.load(open(sys.argv[1], "rb"))["project"]["dependencies"]))
PYTHON
    "$target/tuf-conformance/bin/pip" install --quiet --requirement /dev/stdin
fi
cd "$suite"
# Holds UPD-29.
exec "$target/tuf-conformance/bin/python" -B -m pytest -q -p no:cacheprovider tuf_conformance \
  --entrypoint "$target/release/examples/tuf_client" "$@"
