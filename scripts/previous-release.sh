#!/bin/sh
# Builds the release before this one, from the commit that CHANGELOG.md names for it, and prints the path of its binary.
set -eu

cd "$(dirname "$0")/.."
commit=$(sed -n 's/^Built from commit `\([0-9a-f]*\)`\.$/\1/p' CHANGELOG.md | head -n 1)
if ! git cat-file -e "$commit^{commit}" 2>/dev/null; then
    echo "scripts/previous-release.sh: commit ${commit:-of the release before} not found: fetch the whole history." >&2
    exit 1
fi

source="$PWD/target/previous/$commit"
if [ ! -x "$source/target/debug/keymark" ]; then
    # A build of Keymark embeds the console, and these tests do not use it.
    mkdir -p "$source/console/dist"
    git archive "$commit" | tar -x -C "$source"
    (cd "$source" && CARGO_TARGET_DIR="$source/target" "${CARGO:-cargo}" build --quiet --locked) >&2
fi
echo "$source/target/debug/keymark"
