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
  void (*forward)(const struct rnn_task *, const struct shape *, const void *weights, int64_t team,
                  const struct unit *units);
  void (*backward)(const struct rnn_task *, const struct shape *, const void *weights, int64_t team,
                   const struct unit *units);
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

/* ---- Memory ---- */

/* The work of a large network is kept for the next call, whose fresh pages would cost a sixth of its time. Each
   piece of memory begins with its size. */
#ifdef __SANITIZE_ADDRESS__
#define SPARE_BYTES 0
#else
#define SPARE_BYTES (128 << 20)
#endif
static _Atomic(char *) spare;

static char *take_memory(int64_t bytes) {
  char *found = atomic_exchange(&spare, 0);
  const int64_t size = round_up(bytes, 64) + 64;
  if (!found || *(int64_t *)found < size) {
    free(found);
    found = aligned_alloc(64, size);
    if (!found) return 0;
    use_huge_pages(found, size);
    *(int64_t *)found = size;
  }
  return found + 64;
}

static void give_back(char *memory) {
  char *piece = memory - 64;
  if (*(int64_t *)piece <= SPARE_BYTES) piece = atomic_exchange(&spare, piece);
  free(piece);
}

/* ---- Units of work ---- */

#define MAX_SINGLE_ROWS 4 /* a last block of no more rows goes row by row */

/* Single rows and blocks of rows, the two kinds of unit and the index of the arrays here. The units of a kind
   are cut into parts, and the units of a part go through the steps in teams. The weight gradients of a group
   of units are summed apart. Where each unit is a group, the parts may follow the threads; elsewhere a part
   is a group, so that no sum depends on the threads. */
struct job {
  const struct rnn_task *task;
  const struct kernels *kernels;
  struct shape shape[2];
  int64_t line, team;
  int64_t units[2], groups[2], parts[2];
  int64_t memory[2], weights[2], gradients[2], work; /* bytes: of a unit, a kind, a group, a unit */
  char *packed[2], *dw[2];
  int backward;
};

#define GRADIENT_BYTES (64 << 20) /* of all groups, if that leaves enough of them for some threads */
#define MIN_GROUPS 4

static void cut_units(struct job *job, int block) {
  const int64_t units = job->units[block], teams = (units + job->team - 1) / job->team;
  int64_t groups = GRADIENT_BYTES / job->gradients[block];
  groups = groups < MIN_GROUPS ? MIN_GROUPS : groups > MAX_GROUPS ? MAX_GROUPS : groups;
  job->groups[block] = units < groups ? units : groups;
  if (job->backward && units > groups) job->parts[block] = groups;
  else if (units) job->parts[block] = round_up(teams, at_least(job->task->threads, 1));
  if (job->parts[block] > units) job->parts[block] = units;
}

static struct job job_of(const struct rnn_task *t, int keeps, int backward) {
  struct job job = {.task = t, .line = 64 / t->size, .backward = backward};
  const int64_t rest = t->rows % job.line;
  job.units[0] = rest <= MAX_SINGLE_ROWS ? rest : 0;
  job.units[1] = (t->rows - job.units[0] + job.line - 1) / job.line;
  for (int block = 0; block < 2; block++) {
    struct shape *q = job.shape + block;
    *q = shape_of(t, block, keeps);
    const int64_t L = q->layers;
    job.team = sum_of(q->weights, L) * t->size > TEAM_BYTES ? TEAM : 1;
    job.memory[block] = round_up(sum_of(q->memory, L) * t->size, 64);
    job.weights[block] = (sum_of(q->weights, L) + q->readout) * t->size;
    job.gradients[block] = round_up((sum_of(q->gradients, L) + q->readout) * t->size, 64);
    const int64_t forward = (q->chunk + 1) * q->out_step + q->gates * q->n;
    const int64_t back = 2 * L * q->n + q->chunk * (q->out_step + q->in_step) +
                         L * q->chunk * q->g_step;
    if (job.units[block])
      job.work = at_least(job.work, round_up((backward ? back : forward) * t->size, 64) +
                                        (keeps ? 0 : job.memory[block]));
    cut_units(&job, block);
  }
  return job;
}

/* Units of one kind, up to a team of them. */
static void run_team(const struct job *job, int block, int64_t first, int64_t team, char *work, char *dw) {
  const struct rnn_task *t = job->task;
  struct unit units[TEAM];
  for (int64_t b = 0, unit = first; b < team; b++, unit++, work += job->work) {
    const int64_t row = block ? unit * job->line : job->units[1] * job->line + unit;
    const int64_t num_rows = !block ? 1 : t->rows - row < job->line ? t->rows - row : job->line;
    char *memory = work;
    if (t->saved) memory = (char *)t->saved + (block ? 0 : job->units[1] * job->memory[1]) + unit * job->memory[block];
    units[b] = (struct unit){row, num_rows, memory, t->saved ? work : work + job->memory[block], dw};
    if (job->backward && job->groups[block] == job->units[block])
      units[b].dw = job->dw[block] + unit * job->gradients[block];
  }
  (job->backward ? job->kernels->backward : job->kernels->forward)(t, job->shape + block, job->packed[block],
                                                                   team, units);
}

static void run_part(const void *argument, int64_t part, char *work) {
  const struct job *job = argument;
  const int block = part < job->parts[1];
  if (!block) part -= job->parts[1];
  const int64_t units = job->units[block], parts = job->parts[block], end = (part + 1) * units / parts;
  for (int64_t unit = part * units / parts; unit < end; unit += job->team)
    run_team(job, block, unit, end - unit < job->team ? end - unit : job->team, work,
             job->backward ? job->dw[block] + part * job->gradients[block] : 0);
}

/* Packed weights, weight gradients and the work of each thread, in one piece. */
static int run(struct job *job) {
  const struct rnn_task *t = job->task;
  const double flops = 2.0 * (job->backward ? 2 : 1) * t->rows * t->steps * job->shape[1].gates * t->hidden *
                       sum_of(job->shape[1].length, t->layers);
  struct crew crew = {
      .run = run_part, .job = job, .parts = job->parts[0] + job->parts[1], .work = job->team * job->work};
  const int64_t count = num_threads(t->threads, crew.parts, flops);
  int64_t bytes = count * crew.work;
  for (int block = 0; block < 2; block++)
    if (job->units[block])
      bytes += 2 * job->weights[block] + (job->backward ? job->groups[block] * job->gradients[block] : 0);
  char *memory = take_memory(bytes), *next = memory;
  if (!memory) return 1;
  for (int block = 0; block < 2; block++) {
    if (!job->units[block]) continue;
    job->packed[block] = next, next += job->weights[block];
    job->kernels->prepare(job->task, job->shape + block, job->backward, next, job->packed[block]);
    next += job->weights[block];
    if (!job->backward) continue;
    job->dw[block] = next, next += job->groups[block] * job->gradients[block];
    memset(job->dw[block], 0, job->groups[block] * job->gradients[block]);
  }
  run_threads(&crew, count, next);
  for (int block = 1; job->backward && block >= 0; block--)
    for (int64_t group = 0; group < job->groups[block]; group++)
      job->kernels->collect(job->task, job->shape + block, job->dw[block] + group * job->gradients[block]);
  give_back(memory);
  return 0;
}

/* ---- The interface ---- */

const int64_t rnn_task_size = sizeof(struct rnn_task);

int64_t rnn_saved(const struct rnn_task *task) {
  const struct job job = job_of(task, 1, 0);
  return (job.units[1] * job.memory[1] + job.units[0] * job.memory[0]) / task->size;
}

int rnn_forward(const struct rnn_task *task) {
  struct job job = job_of(task, task->saved != 0, 0);
  job.kernels = kernels_for(task->size);
  if (task->saved) use_huge_pages(task->saved, job.units[1] * job.memory[1] + job.units[0] * job.memory[0]);
  use_huge_pages(task->y, task->rows * (task->steps - task->first) *
                              (task->outputs ? task->outputs : task->hidden) * task->size);
  return run(&job);
}

int rnn_backward(const struct rnn_task *task) {
  struct job job = job_of(task, 1, 1);
  job.kernels = kernels_for(task->size);
  return run(&job);
}
