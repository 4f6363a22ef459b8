# turnpike as a container image: one static binary and its configuration, nothing else.
#
#   docker build -t turnpike .
#   docker run --network host --read-only --cap-drop ALL -e TURNPIKE__AUTH__SECRETS='["..."]' turnpike
#
# Use the host's network: a relay needs thousands of UDP ports, and one that sits behind the engine's address
# translation sees neither its clients' addresses nor its own. compose.yaml beside this shows a whole service.

FROM rust:1.95-bookworm AS build
WORKDIR /src
COPY . .
# Linked with libc inside. Names are looked up in /etc/hosts and by DNS.
RUN cargo rustc --release --locked --bin turnpike -- -C target-feature=+crt-static \
 && strip --strip-debug -o /turnpike target/release/turnpike \
 && ! readelf --program-headers /turnpike | grep INTERP \
 && packaging/third-party.sh > /THIRD-PARTY.txt

FROM scratch
COPY --from=build /turnpike /turnpike
COPY --from=build /THIRD-PARTY.txt /src/LICENSE-MIT /src/LICENSE-APACHE /usr/share/doc/turnpike/
COPY etc/turnpike.toml /etc/turnpike/turnpike.toml
# No name is needed. For ports below 1024 either set net.ipv4.ip_unprivileged_port_start on the host, or run it with
# --user 0 --cap-drop ALL --cap-add NET_BIND_SERVICE.
USER 65532:65532
# Clients by UDP and TCP, by TLS; relayed ports are 49152-65535/udp. The pages and the admin part listen on 127.0.0.1.
EXPOSE 3478/udp 3478/tcp 5349/tcp
# TERM drains for drain_timeout, a minute unless configured: give the engine more, `docker stop --time 75`.
STOPSIGNAL SIGTERM
# Asks the admin part, as it is configured by default.
HEALTHCHECK --interval=30s --timeout=5s --start-period=5s CMD ["/turnpike", "status"]
ENTRYPOINT ["/turnpike"]
CMD ["run", "-c", "/etc/turnpike/turnpike.toml"]
