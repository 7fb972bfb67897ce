/* The wall clock, off by as many seconds as the file named by CLOCK_SHIM says (a double, read at each call).
 * Loaded with LD_PRELOAD. Monotonic clocks stay as they are: no administrator and no NTP sets them. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

static const volatile double *offset;
static int (*real_clock_gettime)(clockid_t, struct timespec *);

__attribute__((constructor)) static void prepare(void) {
  const char *path = getenv("CLOCK_SHIM");
  real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  void *found = file < 0 ? MAP_FAILED : mmap(NULL, sizeof(double), PROT_READ, MAP_SHARED, file, 0);
  if (found != MAP_FAILED) offset = found;
}

int clock_gettime(clockid_t clock, struct timespec *at) {
  if (!real_clock_gettime) real_clock_gettime = dlsym(RTLD_NEXT, "clock_gettime");
  int result = real_clock_gettime(clock, at);
  if (result || !offset || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return result;
  double seconds = *offset;
  long long nanoseconds = at->tv_nsec + (long long)((seconds - (long long)seconds) * 1e9);
  at->tv_sec += (long long)seconds + (nanoseconds >= 1000000000 ? 1 : nanoseconds < 0 ? -1 : 0);
  at->tv_nsec = (nanoseconds + 1000000000) % 1000000000;
  return 0;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
  (void)zone;
  struct timespec found;
  int result = clock_gettime(CLOCK_REALTIME, &found);
  at->tv_sec = found.tv_sec;
  at->tv_usec = found.tv_nsec / 1000;
  return result;
}

time_t time(time_t *at) {
  struct timespec found;
  clock_gettime(CLOCK_REALTIME, &found);
  if (at) *at = found.tv_sec;
  return found.tv_sec;
}
