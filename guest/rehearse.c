#define _GNU_SOURCE
#include "rehearse.h"

#include "bytes.h"
#include "configure.h"
#include "freeze.h"
#include "giveback.h"
#include "guest.h"
#include "identity.h"
#include "net.h"
#include "port.h"
#include "prepare.h"
#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { START_FIELD = 100 };

/* Reads a process's output to its end, and waits for the process. */
static void attend(const struct spawned *spawned)
{
	char text[4096];
	int status;
	for (int i = 0; i < 2; i++) {
		struct pollfd wait = { .fd = spawned->output[i], .events = POLLIN };
		ssize_t count = 1;
		while (wait.fd >= 0 && (count > 0 || (count < 0 && errno == EAGAIN)))
			if (poll(&wait, 1, 5000) > 0)
				count = read(wait.fd, text, sizeof text);
			else
				break;
	}
	waitpid(spawned->pid, &status, 0);
}

/* In a process, a mount namespace and with a name of its own: what it mounts goes when it ends. */
static void perform(const uint8_t *payload, size_t length, int report)
{
	static struct spawned spawned;
	struct bytes reply = { 0 };
	char text[600] = "";
	struct field_cursor cursor = fields_of(payload, length);
	if (!reopen_prepared())
		snprintf(text, sizeof text, "opening the prepared mounts: %s", strerror(errno));
	else if (!configure(payload, length, &reply))
		snprintf(text, sizeof text, "configuring");
	for (struct field field; !*text && next_field(&cursor, &field);) {
		if (field.tag != START_FIELD)
			continue;
		spawn_process(field.value, field.length, &spawned);
		if (spawned.pid)
			attend(&spawned);
		else
			snprintf(text, sizeof text, "%s", spawned.text);
	}
	/* A machine that was started may be asked to become another one. */
	static struct configuration other;
	char what[512];
	if (!*text && !take_identity(&other, payload, length, what, sizeof what))
		snprintf(text, sizeof text, "%s: %s", what, strerror(errno));
	if (write(report, text, strlen(text)) < 0)
		_exit(1);
	_exit(0);
}

/* With a process to hold, as there will be. */
static bool hold_one(char *text, size_t size)
{
	const char *step = "making a process";
	pid_t pid = fork();
	if (pid == 0)
		for (;;)
			pause();
	bool good = pid > 0 && rehearse_freezing(&step);
	if (!good)
		snprintf(text, size, "%s: %s", step, strerror(errno));
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	return good;
}

/* O_EXCL: refused while anything is still mounted from it. */
static bool forget_disk(const struct disk *disk)
{
	int fd = open(disk->device, O_RDONLY | O_EXCL | O_CLOEXEC);
	if (fd < 0)
		return false;
	bool good = ioctl(fd, BLKFLSBUF, 0) == 0;
	close(fd);
	return good;
}

void rehearse(uint32_t request, const uint8_t *payload, size_t length)
{
	int report[2], status;
	char text[600];
	struct bytes reply = { 0 };
	ssize_t count = -1;
	if (guest.phase == PHASE_FRESH && pipe2(report, O_CLOEXEC) == 0) {
		pid_t pid = (pid_t)syscall(SYS_clone, CLONE_NEWNS | CLONE_NEWUTS | SIGCHLD, NULL, NULL, NULL, 0);
		if (pid == 0)
			perform(payload, length, report[1]);
		close(report[1]);
		count = pid > 0 ? read(report[0], text, sizeof text) : -1;
		close(report[0]);
		if (pid > 0)
			waitpid(pid, &status, 0);
		clear_link(guest.sys);
		/* What the disks will show next is not what they showed: nothing of it may be remembered. */
		if (count == 0 && !(forget_disk(&prepared.root) && forget_disk(&prepared.data))) {
			count = snprintf(text, sizeof text, "letting go of the disks: %s", strerror(errno));
		}
		if (count == 0 && !hold_one(text, sizeof text))
			count = (ssize_t)strlen(text);
		if (count == 0)
			rehearse_giving_back();
	}
	if (count < 0)
		put_field_text(&reply, 1, "the rehearsal could not begin");
	else if (count > 0)
		put_field(&reply, 1, text, (size_t)count);
	send_bytes(M_REHEARSED, request, &reply);
}
