#include "proc.h"

#include "bytes.h"
#include "files.h"
#include "guest.h"
#include "port.h"
#include "user.h"

#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* USER_HZ: the unit of /proc times on every architecture we build for. */
enum { TICKS_PER_SECOND = 100, KTHREADD = 2 };

/* The number after `name` in a "name value" file such as /proc/meminfo. */
static uint64_t named_number(const char *text, const char *name)
{
	size_t length = strlen(name);
	for (const char *line = text; line && *line;) {
		if (strncmp(line, name, length) == 0 && (line[length] == ' ' || line[length] == ':'))
			return strtoull(line + length + 1, NULL, 10);
		line = strchr(line, '\n');
		if (line)
			line++;
	}
	return 0;
}

uint64_t oom_kills(void)
{
	static char text[8192];
	if (read_small(guest.proc, "vmstat", text, sizeof text) < 0)
		return 0;
	return named_number(text, "oom_kill");
}

/* Lines of /proc/net/tcp: number, local address and port, remote address and port, state, ... all hexadecimal. */
static uint32_t established(const char *path, const char *loopback)
{
	uint32_t count = 0;
	char line[256], local[64], state[8];
	int fd = openat(guest.proc, path, O_RDONLY | O_CLOEXEC);
	FILE *file = fd >= 0 ? fdopen(fd, "r") : NULL;
	while (file && fgets(line, sizeof line, file))
		if (sscanf(line, " %*[^:]: %63s %*s %7s", local, state) == 2 && strcmp(state, "01") == 0 &&
		    strncmp(local, loopback, strlen(loopback)) != 0)
			count++;
	if (file)
		fclose(file);
	else if (fd >= 0)
		close(fd);
	return count;
}

void reply_memory(uint32_t request)
{
	char text[4096];
	struct bytes reply = { 0 };
	if (read_small(guest.proc, "meminfo", text, sizeof text) < 0)
		text[0] = '\0';
	put_field_u64(&reply, 1, named_number(text, "MemTotal") * 1024);
	put_field_u64(&reply, 2, named_number(text, "MemAvailable") * 1024);
	put_field_u64(&reply, 3, named_number(text, "MemFree") * 1024);
	put_field_u64(&reply, 4, oom_kills());
	put_field_u32(&reply, 5, established("net/tcp", "0100007F") +
					 established("net/tcp6", "00000000000000000000000001000000"));
	send_bytes(M_MEMORY_REPLY, request, &reply);
}

struct statistics {
	char state[2];
	unsigned ppid, tty;
	unsigned long long user_ticks, system_ticks, start_ticks, virtual_bytes, resident_pages;
	char name[32];
};

/* /proc/PID/stat: the name in parentheses may hold anything, so the numbers begin after the last one. */
static bool parse_statistics(char *text, struct statistics *statistics)
{
	char *open = strchr(text, '('), *close = strrchr(text, ')');
	if (!open || !close || close < open)
		return false;
	*close = '\0';
	snprintf(statistics->name, sizeof statistics->name, "%s", open + 1);
	return sscanf(close + 1,
		      " %1s %u %*d %*d %u %*d %*u %*u %*u %*u %*u %llu %llu %*d %*d %*d %*d %*d %*d %llu %llu %llu",
		      statistics->state, &statistics->ppid, &statistics->tty, &statistics->user_ticks,
		      &statistics->system_ticks, &statistics->start_ticks, &statistics->virtual_bytes,
		      &statistics->resident_pages) == 8;
}

static void terminal_name(unsigned number, char *name, size_t size)
{
	unsigned major = number >> 8 & 0xfff, minor = (number & 0xff) | (number >> 12 & 0xfff00);
	if (major >= 136 && major <= 143)
		snprintf(name, size, "pts/%u", (major - 136) * 256 + minor);
	else if (major == 4 && minor >= 64)
		snprintf(name, size, "ttyS%u", minor - 64);
	else
		snprintf(name, size, number ? "tty%u" : "?", minor);
}

/* The arguments with spaces between, or the name in brackets when there are none (a zombie). */
static void command_line(const char *pid, const struct statistics *statistics, char *text, size_t size)
{
	char path[64];
	snprintf(path, sizeof path, "%s/cmdline", pid);
	ssize_t length = read_small(guest.proc, path, text, size);
	if (length <= 0) {
		snprintf(text, size, "[%s]", statistics->name);
		return;
	}
	while (length > 0 && text[length - 1] == '\0')
		length--;
	for (ssize_t i = 0; i < length; i++)
		if (text[i] == '\0')
			text[i] = ' ';
}

static int64_t boot_ms(void)
{
	struct timespec wall;
	clock_gettime(CLOCK_REALTIME, &wall);
	return (int64_t)wall.tv_sec * 1000 + wall.tv_nsec / 1000000 - (int64_t)(boottime_ns() / 1000000);
}

static void put_process(struct bytes *reply, const char *pid, FILE *passwd)
{
	static char command[4096];
	char path[64], text[1024], name[64];
	struct statistics is;
	struct stat about;
	snprintf(path, sizeof path, "%s/stat", pid);
	if (read_small(guest.proc, path, text, sizeof text) <= 0 || !parse_statistics(text, &is))
		return;
	uint32_t number = (uint32_t)strtoul(pid, NULL, 10);
	if (number == 1 || number == KTHREADD || is.ppid == KTHREADD || fstatat(guest.proc, pid, &about, 0))
		return;
	struct bytes record = { 0 };
	put_field_u32(&record, 1, number);
	put_field_u32(&record, 2, is.ppid);
	put_field_u32(&record, 3, about.st_uid);
	if (find_user_name(passwd, about.st_uid, name, sizeof name))
		put_field_text(&record, 4, name);
	put_field_u64(&record, 5, (is.user_ticks + is.system_ticks) * 1000 / TICKS_PER_SECOND);
	put_field_u64(&record, 6, (uint64_t)boot_ms() + is.start_ticks * 1000 / TICKS_PER_SECOND);
	terminal_name(is.tty, text, sizeof text);
	put_field_text(&record, 7, text);
	command_line(pid, &is, command, sizeof command);
	put_field_text(&record, 8, command);
	put_field_u64(&record, 9, is.resident_pages * (uint64_t)sysconf(_SC_PAGESIZE));
	put_field_u64(&record, 10, is.virtual_bytes);
	put_field_text(&record, 11, is.state);
	put_field(reply, 1, record.data, record.length);
	reply->failed |= record.failed;
	free_bytes(&record);
}

void reply_top(uint32_t request)
{
	struct bytes reply = { 0 };
	int fd = openat(guest.proc, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *all = fd >= 0 ? fdopendir(fd) : NULL;
	if (!all && fd >= 0)
		close(fd);
	FILE *passwd = open_regular("/etc/passwd");
	for (struct dirent *entry; all && (entry = readdir(all));)
		if (isdigit((unsigned char)entry->d_name[0]) && reply.length < MESSAGE_OUT_MAX - 8192)
			put_process(&reply, entry->d_name, passwd);
	if (passwd)
		fclose(passwd);
	if (all)
		closedir(all);
	send_bytes(M_TOP_REPLY, request, &reply);
}
