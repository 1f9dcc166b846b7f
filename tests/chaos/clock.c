/* Preloaded into a worker: its wall clock is off by the seconds (int64) that the file named in CHAOS_CLOCK begins with.
   Waits until a time of day are told the true time, as the kernel knows no other. The monotonic clock is left alone. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *off;

__attribute__((constructor)) static void begin(void) {
    const char *name = getenv("CHAOS_CLOCK");
    int file = name ? open(name, O_RDONLY) : -1;
    void *map = file < 0 ? MAP_FAILED : mmap(0, sizeof *off, PROT_READ, MAP_SHARED, file, 0);
    if (map == MAP_FAILED) abort();
    off = map;
    close(file);
}

static int64_t ahead(void) { return off ? *off : 0; }

/* The newest version of a symbol: a plain dlsym may find one that is kept for programs of long ago. */
static void *next(const char *name) {
    void *found = dlvsym(RTLD_NEXT, name, "GLIBC_2.3.2");
    return found ? found : dlsym(RTLD_NEXT, name);
}

static struct timespec true_time(const struct timespec *t) {
    struct timespec out = *t;
    out.tv_sec -= ahead();
    return out;
}

int clock_gettime(clockid_t id, struct timespec *t) {
    int code = syscall(SYS_clock_gettime, id, t);
    if (code == 0 && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) t->tv_sec += ahead();
    return code;
}

int gettimeofday(struct timeval *t, void *zone) {
    struct timespec now;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &now);
    t->tv_sec = now.tv_sec;
    t->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *t) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t) *t = now.tv_sec;
    return now.tv_sec;
}

int timespec_get(struct timespec *t, int base) { return base == TIME_UTC && clock_gettime(CLOCK_REALTIME, t) == 0 ? base : 0; }

int pthread_cond_timedwait(pthread_cond_t *c, pthread_mutex_t *m, const struct timespec *t) {
    static int (*plain)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    struct timespec until = true_time(t);
    if (!plain) plain = next("pthread_cond_timedwait");
    return plain(c, m, &until);
}

int cnd_timedwait(cnd_t *c, mtx_t *m, const struct timespec *t) {
    static int (*plain)(cnd_t *, mtx_t *, const struct timespec *);
    struct timespec until = true_time(t);
    if (!plain) plain = next("cnd_timedwait");
    return plain(c, m, &until);
}

int sem_timedwait(sem_t *s, const struct timespec *t) {
    static int (*plain)(sem_t *, const struct timespec *);
    struct timespec until = true_time(t);
    if (!plain) plain = next("sem_timedwait");
    return plain(s, &until);
}
