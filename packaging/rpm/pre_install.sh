# The user has to be there before its files.
if ! getent passwd turnpike >/dev/null; then
    printf 'u turnpike - "STUN and TURN relay" /var/lib/turnpike\n' | systemd-sysusers - || exit 1
fi
