#!/bin/bash
# Whether programs linked against an earlier libvhdx still work with this one: abidiff of the two shared libraries.
#
#   scripts/abi-check.sh [REVISION]     default: the last tag
#
# The exit status is 1 when something was removed or changed; what was only added is printed and good.
set -euo pipefail
cd "$(dirname "$0")/.."

base=${1:-$(git describe --tags --abbrev=0 2>/dev/null || true)}
if [ -z "$base" ]; then
    echo "no tag yet: name a revision to compare with" >&2
    exit 2
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# build REVISION NAME: the library and its headers of that revision.
build() {
    mkdir "$work/$2"
    git archive "$1" | tar -x -C "$work/$2"
    meson setup --buildtype=debugoptimized -Dtests=disabled -Dcommand=disabled -Dnbdkit=disabled "$work/$2/build" "$work/$2" >/dev/null
    ninja --quiet -C "$work/$2/build" libvhdx.so.0.1.0 >/dev/null
}

build "$base" old
build HEAD new
status=0
abidiff --headers-dir1 "$work/old/include" --headers-dir2 "$work/new/include" \
    "$work/old/build/libvhdx.so.0.1.0" "$work/new/build/libvhdx.so.0.1.0" || status=$?
if [ $((status & 8)) -ne 0 ] || [ $((status & 3)) -ne 0 ]; then # 8: incompatible; 1, 2: abidiff itself failed
    exit 1
fi
