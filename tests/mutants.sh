#!/usr/bin/env bash
# Mutation testing of the code that lets in, refuses and counts (src/turn: auth, nonce, policy, quota).
#
#   tests/mutants.sh                all of it: about an hour on two cores
#   tests/mutants.sh --shard 0/8    an eighth of it
#   tests/mutants.sh -F Cidr        what has this in its name; any other option of `cargo mutants` too
#
# A package of wire/, turn/ and their pure tests alone is put together in target/mutants (or $MUTANTS_DIR), so that a
# mutant costs seconds; the workshop stays and makes the next run faster. What is changed and what must notice:
# .cargo/mutants.toml. The outcome lies in mutants.out/ there: missed.txt names what no test noticed.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly CARGO_MUTANTS_VERSION=27.1.0
# Worlds of the simulator for each mutant: the quick tests come first, these are for what they miss.
readonly SEEDS=40
readonly TEST_TARGETS=(rfc8656 sim vectors)
readonly CRATES=(base64 crc32fast foldhash hashbrown hmac md-5 serde serde_json sha1 sha2 subtle zeroize)

command -v cargo-mutants >/dev/null || cargo install --locked --version "$CARGO_MUTANTS_VERSION" cargo-mutants

root=$PWD
shop=${MUTANTS_DIR:-$root/target/mutants}
mkdir -p "$shop"
# The last run's mutant is undone here, should it have been interrupted.
rm -rf "${shop:?}"/{src,tests,.cargo}
mkdir -p "$shop"/{src,tests,.cargo}
cp -a src/wire src/turn "$shop/src/"
cp -a tests/wire_client "$shop/tests/"
for target in "${TEST_TARGETS[@]}"; do
  cp -a "tests/$target.rs" "$shop/tests/"
  [[ ! -d tests/$target ]] || cp -a "tests/$target" "$shop/tests/"
done
# What the simulator shares with the fuzz targets may need the whole package.
sed -i '/^\/\/ \[whole package\]/,/^\/\/ \[pure floors\]/d' "$shop"/tests/sim.rs "$shop"/tests/sim/mod.rs
cp -a .cargo/mutants.toml "$shop/.cargo/"
cp -a Cargo.lock "$shop/"
printf '//! The two pure floors, for mutation testing.\npub mod turn;\npub mod wire;\n' >"$shop/src/lib.rs"
{
  printf '[package]\nname = "turnpike"\nversion = "%s"\nedition = "2024"\n\n[workspace]\n\n[dependencies]\n' \
    "$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)"
  for crate in "${CRATES[@]}"; do
    grep -m 1 "^$crate = " Cargo.toml
  done
  # What is built once is built well; what is built for each mutant, fast.
  printf '\n[profile.dev]\ndebug = false\nopt-level = 1\n\n[profile.dev.package."*"]\nopt-level = 3\n'
} >"$shop/Cargo.toml"

cd "$shop"
export CARGO_TARGET_DIR=$shop/target TURNPIKE_SIM_SEEDS=${TURNPIKE_SIM_SEEDS:-$SEEDS}
exec cargo mutants --in-place --colors never "$@"
