/* What all parts of the guest program share. One thread, one instance. */
#pragma once
#include <stdbool.h>
#include <stdint.h>

enum phase { PHASE_FRESH = 1, PHASE_CONFIGURED = 2, PHASE_ENDING = 3 };

struct guest {
	int epoll;
	int proc, sys;   /* our own procfs and sysfs, out of the reach of what runs in the root */
	int pts;         /* the root's /dev/pts */
	int data_disk;   /* the root folder of the writable disk */
	enum phase phase;
	uint64_t started_ns; /* CLOCK_BOOTTIME */
	char hostname[65];
};

extern struct guest guest;

uint64_t boottime_ns(void);

/* What an epoll event points at. */
enum source_kind { SOURCE_PORT, SOURCE_SIGNALS, SOURCE_OUTPUT, SOURCE_INPUT };
struct source {
	enum source_kind kind;
	bool *ready; /* edge-triggered: set on an event, cleared by whoever meets EAGAIN */
};

/* Watches `fd` for edges. */
bool watch(int fd, uint32_t events, struct source *source);
