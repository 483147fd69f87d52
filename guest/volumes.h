/* Disks that outlive the machine: mounted into the root, filled from the image when they are new. */
#pragma once
#include "bytes.h"

#include <stdbool.h>
#include <stddef.h>

enum { VOLUME_SLOTS = 4 };

/* Before the root is entered: each volume that CONFIGURE names (field 16) is mounted aside. On failure errno says why, `what`
 * the step. */
bool open_volumes(const uint8_t *payload, size_t length, char *what, size_t size);
/* Inside the root: each goes to its place. A new one gets first what the image has there. */
bool place_volumes(char *what, size_t size);
/* What is written to them, and to the machine's own disk, is there. */
void sync_disks(void);
/* The same, and nothing is written any more. */
void close_volumes(void);
