#!/bin/busybox sh
# The guest's first process: finds the disks, lays what this machine alone has over the root file
# system, and hands over to systemd.
export PATH=/bin
mount -t devtmpfs dev /dev
mount -t proc proc /proc
mount -t sysfs sys /sys
while read -r module; do
    insmod "/modules/$module" || echo "vetch: cannot load $module"
done < /modules/order
# After a loss of power the journal is played back by this mount.
if ! mount -t ext4 /dev/vda /root || ! mount -t ext4 -o ro,noload /dev/vdb /root/lib/modules; then
    echo "vetch: no root file system"
    exec sh
fi
cp -a /seed/. /root/
umount /proc /sys
mount --move /dev /root/dev
exec switch_root /root /sbin/init
