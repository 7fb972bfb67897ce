#!/usr/bin/env bash
# in_root.sh ROOT CHECKOUT FOLDER COMMAND...: runs the command in a change-root. The script mounts the checkout
# (read-only) and a folder of the run under their own names. The mounts belong to this process alone and end with it.
set -eu
root=$1 checkout=$2 folder=$3
shift 3
if [ "${IN_NAMESPACE:-}" != "$$" ]; then
    # exec keeps the pid: who started this can end it.
    export IN_NAMESPACE=$$
    exec unshare --mount -- "$BASH" "$0" "$root" "$checkout" "$folder" "$@"
fi
unset IN_NAMESPACE
mkdir -p "$root$checkout" "$root$folder"
mount --bind "$checkout" "$root$checkout"
mount -o remount,bind,ro "$root$checkout"
mount --bind "$folder" "$root$folder"
# Sidekiq reads its own memory in /proc at each heartbeat, and does not register without.
mountpoint -q "$root/proc" || mount -t proc proc "$root/proc"
mountpoint -q "$root/dev" || mount --rbind /dev "$root/dev"
exec chroot "$root" "$@"
