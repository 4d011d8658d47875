#!/bin/sh
# Runs the benchmarks, and writes docs/benchmarks.md and its picture from what they report. A part that fails, or takes
# longer than ten minutes, does not stop the others. With arguments, runs one benchmark, or a part of it, and only prints:
# `scripts/bench.sh peers`, `scripts/bench.sh peers search`. `scripts/bench.sh replace peers:search fanout` measures
# these parts again, and keeps what the run before reported of the others.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
all="ratios:verification ratios:tenants ratios:gateway ratios:tls ratios:flood ratios:heavy ratios:silent ratios:tokens
    ratios:systems peers:systems peers:search peers:memory fanout search:embedded search:mongodb operations:embedded
    operations:mongodb revocation:barrier revocation:instances revocation:waits revocation:embedded revocation:mongodb
    stall restarts usage:embedded usage:mongodb memory documents enumeration"

reported=$PWD/target/benchmarks
mkdir -p "$reported"

case ${1:-} in
"")
    rm -f "$reported"/*
    parts=$all
    ;;
replace)
    shift
    parts=$*
    ;;
*)
    bench=$1
    shift
    exec $cargo bench --locked --bench "$bench" -- "$@"
    ;;
esac

$cargo bench --locked --no-run
for part in $parts; do
    bench=${part%%:*}
    of=${part#"$bench"}
    rm -f "$reported/$part"
    began=$(date +%s)
    # shellcheck disable=SC2086 # No argument if the part has no name.
    KEYMARK_BENCH_LINES="$reported/$part.part" timeout 600 $cargo bench --quiet --locked --bench "$bench" -- ${of#:} &&
        mv "$reported/$part.part" "$reported/$part"
    echo "$part: $(($(date +%s) - began)) s"
    rm -f "$reported/$part.part"
done
failed=
: >"$reported/lines"
for part in $all; do
    if [ -f "$reported/$part" ]; then
        cat "$reported/$part" >>"$reported/lines"
    else
        failed="$failed $part"
    fi
done
# shellcheck disable=SC2086 # One argument for each.
KEYMARK_BENCH_LINES="$reported/lines" $cargo bench --quiet --locked --bench report -- $failed
if [ -n "$failed" ]; then
    echo "These parts failed:$failed. The results of the others are in docs/benchmarks.md." >&2
    exit 1
fi
