/* All that a guest can do before it knows whose it is: done once in a template, and found done by each of its clones. */
#pragma once
#include "volumes.h"

#include <limits.h>
#include <stdbool.h>

/* A virtio disk, by its serial. */
struct disk {
	char name[NAME_MAX + 1]; /* "vda"; empty when the machine has no such disk */
	char device[NAME_MAX + 8];
};

struct prepared {
	struct disk root, data, volumes[VOLUME_SLOTS];
	/* Mounts that nobody has seen yet, to be moved into the root: with what is mounted below them. */
	int proc, sys, dev;
	int cgroup;    /* the root of cgroup2, whatever the root mounts over it */
	int files;     /* a small tmpfs for the files bound over those of the image */
};

extern struct prepared prepared;

/* Mounts proc, sys and dev of the initramfs. */
bool mount_early(void);
/* For a process in a mount namespace of its own: its views of what was mounted aside. */
bool reopen_prepared(void);
/* Modules loaded, disks found, system file systems mounted aside, loopback up. What fails is logged: CONFIGURE will say so. */
void prepare_machine(void);
