#!/bin/bash
# Shows the main job on a real disk, in words a newcomer follows.
#
#   scripts/demo.sh BUILD [IMAGE]
#
# Without IMAGE the disk is an ext4 file system made of this project's own files; IMAGE is a raw disk or a VHDX, of
# which only a copy is touched.  Everything happens in BUILD/demo.
set -eu
cd "$(dirname "$0")/.."

build=${1:?usage: demo.sh BUILD [IMAGE]}
given=${2-}
vhdx=$build/tools/vhdx/vhdx
plugin=$PWD/$build/plugins/nbdkit/nbdkit-vhdx-plugin.so
work=$build/demo
rounds_before_the_kill=40
PATH=$PATH:/usr/sbin:/sbin # mke2fs, e2fsck and debugfs live there

server=
sockets=$(mktemp -d) # a socket's path must be short
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$sockets"' EXIT
rm -rf "$work"
mkdir -p "$work"

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

# Show a command, then run it; a long answer is cut.
run() {
    printf '  $ %s\n' "$(printf '%s ' "$@" | sed "s|$build/tools/vhdx/||g; s|$work/||g")"
    "$@" >"$work/output" 2>&1 || {
        sed 's/^/    /' "$work/output"
        echo "That failed." >&2
        exit 1
    }
    head -n 24 "$work/output" | cut -c 1-110 | sed 's/^/    /'
    if [ ! -s "$work/output" ]; then
        echo "    (nothing to say: good)"
    elif [ "$(wc -l <"$work/output")" -gt 24 ]; then
        echo "    ... ($(wc -l <"$work/output") lines)"
    fi
}

serve() {
    rm -f "$sockets/nbd"
    nbdkit -f -U "$sockets/nbd" -P "$sockets/pid" "$plugin" "$work/disk.vhdx" &
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
    mkdir "$work/files"
    cp -r docs include src "$work/files"
    run mke2fs -q -t ext4 -d "$work/files" "$work/disk.raw" 64M
    truncate -s 256M "$work/disk.raw"
    first_free_byte=$((64 << 20))
elif [ "$(head -c 8 "$given")" = vhdxfile ]; then
    say "A disk: a copy of $given, which is a VHDX already."
    cp --sparse=always --reflink=auto "$given" "$work/disk.vhdx"
    chmod u+w "$work/disk.vhdx"
    run "$vhdx" convert -O raw "$work/disk.vhdx" "$work/disk.raw"
else
    say "A disk: a copy of $given, taken as raw bytes."
    cp --sparse=always --reflink=auto "$given" "$work/disk.raw"
    chmod u+w "$work/disk.raw"
fi

if [ ! -e "$work/disk.vhdx" ]; then
    say "The same disk as a VHDX.  Holes and zeros take no room in it."
    run "$vhdx" convert -f raw -O vhdx "$work/disk.raw" "$work/disk.vhdx"
fi
run "$vhdx" compare -f raw "$work/disk.raw" "$work/disk.vhdx"

say "What it is, and where its bytes lie in the file."
run "$vhdx" info "$work/disk.vhdx"
run "$vhdx" map "$work/disk.vhdx"

# ---- the accident ----

say "Served over NBD.  A client writes in rounds of eight pieces, each round ended by a flush."
serve
echo "  nbdkit with our plugin is process $server."
/usr/bin/python3 scripts/demo_client.py write "$uri" "$work/journal" $first_free_byte &
client=$!
for _ in $(seq 600); do
    [ "$(wc -l 2>/dev/null <"$work/journal" || echo 0)" -ge $rounds_before_the_kill ] && break
    sleep 0.05
done

say "In the middle of it the server is killed with SIGKILL: it gets no chance to tidy up."
kill -KILL "$server"
wait "$server" 2>/dev/null || true
server=
wait "$client" || true
echo "  The client had $(wc -l <"$work/journal") rounds answered as flushed."
[ -s "$work/journal" ] || { echo "The client never got a round through." >&2; exit 1; }
run "$vhdx" info "$work/disk.vhdx"

say "Served again.  The log is replayed, and the client looks for what it had been promised."
serve
run /usr/bin/python3 scripts/demo_client.py verify "$uri" "$work/journal" $first_free_byte "$work/disk.raw"
kill "$server"
wait "$server" || true
server=

say "The whole disk, byte by byte: what it was before, plus what was flushed."
run "$vhdx" replay "$work/disk.vhdx"
run "$vhdx" compare -f raw "$work/disk.raw" "$work/disk.vhdx"

say "The image itself, looked at by us and by QEMU."
run "$vhdx" check "$work/disk.vhdx"
run qemu-img check "$work/disk.vhdx"
run qemu-img compare -f raw -F vhdx "$work/disk.raw" "$work/disk.vhdx"

if [ -z "$given" ]; then
    say "And the file system on it, with every file."
    run "$vhdx" convert -O raw "$work/disk.vhdx" "$work/after.raw"
    run e2fsck -fn "$work/after.raw"
    mkdir "$work/files-after"
    run debugfs -R "rdump / $work/files-after" "$work/after.raw"
    rmdir "$work/files-after/lost+found"
    run diff -r "$work/files" "$work/files-after"
fi

printf '\nNothing that was flushed is lost, and the image is sound.  All of it is in %s.\n' "$work"
