#!/bin/busybox sh
# Hotplug script of the tests' disks: tells blkback the device's numbers. Xen's own wants bash and takes seconds here.
[ "$1" = add ] || exit 0
device=$(xenstore-read "$XENBUS_PATH/params")
xenstore-write "$XENBUS_PATH/physical-device" "$(stat -L -c %t:%T "$device")" \
  "$XENBUS_PATH/physical-device-path" "$device" "$XENBUS_PATH/hotplug-status" connected
