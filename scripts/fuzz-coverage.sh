#!/bin/bash
# How many lines the inputs of the fuzzers reach.
#
#   scripts/fuzz-coverage.sh [FOLDER]
#
# Runs every target over tests/corpus, the seeds, and FOLDER/TARGET for what fuzzers kept (else what `make fuzz` left in
# build-check), and prints a table of src/format, the opening in src/image, and the check.  With SHOW=1 the lines that nothing
# reached, too.  Wants clang and llvm of one version.
set -eu
cd "$(dirname "$0")/.."

kept=${1-}
build=build-check/coverage
llvm=$(clang --version | sed -n 's/.*version \([0-9]*\).*/\1/p')
profdata=$(command -v "llvm-profdata-$llvm" || command -v llvm-profdata)
cov=$(command -v "llvm-cov-$llvm" || command -v llvm-cov)
wanted='src/(format/[a-z_]+[.]c|image/(open|log_scan|replay|space_build)[.]c|ops/check[a-z_]*[.]c)'

if [ ! -f "$build/build.ninja" ]; then
    rm -rf "$build"
    CC=clang meson setup -Dtests=enabled -Dcommand=disabled -Dnbdkit=disabled -Dpython=disabled -Db_lundef=false \
        -Dc_args="-fprofile-instr-generate -fcoverage-mapping" -Dc_link_args=-fprofile-instr-generate "$build" >/dev/null
fi
targets=$(ninja -C "$build" -t targets all | sed -n 's|^tests/fuzz/fuzz_\([a-z]*\): .*|\1|p' | sort -u)
# shellcheck disable=SC2046,SC2086  # names are words
ninja --quiet -C "$build" $(printf 'tests/fuzz/fuzz_%s ' $targets)
rm -rf "$build/profiles" "$build/seeds"
/usr/bin/python3 tests/fuzz/seeds.py build-check/clang "$build/seeds"

objects=()
for target in $targets; do
    inputs=()
    for folder in "tests/corpus/$target" "$build/seeds/$target" "${kept:-build-check/clang/tests/fuzz}/$target" \
        "build-check/clang/tests/fuzz/corpus-libfuzzer_$target"; do
        [ ! -d "$folder" ] || inputs+=("$folder")
    done
    LLVM_PROFILE_FILE="$build/profiles/$target.profraw" "$build/tests/fuzz/fuzz_$target" "${inputs[@]}"
    objects+=(-object "$build/tests/fuzz/fuzz_$target")
done
"$profdata" merge -o "$build/profiles/all" "$build"/profiles/*.profraw

# Lines, those that nothing reached, and the share of the others: of each file and of all.
"$cov" report "${objects[@]:1}" -instr-profile="$build/profiles/all" 2>/dev/null |
    awk -v wanted="$wanted" '
        $1 ~ wanted { printf "%-28s %5d lines %4d missed %7.2f %%\n", $1, $8, $9, 100 - 100 * $9 / $8; all += $8; missed += $9 }
        END { printf "%-28s %5d lines %4d missed %7.2f %%\n", "in all", all, missed, 100 - 100 * missed / all }'
[ -z "${SHOW-}" ] || "$cov" show "${objects[@]:1}" -instr-profile="$build/profiles/all" 2>/dev/null |
    awk -v wanted="$wanted" '/^\// { file = $1 } /^ *[0-9]+\| *0\|/ && file ~ wanted { print file $0 }'
