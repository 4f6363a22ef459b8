# Sourced from the top of the sources by what builds for others. Takes out of the binary what differs between machines:
# where the sources, the crates and the compiler lie, and when it was built. What is left to agree on is the compilers'
# versions, which packaging/build.sh writes beside the packages.
#
# Cargo keeps what was built with other flags beside this; only C is compiled again where these come or go.

# Outside a clone there is no commit to tell the time of.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r CHANGELOG.md +%s)}

cargo_home=${CARGO_HOME:-$HOME/.cargo}
sysroot=$(rustc --print sysroot)
RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$PWD=/turnpike --remap-path-prefix=$cargo_home=/cargo \
--remap-path-prefix=$sysroot=/rust"
# Where code that is made during the build lies.
if [[ ${CARGO_TARGET_DIR:-} == /* ]]; then
  RUSTFLAGS+=" --remap-path-prefix=$CARGO_TARGET_DIR=/turnpike/target"
fi
CFLAGS="${CFLAGS:-} -ffile-prefix-map=$PWD=/turnpike -ffile-prefix-map=$cargo_home=/cargo"
unset cargo_home sysroot
export SOURCE_DATE_EPOCH RUSTFLAGS CFLAGS
