#!/bin/sh
# Builds dist/keymark-VERSION-OS-ARCHITECTURE.tar.gz and dist/SHA256SUMS. The same source, toolchain and system build the same
# bytes, in any folder: paths are replaced in the binary, and all times are the date of the source.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
export LC_ALL=C
umask 022

# As in build.rs: from the archive, or else from the clone.
source=$(cat source-version.txt)
case "$source" in '$Format'*) source=$(git log -1 --format='%H %cs') ;; esac
date="${source##* }T00:00:00Z"
SOURCE_DATE_EPOCH=$(date --date "$date" +%s)
export SOURCE_DATE_EPOCH

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
host=$(rustc -vV | sed -n 's/^host: //p')
name=keymark-$version-linux-${host%%-*}
target=${CARGO_TARGET_DIR:-$PWD/target}
home=${CARGO_HOME:-$HOME/.cargo}

export RUSTFLAGS="--remap-path-prefix=$home=/cargo --remap-path-prefix=$target=/target --remap-path-prefix=$PWD=/keymark"
export CFLAGS="-ffile-prefix-map=$home=/cargo -ffile-prefix-map=$target=/target -ffile-prefix-map=$PWD=/keymark"
$cargo build --locked --release
binary=$target/release/keymark

rm -rf dist
root=dist/$name
mkdir -p "$root/completions" "$root/man"
install -m 755 "$binary" "$root/keymark"
"$binary" completions bash >"$root/completions/keymark.bash"
"$binary" completions zsh >"$root/completions/_keymark"
"$binary" completions fish >"$root/completions/keymark.fish"
"$binary" man "$root/man"
# `keymark help COMMAND` has the pages of the commands.
rm -f "$root"/man/*-help.1 "$root"/man/*-help-*.1
node scripts/third-party.mjs "$root" "$host" "$date"
install -m 644 LICENSE README.md CHANGELOG.md schema.graphql docs/systemd/keymark.service "$root"
(cd "$root" && find . -type f ! -name SHA256SUMS | sort | xargs sha256sum >SHA256SUMS)

tar --create --directory dist --sort=name --format=gnu --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
    "$name" | gzip --no-name --best >"dist/$name.tar.gz"
rm -r "$root"
(cd dist && sha256sum "$name.tar.gz" >SHA256SUMS)
"$binary" --version
ls -l "dist/$name.tar.gz"
