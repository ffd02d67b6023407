#!/bin/busybox sh
# The first process of the guest: prepares the file systems, then runs /exec
# and reports its output and status on the third serial port, or gives a shell
# on the console. /at-end runs before the machine goes away.
export PATH=/bin HOME=/root TERM=linux

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev 2>/dev/null

# In the order of their numbers, as they need each other.
for driver in /lib/driver-*.ko; do
    [ ! -f "$driver" ] || insmod "$driver"
done

# Linux finds two disks in any order. The one that the machine booted from has a
# partition, the other has none.
if [ -f "$driver" ]; then
    until [ -d /sys/block/sda ] && [ -d /sys/block/sdb ] && ls -d /sys/block/sd?/sd?1 >/dev/null 2>&1
    do usleep 20000; done
    [ -d /sys/block/sda/sda1 ] && ln -s sdb /dev/scratch || ln -s sda /dev/scratch
fi

# In a VM of a guest's, for its disk and its network.
for driver in virtio_ring virtio virtio_mmio virtio_blk failover net_failover virtio_net; do
    [ ! -f /lib/virtio/$driver.ko ] || insmod /lib/virtio/$driver.ko
done

if [ -f /exec ]; then
    stty -F /dev/ttyS2 raw -echo 115200
    exec 3>/dev/ttyS2
    cd /root
    sh /exec </dev/null >&3 2>&1 3>&-
    status=$?
    [ ! -f /at-end ] || sh /at-end
    printf '\036UNDERLAY-RESULT %d\036\n' $status >&3
    exec 3>&-
    poweroff -f
fi

# A line from the far side says that the person leaves.
if [ -f /at-end ]; then
    stty -F /dev/ttyS2 raw -echo 115200
    {
        read -r _ </dev/ttyS2
        sh /at-end
        printf '\036UNDERLAY-RESULT 0\036\n' >/dev/ttyS2
    } &
fi

# The kernel's messages would land on the prompt; its last words still come.
echo 1 >/proc/sys/kernel/printk
printf '\nThis is busybox on Debian'\''s kernel %s.\n' "$(uname -r)"
printf 'Ctrl-A X leaves; `poweroff -f` switches off.\n\n'
while true; do
    setsid cttyhack sh -l
done
