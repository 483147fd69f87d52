/* CONFIGURE: from a bare initramfs to a root file system in which processes can start. */
#pragma once
#include "bytes.h"

/* Mounts proc, sys and dev of the initramfs. */
bool mount_early(void);
/* Does what the fields say. Fills `reply` with CONFIGURED's fields. True when all of it worked. */
bool configure(const uint8_t *payload, size_t length, struct bytes *reply);
bool set_clock(uint64_t epoch_ns);
