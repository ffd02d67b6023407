#!/bin/busybox sh
# Writes an initrd for a VM of this guest's to its output: the guest's own
# busybox and init, and drivers for the VM's disk and network.
set -e
root=$(mktemp -d)
cd "$root"
mkdir bin dev etc lib proc root sys tmp
cp -p /bin/busybox bin
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "bin/$applet"
done
cp -p /init .
cp -rp /lib/child lib/virtio
cp -p /etc/passwd /etc/profile etc
# The kernel opens it for init before anything is mounted.
mknod dev/console c 5 1
find . | cpio -o -H newc 2>/dev/null
rm -r "$root"
