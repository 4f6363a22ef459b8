#!/usr/bin/env bash
# Installs what the tests need and runs every check of this package, on a Debian machine.
#
#   tests/run.sh            install what is missing, then check everything; stops at the first failure
#   tests/run.sh --all      the same, and what takes minutes more: cargo-deny, and the packages, for which root is
#                           needed (also with CI=true)
#   tests/run.sh --install  install what is missing, check nothing
#
# Needs Rust (rustup.rs, with rustfmt and clippy). Everything else comes from apt, npm and cargo; apt is called as
# root, through sudo for anyone else.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly FUZZ_TARGETS=(
  stun_parse stun_roundtrip channel_data stream_deframe tls_stream server_ops peer_policy http_ws_step config
)
readonly FUZZ_SECONDS=10
readonly ADVISORIES_SECONDS=120
readonly CARGO_FUZZ_VERSION=0.13.2
readonly NODE_MAJOR_MIN=20
readonly POLICY=/usr/sbin/policy-rc.d

section="" began=0 passed=0 scratch="" policy_written=no

# Prints the time of the section that just ended and the heading of the next.
begin() {
  end_section
  section=$1 began=$SECONDS
  printf '\n=== %s\n' "$section"
}

end_section() {
  [[ -n $section ]] || return 0
  printf -- '--- %s: ok, %d s\n' "$section" $((SECONDS - began))
  passed=$((passed + 1)) section=""
}

# Runs on every way out, so that a failure is named however it came.
finish() {
  local code=$?
  [[ -z $scratch ]] || rm -rf "$scratch"
  [[ $policy_written == no ]] || as_root rm -f "$POLICY"
  if ((code != 0)); then
    printf '\nFAILED: %s (exit %d, after %d s)\n' "${section:-tests/run.sh}" "$code" "$SECONDS" >&2
  fi
}
trap finish EXIT

die() {
  printf 'tests/run.sh: %s\n' "$*" >&2
  exit 1
}

as_root() {
  if ((EUID == 0)); then "$@"; else sudo "$@"; fi
}

has() { command -v "$1" >/dev/null 2>&1; }

# Each line: a program, and the Debian package that brings it.
needed_packages() {
  local program package
  while read -r program package; do
    has "$program" || echo "$package"
  done <<'PACKAGES'
c++ build-essential
ip iproute2
unshare util-linux
turnutils_uclient coturn
turnutils_peer coturn
turnserver coturn
promtool prometheus
chromium chromium
openssl openssl
node nodejs
npm npm
groff groff-base
mandoc mandoc
zsh zsh
fish fish
systemd-analyze systemd
strace strace
nft nftables
faketime faketime
PACKAGES
  [[ $with_all == yes ]] || return 0
  while read -r program package; do
    has "$program" || echo "$package"
  done <<'PACKAGES'
debootstrap debootstrap
rpm rpm
systemd-nspawn systemd-container
PACKAGES
}

install_packages() {
  local packages
  mapfile -t packages < <(needed_packages | sort -u)
  ((${#packages[@]} > 0)) || { echo "apt: nothing is missing"; return 0; }
  has apt-get || die "there is no apt-get to install the missing packages with: ${packages[*]}"
  ((EUID == 0)) || has sudo || die "root has to install the missing packages: ${packages[*]}"
  as_root apt-get update -qq
  # coturn's package would start a server on this machine; this refuses it, for the time of this run.
  if [[ ! -e $POLICY ]]; then
    policy_written=yes
    printf '#!/bin/sh\nexit 101\n' >"$scratch/policy"
    as_root install -m 755 "$scratch/policy" "$POLICY"
  fi
  as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${packages[@]}"
}

# playwright-core drives Debian's Chromium; no browser is downloaded.
install_playwright() {
  local major
  major=$(node -p 'process.versions.node.split(".")[0]')
  ((major >= NODE_MAJOR_MIN)) || die "node $NODE_MAJOR_MIN or newer is needed, this is $(node --version)"
  if [[ tests/browser/node_modules/.package-lock.json -nt tests/browser/package-lock.json ]]; then
    echo "npm: nothing is missing"
    return 0
  fi
  npm ci --prefix tests/browser --ignore-scripts --no-audit --no-fund
}

install_cargo_tools() {
  has cargo || die "Rust is missing: install it from https://rustup.rs"
  if ! cargo fmt --version || ! cargo clippy --version; then
    die "run: rustup component add rustfmt clippy"
  fi
  has cargo-fuzz || cargo install --locked --version "$CARGO_FUZZ_VERSION" cargo-fuzz
  if ! has cargo-deny && [[ $with_all == yes ]]; then
    cargo install --locked cargo-deny
  fi
  if [[ $with_all == yes ]]; then
    packaging/build.sh --install
  fi
}

# Without a sanitizer, which the stable compiler does not take; overflow and debug assertions are on.
# New inputs go to a scratch directory: a run leaves the committed corpus as it was.
fuzz() {
  local target=$1 corpus=fuzz/corpus/$1 found
  [[ -d $corpus ]] || die "the fuzz target $target has no corpus in $corpus"
  found=$(mktemp -d "$scratch/$target.XXXXXX")
  cargo fuzz run -s none "$target" "$found" "$corpus" -- \
    -max_total_time="$FUZZ_SECONDS" -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0
}

with_all=no
[[ ${CI:-} == true ]] && with_all=yes
only_install=no
for option in "$@"; do
  case $option in
    --all) with_all=yes ;;
    --install) only_install=yes ;;
    *) die "unknown option $option; see the head of this file" ;;
  esac
done
scratch=$(mktemp -d)

begin "packages"
install_packages
begin "browser driver"
install_playwright
begin "cargo tools"
install_cargo_tools
if [[ $only_install == yes ]]; then
  end_section
  exit 0
fi

begin "format"
cargo fmt --check
begin "clippy"
cargo clippy --all-targets --locked -- -D warnings
begin "tests"
cargo test --locked
begin "loads, for a moment"
benches/figures --smoke
benches/soak --smoke
if [[ $with_all == no ]]; then
  # The packages below are made of one.
  begin "release build"
  cargo build --release --locked
fi
begin "units"
tests/packages.sh --unit
if [[ $with_all == yes ]]; then
  begin "packages"
  packaging/build.sh
  begin "packages tried"
  as_root tests/packages.sh
  end_section
else
  end_section
  printf '\nnot checked: packages (--all builds, installs and tries them)\n'
fi
begin "fuzz targets built"
cargo fuzz build -s none
for target in "${FUZZ_TARGETS[@]}"; do
  begin "fuzz $target"
  fuzz "$target"
done
if has cargo-deny; then
  begin "licences, bans, sources"
  [[ -f deny.toml ]] || die "deny.toml, which says what is allowed, is missing"
  cargo deny check bans licenses sources
  end_section
  # A machine without a way out cannot fetch their database. deny.toml has the oldest versions that are let in all the same.
  if timeout "$ADVISORIES_SECONDS" cargo deny fetch db >/dev/null 2>&1; then
    begin "advisories"
    cargo deny check advisories
    end_section
  else
    printf '\nnot checked: advisories (their database can not be fetched)\n'
  fi
else
  end_section
  printf '\nnot checked: licences, bans, sources (cargo-deny is missing; --all installs it)\n'
fi

printf '\nPASSED: %d sections in %d min %d s\n' "$passed" $((SECONDS / 60)) $((SECONDS % 60))
