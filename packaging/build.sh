#!/usr/bin/env bash
# Builds the packages: a .deb and an .rpm with the binary, its unit, configuration, manual and completions; and the
# static binary that the container image is made of.
#
#   packaging/build.sh              all of it, into target/packages/, which is emptied first
#   packaging/build.sh deb rpm      only these; also: static
#   packaging/build.sh --install    installs the tools at the versions used here
#
# Needs cargo-deb and cargo-generate-rpm, and Debian's build-essential. The same sources and tools give the same bytes,
# wherever they are: packaging/reproduce tries it. Times are those of the last commit, or SOURCE_DATE_EPOCH. Beside the
# packages are their SHA-256 sums, the versions of the compilers, and the licences of what is linked in.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO_DEB_VERSION=3.8.0
readonly CARGO_GENERATE_RPM_VERSION=0.21.1
readonly TARGET=${CARGO_TARGET_DIR:-target}
readonly STAGE=$TARGET/release/package
readonly OUT=$TARGET/packages

die() {
  printf 'packaging/build.sh: %s\n' "$*" >&2
  exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

install_tools() {
  has cargo-deb || cargo install --locked --version "$CARGO_DEB_VERSION" cargo-deb
  has cargo-generate-rpm || cargo install --locked --version "$CARGO_GENERATE_RPM_VERSION" cargo-generate-rpm
}

# What the binary itself writes: the manual and the completions. Both package formats want pages compressed.
stage() {
  local shell binary=$TARGET/release/turnpike
  rm -rf "$STAGE" "$OUT"
  mkdir -p "$STAGE"/{man1,man5,completions} "$OUT"
  packaging/third-party.sh >"$STAGE/THIRD-PARTY.txt"
  cp "$STAGE/THIRD-PARTY.txt" "$OUT/"
  { rustc -vV; cc --version | head -1; } >"$OUT/BUILT-WITH.txt"
  # The names of functions stay, for what a panic says.
  strip --strip-debug -o "$STAGE/turnpike" "$binary"
  "$binary" man "$STAGE/pages"
  mv "$STAGE"/pages/*.1 "$STAGE/man1/"
  mv "$STAGE"/pages/*.5 "$STAGE/man5/"
  rmdir "$STAGE/pages"
  gzip -9n "$STAGE"/man[15]/*
  for shell in bash zsh fish; do
    "$binary" completions "$shell" >"$STAGE/completions/turnpike.$shell"
  done
}

build_deb() {
  has cargo-deb || die "cargo-deb is missing: packaging/build.sh --install"
  cargo deb --no-build --locked --output "$OUT/"
}

build_rpm() {
  has cargo-generate-rpm || die "cargo-generate-rpm is missing: packaging/build.sh --install"
  cargo generate-rpm --target-dir "$TARGET" --output "$OUT/" --source-date "$SOURCE_DATE_EPOCH"
}

# Only the last step differs from the build above: the same code, linked with libc inside. Names are still looked up
# in /etc/hosts and by DNS; other name services of the host are not.
build_static() {
  cp -p "$TARGET/release/turnpike" "$STAGE/turnpike-dynamic"
  cargo rustc --release --locked --bin turnpike -- -C target-feature=+crt-static
  strip --strip-debug -o "$OUT/turnpike-static" "$TARGET/release/turnpike"
  # What was there stays what is built there.
  mv "$STAGE/turnpike-dynamic" "$TARGET/release/turnpike"
}

wanted=()
while (($# > 0)); do
  case $1 in
    --install)
      install_tools
      exit 0
      ;;
    deb | rpm | static) wanted+=("$1") ;;
    *) die "unknown argument $1; see the head of this file" ;;
  esac
  shift
done
((${#wanted[@]} > 0)) || wanted=(deb rpm static)

# shellcheck source=packaging/reproducible.sh
source packaging/reproducible.sh
cargo build --release --locked
stage
for package in "${wanted[@]}"; do
  "build_$package"
done
(cd "$OUT" && sha256sum -- * >"../SHA256SUMS" && mv ../SHA256SUMS .)
ls -l "$OUT"
