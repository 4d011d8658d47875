#!/bin/sh
# Makes the root file system of the image in DIRECTORY/root, and what belongs to its user in DIRECTORY/user:
# `scripts/image-root.sh BINARY DIRECTORY`.
set -eu

binary=$1
root=$2/root
user=$2/user
# The image has no C library.
if readelf --program-headers "$binary" | grep -q INTERP; then
    echo "scripts/image-root.sh: $binary is linked dynamically: build it with RUSTFLAGS='-C target-feature=+crt-static'." >&2
    exit 1
fi
install -D -m 755 "$binary" "$root/keymark"
install -D -m 644 /etc/ssl/certs/ca-certificates.crt "$root/etc/ssl/certs/ca-certificates.crt"
# The mount point of the volume. Keymark creates its own directory in it, whose mode keeps others out.
mkdir -p "$user/data"
