/* The recurrence over all rows: instruction sets, workspace, threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "rnn.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif
#if defined(__x86_64__)
#include <immintrin.h>
#endif
#include "shape.h"

/* What each instruction set and number type has: weights packed for a pass, the passes of one unit of
   work, and the sum of its weight gradients. */
struct kernels {
  void (*prepare)(const struct rnn_task *, const struct shape *, int backward, void *scratch, void *packed);
  void (*forward)(const struct rnn_task *, const struct shape *, const void *weights, int64_t row,
                  int64_t num_rows, void *memory, void *work);
  void (*backward)(const struct rnn_task *, const struct shape *, const void *weights, int64_t row,
                   int64_t num_rows, void *memory, void *work, void *dw);
  void (*collect)(const struct rnn_task *, const struct shape *, const void *dw);
};

#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
#define EACH(i, n) UNROLL for (int i = 0; i < (n); i++)
#define ROUND(n) round_up(n, RB)

/* clang ignores these pragmas: there, and on other processors, the vectors of 16 bytes that all have. */
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__)
#define LEVELS 3
#pragma GCC push_options
#pragma GCC target("avx512f,avx512vl,avx512dq,avx512bw,avx2,fma,prefer-vector-width=512")
#define VBYTES 64
#define UT 8
#define MJ 4
#define MK 4
#define REAL float
#define SIZE 4
#define FN(x) x##_avx512_32
#include "build.h"
#define REAL double
#define SIZE 8
#define FN(x) x##_avx512_64
#include "build.h"
#undef VBYTES
#undef UT
#undef MK
#pragma GCC pop_options
#pragma GCC push_options
#pragma GCC target("avx2,fma")
#define VBYTES 32
#define UT 6
#define MK 3
#define REAL float
#define SIZE 4
#define FN(x) x##_avx2_32
#include "build.h"
#define REAL double
#define SIZE 8
#define FN(x) x##_avx2_64
#include "build.h"
#undef VBYTES
#undef UT
#undef MJ
#undef MK
#pragma GCC pop_options
#else
#define LEVELS 1
#endif
#define VBYTES 16
#ifdef __aarch64__ /* 32 registers */
#define UT 4
#define MJ 4
#define MK 4
#else
#define UT 2
#define MJ 4
#define MK 2
#endif
#define REAL float
#define SIZE 4
#define FN(x) x##_base_32
#include "build.h"
#define REAL double
#define SIZE 8
#define FN(x) x##_base_64
#include "build.h"

static int level = -1;

const char *rnn_instruction_set(int wanted) {
  static const char *const names[] = {"baseline", "AVX2", "AVX-512"};
  int best = 0;
#if LEVELS > 1
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) best = 1;
  if (best && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512bw"))
    best = 2;
#endif
  level = wanted >= 0 && wanted < best ? wanted : best;
  return names[level];
}

static const struct kernels *kernels_for(int64_t size) {
  static const struct kernels *const all[LEVELS][2] = {
      {&kernels_base_32, &kernels_base_64},
#if LEVELS > 1
      {&kernels_avx2_32, &kernels_avx2_64},
      {&kernels_avx512_32, &kernels_avx512_64},
#endif
  };
  if (level < 0) rnn_instruction_set(-1);
  return all[level][size == 8];
}

void rnn_activations(int64_t n, const float *x, float *tanh, float *sigmoid) {
  if (level < 0) rnn_instruction_set(-1);
#if LEVELS > 1
  if (level == 2) activations_avx512_32(n, x, tanh, sigmoid);
  else if (level == 1) activations_avx2_32(n, x, tanh, sigmoid);
  else
#endif
    activations_base_32(n, x, tanh, sigmoid);
}

/* ---- Units of work ---- */

#define MAX_SINGLE_ROWS 4 /* a last block of no more rows goes row by row */
#define MAX_GROUPS 16     /* of blocks, whose weight gradients are summed apart, whatever the threads */
#define MIN_THREAD_FLOPS 1e6

/* `blocks` blocks of rows, then `singles` single rows; a group of blocks or a single row has its own
   weight gradients. */
struct job {
  const struct rnn_task *task;
  const struct kernels *kernels;
  struct shape shape[2]; /* of a single row, of a block */
  int64_t line, blocks, singles, groups;
  int64_t memory[2], weights[2], gradients[2], work; /* bytes: of a unit, a shape, a part, a thread */
  char *packed[2], *dw[2];
  int backward;
  atomic_long next;
};

static int64_t at_least(int64_t a, int64_t b) { return a > b ? a : b; }

static struct job job_of(const struct rnn_task *t, int keeps, int backward) {
  struct job job = {.task = t, .line = 64 / t->size, .backward = backward};
  const int64_t rest = t->rows % job.line;
  job.singles = rest <= MAX_SINGLE_ROWS ? rest : 0;
  job.blocks = (t->rows - job.singles + job.line - 1) / job.line;
  job.groups = job.blocks < MAX_GROUPS ? job.blocks : MAX_GROUPS;
  for (int block = 0; block < 2; block++) {
    struct shape *q = job.shape + block;
    *q = shape_of(t, block, keeps);
    const int64_t L = q->layers;
    job.memory[block] = sum_of(q->memory, L) * t->size;
    job.weights[block] = (sum_of(q->weights, L) + q->readout) * t->size;
    job.gradients[block] = round_up((sum_of(q->gradients, L) + q->readout) * t->size, 64);
    const int64_t forward =
        (keeps ? 0 : sum_of(q->memory, L)) + (q->chunk + 1) * q->out_step + q->gates * q->n;
    const int64_t back = 2 * L * q->n + q->chunk * (q->out_step + q->in_step) +
                         L * (q->chunk * q->gates * q->n + SLACK(q->line)) + SLACK(q->line);
    if (block ? job.blocks : job.singles)
      job.work = at_least(job.work, (backward ? back : forward) * t->size);
  }
  return job;
}

static void run_unit(struct job *job, int64_t unit, char *work, char *dw) {
  const struct rnn_task *t = job->task;
  const int block = unit < job->blocks;
  const int64_t row = block ? unit * job->line : job->blocks * job->line + unit - job->blocks;
  const int64_t num_rows = !block ? 1 : t->rows - row < job->line ? t->rows - row : job->line;
  const struct shape *q = job->shape + block;
  char *memory = t->saved ? (char *)t->saved + (block ? unit : 0) * job->memory[1] : work;
  if (t->saved && !block) memory += job->blocks * job->memory[1] + (unit - job->blocks) * job->memory[0];
  if (!t->saved) work += job->memory[block];
  if (job->backward) job->kernels->backward(t, q, job->packed[block], row, num_rows, memory, work, dw);
  else job->kernels->forward(t, q, job->packed[block], row, num_rows, memory, work);
}

/* Forward, a part is a unit; backward, a group of blocks or a single row, so that sums do not depend on
   the threads. */
static int64_t parts_of(const struct job *job) {
  return (job->backward ? job->groups : job->blocks) + job->singles;
}

static void run_parts(struct job *job, char *work) {
  const int64_t parts = parts_of(job);
  for (int64_t part; (part = atomic_fetch_add(&job->next, 1)) < parts;) {
    if (!job->backward) {
      run_unit(job, part, work, 0);
    } else if (part < job->groups) {
      char *dw = job->dw[1] + part * job->gradients[1];
      for (int64_t i = part * job->blocks / job->groups; i < (part + 1) * job->blocks / job->groups; i++)
        run_unit(job, i, work, dw);
    } else {
      const int64_t single = part - job->groups;
      run_unit(job, job->blocks + single, work, job->dw[0] + single * job->gradients[0]);
    }
  }
}

struct thread {
  pthread_t id;
  struct job *job;
  char *work;
};

static void *run_thread(void *argument) {
  struct thread *thread = argument;
  run_parts(thread->job, thread->work);
  return 0;
}

/* Threads live for one call: nothing to set up, and nothing that a fork could break. */
static void run_threads(struct job *job, int64_t count, char *work) {
  struct thread threads[count];
  int64_t started = 1;
  for (; started < count; started++) {
    threads[started] = (struct thread){.job = job, .work = work + started * job->work};
    if (pthread_create(&threads[started].id, 0, run_thread, threads + started)) break;
  }
  run_parts(job, work);
  for (int64_t i = 1; i < started; i++) pthread_join(threads[i].id, 0);
}

static int64_t num_threads(const struct job *job) {
  const struct rnn_task *t = job->task;
  const struct shape *q = job->shape + 1;
  const double flops = 2.0 * (job->backward ? 2 : 1) * t->rows * t->steps * q->gates * t->hidden *
                       sum_of(q->length, t->layers);
  int64_t count = t->threads, parts = parts_of(job);
  if (count > parts) count = parts;
  if (count > flops / MIN_THREAD_FLOPS) count = flops / MIN_THREAD_FLOPS;
  return count < 1 ? 1 : count;
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

/* Packed weights, weight gradients and the work of each thread, in one piece. */
static int run(struct job *job) {
  const int64_t count = num_threads(job), parts[2] = {job->singles, job->groups},
                units[2] = {job->singles, job->blocks};
  int64_t bytes = count * job->work;
  for (int block = 0; block < 2; block++)
    if (units[block])
      bytes += 2 * job->weights[block] + (job->backward ? parts[block] * job->gradients[block] : 0);
  char *memory = aligned_alloc(64, round_up(at_least(bytes, 64), 64)), *next = memory;
  if (!memory) return 1;
  for (int block = 0; block < 2; block++) {
    if (!units[block]) continue;
    job->packed[block] = next, next += job->weights[block];
    job->kernels->prepare(job->task, job->shape + block, job->backward, next, job->packed[block]);
    next += job->weights[block];
    if (!job->backward) continue;
    job->dw[block] = next, next += parts[block] * job->gradients[block];
    memset(job->dw[block], 0, parts[block] * job->gradients[block]);
  }
  run_threads(job, count, next);
  for (int block = 1; job->backward && block >= 0; block--)
    for (int64_t part = 0; part < parts[block]; part++)
      job->kernels->collect(job->task, job->shape + block, job->dw[block] + part * job->gradients[block]);
  free(memory);
  return 0;
}

/* ---- The interface ---- */

const int64_t rnn_task_size = sizeof(struct rnn_task);

int64_t rnn_saved(const struct rnn_task *task) {
  const struct job job = job_of(task, 1, 0);
  return (job.blocks * job.memory[1] + job.singles * job.memory[0]) / task->size;
}

int rnn_forward(const struct rnn_task *task) {
  struct job job = job_of(task, task->saved != 0, 0);
  job.kernels = kernels_for(task->size);
  if (task->saved) use_huge_pages(task->saved, job.blocks * job.memory[1] + job.singles * job.memory[0]);
  use_huge_pages(task->y, task->rows * (task->steps - task->first) *
                              (task->outputs ? task->outputs : task->hidden) * task->size);
  return run(&job);
}

int rnn_backward(const struct rnn_task *task) {
  struct job job = job_of(task, 1, 1);
  job.kernels = kernels_for(task->size);
  return run(&job);
}
