/* The recurrence over all rows: instruction sets, workspace, threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "rnn.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "threads.h"
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

#define KERNELS "build.h"
#define DOUBLES
#include "levels.h"

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

int rnn_level(void) {
  if (level < 0) rnn_instruction_set(-1);
  return level;
}

static const struct kernels *kernels_for(int64_t size) {
  static const struct kernels *const all[LEVELS][2] = {
      {&kernels_base_32, &kernels_base_64},
#if LEVELS > 1
      {&kernels_avx2_32, &kernels_avx2_64},
      {&kernels_avx512_32, &kernels_avx512_64},
#endif
  };
  return all[rnn_level()][size == 8];
}

void rnn_activations(int64_t n, const float *x, float *tanh, float *sigmoid) {
#if LEVELS > 1
  if (rnn_level() == 2) activations_avx512_32(n, x, tanh, sigmoid);
  else if (level == 1) activations_avx2_32(n, x, tanh, sigmoid);
  else
#endif
    activations_base_32(n, x, tanh, sigmoid);
}

/* ---- Units of work ---- */

#define MAX_SINGLE_ROWS 4 /* a last block of no more rows goes row by row */

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
};

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

static void run_unit(const struct job *job, int64_t unit, char *work, char *dw) {
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

static void run_part(const void *argument, int64_t part, char *work) {
  const struct job *job = argument;
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

/* Packed weights, weight gradients and the work of each thread, in one piece. */
static int run(struct job *job) {
  const struct rnn_task *t = job->task;
  const double flops = 2.0 * (job->backward ? 2 : 1) * t->rows * t->steps * job->shape[1].gates * t->hidden *
                       sum_of(job->shape[1].length, t->layers);
  struct crew crew = {.run = run_part, .job = job, .parts = parts_of(job), .work = job->work};
  const int64_t count = num_threads(t->threads, crew.parts, flops), parts[2] = {job->singles, job->groups},
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
  run_threads(&crew, count, next);
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
