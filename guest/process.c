#include "process.h"

#include "freeze.h"
#include "guest.h"
#include "log.h"
#include "port.h"
#include "proc.h"
#include "ring.h"
#include "spawn.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

enum {
	OUTPUT_RING = 128 * 1024,
	INPUT_RING = 64 * 1024,
	TURN = 64 * 1024,           /* bytes read from one stream before the next one's turn */
	OUTPUT_FRAME = 16 * 1024,   /* payload of one OUTPUT, so that others come soon */
	WINDOW_STEP = INPUT_RING / 4, /* a STDIN_WINDOW is worth sending when it grows by this much */
	OUTPUT_HEADER = 9,
};

#define UNLIMITED UINT64_MAX

struct stream {
	int fd; /* -1: closed, all that will come is in the ring */
	bool ready;
	uint64_t drain; /* bytes still to read after the process ended; UNLIMITED while it runs */
	struct source source;
	struct ring ring;
};

struct process {
	struct process *next;
	uint32_t id;
	pid_t pid;
	int status;
	bool exited, tty;
	bool paused;                            /* after HELLO, until RESUME */
	bool tell_started, tell_window, told_exit;
	uint64_t oom_kills_before;
	bool oom_killed;
	struct stream output[2];
	int input; /* -1: closed or none */
	bool input_ready, input_eof;
	struct source input_source;
	struct ring input_ring; /* head: received, base: taken by the process */
	uint64_t window_told;
};

static struct process *processes;
static struct process *turn; /* whose output is sent next */
static bool started_any;
static size_t states_to_tell; /* an upper bound that spares walking the list */

static struct process *find_process(uint32_t id)
{
	struct process *process = processes;
	while (process && process->id != id)
		process = process->next;
	return process;
}

/* ---- starting ---- */

static void tell_failure(uint32_t id, enum failure failure, const char *text)
{
	struct bytes reply = { 0 };
	put_field_u32(&reply, 2, failure);
	put_field_text(&reply, 3, text);
	send_bytes(M_STARTED, id, &reply);
}

static void attach(struct process *process, const struct spawned *spawned)
{
	process->pid = spawned->pid;
	process->tty = spawned->tty;
	process->input = spawned->input;
	process->input_ready = true;
	process->input_source = (struct source){ .kind = SOURCE_INPUT, .ready = &process->input_ready };
	process->input_ring.size = INPUT_RING;
	process->window_told = 0;
	for (int i = 0; i < 2; i++) {
		struct stream *stream = &process->output[i];
		stream->fd = spawned->output[i];
		stream->drain = UNLIMITED;
		stream->ring.size = OUTPUT_RING;
		stream->source = (struct source){ .kind = SOURCE_OUTPUT, .ready = &stream->ready };
		if (stream->fd >= 0 && !watch(stream->fd, EPOLLIN, &stream->source))
			log_line("process %u: cannot watch its output", process->id);
	}
	if (process->tty) /* one descriptor for both directions: an edge of either wakes both */
		process->input_ready = false;
	else if (process->input >= 0 && !watch(process->input, EPOLLOUT, &process->input_source))
		log_line("process %u: cannot watch its input", process->id);
	process->tell_started = true;
	process->tell_window = process->input >= 0;
	states_to_tell++;
}

void handle_start(const struct message *message)
{
	static struct spawned spawned;
	struct process *process = find_process(message->id);
	if (process) {
		process->tell_started = true;
		states_to_tell++;
		return;
	}
	if (message->too_large)
		return tell_failure(message->id, FAILED_OTHER, "START is larger than 1 MiB or than the guest's memory");
	if (guest.phase != PHASE_CONFIGURED)
		return tell_failure(message->id, FAILED_OTHER,
				    guest.phase == PHASE_FRESH ? "the guest is not configured" : "the guest is ending");
	if (processes_frozen())
		return tell_failure(message->id, FAILED_OTHER, "the guest's processes are frozen");
	process = calloc(1, sizeof *process);
	if (!process)
		return tell_failure(message->id, FAILED_OTHER, "the guest has no memory to start a process");
	process->id = message->id;
	/* Before the first process nothing can have been killed, and asking the kernel is slow. */
	process->oom_kills_before = started_any ? oom_kills() : 0;
	started_any = true;
	spawn_process(message->payload, message->length, &spawned);
	if (!spawned.pid) {
		free(process);
		return tell_failure(message->id, spawned.failure, spawned.text);
	}
	attach(process, &spawned);
	process->next = processes;
	processes = process;
}

/* ---- requests about one process ---- */

void handle_stdin(const struct message *message)
{
	struct process *process = find_process(message->id);
	if (!process || process->input_eof)
		return;
	struct ring *ring = &process->input_ring;
	size_t length = message->length;
	if (process->input < 0) {
		/* Nobody reads any more: the bytes count as taken, so that the sender does not wait for ever. */
		ring->base = ring->sent = ring->head += length;
		ring->start = 0;
		process->tell_window = true;
		states_to_tell++;
		return;
	}
	if (length > ring_room(ring) || !ring_prepare(ring)) {
		log_line("process %u: %zu bytes of input beyond its window were dropped", process->id, length);
		return;
	}
	ring_write(ring, message->payload, length);
	process->input_ready = true;
}

void handle_stdin_eof(const struct message *message)
{
	struct process *process = find_process(message->id);
	if (!process || process->input_eof)
		return;
	process->input_eof = true;
	process->input_ready = true;
}

void handle_signal(const struct message *message)
{
	struct process *process = find_process(message->id);
	if (!process || process->exited || message->length < 4)
		return;
	uint32_t number = load_u32(message->payload);
	if (number > 0 && number <= 64)
		kill(process->pid, (int)number);
}

void handle_resize(const struct message *message)
{
	struct process *process = find_process(message->id);
	if (!process || !process->tty || process->output[0].fd < 0 || message->length < 4)
		return;
	struct winsize size = { .ws_row = load_u16(message->payload), .ws_col = load_u16(message->payload + 2) };
	ioctl(process->output[0].fd, TIOCSWINSZ, &size);
}

void handle_ack(const struct message *message)
{
	struct process *process = find_process(message->id);
	if (!process || message->length < 9 || message->payload[0] < 1 || message->payload[0] > 2)
		return;
	ring_ack(&process->output[message->payload[0] - 1].ring, load_u64(message->payload + 1));
}

void handle_resume(const struct message *message)
{
	struct process *process = find_process(message->id);
	if (!process || message->length < 16)
		return;
	for (int i = 0; i < 2; i++)
		ring_rewind(&process->output[i].ring, load_u64(message->payload + 8 * i));
	process->paused = false;
	process->told_exit = false;
	process->tell_window = process->input >= 0;
	states_to_tell++;
}

static void close_input(struct process *process)
{
	if (process->input >= 0 && process->input != process->output[0].fd)
		close(process->input);
	process->input = -1;
	process->input_ring.base = process->input_ring.sent = process->input_ring.head;
	process->input_ring.start = 0;
	ring_free(&process->input_ring);
}

bool handle_exit_ack(const struct message *message)
{
	struct process **link = &processes;
	while (*link && (*link)->id != message->id)
		link = &(*link)->next;
	struct process *process = *link;
	if (!process || !process->exited)
		return false;
	*link = process->next;
	if (turn == process)
		turn = NULL;
	for (int i = 0; i < 2; i++) {
		if (process->output[i].fd >= 0)
			close(process->output[i].fd);
		ring_free(&process->output[i].ring);
	}
	ring_free(&process->input_ring);
	free(process);
	return message->id == 0;
}

void pause_processes(struct bytes *hello_ack)
{
	for (struct process *process = processes; process; process = process->next) {
		struct bytes record = { 0 };
		process->paused = true;
		process->tell_started = process->tell_window = false;
		put_field_u32(&record, 1, process->id);
		put_field_u32(&record, 2, process->exited ? 2 : 1);
		put_field_u32(&record, 3, (uint32_t)process->pid);
		put_field_u64(&record, 4, process->output[0].ring.head);
		put_field_u64(&record, 5, process->output[1].ring.head);
		put_field_u64(&record, 6, process->input_ring.head);
		put_field(hello_ack, 5, record.data, record.length);
		hello_ack->failed |= record.failed;
		free_bytes(&record);
	}
}

/* ---- moving bytes ---- */

static void close_stream(struct stream *stream)
{
	if (stream->fd >= 0)
		close(stream->fd);
	stream->fd = -1;
	stream->ready = false;
}

/* True when it could go on at once. */
static bool read_stream(struct process *process, struct stream *stream)
{
	struct iovec pieces[2];
	if (stream->fd < 0 || !stream->ready)
		return false;
	if (stream->drain == 0) {
		close_stream(stream);
		return false;
	}
	if (!ring_prepare(&stream->ring))
		return false; /* without memory the writer waits; tried again at the next event */
	int number = ring_free_space(&stream->ring, pieces);
	if (number == 0)
		return false; /* full: the writer waits until an ACK */
	uint64_t allowed = stream->drain < TURN ? stream->drain : TURN;
	for (int i = 0; i < number; i++) {
		if (pieces[i].iov_len > allowed)
			pieces[i].iov_len = (size_t)allowed;
		allowed -= pieces[i].iov_len;
	}
	ssize_t count = readv(stream->fd, pieces, number);
	if (count > 0) {
		ring_produced(&stream->ring, (size_t)count);
		if (stream->drain != UNLIMITED)
			stream->drain -= (uint64_t)count;
		return true;
	}
	if (count < 0 && errno == EINTR)
		return true;
	/* A terminal reports EIO while nobody has it open; somebody may open it again as long as the process lives. */
	bool over = count == 0 || (errno != EAGAIN && !(process->tty && !process->exited));
	if (over || process->exited)
		close_stream(stream);
	stream->ready = false;
	return false;
}

static void write_input(struct process *process)
{
	struct iovec pieces[2];
	struct ring *ring = &process->input_ring;
	bool moved = false;
	while (process->input >= 0 && ring->base != ring->head) {
		int number = ring_pieces(ring, ring->base, pieces);
		ssize_t count = writev(process->input, pieces, number);
		if (count > 0) {
			ring_ack(ring, ring->base + (uint64_t)count);
			moved = true;
		} else if (count < 0 && errno == EINTR) {
			continue;
		} else if (count < 0 && errno != EAGAIN) {
			close_input(process); /* EPIPE: the process closed its standard input */
			moved = true;
		} else {
			break;
		}
	}
	process->input_ready = false;
	if (process->input_eof && ring->base == ring->head && process->input >= 0 && !process->tty)
		close_input(process);
	if (moved && (ring->base + INPUT_RING >= process->window_told + WINDOW_STEP || process->input < 0)) {
		process->tell_window = true;
		states_to_tell++;
	}
}

bool move_streams(void)
{
	bool more = false;
	for (struct process *process = processes; process; process = process->next) {
		/* A terminal's one descriptor is watched as output; whatever woke it may have been room for input. */
		if (process->input_ready || (process->tty && process->output[0].ready))
			write_input(process);
		for (int i = 0; i < 2; i++)
			more |= read_stream(process, &process->output[i]);
	}
	return more;
}

/* Nobody writes meanwhile: the processes are frozen. */
static void forget_stream(struct process *process, struct stream *stream)
{
	static uint8_t dropped[16384];
	ssize_t count = 1;
	while (stream->fd >= 0 && (count > 0 || (count < 0 && errno == EINTR)))
		count = read(stream->fd, dropped, sizeof dropped);
	if (stream->fd >= 0 && process->exited)
		close_stream(stream);
	stream->ready = stream->fd >= 0;
	ring_restart(&stream->ring);
}

void forget_output(void)
{
	for (struct process *process = processes; process; process = process->next)
		for (int i = 0; i < 2; i++)
			forget_stream(process, &process->output[i]);
}

/* ---- ends ---- */

static void process_ended(struct process *process, int status)
{
	process->exited = true;
	process->status = status;
	process->oom_killed = oom_kills() != process->oom_kills_before;
	close_input(process);
	for (int i = 0; i < 2; i++) {
		struct stream *stream = &process->output[i];
		int waiting = 0;
		if (stream->fd < 0)
			continue;
		stream->ready = true;
		/* A descendant may keep the pipe open: what lies in it now is the process's own, and no more is
		 * waited for. A terminal hangs up when its session leader ends, so it is read to its end. */
		if (!process->tty)
			stream->drain = ioctl(stream->fd, FIONREAD, &waiting) == 0 ? (uint64_t)waiting : 0;
	}
}

void reap_children(void)
{
	int status;
	pid_t pid;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct process *process = processes;
		while (process && (process->pid != pid || process->exited))
			process = process->next;
		if (!process)
			continue;
		process_ended(process, status);
		if (process->id == 0 && guest.phase == PHASE_CONFIGURED) {
			guest.phase = PHASE_ENDING;
			kill(-1, SIGKILL); /* as a container does; the loop goes on collecting them */
		}
	}
}

/* ---- sending ---- */

static bool all_sent(const struct process *process)
{
	for (int i = 0; i < 2; i++) {
		const struct stream *stream = &process->output[i];
		if (stream->fd >= 0 || stream->ring.sent != stream->ring.head)
			return false;
	}
	return true;
}

/* The main process's end is told last. A process berthd has not resumed is not waited for. */
static bool may_tell_exit(const struct process *process)
{
	if (!process->exited || process->told_exit || process->paused || !all_sent(process))
		return false;
	if (process->id != 0)
		return true;
	for (const struct process *other = processes; other; other = other->next)
		if (other != process && !other->paused && !other->told_exit)
			return false;
	return true;
}

static void tell_started(struct process *process)
{
	struct bytes reply = { 0 };
	put_field_u32(&reply, 1, (uint32_t)process->pid);
	send_bytes(M_STARTED, process->id, &reply);
}

static void tell_window(struct process *process)
{
	uint8_t offset[8];
	uint64_t window = process->input_ring.base + INPUT_RING;
	store_u64(offset, window);
	process->window_told = window;
	send_message(M_STDIN_WINDOW, process->id, offset, sizeof offset);
}

static void tell_exit(struct process *process)
{
	struct bytes reply = { 0 };
	int number = WIFSIGNALED(process->status) ? WTERMSIG(process->status) : 0;
	put_field_u32(&reply, 1, number ? 128 + (uint32_t)number : (uint32_t)WEXITSTATUS(process->status));
	if (number)
		put_field_u32(&reply, 2, (uint32_t)number);
	if (process->oom_killed)
		put_field_u32(&reply, 3, 1);
	send_bytes(M_EXITED, process->id, &reply);
	process->told_exit = true;
}

static void tell_states(void)
{
	for (struct process *process = processes; process && states_to_tell; process = process->next) {
		if (process->tell_started)
			tell_started(process);
		process->tell_started = false;
		if (process->tell_window && !process->paused)
			tell_window(process);
		process->tell_window = false;
	}
	states_to_tell = 0;
}

/* One frame of one stream. False when the transmit buffer is full. */
static bool send_output(struct process *process, uint8_t stream_number)
{
	struct ring *ring = &process->output[stream_number - 1].ring;
	struct iovec pieces[2];
	if (process->paused || ring->sent == ring->head)
		return true;
	size_t room = OUTPUT_HEADER + OUTPUT_FRAME;
	uint64_t waiting = ring->head - ring->sent;
	size_t least = OUTPUT_HEADER + (waiting < 1024 ? (size_t)waiting : 1024);
	uint8_t *payload = begin_frame(least, &room);
	if (!payload)
		return false;
	payload[0] = stream_number;
	store_u64(payload + 1, ring->sent);
	size_t length = OUTPUT_HEADER;
	int number = ring_pieces(ring, ring->sent, pieces);
	for (int i = 0; i < number && length < room; i++) {
		size_t part = pieces[i].iov_len < room - length ? pieces[i].iov_len : room - length;
		memcpy(payload + length, pieces[i].iov_base, part);
		length += part;
	}
	ring->sent += length - OUTPUT_HEADER;
	commit_frame(M_OUTPUT, process->id, length);
	return true;
}

void pump_processes(void)
{
	if (states_to_tell)
		tell_states();
	/* Twice round the list at most: the first round begins at whose turn it is. */
	struct process *first = turn ? turn : processes;
	for (struct process *process = first; process;) {
		bool room = send_output(process, 1) && send_output(process, 2);
		struct process *next = process->next ? process->next : processes;
		turn = next;
		if (!room || next == first)
			break;
		process = next;
	}
	for (struct process *process = processes; process; process = process->next)
		if (process->id != 0 && may_tell_exit(process))
			tell_exit(process);
	struct process *main_process = find_process(0);
	if (main_process && may_tell_exit(main_process))
		tell_exit(main_process);
}
