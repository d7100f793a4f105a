/* The seasonal network over all rows: workspace and threads. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "seasonal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include "rnn.h"
#include "threads.h"
#include "season_shape.h"

/* What each instruction set has. */
struct season_kernels {
  void (*prepare)(const struct seasonal_task *, const struct season_shape *, int backward, float *packed);
  void (*forward)(const struct seasonal_task *, const struct season_shape *, const float *weights,
                  int64_t row, int64_t num_rows, float *memory, float *scratch);
  void (*backward)(const struct seasonal_task *, const struct season_shape *, const float *weights,
                   int64_t row, int64_t num_rows, float *memory, float *adjoint, float *dw);
  void (*collect)(const struct seasonal_task *, const struct season_shape *, const float *dw);
  int64_t (*chunk)(const struct season_shape *);
};

#define KERNELS "build_seasonal.h"
#include "levels.h"

struct season_job {
  const struct seasonal_task *task;
  const struct season_kernels *kernels;
  struct season_shape shape;
  int64_t blocks, groups;
  float *packed, *dw;
  int backward;
};

static struct season_job season_job_of(const struct seasonal_task *task, int keeps, int backward) {
  static const struct season_kernels *const all[LEVELS] = {
      &season_kernels_base_32,
#if LEVELS > 1
      &season_kernels_avx2_32,
      &season_kernels_avx512_32,
#endif
  };
  struct season_job job = {.task = task, .kernels = all[rnn_level()], .backward = backward};
  job.shape = season_shape_of(task, keeps);
  job.blocks = (task->rows + BLOCK - 1) / BLOCK;
  job.groups = job.blocks < MAX_GROUPS ? job.blocks : MAX_GROUPS;
  return job;
}

static void run_block(const struct season_job *job, int64_t block, float *work, float *dw) {
  const struct seasonal_task *k = job->task;
  const int64_t row = block * BLOCK, num_rows = k->rows - row < BLOCK ? k->rows - row : BLOCK;
  const int64_t numbers = job->shape.memory.numbers;
  float *memory = k->saved ? k->saved + block * numbers : work;
  if (!k->saved) work += numbers;
  if (job->backward)
    job->kernels->backward(k, &job->shape, job->packed, row, num_rows, memory, work, dw);
  else
    job->kernels->forward(k, &job->shape, job->packed, row, num_rows, memory, work);
}

/* Forward, a part is a block; backward, a group of blocks. */
static void run_blocks(const void *argument, int64_t part, char *work) {
  const struct season_job *job = argument;
  const int64_t parts = job->backward ? job->groups : job->blocks;
  float *dw = job->backward ? job->dw + part * job->shape.gradients : 0;
  for (int64_t i = part * job->blocks / parts; i < (part + 1) * job->blocks / parts; i++)
    run_block(job, i, (float *)work, dw);
}

/* Packed weights, weight gradients and the work of each thread, in one piece. */
static int run_season(struct season_job *job) {
  const struct seasonal_task *k = job->task;
  const struct season_shape *q = &job->shape;
  const int64_t numbers = job->backward ? q->adjoint.numbers + q->sums * BLOCK + job->kernels->chunk(q)
                                        : (k->saved ? 0 : q->memory.numbers) + q->out * BLOCK;
  struct crew crew = {.run = run_blocks,
                      .job = job,
                      .parts = job->backward ? job->groups : job->blocks,
                      .work = round_up(numbers * sizeof(float), 64)};
  const double flops = 4.0 * (job->backward ? 2 : 1) * k->rows * k->steps * q->gradients;
  const int64_t count = num_threads(k->threads, crew.parts, flops),
                packed = round_up(q->weights * sizeof(float), 64);
  const int64_t gradients = job->backward ? job->groups * q->gradients * sizeof(float) : 0;
  const int64_t bytes = packed + count * crew.work + round_up(gradients, 64);
  char *memory = aligned_alloc(64, bytes);
  if (!memory) return 1;
  use_huge_pages(memory, bytes);
  job->packed = (float *)memory;
  job->kernels->prepare(k, q, job->backward, job->packed);
  job->packed += q->weights / 2;
  job->dw = (float *)(memory + packed + count * crew.work);
  memset(job->dw, 0, gradients);
  run_threads(&crew, count, memory + packed);
  for (int64_t group = 0; job->backward && group < job->groups; group++)
    job->kernels->collect(k, q, job->dw + group * q->gradients);
  free(memory);
  return 0;
}

const int64_t seasonal_task_size = sizeof(struct seasonal_task);

int64_t seasonal_state(const struct seasonal_task *task) { return season_shape_of(task, 0).state; }

int64_t seasonal_saved(const struct seasonal_task *task) {
  const struct season_job job = season_job_of(task, 1, 0);
  return job.blocks * job.shape.memory.numbers;
}

int seasonal_forward(const struct seasonal_task *task) {
  struct season_job job = season_job_of(task, task->saved != 0, 0);
  if (task->saved) use_huge_pages(task->saved, job.blocks * job.shape.memory.numbers * sizeof(float));
  return run_season(&job);
}

int seasonal_backward(const struct seasonal_task *task) {
  struct season_job job = season_job_of(task, 1, 1);
  return run_season(&job);
}
