/* Fails one call on a path below a folder, once, in whichever process of a command comes to it. See disk_faults.py. */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define SITES 8192
#define LENGTH 504

enum kind { OPEN, WRITE, FSYNC, RENAME, UNLINK, MKDIR, LINK, TRUNCATE, LOCK, READ };

struct site {
    int kind, process;
    char path[LENGTH];
};

/* Shared by all processes of a command and by whoever started it. */
struct control {
    int armed, kinds, target, error, count, fired;
    char prefix[4096];
    struct site sites[SITES];
};

static struct control *shared;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("DISK_FAULTS");
    int descriptor = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (descriptor < 0) return;
    void *found = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
    close(descriptor);
    if (found != MAP_FAILED) shared = found;
}

static ssize_t of_descriptor(int descriptor, char *out, size_t size) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = readlink(link, out, size - 1);
    out[length < 0 ? 0 : length] = 0;
    return length;
}

/* Whether this call is the one to fail; then errno is set. */
static int fails(enum kind kind, int folder, const char *name) {
    if (!shared || !shared->armed || !(shared->kinds >> kind & 1)) return 0;
    char path[8192];
    int before = errno;
    if (name && name[0] == '/') {
        snprintf(path, sizeof path, "%s", name);
    } else {
        if (folder == AT_FDCWD) {
            if (!getcwd(path, sizeof path / 2)) path[0] = 0;
        } else {
            of_descriptor(folder, path, sizeof path / 2);
        }
        if (name) {
            size_t length = strlen(path);
            snprintf(path + length, sizeof path - length, "/%s", name);
        }
    }
    errno = before;
    size_t length = strlen(shared->prefix);
    if (strncmp(path, shared->prefix, length) || (path[length] && path[length] != '/')) return 0;
    int number = __sync_add_and_fetch(&shared->count, 1);
    if (number <= SITES) {
        struct site *site = &shared->sites[number - 1];
        site->kind = kind;
        site->process = getpid();
        snprintf(site->path, LENGTH, "%s", path + length);
    }
    if (number != shared->target) return 0;
    shared->fired = 1;
    errno = shared->error;
    return 1;
}

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

static mode_t mode_of(int flags, va_list more) { return flags & (O_CREAT | __O_TMPFILE) ? va_arg(more, mode_t) : 0; }

#define OPENS(name) \
    int name(const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return fails(OPEN, AT_FDCWD, path) ? -1 : real(path, flags, mode); \
    }
OPENS(open)
OPENS(open64)

#define OPENS_AT(name) \
    int name(int folder, const char *path, int flags, ...) { \
        REAL(name); \
        va_list more; \
        va_start(more, flags); \
        mode_t mode = mode_of(flags, more); \
        va_end(more); \
        return fails(OPEN, folder, path) ? -1 : real(folder, path, flags, mode); \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

int __open_2(const char *path, int flags);
int __open64_2(const char *path, int flags);
int __openat_2(int folder, const char *path, int flags);
int __openat64_2(int folder, const char *path, int flags);

/* name, result, failure, kind, folder's or file's descriptor, path, parameters, arguments */
#define CALL(name, type, failure, kind, folder, path, parameters, arguments) \
    type name parameters { \
        REAL(name); \
        return fails(kind, folder, path) ? failure : real arguments; \
    }
CALL(__open_2, int, -1, OPEN, AT_FDCWD, path, (const char *path, int flags), (path, flags))
CALL(__open64_2, int, -1, OPEN, AT_FDCWD, path, (const char *path, int flags), (path, flags))
CALL(__openat_2, int, -1, OPEN, folder, path, (int folder, const char *path, int flags), (folder, path, flags))
CALL(__openat64_2, int, -1, OPEN, folder, path, (int folder, const char *path, int flags), (folder, path, flags))
CALL(creat, int, -1, OPEN, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(creat64, int, -1, OPEN, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(fopen, FILE *, NULL, OPEN, AT_FDCWD, path, (const char *path, const char *mode), (path, mode))
CALL(fopen64, FILE *, NULL, OPEN, AT_FDCWD, path, (const char *path, const char *mode), (path, mode))
CALL(opendir, DIR *, NULL, OPEN, AT_FDCWD, path, (const char *path), (path))
CALL(write, ssize_t, -1, WRITE, file, NULL, (int file, const void *data, size_t size), (file, data, size))
CALL(writev, ssize_t, -1, WRITE, file, NULL, (int file, const struct iovec *data, int count), (file, data, count))
CALL(pwrite, ssize_t, -1, WRITE, file, NULL, (int file, const void *data, size_t size, off_t at), (file, data, size, at))
CALL(pwrite64, ssize_t, -1, WRITE, file, NULL, (int file, const void *data, size_t size, off64_t at), (file, data, size, at))
CALL(sendfile, ssize_t, -1, WRITE, to, NULL, (int to, int from, off_t *at, size_t size), (to, from, at, size))
CALL(sendfile64, ssize_t, -1, WRITE, to, NULL, (int to, int from, off64_t *at, size_t size), (to, from, at, size))
CALL(read, ssize_t, -1, READ, file, NULL, (int file, void *data, size_t size), (file, data, size))
CALL(pread, ssize_t, -1, READ, file, NULL, (int file, void *data, size_t size, off_t at), (file, data, size, at))
CALL(pread64, ssize_t, -1, READ, file, NULL, (int file, void *data, size_t size, off64_t at), (file, data, size, at))
CALL(fsync, int, -1, FSYNC, file, NULL, (int file), (file))
CALL(fdatasync, int, -1, FSYNC, file, NULL, (int file), (file))
CALL(rename, int, -1, RENAME, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CALL(renameat, int, -1, RENAME, other, to, (int folder, const char *from, int other, const char *to), (folder, from, other, to))
CALL(unlink, int, -1, UNLINK, AT_FDCWD, path, (const char *path), (path))
CALL(unlinkat, int, -1, UNLINK, folder, path, (int folder, const char *path, int flags), (folder, path, flags))
CALL(remove, int, -1, UNLINK, AT_FDCWD, path, (const char *path), (path))
CALL(rmdir, int, -1, UNLINK, AT_FDCWD, path, (const char *path), (path))
CALL(mkdir, int, -1, MKDIR, AT_FDCWD, path, (const char *path, mode_t mode), (path, mode))
CALL(mkdirat, int, -1, MKDIR, folder, path, (int folder, const char *path, mode_t mode), (folder, path, mode))
CALL(link, int, -1, LINK, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CALL(symlink, int, -1, LINK, AT_FDCWD, to, (const char *from, const char *to), (from, to))
CALL(linkat, int, -1, LINK, other, to, (int folder, const char *from, int other, const char *to, int flags),
     (folder, from, other, to, flags))
CALL(symlinkat, int, -1, LINK, folder, to, (const char *from, int folder, const char *to), (from, folder, to))
CALL(ftruncate, int, -1, TRUNCATE, file, NULL, (int file, off_t size), (file, size))
CALL(ftruncate64, int, -1, TRUNCATE, file, NULL, (int file, off64_t size), (file, size))
CALL(flock, int, -1, LOCK, file, NULL, (int file, int how), (file, how))
