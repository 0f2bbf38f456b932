/* Counts what a process does to the files below one directory, and kills it or lies to it at the
 * N-th time. Loaded before the C library (LD_PRELOAD), so whatever calls the C library by name is
 * seen: Python, SQLite and most of what is written in Rust (safetensors renames its file by a call
 * of the kernel, which is not). A process that has not called `faults_arm` is left alone, and so
 * are its children.
 *
 * An operation is a call that can change the disk: a file opened to be written, a write, a rename,
 * a file or directory removed or made, a length, a mode or a link set, and the syncs, which change
 * nothing but may fail.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

enum action { COUNT = 0, KILL = 1, TEAR = 2, FAIL = 3 };
/* What an operation asks of the disk decides which faults can meet it: a full disk still lets files
 * be removed, and a forbidden directory lets those that are open be written. */
enum kind { MAKES, WRITES, SYNCS, REMOVES, MARKS };

static char root[PATH_MAX];
static char aside[64];
static size_t root_length;
static int action, fault, lasting, log_to = -1;
static long at, counted;
static pid_t armed;
static pthread_mutex_t lock = PTHREAD_RECURSIVE_MUTEX_INITIALIZER_NP;

#define REAL(name) \
    static __typeof__(&name) real; \
    if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

/* Begins to count below `directory`, and logs each operation as a line `name TAB path`. At operation
 * `when`: KILL dies before it, TEAR dies after half of a write, FAIL returns -1 with `error`, from
 * then on at all that this fault meets if `for_good`. Paths with `ignored` in them are not counted,
 * but fail with the others. */
void faults_arm(const char *directory, const char *ignored, const char *log, long when, int what,
                int error, int for_good) {
    strncpy(root, directory, sizeof root - 1);
    root_length = strlen(root);
    strncpy(aside, ignored, sizeof aside - 1);
    at = when, action = what, fault = error, lasting = for_good, counted = 0;
    log_to = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    armed = getpid();
}

/* Lets everything pass again. */
void faults_disarm(void) { armed = 0; }

/* Takes `.`, `..` and empty names out of an absolute path; links stay as they are. */
static void tidy(char *path) {
    char *to = path, *from = path;
    while (*from) {
        while (*from == '/') from++;
        size_t length = strcspn(from, "/");
        if (length == 2 && from[0] == '.' && from[1] == '.') {
            while (to > path && *--to != '/');
        } else if (length && !(length == 1 && from[0] == '.')) {
            *to++ = '/';
            memmove(to, from, length);
            to += length;
        }
        from += length;
    }
    *to = 0;
}

static int below_root(int directory, const char *path, char *full) {
    if (!armed || !path || armed != getpid()) return 0;
    if (path[0] == '/') {
        snprintf(full, PATH_MAX, "%s", path);
    } else {
        char base[PATH_MAX], link[64];
        snprintf(link, sizeof link, "/proc/self/fd/%d", directory);
        ssize_t length = syscall(SYS_readlinkat, AT_FDCWD,
                                 directory == AT_FDCWD ? "/proc/self/cwd" : link, base, PATH_MAX - 1);
        if (length < 0) return 0;
        base[length] = 0;
        if (snprintf(full, PATH_MAX, "%s/%s", base, path) >= PATH_MAX) return 0;
    }
    tidy(full);
    return strncmp(full, root, root_length) == 0 && (full[root_length] == '/' || !full[root_length]);
}

static int open_below_root(int descriptor, char *full) {
    char link[64];
    if (!armed || armed != getpid() || descriptor < 3) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, full, PATH_MAX - 1);
    if (length < 0) return 0;
    full[length] = 0;
    return strncmp(full, root, root_length) == 0 && full[root_length] == '/';
}

static int meets(enum kind kind) {
    switch (fault) {
    case ENOSPC: return kind == MAKES || kind == WRITES || kind == SYNCS;
    case EACCES: return kind == MAKES || kind == REMOVES || kind == MARKS;
    default: return 1; /* EROFS, EIO */
    }
}

/* Whether the operation shall fail; a TEAR says so too, to its caller alone, which is a write. */
static int strikes(const char *name, const char *full, enum kind kind) {
    int hit = 0;
    pthread_mutex_lock(&lock);
    int passed_over = aside[0] && strstr(full + root_length, aside);
    if (!passed_over) {
        char line[PATH_MAX + 64];
        int length = snprintf(line, sizeof line, "%s\t%s\n", name, full + root_length);
        if (log_to >= 0) syscall(SYS_write, log_to, line, (size_t)length);
        counted++;
    }
    if (action == KILL && counted == at && !passed_over) kill(armed, SIGKILL), pause();
    if (action == TEAR && counted == at && !passed_over) {
        if (kind != WRITES) kill(armed, SIGKILL), pause();
        hit = 1;
    }
    if (action == FAIL && meets(kind)) hit = lasting ? counted >= at : counted == at && !passed_over;
    pthread_mutex_unlock(&lock);
    if (hit && action == FAIL) errno = fault;
    return hit;
}

static int changes(int flags) {
    return (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
}

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list list; \
        va_start(list, flags); \
        mode = va_arg(list, mode_t); \
        va_end(list); \
    }

/* Opening an old file in order to sync it needs no room. */
static int opening(int directory, const char *path, int flags) {
    char full[PATH_MAX];
    if (!changes(flags) || !below_root(directory, path, full)) return 0;
    int makes = flags & (O_CREAT | O_TRUNC);
    return strikes(makes ? "create" : "open", full, makes ? MAKES : MARKS);
}

int open(const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(open);
    if (opening(AT_FDCWD, path, flags)) return -1;
    return real(path, flags, mode);
}

int open64(const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(open64);
    if (opening(AT_FDCWD, path, flags)) return -1;
    return real(path, flags, mode);
}

int openat(int directory, const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(openat);
    if (opening(directory, path, flags)) return -1;
    return real(directory, path, flags, mode);
}

int openat64(int directory, const char *path, int flags, ...) {
    MODE_OF(flags);
    REAL(openat64);
    if (opening(directory, path, flags)) return -1;
    return real(directory, path, flags, mode);
}

FILE *fopen(const char *path, const char *how) {
    REAL(fopen);
    if (strpbrk(how, "wa+") && opening(AT_FDCWD, path, O_WRONLY | O_CREAT)) return NULL;
    return real(path, how);
}

FILE *fopen64(const char *path, const char *how) {
    REAL(fopen64);
    if (strpbrk(how, "wa+") && opening(AT_FDCWD, path, O_WRONLY | O_CREAT)) return NULL;
    return real(path, how);
}

/* `torn` writes the first half; a process that is to be torn dies after it. */
#define WRITING(torn, whole) \
    char full[PATH_MAX]; \
    if (open_below_root(descriptor, full) && strikes("write", full, WRITES)) { \
        if (action != TEAR) return -1; \
        (void)!(torn); \
        kill(armed, SIGKILL), pause(); \
    } \
    return whole

ssize_t write(int descriptor, const void *content, size_t size) {
    REAL(write);
    WRITING(real(descriptor, content, size / 2), real(descriptor, content, size));
}

ssize_t pwrite(int descriptor, const void *content, size_t size, off_t offset) {
    REAL(pwrite);
    WRITING(real(descriptor, content, size / 2, offset), real(descriptor, content, size, offset));
}

ssize_t pwrite64(int descriptor, const void *content, size_t size, off64_t offset) {
    REAL(pwrite64);
    WRITING(real(descriptor, content, size / 2, offset), real(descriptor, content, size, offset));
}

ssize_t writev(int descriptor, const struct iovec *parts, int number) {
    REAL(writev);
    WRITING(write(descriptor, parts[0].iov_base, parts[0].iov_len / 2),
            real(descriptor, parts, number));
}

ssize_t sendfile(int descriptor, int source, off_t *offset, size_t size) {
    REAL(sendfile);
    WRITING(real(descriptor, source, offset, size / 2), real(descriptor, source, offset, size));
}

ssize_t sendfile64(int descriptor, int source, off64_t *offset, size_t size) {
    REAL(sendfile64);
    WRITING(real(descriptor, source, offset, size / 2), real(descriptor, source, offset, size));
}

int fallocate(int descriptor, int how, off_t from, off_t length) {
    REAL(fallocate);
    WRITING(0, real(descriptor, how, from, length));
}

#define OF_OPEN(name, kind) \
    char full[PATH_MAX]; \
    if (open_below_root(descriptor, full) && strikes(name, full, kind)) return -1

int fsync(int descriptor) {
    REAL(fsync);
    OF_OPEN("fsync", SYNCS);
    return real(descriptor);
}

int fdatasync(int descriptor) {
    REAL(fdatasync);
    OF_OPEN("fsync", SYNCS);
    return real(descriptor);
}

int ftruncate(int descriptor, off_t length) {
    REAL(ftruncate);
    OF_OPEN("truncate", WRITES);
    return real(descriptor, length);
}

int ftruncate64(int descriptor, off64_t length) {
    REAL(ftruncate64);
    OF_OPEN("truncate", WRITES);
    return real(descriptor, length);
}

int fchmod(int descriptor, mode_t mode) {
    REAL(fchmod);
    OF_OPEN("chmod", MARKS);
    return real(descriptor, mode);
}

#define OF_PATH(name, directory, path, kind) \
    char full[PATH_MAX]; \
    if (below_root(directory, path, full) && strikes(name, full, kind)) return -1

int truncate(const char *path, off_t length) {
    REAL(truncate);
    OF_PATH("truncate", AT_FDCWD, path, WRITES);
    return real(path, length);
}

int truncate64(const char *path, off64_t length) {
    REAL(truncate64);
    OF_PATH("truncate", AT_FDCWD, path, WRITES);
    return real(path, length);
}

int chmod(const char *path, mode_t mode) {
    REAL(chmod);
    OF_PATH("chmod", AT_FDCWD, path, MARKS);
    return real(path, mode);
}

int fchmodat(int directory, const char *path, mode_t mode, int flags) {
    REAL(fchmodat);
    OF_PATH("chmod", directory, path, MARKS);
    return real(directory, path, mode, flags);
}

int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    OF_PATH("mkdir", AT_FDCWD, path, MAKES);
    return real(path, mode);
}

int mkdirat(int directory, const char *path, mode_t mode) {
    REAL(mkdirat);
    OF_PATH("mkdir", directory, path, MAKES);
    return real(directory, path, mode);
}

int rmdir(const char *path) {
    REAL(rmdir);
    OF_PATH("rmdir", AT_FDCWD, path, REMOVES);
    return real(path);
}

int unlink(const char *path) {
    REAL(unlink);
    OF_PATH("unlink", AT_FDCWD, path, REMOVES);
    return real(path);
}

int unlinkat(int directory, const char *path, int flags) {
    REAL(unlinkat);
    OF_PATH(flags & AT_REMOVEDIR ? "rmdir" : "unlink", directory, path, REMOVES);
    return real(directory, path, flags);
}

int remove(const char *path) {
    REAL(remove);
    OF_PATH("unlink", AT_FDCWD, path, REMOVES);
    return real(path);
}

int link(const char *from, const char *to) {
    REAL(link);
    OF_PATH("link", AT_FDCWD, to, MAKES);
    return real(from, to);
}

int linkat(int from_directory, const char *from, int to_directory, const char *to, int flags) {
    REAL(linkat);
    OF_PATH("link", to_directory, to, MAKES);
    return real(from_directory, from, to_directory, to, flags);
}

int symlink(const char *target, const char *path) {
    REAL(symlink);
    OF_PATH("symlink", AT_FDCWD, path, MAKES);
    return real(target, path);
}

int symlinkat(const char *target, int directory, const char *path) {
    REAL(symlinkat);
    OF_PATH("symlink", directory, path, MAKES);
    return real(target, directory, path);
}

int rename(const char *from, const char *to) {
    REAL(rename);
    OF_PATH("rename", AT_FDCWD, to, REMOVES);
    return real(from, to);
}

int renameat(int from_directory, const char *from, int to_directory, const char *to) {
    REAL(renameat);
    OF_PATH("rename", to_directory, to, REMOVES);
    return real(from_directory, from, to_directory, to);
}

int renameat2(int from_directory, const char *from, int to_directory, const char *to,
              unsigned int flags) {
    REAL(renameat2);
    OF_PATH("rename", to_directory, to, REMOVES);
    return real(from_directory, from, to_directory, to, flags);
}

/* The only one that is called by its number: an exchange, where the C library has no name for it. */
long syscall(long number, ...) {
    long given[6];
    va_list list;
    va_start(list, number);
    for (int i = 0; i < 6; i++) given[i] = va_arg(list, long);
    va_end(list);
    REAL(syscall);
    if (number == SYS_renameat2) {
        OF_PATH("rename", (int)given[2], (const char *)given[3], REMOVES);
    }
    return real(number, given[0], given[1], given[2], given[3], given[4], given[5]);
}
