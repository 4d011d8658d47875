#!/bin/sh
# Checks docs/kubernetes/ against the schemas of Kubernetes, and docs/systemd/ with systemd-analyze. Nothing is deployed.
set -eu

cd "$(dirname "$0")/.."
version=1.37.0
installed="$PWD/.tools/kubernetes-validate-$version"
if [ ! -x "$installed/bin/kubernetes-validate" ]; then
    rm -rf "$installed"
    python3 -m venv "$installed"
    "$installed/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary=:all: \
        "kubernetes-validate==$version"
fi
"$installed/bin/python" scripts/manifests-test.py

# The unit names an installed binary.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
sed 's#/usr/bin/keymark#/bin/true#' docs/systemd/keymark.service >"$work/keymark.service"
systemd-analyze verify "$work/keymark.service"
systemd-analyze security --offline=true --threshold=25 "$work/keymark.service" | tail -n 1
