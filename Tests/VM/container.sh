#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# container.sh: makes the disk of the cases with containers, of packages of Debian 12; nothing is installed.
#
#   container.sh [--cache DIR]
#
# Prints the disk's file, an image of an ext4 file system: a Debian with podman, and in its /srv/debian the root of a
# container with lsusb, usbhid-dump, dfu-util, pyusb, adb and OpenOCD. Made once for the versions that apt knows.
# No package's own scripts run: what of their work is needed is done here.
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
cache=${VUSB_CACHE:-$root/out/vm/cache}
# mke2fs and ldconfig lie there.
PATH=$PATH:/usr/sbin:/sbin

engine_packages=(podman conmon crun)
# What podman's packages want and a container without a network or an image from elsewhere doesn't.
unneeded='perl.*|lib.*-perl|gnupg.*|gpg.*|dirmngr|pinentry.*|containernetworking-plugins|iptables|usrmerge|dpkg|adduser|debconf'
# ldconfig is how Python finds libraries.
container_packages=(usbutils python3 python3-usb dfu-util adb openocd dash coreutils libc-bin)
left_out=(usr/share/{doc,man,info,locale,lintian,zsh,bash-completion} usr/lib/python3.11/{test,idlelib,lib2to3})

usage() { sed -n '3,9s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; }
die() { echo "container.sh: $*" >&2; exit 1; }

while (($#)); do
    case $1 in
        --cache) cache=$2; shift 2 ;;
        -h | --help) usage; exit 0 ;;
        *) usage >&2; exit 2 ;;
    esac
done

# closure PACKAGE…: PACKAGE=VERSION of these and of all that they depend on, as if nothing were installed.
closure() {
    apt-get -qq -s -o Dir::State::status=/dev/null --no-install-recommends install "$@" |
        sed -n 's/^Inst \(\S*\) (\(\S*\) .*/\1=\2/p'
}

# unpack DIR PACKAGE=VERSION…: its `bin` and the like are links, as on every Debian 12.
unpack() {
    local tree=$1 packages=$stage/packages file
    shift
    mkdir -p "$packages" "$tree"/{usr/{bin,sbin,lib,lib64},dev,proc,sys,run,tmp,var/tmp,mnt,srv,root,etc,vusb}
    chmod 1777 "$tree"/{tmp,var/tmp}
    ln -s usr/bin usr/sbin usr/lib usr/lib64 "$tree/"
    # apt fetches as its own user where it can; the folder may be closed to it.
    (cd "$packages" && apt-get -qq -o APT::Sandbox::User=root download "$@")
    for file in "$packages"/*.deb; do
        dpkg --fsys-tarfile "$file" | tar -x -C "$tree" --keep-directory-symlink "${left_out[@]/#/--exclude=./}"
    done
    rm -rf "$packages"
    [[ -e $tree/bin/sh ]] || ln -s dash "$tree/bin/sh"
    echo root:x:0:0:root:/root:/bin/sh >"$tree/etc/passwd"
    echo root:x:0: >"$tree/etc/group"
    ldconfig -r "$tree"
}

# As root, without systemd, with directories for storage and no images.
configure_engine() {
    mkdir -p "$1/etc/containers"
    printf '[engine]\ncgroup_manager = "cgroupfs"\nruntime = "crun"\nevents_logger = "file"\n' \
        >"$1/etc/containers/containers.conf"
    printf '[storage]\ndriver = "vfs"\nrunroot = "/run/containers"\ngraphroot = "/var/lib/containers"\n' \
        >"$1/etc/containers/storage.conf"
}

make_disk() {
    unpack "$stage/disk" "${engine[@]}"
    configure_engine "$stage/disk"
    unpack "$stage/debian" "${container[@]}"
    mv "$stage/debian" "$stage/disk/srv/"
    mke2fs -q -t ext4 -O ^has_journal -d "$stage/disk" "$stage/image" 768M
}

engine=() container=()
list=$(closure "${engine_packages[@]}") && mapfile -t engine < <(grep -vE "^($unneeded)=" <<<"$list")
list=$(closure "${container_packages[@]}") && mapfile -t container <<<"$list"
[[ ${#engine[@]} -gt 1 && ${#container[@]} -gt 1 ]] || die "apt knows no podman or no usbutils; run apt-get update"

mkdir -p "$cache"
# Made anew, too, when this file is another one.
disk=$cache/container-$({ printf '%s\n' "${engine[@]}" "${container[@]}"; cat "${BASH_SOURCE[0]}"; } | sha256sum | head -c 16).img
# Whoever comes second waits for the first, and finds it done.
exec 9>"$cache/container.lock"
flock 9
if [[ ! -e $disk ]]; then
    stage=$(mktemp -d)
    trap 'rm -rf "$stage"' EXIT
    make_disk >&2
    # Sparse also where the cache is elsewhere.
    cp --sparse=always "$stage/image" "$disk.new"
    mv "$disk.new" "$disk"
fi
echo "$disk"
