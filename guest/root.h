/* Building the root file system: layers, overlay, and what a container finds mounted in it. */
#pragma once
#include "bytes.h"

enum { LAYERS_MAX = 200 /* BLKPG numbers partitions up to 255; Docker allows 127 layers */ };

struct layer {
	uint64_t first_sector, sectors;
};

struct root_plan {
	struct layer layers[LAYERS_MAX]; /* lowest first */
	size_t layer_count;
	struct field hosts, resolv_conf, machine_id, product_uuid;
	bool read_only;
	uint64_t shm_bytes;
	const uint8_t *payload; /* CONFIGURE again, for the repeated tmpfs mounts and the working folder */
	size_t payload_length;
};

/* On failure errno says why and `what` names the step. */
bool build_root(const struct root_plan *plan, char *what, size_t size);
/* The files bound over those of the image, written or written again. */
bool write_bound_files(const struct root_plan *plan, char *what, size_t size);
void mkdir_quiet(const char *path);
