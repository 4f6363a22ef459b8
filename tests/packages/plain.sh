#!/bin/bash
# The packaged files where no systemd runs: installed, started by hand, upgraded, removed. What tests/packages.sh starts in
# a root of Debian's on a machine that boots no container.
#
# In /exchange: old.deb and new.deb, the same at two versions. Ends with the line "the day is over".
set -euo pipefail

readonly CONFIG=/etc/turnpike/turnpike.toml
# As long as the server may take to answer, in tenths of a second.
readonly PATIENCE=250

die() {
  printf 'FAILED: %s\n' "$*"
  exit 1
}

trap 'die "line $LINENO: $BASH_COMMAND"' ERR

mkdir -p /proc /run
mount -t proc proc /proc

echo "- installed, it starts and answers"
dpkg -i /exchange/old.deb
[[ $(stat -c '%U:%G %a' "$CONFIG") == "root:turnpike 640" ]] || die "$(stat -c '%U:%G %a' "$CONFIG")"
for file in /usr/bin/turnpike /usr/share/man/man1/turnpike.1.gz /usr/share/man/man5/turnpike.toml.5.gz \
  /usr/share/bash-completion/completions/turnpike /usr/share/doc/turnpike/copyright \
  /lib/systemd/system/turnpike.service; do
  [[ -s $file ]] || die "$file is not there"
done
setpriv --reuid=turnpike --regid=turnpike --clear-groups /usr/bin/turnpike run -c "$CONFIG" 2>/tmp/log &
server=$!
for ((tenth = 0; tenth < PATIENCE; tenth++)); do
  turnpike status >/dev/null 2>&1 && break
  sleep 0.1
done
turnpike status || die "it does not serve: $(cat /tmp/log)"
exec 9<>/dev/udp/127.0.0.1/3478
printf '\x00\x01\x00\x00\x21\x12\xa4\x42packages-day' >&9
answer=$(timeout 10 dd bs=1500 count=1 <&9 2>/dev/null | od -An -tx1 -N2)
[[ $answer == " 01 01" ]] || die "the answer to a Binding: $answer"
kill -TERM "$server"
wait "$server" || die "it ended with $?: $(cat /tmp/log)"

echo "- upgraded, the configuration stays"
echo '# mine' >>"$CONFIG"
dpkg -i /exchange/new.deb
[[ $(dpkg-query -W -f '${Version}' turnpike) == *+test ]] || die "the version"
[[ $(tail -n 1 "$CONFIG") == '# mine' ]] || die "the configuration was replaced"

echo "- removed, the configuration stays; purged, nothing does"
dpkg -r turnpike
[[ -e $CONFIG && ! -e /usr/bin/turnpike ]] || die "removal took the configuration, or left the program"
dpkg -P turnpike
left=$(find /etc /usr /var /run -name '*turnpike*' -not -path '/var/log/*')
[[ -z $left ]] || die "what is left: $left"

echo "the day is over"
