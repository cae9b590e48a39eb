/* Preloaded into the program under test: a clock, and a disk, that do what a test says.
   The test writes into the file that FAMILIAR_TEST_FAULTS names; the program reads it as memory. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

struct control {
    int64_t clock_offset;  /* seconds that are added to the date */
    int32_t clock;         /* 1: synchronised, 2: not; 0: as the kernel says */
    int32_t fsync_errno;   /* with which fsync and fdatasync fail; 0: they do not */
    char file[48];         /* of files whose path contains this */
    int32_t failed;        /* how often they did */
};

static struct control none, *shared = &none;

/* Before the program confines itself (Landlock) and may not open it any more. */
__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("FAMILIAR_TEST_FAULTS");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0)
        return;
    void *at = mmap(NULL, sizeof none, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED)
        shared = at;
}

int clock_gettime(clockid_t clock, struct timespec *time)
{
    int result = syscall(SYS_clock_gettime, clock, time);
    if (result == 0 && clock == CLOCK_REALTIME)
        time->tv_sec += shared->clock_offset;
    return result;
}

int adjtimex(struct timex *state)
{
    int32_t clock = shared->clock;
    if (clock == 0)
        return syscall(SYS_adjtimex, state);
    memset(state, 0, sizeof *state);
    state->status = clock == 2 ? STA_UNSYNC : 0;
    return clock == 2 ? TIME_ERROR : TIME_OK;
}

static int fails(int fd)
{
    char link[64], path[4096];
    if (shared->fsync_errno == 0)
        return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0)
        return 0;
    path[length] = 0;
    if (!strstr(path, shared->file))
        return 0;
    __sync_fetch_and_add(&shared->failed, 1);
    errno = shared->fsync_errno;
    return 1;
}

int fsync(int fd) { return fails(fd) ? -1 : syscall(SYS_fsync, fd); }
int fdatasync(int fd) { return fails(fd) ? -1 : syscall(SYS_fdatasync, fd); }
