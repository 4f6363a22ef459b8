# As the distribution has decided for new services; started only by the administrator.
if [ "$1" -eq 1 ]; then
    if command -v systemctl >/dev/null; then
        systemctl --no-reload preset turnpike.service || :
    fi
fi
