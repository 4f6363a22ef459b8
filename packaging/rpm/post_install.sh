# As the distribution has decided for new services; started only by the administrator.
if [ "$1" -eq 1 ]; then
    # Once: afterwards it is the administrator's to decide.
    chown root:turnpike /etc/turnpike && chmod 0750 /etc/turnpike || :
    if command -v systemctl >/dev/null; then
        systemctl --no-reload preset turnpike.service || :
    fi
fi
