#!/bin/sh
# Checks that the named tools are available. Installs Chromium, promtool, openssl, curl and the gateways (nginx, Caddy,
# HAProxy) with apt-get as root; otherwise reports in one line what is missing and how to get it.
set -eu

# Debian installs some programs outside the PATH of users.
PATH="$PATH:/usr/local/sbin:/usr/sbin"

missing() {
    echo "Keymark needs $1: $2." >&2
    exit 1
}

has() {
    command -v "$1" >/dev/null 2>&1
}

# Installs a package without starting its service: the tests start the programs themselves, and a service would use
# their ports.
install() {
    { has apt-get && [ "$(id -u)" = 0 ]; } || missing "$2 for the tests" "$3"
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 1' HUP INT TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
    fi
    { apt-get update && apt-get install --yes --no-install-recommends "$1"; } >&2 ||
        missing "$2 for the tests" 'apt-get cannot install it, see above'
    ! has systemctl || systemctl --quiet disable "$1" 2>/dev/null || true
}

for tool in "$@"; do
    case "$tool" in
    cargo)
        has cargo || missing 'Rust' 'install it with rustup, https://rustup.rs'
        wanted=$(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml")
        found=$(rustc --version | cut -d' ' -f2)
        oldest=$(printf '%s\n%s\n' "$wanted" "$found" | sort -V | head -n 1)
        [ "$oldest" = "$wanted" ] || missing "Rust $wanted or newer, but found $found" 'update it, for example with rustup'
        ;;
    node)
        has node || missing 'Node.js 20.19 or newer' 'install it from https://nodejs.org or with your package manager'
        node -e 'const [a, b] = process.versions.node.split("."); process.exit(a > 20 || (a == 20 && b >= 19) ? 0 : 1)' ||
            missing "Node.js 20.19 or newer, but found $(node --version)" 'install a newer one from https://nodejs.org'
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
        has promtool || install prometheus promtool 'install it (apt-get install prometheus)'
        ;;
    chromium)
        [ -x "${KEYMARK_CHROMIUM:-/usr/bin/chromium}" ] ||
            install chromium Chromium 'install it (apt-get install chromium), or set KEYMARK_CHROMIUM to where it is'
        ;;
    buildah)
        has buildah || install buildah buildah 'install it (apt-get install buildah)'
        ;;
    systemd-analyze)
        has systemd-analyze || install systemd systemd-analyze 'install it (apt-get install systemd)'
        ;;
    openssl | curl | nginx | caddy | haproxy)
        has "$tool" || install "$tool" "$tool" "install it (apt-get install $tool)"
        ;;
    esac
done
