#define _GNU_SOURCE
#include "freeze.h"

#include "files.h"
#include "guest.h"
#include "log.h"
#include "port.h"
#include "prepare.h"
#include "volumes.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* cgroup2's freezer stops processes where no signal is seen by anybody. The root cgroup has no freezer: what is in it
 * moves to a child of ours and back. Kernel threads stay. */

#define OWN "berth.frozen"
#define AWAY_MAX_NS 1000000000u
enum {
	FREEZE_WAIT_MS = 10000, /* a process deep in the kernel stops when it comes out of there */
	PASSES_MAX = 100,       /* over the root's processes, while those that are left there fork */
	FLUSH = 1,              /* field 1 of FREEZE */
};

static bool frozen;
static bool away; /* processes are in our cgroup */
static uint64_t thawed_ns;
static struct bytes kept; /* names of the cgroups that were frozen before, by whoever runs in the guest: they stay so */

bool processes_frozen(void)
{
	return frozen;
}

static int open_cgroup(const char *name)
{
	return openat(prepared.cgroup, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
}

/* Calls `visit` for each cgroup below the root but our own. False with errno when it does so. */
static bool each_cgroup(bool (*visit)(int group, const char *name))
{
	int fd = open_cgroup(".");
	DIR *groups = fd >= 0 ? fdopendir(fd) : NULL;
	if (!groups)
		return false;
	bool good = true;
	for (struct dirent *entry; good && (entry = readdir(groups));) {
		if (entry->d_type != DT_DIR || entry->d_name[0] == '.' || strcmp(entry->d_name, OWN) == 0)
			continue;
		int group = open_cgroup(entry->d_name);
		if (group < 0)
			continue; /* removed meanwhile */
		good = visit(group, entry->d_name);
		int error = errno;
		close(group);
		errno = error;
	}
	int error = errno;
	closedir(groups);
	errno = error;
	return good;
}

static bool is_kept(const char *name)
{
	for (size_t at = 0; at < kept.length; at += strlen((const char *)kept.data + at) + 1)
		if (strcmp((const char *)kept.data + at, name) == 0)
			return true;
	return false;
}

static bool freeze_cgroup(int group, const char *name)
{
	char state[8];
	if (read_line(group, "cgroup.freeze", state, sizeof state) > 0 && state[0] == '1')
		put_bytes(&kept, name, strlen(name) + 1);
	return write_text(group, "cgroup.freeze", "1") || errno == ENODEV;
}

static bool thaw_cgroup(int group, const char *name)
{
	if (!is_kept(name) && !write_text(group, "cgroup.freeze", "0"))
		log_line("thawing %s: %s", name, strerror(errno));
	return true;
}

/* A frozen cgroup says so in cgroup.events, and rouses whoever polls that file when it changes. */
static bool await_frozen(int group, const char *name)
{
	(void)name;
	char events[128];
	uint64_t until = boottime_ns() + (uint64_t)FREEZE_WAIT_MS * 1000000;
	int fd = openat(group, "cgroup.events", O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENODEV || errno == ENOENT;
	for (;;) {
		ssize_t count = pread(fd, events, sizeof events - 1, 0);
		events[count > 0 ? count : 0] = '\0';
		if (count <= 0 || strstr(events, "frozen 1"))
			break;
		uint64_t now = boottime_ns();
		struct pollfd wait = { .fd = fd, .events = POLLPRI };
		if (now >= until || poll(&wait, 1, (int)((until - now) / 1000000) + 1) < 0) {
			close(fd);
			errno = ETIMEDOUT;
			return false;
		}
	}
	close(fd);
	return true;
}

/* A kernel thread has no program; neither has a process that has ended and waits to be collected. */
static bool has_program(const char *pid)
{
	char path[32], target[4];
	snprintf(path, sizeof path, "%s/exe", pid);
	return readlinkat(guest.proc, path, target, sizeof target) > 0;
}

/* The whole of cgroup.procs, to be freed; NULL without memory. */
static char *read_members(int group)
{
	size_t size = 4096;
	for (char *text = malloc(size);; size *= 2) {
		char *grown = text ? realloc(text, size) : NULL;
		if (!grown) {
			free(text);
			return NULL;
		}
		text = grown;
		ssize_t length = read_small(group, "cgroup.procs", text, size);
		if (length < 0) {
			free(text);
			return NULL;
		}
		if ((size_t)length < size - 1)
			return text;
	}
}

/* Moves the processes of `from` to `to`; `*moved` says whether there were any. */
static bool move_members(int from, int to, bool check, bool *moved)
{
	char *members = read_members(from);
	*moved = false;
	if (!members)
		return false;
	for (char *save = NULL, *pid = strtok_r(members, "\n", &save); pid; pid = strtok_r(NULL, "\n", &save)) {
		if (strcmp(pid, "1") == 0 || (check && !has_program(pid)))
			continue;
		if (write_text(to, "cgroup.procs", pid))
			*moved = true;
	}
	free(members);
	return true;
}

void return_processes(void)
{
	bool moved;
	int own = away && !frozen ? open_cgroup(OWN) : -1;
	if (own >= 0) {
		for (int pass = 0; move_members(own, prepared.cgroup, false, &moved) && moved && pass < PASSES_MAX;)
			pass++;
		close(own);
		unlinkat(prepared.cgroup, OWN, AT_REMOVEDIR);
		away = false;
	}
}

bool processes_away(void)
{
	return away && !frozen;
}

bool away_too_long(void)
{
	return boottime_ns() - thawed_ns > AWAY_MAX_NS;
}

/* They run at once, and go back to the root cgroup when there is nothing else to do, or soon: moving takes longer than
 * thawing. */
static void thaw(void)
{
	int own = open_cgroup(OWN);
	if (own >= 0 && !write_text(own, "cgroup.freeze", "0"))
		log_line("thawing: %s", strerror(errno));
	if (own >= 0)
		close(own);
	each_cgroup(thaw_cgroup);
	free_bytes(&kept);
	frozen = false;
	thawed_ns = boottime_ns();
}

static bool freeze(const char **step)
{
	bool moved = true;
	*step = "making a cgroup";
	if (mkdirat(prepared.cgroup, OWN, 0755) && errno != EEXIST)
		return false;
	int own = open_cgroup(OWN);
	if (own < 0)
		return false;
	frozen = away = true; /* from here on there is something to undo */
	bool good = write_text(own, "cgroup.freeze", "1");
	*step = "moving the processes";
	for (int pass = 0; good && moved && pass < PASSES_MAX; pass++)
		good = move_members(prepared.cgroup, own, true, &moved);
	*step = "freezing the cgroups";
	good = good && each_cgroup(freeze_cgroup) && !kept.failed;
	*step = "waiting for the processes";
	good = good && await_frozen(own, OWN) && each_cgroup(await_frozen);
	int error = errno;
	close(own);
	errno = error;
	return good;
}

bool rehearse_freezing(const char **step)
{
	bool good = !frozen && freeze(step);
	if (frozen)
		thaw();
	return_processes();
	return good;
}

void handle_freeze(const struct message *message)
{
	struct bytes reply = { 0 };
	const char *step = "";
	char text[256];
	bool flush = false;
	struct field_cursor cursor = fields_of(message->payload, message->length);
	for (struct field field; next_field(&cursor, &field);)
		if (field.tag == FLUSH)
			flush = field_u32(&field) != 0;
	if (guest.phase != PHASE_CONFIGURED) {
		put_field_text(&reply, 1, guest.phase == PHASE_FRESH ? "the guest is not configured" : "the guest is ending");
	} else if (!frozen && !freeze(&step)) {
		snprintf(text, sizeof text, "%s: %s", step, strerror(errno));
		thaw();
		put_field_text(&reply, 1, text);
	} else if (flush) {
		sync_disks();
	}
	send_bytes(M_FROZEN, message->id, &reply);
}

void handle_thaw(const struct message *message)
{
	if (frozen)
		thaw();
	send_message(M_THAWED, message->id, NULL, 0);
}
