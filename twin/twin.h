/* What the parts of berth-twin share: what it was asked for, the process it works on, and how both are spoken to. */
#pragma once
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/user.h>

#define MAX_THREADS 64
#define MAX_PAIRS 8
#define MAX_XSTATE 16384
/* Of struct pthread in glibc for x86-64 since 2.2: its `tid`. Checked against the thread's number before it is used. */
#define PTHREAD_TID_OFFSET 0x2d0

struct pair {
	const char *old;
	const char *new;
	int used;
};

struct request {
	pid_t original;
	struct pair listens[MAX_PAIRS], files[MAX_PAIRS], renamed;
	int listen_count, file_count;
	const char *tap, *bridge, *log, *memory;
	uid_t user;
	int has_user, stays_down, lets_go;
};
extern struct request request;

struct thread {
	pid_t tid;
	struct user_regs_struct stopped; /* as the kernel showed them */
	struct user_regs_struct again;   /* the same, at the start of the system call that was interrupted */
	uint64_t mask;
	char name[16];
	size_t xstate_bytes;
	unsigned char xstate[MAX_XSTATE];
};

/* Of the original while it is stopped; the main thread first. */
extern struct thread threads[MAX_THREADS];
extern int thread_count;
/* The one that makes system calls for us: the main thread, or, where a fork is not asked for, any that waits in one. */
extern struct thread *worker;
/* What is to be killed when we give up. */
extern pid_t unfinished;

/* A line with errno's text, when there is one; undoes what was begun, and ends. */
_Noreturn void fail(const char *format, ...);

/* ---- tracee.c ---- */

void stop_original(void);
/* The worker gets back what it had. */
void restore_original(void);
void release_original(void);
/* Signals wait while a process works for us. */
#define ALL_SIGNALS (~UINT64_C(0))
void set_mask(pid_t tid, uint64_t mask);
void set_registers(pid_t tid, const struct user_regs_struct *registers);
void set_up_thread(const struct thread *like, pid_t tid);
/* A process or thread that was just made stops where it begins. */
void await_birth(pid_t pid);
/* Kills the tracees with us. */
void tie(pid_t pid);
/*
 * Makes a stopped thread carry out one system call, at the instruction it is stopped behind; it is stopped again
 * afterwards, with registers to be set. `born`: the process or thread the call makes. The answer is the kernel's.
 */
long ask_for(const struct thread *at, pid_t tid, pid_t *born, long number, const uint64_t values[6]);
/* The same, where anything but success is a failure: "the twin cannot `what`". */
long ask(const struct thread *at, pid_t tid, const char *what, long number, uint64_t a, uint64_t b, uint64_t c, uint64_t d);
void write_memory(pid_t pid, uint64_t address, const void *bytes, size_t length);
void read_memory(pid_t pid, uint64_t address, void *bytes, size_t length);

/* ---- memory.c ---- */

/* Refuses what two processes cannot have; finds the guest's memory. */
void look_at_memory(void);
/* Lets a fork have all of it. */
void let_memory_in(void);
/* Puts the file of `--memory` in its place. */
void map_memory(const struct thread *at, pid_t twin, int number);
unsigned long mapped_pages(pid_t pid);
/* Puts an empty file where the original has the file its guest's memory is mapped from. */
void let_go_of_memory(uint64_t scratch);
/* Opened by look_at_memory; -1 without `--memory`. */
extern int memory_descriptor;

/* ---- descriptors.c, tap.c ---- */

/* Makes what the twin is to have instead of what the original has. */
void prepare_descriptors(void);
void give_descriptors(const struct thread *at, pid_t twin, uint64_t scratch);
/* A tap as QEMU has set up the one behind `theirs`. */
int tap_instead_of(int theirs, int place);
