#!/bin/sh
# Runs the benchmarks, and writes docs/benchmarks.md and its picture from what they report. One that fails, or takes longer
# than ten minutes, does not stop the others. With arguments, runs one benchmark, or a part of it, and only prints:
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
for bench in ratios peers fanout search operations revocation usage memory documents enumeration; do
    timeout 600 $cargo bench --quiet --locked --bench "$bench" || failed="$failed $bench"
done
# shellcheck disable=SC2086 # One argument for each.
$cargo bench --quiet --locked --bench report -- $failed
if [ -n "$failed" ]; then
    echo "These benchmarks failed:$failed. The results of the others are in docs/benchmarks.md." >&2
    exit 1
fi
