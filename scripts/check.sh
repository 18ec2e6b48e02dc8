#!/bin/bash
# Every test, step by step.
#
#   scripts/check.sh              all steps: what `make check` runs
#   scripts/check.sh STEP...      only these (see the table)
#   scripts/check.sh long         the random tests, for HOURS hours
#   scripts/check.sh fuzz         the fuzzers, SECONDS_EACH seconds each
#
# Quiet but for one line a step and what failed.  Builds and logs are kept under build-check/STEP.  The last line is
# `N passed, N failed`, with `, N skipped` where something was; the exit status is 1 when anything failed.
set -u
cd "$(dirname "$0")/.." || exit 1

# The table: what runs by default, in this order.  Each step is a function below.
steps="gcc crash command python fs nbd peers samples hostile clang sanitizers threads s390x i686 musl"

builds=build-check
# What is built: with everything wanted, nothing is left out silently.
everything=(-Dtests=enabled -Dcommand=enabled -Dnbdkit=enabled -Dfuse=enabled -Dpython=enabled)
library_only=(-Dtests=enabled -Dcommand=disabled -Dnbdkit=disabled -Dfuse=disabled -Dpython=disabled)
jobs=$(nproc)
passed=0 failed=0 skipped=0

# Sanitized builds have line numbers and no more (-g1), foreign ones nothing to debug: both build faster.
# Sanitizers and emulated hosts are slow and find what they can find early: there each random test does every
# configuration once, and the full count runs on gcc's build.
once="VHDX_MODEL_SECONDS=0 VHDX_THREADS_SECONDS=0 VHDX_CRASH_STATES=4000 VHDX_FEW=1"

export ASAN_OPTIONS=detect_leaks=1:abort_on_error=0
export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
export TSAN_OPTIONS=halt_on_error=1:second_deadlock_stack=1
export PATH=/usr/bin:$PATH # the distribution's python3 is the one that has nbd and pytest

# ---- what the steps are made of ----

# add_counts RESULT_FILE...: count, and print what failed.
add_counts() {
    local counts p f s
    if ! counts=$(scripts/count-results.py "$@" 2>&1); then
        printf '%s\n' "$counts"
        counts="0 1 0"
    fi
    read -r p f s <<<"$counts"
    step_passed=$((step_passed + p)) step_failed=$((step_failed + f)) step_skipped=$((step_skipped + s))
    printf '%s\n' "$counts" | tail -n +2
}

# fail_step LOG WHAT: a step that could not even run counts as one failure.
fail_step() {
    echo "FAILED $2 (all of it in $1)"
    { grep -A 12 -m 2 -E '^FAILED:|ERROR: ' "$1" || tail -n 30 "$1"; } | cut -c 1-300 | sed 's/^/    /'
    step_failed=$((step_failed + 1))
}

# configure STEP [meson options]: once; warnings are errors.  Tests that are run build what they need.
configure() {
    local step=$1 directory=$builds/$1 log=$builds/$1.log
    shift
    [ ! -f "$directory/build.ninja" ] || return 0
    rm -rf "$directory"
    if ! meson setup -Dwerror=true "$@" "$directory" >"$log" 2>&1; then
        fail_step "$log" "meson setup"
        return 1
    fi
}

# build STEP [meson options]: everything, the command and the plugin too.
build() {
    configure "$@" || return
    if ! ninja -j "$jobs" -C "$builds/$1" >"$builds/$1.log" 2>&1; then
        fail_step "$builds/$1.log" "build"
        return 1
    fi
}

# suites STEP SUITE...: run the tests of these suites, as many as there are in the build of STEP.
suites() {
    local step=$1 expected suite arguments=()
    shift
    expected=$(meson introspect --tests "$builds/$step" | python3 -c '
import json, sys
wanted = set(sys.argv[1:])
print(sum(any(suite.split(":")[-1] in wanted for suite in test["suite"]) for test in json.load(sys.stdin)))' "$@")
    [ "$expected" -gt 0 ] || return 0
    for suite in "$@"; do
        arguments+=(--suite "$suite")
    done
    meson_test "$step" "$1" "$expected" "${arguments[@]}"
}

# one_test STEP NAME ARGUMENTS: run one test program with arguments of its own.
one_test() {
    meson_test "$1" "$2" 1 "$2" --test-args "$3"
}

# meson_test STEP LOG_NAME EXPECTED ARGUMENT...: run tests and count them; EXPECTED programs must have run.  Meson would have
# glibc fill all memory, which made some tests twenty times as slow; the sanitizers see what that would find.
meson_test() {
    local directory=$builds/$1 log=$builds/$1-$2.log results=$builds/$1/meson-logs/$2.json name=$2 expected=$3
    shift 3
    rm -f "$results"
    # shellcheck disable=SC2086  # assignments are words
    env MALLOC_PERTURB_=0 $test_environment meson test -C "$directory" --num-processes "$jobs" --timeout-multiplier 4 --logbase "$name" "$@" >"$log" 2>&1
    if [ ! -f "$results" ] || [ "$(wc -l <"$results")" -ne "$expected" ]; then
        fail_step "$log" "meson test: not every test ran"
        return 1
    fi
    add_counts "$results"
}

# python_tests FOLDER [OPTION...]: pytest over tests/FOLDER, against the programs of gcc's build.
python_tests() {
    local folder=$1 results=$builds/$1.xml log=$builds/$1.log
    shift
    ls "tests/$folder"/test_*.py >/dev/null 2>&1 || return 0
    rm -f "$results"
    VHDX_BUILD=$PWD/$builds/gcc /usr/bin/python3 -m pytest -q -p no:cacheprovider -n "$jobs" --junitxml="$results" \
        "$@" "tests/$folder" >"$log" 2>&1
    if [ -f "$results" ]; then
        add_counts "$results"
    else
        fail_step "$log" "pytest tests/$folder"
    fi
}

# fuzzers SECONDS: every libFuzzer program of clang's build, so long, from seeds and the corpus on; inputs that find something
# are kept beside it.
fuzzers() {
    local seconds=$1 directory=$builds/clang/tests/fuzz names name
    names=$(ninja -C "$builds/clang" -t targets all | grep -o '^tests/fuzz/libfuzzer_[a-z_]*:' | tr -d : | sort -u)
    names=${names//tests\/fuzz\//}
    [ -n "$names" ] || return 0
    # shellcheck disable=SC2086  # names are words
    if ! ninja -C "$builds/clang" $(printf 'tests/fuzz/%s ' $names) >"$builds/fuzzers.log" 2>&1; then
        fail_step "$builds/fuzzers.log" "build of the fuzzers"
        return 1
    fi
    if ! /usr/bin/python3 tests/fuzz/seeds.py "$builds/clang" "$builds/clang/seeds" >"$builds/seeds.log" 2>&1; then
        fail_step "$builds/seeds.log" "seeds for the fuzzers"
        return 1
    fi
    # shellcheck disable=SC2016  # the inner shell expands these
    printf '%s\n' $names | xargs -P "$jobs" -I NAME sh -c '
        name=NAME known=
        name=${name#libfuzzer_}
        [ ! -d "tests/corpus/$name" ] || known=tests/corpus/$name
        [ ! -d "$3/$name" ] || known="$known $3/$name"
        mkdir -p "$1/corpus-NAME"
        "$1/NAME" -max_total_time="$2" -max_len=1024 -timeout=20 -rss_limit_mb=2048 -artifact_prefix="$1/NAME-" \
            "$1/corpus-NAME" $known >"$1/NAME.log" 2>&1
        echo $? >"$1/NAME.status"' sh "$directory" "$seconds" "$builds/clang/seeds"
    for name in $names; do
        if [ "$(cat "$directory/$name.status")" -eq 0 ]; then
            step_passed=$((step_passed + 1))
        else
            fail_step "$directory/$name.log" "$name"
        fi
    done
}

# gcc's programs, which several steps run: built once a run, whichever step comes first.
gcc_build=unknown
need_gcc_build() {
    case $gcc_build in
    good) return 0 ;;
    bad)
        echo "FAILED for want of gcc's build"
        step_failed=$((step_failed + 1))
        return 1
        ;;
    esac
    gcc_build=bad
    build gcc "${everything[@]}" && gcc_build=good
}

# ---- the steps ----

step_gcc() {
    test_environment="VHDX_MODEL_SECONDS=10 VHDX_THREADS_SECONDS=10" # make check-long takes hours
    need_gcc_build && suites gcc unit boundaries model counted threads corpus fuzz
}

step_crash() {
    need_gcc_build && suites gcc crash chain_crash repair_crash
}

step_command() {
    need_gcc_build && python_tests command
}

step_python() {
    need_gcc_build && python_tests python
}

step_nbd() {
    need_gcc_build && python_tests nbd
}

# Other programs, images that others made, and images made to do harm.
step_peers() {
    need_gcc_build && python_tests peers
}

step_samples() {
    need_gcc_build && python_tests samples
}

step_fs() {
    need_gcc_build && python_tests fs
}

step_hostile() {
    need_gcc_build && python_tests hostile --dist loadgroup
}

# clang's warnings, its analysis of locks and its sanitizers, and the fuzzers for a short while each.
build_clang() {
    CC=clang build clang "${everything[@]}" -Dfuzzers=enabled -Dc_args=-g1 -Db_sanitize=address,undefined -Db_lundef=false
}

step_clang() {
    test_environment=$once
    build_clang && suites clang unit && fuzzers 10
}

step_fuzz() {
    build_clang && fuzzers "${SECONDS_EACH:-60}"
}

step_sanitizers() {
    build_clang || return
    test_environment=$once
    suites clang model counted threads corpus small_crash
}

step_threads() {
    configure threads "${library_only[@]}" -Dc_args=-g1 -Db_sanitize=thread && suites threads threads
}

# Other hosts: emulated, statically linked, without cmocka and json-c.
foreign() {
    local host=$1 file=$2
    shift 2
    test_environment=$once
    configure "$host" "$file" "scripts/cross/$host.ini" "$@" "${library_only[@]}" -Ddebug=false -Dcmocka_shim=true &&
        suites "$host" unit model corpus
}

step_s390x() {
    foreign s390x --cross-file
}

# Most kernels of x86-64 run 32-bit programs as they are.
runs_i686() {
    echo 'int main(void) { return 0; }' | i686-linux-gnu-gcc -static -x c -o "$builds/runs-i686" - && "$builds/runs-i686"
}

step_i686() {
    if runs_i686 2>/dev/null; then
        foreign i686 --cross-file --cross-file scripts/cross/i686-native.ini
    else
        foreign i686 --cross-file
    fi
}

step_musl() {
    foreign musl --native-file
}

step_long() {
    local hours=${HOURS:-8}

    need_gcc_build || return
    VHDX_HOURS=$hours suites gcc model threads
    one_test gcc crash_test "--long $((hours * 3600))"
    one_test gcc chain_crash "--stride 1"
    VHDX_PEERS_SEEDS=$((hours * 2000)) python_tests peers -k all_read_the_same
    one_test gcc repair_crash "--stride 1 --cuts 4"
    VHDX_HOSTILE_REPAIR=all python_tests hostile -k test_repair
}

# ---- go ----

case "${1-}" in
"") ;;
*)  steps=$* ;;
esac
mkdir -p "$builds"
started=$SECONDS

for step in $steps; do
    if ! declare -F "step_$step" >/dev/null; then
        echo "no step '$step'" >&2
        exit 2
    fi
    test_environment=
    step_passed=0 step_failed=0 step_skipped=0 step_started=$SECONDS
    "step_$step"
    printf '%-10s %6d passed %4d failed %4d skipped  %4d s\n' \
        "$step" "$step_passed" "$step_failed" "$step_skipped" $((SECONDS - step_started))
    passed=$((passed + step_passed)) failed=$((failed + step_failed)) skipped=$((skipped + step_skipped))
done

echo "logs are in $builds/; $((SECONDS - started)) s in all"
if [ "$skipped" -gt 0 ]; then
    echo "$passed passed, $failed failed, $skipped skipped"
else
    echo "$passed passed, $failed failed"
fi
[ "$failed" -eq 0 ]
