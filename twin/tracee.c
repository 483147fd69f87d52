#define _GNU_SOURCE
#include "twin.h"

#include <dirent.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/ptrace.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

/* From sys/ptrace.h, which does not go with linux/ptrace.h. */
extern long ptrace(int call, ...);

#define OPTIONS                                                                                                        \
	(PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACECLONE | PTRACE_O_SUSPEND_SECCOMP)

/* A second in all. */
enum { TRIES = 2000, TRY_US = 500 };

struct thread threads[MAX_THREADS];
int thread_count;
pid_t unfinished;
struct thread *worker = &threads[0];
/* It has other registers than it had. */
static int has_worked;

/* In the middle of anything. */
static _Noreturn void give_up(void)
{
	if (unfinished > 0)
		kill(unfinished, SIGKILL);
	if (has_worked && thread_count > 0) {
		struct iovec part = {&worker->again, sizeof worker->again};
		ptrace(PTRACE_SETREGSET, worker->tid, NT_PRSTATUS, &part);
		ptrace(PTRACE_SETSIGMASK, worker->tid, sizeof worker->mask, &worker->mask);
	}
	for (int index = 0; index < thread_count; index++)
		ptrace(PTRACE_DETACH, threads[index].tid, 0, 0);
	_exit(1);
}

_Noreturn void fail(const char *format, ...)
{
	int error = errno;
	va_list arguments;
	va_start(arguments, format);
	fputs("berth-twin: ", stderr);
	vfprintf(stderr, format, arguments);
	va_end(arguments);
	if (error)
		fprintf(stderr, ": %s", strerror(error));
	fputc('\n', stderr);
	give_up();
}

/* Waits until `tid` stops and says how: as waitpid does, above the low 8 bits. */
static int stopped(pid_t tid)
{
	int status;
	if (waitpid(tid, &status, __WALL) != tid)
		fail("cannot wait for thread %d", tid);
	if (!WIFSTOPPED(status)) {
		errno = 0;
		fail("thread %d ended", tid);
	}
	return status >> 8;
}

static void get_registers(pid_t tid, struct user_regs_struct *registers)
{
	struct iovec part = {registers, sizeof *registers};
	if (ptrace(PTRACE_GETREGSET, tid, NT_PRSTATUS, &part) != 0)
		fail("cannot read the registers of %d", tid);
}

void set_registers(pid_t tid, const struct user_regs_struct *registers)
{
	struct iovec part = {(void *)registers, sizeof *registers};
	if (ptrace(PTRACE_SETREGSET, tid, NT_PRSTATUS, &part) != 0)
		fail("cannot set the registers of %d", tid);
}

void set_mask(pid_t tid, uint64_t mask)
{
	if (ptrace(PTRACE_SETSIGMASK, tid, sizeof mask, &mask) != 0)
		fail("cannot set the signal mask of %d", tid);
}

long ask_for(const struct thread *at, pid_t tid, pid_t *born, long number, const uint64_t values[6])
{
	has_worked |= tid == worker->tid;
	struct user_regs_struct registers = at->again;
	registers.rax = (uint64_t)number;
	registers.orig_rax = (uint64_t)-1;
	registers.rdi = values[0];
	registers.rsi = values[1];
	registers.rdx = values[2];
	registers.r10 = values[3];
	registers.r8 = values[4];
	registers.r9 = values[5];
	set_registers(tid, &registers);
	int entered = 0;
	for (;;) {
		if (ptrace(PTRACE_SYSCALL, tid, 0, 0) != 0)
			fail("cannot resume %d", tid);
		int how = stopped(tid);
		if (how == (SIGTRAP | 0x80)) {
			if (entered)
				break;
			entered = 1;
		} else if (how >> 8 == PTRACE_EVENT_CLONE || how >> 8 == PTRACE_EVENT_FORK || how >> 8 == PTRACE_EVENT_VFORK) {
			unsigned long message;
			if (ptrace(PTRACE_GETEVENTMSG, tid, 0, &message) != 0)
				fail("cannot ask for what %d made", tid);
			if (born != NULL)
				*born = (pid_t)message;
		}
	}
	get_registers(tid, &registers);
	return (long)registers.rax;
}

long ask(const struct thread *at, pid_t tid, const char *what, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d)
{
	const uint64_t values[6] = {a, b, c, d, 0, 0};
	long answer = ask_for(at, tid, NULL, number, values);
	if (answer < 0) {
		errno = (int)-answer;
		fail("the twin cannot %s", what);
	}
	return answer;
}

void write_memory(pid_t pid, uint64_t address, const void *bytes, size_t length)
{
	struct iovec ours = {(void *)bytes, length}, theirs = {(void *)address, length};
	if (process_vm_writev(pid, &ours, 1, &theirs, 1, 0) != (ssize_t)length)
		fail("cannot write the memory of %d", pid);
}

void read_memory(pid_t pid, uint64_t address, void *bytes, size_t length)
{
	struct iovec ours = {bytes, length}, theirs = {(void *)address, length};
	if (process_vm_readv(pid, &ours, 1, &theirs, 1, 0) != (ssize_t)length)
		fail("cannot read the memory of %d", pid);
}

/* ---- stopping the original ---- */

/* A system call that a stop interrupted is made again from its start, with what it was asked for: the kernel does so for
 * a process it goes on with, and not for a copy. */
static void begin_again(struct user_regs_struct *registers)
{
	const long result = (long)registers->rax; /* ERESTARTSYS, NOINTR, NOHAND, RESTARTBLOCK */
	if ((long)registers->orig_rax >= 0 && (result == -512 || result == -513 || result == -514 || result == -516)) {
		registers->rax = registers->orig_rax;
		registers->rip -= 2;
	}
	registers->orig_rax = (uint64_t)-1;
}

static int waits_in_call(const struct thread *thread)
{
	uint16_t instruction;
	read_memory(request.original, thread->again.rip, &instruction, sizeof instruction);
	return instruction == 0x050f;
}

static void interrupt(struct thread *one)
{
	if (ptrace(PTRACE_INTERRUPT, one->tid, 0, 0) != 0)
		fail("cannot interrupt thread %d", one->tid);
	for (;;) {
		int how = stopped(one->tid);
		if (how >> 8 == PTRACE_EVENT_STOP)
			break;
		/* A signal on its way: it is taken, and the interruption comes behind it. */
		if (ptrace(PTRACE_CONT, one->tid, 0, how >> 8 == 0 ? how & 0x7f : 0) != 0)
			fail("cannot resume thread %d", one->tid);
	}
	get_registers(one->tid, &one->stopped);
	one->again = one->stopped;
	begin_again(&one->again);
	struct iovec part = {one->xstate, sizeof one->xstate};
	if (ptrace(PTRACE_GETREGSET, one->tid, NT_X86_XSTATE, &part) != 0)
		fail("cannot read the registers of %d", one->tid);
	one->xstate_bytes = part.iov_len;
	if (ptrace(PTRACE_GETSIGMASK, one->tid, sizeof one->mask, &one->mask) != 0)
		fail("cannot read the signal mask of %d", one->tid);
}

static void stop_thread(pid_t tid)
{
	if (thread_count == MAX_THREADS) {
		errno = 0;
		fail("process %d has more than %d threads", request.original, MAX_THREADS);
	}
	struct thread *one = &threads[thread_count];
	one->tid = tid;
	if (ptrace(PTRACE_SEIZE, tid, 0, OPTIONS) != 0)
		fail("cannot stop thread %d", tid);
	thread_count += 1;
	interrupt(one);
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task/%d/comm", request.original, tid);
	int file = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = file < 0 ? -1 : read(file, one->name, sizeof one->name - 1);
	if (length <= 0)
		fail("cannot read %s", path);
	one->name[one->name[length - 1] == '\n' ? length - 1 : length] = '\0';
	close(file);
}

static int is_stopped(pid_t tid)
{
	for (int index = 0; index < thread_count; index++)
		if (threads[index].tid == tid)
			return 1;
	return 0;
}

/* All its threads, also one that another was just making. */
void stop_original(void)
{
	char path[64];
	snprintf(path, sizeof path, "/proc/%d/task", request.original);
	stop_thread(request.original);
	/* QEMU's main thread works for a moment now and then, and waits again. */
	for (int try = 0; !request.lets_go && !waits_in_call(&threads[0]) && try < TRIES; try++) {
		if (ptrace(PTRACE_CONT, request.original, 0, 0) != 0)
			fail("cannot resume thread %d", request.original);
		usleep(TRY_US);
		interrupt(&threads[0]);
	}
	for (int found = 1; found > 0;) {
		found = 0;
		DIR *folder = opendir(path);
		if (folder == NULL)
			fail("cannot read %s", path);
		for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
			pid_t tid = (pid_t)atoi(entry->d_name);
			if (tid <= 0 || is_stopped(tid))
				continue;
			stop_thread(tid);
			found += 1;
		}
		closedir(folder);
	}
	for (worker = &threads[0]; !waits_in_call(worker); worker++)
		if (request.lets_go == 0 || worker == &threads[thread_count - 1]) {
			errno = 0;
			fail("process %d does not wait in a system call", request.original);
		}
	for (int index = 0; index < thread_count; index++) {
		int32_t own;
		read_memory(request.original, threads[index].stopped.fs_base + PTHREAD_TID_OFFSET, &own, sizeof own);
		errno = 0;
		if (own != threads[index].tid)
			fail("thread %d of process %d is not one of this C library's", threads[index].tid, request.original);
	}
}

void release_original(void)
{
	for (int index = 0; index < thread_count; index++)
		ptrace(PTRACE_DETACH, threads[index].tid, 0, 0);
	thread_count = 0;
}

void restore_original(void)
{
	set_registers(worker->tid, &worker->again);
	set_mask(worker->tid, worker->mask);
	has_worked = 0;
}

void tie(pid_t pid)
{
	if (ptrace(PTRACE_SETOPTIONS, pid, 0, OPTIONS | PTRACE_O_EXITKILL) != 0)
		fail("cannot hold process %d", pid);
}

void await_birth(pid_t pid)
{
	if (stopped(pid) >> 8 != PTRACE_EVENT_STOP) {
		errno = 0;
		fail("process %d did not stop where it began", pid);
	}
}

void set_up_thread(const struct thread *like, pid_t tid)
{
	set_registers(tid, &like->again);
	struct iovec part = {(void *)like->xstate, like->xstate_bytes};
	if (ptrace(PTRACE_SETREGSET, tid, NT_X86_XSTATE, &part) != 0)
		fail("cannot set the registers of %d", tid);
	set_mask(tid, like->mask);
}
