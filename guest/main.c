/* PID 1 of an OCI guest. See PROTOCOL.md; the parts are in the files named for them.
 *
 * One thread, one epoll, no timers (but one after a thaw): it runs only when an event comes. All events are edges. Whatever an edge made
 * possible is remembered in a flag until EAGAIN, and the loop goes round until no flag can be served, one bounded
 * portion of each stream at a time, so nobody starves. */
#define _GNU_SOURCE
#include "configure.h"
#include "guest.h"
#include "files.h"
#include "freeze.h"
#include "identity.h"
#include "idle.h"
#include "log.h"
#include "port.h"
#include "power.h"
#include "prepare.h"
#include "proc.h"
#include "process.h"
#include "rehearse.h"
#include "volumes.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/utsname.h>
#include <time.h>
#include <unistd.h>

enum { PROTOCOL_VERSION = 1, NONCE = 16, PORT_WAIT_MS = 10000, EVENTS = 64,
       /* After a thaw, of quiet: whoever asks for the copy of a machine asks it something at once. */
       RETURN_MS = 200 };

struct guest guest = { .proc = -1, .sys = -1, .pts = -1, .data_disk = -1, .phase = PHASE_FRESH, .hostname = "berth" };

static struct bytes configured_reply; /* the outcome, told again when asked again */
static bool configured;

uint64_t boottime_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

bool watch(int fd, uint32_t events, struct source *source)
{
	struct epoll_event event = { .events = events | EPOLLET, .data.ptr = source };
	return epoll_ctl(guest.epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static void handle_hello(const struct message *message)
{
	struct bytes reply = { 0 };
	struct utsname kernel;
	char boot_id[64];
	if (message->length < NONCE + 4)
		return;
	restart_sending();
	uname(&kernel);
	put_bytes(&reply, message->payload, NONCE);
	put_field_u32(&reply, 1, PROTOCOL_VERSION);
	put_field_u32(&reply, 2, guest.phase);
	put_field_text(&reply, 3, kernel.release);
	/* Made when first read: a template that read it would give all its clones the same one. */
	if (guest.phase != PHASE_FRESH &&
	    read_line(guest.proc, "sys/kernel/random/boot_id", boot_id, sizeof boot_id) > 0)
		put_field_text(&reply, 4, boot_id);
	pause_processes(&reply);
	put_field_u64(&reply, 6, guest.started_ns);
	put_field_u64(&reply, 7, boottime_ns());
	send_bytes(M_HELLO_ACK, 0, &reply);
	send_early_log();
}

static void handle_configure(const struct message *message)
{
	if (message->too_large)
		return log_line("CONFIGURE is larger than 1 MiB or than the guest's memory");
	if (!configured) {
		configured = true;
		if (configure(message->payload, message->length, &configured_reply))
			guest.phase = PHASE_CONFIGURED;
	}
	send_message(M_CONFIGURED, 0, configured_reply.data, configured_reply.length);
}

static void reply_pong(uint32_t request)
{
	uint8_t now[8];
	store_u64(now, boottime_ns());
	send_message(M_PONG, request, now, sizeof now);
}

static void handle_message(const struct message *message)
{
	switch (message->type) {
	case M_HELLO:
		return handle_hello(message);
	case M_CONFIGURE:
		return handle_configure(message);
	case M_START:
		return handle_start(message);
	case M_STDIN:
		return handle_stdin(message);
	case M_STDIN_EOF:
		return handle_stdin_eof(message);
	case M_SIGNAL:
		return handle_signal(message);
	case M_RESIZE:
		return handle_resize(message);
	case M_ACK:
		return handle_ack(message);
	case M_RESUME:
		return handle_resume(message);
	case M_EXIT_ACK:
		if (handle_exit_ack(message))
			end_machine();
		return;
	case M_TOP:
		return reply_top(message->id);
	case M_PING:
		return reply_pong(message->id);
	case M_POWEROFF:
		end_machine();
	case M_MEMORY:
		return reply_memory(message->id);
	case M_SETCLOCK:
		if (message->length >= 8 &&
		    !set_clock(load_u64(message->payload),
			       message->length >= 16 ? load_u64(message->payload + 8) : 0))
			log_line("setting the clock: %s", strerror(errno));
		return;
	case M_REHEARSE:
		return rehearse(message->id, message->payload, message->length);
	case M_FREEZE:
		return handle_freeze(message);
	case M_THAW:
		return handle_thaw(message);
	case M_IDENTIFY:
		return handle_identify(message);
	case M_FLUSH:
		sync_disks();
		return send_message(M_FLUSHED, message->id, NULL, 0);
	default:
		return; /* a newer host's message */
	}
}

/* `berth.probe=NONCE` on the kernel command line: see PROTOCOL.md. */
static void answer_probe(void)
{
	char line[4096];
	if (read_line(guest.proc, "cmdline", line, sizeof line) <= 0)
		return;
	char *nonce = strstr(line, "berth.probe=");
	if (!nonce)
		return;
	nonce += strlen("berth.probe=");
	size_t length = strcspn(nonce, " ");
	for (size_t i = 0; i < length / 2; i++) {
		char swapped = nonce[i];
		nonce[i] = nonce[length - 1 - i];
		nonce[length - 1 - i] = swapped;
	}
	dprintf(1, "berth-probe:%.*s\n", (int)length, nonce);
	power_off();
}

/* All signals are blocked and read as events; nothing can interrupt PID 1. */
static int open_signals(void)
{
	static bool ready;
	static struct source source = { .kind = SOURCE_SIGNALS, .ready = &ready };
	struct sigaction ignore = { .sa_handler = SIG_IGN };
	sigset_t all, children;
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	sigaction(SIGPIPE, &ignore, NULL);
	sigemptyset(&children);
	sigaddset(&children, SIGCHLD);
	int fd = signalfd(-1, &children, SFD_CLOEXEC | SFD_NONBLOCK);
	return fd >= 0 && watch(fd, EPOLLIN, &source) ? fd : -1;
}

static void open_console(void)
{
	int fd = open("/dev/console", O_RDWR | O_NOCTTY);
	if (fd < 0)
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd < 2)
		fd = dup(fd);
	if (fd > 2)
		close(fd);
}

static void take_events(int signals, bool wait)
{
	struct epoll_event events[EVENTS];
	struct signalfd_siginfo information;
	int idle_ms = processes_away() ? RETURN_MS : -1;
	int count = epoll_wait(guest.epoll, events, EVENTS, wait ? idle_ms : 0);
	if (processes_away() && ((count == 0 && wait) || away_too_long()))
		return_processes();
	for (int i = 0; i < count; i++) {
		struct source *source = events[i].data.ptr;
		*source->ready = true;
		if (source->kind == SOURCE_PORT)
			port_event(events[i].events);
		if (source->kind != SOURCE_SIGNALS)
			continue;
		while (read(signals, &information, sizeof information) > 0)
			;
		reap_children();
	}
}

int main(void)
{
	guest.started_ns = boottime_ns();
	bool mounted = mount_early();
	open_console();
	if (!mounted)
		log_fatal("mounting proc, sys or dev: %s", strerror(errno));
	answer_probe();
	/* The kernel would run the image's /sbin/modprobe as root, beside all bookkeeping; there is nothing to load. */
	write_text(guest.proc, "sys/kernel/modprobe", "\n");
	guest.epoll = epoll_create1(EPOLL_CLOEXEC);
	int signals = open_signals();
	prepare_machine();
	settle_guest();
	if (guest.epoll < 0 || signals < 0 || !open_port(PORT_WAIT_MS)) {
		log_fatal("no virtio port named berth.agent: %s", strerror(errno));
		power_off();
	}
	for (;;) {
		bool more = read_port(handle_message);
		more |= move_streams();
		more |= write_port();
		take_events(signals, !more);
	}
}
