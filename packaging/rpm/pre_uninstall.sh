# Removed, not upgraded.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
    systemctl --no-reload disable --now turnpike.service turnpike.socket || :
fi
