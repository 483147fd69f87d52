#!/bin/busybox sh
# PID 1 of the tests' dom0: mounts, modules in their order, Xen's daemons, a bridge, an ssh server. Says on the console
# what its host key is and that it is ready; a step that fails is said there too and ends the machine.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C
/bin/busybox --install -s /bin 2>/dev/null

fail() {
  echo "BERTH-FAILED $1"
  poweroff -f
}

mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev || fail devtmpfs
mkdir -p /dev/pts /run /tmp /var/lib/xen /var/log/xen /var/run/xen /var/lock
mount -t devpts devpts /dev/pts
mount -t tmpfs run /run
mkdir -p /run/xen /run/lock /run/xenstored
while read -r module options; do
  insmod "/modules/$module.ko" $options || fail "module $module"
done </modules/order
mount -t xenfs xenfs /proc/xen || fail xenfs

hostname xenlab
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0 && ip link set eth0 up || fail network
brctl addbr xenbr0 && ip link set xenbr0 up || fail bridge

# Nobody waits for these: xenstored comes first because the others talk to it.
xenstored --pid-file /run/xenstored.pid || fail xenstored
/usr/lib/xen-4.17/bin/xen-init-dom0 || fail xen-init-dom0
xenconsoled --pid-file=/run/xenconsoled.pid || fail xenconsoled

dropbearkey -t ed25519 -f /etc/dropbear/key >/run/key 2>&1 || fail dropbearkey
echo "BERTH-KEY $(grep ^ssh- /run/key | cut -d' ' -f1,2)"
# The card's link comes up seconds after the card: who connects before that waits six for QEMU to ask again.
tries=0
until ping -c 1 -W 1 10.0.2.2 >/dev/null 2>&1; do
  tries=$((tries + 1))
  [ $tries -lt 30 ] || fail link
done
dropbear -s -r /etc/dropbear/key -p 22 || fail dropbear
echo BERTH-READY
while :; do sleep 3600; done
