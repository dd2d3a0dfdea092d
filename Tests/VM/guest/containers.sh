# SPDX-License-Identifier: Apache-2.0
# containers.sh: podman, and Debian's programs in containers, from the disk that container.sh makes. Read by cases that
# need them, whose host half gives QEMU the disk. The disk is a Debian of its own, at /mnt: podman believes to be there.

# containers_ready: the disk is mounted, and programs of ours are in the container's root. After vusbd's start: /vusb is
# to be there.
containers_ready() {
    modprobe -a virtio_blk ext4
    eventually 10 test -b /dev/vda
    mount -t ext4 /dev/vda /mnt || fail "the containers' disk can't be mounted"
    # Where the README says that the container's root is.
    ln -s /mnt/srv /srv
    cp /bin/lu-plug /bin/lu-serial /bin/lu-disk /vm/*.py /srv/debian/root/
}

# engine_ready: podman can be used. It lives in a mount namespace in which the disk is the root, as on any machine: the
# kernel lets nobody change the root that an initramfs is.
engine_ready() {
    mount -t cgroup2 cgroup2 /sys/fs/cgroup || fail "no cgroups"
    mkdir -p /dev/shm
    mount -t tmpfs tmpfs /dev/shm
    unshare --mount sh -ec '
        for part in proc sys dev run vusb; do mount -o rbind /$part /mnt/$part; done
        cd /mnt
        mount -o move . /
        exec chroot . sleep 100000' 8>&- &
    engine=$!
    eventually 10 test -x /proc/$engine/root/usr/bin/podman
}

# containers_done: nothing of all that keeps /vusb from being unmounted.
containers_done() {
    [ -z "${engine:-}" ] || kill "$engine"
    umount /mnt
}

podman() { nsenter -t "$engine" -m /usr/bin/podman "$@" 8>&-; }
# inside CONTAINER-ID PROGRAM…: what `podman exec` has its runtime do, without podman, which takes seconds to start.
inside() { nsenter -t "$engine" -m /usr/bin/crun exec --cap CAP_MKNOD "$@" 8>&-; }
sudo() { "$@"; }
# Busybox's own doesn't know all that the recipes ask for.
stat() { /bin/stat "$@"; }

# recipe NAME [EDIT]: follows the README word for word: the lines of its recipe, with what sed is to change in them.
recipe() {
    [ -s "/vm/recipes/$1" ] || fail "the README has no recipe $1"
    sed "${2:-}" "/vm/recipes/$1" >/tmp/recipe
    set -ex
    . /tmp/recipe
    set +ex
}

# made: the id of the container that the recipe has made, which has said so in /tmp/made.
made() { cat /tmp/made >&2 && grep -xE '[0-9a-f]{64}' /tmp/made; }

# is_guest NAME STATE
is_guest() { [ "$(api guests | jq -r --arg name "$1" '.[] | select(.name == $name) | .state')" = "$2" ]; }

# node_of GUEST DEVICE: its node in /vusb.
node_of() {
    node_directory=$(attachment "$1" "$2") || fail "$1 hasn't $2"
    printf '/vusb/guests/%s/dev/bus/usb/%03d/%03d' "$1" "$(cat "$node_directory/busnum")" "$(cat "$node_directory/devnum")"
}
