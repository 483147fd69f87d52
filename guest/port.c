#include "port.h"

#include "files.h"
#include "guest.h"
#include "log.h"
#include "process.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/netlink.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	TRANSMIT_SIZE = 32768,          /* virtio_console takes at most this much in one write */
	CONTROL_LIMIT = 256 * 1024,     /* queued control bytes beyond which the port is not read */
	LOG_LIMIT = 64 * 1024,          /* queued control bytes beyond which log lines are dropped */
	EARLY_LOG_SIZE = 4096,          /* log lines before the first HELLO; the size of one LOG */
};

static struct {
	int fd;
	bool ready;     /* an event came since the last EAGAIN of either direction */
	bool readable, writable, joined;
	struct frame_reader reader;
	uint8_t received[TRANSMIT_SIZE];
	uint8_t transmit[TRANSMIT_SIZE];
	size_t transmit_start, transmit_end;
	struct bytes control;
	size_t control_taken;
	char early_log[EARLY_LOG_SIZE];
	size_t early_log_length;
} port;

static struct source port_source = { .kind = SOURCE_PORT, .ready = &port.ready };

/* ---- finding it ---- */

static bool find_port(char *device, size_t size)
{
	char path[NAME_MAX + 64], name[64];
	int fd = openat(guest.sys, "class/virtio-ports", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	DIR *ports = fdopendir(fd);
	if (!ports) {
		close(fd);
		return false;
	}
	bool found = false;
	for (struct dirent *entry; !found && (entry = readdir(ports));) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "class/virtio-ports/%s/name", entry->d_name);
		if (read_line(guest.sys, path, name, sizeof name) > 0 && strcmp(name, "berth.agent") == 0) {
			snprintf(device, size, "/dev/%s", entry->d_name);
			found = true;
		}
	}
	closedir(ports);
	return found;
}

static int open_uevents(void)
{
	struct sockaddr_nl address = { .nl_family = AF_NETLINK, .nl_groups = 1 };
	int fd = socket(AF_NETLINK, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, NETLINK_KOBJECT_UEVENT);
	if (fd >= 0 && bind(fd, (struct sockaddr *)&address, sizeof address)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

bool open_port(int timeout_ms)
{
	char device[NAME_MAX + 16], event[4096];
	uint64_t deadline = boottime_ns() + (uint64_t)timeout_ms * 1000000;
	int uevents = open_uevents();
	port.fd = -1;
	while (port.fd < 0) {
		if (find_port(device, sizeof device)) {
			port.fd = open(device, O_RDWR | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
			break;
		}
		uint64_t now = boottime_ns();
		if (now >= deadline)
			break;
		/* The name arrives in a control message after the port itself; a uevent follows it. Look again every
		 * 100 ms all the same: a port without uevents must not cost the boot. */
		struct pollfd wait = { .fd = uevents, .events = POLLIN };
		poll(&wait, 1, 100);
		while (uevents >= 0 && recv(uevents, event, sizeof event, 0) > 0)
			;
	}
	if (uevents >= 0)
		close(uevents);
	/* Edge-triggered: without a host the port reports EPOLLHUP for ever, and an edge comes when one connects. */
	if (port.fd < 0 || !watch(port.fd, EPOLLIN | EPOLLOUT, &port_source))
		return false;
	port.readable = port.writable = true;
	return true;
}

/* ---- receiving ---- */

void port_event(uint32_t events)
{
	port.ready = false;
	port.readable = true; /* what a host sent before it left can still be read */
	port.writable = !(events & EPOLLHUP);
	if (events & EPOLLHUP)
		port.joined = false;
}

bool host_joined(void)
{
	return port.joined;
}

static size_t control_left(void)
{
	return port.control.length - port.control_taken;
}

bool read_port(void (*handle)(const struct message *))
{
	if (!port.readable || control_left() > CONTROL_LIMIT)
		return false;
	ssize_t count = read(port.fd, port.received, sizeof port.received);
	if (count <= 0) {
		port.readable = count < 0 && errno == EINTR;
		return port.readable;
	}
	size_t taken = 0, length = (size_t)count;
	uint32_t bad = port.reader.bad_frames;
	while (taken < length) {
		struct message message;
		bool ready;
		taken += feed_frame(&port.reader, port.received + taken, length - taken, &message, &ready);
		if (!ready)
			continue;
		if (message.type == M_HELLO)
			forget_parts(&port.reader);
		handle(&message);
	}
	if (port.reader.bad_frames != bad)
		log_line("dropped %u damaged frames", port.reader.bad_frames - bad);
	return true;
}

/* ---- sending ---- */

void restart_sending(void)
{
	free_bytes(&port.control);
	port.control_taken = 0;
	port.transmit_start = port.transmit_end = 0;
	port.joined = true;
}

static void queue_frame(enum message_type type, uint8_t flags, uint32_t id, const uint8_t *payload, size_t length)
{
	uint8_t header[FRAME_HEADER];
	store_header(header, (uint8_t)type, flags, id, (uint32_t)length);
	put_bytes(&port.control, header, sizeof header);
	put_bytes(&port.control, payload, length);
}

void send_message(enum message_type type, uint32_t id, const void *payload, size_t length)
{
	if (!port.joined)
		return;
	size_t before = port.control.length;
	const uint8_t *at = payload;
	while (length > FRAME_OUT_MAX) {
		queue_frame(type, FRAME_MORE, id, at, FRAME_OUT_MAX);
		at += FRAME_OUT_MAX;
		length -= FRAME_OUT_MAX;
	}
	queue_frame(type, 0, id, at, length);
	if (port.control.failed) {
		/* Without memory this message is lost, whole, and the request meets its deadline. */
		port.control.length = before;
		port.control.failed = false;
	}
}

void send_bytes(enum message_type type, uint32_t id, struct bytes *payload)
{
	if (payload->failed)
		log_line("no memory for a reply of type %d", (int)type);
	else
		send_message(type, id, payload->data, payload->length);
	free_bytes(payload);
}

static void take_control(void)
{
	size_t part = TRANSMIT_SIZE - port.transmit_end;
	if (part > control_left())
		part = control_left();
	if (part == 0)
		return;
	memcpy(port.transmit + port.transmit_end, port.control.data + port.control_taken, part);
	port.transmit_end += part;
	port.control_taken += part;
	if (control_left() == 0) {
		port.control.length = port.control_taken = 0;
		if (port.control.capacity > LOG_LIMIT)
			free_bytes(&port.control);
	}
}

uint8_t *begin_frame(size_t least, size_t *length)
{
	/* A control message that did not fit whole is in the middle: nothing may come between its bytes. */
	if (control_left())
		return NULL;
	size_t room = TRANSMIT_SIZE - port.transmit_end;
	if (room < FRAME_HEADER + least)
		return NULL;
	room -= FRAME_HEADER;
	if (room < *length)
		*length = room;
	return port.transmit + port.transmit_end + FRAME_HEADER;
}

void commit_frame(enum message_type type, uint32_t id, size_t length)
{
	store_header(port.transmit + port.transmit_end, (uint8_t)type, 0, id, (uint32_t)length);
	port.transmit_end += FRAME_HEADER + length;
}

bool write_port(void)
{
	if (!port.joined || !port.writable)
		return false;
	if (port.transmit_start == port.transmit_end) {
		port.transmit_start = port.transmit_end = 0;
		take_control();
		pump_processes();
		take_control(); /* what the pump had to tell */
	}
	if (port.transmit_start == port.transmit_end)
		return false;
	ssize_t count =
		write(port.fd, port.transmit + port.transmit_start, port.transmit_end - port.transmit_start);
	if (count > 0)
		port.transmit_start += (size_t)count;
	else if (count == 0 || errno != EINTR)
		port.writable = false; /* the edge that says otherwise sets it again */
	return port.writable;
}

void flush_port(int timeout_ms)
{
	uint64_t deadline = boottime_ns() + (uint64_t)timeout_ms * 1000000;
	struct pollfd wait = { .fd = port.fd, .events = POLLOUT };
	while (port.joined && boottime_ns() < deadline) {
		if (write_port())
			continue;
		if (port.transmit_start == port.transmit_end && control_left() == 0)
			break;
		if (poll(&wait, 1, 100) > 0)
			port_event(wait.revents & POLLHUP ? EPOLLHUP : 0);
	}
	/* SYNCED lies in the device's queue: a host that acts on it closes the port or QEMU within this moment. */
	wait.events = 0;
	if (port.joined)
		poll(&wait, 1, 50);
}

/* ---- the log ---- */

static void keep_early(const char *line, size_t length)
{
	if (port.early_log_length + length + 1 > sizeof port.early_log)
		return;
	memcpy(port.early_log + port.early_log_length, line, length);
	port.early_log[port.early_log_length + length] = '\n';
	port.early_log_length += length + 1;
}

void send_early_log(void)
{
	if (port.early_log_length)
		send_message(M_LOG, 0, port.early_log, port.early_log_length - 1);
	port.early_log_length = 0;
}

static size_t format_line(char *line, size_t size, const char *format, va_list arguments)
{
	int length = vsnprintf(line, size, format, arguments);
	if (length < 0)
		return 0;
	return (size_t)length < size ? (size_t)length : size - 1;
}

void log_line(const char *format, ...)
{
	char line[1024];
	va_list arguments;
	va_start(arguments, format);
	size_t length = format_line(line, sizeof line, format, arguments);
	va_end(arguments);
	if (!port.joined)
		keep_early(line, length);
	else if (control_left() < LOG_LIMIT)
		send_message(M_LOG, 0, line, length);
}

void log_fatal(const char *format, ...)
{
	char line[1024];
	va_list arguments;
	va_start(arguments, format);
	size_t length = format_line(line, sizeof line, format, arguments);
	va_end(arguments);
	dprintf(2, "berth-guest: %s\n", line);
	if (port.joined)
		send_message(M_LOG, 0, line, length);
	else
		keep_early(line, length);
}
