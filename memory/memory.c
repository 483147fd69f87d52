/*
 * berth-memory: keeps or copies the memory of a machine, outside of berthd and of QEMU.
 *
 *   berth-memory hold SIZE NAME            an empty memory of SIZE bytes, for a template to be made in
 *   berth-memory copy PID START END NAME   the memory that process PID has mapped from START to END (hexadecimal), held
 *   berth-memory save PID START END FILE   the same, into FILE (which must not exist), sparse; then it ends
 *   berth-memory copy-file FROM TO...      what FROM holds, without its holes, into each TO (which is empty, or gone by now)
 *   berth-memory extents FILE              where FILE holds data: begin and end of each extent, a line each
 *
 * A held memory is a memfd on descriptor 3: `/proc/PID/fd/3` is its name for those who may look there. Once sealed
 * nobody can change it any more, not even a process that opened it for writing, as QEMU does to map it privately.
 * NAME is only for people and for finding the process again.
 *
 * Talk: `held` on standard output once descriptor 3 is there (after the copy); `seal` on standard input, answered by
 * `sealed`. Or instead `fill PID START END`: the same as `copy` into what `hold` made, which others may have mapped
 * privately by then; answered by `filled` once it is sealed, and it ends when standard input does. A copy is sealed from the start. When standard input ends before the seal, the holder ends: what was being
 * made is of no use. Sealed, it stays until it is killed, whoever started it. Failure: a line on standard error, exit 1.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/memfd.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MEMORY_DESCRIPTOR 3
#define PAGE 4096u
#define CHUNK_PAGES 64u /* stays in a processor's own cache between reading and writing */
/* The memory of a machine that works lies in all parts of it: several make light work. */
#define THREADS 8u

#ifndef F_ADD_SEALS
#define F_ADD_SEALS 1033
#endif
#define ALL_SEALS (0x1 | 0x2 | 0x4 | 0x8) /* F_SEAL_SEAL, SHRINK, GROW, WRITE */

static _Noreturn void fail(const char *what, const char *name)
{
	fprintf(stderr, "berth-memory: %s %s: %s\n", what, name, strerror(errno));
	_exit(1);
}

static uint64_t parse(const char *text, int base)
{
	char *end;
	errno = 0;
	uint64_t value = strtoull(text, &end, base);
	if (errno || *end || end == text) {
		errno = EINVAL;
		fail("not a number:", text);
	}
	return value;
}

static void say(const char *line)
{
	if (write(1, line, strlen(line)) < 0)
		return; /* nobody listens any more: the next read says so */
}

/* ---- holding ---- */

static int make_memory(const char *name, uint64_t size)
{
	int fd = (int)syscall(SYS_memfd_create, name, MFD_ALLOW_SEALING | MFD_CLOEXEC);
	if (fd < 0 || ftruncate(fd, (off_t)size))
		fail("cannot make a memory of", name);
	if (fd == MEMORY_DESCRIPTOR)
		return fd;
	if (dup3(fd, MEMORY_DESCRIPTOR, O_CLOEXEC) < 0)
		fail("cannot move", name);
	close(fd);
	return MEMORY_DESCRIPTOR;
}

static void seal(int fd)
{
	if (fcntl(fd, F_ADD_SEALS, ALL_SEALS))
		fail("cannot seal", "the memory");
}

static _Noreturn void keep(void)
{
	int null = open("/dev/null", O_RDWR);
	for (int i = 0; null >= 0 && i < 3; i++)
		dup2(null, i);
	for (;;)
		pause();
}

static void await_order(char *line, size_t size)
{
	size_t length = 0;
	while (length < size - 1) {
		ssize_t count = read(0, line + length, size - 1 - length);
		if (count < 0 && errno == EINTR)
			continue;
		if (count <= 0)
			_exit(0);
		length += (size_t)count;
		line[length] = '\0';
		if (line[length - 1] == '\n') {
			line[length - 1] = '\0';
			return;
		}
	}
	errno = EINVAL;
	fail("cannot read", "an order");
}

/* ---- copying ---- */

struct source {
	pid_t pid;
	int memory;   /* /proc/PID/mem */
	int pages;    /* /proc/PID/pagemap */
	int file;     /* what is mapped there, or -1 */
	uint64_t start, file_offset;
};

static int open_of(const char *pid, const char *name, int flags)
{
	char path[128];
	snprintf(path, sizeof path, "/proc/%s/%s", pid, name);
	return open(path, flags | O_CLOEXEC);
}

/* A page that the process has neither touched nor finds in the mapped file is zero and need not be read. */
static int next_file_data(const struct source *source, uint64_t offset, uint64_t *begin, uint64_t *end)
{
	off_t data = source->file < 0 ? -1 : lseek(source->file, (off_t)(source->file_offset + offset), SEEK_DATA);
	if (data < 0)
		return 0;
	off_t hole = lseek(source->file, data, SEEK_HOLE);
	*begin = (uint64_t)data - source->file_offset;
	*end = hole < 0 ? UINT64_MAX : (uint64_t)hole - source->file_offset;
	return 1;
}

static int is_zero(const uint8_t *page)
{
	return page[0] == 0 && memcmp(page, page + 1, PAGE - 1) == 0;
}

static void write_all(int fd, const uint8_t *data, size_t length, uint64_t at, const char *name)
{
	while (length) {
		ssize_t count = pwrite(fd, data, length, (off_t)at);
		if (count <= 0)
			fail("cannot write", name);
		data += count;
		at += (uint64_t)count;
		length -= (size_t)count;
	}
}

/* Straight from the process where the kernel lets us, which spares a copy; else by its file. */
static void read_run(const struct source *source, uint8_t *buffer, uint64_t offset, size_t length, const char *name)
{
	for (size_t have = 0; have < length;) {
		struct iovec here = { .iov_base = buffer + have, .iov_len = length - have };
		struct iovec there = { .iov_base = (void *)(uintptr_t)(source->start + offset + have), .iov_len = length - have };
		ssize_t count = process_vm_readv(source->pid, &here, 1, &there, 1, 0);
		if (count <= 0)
			count = pread(source->memory, buffer + have, length - have, (off_t)(source->start + offset + have));
		if (count <= 0)
			fail("cannot read the memory for", name);
		have += (size_t)count;
	}
}

static void copy_run(const struct source *source, uint8_t *buffer, int to, uint64_t offset, uint64_t pages, const char *name)
{
	read_run(source, buffer, offset, (size_t)pages * PAGE, name);
	for (uint64_t first = 0; first < pages;) {
		if (is_zero(buffer + first * PAGE)) {
			first++;
			continue;
		}
		uint64_t last = first + 1;
		while (last < pages && !is_zero(buffer + last * PAGE))
			last++;
		write_all(to, buffer + first * PAGE, (size_t)(last - first) * PAGE, offset + first * PAGE, name);
		first = last;
	}
}

/* A part of a memory, copied by a thread of its own. */
struct part {
	const struct source *source;
	uint64_t begin, end;
	int to;
	const char *name;
};

static void *copy_part(void *argument)
{
	const struct part *part = argument;
	const struct source *source = part->source;
	uint64_t entries[CHUNK_PAGES], begin = 0, end = 0;
	uint8_t *buffer = aligned_alloc(PAGE, CHUNK_PAGES * PAGE);
	if (!buffer)
		fail("no room to copy", part->name);
	int more = next_file_data(source, part->begin, &begin, &end);
	for (uint64_t offset = part->begin; offset < part->end; offset += CHUNK_PAGES * PAGE) {
		uint64_t left = (part->end - offset) / PAGE, pages = left < CHUNK_PAGES ? left : CHUNK_PAGES;
		if (pread(source->pages, entries, pages * 8, (off_t)((source->start + offset) / PAGE * 8)) !=
		    (ssize_t)(pages * 8))
			fail("cannot read the page map for", part->name);
		uint64_t run = 0;
		for (uint64_t i = 0; i <= pages; i++) {
			uint64_t at = offset + i * PAGE;
			while (more && end <= at)
				more = next_file_data(source, at, &begin, &end);
			/* Bits 63 and 62: present, swapped out. */
			int used = i < pages && ((entries[i] >> 62) || (more && begin <= at));
			if (used) {
				run++;
			} else if (run) {
				copy_run(source, buffer, part->to, at - run * PAGE, run, part->name);
				run = 0;
			}
		}
	}
	free(buffer);
	return NULL;
}

static void copy_memory(const struct source *source, uint64_t size, int to, const char *name)
{
	struct part parts[THREADS];
	pthread_t threads[THREADS];
	uint64_t step = (size / THREADS + PAGE - 1) / PAGE * PAGE;
	for (unsigned i = 0; i < THREADS; i++) {
		uint64_t begin = i * step < size ? i * step : size, end = begin + step < size ? begin + step : size;
		parts[i] = (struct part){ .source = source, .begin = begin, .end = end, .to = to, .name = name };
		errno = pthread_create(&threads[i], NULL, copy_part, &parts[i]);
		if (errno)
			fail("cannot start a thread for", name);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
}

static struct source open_source(const char *pid, const char *start, const char *end)
{
	char range[64];
	struct source source = { .pid = (pid_t)parse(pid, 10), .start = parse(start, 16) };
	parse(end, 16);
	source.memory = open_of(pid, "mem", O_RDONLY);
	source.pages = open_of(pid, "pagemap", O_RDONLY);
	snprintf(range, sizeof range, "map_files/%s-%s", start, end);
	source.file = open_of(pid, range, O_RDONLY);
	if (source.memory < 0 || source.pages < 0 || source.file < 0)
		fail("cannot look into process", pid);
	return source;
}

/* What came of `hold`: the memory is written by whoever maps it and then sealed, or filled from a process. */
static _Noreturn void hold(const char *size, const char *name)
{
	char line[128], pid[24], start[24], end[24], rest[8];
	int fd = make_memory(name, parse(size, 10));
	say("held\n");
	await_order(line, sizeof line);
	if (!strcmp(line, "seal")) {
		seal(fd);
		say("sealed\n");
		keep();
	}
	if (sscanf(line, "fill %23[0-9] %23[0-9a-f] %23[0-9a-f]", pid, start, end) != 3) {
		errno = EINVAL;
		fail("not an order:", line);
	}
	struct source source = open_source(pid, start, end);
	uint64_t length = parse(end, 16) - source.start;
	if (length > parse(size, 10)) {
		errno = EFBIG;
		fail("cannot fill", name);
	}
	copy_memory(&source, length, fd, name);
	seal(fd);
	say("filled\n");
	while (read(0, rest, sizeof rest) > 0)
		;
	_exit(0);
}

/* ---- files ---- */

static void copy_extent(int from, int to, off_t begin, off_t end, const char *name)
{
	static uint8_t buffer[CHUNK_PAGES * PAGE];
	while (begin < end) {
		off_t in = begin, out = begin;
		ssize_t count = copy_file_range(from, &in, to, &out, (size_t)(end - begin), 0);
		if (count <= 0) {
			size_t length = (size_t)(end - begin) < sizeof buffer ? (size_t)(end - begin) : sizeof buffer;
			count = pread(from, buffer, length, begin);
			if (count <= 0)
				fail("cannot read for", name);
			write_all(to, buffer, (size_t)count, (uint64_t)begin, name);
		}
		begin += count;
	}
}

static void copy_file(const char *source, const char *target)
{
	struct stat about;
	int from = open(source, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	int to = open(target, O_WRONLY | O_NOFOLLOW | O_CLOEXEC);
	/* A fork that failed meanwhile has taken its disk with it; that is no reason to leave the others without. */
	if (to < 0 && errno == ENOENT) {
		close(from);
		return;
	}
	if (from < 0 || fstat(from, &about))
		fail("cannot read", source);
	if (to < 0 || ftruncate(to, about.st_size))
		fail("cannot write", target);
	off_t end = ioctl(to, FICLONE, from) == 0 ? about.st_size : 0;
	while ((end = lseek(from, end, SEEK_DATA)) >= 0) {
		off_t begin = end;
		end = lseek(from, begin, SEEK_HOLE);
		if (end < 0)
			fail("cannot read", source);
		copy_extent(from, to, begin, end, target);
	}
	close(from);
	if (close(to))
		fail("cannot write", target);
}

static void list_extents(const char *name)
{
	int fd = open(name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		fail("cannot read", name);
	for (off_t begin, end = 0; (begin = lseek(fd, end, SEEK_DATA)) >= 0;) {
		end = lseek(fd, begin, SEEK_HOLE);
		if (end < 0 || printf("%lld %lld\n", (long long)begin, (long long)end) < 0)
			fail("cannot list", name);
	}
	if (fflush(stdout))
		fail("cannot list", name);
}

int main(int argc, char **argv)
{
	signal(SIGPIPE, SIG_IGN);
	if (argc == 3 && !strcmp(argv[1], "extents")) {
		list_extents(argv[2]);
		return 0;
	}
	if (argc == 4 && !strcmp(argv[1], "hold"))
		hold(argv[2], argv[3]);
	if (argc >= 4 && !strcmp(argv[1], "copy-file")) {
		for (int index = 3; index < argc; index++)
			copy_file(argv[2], argv[index]);
		return 0;
	}
	if (argc == 6 && (!strcmp(argv[1], "copy") || !strcmp(argv[1], "save"))) {
		struct source source = open_source(argv[2], argv[3], argv[4]);
		uint64_t size = parse(argv[4], 16) - source.start;
		if (!strcmp(argv[1], "copy")) {
			int fd = make_memory(argv[5], size);
			copy_memory(&source, size, fd, argv[5]);
			seal(fd);
			say("held\n");
			close(source.memory);
			close(source.pages);
			close(source.file);
			keep();
		}
		int fd = open(argv[5], O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
		if (fd < 0 || ftruncate(fd, (off_t)size))
			fail("cannot make", argv[5]);
		copy_memory(&source, size, fd, argv[5]);
		if (fsync(fd) || close(fd))
			fail("cannot write", argv[5]);
		return 0;
	}
	fprintf(stderr, "usage: berth-memory hold SIZE NAME | copy PID START END NAME | save PID START END FILE | copy-file FROM TO... | extents FILE\n");
	return 1;
}
