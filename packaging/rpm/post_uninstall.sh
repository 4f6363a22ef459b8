if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    # Upgraded: the new server replaces a running one, which drains first.
    [ "$1" -eq 0 ] || systemctl try-restart turnpike.service || :
fi
