/* The recurrence of one unit of work, forward and backward, for one instruction set and number type. */

/* ---- Weights ---- */

/* A layer's weights as one matrix [gate][unit][h | 1 | x], with zeros for the units that only fill up. */
static void FN(gather)(const struct rnn_task *t, const struct shape *q, int64_t l, int has_bias, REAL *m) {
  const REAL *const *w = (const REAL *const *)t->weights + 4 * l;
  const int64_t H = q->hidden, F = q->inputs[l > 0], K = H + 1 + F;
  for (int64_t gate = 0; gate < q->gates; gate++)
    for (int64_t j = 0; j < q->padded; j++) {
      const int64_t row = gate_of_torch(q, gate) * H + j;
      const int h = j < H && gate >= first_h_gate(q), x = j < H && gate < last_x_gate(q);
      REAL *to = m + (gate * q->padded + j) * K;
      if (h) memcpy(to, w[1] + row * H, H * sizeof *m);
      else memset(to, 0, H * sizeof *m);
      to[H] = has_bias ? (x ? w[2][row] : 0) + (h ? w[3][row] : 0) : 0;
      if (x) memcpy(to + H + 1, w[0] + row * F, F * sizeof *m);
      else memset(to + H + 1, 0, F * sizeof *m);
    }
}

/* Pack the weights of all layers and of the readout for one of the passes; `m` is room for one layer. */
static void FN(prepare)(const struct rnn_task *t, const struct shape *q, int backward, REAL *m,
                        REAL *packed) {
  const int64_t H = q->hidden, O = q->outputs, P = q->padded;
  for (int64_t l = 0; l < q->layers; l++) {
    const int64_t F = q->inputs[l > 0], K = H + 1 + F;
    REAL *to = packed + sum_of(q->weights, l);
    FN(gather)(t, q, l, !backward, m);
    struct piece pieces[3];
    const int count = backward ? 0 : pieces_of(q->cell, F, pieces);
    for (const struct piece *p = pieces; p < pieces + count; p++)
      to = FN(pack)(q->lanes, p->gates * P, p->h * H + p->x, m + p->gate * P * K + (p->h ? 0 : H), K, 1, to);
    if (!backward) continue;
    for (int64_t gate = first_h_gate(q); gate < q->gates; gate += q->lanes > 1 ? q->gates : 1)
      to = FN(pack)(q->lanes, H, (q->lanes > 1 ? q->gates - gate : 1) * H, m + gate * P * K, 1, K, to);
    for (int64_t gate = 0; gate < last_x_gate(q); gate += q->lanes > 1 ? q->gates : 1)
      to = FN(pack)(q->lanes, F, (q->lanes > 1 ? last_x_gate(q) : 1) * H, m + gate * P * K + H + 1, 1, K, to);
  }
  if (!O) return;
  const REAL *const *w = (const REAL *const *)t->weights + 4 * q->layers;
  REAL *to = packed + sum_of(q->weights, q->layers);
  for (int64_t o = 0; o < O; o++) {
    memcpy(m + o * (H + 1), w[0] + o * H, H * sizeof *m);
    m[o * (H + 1) + H] = w[1][o];
  }
  if (backward) FN(pack)(q->lanes, H, O, m, 1, H + 1, to);
  else FN(pack)(q->lanes, O, H + 1, m, H + 1, 1, to);
}

/* ---- Products with packed weights ---- */

/* From the gradients of the gates [first, last) to those of J of the numbers that they read. */
static const REAL *FN(back)(const struct shape *q, int64_t J, int64_t first, int64_t last, const REAL *w,
                            int64_t team, REAL *const *g, REAL *const *out, int add) {
  const int64_t H = q->hidden, together = q->lanes > 1 ? last - first : 1;
  const REAL *in[TEAM];
  for (int64_t gate = first; gate < last; gate += together) {
    for (int64_t b = 0; b < team; b++) in[b] = g[b] + gate * q->n;
    w = FN(products)(q->lanes, J, together * H, w, team, in, out, add || gate > first);
  }
  return w;
}

/* ---- Arrays of the caller ---- */

static void FN(load)(const struct shape *q, const REAL *rows, int64_t stride, int64_t num_rows, int64_t steps,
                     int64_t width, REAL *to, int64_t apart) {
  if (q->lanes > 1) FN(load_block)(rows, stride, num_rows, steps, width, to, apart);
  else
    for (; steps > 0; steps--, rows += width, to += apart) memcpy(to, rows, width * sizeof *to);
}

static void FN(store)(const struct shape *q, REAL *rows, int64_t stride, int64_t num_rows, int64_t steps,
                      int64_t width, const REAL *from, int64_t apart) {
  if (q->lanes > 1) FN(store_block)(rows, stride, num_rows, steps, width, from, apart);
  else
    for (; steps > 0; steps--, rows += width, from += apart) memcpy(rows, from, width * sizeof *from);
}

/* The state of a layer (layers, rows, hidden), zero where there is none. */
static void FN(load_state)(const struct shape *q, const void *state, int64_t l, int64_t all_rows, int64_t row,
                           int64_t num_rows, REAL *to) {
  memset(to, 0, q->n * sizeof *to);
  if (state)
    FN(load)(q, (const REAL *)state + (l * all_rows + row) * q->hidden, q->hidden, num_rows, 1, q->hidden, to,
             0);
}

static void FN(store_state)(const struct shape *q, void *state, int64_t l, int64_t all_rows, int64_t row,
                            int64_t num_rows, const REAL *from) {
  if (state)
    FN(store)(q, (REAL *)state + (l * all_rows + row) * q->hidden, q->hidden, num_rows, 1, q->hidden, from,
              0);
}

/* ---- Steps ---- */

struct FN(layer) {
  REAL *slots, *gates, *cells;
  int64_t kind, slot, gates_step, cells_step;
  const REAL *weights;
};

static void FN(layers_of)(const struct shape *q, const REAL *weights, REAL *memory,
                          struct FN(layer) * layers) {
  for (int64_t l = 0; l < q->layers; l++) {
    const int64_t kind = l > 0, slot = q->length[kind] * q->lanes;
    REAL *slots = memory + sum_of(q->memory, l), *gates = slots + q->slots * slot;
    layers[l] = (struct FN(layer)){.kind = kind,
                                   .slot = slot,
                                   .slots = slots,
                                   .gates = gates,
                                   .weights = weights + sum_of(q->weights, l),
                                   .cells = gates + (q->keeps ? q->steps : 1) * q->kept * q->n,
                                   .gates_step = q->keeps ? q->kept * q->n : 0,
                                   .cells_step = q->keeps ? q->n : 0};
  }
}

/* Zero the state, or its gradient, of rows that have not begun at this step. */
static void FN(silence)(const struct shape *q, const int64_t *begin, int64_t num_rows, int64_t step,
                        REAL *state) {
  for (int64_t row = 0; row < num_rows; row++)
    if (step < begin[row])
      for (int64_t i = row; i < q->n; i += q->lanes) state[i] = 0;
}

/* Put the readout of the state before a step, or its sum with the innovations, in the place of the
   values of the step. */
static void FN(feed)(const struct rnn_task *t, const struct shape *q, const REAL *readout, const REAL *top,
                     REAL *x, REAL *predicted) {
  const int64_t count = q->outputs * q->lanes;
  if (t->feedback == RNN_FILL) {
    int unknown = 0;
    for (int64_t i = 0; i < count; i++) unknown |= x[i] != x[i];
    if (!unknown) return;
  }
  FN(product)(q->lanes, q->outputs, q->hidden + 1, readout, top, predicted, 0);
  for (int64_t i = 0; i < count; i++)
    x[i] = t->feedback == RNN_FREE ? x[i] + predicted[i] : x[i] == x[i] ? x[i] : predicted[i];
}

/* What a pass works on of one unit. */
struct FN(pass) {
  int64_t row, num_rows, last; /* last: the step at which the last of its rows begins */
  const int64_t *begin;
  struct FN(layer) * layers;
  const struct FN(layer) * top;
  REAL *inputs, *out, *sums;    /* forward; the inputs of a chunk lie in the slots of the first layer */
  REAL *dh, *dc, *dy, *dx, *g; /* backward */
  REAL *dw;
};

static struct FN(pass) FN(pass_of)(const struct rnn_task *t, const struct shape *q, const REAL *weights,
                                   const struct unit *unit, struct FN(layer) * layers) {
  const int64_t L = q->layers;
  REAL *work = unit->work, *dc = work + L * q->n, *dy = dc + L * q->n, *dx = dy + q->chunk * q->out_step;
  FN(layers_of)(q, weights, unit->memory, layers);
  struct FN(pass) pass = {.row = unit->row, .num_rows = unit->num_rows, .layers = layers};
  pass.top = layers + L - 1, pass.dw = unit->dw;
  pass.begin = t->begin ? t->begin + unit->row : 0, pass.last = latest(pass.begin, unit->num_rows);
  pass.out = work, pass.sums = work + (q->chunk + 1) * q->out_step;
  pass.dh = work, pass.dc = dc, pass.dy = dy, pass.dx = dx, pass.g = dx + q->chunk * q->in_step;
  return pass;
}

/* From the sums of a step to the state after it, which is the input of the layer above. */
static void FN(finish)(const struct shape *q, const struct FN(pass) * p, int64_t l, int64_t slot,
                       int64_t step, REAL *a) {
  const struct FN(layer) *layer = p->layers + l;
  REAL *s = layer->slots + slot * layer->slot, *h = s + layer->slot, *c = layer->cells + step * layer->cells_step;
  FN(cell_forward)(q->cell, q->n, a, s, h, c, c + layer->cells_step);
  if (step < p->last) {
    FN(silence)(q, p->begin, p->num_rows, step, h);
    if (q->cell == RNN_LSTM) FN(silence)(q, p->begin, p->num_rows, step, c + layer->cells_step);
  }
  for (int64_t i = 0; i < q->lanes; i++) h[q->one + i] = 1;
  if (l + 1 < q->layers)
    memcpy(layer[1].slots + slot * layer[1].slot + q->one + q->lanes, h, q->one * sizeof *h);
}

/* All layers of a team over one step, from its slots to the beginning of the next ones. */
static void FN(advance)(const struct shape *q, int64_t team, const struct FN(pass) * passes, int64_t slot,
                        int64_t step) {
  for (int64_t l = 0; l < q->layers; l++) {
    const REAL *w = passes->layers[l].weights, *in[TEAM];
    REAL *out[TEAM], *a[TEAM];
    for (int64_t b = 0; b < team; b++) {
      const struct FN(layer) *layer = passes[b].layers + l;
      a[b] = q->kept ? layer->gates + step * layer->gates_step : passes[b].sums;
    }
    struct piece pieces[3];
    const int count = pieces_of(q->cell, q->inputs[l > 0], pieces);
    for (const struct piece *p = pieces; p < pieces + count; p++) {
      for (int64_t b = 0; b < team; b++) {
        in[b] = passes[b].layers[l].slots + slot * passes[b].layers[l].slot + (p->h ? 0 : q->one);
        out[b] = a[b] + p->gate * q->n;
      }
      w = FN(products)(q->lanes, p->gates * q->padded, p->h * q->hidden + p->x, w, team, in, out, 0);
    }
    for (int64_t b = 0; b < team; b++) FN(finish)(q, passes + b, l, slot, step, a[b]);
  }
}

static void FN(begin_forward)(const struct rnn_task *t, const struct shape *q, const struct FN(pass) * p) {
  for (int64_t l = 0; l < q->layers; l++) {
    FN(load_state)(q, t->h0, l, t->rows, p->row, p->num_rows, p->layers[l].slots);
    if (q->cell == RNN_LSTM) FN(load_state)(q, t->c0, l, t->rows, p->row, p->num_rows, p->layers[l].cells);
    for (int64_t i = 0; i < q->lanes; i++) p->layers[l].slots[q->one + i] = 1;
  }
}

static void FN(load_inputs)(const struct rnn_task *t, const struct shape *q, struct FN(pass) * p, int64_t t0,
                            int64_t steps, int64_t slot) {
  const int64_t F = q->inputs[0], stride = t->steps * F, apart = p->layers->slot;
  const REAL *x = (const REAL *)t->x + p->row * stride + t0 * F;
  p->inputs = p->layers->slots + slot * apart + q->one + q->lanes;
  if (q->lanes > 1) FN(load)(q, x, stride, p->num_rows, steps, F, p->inputs, apart);
}

/* The inputs of a step: of a single row they are loaded now, which the state before the step wrote over. */
static void FN(begin_step)(const struct rnn_task *t, const struct shape *q, const REAL *readout,
                           const struct FN(pass) * p, int64_t i, int64_t slot, int64_t step) {
  const int64_t F = q->inputs[0];
  REAL *inputs = p->inputs + i * p->layers->slot;
  if (q->lanes == 1)
    FN(load)(q, (const REAL *)t->x + (p->row * t->steps + step) * F, F, 1, 1, F, inputs, 0);
  if (t->feedback)
    FN(feed)(t, q, readout, p->top->slots + slot * p->top->slot, inputs, p->out + q->chunk * q->out_step);
}

/* The outputs of a chunk, and where no backward pass follows, its last slot becomes the first. */
static void FN(end_chunk)(const struct rnn_task *t, const struct shape *q, const struct FN(pass) * p,
                          int64_t t0, int64_t steps, int64_t slot) {
  const int64_t T = q->steps, O = q->outputs, first = t->first, width = O ? O : q->hidden;
  const int64_t skip = first <= t0 ? 0 : first - t0 < steps ? first - t0 : steps;
  if (skip < steps) {
    REAL *to = (REAL *)t->y + (p->row * (T - first) + t0 + skip - first) * width;
    const REAL *from = p->top->slots + (slot + skip + 1) * p->top->slot;
    int64_t apart = p->top->slot;
    if (t->feedback == RNN_FREE) from = p->inputs, apart = p->layers->slot;
    else if (O) from = p->out + skip * q->out_step, apart = q->out_step;
    FN(store)(q, to, (T - first) * width, p->num_rows, steps - skip, width, from, apart);
  }
  if (t->filled)
    FN(store)(q, (REAL *)t->filled + (p->row * T + t0) * O, T * O, p->num_rows, steps, O, p->inputs,
              p->layers->slot);
  for (struct FN(layer) *layer = p->layers; layer < p->layers + q->layers && !q->keeps; layer++)
    memcpy(layer->slots, layer->slots + steps * layer->slot, (q->one + q->lanes) * sizeof(REAL));
}

static void FN(end_forward)(const struct rnn_task *t, const struct shape *q, const struct FN(pass) * p) {
  const int64_t end = q->keeps ? q->steps : 0;
  for (int64_t l = 0; l < q->layers; l++) {
    const struct FN(layer) *layer = p->layers + l;
    FN(store_state)(q, t->h, l, t->rows, p->row, p->num_rows, layer->slots + end * layer->slot);
    FN(store_state)(q, t->c, l, t->rows, p->row, p->num_rows, layer->cells + end * layer->cells_step);
  }
}

static void FN(forward)(const struct rnn_task *t, const struct shape *q, const REAL *weights, int64_t team,
                        const struct unit *units) {
  const int64_t T = q->steps, O = t->feedback == RNN_FREE ? 0 : q->outputs;
  const REAL *readout = weights + sum_of(q->weights, q->layers);
  struct FN(layer) layers[team][q->layers];
  struct FN(pass) passes[team];
  for (int64_t b = 0; b < team; b++) {
    passes[b] = FN(pass_of)(t, q, weights, units + b, layers[b]);
    FN(begin_forward)(t, q, passes + b);
  }
  for (int64_t t0 = 0; t0 < T; t0 += q->chunk) {
    const int64_t steps = T - t0 < q->chunk ? T - t0 : q->chunk, slot = q->keeps ? t0 : 0;
    for (int64_t b = 0; b < team; b++) FN(load_inputs)(t, q, passes + b, t0, steps, slot);
    for (int64_t i = 0; i < steps; i++) {
      for (int64_t b = 0; b < team; b++) FN(begin_step)(t, q, readout, passes + b, i, slot + i, t0 + i);
      FN(advance)(q, team, passes, slot + i, t0 + i);
      for (int64_t b = 0; b < team && O && t0 + i >= t->first; b++)
        FN(product)(q->lanes, O, q->hidden + 1, readout, passes[b].top->slots + (slot + i + 1) * passes[b].top->slot,
                    passes[b].out + i * q->out_step, 0);
    }
    for (int64_t b = 0; b < team; b++) FN(end_chunk)(t, q, passes + b, t0, steps, slot);
  }
  for (int64_t b = 0; b < team; b++) FN(end_forward)(t, q, passes + b);
}

/* ---- Backward ---- */

/* All layers of a team back over one step: from the gradients of the state after it to those of the state
   before it; the i-th step of a chunk. */
static void FN(retreat)(const struct shape *q, int64_t team, const struct FN(pass) * passes, int64_t i,
                        int64_t step, int dx_wanted) {
  const int64_t n = q->n, g_layer = q->chunk * q->g_step;
  for (int64_t l = q->layers - 1; l >= 0; l--) {
    REAL *g[TEAM], *dh[TEAM], *below[TEAM];
    const REAL *w = passes->layers[l].weights;
    for (int64_t b = 0; b < team; b++) {
      const struct FN(pass) *p = passes + b;
      const struct FN(layer) *layer = p->layers + l;
      const REAL *s = layer->slots + step * layer->slot, *c = layer->cells + step * layer->cells_step;
      REAL *dc = p->dc + l * n;
      dh[b] = p->dh + l * n, g[b] = p->g + l * g_layer + i * q->g_step;
      below[b] = l > 0 ? dh[b] - n : p->dx + i * q->in_step;
      if (step < p->last) {
        FN(silence)(q, p->begin, p->num_rows, step, dh[b]);
        FN(silence)(q, p->begin, p->num_rows, step, dc);
      }
      FN(cell_backward)(q->cell, n, layer->gates + step * layer->gates_step, s, s + layer->slot, c,
                        c + layer->cells_step, dh[b], dc, g[b]);
    }
    w = FN(back)(q, q->hidden, first_h_gate(q), q->gates, w, team, g, dh, q->cell == RNN_GRU);
    if (l > 0 || dx_wanted) FN(back)(q, q->inputs[l > 0], 0, last_x_gate(q), w, team, g, below, l > 0);
  }
}

/* Add the weight gradients of a chunk of steps. */
static void FN(accumulate)(const struct shape *q, const struct FN(pass) * pass, int64_t t0, int64_t steps) {
  const int64_t g_layer = q->chunk * q->g_step;
  for (int64_t l = 0; l < q->layers; l++) {
    const int64_t kind = l > 0, length = q->length[kind];
    const struct FN(layer) *layer = pass->layers + l;
    struct piece pieces[3];
    const int count = pieces_of(q->cell, q->inputs[kind], pieces);
    for (const struct piece *p = pieces; p < pieces + count; p++) {
      const REAL *s = layer->slots + t0 * layer->slot + (p->h ? 0 : q->one);
      REAL *to = pass->dw + sum_of(q->gradients, l) + p->gate * q->padded * length + (p->h ? 0 : q->hidden);
      FN(gradient)(q->lanes, p->gates * q->padded, p->h * q->hidden + p->x, steps,
                   pass->g + l * g_layer + p->gate * q->n, q->g_step, s, layer->slot, to, length);
    }
  }
}

static void FN(add)(int64_t n, const REAL *x, REAL *to) {
  for (int64_t i = 0; i < n; i++) to[i] += x[i];
}

/* The gradients of the outputs of a step, the i-th of a chunk, reach the state after it; in a free run, where
   the value of a step is its output and, with what is known of it, its input, that before it. */
static void FN(reach)(const struct shape *q, const REAL *readout, const struct FN(pass) * p, int64_t i,
                      int has_output, int free) {
  REAL *dx = p->dx + i * q->in_step, *dy = p->dy + i * q->out_step, *d_top = p->dh + (q->layers - 1) * q->n;
  if (free && has_output) FN(add)(q->outputs * q->lanes, dy, dx);
  if (free) FN(product)(q->lanes, q->hidden, q->outputs, readout, dx, d_top, 1);
  else if (has_output && q->outputs) FN(product)(q->lanes, q->hidden, q->outputs, readout, dy, d_top, 1);
  else if (has_output) FN(add)(q->hidden * q->lanes, dy, d_top);
}

/* The weight gradients of the readout of a chunk; those of the first `skip` steps have no output. */
static void FN(accumulate_readout)(const struct shape *q, const struct FN(pass) * p, int64_t t0,
                                   int64_t skip, int64_t steps, int free) {
  REAL *to = p->dw + sum_of(q->gradients, q->layers);
  const int64_t from = free ? 0 : skip, slot = p->top->slot;
  if (q->outputs && from < steps)
    FN(gradient)(q->lanes, q->outputs, q->hidden + 1, steps - from,
                 free ? p->dx : p->dy + skip * q->out_step, free ? q->in_step : q->out_step,
                 p->top->slots + (t0 + from + !free) * slot, slot, to, q->padded + RB);
}

static void FN(backward)(const struct rnn_task *t, const struct shape *q, const REAL *weights, int64_t team,
                         const struct unit *units) {
  const int64_t T = q->steps, F = q->inputs[0], L = q->layers, first = t->first, free = t->feedback == RNN_FREE;
  const int64_t width = q->outputs ? q->outputs : q->hidden;
  const REAL *readout = weights + sum_of(q->weights, L);
  struct FN(layer) layers[team][L];
  struct FN(pass) passes[team], *end_pass = passes + team;
  for (int64_t b = 0; b < team; b++) passes[b] = FN(pass_of)(t, q, weights, units + b, layers[b]);
  for (struct FN(pass) *p = passes; p < end_pass; p++)
    for (int64_t l = 0; l < L; l++) {
      FN(load_state)(q, t->dh, l, t->rows, p->row, p->num_rows, p->dh + l * q->n);
      FN(load_state)(q, t->dc, l, t->rows, p->row, p->num_rows, p->dc + l * q->n);
    }
  for (int64_t end = T, t0; end > 0; end = t0) {
    const int64_t steps = end < q->chunk ? end : q->chunk;
    t0 = end - steps;
    const int64_t skip = !t->dy || first >= end ? steps
                         : first <= t0          ? 0
                                                : first - t0; /* steps without an output */
    for (struct FN(pass) *p = passes; p < end_pass && skip < steps; p++)
      FN(load)(q, (const REAL *)t->dy + (p->row * (T - first) + t0 + skip - first) * width,
               (T - first) * width, p->num_rows, steps - skip, width, p->dy + skip * q->out_step, q->out_step);
    for (int64_t i = steps - 1; i >= 0; i--) {
      for (struct FN(pass) *p = passes; p < end_pass && !free; p++) FN(reach)(q, readout, p, i, i >= skip, 0);
      FN(retreat)(q, team, passes, i, t0 + i, t->dx || free);
      for (struct FN(pass) *p = passes; p < end_pass && free; p++) FN(reach)(q, readout, p, i, i >= skip, 1);
    }
    for (struct FN(pass) *p = passes; p < end_pass; p++) {
      FN(accumulate)(q, p, t0, steps);
      FN(accumulate_readout)(q, p, t0, skip, steps, free);
      if (t->dx)
        FN(store)(q, (REAL *)t->dx + (p->row * T + t0) * F, T * F, p->num_rows, steps, F, p->dx, q->in_step);
    }
  }
  for (struct FN(pass) *p = passes; p < end_pass; p++)
    for (int64_t l = 0; l < L; l++) {
      FN(store_state)(q, t->dh0, l, t->rows, p->row, p->num_rows, p->dh + l * q->n);
      FN(store_state)(q, t->dc0, l, t->rows, p->row, p->num_rows, p->dc + l * q->n);
    }
}

/* Add the weight gradients of some units of work to those of the caller. */
static void FN(collect)(const struct rnn_task *t, const struct shape *q, const REAL *dw) {
  const int64_t H = q->hidden, P = q->padded;
  REAL *const *to = (REAL *const *)t->dweights;
  for (int64_t l = 0; l < q->layers; l++, to += 4) {
    const REAL *m = dw + sum_of(q->gradients, l);
    const int64_t F = q->inputs[l > 0];
    for (int64_t gate = 0; gate < q->gates; gate++)
      for (int64_t j = 0; j < H; j++) {
        const REAL *from = m + (gate * P + j) * q->length[l > 0];
        const int64_t row = gate_of_torch(q, gate) * H + j;
        if (gate < last_x_gate(q)) FN(add)(F, from + H + 1, to[0] + row * F), to[2][row] += from[H];
        if (gate >= first_h_gate(q)) FN(add)(H, from, to[1] + row * H), to[3][row] += from[H];
      }
  }
  const REAL *m = dw + sum_of(q->gradients, q->layers);
  for (int64_t o = 0; o < q->outputs; o++, m += P + RB) FN(add)(H, m, to[0] + o * H), to[1][o] += m[H];
}
