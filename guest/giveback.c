#define _GNU_SOURCE
#include "giveback.h"

#include "files.h"
#include "guest.h"

#include <fcntl.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BLOCK_ORDER "module/page_reporting/parameters/page_reporting_order"
#define PROVOKING_BYTES (8u << 20)
enum { LOOK_MS = 100, STEADY_LOOKS = 3, MOST_LOOKS = 80 };

/* Of 2^5 pages. In the kernel's own 2 MiB a fifth of what a program had stays behind, in blocks that someone else has a
 * page of (decisions/0015). A kernel without such reports has no such file. */
void report_small_blocks(void)
{
	write_text(guest.sys, BLOCK_ORDER, "5");
}

/* Which driver's interrupts they are: "virtio4", or with more vectors "virtio4-...". */
static bool find_balloon(char *name, size_t size)
{
	char link[32];
	for (int number = 0; number < 16; number++) {
		snprintf(link, sizeof link, "bus/virtio/drivers/virtio_balloon/virtio%d", number);
		if (faccessat(guest.sys, link, F_OK, 0) == 0) {
			snprintf(name, size, "%s", strrchr(link, '/') + 1);
			return true;
		}
	}
	return false;
}

static unsigned long interrupts_of(const char *name)
{
	static char text[16384];
	unsigned long sum = 0;
	if (read_small(guest.proc, "interrupts", text, sizeof text) < 0)
		return 0;
	for (char *save = NULL, *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		char *at = strchr(line, ':'), *end;
		if (at == NULL || strstr(line, name) == NULL)
			continue;
		/* A number for each processor, and then words. */
		for (at++;; at = end) {
			const unsigned long count = strtoul(at, &end, 10);
			if (end == at)
				break;
			sum += count;
		}
	}
	return sum;
}

void rehearse_giving_back(void)
{
	char name[32];
	if (faccessat(guest.sys, BLOCK_ORDER, F_OK, 0) || !find_balloon(name, sizeof name))
		return;
	const unsigned long before = interrupts_of(name);
	char *some = mmap(NULL, PROVOKING_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (some == MAP_FAILED)
		return;
	memset(some, 1, PROVOKING_BYTES);
	munmap(some, PROVOKING_BYTES);
	/* The kernel waits 2 s, to name what is still free then. Each answer of the host is an interrupt: they come, and end. */
	unsigned long last = before;
	for (int look = 0, steady = 0; look < MOST_LOOKS && steady < STEADY_LOOKS; look++) {
		poll(NULL, 0, LOOK_MS);
		const unsigned long now = interrupts_of(name);
		steady = now != before && now == last ? steady + 1 : 0;
		last = now;
	}
}
