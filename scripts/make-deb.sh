#!/bin/bash
# Debian packages of what is committed here, in build-deb/, looked at by lintian.
#
#   scripts/make-deb.sh
#
# The last lines are the packages; the exit status is 1 when the build fails or lintian finds an error or a warning.
set -euo pipefail
cd "$(dirname "$0")/.."

rm -rf build-deb
mkdir -p build-deb/libvhdx
git archive HEAD | tar -x -C build-deb/libvhdx
cd build-deb/libvhdx
if ! dpkg-buildpackage --build=binary --no-sign >../build.log 2>&1; then
    tail -n 40 ../build.log
    exit 1
fi
cd ..
lintian --profile debian --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs ./*.changes
ls -l ./*.deb
