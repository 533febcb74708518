/* floor: a FUSE filesystem that does nothing but answer, as fast as C can.
 *
 *     floor MOUNTPOINT [uring]
 *
 * Mounts itself and serves in the foreground until it is unmounted.  No name is there until it
 * is created, except `f` and a number, which are files of 200 bytes.  Nothing is
 * remembered and nothing is stored: what a request costs here is what the kernel and the change
 * to another process cost.  No filesystem that is asked as often can be faster.
 *
 * Without `uring` one thread reads /dev/fuse; with it each CPU has a ring and a thread.
 *
 * Source: include/uapi/linux/fuse.h, include/uapi/linux/io_uring.h;
 * Documentation/filesystems/fuse/fuse-io-uring.rst.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fuse.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define BUFFER (1 << 20)
#define SIZE 200
#define DEPTH 8
#define FOREVER 3600
#define DIRECTORY (1ULL << 40)  /* a bit of the nodeid of a directory */

/* Of Linux 6.14; Debian's headers may be older. */
#define OVER_IO_URING (1ULL << 41)
#define INIT_EXT (1ULL << 30)
enum { REGISTER = 1, COMMIT_AND_FETCH = 2 };
struct ring_header {
	char in_out[128];
	char op_in[128];
	uint64_t flags, commit_id;
	uint32_t payload_size, padding;
	uint64_t reserved;
};
struct ring_command {
	uint64_t flags, commit_id;
	uint16_t qid;
	uint8_t padding[6];
};

static int device, rings;
static uint64_t last_node = 1000;

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static struct fuse_attr attributes(uint64_t node)
{
	struct fuse_attr attr = { .ino = node, .nlink = 1, .blksize = 4096 };

	if (node == FUSE_ROOT_ID || node & DIRECTORY)
		attr.mode = S_IFDIR | 0777;
	else
		attr.mode = S_IFREG | 0644;
	attr.size = SIZE;
	return attr;
}

static struct fuse_entry_out entry(uint64_t kind)
{
	uint64_t node = kind | __atomic_add_fetch(&last_node, 1, __ATOMIC_RELAXED);

	return (struct fuse_entry_out){
		.nodeid = node, .entry_valid = FOREVER, .attr_valid = FOREVER,
		.attr = attributes(node),
	};
}

static int put(void *out, const void *reply, size_t size)
{
	memcpy(out, reply, size);
	return size;
}

/* Write the reply to `out`; return its length, or a negative errno.  `in` are the arguments,
 * `rest` what follows them, as names. */
static int answer(const struct fuse_in_header *head, const char *in, const char *rest, char *out)
{
	switch (head->opcode) {
	case FUSE_INIT: {
		const struct fuse_init_in *init = (const void *)in;
		struct fuse_init_out reply = {
			.major = 7, .minor = FUSE_KERNEL_MINOR_VERSION,
			.max_readahead = init->max_readahead, .max_write = BUFFER / 2,
			.max_background = 64, .congestion_threshold = 48, .max_pages = BUFFER / 8192,
			.flags = FUSE_BIG_WRITES | FUSE_MAX_PAGES | FUSE_NO_OPEN_SUPPORT,
		};

		if (rings) {
			reply.minor = 42;
			reply.flags |= INIT_EXT;
			reply.flags2 = OVER_IO_URING >> 32;
		}
		return put(out, &reply, sizeof(reply));
	}
	case FUSE_LOOKUP: {
		struct fuse_entry_out reply = { .entry_valid = 0 };

		if (rest[0] != 'f' || strlen(rest) > 6)
			return -ENOENT;
		reply = entry(0);
		return put(out, &reply, sizeof(reply));
	}
	case FUSE_MKDIR: {
		struct fuse_entry_out reply = entry(DIRECTORY);

		return put(out, &reply, sizeof(reply));
	}
	case FUSE_GETATTR: case FUSE_SETATTR: {
		struct fuse_attr_out reply = {
			.attr_valid = FOREVER, .attr = attributes(head->nodeid),
		};

		return put(out, &reply, sizeof(reply));
	}
	case FUSE_CREATE: {
		struct { struct fuse_entry_out entry; struct fuse_open_out open; } reply = {
			.entry = entry(0), .open = { .open_flags = FOPEN_NOFLUSH },
		};

		return put(out, &reply, sizeof(reply));
	}
	case FUSE_OPEN: {
		struct fuse_open_out reply = { .open_flags = FOPEN_KEEP_CACHE | FOPEN_NOFLUSH };

		return put(out, &reply, sizeof(reply));
	}
	case FUSE_READ:
		memset(out, 'x', SIZE);
		return SIZE;
	case FUSE_UNLINK: case FUSE_RMDIR: case FUSE_RENAME2: case FUSE_RENAME: case FUSE_RELEASE:
		return 0;
	}
	return -ENOSYS;
}

static void by_read(void)
{
	static _Alignas(8) char in[BUFFER + 4096], out[BUFFER];

	for (;;) {
		struct fuse_in_header *head = (void *)in;
		struct fuse_out_header *reply = (void *)out;
		ssize_t got = read(device, in, sizeof(in));
		const char *arguments = in + sizeof(*head);
		int size;

		if (got < 0 && errno == ENODEV)
			exit(0);
		if (got < 0)
			continue;
		if (head->opcode == FUSE_FORGET || head->opcode == FUSE_BATCH_FORGET)
			continue;
		size = answer(head, arguments, arguments, out + sizeof(*reply));
		*reply = (struct fuse_out_header){
			.len = sizeof(*reply) + (size > 0 ? size : 0),
			.error = size < 0 ? size : 0, .unique = head->unique,
		};
		if (write(device, out, reply->len) < 0 && errno == ENODEV)
			exit(0);
	}
}

struct ring {
	int fd;
	char *rings;
	struct io_uring_params params;
	struct io_uring_sqe *entries;  /* each takes the place of two */
};

static void submit(struct ring *ring, int cpu, int index, int operation, uint64_t commit,
		   const struct iovec *parts)
{
	uint32_t *tail = (void *)(ring->rings + ring->params.sq_off.tail);
	uint32_t mask = *(uint32_t *)(ring->rings + ring->params.sq_off.ring_mask);
	uint32_t *array = (void *)(ring->rings + ring->params.sq_off.array);
	struct io_uring_sqe *entry = &ring->entries[2 * (*tail & mask)];
	struct ring_command command = { .commit_id = commit, .qid = cpu };

	memset(entry, 0, 128);
	entry->opcode = IORING_OP_URING_CMD;
	entry->fd = device;
	entry->off = operation;
	entry->addr = (uintptr_t)parts;
	entry->len = parts ? 2 : 0;
	entry->user_data = index;
	memcpy((char *)entry + 48, &command, sizeof(command));
	array[*tail & mask] = *tail & mask;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
}

static void *by_ring(void *argument)
{
	int cpu = (intptr_t)argument, waiting = 0;
	struct ring ring = { .params.flags = IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER |
					     IORING_SETUP_DEFER_TASKRUN };
	struct ring_header *heads[DEPTH];
	struct iovec parts[DEPTH][2];
	cpu_set_t one;
	size_t size;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
	ring.fd = syscall(SYS_io_uring_setup, 2 * DEPTH, &ring.params);
	if (ring.fd < 0)
		die("io_uring_setup");
	size = ring.params.cq_off.cqes + ring.params.cq_entries * sizeof(struct io_uring_cqe) +
	       ring.params.sq_entries * 4 + 4096;
	ring.rings = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring.fd, IORING_OFF_SQ_RING);
	ring.entries = mmap(NULL, ring.params.sq_entries * 128, PROT_READ | PROT_WRITE, MAP_SHARED,
			    ring.fd, IORING_OFF_SQES);
	if (ring.rings == MAP_FAILED || ring.entries == MAP_FAILED)
		die("mmap");
	for (int index = 0; index < DEPTH; index++) {
		heads[index] = calloc(1, sizeof(struct ring_header));
		parts[index][0] = (struct iovec){ heads[index], sizeof(struct ring_header) };
		parts[index][1] = (struct iovec){ malloc(BUFFER), BUFFER };
		submit(&ring, cpu, index, REGISTER, 0, parts[index]);
		waiting++;
	}
	for (;;) {
		uint32_t *head = (void *)(ring.rings + ring.params.cq_off.head);
		uint32_t *tail = (void *)(ring.rings + ring.params.cq_off.tail);
		uint32_t mask = *(uint32_t *)(ring.rings + ring.params.cq_off.ring_mask);
		struct io_uring_cqe *done = (void *)(ring.rings + ring.params.cq_off.cqes);

		if (syscall(SYS_io_uring_enter, ring.fd, waiting, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			die("io_uring_enter");
		waiting = 0;
		while (*head != __atomic_load_n(tail, __ATOMIC_ACQUIRE)) {
			struct io_uring_cqe *one_done = &done[*head & mask];
			int index = one_done->user_data, length;
			struct ring_header *shared = heads[index];
			struct fuse_in_header request;
			struct fuse_out_header *reply = (void *)shared->in_out;

			if (one_done->res < 0)
				exit(0);  /* unmounted */
			__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
			memcpy(&request, shared->in_out, sizeof(request));
			length = answer(&request, shared->op_in, parts[index][1].iov_base,
					parts[index][1].iov_base);
			*reply = (struct fuse_out_header){
				.len = sizeof(*reply), .error = length < 0 ? length : 0,
				.unique = request.unique,
			};
			shared->payload_size = length > 0 ? length : 0;
			submit(&ring, cpu, index, COMMIT_AND_FETCH, shared->commit_id, NULL);
			waiting++;
		}
	}
}

int main(int count, char **words)
{
	char options[128];

	if (count < 2)
		return 2;
	rings = count > 2;
	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0)
		die("/dev/fuse");
	snprintf(options, sizeof(options), "fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other",
		 device);
	if (mount("floor", words[1], "fuse.floor", MS_NOSUID | MS_NODEV, options) < 0)
		die("mount");
	if (rings) {
		/* INIT comes by read(2); after the reply the rings may be registered. */
		static _Alignas(8) char in[BUFFER], out[4096];
		struct fuse_in_header *head = (void *)in;
		struct fuse_out_header *reply = (void *)out;
		pthread_t thread;
		int size;

		if (read(device, in, sizeof(in)) < 0)
			die("read");
		size = answer(head, in + sizeof(*head), "", out + sizeof(*reply));
		*reply = (struct fuse_out_header){
			.len = sizeof(*reply) + size, .unique = head->unique,
		};
		if (write(device, out, reply->len) < 0)
			die("write");
		for (intptr_t cpu = 0; cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++)
			pthread_create(&thread, NULL, by_ring, (void *)cpu);
	}
	by_read();
}
