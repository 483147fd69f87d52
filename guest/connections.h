/* The TCP connections of a machine that has another address now. */
#pragma once
#include <stdbool.h>

/* Ends every TCP connection whose own address is not a loopback's: its process sees ECONNABORTED. Listening sockets stay.
 * False with errno set when the kernel could not be asked. */
bool close_connections(void);
