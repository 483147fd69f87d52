/*
 * berth-twin: makes a second process of a QEMU whose machine is stopped, with all that it has learnt.
 *
 *   berth-twin PID [--user UID] [--listen OLD=NEW]... [--file OLD=NEW]... [--memory FILE] [--tap NAME [--bridge NAME]]
 *              [--link down] [--rename OLD=NEW] [--log FILE]
 *   berth-twin PID --let-go memory
 *
 * The kernel's fork copies the process, page by page and only when a page is written: the guest's memory, QEMU's own, and
 * the guest code it has translated, which is most of what a start under emulation costs. What fork leaves out is done
 * here, by system calls the two processes are made to carry out while they are stopped (ptrace):
 *
 *   PID                    is stopped, its threads' registers are read
 *     |- a step            shares PID's memory, forks, and ends: so the twin is nobody's child but init's
 *     '- twin              becomes UID, in a user namespace of its own
 *                          gets descriptors of its own: see below
 *                          gets PID's other threads, each where it was
 *   PID goes on as soon as the twin is there; the twin once it is whole.
 *
 * Descriptors: a socket that listens at OLD listens at NEW; one that is connected becomes one whose peer has left; a file
 * OLD becomes the file NEW; a tap becomes the tap NAME; an event descriptor becomes one with the same count; standard
 * output and error become FILE. Sealed memory, signal descriptors and what is open for reading only are shared. Anything
 * else is refused, as is a writable mapping that is shared: there would be two machines behind it.
 * With `--link down` the tap is in the bridge, and nothing goes through it before someone brings it up.
 * `--memory`: the twin's guest has what FILE holds instead, each page copied when it is first written.
 * `--rename` puts NEW for OLD, which must be as long, in what ps shows.
 *
 * `--let-go memory` makes no twin: PID gets an empty file in place of the one its guest's memory is mapped from, so that it can
 * give back what the guest has freed (memory.c), and goes on. Prints `free PID`.
 *
 * Prints `twin PID`. On failure: a line on standard error, exit 1, no twin; PID goes on as before. Killed in the middle it
 * takes the twin with it, but PID, in its first millisecond, may be lost: nothing that is stopped by ptrace can promise more.
 * Needs CAP_SYS_PTRACE and CAP_SYS_ADMIN (QEMU's own filter of system calls would refuse the fork).
 *
 * x86-64 and glibc only: it knows where a thread keeps its own number.
 */
#define _GNU_SOURCE
#include "twin.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* From sys/ptrace.h, which does not go with linux/ptrace.h. */
extern long ptrace(int call, ...);
#include <linux/ptrace.h>

/* Below the stack pointer a leaf function may have 128 bytes of its own. */
#define RED_ZONE 128
#define SCRATCH_BYTES 4096

/* A thread that hangs in the kernel never stops: whoever waits for it gives up, and lets go of the others. */
#define DEADLINE_SECONDS 10

struct request request;

static void ring(int signal)
{
	(void)signal;
}

/* ---- a fork that is nobody's child ---- */

static pid_t fork_original(void)
{
	const struct thread *main_thread = &threads[0];
	pid_t step = 0, twin = 0;
	const uint64_t shared[6] = {CLONE_VM | CLONE_FS | CLONE_FILES, 0, 0, 0, 0, 0};
	long answer = ask_for(main_thread, request.original, &step, SYS_clone, shared);
	if (answer < 0 || step == 0) {
		errno = (int)-answer;
		fail("process %d cannot be forked", request.original);
	}
	unfinished = step;
	await_birth(step);
	/* What it makes is tied from its first moment on: let go untied, a copy would go on as the original, on its disks. */
	tie(step);
	const uint64_t apart[6] = {SIGCHLD, 0, 0, 0, 0, 0};
	answer = ask_for(main_thread, step, &twin, SYS_clone, apart);
	if (answer < 0 || twin == 0) {
		errno = (int)-answer;
		fail("process %d cannot be forked", request.original);
	}
	await_birth(twin);
	/* The step ends, and its parent is made to take note. */
	struct user_regs_struct registers = main_thread->again;
	registers.rax = SYS_exit;
	registers.rdi = 0;
	registers.orig_rax = (uint64_t)-1;
	set_registers(step, &registers);
	int status;
	if (ptrace(PTRACE_CONT, step, 0, 0) != 0 || waitpid(step, &status, __WALL) != step || !WIFEXITED(status))
		fail("process %d did not end", step);
	unfinished = twin;
	const uint64_t wait_values[6] = {(uint64_t)step, 0, __WALL, 0, 0, 0};
	ask_for(main_thread, request.original, NULL, SYS_wait4, wait_values);
	return twin;
}

/* Whether all of the original's memory is in its copy shows in its size. */
static pid_t fork_whole(void)
{
	pid_t twin = fork_original();
	if (mapped_pages(twin) == mapped_pages(request.original))
		return twin;
	int status;
	if (kill(twin, SIGKILL) != 0 || waitpid(twin, &status, __WALL) != twin)
		fail("cannot end process %d", twin);
	unfinished = 0;
	let_memory_in();
	twin = fork_original();
	errno = 0;
	if (mapped_pages(twin) != mapped_pages(request.original))
		fail("process %d keeps memory out of a fork", request.original);
	return twin;
}

/* ---- who it is ---- */

/* All users of the namespace it came from are in the new one too. Only a process of that namespace may say so: a child of
 * ours, since we would not come back. */
static void map_users(pid_t twin)
{
	static const char *const maps[] = {"uid_map", "gid_map"};
	char path[64], line[32];
	snprintf(path, sizeof path, "/proc/%d/ns/user", request.original);
	int before = open(path, O_RDONLY | O_CLOEXEC), length = snprintf(line, sizeof line, "0 0 %u\n", UINT32_MAX), status;
	struct stat ours, theirs;
	if (before < 0 || fstat(before, &theirs) != 0 || stat("/proc/self/ns/user", &ours) != 0)
		fail("cannot look at %s", path);
	pid_t child = fork();
	if (child == 0) {
		if ((ours.st_ino != theirs.st_ino || ours.st_dev != theirs.st_dev) && setns(before, CLONE_NEWUSER) != 0)
			_exit(errno);
		for (int index = 0; index < 2; index++) {
			snprintf(path, sizeof path, "/proc/%d/%s", twin, maps[index]);
			int file = open(path, O_WRONLY | O_CLOEXEC);
			if (file < 0 || write(file, line, (size_t)length) != length)
				_exit(errno);
		}
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		fail("cannot start a process");
	close(before);
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EIO;
	if (errno != 0)
		fail("cannot say who is who in the twin's user namespace");
}

/*
 * An unprivileged process cannot become another request.user; in a user namespace of its own it can, if we let it. Afterwards it
 * gives up what it has in that namespace, which is all it ever had. All users are the same inside and outside, so that a
 * twin of the twin may be another again (the kernel nests 32 deep).
 */
static void become_user(const struct thread *at, pid_t twin, uint64_t scratch)
{
	ask(at, twin, "leave its user namespace", SYS_unshare, CLONE_NEWUSER, 0, 0, 0);
	map_users(twin);
	ask(at, twin, "leave its groups", SYS_setgroups, 0, 0, 0, 0);
	ask(at, twin, "change its group", SYS_setresgid, request.user, request.user, request.user, 0);
	ask(at, twin, "change its user", SYS_setresuid, request.user, request.user, request.user, 0);
	struct {
		struct __user_cap_header_struct head;
		struct __user_cap_data_struct data[2];
	} none = {.head = {.version = _LINUX_CAPABILITY_VERSION_3}};
	write_memory(twin, scratch, &none, sizeof none);
	ask(at, twin, "give up its rights", SYS_capset, scratch, scratch + sizeof none.head, 0, 0);
}

/* What ps shows are the arguments of the request.original, in memory that is now the twin's own. */
static void rename_arguments(pid_t twin)
{
	if (request.renamed.old == NULL)
		return;
	char path[64], text[4096];
	snprintf(path, sizeof path, "/proc/%d/stat", twin);
	FILE *file = fopen(path, "re");
	size_t length = file == NULL ? 0 : fread(text, 1, sizeof text - 1, file);
	if (file != NULL)
		fclose(file);
	text[length] = '\0';
	const char *field = strrchr(text, ')');
	/* Behind the name: field 3. The arguments' begin and end are fields 48 and 49. */
	for (int number = 2; field != NULL && number < 48; number++)
		field = strchr(field + 1, ' ');
	unsigned long start, end;
	if (field == NULL || sscanf(field, " %lu %lu", &start, &end) != 2 || end < start || end - start > 1 << 20) {
		errno = 0;
		fail("cannot find the arguments of %d", twin);
	}
	const size_t bytes = end - start, name = strlen(request.renamed.old);
	char *arguments = malloc(bytes);
	if (arguments == NULL)
		fail("no memory");
	read_memory(twin, start, arguments, bytes);
	for (char *at = arguments; (at = memmem(at, bytes - (size_t)(at - arguments), request.renamed.old, name)) != NULL; at += name)
		memcpy(at, request.renamed.new, name);
	write_memory(twin, start, arguments, bytes);
	free(arguments);
}

/* ---- threads ---- */

static void make_threads(const struct thread *all, int count, pid_t twin, uint64_t scratch, pid_t *made)
{
	const uint64_t flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID;
	for (int index = 1; index < count; index++) {
		const struct thread *like = &all[index];
		const uint64_t number = like->again.fs_base + PTHREAD_TID_OFFSET;
		const uint64_t values[6] = {flags, like->again.rsp, number, number, 0, 0};
		long answer = ask_for(&all[0], twin, &made[index], SYS_clone, values);
		if (answer < 0 || made[index] == 0) {
			errno = (int)-answer;
			fail("the twin cannot make a thread");
		}
		await_birth(made[index]);
		struct thread there = all[0];
		there.again.fs_base = like->again.fs_base;
		write_memory(twin, scratch, like->name, sizeof like->name);
		ask(&there, made[index], "name a thread", SYS_prctl, PR_SET_NAME, scratch, 0, 0);
		set_up_thread(like, made[index]);
	}
	int32_t own = twin;
	write_memory(twin, all[0].again.fs_base + PTHREAD_TID_OFFSET, &own, sizeof own);
}

/* ---- the order of things ---- */

static struct pair parse_pair(const char *text)
{
	char *copy = strdup(text), *sign = copy == NULL ? NULL : strchr(copy, '=');
	if (sign == NULL) {
		fprintf(stderr, "berth-twin: %s is not OLD=NEW\n", text);
		_exit(1);
	}
	*sign = '\0';
	return (struct pair){copy, sign + 1, 0};
}

static unsigned long parse_number(const char *text)
{
	char *end;
	errno = 0;
	unsigned long value = strtoul(text, &end, 10);
	if (errno || *end || end == text || value == 0 || value > 0x7fffffffUL) {
		fprintf(stderr, "berth-twin: %s is not a number\n", text);
		_exit(1);
	}
	return value;
}

static _Noreturn void usage(void)
{
	fputs("usage: berth-twin PID --let-go memory\n       berth-twin PID [--user UID] [--listen OLD=NEW]... [--file OLD=NEW]... [--memory FILE] [--tap NAME [--bridge NAME]] "
	      "[--link down] [--rename OLD=NEW] [--log FILE]\n", stderr);
	_exit(1);
}

static void parse(int argc, char **argv)
{
	if (argc < 2 || argc % 2 != 0)
		usage();
	request.original = (pid_t)parse_number(argv[1]);
	for (int index = 2; index < argc; index += 2) {
		const char *name = argv[index], *value = argv[index + 1];
		if (strcmp(name, "--user") == 0) {
			request.user = (uid_t)parse_number(value);
			request.has_user = 1;
		} else if (strcmp(name, "--listen") == 0 && request.listen_count < MAX_PAIRS)
			request.listens[request.listen_count++] = parse_pair(value);
		else if (strcmp(name, "--file") == 0 && request.file_count < MAX_PAIRS)
			request.files[request.file_count++] = parse_pair(value);
		else if (strcmp(name, "--rename") == 0)
			request.renamed = parse_pair(value);
		else if (strcmp(name, "--tap") == 0)
			request.tap = value;
		else if (strcmp(name, "--bridge") == 0)
			request.bridge = value;
		else if (strcmp(name, "--link") == 0)
			request.stays_down = strcmp(value, "down") == 0;
		else if (strcmp(name, "--memory") == 0)
			request.memory = value;
		else if (strcmp(name, "--log") == 0)
			request.log = value;
		else if (strcmp(name, "--let-go") == 0 && strcmp(value, "memory") == 0 && argc == 4)
			request.lets_go = 1;
		else
			usage();
	}
	if ((request.bridge != NULL && request.tap == NULL) || (request.renamed.old != NULL && strlen(request.renamed.old) != strlen(request.renamed.new)))
		usage();
}

/* Of a stopped thread's stack, what it does not use. */
static uint64_t scratch_of(const struct thread *thread)
{
	return (thread->again.rsp - RED_ZONE - SCRATCH_BYTES) & ~UINT64_C(63);
}

int main(int argc, char **argv)
{
	static struct thread all[MAX_THREADS];
	static pid_t made[MAX_THREADS];
	parse(argc, argv);
	/* Without SA_RESTART: a wait that is under way fails. */
	const struct sigaction alarm_action = {.sa_handler = ring};
	sigaction(SIGALRM, &alarm_action, NULL);
	alarm(DEADLINE_SECONDS);
	stop_original();
	look_at_memory();
	if (request.lets_go) {
		set_mask(worker->tid, ALL_SIGNALS);
		let_go_of_memory(scratch_of(worker));
		restore_original();
		release_original();
		printf("free %d\n", request.original);
		return fflush(stdout) == 0 ? 0 : 1;
	}
	prepare_descriptors();
	set_mask(request.original, ALL_SIGNALS);
	const pid_t twin = fork_whole();
	restore_original();
	const int count = thread_count;
	memcpy(all, threads, sizeof all);
	release_original();

	const uint64_t scratch = scratch_of(&all[0]);
	if (request.has_user)
		become_user(&all[0], twin, scratch);
	give_descriptors(&all[0], twin, scratch);
	rename_arguments(twin);
	make_threads(all, count, twin, scratch, made);
	set_up_thread(&all[0], twin);
	for (int index = 1; index < count; index++)
		if (ptrace(PTRACE_DETACH, made[index], 0, 0) != 0)
			fail("cannot let thread %d go", made[index]);
	if (ptrace(PTRACE_DETACH, twin, 0, 0) != 0)
		fail("cannot let the twin go");
	printf("twin %d\n", twin);
	return fflush(stdout) == 0 ? 0 : 1;
}
