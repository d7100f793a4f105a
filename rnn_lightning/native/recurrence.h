/* The recurrence of one unit of work, forward and backward, for one instruction set and number type. */

/* ---- Weights ---- */

/* A layer's weights as one matrix [gate][unit][h | 1 | x], without rows for the units that only fill up. */
static void FN(gather)(const struct rnn_task *t, const struct shape *q, int64_t l, int has_bias, REAL *m) {
  const REAL *const *w = (const REAL *const *)t->weights + 4 * l;
  const int64_t H = q->hidden, F = q->inputs[l > 0], K = H + 1 + F;
  memset(m, 0, q->gates * q->padded * K * sizeof *m);
  for (int64_t gate = 0; gate < q->gates; gate++)
    for (int64_t j = 0; j < H; j++) {
      const int64_t row = gate_of_torch(q, gate) * H + j;
      const int h = gate >= first_h_gate(q), x = gate < last_x_gate(q);
      REAL *to = m + (gate * q->padded + j) * K;
      if (h) memcpy(to, w[1] + row * H, H * sizeof *m);
      if (has_bias) to[H] = (x ? w[2][row] : 0) + (h ? w[3][row] : 0);
      if (x) memcpy(to + H + 1, w[0] + row * F, F * sizeof *m);
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
                            const REAL *g, REAL *out, int add) {
  const int64_t H = q->hidden;
  if (q->lanes > 1) {
    FN(block_product)(J, (last - first) * H, w, g + first * q->n, out, add);
    return w + (last - first) * H * J;
  }
  for (int64_t gate = first; gate < last; gate++, w += H * ROUND(J))
    FN(row_product)(J, H, w, g + gate * q->n, out, add || gate > first);
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
    REAL *slots = memory + sum_of(q->memory, l), *gates = slots + q->slots * slot + SLACK(RB);
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

/* All layers over one step, from its slots to the beginning of the next ones. */
static void FN(advance)(const struct shape *q, const struct FN(layer) * layers, int64_t slot,
                        int64_t kept_step, const int64_t *begin, int64_t num_rows, int64_t step, REAL *sums) {
  const int64_t n = q->n;
  for (int64_t l = 0; l < q->layers; l++) {
    const struct FN(layer) *layer = layers + l;
    const REAL *s = layer->slots + slot * layer->slot, *w = layer->weights;
    REAL *h = layer->slots + (slot + 1) * layer->slot, *c = layer->cells + kept_step * layer->cells_step;
    REAL *a = q->kept ? layer->gates + kept_step * layer->gates_step : sums;
    struct piece pieces[3];
    const int count = pieces_of(q->cell, q->inputs[layer->kind], pieces);
    for (const struct piece *p = pieces; p < pieces + count; p++)
      w = FN(product)(q->lanes, p->gates * q->padded, p->h * q->hidden + p->x, w, s + (p->h ? 0 : q->one),
                      a + p->gate * n, 0);
    FN(cell_forward)(q->cell, n, a, s, h, c, c + layer->cells_step);
    if (begin) {
      FN(silence)(q, begin, num_rows, step, h);
      if (q->cell == RNN_LSTM) FN(silence)(q, begin, num_rows, step, c + layer->cells_step);
    }
    for (int64_t i = 0; i < q->lanes; i++) h[q->one + i] = 1;
    if (l + 1 < q->layers) /* the input of the layer above */
      memcpy(layers[l + 1].slots + slot * layers[l + 1].slot + q->one + q->lanes, h, q->one * sizeof *h);
  }
}

static void FN(forward)(const struct rnn_task *t, const struct shape *q, const REAL *weights, int64_t row,
                        int64_t num_rows, REAL *memory, REAL *work) {
  const int64_t T = q->steps, F = q->inputs[0], O = q->outputs, H = q->hidden, first = t->first;
  const int64_t width = O ? O : H, free = t->feedback == RNN_FREE, *begin = t->begin ? t->begin + row : 0;
  const REAL *x = (const REAL *)t->x + row * T * F, *readout = weights + sum_of(q->weights, q->layers);
  REAL *out = work, *sums = out + (q->chunk + 1) * q->out_step;
  struct FN(layer) layers[q->layers];
  FN(layers_of)(q, weights, memory, layers);
  const struct FN(layer) *top = layers + q->layers - 1;
  for (int64_t l = 0; l < q->layers; l++) {
    FN(load_state)(q, t->h0, l, t->rows, row, num_rows, layers[l].slots);
    if (q->cell == RNN_LSTM) FN(load_state)(q, t->c0, l, t->rows, row, num_rows, layers[l].cells);
    for (int64_t i = 0; i < q->lanes; i++) layers[l].slots[q->one + i] = 1;
  }
  const int64_t last = latest(begin, num_rows);
  for (int64_t t0 = 0; t0 < T; t0 += q->chunk) {
    const int64_t steps = T - t0 < q->chunk ? T - t0 : q->chunk, slot = q->keeps ? t0 : 0;
    REAL *inputs = layers[0].slots + slot * layers[0].slot + q->one + q->lanes;
    if (q->lanes > 1) FN(load)(q, x + t0 * F, T * F, num_rows, steps, F, inputs, layers[0].slot);
    for (int64_t i = 0; i < steps; i++) {
      if (q->lanes == 1) FN(load)(q, x + (t0 + i) * F, F, 1, 1, F, inputs + i * layers[0].slot, 0);
      if (t->feedback)
        FN(feed)(t, q, readout, top->slots + (slot + i) * top->slot, inputs + i * layers[0].slot,
                 out + q->chunk * q->out_step);
      FN(advance)(q, layers, slot + i, t0 + i, t0 + i < last ? begin : 0, num_rows, t0 + i, sums);
      if (O && !free && t0 + i >= first)
        FN(product)(q->lanes, O, H + 1, readout, top->slots + (slot + i + 1) * top->slot,
                    out + i * q->out_step, 0);
    }
    const int64_t skip = first <= t0 ? 0 : first - t0 < steps ? first - t0 : steps;
    if (skip < steps) {
      REAL *to = (REAL *)t->y + (row * (T - first) + t0 + skip - first) * width;
      const REAL *from = top->slots + (slot + skip + 1) * top->slot;
      int64_t apart = top->slot;
      if (free) from = inputs, apart = layers[0].slot;
      else if (O) from = out + skip * q->out_step, apart = q->out_step;
      FN(store)(q, to, (T - first) * width, num_rows, steps - skip, width, from, apart);
    }
    if (t->filled)
      FN(store)(q, (REAL *)t->filled + (row * T + t0) * O, T * O, num_rows, steps, O, inputs, layers[0].slot);
    for (int64_t l = 0; l < q->layers && !q->keeps; l++)
      memcpy(layers[l].slots, layers[l].slots + steps * layers[l].slot, (q->one + q->lanes) * sizeof *work);
  }
  for (int64_t l = 0; l < q->layers; l++) {
    const int64_t end = q->keeps ? T : 0;
    FN(store_state)(q, t->h, l, t->rows, row, num_rows, layers[l].slots + end * layers[l].slot);
    FN(store_state)(q, t->c, l, t->rows, row, num_rows, layers[l].cells + end * layers[l].cells_step);
  }
}

/* ---- Backward ---- */

/* All layers back over one step: from the gradients of the state after it to those of the state before it. */
static void FN(retreat)(const struct shape *q, const struct FN(layer) * layers, int64_t step,
                        const int64_t *begin, int64_t num_rows, REAL *dh, REAL *dc, REAL *g, int64_t g_layer,
                        REAL *dx) {
  const int64_t n = q->n;
  for (int64_t l = q->layers - 1; l >= 0; l--) {
    const struct FN(layer) *layer = layers + l;
    const REAL *s = layer->slots + step * layer->slot, *h = s + layer->slot, *w = layer->weights;
    const REAL *c = layer->cells + step * layer->cells_step;
    REAL *dh_l = dh + l * n, *dc_l = dc + l * n, *g_l = g + l * g_layer;
    if (begin) FN(silence)(q, begin, num_rows, step, dh_l), FN(silence)(q, begin, num_rows, step, dc_l);
    FN(cell_backward)(q->cell, n, layer->gates + step * layer->gates_step, s, h, c, c + layer->cells_step,
                      dh_l, dc_l, g_l);
    w = FN(back)(q, q->hidden, first_h_gate(q), q->gates, w, g_l, dh_l, q->cell == RNN_GRU);
    if (l > 0) FN(back)(q, q->hidden, 0, last_x_gate(q), w, g_l, dh_l - n, 1);
    else if (dx) FN(back)(q, q->inputs[0], 0, last_x_gate(q), w, g_l, dx, 0);
  }
}

/* Add the weight gradients of a chunk of steps. */
static void FN(accumulate)(const struct shape *q, const struct FN(layer) * layers, int64_t t0, int64_t steps,
                           const REAL *g, int64_t g_layer, REAL *dw) {
  const int64_t g_step = q->gates * q->n;
  for (int64_t l = 0; l < q->layers; l++) {
    const int64_t kind = layers[l].kind, length = q->length[kind];
    struct piece pieces[3];
    const int count = pieces_of(q->cell, q->inputs[kind], pieces);
    for (const struct piece *p = pieces; p < pieces + count; p++) {
      const REAL *s = layers[l].slots + t0 * layers[l].slot + (p->h ? 0 : q->one);
      REAL *to = dw + sum_of(q->gradients, l) + p->gate * q->padded * length + (p->h ? 0 : q->hidden);
      FN(gradient)(q->lanes, p->gates * q->padded, p->h * q->hidden + p->x, steps,
                   g + l * g_layer + p->gate * q->n, g_step, s, layers[l].slot, to, length);
    }
  }
}

static void FN(add)(int64_t n, const REAL *x, REAL *to) {
  for (int64_t i = 0; i < n; i++) to[i] += x[i];
}

static void FN(backward)(const struct rnn_task *t, const struct shape *q, const REAL *weights, int64_t row,
                         int64_t num_rows, REAL *memory, REAL *work, REAL *dw) {
  const int64_t n = q->n, T = q->steps, F = q->inputs[0], O = q->outputs, H = q->hidden, L = q->layers,
                first = t->first;
  const int64_t width = O ? O : H, free = t->feedback == RNN_FREE, *begin = t->begin ? t->begin + row : 0;
  const REAL *readout = weights + sum_of(q->weights, L);
  const int64_t g_step = q->gates * n, g_layer = q->chunk * g_step + SLACK(RB);
  REAL *dh = work, *dc = dh + L * n, *dy = dc + L * n, *dx = dy + q->chunk * q->out_step,
       *g = dx + q->chunk * q->in_step;
  REAL *d_readout = dw + sum_of(q->gradients, L), *d_top = dh + (L - 1) * n;
  struct FN(layer) layers[L];
  FN(layers_of)(q, weights, memory, layers);
  const struct FN(layer) *top = layers + L - 1;
  for (int64_t l = 0; l < L; l++) {
    FN(load_state)(q, t->dh, l, t->rows, row, num_rows, dh + l * n);
    FN(load_state)(q, t->dc, l, t->rows, row, num_rows, dc + l * n);
  }
  const int64_t last = latest(begin, num_rows);
  for (int64_t end = T, t0; end > 0; end = t0) {
    const int64_t steps = end < q->chunk ? end : q->chunk;
    t0 = end - steps;
    const int64_t skip = !t->dy || first >= end ? steps
                         : first <= t0          ? 0
                                                : first - t0; /* steps without an output */
    if (skip < steps)
      FN(load)(q, (const REAL *)t->dy + (row * (T - first) + t0 + skip - first) * width, (T - first) * width,
               num_rows, steps - skip, width, dy + skip * q->out_step, q->out_step);
    for (int64_t i = steps - 1; i >= 0; i--) {
      REAL *dx_i = t->dx || free ? dx + i * q->in_step : 0, *dy_i = dy + i * q->out_step;
      if (i >= skip && !free) {
        if (O) FN(product)(q->lanes, H, O, readout, dy_i, d_top, 1);
        else FN(add)(H * q->lanes, dy_i, d_top);
      }
      FN(retreat)(q, layers, t0 + i, t0 + i < last ? begin : 0, num_rows, dh, dc, g + i * g_step, g_layer,
                  dx_i);
      if (free) { /* the value of the step is its output and, with what is known of it, its input */
        if (i >= skip) FN(add)(O * q->lanes, dy_i, dx_i);
        FN(product)(q->lanes, H, O, readout, dx_i, d_top, 1);
      }
    }
    FN(accumulate)(q, layers, t0, steps, g, g_layer, dw);
    if (free)
      FN(gradient)(q->lanes, O, H + 1, steps, dx, q->in_step, top->slots + t0 * top->slot, top->slot,
                   d_readout, q->padded + RB);
    else if (O && skip < steps)
      FN(gradient)(q->lanes, O, H + 1, steps - skip, dy + skip * q->out_step, q->out_step,
                   top->slots + (t0 + skip + 1) * top->slot, top->slot, d_readout, q->padded + RB);
    if (t->dx) FN(store)(q, (REAL *)t->dx + (row * T + t0) * F, T * F, num_rows, steps, F, dx, q->in_step);
  }
  for (int64_t l = 0; l < L; l++) {
    FN(store_state)(q, t->dh0, l, t->rows, row, num_rows, dh + l * n);
    FN(store_state)(q, t->dc0, l, t->rows, row, num_rows, dc + l * n);
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
