/* All kernels of one instruction set and number type; vectors.h and products.h say what must be set
   before. */
#include "vectors.h"
#include "products.h"
#include "cells.h"
#include "recurrence.h"

static void FN(prepare_)(const struct rnn_task *t, const struct shape *q, int backward, void *scratch,
                         void *packed) {
  FN(prepare)(t, q, backward, scratch, packed);
}
static void FN(forward_)(const struct rnn_task *t, const struct shape *q, const void *weights, int64_t team,
                         const struct unit *units) {
  FN(forward)(t, q, weights, team, units);
}
static void FN(backward_)(const struct rnn_task *t, const struct shape *q, const void *weights, int64_t team,
                          const struct unit *units) {
  FN(backward)(t, q, weights, team, units);
}
static void FN(collect_)(const struct rnn_task *t, const struct shape *q, const void *dw) {
  FN(collect)(t, q, dw);
}

static const struct kernels FN(kernels) = {FN(prepare_), FN(forward_), FN(backward_), FN(collect_)};

#include "unset.h"
