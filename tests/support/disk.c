/*
 * A disk that can fail, for the broker under test: loaded with LD_PRELOAD, it stands between the C library and the files
 * below the directory DISK_ROOT (nothing else is touched). In DISK_NOTES it keeps
 *
 *   f-INODE-BIRTH   what a power cut would leave of that file: its bytes as of its last fsync or fdatasync
 *   d-INODE-BIRTH   the entries of that folder as of its last fsync: type, inode, birth and name, a line each
 *
 * and it fails on demand, when there is a file of one of these names in DISK_NOTES:
 *
 *   eio      the next fsync or fdatasync of a file fails with EIO, and what it was to bring to the disk is lost; once
 *   enospc   every write, and every fsync of a folder, fails with ENOSPC for as long as it is there
 *   torn     half of the next write of at least 64 bytes is made, and the process is killed
 *
 * Nothing is really brought to the disk, which makes the tests fast: what a cut leaves is known from the notes alone.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define PATH 4096
#define BLOCK 65536

/* What changed in a file since its last flush: from the first to the last changed byte. */
struct change {
    char key[64];
    off_t from, to;
    struct change *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct change *changes;
static char root[PATH], notes[PATH];

static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_writev)(int, const struct iovec *, int);
static ssize_t (*real_pwrite)(int, const void *, size_t, off_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_ftruncate)(int, off_t);

__attribute__((constructor)) static void begin(void) {
    real_write = dlsym(RTLD_NEXT, "write");
    real_writev = dlsym(RTLD_NEXT, "writev");
    real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
    real_fsync = dlsym(RTLD_NEXT, "fsync");
    real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
    real_ftruncate = dlsym(RTLD_NEXT, "ftruncate64");
    const char *of = getenv("DISK_ROOT"), *into = getenv("DISK_NOTES");
    if (of && into) {
        snprintf(root, PATH, "%s", of);
        snprintf(notes, PATH, "%s", into);
    }
}

static void fail(const char *what) {
    char text[512];
    int length = snprintf(text, sizeof text, "disk: %s: %s\n", what, strerror(errno));
    real_write(2, text, length);
    abort();
}

/* Whether a descriptor is a file or folder (as `type`) of ours; its key, then. */
static int ours(int fd, mode_t type, char *key) {
    struct stat found;
    if (!root[0] || fstat(fd, &found) || (found.st_mode & S_IFMT) != type) return 0;
    char link[64], path[PATH];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, PATH - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    size_t prefix = strlen(root);
    if (strncmp(path, root, prefix) || (path[prefix] && path[prefix] != '/')) return 0;
    struct statx born;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &born)) fail("statx");
    snprintf(key, 64, "%llu-%lld%09u", (unsigned long long)found.st_ino, (long long)born.stx_btime.tv_sec,
             born.stx_btime.tv_nsec);
    return 1;
}

static int asked(const char *name, int once) {
    char path[PATH + 16];
    snprintf(path, sizeof path, "%s/%s", notes, name);
    if (access(path, F_OK)) return 0;
    return !once || !unlink(path);
}

static void changed(const char *key, off_t from, off_t to) {
    pthread_mutex_lock(&lock);
    struct change *one = changes;
    while (one && strcmp(one->key, key)) one = one->next;
    if (!one) {
        one = calloc(1, sizeof *one);
        strcpy(one->key, key);
        one->from = from, one->to = to;
        one->next = changes, changes = one;
    }
    if (from < one->from) one->from = from;
    if (to > one->to) one->to = to;
    pthread_mutex_unlock(&lock);
}

/* Copies what is written of [from, to); holes stay holes. */
static void copy(int in, int out, off_t from, off_t to) {
    static __thread char block[BLOCK];
    while (from < to) {
        off_t data = lseek(in, from, SEEK_DATA);
        if (data < 0 || data >= to) break;
        off_t hole = lseek(in, data, SEEK_HOLE);
        if (hole < 0 || hole > to) hole = to;
        for (from = data; from < hole;) {
            size_t want = hole - from < BLOCK ? hole - from : BLOCK;
            ssize_t count = pread(in, block, want, from);
            if (count <= 0) return;
            if (real_pwrite(out, block, count, from) != count) fail("copy");
            from += count;
        }
    }
}

/* What changed since the last flush, which is forgotten. */
static struct change *taken(const char *key) {
    pthread_mutex_lock(&lock);
    struct change *one = changes, **place = &changes;
    while (one && strcmp(one->key, key)) place = &one->next, one = one->next;
    if (one) *place = one->next;
    pthread_mutex_unlock(&lock);
    return one;
}

static void flushed(int fd, const char *key) {
    char path[PATH + 80], source[64];
    struct change *one = taken(key);
    snprintf(path, sizeof path, "%s/f-%s", notes, key);
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    int in = open(source, O_RDONLY | O_CLOEXEC);
    if (in < 0) fail("open what was flushed");
    struct stat now;
    fstat(in, &now);
    int is_new = access(path, F_OK) != 0;
    int out = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (out < 0) fail("open a note");
    if (is_new)
        copy(in, out, 0, now.st_size);
    else if (one)
        copy(in, out, one->from, one->to);
    if (real_ftruncate(out, now.st_size)) fail("size of a note");
    close(in), close(out);
    free(one);
}

static void folder_flushed(int fd, const char *key) {
    char path[PATH + 80], next[PATH + 90], source[64];
    snprintf(path, sizeof path, "%s/d-%s", notes, key);
    snprintf(next, sizeof next, "%s/next-%d", notes, (int)syscall(SYS_gettid));
    snprintf(source, sizeof source, "/proc/self/fd/%d", fd);
    DIR *folder = opendir(source);
    FILE *out = fopen(next, "w");
    if (!folder || !out) fail("list a folder");
    struct dirent *entry;
    while ((entry = readdir(folder))) {
        if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..")) continue;
        struct statx found;
        if (statx(dirfd(folder), entry->d_name, AT_SYMLINK_NOFOLLOW, STATX_BASIC_STATS | STATX_BTIME, &found)) continue;
        fprintf(out, "%c %llu-%lld%09u %s\n", S_ISDIR(found.stx_mode) ? 'd' : 'f', (unsigned long long)found.stx_ino,
                (long long)found.stx_btime.tv_sec, found.stx_btime.tv_nsec, entry->d_name);
    }
    closedir(folder);
    fclose(out);
    if (rename(next, path)) fail("replace a list");
}

/* Before a write: -1 if it fails, else how much of it may be made. */
static ssize_t allowed(size_t count) {
    if (asked("enospc", 0)) return errno = ENOSPC, -1;
    if (count >= 64 && asked("torn", 1)) return count / 2;
    return count;
}

static ssize_t written(int fd, const char *key, ssize_t count, size_t wanted) {
    if (count > 0) {
        off_t end = lseek(fd, 0, SEEK_CUR);
        changed(key, end - count, end);
    }
    if (count > 0 && (size_t)count < wanted && !asked("enospc", 0)) {
        char path[PATH + 16];
        snprintf(path, sizeof path, "%s/torn-made", notes);
        close(open(path, O_WRONLY | O_CREAT, 0600));
        kill(getpid(), SIGKILL);
    }
    return count;
}

ssize_t write(int fd, const void *bytes, size_t count) {
    char key[64];
    if (!ours(fd, S_IFREG, key)) return real_write(fd, bytes, count);
    ssize_t may = allowed(count);
    return may < 0 ? -1 : written(fd, key, real_write(fd, bytes, may), count);
}

ssize_t writev(int fd, const struct iovec *parts, int number) {
    char key[64];
    if (!ours(fd, S_IFREG, key)) return real_writev(fd, parts, number);
    if (allowed(0) < 0) return -1;
    size_t count = 0;
    for (int part = 0; part < number; part++) count += parts[part].iov_len;
    return written(fd, key, real_writev(fd, parts, number), count);
}

ssize_t pwrite64(int fd, const void *bytes, size_t count, off_t at) {
    char key[64];
    if (!ours(fd, S_IFREG, key)) return real_pwrite(fd, bytes, count, at);
    if (allowed(0) < 0) return -1;
    ssize_t made = real_pwrite(fd, bytes, count, at);
    if (made > 0) changed(key, at, at + made);
    return made;
}

ssize_t pwrite(int fd, const void *bytes, size_t count, off_t at) { return pwrite64(fd, bytes, count, at); }

int ftruncate64(int fd, off_t length) {
    char key[64];
    if (ours(fd, S_IFREG, key)) {
        struct stat now;
        fstat(fd, &now);
        if (length > now.st_size && asked("enospc", 0)) return errno = ENOSPC, -1;
    }
    return real_ftruncate(fd, length);
}

int ftruncate(int fd, off_t length) { return ftruncate64(fd, length); }

static int flush(int fd, int (*real)(int)) {
    char key[64];
    if (ours(fd, S_IFREG, key)) {
        /* As Linux does it: the pages count as clean, and no later flush brings them to the disk. */
        if (asked("eio", 1)) return free(taken(key)), errno = EIO, -1;
        flushed(fd, key);
        return 0;
    }
    if (ours(fd, S_IFDIR, key)) {
        if (asked("enospc", 0)) return errno = ENOSPC, -1;
        folder_flushed(fd, key);
        return 0;
    }
    return real(fd);
}

int fsync(int fd) { return flush(fd, real_fsync); }
int fdatasync(int fd) { return flush(fd, real_fdatasync); }
