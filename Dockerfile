# syntax=docker/dockerfile:1

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
COPY . .
# The image's toolchain is the pinned one; rustup need not fetch another.
ENV RUSTUP_TOOLCHAIN=1.95.0
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --locked --release && cp target/release/baton /usr/local/bin/baton

FROM debian:bookworm-slim
# git: agents work in repositories. procps: looking at what runs. tini: takes in processes that agents leave.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates git procps tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --uid 10001 --create-home baton \
    && install --directory --owner baton --group baton --mode 0700 /data /workspace
COPY --from=build /usr/local/bin/baton /usr/local/bin/baton
COPY LICENSE-APACHE LICENSE-MIT /usr/share/doc/baton/
USER baton
ENV BATON_DATA_DIR=/data
VOLUME /data
EXPOSE 7420
STOPSIGNAL SIGTERM
# Liveness needs no token. (bash's own TCP: the image has no HTTP client.)
HEALTHCHECK --interval=10s --timeout=5s --start-period=20s --retries=3 CMD ["bash", "-c", \
    "exec 3<>/dev/tcp/127.0.0.1/7420 && printf 'GET /healthz HTTP/1.1\\r\\nHost: localhost\\r\\nConnection: close\\r\\n\\r\\n' >&3 && grep -q '^HTTP/1.1 200' <&3"]
ENTRYPOINT ["tini", "--", "baton"]
# Beyond loopback it asks for TLS: mount a certificate and add --tls-cert and --tls-key, or add --insecure
# where the network is yours alone.
CMD ["serve", "--listen", "0.0.0.0:7420"]
