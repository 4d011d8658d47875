#!/bin/sh
# Runs the benchmarks, and writes docs/benchmarks.md and its picture from what they report. A part that fails, or takes
# longer than ten minutes, does not stop the others. With arguments, runs one benchmark, or a part of it, and only prints:
# `scripts/bench.sh peers`, `scripts/bench.sh peers search`.
set -eu

cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}

if [ $# -gt 0 ]; then
    bench=$1
    shift
    exec $cargo bench --locked --bench "$bench" -- "$@"
fi

mkdir -p target
export KEYMARK_BENCH_LINES="$PWD/target/benchmarks.jsonl"
rm -f "$KEYMARK_BENCH_LINES"
$cargo bench --locked --no-run
failed=
for part in \
    ratios:verification ratios:tenants ratios:gateway ratios:flood ratios:heavy ratios:silent ratios:tokens ratios:systems \
    peers:systems peers:search peers:memory fanout search:embedded search:mongodb operations:embedded operations:mongodb \
    revocation:barrier revocation:instances revocation:waits revocation:embedded revocation:mongodb stall \
    usage:embedded usage:mongodb memory documents enumeration; do
    bench=${part%%:*}
    of=${part#"$bench"}
    # shellcheck disable=SC2086 # No argument if the part has no name.
    timeout 600 $cargo bench --quiet --locked --bench "$bench" -- ${of#:} || failed="$failed $part"
done
# shellcheck disable=SC2086 # One argument for each.
$cargo bench --quiet --locked --bench report -- $failed
if [ -n "$failed" ]; then
    echo "These parts failed:$failed. The results of the others are in docs/benchmarks.md." >&2
    exit 1
fi
