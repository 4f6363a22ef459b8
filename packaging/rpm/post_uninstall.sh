if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    # Upgraded: the new server replaces a running one, which drains first. That is not waited for.
    [ "$1" -eq 0 ] || systemctl --no-block try-restart turnpike.service || :
fi
