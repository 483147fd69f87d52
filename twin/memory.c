#define _GNU_SOURCE
#include "twin.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

int memory_descriptor = -1;
static unsigned long memory_start, memory_bytes;
static ino_t memory_node;
static dev_t memory_device;

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
	unsigned major_number, minor_number;
	char rights[8];
	while (fgets(line, sizeof line, file) != NULL) {
		if (sscanf(line, "%lx-%lx %7s %*x %x:%x %lu", &from, &to, rights, &major_number, &minor_number, &node) != 6 || rights[1] != 'w')
			continue;
		errno = 0;
		if (rights[3] == 's')
			fail("process %d shares its memory at %lx with others", request.original, from);
		if (node != 0 && to - from > memory_bytes) {
			memory_start = from;
			memory_bytes = to - from;
			memory_node = node;
			memory_device = makedev(major_number, minor_number);
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

static long make_do(long number, uint64_t a, uint64_t b, uint64_t c)
{
	const uint64_t values[6] = {a, b, c, 0, 0, 0};
	long answer = ask_for(worker, worker->tid, NULL, number, values);
	if (answer < 0) {
		errno = (int)-answer;
		fail("process %d cannot let go of the file of its memory", request.original);
	}
	return answer;
}

/* Nothing can be put into it, and everything be taken out of it. */
static int empty_memory(uint64_t scratch)
{
	static const char name[] = "berth-none";
	write_memory(request.original, scratch, name, sizeof name);
	const int made = (int)make_do(SYS_memfd_create, scratch, MFD_CLOEXEC | MFD_ALLOW_SEALING, 0);
	make_do(SYS_fcntl, (uint64_t)made, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW);
	return made;
}

/*
 * QEMU gives back what its guest does not need by making a hole in the file of the memory first, and then in the memory. The
 * file is others' as well, and refuses. With an empty one in its place the first does nothing, and the second what it should.
 */
void let_go_of_memory(uint64_t scratch)
{
	char path[64];
	struct stat facts;
	int replaced = 0;
	const int empty = empty_memory(scratch);
	snprintf(path, sizeof path, "/proc/%d/fd", request.original);
	DIR *folder = opendir(path);
	if (folder == NULL)
		fail("cannot read %s", path);
	for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
		const int place = atoi(entry->d_name);
		if (entry->d_name[0] == '.' || place == empty || fstatat(dirfd(folder), entry->d_name, &facts, 0) != 0)
			continue;
		if (memory_node == 0 || facts.st_ino != memory_node || facts.st_dev != memory_device || !S_ISREG(facts.st_mode))
			continue;
		make_do(SYS_dup3, (uint64_t)empty, (uint64_t)place, O_CLOEXEC);
		replaced += 1;
	}
	closedir(folder);
	make_do(SYS_close, (uint64_t)empty, 0, 0);
	errno = 0;
	if (replaced == 0)
		fail("process %d has no file open that its guest's memory is mapped from", request.original);
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
