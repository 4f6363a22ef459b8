#!/usr/bin/env bash
# Tries the packages that packaging/build.sh made: the .deb for a day of its life under systemd in a container, the .rpm
# by what is in it, the static binary in an empty, read-only root.
#
#   tests/packages.sh            everything
#   tests/packages.sh --unit     only the units: what systemd-analyze says of them
#
# Needs root (namespaces, debootstrap) and what tests/run.sh installs. Debian's base system is fetched once and kept in
# target/.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly TARGET=${CARGO_TARGET_DIR:-$PWD/target}
readonly SUITE=bookworm
readonly MIRROR=${DEBIAN_MIRROR:-http://deb.debian.org/debian}
readonly BASE=$TARGET/tmp/debian-$SUITE.tar
# What systemd-analyze calls 1.6.
readonly EXPOSURE_MAX=16
readonly EXPOSURE_BARE_MAX=12
readonly DAY_MAX=10m
# As the container image has it: a user without a name.
readonly NOBODY=65532

die() {
  printf 'tests/packages.sh: %s\n' "$*" >&2
  exit 1
}

scratch=""
finish() {
  [[ -z $scratch ]] || rm -rf --one-file-system "$scratch"
}
trap finish EXIT

newest() {
  local found
  found=$(ls -t "$TARGET"/packages/*."$1" 2>/dev/null) || die "there is no .$1 in $TARGET/packages: packaging/build.sh"
  head -n 1 <<<"$found"
}

expose() {
  systemd-analyze security --offline=true --no-pager --threshold="$2" "$1" | tail -1
}

# What stands beside the packages: their sums, and the licences of what is in them.
check_sums() {
  (cd "$TARGET/packages" && sha256sum --check --quiet SHA256SUMS) || die "SHA256SUMS is of other files"
  grep -q '^rustls .*: ' "$TARGET/packages/THIRD-PARTY.txt" || die "THIRD-PARTY.txt names no rustls"
  grep -q 'THIRD-PARTY.txt$' < <(rpm -qpl "$(newest rpm)") || die "the .rpm has no THIRD-PARTY.txt"
  grep -qE 'THIRD-PARTY.txt(.gz)?$' < <(dpkg-deb --contents "$(newest deb)") || die "the .deb has no THIRD-PARTY.txt"
}

# The units are what systemd takes them for, and as closed as they were designed to be.
check_units() {
  local unit bare=$scratch/bare said
  mkdir -p "$bare"
  expose systemd/turnpike.service "$EXPOSURE_MAX"
  # As turnpike.socket says: without its capability.
  sed -e 's/^CapabilityBoundingSet=.*/CapabilityBoundingSet=/' -e 's/^AmbientCapabilities=.*/PrivateUsers=yes/' \
    systemd/turnpike.service >"$bare/turnpike.service"
  expose "$bare/turnpike.service" "$EXPOSURE_BARE_MAX"
  # The program and the manual are not installed here.
  for unit in service socket; do
    sed -e 's|^ExecStart=/usr/bin/turnpike|ExecStart=/bin/true|' -e '/^Documentation=/d' "systemd/turnpike.$unit" \
      >"$bare/turnpike.$unit"
  done
  said=$(systemd-analyze verify "$bare/turnpike.service" "$bare/turnpike.socket" 2>&1) || die "$said"
  [[ -z $said ]] || die "$said"
}

# Both packages say the same about the user.
check_user() {
  local line
  line=$(grep '^u ' systemd/turnpike.sysusers)
  grep -qF "$line" packaging/rpm/pre_install.sh || die "packaging/rpm/pre_install.sh makes another user than $line"
}

check_rpm() {
  local rpm=$1 file list scripts
  list=$(rpm -qlp "$rpm") scripts=$(rpm -qp --scripts "$rpm")
  for file in /usr/bin/turnpike /etc/turnpike/turnpike.toml /usr/lib/systemd/system/turnpike.{service,socket} \
    /usr/lib/sysusers.d/turnpike.conf /usr/share/man/man1/turnpike.1.gz /usr/share/man/man5/turnpike.toml.5.gz \
    /usr/share/bash-completion/completions/turnpike /usr/share/licenses/turnpike/LICENSE-{MIT,APACHE}; do
    grep -qxF "$file" <<<"$list" || die "$file is not in $rpm"
  done
  [[ $(rpm -qcp "$rpm") == /etc/turnpike/turnpike.toml ]] || die "the configuration is not marked as such in $rpm"
  list=$(rpm -qp --queryformat '[%{FILENAMES} %{FILEGROUPNAME} %{FILEFLAGS:fflags}\n]' "$rpm")
  grep -qxF '/etc/turnpike/turnpike.toml turnpike cn' <<<"$list" || die "the configuration is not its group's, or replaced"
  grep -q '^libc.so.6' <<<"$(rpm -qp --requires "$rpm")" || die "$rpm does not say that it needs libc"
  # Each script is one for the shell that runs it.
  for file in packaging/rpm/*.sh packaging/debian/*; do
    sh -n "$file" || die "$file"
  done
  for file in packaging/rpm/*.sh; do
    grep -qF "$(sed -n 2p "$file")" <<<"$scripts" || die "$file is not in $rpm"
  done
  # The files of another package must be installable beside it, without its scripts at least.
  mkdir -p "$scratch/rpm-root"
  rpm --root "$scratch/rpm-root" --initdb
  rpm --root "$scratch/rpm-root" --install --nodeps --noscripts --nosignature "$rpm" 2>"$scratch/rpm.log" ||
    die "$(cat "$scratch/rpm.log")"
  "$scratch/rpm-root/usr/bin/turnpike" check -c "$scratch/rpm-root/etc/turnpike/turnpike.toml" >/dev/null
}

fetch_base() {
  [[ -s $BASE ]] && return 0
  mkdir -p "$(dirname "$BASE")"
  debootstrap --variant=minbase --include=systemd,systemd-sysv,procps "$SUITE" "$scratch/base" "$MIRROR" >"$scratch/debootstrap.log" ||
    die "debootstrap failed: $(tail -5 "$scratch/debootstrap.log")"
  rm -rf "$scratch"/base/var/cache/apt/archives/*.deb "$scratch"/base/var/lib/apt/lists/*
  tar -C "$scratch/base" -cf "$BASE.part" .
  mv "$BASE.part" "$BASE"
}

# A whole day in a container with a systemd of its own: install, serve, crash, upgrade, remove.
check_deb() {
  local root=$scratch/root exchange=$scratch/exchange
  mkdir -p "$root" "$exchange"
  cp "$1" "$exchange/old.deb"
  # The same, a little newer.
  dpkg-deb --raw-extract "$1" "$scratch/newer"
  sed -i 's/^Version: .*/&+test/' "$scratch/newer/DEBIAN/control"
  dpkg-deb -Zgzip -z1 --root-owner-group --build "$scratch/newer" "$exchange/new.deb" >/dev/null
  cp tests/packages/{inside,plain}.sh "$exchange/"
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=turn.example.org \
    -keyout "$exchange/key.pem" -out "$exchange/cert.pem" 2>/dev/null
  tar -C "$root" -xf "$BASE"
  rm -f "$root/etc/machine-id"
  cat >"$root/etc/systemd/system/day.service" <<'UNIT'
[Unit]
After=multi-user.target
SuccessAction=exit-force
FailureAction=exit-force

[Service]
Type=oneshot
ExecStart=/exchange/inside.sh
StandardOutput=append:/exchange/log
StandardError=append:/exchange/log
UNIT
  # Started by a timer, so that the day is no part of the boot, whose end services wait for.
  printf '[Timer]\nOnActiveSec=0\nAccuracySec=1us\n' >"$root/etc/systemd/system/day.timer"
  mkdir -p "$root/etc/systemd/system/timers.target.wants"
  ln -s /etc/systemd/system/day.timer "$root/etc/systemd/system/timers.target.wants/"
  # There is no network to wait for.
  ln -s /dev/null "$root/etc/systemd/system/systemd-networkd-wait-online.service"
  timeout --kill-after=10 "$DAY_MAX" systemd-nspawn --quiet --register=no --keep-unit --private-network \
    --console=read-only --bind="$exchange:/exchange" --boot --directory="$root" \
    </dev/null >"$scratch/console" 2>&1 || true
  if [[ ! -s $exchange/log ]]; then
    tail -30 "$scratch/console"
    printf 'NOT TRIED: the service under systemd, which this machine does not boot in a container\n'
    check_deb_plain
  fi
  cat "$exchange/log" 2>/dev/null || true
  [[ $(tail -n 1 "$exchange/log" 2>/dev/null) == "the day is over" ]] || die "the day in the container went wrong"
}

# The same package in a plain root, without systemd.
check_deb_plain() {
  rm -rf --one-file-system "$root"
  mkdir -p "$root/exchange"
  tar -C "$root" -xf "$BASE"
  cp -a "$exchange/." "$root/exchange/"
  # shellcheck disable=SC2016 # expanded by the shell inside
  unshare --mount --net --pid --fork --kill-child bash -euo pipefail -c \
    'ip link set lo up; mount --bind /dev "$0/dev"; exec chroot "$0" /exchange/plain.sh' "$root" >"$exchange/log" 2>&1 || true
}

# What a container engine gives the image: the program and its configuration, the usual files below /proc and /dev,
# read-only, no capability, a user without a name.
check_static() {
  local binary=$1 root=$scratch/empty
  grep -q INTERP <<<"$(readelf --program-headers "$binary")" && die "$binary needs a loader"
  grep -q NEEDED <<<"$(readelf --dynamic "$binary")" && die "$binary needs libraries"
  mkdir -p "$root"/{etc/turnpike,proc,dev}
  touch "$root"/dev/{null,random,urandom}
  cp "$binary" "$root/turnpike"
  cp etc/turnpike.toml "$root/etc/turnpike/"
  export TURNPIKE_TEST_SECRET=a-secret-of-the-package-test LOG=$scratch/static.log
  unshare --mount-proc --net --pid --fork --kill-child bash -euo pipefail -s -- "$root" "$NOBODY" <<'INSIDE' ||
root=$1 user=$2
client=("$root/turnpike" load --secret "$TURNPIKE_TEST_SECRET" --duration 2s --rate 500 --allocations 4 --max-loss 0)
ip link set lo up
mount --bind "$root" "$root"
mount -t proc proc "$root/proc"
for device in null random urandom; do mount --bind "/dev/$device" "$root/dev/$device"; done
mount -o remount,bind,ro "$root"
TURNPIKE__AUTH__SECRETS="[\"$TURNPIKE_TEST_SECRET\"]" TURNPIKE__RELAY__ALLOW_LOOPBACK_PEERS=true \
  chroot --userspec="$user:$user" "$root" /turnpike run -c /etc/turnpike/turnpike.toml 2>"$LOG" &
server=$!
for ((tenth = 0; tenth < 100; tenth++)); do
  chroot --userspec="$user:$user" "$root" /turnpike status >/dev/null 2>&1 && break
  sleep 0.1
done
chroot --userspec="$user:$user" "$root" /turnpike status >/dev/null
[[ $(awk '$1 == "Uid:" { print $2 }' "/proc/$server/status") == "$user" ]]
[[ $(awk '$1 == "CapEff:" { print $2 }' "/proc/$server/status") == 0000000000000000 ]]
client_relays() { "${client[@]}" "$1" >"$LOG.client" || { cat "$LOG.client"; exit 1; }; }
client_relays turn:127.0.0.1:3478
client_relays "turn:127.0.0.1:3478?transport=tcp"
kill -TERM "$server"
wait "$server"
INSIDE
    die "the static binary: $(cat "$scratch/static.log")"
}

scratch=$(mktemp -d)
check_units
check_user
case ${1:-} in
  "") ;;
  --unit) exit 0 ;;
  *) die "unknown option $1; see the head of this file" ;;
esac
((EUID == 0)) || die "namespaces and debootstrap need root"
deb=$(newest deb)
check_sums
check_rpm "$(newest rpm)"
check_static "$TARGET/packages/turnpike-static"
fetch_base
check_deb "$deb"
