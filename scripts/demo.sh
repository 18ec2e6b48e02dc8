#!/bin/bash
# Shows the main job on a real disk, in words a newcomer follows.
#
#   scripts/demo.sh BUILD [IMAGE]
#
# Without IMAGE the disk is an ext4 file system made of this project's own files; IMAGE is a raw disk or a VHDX, of
# which only a copy is touched.  Everything happens in BUILD/demo.
set -eu
cd "$(dirname "$0")/.."

sources=$PWD
build=$(realpath "${1:?usage: demo.sh BUILD [IMAGE]}")
given=${2:+$(realpath "$2")}
plugin=$build/plugins/nbdkit/nbdkit-vhdx-plugin.so
client=$sources/scripts/demo_client.py
work=$build/demo
rounds_before_the_kill=40
PATH=$build/tools/vhdx:$PATH:/usr/sbin:/sbin # mke2fs, e2fsck and debugfs live in sbin

server=
sockets=$(mktemp -d) # a socket's path must be short
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$sockets"' EXIT
rm -rf "$work"
mkdir -p "$work"
cd "$work"

# Say what comes next; the steps are numbered.
step=0
bold='' plain=''
if [ -t 1 ]; then
    bold=$'\e[1m' plain=$'\e[0m'
fi
say() {
    step=$((step + 1))
    printf '\n%s%d. %s%s\n' "$bold" $step "$*" "$plain"
}

# Show a command, then run it; a long answer is cut.  Any status but 0 and $1 is the end.
run_or() {
    local also_good=$1 status=0
    shift
    printf '  $ %s\n' "$*"
    "$@" >output 2>&1 || status=$?
    if [ $status -ne 0 ] && [ $status -ne "$also_good" ]; then
        sed 's/^/    /' output
        echo "That failed." >&2
        exit 1
    fi
    head -n 24 output | cut -c 1-110 | sed 's/^/    /'
    if [ ! -s output ]; then
        echo "    (nothing to say: good)"
    elif [ "$(wc -l <output)" -gt 24 ]; then
        echo "    ... ($(wc -l <output) lines)"
    fi
}

run() {
    run_or 0 "$@"
}

serve() {
    rm -f "$sockets/nbd"
    nbdkit -f -U "$sockets/nbd" -P "$sockets/pid" "$plugin" disk.vhdx &
    server=$!
    for _ in $(seq 100); do
        [ -s "$sockets/pid" ] && break
        sleep 0.05
    done
    rm -f "$sockets/pid"
    uri="nbd+unix:///?socket=$sockets/nbd"
}

# ---- a disk with something on it ----

first_free_byte=0
if [ -n "$given" ] && [ ! -r "$given" ]; then
    echo "There is no $given to read." >&2
    exit 1
fi
if [ -z "$given" ]; then
    say "A disk: an ext4 file system of 64 MiB with this project's files in it, on a disk of 256 MiB."
    mkdir files
    cp -r "$sources/docs" "$sources/include" "$sources/src" files
    run mke2fs -q -t ext4 -d files disk.raw 64M
    truncate -s 256M disk.raw
    first_free_byte=$((64 << 20))
elif [ "$(head -c 8 "$given")" = vhdxfile ]; then
    say "A disk: a copy of $given, which is a VHDX already."
    cp --sparse=always --reflink=auto "$given" disk.vhdx
    chmod u+w disk.vhdx
    run vhdx convert -O raw disk.vhdx disk.raw
else
    say "A disk: a copy of $given, taken as raw bytes."
    cp --sparse=always --reflink=auto "$given" disk.raw
    chmod u+w disk.raw
fi

if [ ! -e disk.vhdx ]; then
    say "The same disk as a VHDX.  Holes and zeros take no room in it."
    run vhdx convert -f raw -O vhdx disk.raw disk.vhdx
fi
run vhdx compare -f raw disk.raw disk.vhdx

say "What it is, and where its bytes lie in the file."
run vhdx info disk.vhdx
run vhdx map disk.vhdx

# ---- the accident ----

say "Served over NBD.  A client writes in rounds of eight pieces, each round ended by a flush."
serve
echo "  nbdkit with our plugin is process $server."
"$client" write "$uri" journal $first_free_byte &
client_process=$!
for _ in $(seq 600); do
    [ "$(wc -l 2>/dev/null <journal || echo 0)" -ge $rounds_before_the_kill ] && break
    sleep 0.05
done

say "In the middle of it the server is killed with SIGKILL: it gets no chance to tidy up."
kill -KILL "$server"
wait "$server" 2>/dev/null || true
server=
wait "$client_process" || true
echo "  The client had $(wc -l <journal) rounds answered as flushed."
[ -s journal ] || { echo "The client never got a round through." >&2; exit 1; }
run vhdx info disk.vhdx

say "Served again.  The log is replayed, and the client looks for what it had been promised."
serve
run "$client" verify "$uri" journal $first_free_byte disk.raw
kill "$server"
wait "$server" || true
server=

say "The whole disk, byte by byte: what it was before, plus what was flushed."
run vhdx compare -f raw disk.raw disk.vhdx

say "The image itself, looked at by us and by QEMU."
run_or 3 vhdx check disk.vhdx
if grep -q 'belong to nothing' output; then
    echo "  (Space the server had set aside when it died; no damage, and the next writer uses it.)"
fi
run qemu-img check disk.vhdx
run qemu-img compare -f raw -F vhdx disk.raw disk.vhdx

if [ -z "$given" ]; then
    say "And the file system on it, with every file."
    run vhdx convert -O raw disk.vhdx after.raw
    run e2fsck -fn after.raw
    mkdir files-after
    run debugfs -R "rdump / files-after" after.raw
    rmdir files-after/lost+found
    run diff -r files files-after
fi

printf '\nNothing that was flushed is lost, and the image is sound.  All of it is in %s.\n' "$work"
