#!/bin/sh
# Installs the Debian packages that are missing, or says which one line to run.
#
#   scripts/install-deps.sh build|demo|check|package
#
# Each of the first three contains the one before it.  When everything is there this takes half a second and touches nothing.
set -eu

build="gcc libc6-dev make perl meson ninja-build pkg-config python3
    libjson-c-dev libext2fs-dev ntfs-3g-dev libfuse3-dev libnbd-dev nbdkit nbdkit-plugin-dev"
demo="$build e2fsprogs libnbd-bin python3-libnbd qemu-utils"
check="$demo git libcmocka-dev python3-dev clang libclang-rt-14-dev llvm-14 7zip libvhdi-utils xz-utils strace
    python3-pytest python3-pytest-xdist python3-hypothesis
    fuse3 dosfstools mtools exfatprogs ntfs-3g fio fdisk gdisk btrfs-progs xfsprogs
    gcc-s390x-linux-gnu libc6-dev-s390x-cross gcc-i686-linux-gnu libc6-dev-i386-cross qemu-user-static musl-tools"

package="$build build-essential debhelper dh-python lintian git python3-dev"

case "${1:-check}" in
build) wanted=$build ;;
demo)  wanted=$demo ;;
check) wanted=$check ;;
package) wanted=$package ;;
*)
    echo "usage: $0 build|demo|check|package" >&2
    exit 2
    ;;
esac

if ! command -v dpkg-query >/dev/null || ! command -v apt-get >/dev/null; then
    echo "This is no Debian: please see to it that the counterparts of these packages are installed:" >&2
    echo $wanted >&2
    exit 0
fi

missing=
for package in $wanted; do
    # shellcheck disable=SC2016  # the dollar is dpkg's own
    case " $(dpkg-query -W -f='${db:Status-Status} ' "$package" 2>/dev/null)" in # one word an architecture
    *" installed "*) ;;
    *) missing="$missing $package" ;;
    esac
done
[ -n "$missing" ] || exit 0

if [ "$(id -u)" -eq 0 ]; then
    as_root=
elif command -v sudo >/dev/null; then
    as_root=sudo
else
    echo "Some packages are missing.  Run this as root, then come back:" >&2
    echo "    apt-get update && apt-get install -y --no-install-recommends$missing" >&2
    exit 1
fi

echo "Installing from Debian:$missing"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { $as_root apt-get update && $as_root apt-get install -y --no-install-recommends $missing; } >"$log" 2>&1; then
    cat "$log" >&2
    exit 1
fi
