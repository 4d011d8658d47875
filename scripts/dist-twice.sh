#!/bin/sh
# Builds the release twice, from archives of the last commit in two folders, and checks that it has the same bytes and what it
# should contain.
set -eu

cd "$(dirname "$0")/.."
mkdir -p target
work=$(mktemp -d "$PWD/target/dist.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

for folder in one another/folder; do
    mkdir -p "$work/$folder"
    git archive HEAD | tar --extract --directory "$work/$folder"
    (unset CARGO_TARGET_DIR && ${MAKE:-make} --directory "$work/$folder" dist)
done
cd "$work"
cmp one/dist/SHA256SUMS another/folder/dist/SHA256SUMS
cmp one/dist/*.tar.gz another/folder/dist/*.tar.gz
(cd one/dist && sha256sum --quiet --check SHA256SUMS)

tar --extract --gzip --file one/dist/*.tar.gz
cd keymark-*/
sha256sum --quiet --check SHA256SUMS
./keymark --version
./keymark --version | grep --quiet --fixed-strings "($(git log -1 --format=%H | cut -c1-12) $(git log -1 --format=%cs))"
for file in LICENSE README.md THIRD-PARTY.txt completions/_keymark completions/keymark.bash completions/keymark.fish \
    man/keymark.1 man/keymark-operator-add.1 sbom.cdx.json schema.graphql; do
    [ -s "$file" ] || { echo "scripts/dist-twice.sh: $file is not in the tar ball." >&2; exit 1; }
done
# No path of this machine.
! grep --quiet --binary-files=text --fixed-strings -e "$work" -e "$HOME/" keymark
echo 'the same bytes from two folders'
