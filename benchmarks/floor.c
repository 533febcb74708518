/* floor: a FUSE filesystem in memory that answers at once, as fast as C can.
 *
 *     floor [-f] [-u] LAYER... MOUNTPOINT
 *
 * Shows what the layers, the topmost first, show together.  Mounts itself, and serves in the
 * foreground with -f; the command ends otherwise as soon as it is mounted.  With -u each CPU has
 * a ring (FUSE over io_uring) and a thread, else one thread reads /dev/fuse.
 *
 * It asks the kernel for what PyUnion asks for, so it gets the same requests.  What a workload
 * takes here is what the kernel, the change to another process and the program itself take: no
 * filesystem that is asked as often can be faster.
 *
 * All threads are SCHED_IDLE in a session of their own, and without rings the reader follows its
 * client from CPU to CPU: so a client that is answered runs on at once.
 *
 * Source: include/uapi/linux/fuse.h, include/uapi/linux/io_uring.h;
 * Documentation/filesystems/fuse/fuse-io-uring.rst; sched(7).
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include "floor.h"

#define DEPTH 8
#define PAGE 4096
#define READ_AHEAD_KB 512
#define TOGETHER_US 4000  /* how long FORGETs are waited for, with rings */

/* Of Linux 6.9 and 6.14; Debian's headers may be older. */
#define INIT_EXT (1U << 30)
#define PASSTHROUGH (1ULL << 37)
#define NO_EXPORT_SUPPORT (1ULL << 38)
#define ALLOW_IDMAP (1ULL << 40)
#define OVER_IO_URING (1ULL << 41)
#define MINOR 45
enum { REGISTER = 1, COMMIT_AND_FETCH = 2 };
struct init_out {
	uint32_t major, minor, max_readahead, flags;
	uint16_t max_background, congestion_threshold;
	uint32_t max_write, time_gran;
	uint16_t max_pages, map_alignment;
	uint32_t flags2, max_stack_depth, unused[6];
};
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

/* After how many requests of a client to look where it runs: at first, and then. */
enum { FIRST_LOOK = 2, LEAST_LOOK = 16, MOST_LOOK = 512 };
enum { PROCESSOR = 39 };  /* the field of /proc/PID/stat, as proc(5) counts */

static int device;
static bool rings;

void die(const char *what)
{
	perror(what);
	exit(1);
}

/* -- the connection -- */

static void init(void)
{
	static _Alignas(8) char in[MAX_WRITE];
	struct fuse_in_header *head = (void *)in;
	struct fuse_init_in *asked = (void *)(head + 1);
	uint64_t flags = FUSE_ASYNC_READ | FUSE_ATOMIC_O_TRUNC | FUSE_BIG_WRITES | FUSE_DONT_MASK |
			 FUSE_DO_READDIRPLUS | FUSE_PARALLEL_DIROPS | FUSE_ABORT_ERROR |
			 FUSE_MAX_PAGES | FUSE_HANDLE_KILLPRIV_V2 | FUSE_SETXATTR_EXT | INIT_EXT |
			 FUSE_NO_OPENDIR_SUPPORT | FUSE_POSIX_ACL | FUSE_CACHE_SYMLINKS |
			 NO_EXPORT_SUPPORT | ALLOW_IDMAP | PASSTHROUGH;
	struct { struct fuse_out_header head; struct init_out body; } reply = {
		.body = {
			.major = FUSE_KERNEL_VERSION, .minor = MINOR, .max_background = 64,
			.congestion_threshold = 48, .max_write = MAX_WRITE, .time_gran = 1,
			.max_pages = MAX_WRITE / PAGE, .max_stack_depth = 1,
		},
	};

	if (read(device, in, sizeof(in)) < 0)
		die("read");
	if (rings)
		flags |= OVER_IO_URING;
	reply.head = (struct fuse_out_header){ .len = sizeof(reply), .unique = head->unique };
	reply.body.max_readahead = asked->max_readahead;
	reply.body.flags = flags;
	reply.body.flags2 = flags >> 32;
	if (write(device, &reply, sizeof(reply)) < 0)
		die("write");
}

static void read_ahead(const char *point)
{
	char path[64];
	struct statx found;
	int fd;

	if (statx(AT_FDCWD, point, AT_STATX_DONT_SYNC, 0, &found) < 0)
		return;
	snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", found.stx_dev_major,
		 found.stx_dev_minor);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return;
	dprintf(fd, "%d", READ_AHEAD_KB);
	close(fd);
}

static bool is_forget(uint32_t opcode)
{
	return opcode == FUSE_FORGET || opcode == FUSE_BATCH_FORGET;
}

/* -- without rings -- */

static void move_to(int cpu)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

/* Go where the client runs, as unionfs/transports/turns.py does. */
static void follow(uint32_t pid, uint32_t opcode)
{
	static uint32_t client, left, interval;
	static int fd = -1, here = -1;
	char path[32], text[1024], *field;
	ssize_t length;

	if (opcode == FUSE_RELEASE)
		return;  /* it does not say who closed */
	if (pid != client) {
		if (fd >= 0)
			close(fd);
		fd = -1;
		client = pid;
		left = FIRST_LOOK;
		interval = LEAST_LOOK;
	}
	if (--left)
		return;
	left = interval;
	if (fd < 0) {
		snprintf(path, sizeof(path), "/proc/%u/stat", pid);
		fd = open(path, O_RDONLY | O_CLOEXEC);
	}
	length = fd < 0 ? -1 : pread(fd, text, sizeof(text) - 1, 0);
	if (length <= 0)
		return;
	text[length] = 0;
	field = strrchr(text, ')');
	for (int number = 2; field && number < PROCESSOR; number++)
		field = strchr(field + 1, ' ');
	if (!field || atoi(field) == here) {
		interval = interval < MOST_LOOK ? 2 * interval : MOST_LOOK;
	} else {
		here = atoi(field);
		move_to(here);
		interval = LEAST_LOOK;
	}
}

static void by_read(void)
{
	static _Alignas(8) char in[MAX_WRITE + PAGE], out[MAX_WRITE + PAGE];
	struct fuse_in_header *head = (void *)in;
	struct fuse_out_header *reply = (void *)out;

	for (;;) {
		struct request request;
		int size;

		if (read(device, in, sizeof(in)) < 0) {
			if (errno == ENODEV)
				_exit(0);  /* unmounted */
			continue;
		}
		request = (struct request){
			.opcode = head->opcode, .nodeid = head->nodeid, .uid = head->uid,
			.gid = head->gid, .args = (char *)(head + 1), .out = (char *)(reply + 1),
		};
		request.rest = request.args + argument_size(request.opcode);
		if (is_forget(request.opcode)) {
			tree_forget(&request);
			if (rings)
				usleep(TOGETHER_US);
			continue;
		}
		if (!rings)
			follow(head->pid, request.opcode);
		size = tree_answer(&request);
		*reply = (struct fuse_out_header){
			.len = sizeof(*reply) + (size > 0 ? size : 0),
			.error = size < 0 ? size : 0, .unique = head->unique,
		};
		if (write(device, out, reply->len) < 0 && errno == ENODEV)
			_exit(0);
	}
}

/* -- with rings -- */

struct ring {
	int fd;
	char *memory;
	struct io_uring_params params;
	struct io_uring_sqe *entries;  /* each takes the place of two */
};

static void ring_make(struct ring *ring)
{
	size_t size;

	ring->params.flags =
		IORING_SETUP_SQE128 | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
	ring->fd = syscall(SYS_io_uring_setup, 2 * DEPTH, &ring->params);
	if (ring->fd < 0)
		die("io_uring_setup");
	size = ring->params.cq_off.cqes + ring->params.cq_entries * sizeof(struct io_uring_cqe) +
	       ring->params.sq_entries * sizeof(uint32_t) + PAGE;
	ring->memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	ring->entries = mmap(NULL, ring->params.sq_entries * 128, PROT_READ | PROT_WRITE, MAP_SHARED,
			     ring->fd, IORING_OFF_SQES);
	if (ring->memory == MAP_FAILED || ring->entries == MAP_FAILED)
		die("mmap");
}

static void submit(struct ring *ring, int cpu, int index, int operation, uint64_t commit,
		   const struct iovec *parts)
{
	uint32_t *tail = (void *)(ring->memory + ring->params.sq_off.tail);
	uint32_t mask = *(uint32_t *)(ring->memory + ring->params.sq_off.ring_mask);
	uint32_t *array = (void *)(ring->memory + ring->params.sq_off.array);
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

/* Answer the request in `head` and `payload`. */
static void serve(struct ring_header *head, char *payload)
{
	struct fuse_in_header in;
	struct fuse_out_header *reply = (void *)head->in_out;
	struct request request;
	int size;

	memcpy(&in, head->in_out, sizeof(in));
	request = (struct request){
		.opcode = in.opcode, .nodeid = in.nodeid, .uid = in.uid, .gid = in.gid,
		.args = head->op_in, .rest = payload, .out = payload,
	};
	size = tree_answer(&request);
	*reply = (struct fuse_out_header){
		.len = sizeof(*reply), .error = size < 0 ? size : 0, .unique = in.unique,
	};
	head->payload_size = size > 0 ? size : 0;
}

static void *by_ring(void *argument)
{
	int cpu = (intptr_t)argument, waiting = 0;
	struct ring ring = {};
	struct ring_header *heads[DEPTH];
	struct iovec parts[DEPTH][2];

	move_to(cpu);
	ring_make(&ring);
	for (int index = 0; index < DEPTH; index++) {
		heads[index] = calloc(1, sizeof(struct ring_header));
		parts[index][0] = (struct iovec){ heads[index], sizeof(struct ring_header) };
		parts[index][1] = (struct iovec){ malloc(MAX_WRITE), MAX_WRITE };
		submit(&ring, cpu, index, REGISTER, 0, parts[index]);
		waiting++;
	}
	for (;;) {
		uint32_t *head = (void *)(ring.memory + ring.params.cq_off.head);
		uint32_t *tail = (void *)(ring.memory + ring.params.cq_off.tail);
		uint32_t mask = *(uint32_t *)(ring.memory + ring.params.cq_off.ring_mask);
		struct io_uring_cqe *done = (void *)(ring.memory + ring.params.cq_off.cqes);

		if (syscall(SYS_io_uring_enter, ring.fd, waiting, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0 &&
		    errno != EINTR)
			die("io_uring_enter");
		waiting = 0;
		while (*head != __atomic_load_n(tail, __ATOMIC_ACQUIRE)) {
			int index = done[*head & mask].user_data;

			if (done[*head & mask].res < 0)
				_exit(0);  /* unmounted */
			__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
			serve(heads[index], parts[index][1].iov_base);
			submit(&ring, cpu, index, COMMIT_AND_FETCH, heads[index]->commit_id, NULL);
			waiting++;
		}
	}
}

/* -- the command -- */

static void mount_on(const char *point)
{
	char options[128];

	device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (device < 0)
		die("/dev/fuse");
	snprintf(options, sizeof(options),
		 "fd=%d,rootmode=40000,user_id=0,group_id=0,default_permissions,allow_other", device);
	if (mount("floor", point, "fuse.floor", MS_POSIXACL, options) < 0)
		die("mount");
}

/* Let the command end, and be the daemon. */
static void detach(void)
{
	int nowhere = open("/dev/null", O_RDWR);

	if (fork())
		_exit(0);
	for (int fd = 0; fd < 3; fd++)
		dup2(nowhere, fd);
}

int main(int count, char **words)
{
	struct rlimit files;
	struct sched_param none = {};
	bool foreground = false;
	const char *point;
	pthread_t thread;
	int option;

	while ((option = getopt(count, words, "fu")) > 0) {
		foreground |= option == 'f';
		rings |= option == 'u';
	}
	if (option == '?' || count - optind < 2) {
		fprintf(stderr, "usage: floor [-f] [-u] LAYER... MOUNTPOINT\n");
		return 2;
	}
	point = words[count - 1];
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;  /* each file of a layer is open */
	setrlimit(RLIMIT_NOFILE, &files);
	tree_make(words + optind, count - optind - 1);
	mount_on(point);
	tree_passes(device);
	if (!foreground)
		detach();
	setsid();
	init();
	sched_setscheduler(0, SCHED_IDLE, &none);
	for (intptr_t cpu = 0; rings && cpu < sysconf(_SC_NPROCESSORS_CONF); cpu++)
		pthread_create(&thread, NULL, by_ring, (void *)cpu);
	read_ahead(point);
	by_read();
}
