#define _GNU_SOURCE
#include "twin.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

int memory_descriptor = -1;
static unsigned long memory_start, memory_bytes;

/* Writable memory that is shared would be the memory of two machines. The largest file that is mapped to be written, each
 * page on its own, is the guest's memory. */
void look_at_memory(void)
{
	char path[64], line[4352];
	snprintf(path, sizeof path, "/proc/%d/maps", request.original);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		fail("cannot read %s", path);
	unsigned long from, to, node;
	char rights[8];
	while (fgets(line, sizeof line, file) != NULL) {
		if (sscanf(line, "%lx-%lx %7s %*x %*s %lu", &from, &to, rights, &node) != 4 || rights[1] != 'w')
			continue;
		errno = 0;
		if (rights[3] == 's')
			fail("process %d shares its memory at %lx with others", request.original, from);
		if (node != 0 && to - from > memory_bytes) {
			memory_start = from;
			memory_bytes = to - from;
		}
	}
	fclose(file);
	if (request.memory == NULL)
		return;
	struct stat facts;
	int made = open(request.memory, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (made < 0 || fstat(made, &facts) != 0)
		fail("cannot open %s", request.memory);
	errno = 0;
	if (memory_bytes == 0 || facts.st_size != (off_t)memory_bytes)
		fail("%s has %lld bytes, and the machine's memory %lu", request.memory, (long long)facts.st_size, memory_bytes);
	memory_descriptor = made;
}

unsigned long mapped_pages(pid_t pid)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/statm", pid);
	FILE *file = fopen(path, "re");
	unsigned long pages;
	if (file == NULL || fscanf(file, "%lu", &pages) != 1)
		fail("cannot read %s", path);
	fclose(file);
	return pages;
}

/* QEMU keeps its guest's memory out of every fork: it is let in, once and for all. Finding it is a walk through all pages. */
void let_memory_in(void)
{
	char path[64], line[4352];
	snprintf(path, sizeof path, "/proc/%d/smaps", request.original);
	FILE *file = fopen(path, "re");
	if (file == NULL)
		fail("cannot read %s", path);
	unsigned long start = 0, end = 0;
	while (fgets(line, sizeof line, file) != NULL) {
		unsigned long from, to;
		if (sscanf(line, "%lx-%lx ", &from, &to) == 2) {
			start = from;
			end = to;
		}
		if (strncmp(line, "VmFlags:", 8) != 0 || strstr(line, " dc") == NULL)
			continue;
		const uint64_t values[6] = {start, end - start, MADV_DOFORK, 0, 0, 0};
		long answer = ask_for(&threads[0], request.original, NULL, SYS_madvise, values);
		if (answer < 0) {
			errno = (int)-answer;
			fail("process %d does not let its memory be forked", request.original);
		}
	}
	fclose(file);
}

/* In the place of what the original was filled from, and where it wrote. */
void map_memory(const struct thread *at, pid_t twin, int number)
{
	const uint64_t values[6] = {memory_start, memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED, (uint64_t)number, 0};
	long answer = ask_for(at, twin, NULL, SYS_mmap, values);
	if (answer != (long)memory_start) {
		errno = (int)-answer;
		fail("the twin cannot map %s", request.memory);
	}
}
