/* CONFIGURE: from a bare initramfs to a root file system in which processes can start. */
#pragma once
#include "bytes.h"
#include "net.h"
#include "root.h"

/* Everything CONFIGURE says, decoded; the texts are copies, the fields point into the payload. */
struct configuration {
	struct root_plan root;
	char *hostname, *domain;
	struct network network;
	bool has_network;
	uint64_t clock_ns, clock_at_ns;
	struct field entropy;
};

/* False when the payload is malformed. */
bool read_configuration(struct configuration *to, const uint8_t *payload, size_t length);
void forget_configuration(struct configuration *configuration);
/* Clock, random pool, host and domain name. On failure errno says why and `what` names the step. */
bool apply_names(struct configuration *configuration, char *what, size_t size);

/* Does what the fields say. Fills `reply` with CONFIGURED's fields. True when all of it worked. */
bool configure(const uint8_t *payload, size_t length, struct bytes *reply);
/* Sets the clock: it was `epoch_ns` when CLOCK_BOOTTIME was `boottime_ns` (0: now). */
bool set_clock(uint64_t epoch_ns, uint64_t boottime_ns);
