if [ -d /run/systemd/system ]; then
    systemctl daemon-reload || :
    # Upgraded: the new server replaces a running one, which drains first. That is not waited for.
    [ "$1" -eq 0 ] || systemctl --no-block try-restart turnpike.service || :
fi
# The directory is in no package's list: it goes with the last of what is in it.
if [ "$1" -eq 0 ]; then
    rmdir /etc/turnpike 2>/dev/null || :
fi
