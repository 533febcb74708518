/* What the two halves of the floor know of each other: see floor.c. */
#pragma once
#include <linux/fuse.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_WRITE (1 << 20)

/* A request.  `args` is the struct of its opcode, `rest` what follows: names, or data.  The
 * reply goes to `out`, which has room for MAX_WRITE bytes. */
struct request {
	uint32_t opcode, uid, gid;
	uint64_t nodeid;
	const char *args, *rest;
	char *out;
};

/* Print the reason of `errno` and end the process. */
void die(const char *what);

/* Make the tree: what `count` directories show together, the topmost first.  A layer has no
 * whiteouts. */
void tree_make(char **layers, int count);

/* Let files be passed through by `device`, the /dev/fuse of the mount. */
void tree_passes(int device);

/* Return the size of the struct of an opcode that has one, else 0. */
size_t argument_size(uint32_t opcode);

/* Answer a request; return the length of the reply, or a negative errno. */
int tree_answer(const struct request *request);

/* Serve a FORGET or a BATCH_FORGET. */
void tree_forget(const struct request *request);
