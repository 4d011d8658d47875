#!/bin/sh
# Installs cargo-deny into .tools/. Does nothing if this version is already there.
set -eu

version=0.20.2

cd "$(dirname "$0")/.."
root="$PWD/.tools/cargo-deny"
if [ "$("$root/bin/cargo-deny" --version 2>/dev/null || true)" = "cargo-deny $version" ]; then
    exit 0
fi

mkdir -p "$root"
if ! cargo install --quiet --locked --root "$root" --version "$version" cargo-deny; then
    echo "scripts/cargo-deny.sh: cannot install cargo-deny $version: see above." >&2
    exit 1
fi
