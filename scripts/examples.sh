#!/bin/sh
# Installs what the Python example needs into .tools/examples, with the versions and hashes in its requirements.txt, and
# prints the path of its Python.
set -eu

cd "$(dirname "$0")/.."
requirements=docs/examples/requirements.txt
installed=.tools/examples
if ! cmp -s "$requirements" "$installed/requirements.txt"; then
    rm -rf "$installed"
    python3 -m venv "$installed" >&2
    "$installed/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes --only-binary=:all: \
        --requirement "$requirements" >&2
    # Copied last, so that an interrupted installation begins again.
    cp "$requirements" "$installed/requirements.txt"
fi
echo "$PWD/$installed/bin/python"
