/*
 * berth-ps: the listing of VMs without Node.
 *
 *     berth-ps NODE CLI ps [-a] [-q] [-l] [-n NUMBER] [--no-trunc]
 *
 * Node needs more time to start than this whole command may take, so the plain forms of `berth ps` are answered
 * here: one request to the daemon's socket, one table. It prints, byte for byte, what src/cli/verbs/ps.ts prints
 * (tests/e2e/cli.test.ts compares the two). Whatever it does not understand - another flag, an environment that
 * names a state folder, no daemon, an answer other than 200 - it leaves to Node, by running the rest of its own
 * command line.
 */
#define _GNU_SOURCE
#include <ctype.h>
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define COLUMNS 7
/* A VM has at most as many published ports as the answer lists; beyond this Node prints them. */
#define MAX_PORTS 256
/* An answer larger than this is Node's business, too: some 50,000 VMs. */
#define MAX_ANSWER (64u << 20)

static char **rest_of_command;

static _Noreturn void leave_to_node(void)
{
	execv(rest_of_command[0], rest_of_command);
	fprintf(stderr, "berth: cannot run %s: %s\n", rest_of_command[0], strerror(errno));
	exit(126);
}

/* ---- text that grows ---- */

struct text {
	char *at;
	size_t length, room;
};

static void add_bytes(struct text *text, const char *bytes, size_t length)
{
	if (text->length + length + 1 > text->room) {
		text->room = (text->length + length + 1) * 2;
		text->at = realloc(text->at, text->room);
		if (text->at == NULL)
			leave_to_node();
	}
	memcpy(text->at + text->length, bytes, length);
	text->length += length;
	text->at[text->length] = '\0';
}

static void add(struct text *text, const char *words)
{
	add_bytes(text, words, strlen(words));
}

/* ---- flags ---- */

struct flags {
	bool all, quiet, whole;
	long last;
};

static void parse_number(const char *word, long *number)
{
	char *end;
	if (word == NULL || !isdigit((unsigned char)word[0]) || strlen(word) > 9)
		leave_to_node();
	*number = strtol(word, &end, 10);
	if (*end != '\0')
		leave_to_node();
}

static struct flags parse_flags(char **words)
{
	struct flags flags = { 0 };
	bool latest = false;
	for (; *words != NULL; words++) {
		const char *word = *words;
		if (strcmp(word, "--all") == 0)
			flags.all = true;
		else if (strcmp(word, "--quiet") == 0)
			flags.quiet = true;
		else if (strcmp(word, "--no-trunc") == 0)
			flags.whole = true;
		else if (strcmp(word, "--latest") == 0)
			latest = true;
		else if (word[0] != '-' || word[1] == '-' || word[1] == '\0')
			leave_to_node();
		else {
			for (const char *letter = word + 1; *letter != '\0'; letter++) {
				if (*letter == 'a')
					flags.all = true;
				else if (*letter == 'q')
					flags.quiet = true;
				else if (*letter == 'l')
					latest = true;
				else if (*letter == 'n' && letter[1] == '\0')
					parse_number(*++words, &flags.last);
				else
					leave_to_node();
			}
		}
	}
	if (latest)
		flags.last = 1;
	return flags;
}

/* ---- the daemon ---- */

/* As resolveSettings in src/daemon/settings.ts, without the cases that need a digest of a folder's name. */
static void socket_path(struct text *path)
{
	const char *socket_given = getenv("BERTH_SOCKET"), *run = getenv("BERTH_RUN_DIR");
	const char *state = getenv("BERTH_STATE_DIR"), *runtime = getenv("XDG_RUNTIME_DIR");
	if (socket_given != NULL && socket_given[0] != '\0') {
		add(path, socket_given);
		return;
	}
	if (run != NULL && run[0] != '\0') {
		add(path, run);
		while (path->length > 1 && path->at[path->length - 1] == '/')
			path->at[--path->length] = '\0';
	} else if (state != NULL && state[0] != '\0')
		leave_to_node();
	else if (getuid() == 0)
		add(path, "/run/berth");
	else if (runtime != NULL && runtime[0] != '\0') {
		add(path, runtime);
		add(path, "/berth");
	} else {
		char folder[64];
		snprintf(folder, sizeof folder, "/tmp/berth-%u/berth", (unsigned)getuid());
		add(path, folder);
	}
	add(path, "/berth.sock");
}

static int connect_daemon(void)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct text path = { 0 };
	socket_path(&path);
	if (path.length >= sizeof address.sun_path)
		leave_to_node();
	memcpy(address.sun_path, path.at, path.length);
	int daemon = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (daemon < 0 || connect(daemon, (struct sockaddr *)&address, sizeof address) != 0)
		leave_to_node();
	return daemon;
}

/* Takes the chunk sizes out of a body, in place. */
static size_t join_chunks(char *body, size_t length)
{
	size_t from = 0, to = 0;
	for (;;) {
		char *end;
		size_t size = strtoul(body + from, &end, 16);
		char *line = strstr(end, "\r\n");
		if (line == NULL)
			leave_to_node();
		from = (size_t)(line - body) + 2;
		if (size == 0)
			return to;
		if (size > length - from)
			leave_to_node();
		memmove(body + to, body + from, size);
		to += size;
		from += size + 2;
		if (from >= length)
			leave_to_node();
	}
}

/* The body of the answer, ended by a zero byte. */
static char *ask(const struct flags *flags)
{
	char request[256], piece[65536];
	char limit[32] = "";
	if (flags->last > 0)
		snprintf(limit, sizeof limit, "%slimit=%ld", flags->all ? "&" : "", flags->last);
	int length = snprintf(request, sizeof request,
			      "GET /v1.50/containers/json%s%s%s HTTP/1.1\r\nHost: berth\r\nConnection: close\r\n\r\n",
			      flags->all || flags->last > 0 ? "?" : "", flags->all ? "all=1" : "", limit);
	int daemon = connect_daemon();
	if (send(daemon, request, (size_t)length, MSG_NOSIGNAL) != length)
		leave_to_node();
	struct text answer = { 0 };
	for (;;) {
		ssize_t got = read(daemon, piece, sizeof piece);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0 || answer.length > MAX_ANSWER)
			leave_to_node();
		if (got == 0)
			break;
		add_bytes(&answer, piece, (size_t)got);
	}
	close(daemon);
	if (answer.length < 12 || strncmp(answer.at, "HTTP/1.1 200", 12) != 0)
		leave_to_node();
	char *body = strstr(answer.at, "\r\n\r\n");
	if (body == NULL)
		leave_to_node();
	*body = '\0';
	body += 4;
	size_t rest = answer.length - (size_t)(body - answer.at);
	if (strcasestr(answer.at, "\r\ntransfer-encoding: chunked") != NULL)
		rest = join_chunks(body, rest);
	body[rest] = '\0';
	return body;
}

/* ---- JSON: a reader that walks over what it does not want ---- */

static const char *at;

static char next_sign(void)
{
	while (*at == ' ' || *at == '\n' || *at == '\r' || *at == '\t')
		at++;
	return *at;
}

static void expect(char sign)
{
	if (next_sign() != sign)
		leave_to_node();
	at++;
}

static void add_character(struct text *text, uint32_t code)
{
	char bytes[4];
	if (code < 0x80) {
		bytes[0] = (char)code;
		add_bytes(text, bytes, 1);
	} else if (code < 0x800) {
		bytes[0] = (char)(0xc0 | code >> 6);
		bytes[1] = (char)(0x80 | (code & 0x3f));
		add_bytes(text, bytes, 2);
	} else if (code < 0x10000) {
		bytes[0] = (char)(0xe0 | code >> 12);
		bytes[1] = (char)(0x80 | (code >> 6 & 0x3f));
		bytes[2] = (char)(0x80 | (code & 0x3f));
		add_bytes(text, bytes, 3);
	} else {
		bytes[0] = (char)(0xf0 | code >> 18);
		bytes[1] = (char)(0x80 | (code >> 12 & 0x3f));
		bytes[2] = (char)(0x80 | (code >> 6 & 0x3f));
		bytes[3] = (char)(0x80 | (code & 0x3f));
		add_bytes(text, bytes, 4);
	}
}

static uint32_t read_hex(void)
{
	uint32_t code = 0;
	for (int digit = 0; digit < 4; digit++, at++) {
		char sign = *at;
		if (!isxdigit((unsigned char)sign))
			leave_to_node();
		code = code << 4 | (uint32_t)(isdigit((unsigned char)sign) ? sign - '0' : (sign | 32) - 'a' + 10);
	}
	return code;
}

static void read_string(struct text *text)
{
	static const char escapes[] = "\"\\/bfnrt", meanings[] = "\"\\/\b\f\n\r\t";
	expect('"');
	for (;;) {
		size_t plain = strcspn(at, "\"\\");
		add_bytes(text, at, plain);
		at += plain;
		if (*at == '\0')
			leave_to_node();
		if (*at++ == '"')
			return;
		char sign = *at++;
		const char *found = sign == '\0' ? NULL : strchr(escapes, sign);
		if (found != NULL)
			add_bytes(text, &meanings[found - escapes], 1);
		else if (sign == 'u') {
			uint32_t code = read_hex();
			if (code == 0 || (code >= 0xdc00 && code < 0xe000))
				leave_to_node();
			if (code >= 0xd800 && code < 0xdc00) {
				if (*at++ != '\\' || *at++ != 'u')
					leave_to_node();
				uint32_t low = read_hex();
				if (low < 0xdc00 || low > 0xdfff)
					leave_to_node();
				code = 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00);
			}
			add_character(text, code);
		} else
			leave_to_node();
	}
}

static double read_number(void)
{
	char *end;
	next_sign();
	double number = strtod(at, &end);
	if (end == at)
		leave_to_node();
	at = end;
	return number;
}

static void skip_value(int depth)
{
	char sign = next_sign();
	if (depth > 64)
		leave_to_node();
	if (sign == '"') {
		struct text ignored = { 0 };
		read_string(&ignored);
		free(ignored.at);
	} else if (sign == '{' || sign == '[') {
		char close = sign == '{' ? '}' : ']';
		at++;
		if (next_sign() == close) {
			at++;
			return;
		}
		for (;;) {
			skip_value(depth + 1);
			if (sign == '{') {
				expect(':');
				skip_value(depth + 1);
			}
			if (next_sign() != ',')
				break;
			at++;
		}
		expect(close);
	} else {
		size_t word = strcspn(at, ",]} \r\n\t");
		if (word == 0)
			leave_to_node();
		at += word;
	}
}

/* Whether an object or list goes on; reads the comma. */
static bool goes_on(char close, bool first)
{
	if (next_sign() == close) {
		at++;
		return false;
	}
	if (!first)
		expect(',');
	next_sign();
	return true;
}

/* ---- one VM ---- */

struct port {
	char ip[64], type[16];
	long guest, host;
};

struct vm {
	struct text id, names, image, command, status, ports;
	double created;
};

static void read_short(char *place, size_t room)
{
	struct text text = { 0 };
	read_string(&text);
	if (text.length + 1 > room)
		leave_to_node();
	memcpy(place, text.at == NULL ? "" : text.at, text.length + 1);
	free(text.at);
}

static int by_port(const void *left, const void *right)
{
	const struct port *a = left, *b = right;
	if (a->guest != b->guest)
		return a->guest < b->guest ? -1 : 1;
	int order = strcmp(a->ip, b->ip);
	if (order != 0)
		return order;
	if (a->host != b->host)
		return a->host < b->host ? -1 : 1;
	return strcmp(a->type, b->type);
}

/* Neighbours that map to themselves, or are not published, become ranges; the others stand one by one behind. */
static void add_ports(struct text *out, struct port *ports, size_t count)
{
	struct range {
		const struct port *port;
		long first, last;
	} open[MAX_PORTS];
	size_t open_count = 0;
	struct text ranges = { 0 }, mappings = { 0 };
	char words[256];
	qsort(ports, count, sizeof *ports, by_port);
	for (size_t index = 0; index <= count + open_count; index++) {
		struct range *range = NULL, done;
		if (index < count) {
			const struct port *port = &ports[index];
			bool six = strchr(port->ip, ':') != NULL;
			if (port->ip[0] != '\0' && port->host != port->guest) {
				snprintf(words, sizeof words, "%s%s%.63s%s:%ld->%ld/%.15s", mappings.length > 0 ? ", " : "",
					 six ? "[" : "", port->ip, six ? "]" : "", port->host, port->guest, port->type);
				add(&mappings, words);
				continue;
			}
			for (size_t other = 0; other < open_count; other++)
				if (strcmp(open[other].port->ip, port->ip) == 0 && strcmp(open[other].port->type, port->type) == 0)
					range = &open[other];
			if (range != NULL && port->guest == range->last + 1) {
				range->last = port->guest;
				continue;
			}
			if (range == NULL) {
				open[open_count++] = (struct range){ port, port->guest, port->guest };
				continue;
			}
			done = *range;
			*range = (struct range){ port, port->guest, port->guest };
		} else if (index - count < open_count)
			done = open[index - count];
		else
			break;
		char span[64];
		if (done.first == done.last)
			snprintf(span, sizeof span, "%ld", done.first);
		else
			snprintf(span, sizeof span, "%ld-%ld", done.first, done.last);
		bool six = strchr(done.port->ip, ':') != NULL;
		if (done.port->ip[0] == '\0')
			snprintf(words, sizeof words, "%s%s/%.15s", ranges.length > 0 ? ", " : "", span, done.port->type);
		else
			snprintf(words, sizeof words, "%s%s%.63s%s:%s->%s/%.15s", ranges.length > 0 ? ", " : "", six ? "[" : "",
				 done.port->ip, six ? "]" : "", span, span, done.port->type);
		add(&ranges, words);
	}
	if (ranges.length > 0)
		add(out, ranges.at);
	if (ranges.length > 0 && mappings.length > 0)
		add(out, ", ");
	if (mappings.length > 0)
		add(out, mappings.at);
	free(ranges.at);
	free(mappings.at);
}

static void read_ports(struct text *out)
{
	static struct port ports[MAX_PORTS];
	size_t count = 0;
	expect('[');
	for (bool first = true; goes_on(']', first); first = false) {
		if (count == MAX_PORTS)
			leave_to_node();
		struct port *port = &ports[count++];
		*port = (struct port){ 0 };
		expect('{');
		for (bool begin = true; goes_on('}', begin); begin = false) {
			char name[32];
			read_short(name, sizeof name);
			expect(':');
			if (strcmp(name, "IP") == 0)
				read_short(port->ip, sizeof port->ip);
			else if (strcmp(name, "Type") == 0)
				read_short(port->type, sizeof port->type);
			else if (strcmp(name, "PrivatePort") == 0)
				port->guest = (long)read_number();
			else if (strcmp(name, "PublicPort") == 0)
				port->host = (long)read_number();
			else
				skip_value(0);
		}
	}
	add_ports(out, ports, count);
}

static void read_names(struct text *out)
{
	expect('[');
	for (bool first = true; goes_on(']', first); first = false) {
		struct text name = { 0 };
		read_string(&name);
		if (!first)
			add(out, ",");
		if (name.at != NULL)
			add(out, name.at[0] == '/' ? name.at + 1 : name.at);
		free(name.at);
	}
}

static struct vm read_vm(void)
{
	struct vm vm = { 0 };
	expect('{');
	for (bool first = true; goes_on('}', first); first = false) {
		struct text name = { 0 };
		read_string(&name);
		expect(':');
		const char *field = name.at == NULL ? "" : name.at;
		if (strcmp(field, "Id") == 0)
			read_string(&vm.id);
		else if (strcmp(field, "Names") == 0)
			read_names(&vm.names);
		else if (strcmp(field, "Image") == 0)
			read_string(&vm.image);
		else if (strcmp(field, "Command") == 0)
			read_string(&vm.command);
		else if (strcmp(field, "Status") == 0)
			read_string(&vm.status);
		else if (strcmp(field, "Created") == 0)
			vm.created = read_number();
		else if (strcmp(field, "Ports") == 0)
			read_ports(&vm.ports);
		else
			skip_value(0);
		free(name.at);
	}
	return vm;
}

/* ---- words ---- */

static bool starts_character(char byte)
{
	return ((unsigned char)byte & 0xc0) != 0x80;
}

static size_t characters(const char *words)
{
	size_t count = 0;
	for (; *words != '\0'; words++)
		count += starts_character(*words);
	return count;
}

/* In quotes, as JSON.stringify; at most 20 characters when it may be cut. */
static char *quoted(const char *words, bool whole)
{
	struct text text = { 0 };
	size_t keep = whole || characters(words) <= 20 ? SIZE_MAX : 19, seen = 0;
	add(&text, "\"");
	for (; *words != '\0'; words++) {
		unsigned char byte = (unsigned char)*words;
		if (starts_character(*words) && seen++ == keep) {
			add(&text, "\xe2\x80\xa6");
			break;
		}
		static const char named[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
		const char *found = strchr(named, (char)byte);
		char escape[8];
		if (found != NULL) {
			snprintf(escape, sizeof escape, "\\%c", letters[found - named]);
			add(&text, escape);
		} else if (byte < 0x20) {
			snprintf(escape, sizeof escape, "\\u%04x", byte);
			add(&text, escape);
		} else
			add_bytes(&text, words, 1);
	}
	add(&text, "\"");
	return text.at;
}

/* As humanDuration in src/cli/tables.ts, with " ago". */
static char *ago(double seconds)
{
	char words[64];
	long minutes = (long)(seconds / 60), hours = (long)(seconds / 3600 + 0.5);
	if (seconds < 1)
		snprintf(words, sizeof words, "Less than a second ago");
	else if (seconds < 2)
		snprintf(words, sizeof words, "1 second ago");
	else if (seconds < 60)
		snprintf(words, sizeof words, "%ld seconds ago", (long)seconds);
	else if (minutes == 1)
		snprintf(words, sizeof words, "About a minute ago");
	else if (minutes < 60)
		snprintf(words, sizeof words, "%ld minutes ago", minutes);
	else if (hours == 1)
		snprintf(words, sizeof words, "About an hour ago");
	else if (hours < 48)
		snprintf(words, sizeof words, "%ld hours ago", hours);
	else if (hours < 24 * 7 * 2)
		snprintf(words, sizeof words, "%ld days ago", hours / 24);
	else if (hours < 24 * 30 * 2)
		snprintf(words, sizeof words, "%ld weeks ago", hours / 24 / 7);
	else if (hours < 24 * 365 * 2)
		snprintf(words, sizeof words, "%ld months ago", hours / 24 / 30);
	else
		snprintf(words, sizeof words, "%ld years ago", hours / 24 / 365);
	return strdup(words);
}

static const char *or_empty(const struct text *text)
{
	return text->at == NULL ? "" : text->at;
}

/* ---- the table ---- */

static void print_table(const char *(*rows)[COLUMNS], size_t count)
{
	size_t widths[COLUMNS];
	for (size_t column = 0; column < COLUMNS; column++) {
		widths[column] = 10;
		for (size_t row = 0; row < count; row++) {
			size_t width = characters(rows[row][column]) + 3;
			if (width > widths[column])
				widths[column] = width;
		}
	}
	for (size_t row = 0; row < count; row++)
		for (size_t column = 0; column < COLUMNS; column++) {
			const char *cell = rows[row][column];
			fputs(cell, stdout);
			if (column == COLUMNS - 1)
				putchar('\n');
			else
				for (size_t blank = characters(cell); blank < widths[column]; blank++)
					putchar(' ');
		}
}

int main(int count, char **words)
{
	if (count < 4 || strcmp(words[3], "ps") != 0) {
		fprintf(stderr, "berth-ps is started by berth\n");
		return 125;
	}
	rest_of_command = words + 1;
	struct flags flags = parse_flags(words + 4);
	at = ask(&flags);
	struct timespec now;
	clock_gettime(CLOCK_REALTIME, &now);
	double now_seconds = (double)now.tv_sec + (double)now.tv_nsec / 1e9;
	size_t row_count = 1, room = 64;
	const char *(*rows)[COLUMNS] = calloc(room, sizeof *rows);
	static const char *const titles[COLUMNS] = { "CONTAINER ID", "IMAGE", "COMMAND", "CREATED",
						     "STATUS", "PORTS", "NAMES" };
	if (rows == NULL)
		leave_to_node();
	memcpy(rows[0], titles, sizeof titles);
	expect('[');
	/* Everything is read before anything is printed: until then Node can still take over. */
	for (bool first = true; goes_on(']', first); first = false) {
		struct vm vm = read_vm();
		if (vm.id.length < 12)
			leave_to_node();
		if (!flags.whole)
			vm.id.at[12] = '\0';
		if (row_count == room) {
			room *= 2;
			rows = realloc(rows, room * sizeof *rows);
			if (rows == NULL)
				leave_to_node();
		}
		const char **row = rows[row_count++];
		row[0] = vm.id.at;
		row[1] = vm.image.length == 0 ? "<no image>" : vm.image.at;
		row[2] = quoted(or_empty(&vm.command), flags.whole);
		row[3] = ago(now_seconds - vm.created);
		row[4] = or_empty(&vm.status);
		row[5] = or_empty(&vm.ports);
		row[6] = or_empty(&vm.names);
	}
	if (flags.quiet)
		for (size_t row = 1; row < row_count; row++)
			puts(rows[row][0]);
	else
		print_table((const char *(*)[COLUMNS])rows, row_count);
	return fflush(stdout) == 0 ? 0 : 1;
}
