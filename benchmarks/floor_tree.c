/* The tree of the floor: directories, names and attributes in memory, and nothing else.
 *
 * The content of a layer's file is read from the layer.  What is written goes to a memfd, by
 * passthrough.  A copy_up copies the content, without waiting for a disk.  Nothing is checked
 * that the kernel has checked, and no xattr is stored.
 *
 * The memfds, registered for passthrough, are used again for the next file.
 *
 * Source: include/uapi/linux/fuse.h; fs/fuse/dir.c, fs/fuse/iomode.c.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "floor.h"

#define BUCKETS (1 << 18)
#define FOREVER (1U << 31)      /* seconds */
#define MOST_GIVEN (128 << 10)  /* bytes of a file that is given to the kernel as a whole */
#define TRIAL 32                /* directories; see unionfs/wire/dirs.py */
#define WATCHED 1024
#define AT_FIRST (8 << 10)      /* bytes */
#define PATIENCE (4 << 20)
#define FIRST_COOKIE 2          /* after those of . and .. */
#define BEFORE_NAME offsetof(struct fuse_direntplus, dirent.name)

/* Of Linux 6.9 and later; Debian's headers may be older. */
#define OPEN_NOFLUSH (1 << 5)
#define OPEN_PASSTHROUGH (1 << 7)
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)

/* A memfd; `backing` is its id for passthrough, or not above 0. */
struct store {
	struct store *next;  /* of those without a file */
	struct timespec changed;
	int fd, backing;
};

struct node {
	struct fuse_attr attr;
	uint64_t lookups;              /* of the kernel: nlookup */
	struct node *parent;           /* of a directory */
	struct name *oldest, *newest;  /* in a directory */
	char *target;                  /* of a symbolic link */
	struct store *store;           /* of a file that may be written */
	int fd;                        /* of the content, -1 for none */
	uint32_t cached, passed;       /* handles, by how the kernel reads and writes */
	uint64_t bare;                 /* of a directory listed without its files' attributes */
	bool given;                    /* the kernel has got the content, or will not get it */
};

struct name {
	struct name *in_bucket, *older, *newer;
	struct node *parent, *node;
	uint64_t cookie;
	uint32_t length;
	char text[];
};

struct created {
	struct fuse_entry_out entry;
	struct fuse_open_out open;
};

static struct node *root;
static struct name *buckets[BUCKETS];
static struct store *unused;
static uint64_t last_ino, last_cookie = FIRST_COOKIE;
static uint64_t listed, last_bare;
static int64_t left = AT_FIRST;
static bool wanted = true;  /* whether programs want the attributes of the files that they list */
static bool seen;           /* by a lookup */
static int device;
static pthread_mutex_t lock = PTHREAD_ADAPTIVE_MUTEX_INITIALIZER_NP;

/* -- names -- */

static struct name **bucket(const struct node *parent, const char *text, size_t length)
{
	uint64_t hash = (uintptr_t)parent * 0x9e3779b97f4a7c15;

	for (size_t at = 0; at < length; at++)
		hash = (hash ^ (unsigned char)text[at]) * 0x100000001b3;
	return &buckets[(hash ^ hash >> 32) % BUCKETS];
}

static struct name *find(const struct node *parent, const char *text)
{
	size_t length = strlen(text);

	for (struct name *name = *bucket(parent, text, length); name; name = name->in_bucket)
		if (name->parent == parent && name->length == length && !memcmp(name->text, text, length))
			return name;
	return NULL;
}

static void add(struct node *parent, const char *text, struct node *node)
{
	size_t length = strlen(text);
	struct name **head = bucket(parent, text, length);
	struct name *name = malloc(sizeof(*name) + length);

	*name = (struct name){
		.in_bucket = *head, .older = parent->newest, .parent = parent, .node = node,
		.cookie = ++last_cookie, .length = length,
	};
	memcpy(name->text, text, length);
	*head = name;
	*(parent->newest ? &parent->newest->newer : &parent->oldest) = name;
	parent->newest = name;
	if (S_ISDIR(node->attr.mode))
		node->parent = parent;
}

static void drop(struct name *name)
{
	struct name **at = bucket(name->parent, name->text, name->length);

	while (*at != name)
		at = &(*at)->in_bucket;
	*at = name->in_bucket;
	*(name->older ? &name->older->newer : &name->parent->oldest) = name->newer;
	*(name->newer ? &name->newer->older : &name->parent->newest) = name->older;
	free(name);
}

/* -- nodes -- */

static struct node *node_of(uint64_t nodeid)
{
	return nodeid == FUSE_ROOT_ID ? root : (struct node *)(uintptr_t)nodeid;
}

static struct node *new_node(uint32_t mode)
{
	struct node *node = calloc(1, sizeof(*node));

	node->attr = (struct fuse_attr){
		.ino = ++last_ino, .mode = mode, .nlink = 1, .blksize = 4096,
	};
	node->fd = -1;
	return node;
}

static void modified(struct fuse_attr *attr, bool content)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	attr->ctime = now.tv_sec;
	attr->ctimensec = now.tv_nsec;
	if (content) {
		attr->mtime = now.tv_sec;
		attr->mtimensec = now.tv_nsec;
	}
}

/* Bring the attributes up to date with what was written by passthrough. */
static void refresh(struct node *node)
{
	struct store *store = node->store;
	struct stat st;

	if (!store || fstat(store->fd, &st) < 0)
		return;
	node->attr.size = st.st_size;
	node->attr.blocks = st.st_blocks;
	if (memcmp(&st.st_mtim, &store->changed, sizeof(st.st_mtim))) {
		store->changed = st.st_mtim;
		node->attr.mtime = st.st_mtim.tv_sec;
		node->attr.mtimensec = st.st_mtim.tv_nsec;
		modified(&node->attr, false);
	}
}

static struct store *take_store(void)
{
	struct store *store = unused;
	struct backing_map map = {};

	if (store) {
		unused = store->next;
		return store;
	}
	store = calloc(1, sizeof(*store));
	store->fd = map.fd = memfd_create("floor", MFD_CLOEXEC);
	if (store->fd < 0)
		die("memfd_create");
	store->backing = ioctl(device, BACKING_OPEN, &map);
	return store;
}

static void leave_store(struct store *store)
{
	struct stat st;

	if (ftruncate(store->fd, 0) == 0 && fstat(store->fd, &st) == 0)
		store->changed = st.st_mtim;
	store->next = unused;
	unused = store;
}

/* Give a file a content that may be written, which is what it had if `keeps`. */
static void copy_up(struct node *node, bool keeps)
{
	off_t at = 0;

	if (node->store)
		return;
	node->store = take_store();
	lseek(node->store->fd, 0, SEEK_SET);
	while (keeps && node->fd >= 0 && sendfile(node->store->fd, node->fd, &at, MAX_WRITE) > 0)
		;
	if (node->fd >= 0)
		close(node->fd);
	node->fd = node->store->fd;
	node->given = true;
}

static void free_unused(struct node *node)
{
	if (node->attr.nlink || node->lookups || node->cached || node->passed)
		return;
	if (node->store)
		leave_store(node->store);
	else if (node->fd >= 0)
		close(node->fd);
	free(node->target);
	free(node);
}

static void forget(uint64_t nodeid, uint64_t lookups)
{
	struct node *node = node_of(nodeid);

	node->lookups -= lookups;
	free_unused(node);
}

/* -- the layers -- */

static void take_over(struct node *node, const struct stat *st)
{
	struct fuse_attr *attr = &node->attr;

	attr->mode = st->st_mode;
	attr->size = st->st_size;
	attr->blocks = st->st_blocks;
	attr->uid = st->st_uid;
	attr->gid = st->st_gid;
	attr->rdev = (minor(st->st_rdev) & 0xff) | major(st->st_rdev) << 8 |
		     (minor(st->st_rdev) & ~0xffU) << 12;
	attr->atime = st->st_atim.tv_sec;
	attr->atimensec = st->st_atim.tv_nsec;
	attr->mtime = st->st_mtim.tv_sec;
	attr->mtimensec = st->st_mtim.tv_nsec;
	attr->ctime = st->st_ctim.tv_sec;
	attr->ctimensec = st->st_ctim.tv_nsec;
}

static void load(struct node *parent, int fd)
{
	DIR *directory = fdopendir(fd);
	struct dirent *found;
	char target[4096];

	if (!directory)
		die("a layer");
	while ((found = readdir(directory))) {
		const char *text = found->d_name;
		struct name *above;
		struct node *node;
		struct stat st;

		if (!strcmp(text, ".") || !strcmp(text, ".."))
			continue;
		if (fstatat(fd, text, &st, AT_SYMLINK_NOFOLLOW) < 0)
			die(text);
		above = find(parent, text);
		if (above && !(S_ISDIR(above->node->attr.mode) && S_ISDIR(st.st_mode)))
			continue;
		node = above ? above->node : new_node(st.st_mode);
		if (!above) {
			take_over(node, &st);
			add(parent, text, node);
		}
		if (S_ISDIR(st.st_mode)) {
			load(node, openat(fd, text, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
		} else if (S_ISLNK(st.st_mode)) {
			ssize_t length = readlinkat(fd, text, target, sizeof(target));

			node->target = strndup(target, length < 0 ? 0 : length);
		} else if (S_ISREG(st.st_mode) && st.st_size) {
			node->fd = openat(fd, text, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
			if (node->fd < 0)
				die(text);
		}
	}
	closedir(directory);
}

void tree_passes(int fuse)
{
	device = fuse;
}

void tree_make(char **layers, int count)
{
	root = new_node(S_IFDIR | 0755);
	root->parent = root;
	for (int layer = 0; layer < count; layer++) {
		int fd = open(layers[layer], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
		struct stat st;

		if (fd < 0 || fstat(fd, &st) < 0)
			die(layers[layer]);
		if (layer == 0)
			take_over(root, &st);
		load(root, fd);
	}
}

/* -- answers -- */

static void put_entry(struct node *node, struct fuse_entry_out *out)
{
	refresh(node);
	node->lookups++;
	*out = (struct fuse_entry_out){
		.nodeid = (uintptr_t)node, .entry_valid = FOREVER, .attr_valid = FOREVER,
		.attr = node->attr,
	};
}

static int entry(struct node *node, const struct request *request)
{
	put_entry(node, (void *)request->out);
	return sizeof(struct fuse_entry_out);
}

static int attributes(struct node *node, const struct request *request)
{
	refresh(node);
	*(struct fuse_attr_out *)request->out = (struct fuse_attr_out){
		.attr_valid = FOREVER, .attr = node->attr,
	};
	return sizeof(struct fuse_attr_out);
}

/* What to list with attributes. */
enum what { DIRECTORIES, ALL_BUT_A_FILE, EVERYTHING };

static void watch(struct node *directory)
{
	directory->bare = ++last_bare;
}

/* Return what to list with attributes in a directory, as PyUnion decides it: those of files are
 * wanted if one is looked up in a directory that was listed without all of them. */
static enum what what_to_list(struct node *directory, uint64_t offset)
{
	if (offset)
		return wanted ? EVERYTHING : DIRECTORIES;
	if (wanted && ++listed % TRIAL && seen) {
		directory->bare = 0;
		return EVERYTHING;
	}
	watch(directory);
	return wanted ? ALL_BUT_A_FILE : DIRECTORIES;
}

static void was_listed(struct node *directory, size_t size)
{
	left -= size;
	if (left < 0) {
		wanted = false;
		watch(directory);
	}
}

static int look_up(struct node *parent, const struct request *request)
{
	struct name *name = find(parent, request->rest);

	if (name) {
		if (parent->bare && parent->bare + WATCHED > last_bare &&
		    !S_ISDIR(name->node->attr.mode)) {
			parent->bare = listed = 0;
			wanted = seen = true;
			left = PATIENCE;
		}
		return entry(name->node, request);
	}
	*(struct fuse_entry_out *)request->out = (struct fuse_entry_out){ .entry_valid = FOREVER };
	return sizeof(struct fuse_entry_out);
}

static struct node *make(struct node *parent, const char *text, uint32_t mode,
			 const struct request *request)
{
	struct node *node = new_node(mode);

	node->attr.uid = request->uid;
	node->attr.gid = request->gid;
	modified(&node->attr, true);
	node->attr.atime = node->attr.mtime;
	add(parent, text, node);
	modified(&parent->attr, true);
	return node;
}

static int remove_name(struct node *parent, const char *text)
{
	struct name *name = find(parent, text);
	struct node *node;

	if (!name)
		return -ENOENT;
	node = name->node;
	if (node->oldest)
		return -ENOTEMPTY;
	drop(name);
	node->attr.nlink--;
	modified(&node->attr, false);
	modified(&parent->attr, true);
	free_unused(node);
	return 0;
}

static int move(struct node *parent, const char *from, struct node *target, uint32_t flags)
{
	const char *to = from + strlen(from) + 1;
	struct name *name = find(parent, from), *there = find(target, to);
	struct node *node;
	int failed = 0;

	if (!name)
		return -ENOENT;
	if (flags & ~RENAME_NOREPLACE)
		return -EINVAL;
	if (there && flags & RENAME_NOREPLACE)
		return -EEXIST;
	node = name->node;
	if (there && there->node == node)
		return 0;
	if (there)
		failed = remove_name(target, to);
	if (failed)
		return failed;
	drop(name);
	add(target, to, node);
	modified(&node->attr, false);
	modified(&parent->attr, true);
	modified(&target->attr, true);
	return 0;
}

static int set_attributes(struct node *node, const struct request *request)
{
	const struct fuse_setattr_in *in = (const void *)request->args;
	struct fuse_attr *attr = &node->attr;

	if (in->valid & FATTR_SIZE) {
		copy_up(node, in->size > 0);
		if (ftruncate(node->fd, in->size) < 0)
			return -errno;
	}
	refresh(node);
	if (in->valid & FATTR_MODE)
		attr->mode = (attr->mode & S_IFMT) | (in->mode & 07777);
	if (in->valid & FATTR_UID)
		attr->uid = in->uid;
	if (in->valid & FATTR_GID)
		attr->gid = in->gid;
	if (in->valid & FATTR_ATIME) {
		attr->atime = in->atime;
		attr->atimensec = in->atimensec;
	}
	modified(attr, false);
	if (in->valid & FATTR_MTIME) {
		attr->mtime = in->mtime;
		attr->mtimensec = in->mtimensec;
	}
	return attributes(node, request);
}

/* Give the kernel the content of a small file of a layer, which saves the READ. */
static void give(const struct node *node)
{
	static __thread char content[MOST_GIVEN];
	ssize_t size = pread(node->fd, content, sizeof(content), 0);
	struct fuse_notify_store_out store = { .nodeid = (uintptr_t)node, .size = size };
	struct fuse_out_header head = {
		.len = sizeof(head) + sizeof(store) + size, .error = FUSE_NOTIFY_STORE,
	};
	struct iovec parts[] = {
		{ &head, sizeof(head) }, { &store, sizeof(store) }, { content, size },
	};

	if (size > 0 && writev(device, parts, 3) < 0)
		return;  /* best effort: a READ will come */
}

static void open_file(struct node *node, uint32_t flags, struct fuse_open_out *out)
{
	uint32_t how = OPEN_NOFLUSH;
	int backing = 0;

	if (flags & (O_ACCMODE | O_TRUNC))
		copy_up(node, !(flags & O_TRUNC));
	if (flags & O_TRUNC && ftruncate(node->fd, 0) == 0)
		refresh(node);
	if (node->store && node->store->backing > 0 && !node->cached) {
		how |= OPEN_PASSTHROUGH;
		backing = node->store->backing;
		node->passed++;
	} else {
		/* An inode that is passed through is cached only when all have closed it. */
		if (!node->store)
			how |= FOPEN_KEEP_CACHE;
		if (!node->given && node->attr.size <= MOST_GIVEN)
			give(node);
		node->given = true;
		node->cached++;
	}
	*out = (struct fuse_open_out){ .fh = backing > 0, .open_flags = how, .padding = backing };
}

static int release(struct node *node, const struct request *request)
{
	const struct fuse_release_in *in = (const void *)request->args;

	if (in->fh)
		node->passed--;
	else
		node->cached--;
	free_unused(node);  /* the FORGET may come before */
	return 0;
}

static int create(struct node *parent, const struct request *request)
{
	const struct fuse_create_in *in = (const void *)request->args;
	struct created *out = (void *)request->out;
	struct node *node = make(parent, request->rest, in->mode & ~in->umask, request);

	copy_up(node, false);
	open_file(node, in->flags & ~O_TRUNC, &out->open);
	put_entry(node, &out->entry);
	return sizeof(*out);
}

static size_t put_name(char *out, size_t room, const char *text, size_t length, uint64_t cookie,
		       struct node *node, bool entered)
{
	struct fuse_direntplus *entry = (void *)out;
	size_t size = FUSE_DIRENT_ALIGN(BEFORE_NAME + length);

	if (size > room)
		return 0;
	memset(out, 0, BEFORE_NAME);
	if (entered)
		put_entry(node, &entry->entry_out);
	entry->dirent.ino = node->attr.ino;
	entry->dirent.off = cookie;
	entry->dirent.namelen = length;
	entry->dirent.type = node->attr.mode >> 12;
	memcpy(entry->dirent.name, text, length);
	memset(entry->dirent.name + length, 0, size - BEFORE_NAME - length);
	return size;
}

static int list(struct node *directory, const struct request *request)
{
	const struct fuse_read_in *in = (const void *)request->args;
	struct node *dots[] = { directory, directory->parent };
	struct name *name = directory->oldest;
	enum what what = what_to_list(directory, in->offset);
	bool skips = what == ALL_BUT_A_FILE;
	size_t at = 0, size = 1;

	for (uint64_t dot = in->offset; dot < FIRST_COOKIE && size; dot++)
		at += size = put_name(request->out + at, in->size - at, "..", dot + 1, dot + 1,
				      dots[dot], false);
	while (name && name->cookie <= in->offset)
		name = name->newer;
	/* What comes after `left` bytes is asked for again, and then has no attributes. */
	for (; name && size && (what == DIRECTORIES || (int64_t)at <= left); name = name->newer) {
		bool is_directory = S_ISDIR(name->node->attr.mode);
		bool with = is_directory || (what != DIRECTORIES && !skips);

		if (!is_directory)
			skips = false;
		at += size = put_name(request->out + at, in->size - at, name->text, name->length,
				      name->cookie, name->node, with);
	}
	if (what != DIRECTORIES && at)
		was_listed(directory, at);
	return at;
}

static int read_content(struct node *node, const struct request *request)
{
	const struct fuse_read_in *in = (const void *)request->args;
	ssize_t got = node->fd < 0 ? 0 : pread(node->fd, request->out, in->size, in->offset);

	return got < 0 ? -errno : got;
}

static int write_content(struct node *node, const struct request *request)
{
	const struct fuse_write_in *in = (const void *)request->args;
	ssize_t done = pwrite(node->fd, request->rest, in->size, in->offset);

	*(struct fuse_write_out *)request->out = (struct fuse_write_out){ .size = done };
	return done < 0 ? -errno : (int)sizeof(struct fuse_write_out);
}

static int seek(struct node *node, const struct request *request)
{
	const struct fuse_lseek_in *in = (const void *)request->args;
	off_t found = node->fd < 0 ? -1 : lseek(node->fd, in->offset, in->whence);

	*(struct fuse_lseek_out *)request->out = (struct fuse_lseek_out){ .offset = found };
	return found < 0 ? (node->fd < 0 ? -ENXIO : -errno) : (int)sizeof(struct fuse_lseek_out);
}

static int make_link(struct node *parent, const struct request *request)
{
	struct node *node = node_of(((const struct fuse_link_in *)request->args)->oldnodeid);

	node->attr.nlink++;
	add(parent, request->rest, node);
	modified(&node->attr, false);
	modified(&parent->attr, true);
	return entry(node, request);
}

static int make_symlink(struct node *parent, const struct request *request)
{
	const char *target = request->rest + strlen(request->rest) + 1;
	struct node *node = make(parent, request->rest, S_IFLNK | 0777, request);

	node->target = strdup(target);
	node->attr.size = strlen(target);
	return entry(node, request);
}

static int statistics(const struct request *request)
{
	*(struct fuse_statfs_out *)request->out = (struct fuse_statfs_out){ .st = {
		.blocks = 1 << 30, .bfree = 1 << 30, .bavail = 1 << 30, .files = 1 << 30,
		.ffree = 1 << 30, .bsize = 4096, .frsize = 4096, .namelen = 255,
	} };
	return sizeof(struct fuse_statfs_out);
}

static int list_xattrs(const struct request *request)
{
	const struct fuse_getxattr_in *in = (const void *)request->args;

	memset(request->out, 0, sizeof(struct fuse_getxattr_out));
	return in->size ? 0 : (int)sizeof(struct fuse_getxattr_out);
}

static int answer(const struct request *request)
{
	struct node *node = node_of(request->nodeid);
	const void *args = request->args;

	switch (request->opcode) {
	case FUSE_LOOKUP:
		return look_up(node, request);
	case FUSE_GETATTR:
		return attributes(node, request);
	case FUSE_SETATTR:
		return set_attributes(node, request);
	case FUSE_READLINK:
		return stpcpy(request->out, node->target) - request->out;
	case FUSE_SYMLINK:
		return make_symlink(node, request);
	case FUSE_MKNOD: {
		const struct fuse_mknod_in *in = args;
		struct node *made = make(node, request->rest, in->mode & ~in->umask, request);

		made->attr.rdev = in->rdev;
		return entry(made, request);
	}
	case FUSE_MKDIR: {
		const struct fuse_mkdir_in *in = args;

		return entry(make(node, request->rest, S_IFDIR | (in->mode & ~in->umask), request),
			     request);
	}
	case FUSE_UNLINK: case FUSE_RMDIR:
		return remove_name(node, request->rest);
	case FUSE_RENAME:
		return move(node, request->rest, node_of(((const struct fuse_rename_in *)args)->newdir), 0);
	case FUSE_RENAME2: {
		const struct fuse_rename2_in *in = args;

		return move(node, request->rest, node_of(in->newdir), in->flags);
	}
	case FUSE_LINK:
		return make_link(node, request);
	case FUSE_OPEN:
		open_file(node, ((const struct fuse_open_in *)args)->flags, (void *)request->out);
		return sizeof(struct fuse_open_out);
	case FUSE_CREATE:
		return create(node, request);
	case FUSE_READ:
		return read_content(node, request);
	case FUSE_WRITE:
		return write_content(node, request);
	case FUSE_LSEEK:
		return seek(node, request);
	case FUSE_RELEASE:
		return release(node, request);
	case FUSE_READDIRPLUS:
		return list(node, request);
	case FUSE_STATFS:
		return statistics(request);
	case FUSE_GETXATTR:
		return -ENODATA;
	case FUSE_LISTXATTR:
		return list_xattrs(request);
	}
	return -ENOSYS;  /* the kernel does not send this opcode again */
}

size_t argument_size(uint32_t opcode)
{
	static const uint8_t sizes[] = {
		[FUSE_GETATTR] = sizeof(struct fuse_getattr_in),
		[FUSE_SETATTR] = sizeof(struct fuse_setattr_in),
		[FUSE_MKNOD] = sizeof(struct fuse_mknod_in),
		[FUSE_MKDIR] = sizeof(struct fuse_mkdir_in),
		[FUSE_RENAME] = sizeof(struct fuse_rename_in),
		[FUSE_RENAME2] = sizeof(struct fuse_rename2_in),
		[FUSE_LINK] = sizeof(struct fuse_link_in),
		[FUSE_OPEN] = sizeof(struct fuse_open_in),
		[FUSE_CREATE] = sizeof(struct fuse_create_in),
		[FUSE_READ] = sizeof(struct fuse_read_in),
		[FUSE_WRITE] = sizeof(struct fuse_write_in),
		[FUSE_LSEEK] = sizeof(struct fuse_lseek_in),
		[FUSE_RELEASE] = sizeof(struct fuse_release_in),
		[FUSE_READDIRPLUS] = sizeof(struct fuse_read_in),
		[FUSE_GETXATTR] = sizeof(struct fuse_getxattr_in),
		[FUSE_LISTXATTR] = sizeof(struct fuse_getxattr_in),
	};

	return opcode < sizeof(sizes) ? sizes[opcode] : 0;
}

int tree_answer(const struct request *request)
{
	int size;

	pthread_mutex_lock(&lock);
	size = answer(request);
	pthread_mutex_unlock(&lock);
	return size;
}

void tree_forget(const struct request *request)
{
	const struct fuse_batch_forget_in *batch = (const void *)request->args;
	const struct fuse_forget_one *ones = (const void *)(batch + 1);

	pthread_mutex_lock(&lock);
	if (request->opcode == FUSE_FORGET)
		forget(request->nodeid, ((const struct fuse_forget_in *)request->args)->nlookup);
	else
		for (uint32_t one = 0; one < batch->count; one++)
			forget(ones[one].nodeid, ones[one].nlookup);
	pthread_mutex_unlock(&lock);
}
