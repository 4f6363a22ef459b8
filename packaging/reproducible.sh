# Sourced from the top of the sources by what builds for others. Takes out of the binary what differs between machines:
# where the sources, the crates and the compiler lie, and when it was built. What is left to agree on is the compilers'
# versions, which packaging/build.sh writes beside the packages.
#
# Cargo keeps what was built with other flags beside this; only C is compiled again where these come or go.

# Outside a clone there is no commit to tell the time of.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || date -r CHANGELOG.md +%s)}

# Has the compilers write a place as this one. They know it by the name they are given, and by its own where that is a
# link: a crate is compiled in its folder, and what the compiler asks the system for is the latter.
written_as() { # PLACE NAME
  local place
  for place in "$1" "$(realpath -m "$1")"; do
    RUSTFLAGS="${RUSTFLAGS:-} --remap-path-prefix=$place=$2"
    CFLAGS="${CFLAGS:-} -ffile-prefix-map=$place=$2"
  done
}
written_as "$PWD" /turnpike
written_as "${CARGO_HOME:-$HOME/.cargo}" /cargo
written_as "$(rustc --print sysroot)" /rust
# Where code that is made during the build lies.
written_as "$(realpath -m "${CARGO_TARGET_DIR:-target}")" /turnpike/target
unset -f written_as
# The linker's number for a binary is made of the debug information too, which packages leave out and which names places.
RUSTFLAGS+=" -Clink-arg=-Wl,--build-id=none"
export SOURCE_DATE_EPOCH RUSTFLAGS CFLAGS
