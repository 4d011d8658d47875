#!/bin/sh
# Says in one line what is missing of the named tools, and how to get it. Chromium is installed where that can be done.
set -eu

missing() {
    echo "Keymark needs $1: $2." >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

for tool in "$@"; do
    case "$tool" in
    cargo)
        has cargo || missing 'Rust' 'install it with rustup, https://rustup.rs'
        wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
        found=$(rustc --version | cut -d' ' -f2)
        oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
        [ "$oldest" = "$wanted" ] || missing "Rust $wanted or newer, and this is $found" 'run: rustup update stable'
        ;;
    node)
        has node || missing 'Node.js 20.19 or newer' 'install it from https://nodejs.org or with your package manager'
        node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
            missing "Node.js 20.19 or newer, and this is $(node --version)" 'install a newer one from https://nodejs.org'
        ;;
    npm)
        has npm || missing 'npm' 'it comes with Node.js; install it with your package manager'
        ;;
    python3)
        has python3 || missing 'python3 for the tests' 'install it with your package manager'
        ;;
    pip)
        python3 -m pip --version >/dev/null 2>&1 ||
            missing 'pip for the tests' 'install it with your package manager (python3-pip)'
        ;;
    spin)
        has spin || missing 'SPIN for the model' 'install it with your package manager (spin)'
        ;;
    cc)
        has cc || missing 'a C compiler for the model' 'install one as cc with your package manager (gcc)'
        ;;
    promtool)
        if ! has promtool; then
            if has apt-get && [ "$(id -u)" = 0 ]; then
                { apt-get update && apt-get install --yes --no-install-recommends prometheus; } >&2 ||
                    missing 'promtool for the tests' 'apt-get could not install it: see above'
            else
                missing 'promtool for the tests' 'install it (apt-get install prometheus)'
            fi
        fi
        ;;
    chromium)
        if [ ! -x "${KEYMARK_CHROMIUM:-/usr/bin/chromium}" ]; then
            if has apt-get && [ "$(id -u)" = 0 ]; then
                { apt-get update && apt-get install --yes --no-install-recommends chromium; } >&2 ||
                    missing 'Chromium for the tests' 'apt-get could not install it: see above'
            else
                missing 'Chromium for the tests' \
                    'install it (apt-get install chromium), or set KEYMARK_CHROMIUM to where it is'
            fi
        fi
        ;;
    esac
done
