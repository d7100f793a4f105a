/* Parts of a job on threads that live for one call: nothing to set up, and nothing that a fork could break.
   The parts do not depend on the number of threads, so that no sum does. */
#include <pthread.h>
#include <stdatomic.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#define MAX_GROUPS 16 /* of blocks, whose weight gradients are summed apart, whatever the threads */
#define MIN_THREAD_FLOPS 1e6

static inline int64_t round_up(int64_t n, int64_t line) { return (n + line - 1) / line * line; }
static inline int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }

struct crew {
  void (*run)(const void *job, int64_t part, char *work);
  const void *job;
  int64_t parts, work; /* work: bytes of a thread */
  atomic_long next;
};

struct thread {
  pthread_t id;
  struct crew *crew;
  char *work;
};

static void *run_thread(void *argument) {
  const struct thread *thread = argument;
  struct crew *crew = thread->crew;
  for (int64_t part; (part = atomic_fetch_add(&crew->next, 1)) < crew->parts;)
    crew->run(crew->job, part, thread->work);
  return 0;
}

static int64_t num_threads(int64_t wanted, int64_t parts, double flops) {
  int64_t count = wanted < parts ? wanted : parts;
  if (count > flops / MIN_THREAD_FLOPS) count = flops / MIN_THREAD_FLOPS;
  return count < 1 ? 1 : count;
}

static void run_threads(struct crew *crew, int64_t count, char *work) {
  struct thread threads[count];
  int64_t started = 1;
  for (int64_t i = 0; i < count; i++)
    threads[i] = (struct thread){.crew = crew, .work = work + i * crew->work};
  for (; started < count; started++)
    if (pthread_create(&threads[started].id, 0, run_thread, threads + started)) break;
  run_thread(threads);
  for (int64_t i = 1; i < started; i++) pthread_join(threads[i].id, 0);
}

/* Large fresh memory in pages of 2 MiB instead of a fault every 4 KiB. */
static void use_huge_pages(void *memory, int64_t bytes) {
#if defined(__linux__) && defined(MADV_HUGEPAGE)
  const uintptr_t begin = ((uintptr_t)memory + 4095) & ~(uintptr_t)4095,
                  end = ((uintptr_t)memory + bytes) & ~(uintptr_t)4095;
  if (memory && bytes >= 4 << 20) madvise((void *)begin, end - begin, MADV_HUGEPAGE);
#else
  (void)memory, (void)bytes;
#endif
}
