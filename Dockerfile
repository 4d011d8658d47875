# syntax=docker/dockerfile:1
# The image holds the binary and certificate authorities, and nothing else: no shell, no package manager, no C library.
#
#   docker build --build-arg "SOURCE=$(git log -1 --format='%H %cs')" --tag keymark .
#
# The binary is linked statically with glibc, whose resolver then reads /etc/hosts and DNS, and loads no modules.
# `make image-test` builds the last stage from a binary that is already there (SERVER) and runs it.

# A stage or an image with what scripts/image-root.sh makes in /out.
ARG SERVER=build
# What the image is built on.
ARG BASE=scratch

FROM node:20-bookworm-slim AS console
WORKDIR /keymark
COPY console/package.json console/package-lock.json console/
COPY clients/typescript/package.json clients/typescript/package-lock.json clients/typescript/
RUN --mount=type=cache,target=/root/.npm \
    npm ci --no-audit --no-fund --prefix clients/typescript && npm ci --no-audit --no-fund --prefix console
COPY schema.graphql biome.json ./
COPY clients/typescript clients/typescript
COPY console console
RUN npm run build --prefix console

FROM rust:1.95-bookworm AS build
WORKDIR /keymark
# Before the source, so that a change to it downloads nothing.
COPY rust-toolchain.toml ./
RUN cargo --version
COPY . .
COPY --from=console /keymark/console/dist console/dist
# The commit and the date of the source, which the context does not contain, for `keymark --version`.
ARG SOURCE=
RUN [ -z "$SOURCE" ] || echo "$SOURCE" >source-version.txt
# Dependencies are cached with their builds, until the cache is pruned.
RUN --mount=type=cache,target=/usr/local/cargo/registry --mount=type=cache,target=/keymark/target \
    target="$(rustc -vV | sed -n 's/^host: //p')" && \
    RUSTFLAGS='-C target-feature=+crt-static' cargo build --locked --release --target "$target" && \
    scripts/image-root.sh "target/$target/release/keymark" /out

FROM ${SERVER} AS server

FROM ${BASE}
COPY --from=server /out/root/ /
# A new volume has the owner that /data has.
COPY --from=server --chown=10001:10001 /out/user/ /
USER 10001:10001
# The loopback of a container is reached from nowhere else. These addresses require TLS or KEYMARK_INSECURE_HTTP, and
# KEYMARK_VERIFIER_TOKEN or another way to state who may verify keys.
ENV KEYMARK_DATA_DIR=/data/keymark \
    KEYMARK_LISTEN=0.0.0.0:8080 \
    KEYMARK_VERIFY_LISTEN=0.0.0.0:8081
VOLUME /data
EXPOSE 8080 8081
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 CMD ["/keymark", "health"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["/keymark"]
CMD ["serve"]
