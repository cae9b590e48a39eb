# Sourced by tools/setup.sh and tests/vm: packages out of an apt of its own, so that this machine's need not know of them.
# shellcheck shell=bash

# Makes one in FOLDER, with OPTIONs such as another machine's architecture; `apt_own` is what apt's programs are to be called with.
apt_of_its_own() { # FOLDER OPTION…
  local apt=$1
  shift
  mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial"
  : >"$apt/status"
  apt_own=(-qq -o APT::Sandbox::User= -o Dir::State="$apt" -o Dir::State::Lists="$apt/lists" -o Dir::State::status="$apt/status"
    -o Dir::Cache="$apt/cache" "$@")
  apt-get "${apt_own[@]}" update >/dev/null 2>&1 || true # what has nothing for it is not our matter
}
# shellcheck disable=SC2034 # read by those who source this
arm_packages=(-o APT::Architecture=arm64 -o APT::Architectures=arm64)
