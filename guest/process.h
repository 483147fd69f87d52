/* The processes berthd started: their streams, their ends. See "Output" in PROTOCOL.md. */
#pragma once
#include "bytes.h"
#include "frame.h"

void handle_start(const struct message *message);
void handle_stdin(const struct message *message);
void handle_stdin_eof(const struct message *message);
void handle_signal(const struct message *message);
void handle_resize(const struct message *message);
void handle_ack(const struct message *message);
void handle_resume(const struct message *message);
/* True when the main process was acknowledged: it is time to end. */
bool handle_exit_ack(const struct message *message);

/* HELLO: every process waits for its RESUME. Adds the list of processes to HELLO_ACK. */
void pause_processes(struct bytes *hello_ack);

/* In a fork: what was written before it belongs to the other. Drops all of it and numbers the output from 0 again. */
void forget_output(void);

/* Collects all children that ended. */
void reap_children(void);
/* Moves bytes from pipes into rings and from windows into pipes. True when more could be moved at once. */
bool move_streams(void);
/* Fills the port's transmit buffer: state changes first, then output in turn. */
void pump_processes(void);
