#!/bin/bash
# A day of the packaged service under systemd, in a container: what tests/packages.sh starts there.
#
# In /exchange: old.deb and new.deb, the same at two versions; cert.pem and key.pem. Ends with the line "the day is over".
set -euo pipefail

readonly SECRET=a-secret-of-the-package-test
readonly CONFIG=/etc/turnpike/turnpike.toml
readonly WRONG=/etc/turnpike/wrong.toml
readonly DROP_IN=/run/systemd/system/turnpike.service.d
# As long as anything may take, in tenths of a second.
readonly PATIENCE=250

step() { printf -- '- %s\n' "$*"; }

die() {
  printf 'FAILED: %s\n' "$*"
  systemctl status --no-pager -l turnpike.service || true
  journalctl --no-pager -n 60 || true
  exit 1
}

trap 'die "line $LINENO: $BASH_COMMAND"' ERR

expect() {
  local what=$1 wanted=$2 found=$3
  # shellcheck disable=SC2053 # what is wanted may be a pattern
  [[ $found == $wanted ]] || die "$what: $found in place of $wanted"
}

# Waits until a command succeeds.
eventually() {
  local tenth
  for ((tenth = 0; tenth < PATIENCE; tenth++)); do
    "$@" && return 0
    sleep 0.1
  done
  die "never: $*"
}

property() { systemctl show --property "$1" --value "${2:-turnpike.service}"; }

of_process() { awk -v key="$1:" '$1 == key { print $2 }' "/proc/$(property MainPID)/status"; }

# The journal has it, however late.
logged() {
  journalctl --sync
  grep -qF -- "$1" <<<"$(journalctl --no-pager -u turnpike.service)"
}

restarts_are() { (($(property NRestarts) == $1)) && [[ $(property ActiveState) == active ]]; }

# The sockets of a port: their inodes, from /proc/net.
sockets() {
  local table=/proc/net/$1 port
  printf -v port ':%04X' "$2"
  awk -v port="$port$" '$2 ~ port { print $10 }' "$table" "${table}6" | sort
}

# Asks for a Binding by UDP. The answer is waited for later, on file 9.
ask() {
  exec 9<>/dev/udp/127.0.0.1/3478
  printf '\x00\x01\x00\x00\x21\x12\xa4\x42packages-day' >&9
}

answered() {
  local kind
  kind=$(timeout 10 dd bs=1500 count=1 <&9 2>/dev/null | od -An -tx1 -N2)
  exec 9>&-
  expect "the answer to a Binding" " 01 01" "$kind"
}

http() {
  local line
  exec 8<>/dev/tcp/127.0.0.1/9641
  printf 'GET %s HTTP/1.1\r\nHost: 127.0.0.1:9641\r\nConnection: close\r\n\r\n' "$1" >&8
  IFS= read -r line <&8
  cat <&8 >/dev/null
  exec 8>&-
  printf '%s' "${line//$'\r'/}"
}

# Relays by each transport that is named; every payload is verified by the client.
relay() {
  local uri
  for uri; do
    turnpike load "$uri" --secret "$SECRET" --insecure --duration 2s --rate 500 --allocations 4 --max-loss 0 \
      >/tmp/load 2>&1 || die "$uri: $(cat /tmp/load)"
  done
}

drop_in() {
  mkdir -p "$DROP_IN"
  cat >"$DROP_IN/$1.conf"
  systemctl daemon-reload
}

readonly EVERY=("turn:127.0.0.1:3478" "turn:127.0.0.1:3478?transport=tcp" "turns:127.0.0.1:5349")

step "a fresh install starts, sandboxed, and nobody can allocate"
dpkg -i /exchange/old.deb
expect "the service" active "$(systemctl is-active turnpike.service)"
expect "at boot" enabled "$(systemctl is-enabled turnpike.service)"
expect "the sockets at boot" disabled "$(systemctl is-enabled turnpike.socket || true)"
expect "the status" "serving: udp 127.0.0.1:3478*" "$(property StatusText)"
expect "its user" turnpike "$(stat -c %U "/proc/$(property MainPID)")"
# At one byte no core is written, and none handed to a program.
expect "its core files" "1 1" "$(awk '/^Max core file size/ { print $5, $6 }' "/proc/$(property MainPID)/limits")"
expect "its system call filter" 2 "$(of_process Seccomp)"
expect "new privileges" 1 "$(of_process NoNewPrivs)"
expect "its capabilities" 0000000000000400 "$(of_process CapEff)"
expect "who reads the configuration" "root:turnpike 750" "$(stat -c '%U:%G %a' /etc/turnpike)"
expect "who reads the file" "root:turnpike 640" "$(stat -c '%U:%G %a' $CONFIG)"
expect "the state" "turnpike 700" "$(stat -c '%U %a' /var/lib/turnpike)"
ask && answered
turnpike status >/dev/null || die "status"
if turnpike load "${EVERY[0]}" --secret "$SECRET" --duration 1s --allocations 1 >/tmp/load 2>&1; then
  die "a stranger has relayed"
fi
grep -q 401 /tmp/load || die "a stranger was not refused but: $(cat /tmp/load)"
logged 'every Allocate is answered 401; add secrets' || die "the log does not say what to add"
for file in /usr/bin/turnpike /usr/share/man/man1/turnpike.1.gz /usr/share/man/man5/turnpike.toml.5.gz \
  /usr/share/bash-completion/completions/turnpike /usr/share/doc/turnpike/copyright; do
  [[ -s $file ]] || die "$file is not there"
done

step "a wrong configuration stops it for good, a corrected one relays by UDP, TCP and TLS"
install -d -m 750 -g turnpike /etc/turnpike/tls
install -m 640 -g turnpike /exchange/*.pem /etc/turnpike/tls/
echo 'nonsense = 1' >"$WRONG"
drop_in wrong <<<"[Service]
ExecStart=
ExecStart=/usr/bin/turnpike run -c $WRONG"
systemctl restart turnpike.service && die "it started with nonsense"
expect "the exit code" 78 "$(property ExecMainStatus)"
expect "afterwards" failed "$(property ActiveState)"
rm -r "$DROP_IN" "$WRONG"
sed -i -e "s|^# secrets = .*|secrets = [\"$SECRET\"]|" -e 's|^# allow_loopback_peers = .*|allow_loopback_peers = true|' \
  -e 's|^# tls = \[\]|tls = ["0.0.0.0:5349"]|' -e 's|^# cert = .*|cert = "tls/cert.pem"|' \
  -e 's|^# key = .*|key = "tls/key.pem"|' "$CONFIG"
systemctl daemon-reload
systemctl reset-failed turnpike.service
systemctl start turnpike.service || die "the corrected configuration"
relay "${EVERY[@]}"
expect "readyz" "HTTP/1.1 200*" "$(http /readyz)"
expect "metrics" "HTTP/1.1 200*" "$(http /metrics)"
systemctl reload turnpike.service
eventually eval '[[ $(property StatusText) == "serving by the configuration read last" ]]'

step "no system call but those of the unit: one more would kill it"
drop_in strict <<<"[Service]
SystemCallErrorNumber=kill"
drop_in zz-denied <<<"[Service]
Type=oneshot
Restart=no
ExecStart=
ExecStart=/usr/bin/nice -n 5 /bin/true"
systemctl restart turnpike.service && die "a denied system call killed nothing"
expect "the signal for a denied call" 31 "$(property ExecMainStatus)"
rm "$DROP_IN/zz-denied.conf"
systemctl daemon-reload
systemctl reset-failed turnpike.service
systemctl start turnpike.service
relay "${EVERY[@]}"
systemctl reload turnpike.service
eventually eval '[[ $(property StatusText) == "serving by the configuration read last" ]]'
expect "metrics" "HTTP/1.1 200*" "$(http /metrics)"
turnpike credentials --user day -c "$CONFIG" >/dev/null || die "credentials"
expect "restarts" 0 "$(property NRestarts)"
turnpike drain >/dev/null
# A drained server ends by itself, and systemd starts the next.
eventually restarts_are 1
expect "how it ended" exit-code:0 "exit-code:$(property ExecMainStatus)"
[[ $(journalctl --no-pager -u turnpike.service | grep -c 'status=31/SYS') == 1 ]] || die "a system call was denied"
relay "${EVERY[@]}"

step "a crash loses no socket and no datagram"
rm -r "$DROP_IN"
systemctl daemon-reload
systemctl stop turnpike.service
systemctl reset-failed turnpike.service || true
systemctl start turnpike.service
expect "kept sockets" "[1-9]*" "$(property NFileDescriptorStore)"
udp=$(sockets udp 3478) tcp=$(sockets tcp 3478)
systemctl kill --signal=KILL turnpike.service
eventually eval '[[ $(property ActiveState) != active ]]'
ask
eventually restarts_are 1
answered
expect "the UDP sockets" "$udp" "$(sockets udp 3478)"
expect "the TCP sockets" "$tcp" "$(sockets tcp 3478)"
relay "${EVERY[@]}"

step "a listener that is configured no more is not kept"
sed -i 's|^tls = .*|tls = []|' "$CONFIG"
kept=$(property NFileDescriptorStore)
systemctl kill --signal=KILL turnpike.service
eventually restarts_are 2
expect "the sockets of TLS" "" "$(sockets tcp 5349)"
(($(property NFileDescriptorStore) < kept)) || die "the store still has $kept"
sed -i 's|^tls = .*|tls = ["0.0.0.0:5349"]|' "$CONFIG"

step "a server that does not move is replaced"
drop_in watchdog <<<"[Service]
WatchdogSec=2
TimeoutAbortSec=2"
systemctl restart turnpike.service
# systemctl restart does not count.
expect "restarts" 0 "$(property NRestarts)"
kill -STOP "$(property MainPID)"
eventually restarts_are 1
logged 'Watchdog timeout' || die "it was not the watchdog"
relay "${EVERY[@]}"
rm -r "$DROP_IN"
systemctl daemon-reload

step "a stop waits for the last call, beyond the unit's own patience"
drop_in hasty <<<"[Service]
TimeoutStopSec=1"
systemctl restart turnpike.service
turnpike load "${EVERY[0]}" --secret "$SECRET" --duration 5s --rate 200 --allocations 2 --max-loss 0 >/tmp/load 2>&1 &
load=$!
eventually eval '[[ $(turnpike status) == *"allocations   2 now"* ]]'
systemctl stop turnpike.service
wait "$load" || die "the calls did not go on: $(cat /tmp/load)"
expect "how it ended" success "$(property Result)"
logged 'stopping reason="drained"' || die "it was not drained"
rm -r "$DROP_IN"
systemctl daemon-reload
systemctl start turnpike.service

step "an upgrade restarts the service and keeps the configuration"
before=$(property MainPID)
sum=$(md5sum <"$CONFIG")
dpkg -i /exchange/new.deb
expect "the version" '*+test' "$(dpkg-query -W -f '${Version}' turnpike)"
expect "the configuration" "$sum" "$(md5sum <"$CONFIG")"
# dpkg does not wait for the drain.
eventually eval "[[ \$(property ActiveState) == active && \$(property MainPID) != $before ]]"
relay "${EVERY[@]}"

step "sockets of systemd's, port 443 without a capability"
systemctl stop turnpike.service
mkdir -p /run/systemd/system/turnpike.socket.d
printf '[Socket]\nListenStream=0.0.0.0:443\nFreeBind=no\n' >/run/systemd/system/turnpike.socket.d/https.conf
drop_in bare <<<"[Service]
CapabilityBoundingSet=
AmbientCapabilities=
PrivateUsers=yes"
systemctl enable --now turnpike.socket
systemctl start turnpike.service && die "a socket that nobody configured was taken"
expect "the exit code" 78 "$(property ExecMainStatus)"
logged 'add "0.0.0.0:443" to listen.tcp, or listen.tls' || die "the log does not name the key"
sed -i 's|^tls = .*|tls = ["0.0.0.0:5349", "0.0.0.0:443"]|' "$CONFIG"
systemctl reset-failed turnpike.service turnpike.socket || true
systemctl start turnpike.socket turnpike.service
expect "its capabilities" 0000000000000000 "$(of_process CapEff)"
relay "${EVERY[@]}" turns:127.0.0.1:443
http=$(sockets tcp 443)
systemctl restart turnpike.service
expect "the socket of systemd's" "$http" "$(sockets tcp 443)"
relay turns:127.0.0.1:443
rm -r "$DROP_IN" /run/systemd/system/turnpike.socket.d

step "removed, the configuration stays"
echo key >/etc/turnpike/secret
again=$(md5sum <"$CONFIG")
dpkg -r turnpike
expect "the service" inactive "$(systemctl is-active turnpike.service || true)"
[[ -e $CONFIG && ! -e /usr/bin/turnpike ]] || die "removal took the configuration, or left the program"

step "installed again, it serves as before; what was disabled is not started"
dpkg -i /exchange/new.deb
# The sockets were enabled above.
eventually eval '[[ $(property ActiveState) == active ]]'
expect "the sockets" active "$(systemctl is-active turnpike.socket)"
expect "the configuration" "$again" "$(md5sum <"$CONFIG")"
relay "${EVERY[@]}"
systemctl disable --now turnpike.socket turnpike.service
dpkg -r turnpike
dpkg -i /exchange/new.deb
expect "a job for it" "" "$(systemctl list-jobs --no-legend | grep turnpike || true)"
expect "what was disabled" inactive "$(systemctl is-active turnpike.service || true)"

step "purged, nothing stays"
dpkg -P turnpike
# The journal and the list of users remember it.
left=$(find /etc /usr /var /run -name '*turnpike*' -not -path '/var/log/*' -not -path '/run/systemd/units/*' -not -path '/run/log/*')
expect "what is left" "" "$left"

echo "the day is over"
