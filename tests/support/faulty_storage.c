/* Preloaded into a process: calls that change files below given folders fail with a given error while that is asked for.
 *
 * What is asked for stands in a shared file (the environment variable FAULTY_STORAGE names it), which a test maps and
 * changes at any moment: see faulty_storage.py, which has the same layout. Calls are counted over all processes.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NUM_RULES = 4, PREFIX = 480, WRITE = 1, LINK = 2, REMOVE = 4 };

struct rule {
    _Atomic int32_t active; /* bits of the kinds of call that it is about; 0: the rule does nothing */
    int32_t error;          /* 0: count only */
    int64_t after;          /* so many calls succeed first */
    int64_t times;          /* then so many fail; -1: all */
    _Atomic int64_t calls;  /* that the rule was about, so far */
    char prefix[PREFIX];
};

static struct rule *rules;

__attribute__((constructor)) static void map_rules(void)
{
    const char *path = getenv("FAULTY_STORAGE");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *found = mmap(NULL, sizeof(struct rule) * NUM_RULES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (found != MAP_FAILED)
        rules = found;
}

/* Whether this call is to fail; errno says with what. */
static int refused(int kind, const char *path)
{
    for (int i = 0; rules && i < NUM_RULES; i++) {
        struct rule *rule = &rules[i];
        if (!(atomic_load(&rule->active) & kind) || strncmp(path, rule->prefix, strlen(rule->prefix)))
            continue;
        int64_t number = atomic_fetch_add(&rule->calls, 1);
        if (rule->error && number >= rule->after && (rule->times < 0 || number < rule->after + rule->times)) {
            errno = rule->error;
            return 1;
        }
    }
    return 0;
}

static int watching(int kind)
{
    for (int i = 0; rules && i < NUM_RULES; i++)
        if (atomic_load(&rules[i].active) & kind)
            return 1;
    return 0;
}

static int refused_file(int kind, int file)
{
    char link[64], path[PATH_MAX];
    if (!watching(kind))
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t size = readlink(link, path, sizeof path - 1);
    if (size < 0)
        return 0;
    path[size] = 0;
    return refused(kind, path);
}

static int refused_path(int kind, int folder, const char *name)
{
    char path[PATH_MAX * 2 + 2], base[PATH_MAX] = "", link[64];
    if (!watching(kind) || !name)
        return 0;
    if (name[0] == '/')
        return refused(kind, name);
    if (folder == AT_FDCWD) {
        if (!getcwd(base, sizeof base))
            return 0;
    } else {
        snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
        ssize_t size = readlink(link, base, sizeof base - 1);
        base[size < 0 ? 0 : size] = 0;
    }
    snprintf(path, sizeof path, "%s/%s", base, name);
    return refused(kind, path);
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))
#define WRAP(type, name, parameters, arguments, condition) \
    type name parameters                                   \
    {                                                      \
        static __typeof__(&name) real;                     \
        if (!real)                                         \
            real = REAL(name);                             \
        return (condition) ? -1 : real arguments;          \
    }

WRAP(ssize_t, write, (int f, const void *b, size_t n), (f, b, n), refused_file(WRITE, f))
WRAP(ssize_t, writev, (int f, const struct iovec *b, int n), (f, b, n), refused_file(WRITE, f))
WRAP(ssize_t, pwrite, (int f, const void *b, size_t n, off_t o), (f, b, n, o), refused_file(WRITE, f))
WRAP(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t o), (f, b, n, o), refused_file(WRITE, f))
WRAP(int, fsync, (int f), (f), refused_file(WRITE, f))
WRAP(int, fdatasync, (int f), (f), refused_file(WRITE, f))
WRAP(int, ftruncate, (int f, off_t n), (f, n), refused_file(WRITE, f))
WRAP(int, ftruncate64, (int f, off64_t n), (f, n), refused_file(WRITE, f))
WRAP(int, mkdir, (const char *p, mode_t m), (p, m), refused_path(WRITE, AT_FDCWD, p))
WRAP(int, mkdirat, (int d, const char *p, mode_t m), (d, p, m), refused_path(WRITE, d, p))
WRAP(int, rename, (const char *a, const char *b), (a, b), refused_path(WRITE, AT_FDCWD, b))
WRAP(int, renameat, (int d, const char *a, int e, const char *b), (d, a, e, b), refused_path(WRITE, e, b))
WRAP(int, link, (const char *a, const char *b), (a, b), refused_path(LINK, AT_FDCWD, b))
WRAP(int, linkat, (int d, const char *a, int e, const char *b, int g), (d, a, e, b, g), refused_path(LINK, e, b))
WRAP(int, unlink, (const char *p), (p), refused_path(REMOVE, AT_FDCWD, p))
WRAP(int, unlinkat, (int d, const char *p, int g), (d, p, g), refused_path(REMOVE, d, p))
WRAP(int, rmdir, (const char *p), (p), refused_path(REMOVE, AT_FDCWD, p))
WRAP(int, chmod, (const char *p, mode_t m), (p, m), refused_path(REMOVE, AT_FDCWD, p))
WRAP(int, fchmodat, (int d, const char *p, mode_t m, int g), (d, p, m, g), refused_path(REMOVE, d, p))

/* Opening counts where it makes a file or opens it to be written. */
#define WRAP_OPEN(name, folder, first, pass)                                                      \
    int name first                                                                                \
    {                                                                                             \
        static __typeof__(&name) real;                                                            \
        mode_t mode = 0;                                                                          \
        if (!real)                                                                                \
            real = REAL(name);                                                                    \
        if (flags & (O_CREAT | O_TMPFILE)) {                                                      \
            va_list rest;                                                                         \
            va_start(rest, flags);                                                                \
            mode = va_arg(rest, mode_t);                                                          \
            va_end(rest);                                                                         \
        }                                                                                         \
        if ((flags & (O_CREAT | O_WRONLY | O_RDWR)) && refused_path(WRITE, folder, path))         \
            return -1;                                                                            \
        return real pass;                                                                         \
    }

WRAP_OPEN(open, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(open64, AT_FDCWD, (const char *path, int flags, ...), (path, flags, mode))
WRAP_OPEN(openat, dir, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
WRAP_OPEN(openat64, dir, (int dir, const char *path, int flags, ...), (dir, path, flags, mode))
