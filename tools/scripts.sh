#!/usr/bin/env bash
# Holds Python (ruff.toml), shell (.shellcheckrc), YAML (.yamllint.yml) and the hosted workflows to their rules (`make scripts`).
# Nothing is fetched.
set -euo pipefail
. "$(dirname "$0")/env.sh"
cd "$top"
linters=$target/lint-scripts/bin

# What git knows, or would: a script that was just written counts, what a build left does not.
files() { git -c safe.directory='*' ls-files -z --cached --others --exclude-standard "$@"; }
mapfile -d '' -t all < <(files)
shell=() python=()
for file in "${all[@]}"; do
  # Deleted in the working tree, or no script.
  [ -f "$file" ] || continue
  read -r first 2>/dev/null <"$file" || true
  case $file in
    *.sh) shell+=("$file") ;;
    *.py) python+=("$file") ;;
    fuzz/corpus/*) ;;
    *) case $first in '#!'*python*) python+=("$file") ;; '#!'*sh*) shell+=("$file") ;; esac ;;
  esac
done
mapfile -d '' -t yaml < <(files '*.yml' '*.yaml')

"$linters/ruff" check --quiet "${python[@]}"
shellcheck "${shell[@]}"
"$linters/yamllint" --strict "${yaml[@]}"
# A workflow or a dependabot.yml that is not one to GitHub's schema fails, and so does a right too many.
"$linters/zizmor" --offline --quiet --no-progress --strict-collection .github
printf 'scripts: %d of Python, %d of shell, %d of YAML\n' ${#python[@]} ${#shell[@]} ${#yaml[@]}
