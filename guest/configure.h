/* CONFIGURE: from a bare initramfs to a root file system in which processes can start. */
#pragma once
#include "bytes.h"

/* Does what the fields say. Fills `reply` with CONFIGURED's fields. True when all of it worked. */
bool configure(const uint8_t *payload, size_t length, struct bytes *reply);
/* Sets the clock: it was `epoch_ns` when CLOCK_BOOTTIME was `boottime_ns` (0: now). */
bool set_clock(uint64_t epoch_ns, uint64_t boottime_ns);
