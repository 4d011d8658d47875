#!/bin/sh
# Checks lease.pml with SPIN: the property must hold in every state of the model, and each planted bug must be found.
#
#   docs/model/check.sh             every variant
#   docs/model/check.sh BUG_SKIP …  the variants with one of these flags
#
# MODEL_MEMORY_MIB limits the memory of a variant (default: 6000).
set -eu

model=$(cd "$(dirname "$0")" && pwd)/lease.pml
"$(dirname "$0")/../../scripts/need.sh" spin cc
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
failed=0

# check EXPECTED SEARCH FLAG…: EXPECTED is `holds` (all states visited, no error) or `broken` (an assertion fails).
# SEARCH is `depth`, or `breadth` if a bug is near the start but depth-first search takes long to find it.
check() {
    expected=$1 search=$2
    shift 2
    wanted "$@" || return 0
    flags=$(printf ' -D%s' "$@")
    cd "$work"
    # shellcheck disable=SC2086 # Each flag is a word.
    spin -a $flags "$model" >/dev/null
    breadth=
    if [ "$search" = breadth ]; then breadth=-DBFS; fi
    # shellcheck disable=SC2086
    cc -O2 -w -DSAFETY -DCOLLAPSE -DMEMLIM="${MODEL_MEMORY_MIB:-6000}" $breadth -o pan pan.c
    started=$(date +%s)
    # -E: processes may still be waiting at the end. The report says whether the search was complete.
    ./pan -E -m1000000 >report 2>&1 || true
    took=$(($(date +%s) - started))
    states=$(sed -n 's/^ *\([0-9.e+]*\) states, stored.*/\1/p' report)
    if grep -q 'assertion violated' report; then
        found=broken
    elif grep -q 'errors: 0' report && ! grep -Eq 'Search not completed|max search depth too small' report; then
        found=holds
    else
        found=unfinished
    fi
    printf '%-10s %-40s %12s states %5s s\n' "$found" "$*" "$states" "$took"
    if [ "$found" != "$expected" ]; then
        echo "expected: $expected" >&2
        cat report >&2
        failed=1
    fi
}

# Whether the variant with these flags was selected.
wanted() {
    [ -n "$asked" ] || return 0
    for flag in "$@"; do
        case " $asked " in *" $flag "*) return 0 ;; esac
    done
    return 1
}

asked=$*

check holds depth PROTOCOL TMAX=2
check holds depth NPROBE=1 PROTOCOL
check holds depth NPROBE=1 LOSS
check holds depth NPROBE=1 LOSS BRANCH
check holds depth NPROBE=1 FILL
check holds depth NPROBE=1 CRASH
check holds depth NPROBE=1 D=1 TMAX=4
check holds depth NPROBE=1 CLOCKS L=2 TMAX=4
check holds depth NPROBE=1 LENGTHS L=2 TMAX=4

check broken breadth BUG_NOWAIT
check broken breadth BUG_TTLSTART
check broken depth BUG_LOADLATE
check broken breadth BUG_STALELIST
check broken breadth BUG_UNCOVERED
check broken breadth BUG_KEPTAGE TMAX=2
check broken breadth BUG_LISTEARLY NPROBE=1 TMAX=2
check broken breadth BUG_MISSING NPROBE=1 TMAX=2
check broken breadth BUG_ACKEARLY
check broken depth BUG_SKIP LOSS
check broken breadth BUG_UNJOINED LOSS BRANCH NPROBE=1
check broken depth BUG_FILL FILL
check broken depth BUG_STALEREAD FILL
check broken breadth BUG_DRIFT D=1 NPROBE=1 TMAX=4
check broken breadth BUG_BOOTCLOCK CLOCKS L=2 NPROBE=1 TMAX=4
check broken breadth BUG_RAWCLOCK CLOCKS L=2 NPROBE=1 TMAX=4
check broken breadth BUG_RAWAWAKE CLOCKS L=2 NPROBE=1 TMAX=4
check broken breadth BUG_FASTWAIT CLOCKS L=2 NPROBE=1 TMAX=4
check broken breadth BUG_OWNLENGTH LENGTHS L=2 NPROBE=1 TMAX=4
check broken breadth BUG_UNLISTED LENGTHS L=2 NPROBE=1 TMAX=4
check broken breadth BUG_IDEMP CRASH
check broken breadth BUG_REJECT STRICT

exit $failed
