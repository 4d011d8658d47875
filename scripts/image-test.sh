#!/bin/sh
# Builds the last stage of the Dockerfile from a binary that is linked statically, and runs it as the image's user, with
# buildah and without a daemon: `scripts/image-test.sh BINARY`.
#
# buildah's chroot isolation shares the network of this machine and keeps neither limits nor a read-only root. So the second
# start is one in a chroot whose root is mounted read-only, and everything listens on loopback.
set -eu

cd "$(dirname "$0")/.."
binary=$1
max_bytes=60000000
user=10001

if [ "$(id -u)" != 0 ]; then
    echo 'scripts/image-test.sh: buildah needs root for its chroot isolation: run it as root.' >&2
    exit 1
fi

work=$(mktemp -d)
b() {
    command=$1
    shift
    buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$command" "$@"
}
server=
finish() {
    [ -z "$server" ] || kill "$server" 2>/dev/null || true
    b rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap finish EXIT
trap 'exit 1' HUP INT TERM

# The last stage, from the binary instead of the stage that builds it.
scripts/image-root.sh "$binary" "$work/out"
container=$(b from scratch)
b copy --quiet "$container" "$work/out" /out >/dev/null
b commit --quiet "$container" localhost/keymark-server >/dev/null
mkdir "$work/context"
sed -n '1,/^ARG BASE/p; /^FROM \${SERVER}/,$p' Dockerfile >"$work/Dockerfile"
b bud --quiet --isolation chroot --format docker --build-arg SERVER=localhost/keymark-server \
    --file "$work/Dockerfile" --tag localhost/keymark "$work/context" >/dev/null

container=$(b from localhost/keymark)
root=$(b mount "$container")
[ "$(stat --format %u:%g "$root/data")" = $user:$user ]
# Without the mount points that buildah makes for a container.
files() {
    (cd "$root" && find . -type f ! -path './etc/host*' ! -path ./etc/resolv.conf ! -path './run/*' | LC_ALL=C sort)
}
printf '%s\n' ./etc/ssl/certs/ca-certificates.crt ./keymark >"$work/expected"
files | diff "$work/expected" - || {
    echo 'scripts/image-test.sh: the image holds other files than it should.' >&2
    exit 1
}
bytes=$(du --bytes --summarize "$root" | cut -f1)
echo "size: $bytes bytes"
[ "$bytes" -lt "$max_bytes" ]
b inspect --type image localhost/keymark >"$work/image.json"
python3 - "$work/image.json" <<'PYTHON'
import json, sys

config = json.load(open(sys.argv[1]))["Docker"]["config"]
assert config["User"] == "10001:10001", config["User"]
assert config["Volumes"] == {"/data": {}}, config["Volumes"]
assert config["Healthcheck"]["Test"] == ["CMD", "/keymark", "health"], config["Healthcheck"]
assert set(config["ExposedPorts"]) == {"8080/tcp", "8081/tcp"}, config["ExposedPorts"]
assert (config["Entrypoint"], config["Cmd"]) == (["/keymark"], ["serve"]), config
PYTHON

free_port() {
    python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])'
}
listen=127.0.0.1:$(free_port)
verify_listen=127.0.0.1:$(free_port)
variables="KEYMARK_DATA_DIR=/data/keymark KEYMARK_LISTEN=$listen KEYMARK_VERIFY_LISTEN=$verify_listen"

# Runs a command of the image as its user, with the volume that buildah keeps for the container.
in_image() {
    # shellcheck disable=SC2086,SC2046 # A variable is one word.
    b run --isolation chroot --user $user $(printf -- '--env %s ' $variables) \
        "$container" -- /keymark "$@"
}

# Serves with the root mounted read-only, and a volume of its own.
data="$work/data"
install -d -m 700 -o $user -g $user "$data"
read_only() {
    # shellcheck disable=SC2016,SC2086
    exec unshare --mount sh -c '
        set -e
        root=$1 data=$2 user=$3
        shift 3
        mount --bind "$root" "$root"
        mount --bind "$data" "$root/data"
        # Every runtime provides it: a static binary finds no getrandom() in its C library, and reads /dev/urandom.
        mkdir -p "$root/dev"
        mount --bind /dev "$root/dev"
        mount -o remount,ro,bind "$root"
        ! touch "$root/written" 2>/dev/null
        exec env -i "$@" "$(command -v chroot)" --userspec="$user:$user" "$root" /keymark serve
    ' sh "$root" "$data" "$user" $variables
}

# Waits until the server is ready, for a minute at most.
wait_until_ready() {
    for _ in $(seq 60); do
        kill -0 "$server" 2>/dev/null || break
        if in_image health >/dev/null 2>&1; then
            # Names are resolved although the image has no C library.
            in_image health --url "http://localhost:${listen#*:}"
            return
        fi
        sleep 1
    done
    cat "$work/log" >&2
    exit 1
}

end() {
    kill -TERM "$1"
    wait "$server" || true
    server=
}

in_image --version
in_image serve >"$work/log" 2>&1 &
server=$!
wait_until_ready
printf 'a password by pipe\n' | in_image operator add ada --permissions all --password-stdin >/dev/null

python3 - "$listen" "$verify_listen" <<'PYTHON'
import json, sys, urllib.request

listen, verify_listen = sys.argv[1:]


def post(url, body, token=None):
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    return json.load(urllib.request.urlopen(request, timeout=60))


def graphql(query, token=None, **variables):
    answer = post(f"http://{listen}/graphql", {"query": query, "variables": variables}, token)
    assert "errors" not in answer, answer
    return answer["data"]


def code(key):
    return post(f"http://{verify_listen}/v1/verify", {"apiKey": key})["code"]


sign_in = 'mutation ($p: String!) { signIn(username: "ada", password: $p) { token } }'
token = graphql(sign_in, p="a password by pipe")["signIn"]["token"]
created = graphql('mutation { createSystem(name: "Billing") { system { id } } }', token)
system = created["createSystem"]["system"]["id"]
key = graphql("mutation ($id: ID!) { generateKey(systemId: $id) { apiKey } }", token, id=system)["generateKey"]["apiKey"]
assert code(key) == "VALID", code(key)
revoke = "mutation ($id: ID!) { revokeKey(systemId: $id) { enforcement { state } } }"
assert graphql(revoke, token, id=system)["revokeKey"]["enforcement"]["state"] == "ENFORCED"
assert code(key) == "REVOKED", code(key)
with urllib.request.urlopen(f"http://{listen}/", timeout=60) as console:
    assert b"<title>Keymark" in console.read(), "no console"
print("served, signed in, generated, verified, revoked, refused")
PYTHON

# The server, not what runs it.
end "$(python3 - "$listen" <<'PYTHON'
import glob, os, sys

for folder in glob.glob("/proc/[0-9]*"):
    try:
        command = open(f"{folder}/cmdline", "rb").read().split(b"\0")[:2]
        variables = open(f"{folder}/environ", "rb").read().split(b"\0")
    except OSError:
        continue
    if command == [b"/keymark", b"serve"] and f"KEYMARK_LISTEN={sys.argv[1]}".encode() in variables:
        print(os.path.basename(folder))
PYTHON
)"
files | diff "$work/expected" -

(read_only) >"$work/log" 2>&1 &
server=$!
wait_until_ready
end "$server"
echo 'served with a read-only root'
