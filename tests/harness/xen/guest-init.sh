#!/bin/busybox sh
# PID 1 of the tests' PV guests: drivers of disk and network, then it waits.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t devtmpfs dev /dev
while read -r module options; do insmod "/modules/$module.ko" $options; done </modules/order
ip link set eth0 up
echo guest is up
while :; do sleep 3600; done
