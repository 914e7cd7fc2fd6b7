#!/bin/sh
# usage: unpack_once.sh ARCHIVE DIRECTORY: unpacks a tar file unless that has been done. Tests run at the same time: the first
# one does it, the others wait; the directory comes into being whole.
set -eu
exec 9>"$2.lock"
flock 9
[ ! -d "$2" ] || exit 0
rm -rf "$2.tmp"
mkdir -p "$2.tmp"
tar -xJf "$1" -C "$2.tmp"
mv -T "$2.tmp" "$2"
