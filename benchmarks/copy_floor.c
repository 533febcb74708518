/* copy_floor: copy the files of a directory up, with the fewest system calls that keep the promises.
 *
 *     copy_floor LOWER UPPER WORK SYNCED
 *
 * Each regular file of LOWER is copied into WORK with its data, mode and times, the origin mark
 * of overlayfs and a new owner, as for a chown, and renamed into UPPER.  SYNCED is how many
 * copies are written to disk together before their names: 1 for one after the other, as
 * overlayfs does it, 0 for none.  Prints how many ns passed, and how many of processor time.
 *
 * It serves nobody, checks nothing and keeps no table: what it takes is what the kernel does for
 * these copies.  The origin has no uuid.  There is no file without a name, O_TMPFILE: without a
 * journal ext4 writes its link count, 0, to disk with its data, and a crash after the link would
 * leave a name that cannot be opened.
 *
 * Source: fs/overlayfs/copy_up.c, overlayfs.h:struct ovl_fb; io_submit(2); linux/aio_abi.h.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <err.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define MOST 64
#define LARGEST (1 << 20)
#define OWNER 12345
#define HANDLE_AT 21

static char data[LARGEST];

static long long now(clockid_t clock)
{
	struct timespec at;

	clock_gettime(clock, &at);
	return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static int directory(const char *path)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	if (fd < 0)
		err(1, "%s", path);
	return fd;
}

static void mark_origin(int lower, const char *name, int copy)
{
	struct {
		struct file_handle head;
		unsigned char bytes[MAX_HANDLE_SZ];
	} handle = { .head.handle_bytes = MAX_HANDLE_SZ };
	unsigned char origin[HANDLE_AT + MAX_HANDLE_SZ] = { 0, 0xfb };
	int mount;

	if (name_to_handle_at(lower, name, &handle.head, &mount, 0) != 0)
		err(1, "the handle of %s", name);
	origin[2] = HANDLE_AT + handle.head.handle_bytes;
	origin[4] = handle.head.handle_type;
	memcpy(origin + HANDLE_AT, handle.head.f_handle, handle.head.handle_bytes);
	if (fsetxattr(copy, "trusted.overlay.origin", origin, origin[2], 0) != 0)
		err(1, "the origin of %s", name);
}

/* Make `staged` in `work`, the copy of `name`, and return an fd of it. */
static int stage(int lower, const char *name, int work, const char *staged)
{
	int source = openat(lower, name, O_RDONLY | O_NOFOLLOW | O_NOATIME | O_CLOEXEC);
	struct stat st;
	ssize_t length;
	int copy;

	if (source < 0 || fstat(source, &st) != 0)
		err(1, "%s", name);
	copy = openat(work, staged, O_CREAT | O_EXCL | O_RDWR | O_CLOEXEC, st.st_mode & 07777);
	if (copy < 0)
		err(1, "a copy of %s", name);
	length = pread(source, data, sizeof(data), 0);
	if (length != st.st_size || pwrite(copy, data, length, 0) != length)
		err(1, "the data of %s", name);
	close(source);
	mark_origin(lower, name, copy);
	if (fchown(copy, OWNER, -1) != 0)
		err(1, "the owner of %s", name);
	if (futimens(copy, (struct timespec[]){ st.st_atim, st.st_mtim }) != 0)
		err(1, "the times of %s", name);
	return copy;
}

static void write_back(aio_context_t context, const int *copies, int count)
{
	struct iocb controls[MOST], *all[MOST];
	struct io_event ended[MOST];

	memset(controls, 0, sizeof(controls));
	for (int at = 0; at < count; at++) {
		controls[at].aio_lio_opcode = IOCB_CMD_FSYNC;
		controls[at].aio_fildes = copies[at];
		all[at] = &controls[at];
	}
	if (syscall(SYS_io_submit, context, (long)count, all) != count ||
	    syscall(SYS_io_getevents, context, (long)count, (long)count, ended, NULL) != count)
		err(1, "the copies cannot be synced together");
	for (int at = 0; at < count; at++)
		if (ended[at].res != 0)
			errx(1, "a copy cannot be synced");
}

/* Copy `count` files, at most MOST, and give the copies their names when they are on disk. */
static void copy_up(aio_context_t context, const int *at, char **names, int count, int synced)
{
	int lower = at[0], upper = at[1], work = at[2], copies[MOST];
	char staged[MOST][16];
	struct stat before;

	for (int each = 0; each < count; each++) {
		snprintf(staged[each], sizeof(staged[each]), "#%x", each);
		copies[each] = stage(lower, names[each], work, staged[each]);
	}
	if (synced > 1)
		write_back(context, copies, count);
	else if (synced == 1 && fsync(copies[0]) != 0)
		err(1, "a copy cannot be synced");
	for (int each = 0; each < count; each++) {
		if (fstat(upper, &before) != 0 ||
		    renameat(work, staged[each], upper, names[each]) != 0 ||
		    futimens(upper, (struct timespec[]){ before.st_atim, before.st_mtim }) != 0)
			err(1, "the name of %s", names[each]);
		close(copies[each]);
	}
}

int main(int argc, char **argv)
{
	aio_context_t context = 0;
	long long began, used;
	struct dirent *entry;
	char **names = NULL;
	int at[3], synced, together, count = 0;
	DIR *listing;

	if (argc != 5 || (synced = atoi(argv[4])) < 0 || synced > MOST)
		errx(2, "usage: copy_floor LOWER UPPER WORK SYNCED, which is at most %d", MOST);
	for (int each = 0; each < 3; each++)
		at[each] = directory(argv[each + 1]);
	umask(0);
	began = now(CLOCK_MONOTONIC);
	used = now(CLOCK_PROCESS_CPUTIME_ID);
	if (syscall(SYS_io_setup, MOST, &context) != 0)
		err(1, "io_setup");
	listing = fdopendir(dup(at[0]));
	while (listing && (entry = readdir(listing)))
		if (entry->d_type == DT_REG) {
			names = realloc(names, (count + 1) * sizeof(*names));
			names[count++] = strdup(entry->d_name);
		}
	together = synced ? synced : 1;
	for (int done = 0; done < count; done += together)
		copy_up(context, at, names + done,
			count - done < together ? count - done : together, synced);
	used = now(CLOCK_PROCESS_CPUTIME_ID) - used;
	printf("%lld %lld\n", now(CLOCK_MONOTONIC) - began, used);
	return 0;
}
