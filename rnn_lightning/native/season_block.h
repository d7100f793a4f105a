/* The seasonal network over a block of rows, forward and backward, for one instruction set. */

/* ---- Weights ---- */

/* Rows of a matrix [row][h | differences | 1 | even features | covariates] from those of torch.nn, of which
   the second array has the hidden units first if there is one, and the inputs have them if there is none. */
static void FN(gather_rows)(int64_t rows, int64_t hidden, int64_t differences, int64_t inputs,
                            const float *w_input, const float *w_hidden, const float *b, const float *b_too,
                            float *to) {
  for (int64_t j = 0; j < rows; j++) {
    const float *x = w_input + j * (w_hidden ? inputs : hidden + inputs) + (w_hidden ? 0 : hidden);
    memcpy(to, w_hidden ? w_hidden + j * hidden : x - hidden, hidden * sizeof *to);
    memcpy(to + hidden, x, differences * sizeof *to);
    to[hidden + differences] = b[j] + (b_too ? b_too[j] : 0);
    memcpy(to + hidden + differences + 1, x + differences, (inputs - differences) * sizeof *to);
    to += hidden + inputs + 1;
  }
}

/* Pack the weights of a pass; the first half of `packed` is room for the matrices. */
static void FN(season_prepare)(const struct seasonal_task *k, const struct season_shape *q, int backward,
                               float *packed) {
  const int64_t H = q->hidden, D = q->differences, E = q->even, C = q->covariates, N = q->head, G = q->gates;
  const float *const *w = k->weights;
  float *lstm = packed, *inner = lstm + 4 * H * q->lstm, *out = inner + N * q->inner,
        *to = packed + q->weights / 2;
  FN(gather_rows)(4 * H, H, D, q->lstm - H - 1, w[0], w[1], w[2], w[3], lstm);
  FN(gather_rows)(N, H, D, q->inner - H - 1, w[4], 0, w[5], 0, inner);
  for (int64_t g = 0; g < G; g++) {
    memcpy(out + g * q->out, w[6] + g * N, N * sizeof *to);
    out[g * q->out + N] = w[7][g];
  }
  if (!backward) {
    to = FN(pack)(BLOCK, q->sums, q->quantities, k->sums, q->quantities, 1, to);
    to = FN(pack_mirrored)(4 * H, D, E + C, H, lstm, q->lstm, to);
    to = FN(pack_mirrored)(N, D, E, H, inner, q->inner, to);
    FN(pack)(BLOCK, G, q->out, out, q->out, 1, to);
    return;
  }
  to = FN(pack)(BLOCK, N, G, out, 1, q->out, to);
  to = FN(pack)(BLOCK, H, N, inner, 1, q->inner, to);
  to = FN(pack)(BLOCK, H, 4 * H, lstm, 1, q->lstm, to);
  if (!k->continues) return;
  to = FN(pack)(BLOCK, q->quantities, q->sums, k->sums, 1, q->quantities, to);
  to = FN(pack)(BLOCK, D, N, inner + H, 1, q->inner, to);
  to = FN(pack)(BLOCK, D, 4 * H, lstm + H, 1, q->lstm, to);
  to = FN(pack)(BLOCK, q->forecasts, N, inner + H + D + 1, 1, q->inner, to);
  FN(pack)(BLOCK, q->forecasts, 4 * H, lstm + H + D + 1, 1, q->lstm, to);
}

/* ---- Forward ---- */

/* The LSTM and the gates of a step, from its slot; `weights` are those behind the sums of quantities. */
static void FN(step_network)(const struct season_shape *q, const float *w, float *memory, int64_t t,
                             int whole, float *scratch) {
  const int64_t H = q->hidden, n = H * BLOCK, N = q->head * BLOCK, G = q->gates * BLOCK;
  const float *slot = OF(SLOTS, t), *x = slot + 2 * n, *even = x + q->differences * BLOCK,
              *age = OF(AGES, t + 1);
  float *next = OF(SLOTS, t + 1), *lstm = OF(LSTM, t + 1), *inner = OF(INNER, t + 1), *z = scratch;
  w = FN(mirrored_product)(4 * H, q->differences, q->even + q->covariates, H, w, x, even, slot, slot + n,
                           lstm, lstm + 4 * n);
  for (int s = 0; s < 2; s++)
    FN(cell_forward)(RNN_LSTM, n, lstm + s * 4 * n, 0, next + s * n, OF(CELLS, t) + s * n,
                     OF(CELLS, t + 1) + s * n);
  float *cells = OF(CELLS, t + 1);
  for (int64_t i = 0; !whole && i < 2 * n; i++)
    if (age[i % BLOCK] < 0) next[i] = cells[i] = 0;
  w = FN(mirrored_product)(q->head, q->differences, q->even, H, w, x, even, next, next + n, inner, inner + N);
  LANE(i) z[N + i] = 1;
  for (int s = 0; s < 2; s++) {
    const float *a = inner + s * N;
    for (int64_t i = 0; i < N; i += VL) ST(z + i, LD(a + i) * FN(sigmoid)(LD(a + i)));
    FN(product)(BLOCK, q->gates, q->out, w, z, OF(GATES, t + 1) + s * G, 0);
  }
}

/* The first step of a block: where the first of the rows begins, or the first if there is a state. */
static int64_t FN(first_step)(const struct seasonal_task *k, int64_t row, int64_t num_rows) {
  int64_t first = k->continues ? 0 : k->steps;
  for (int64_t i = row; i < row + num_rows; i++)
    for (int64_t t = 0; t < first; t++)
      if (k->x[i * k->steps + t] == k->x[i * k->steps + t]) first = t;
  return first;
}

static void FN(begin)(const struct seasonal_task *k, const struct season_shape *q, float *memory,
                      int64_t first, int64_t row, int64_t num_rows) {
  for (int f = 0; f < NUM_FIELDS; f++) {
    const int64_t before = f == PROFILES || f == COUNTS  ? q->season
                           : f >= VALUES && f < PROFILES ? q->kept
                                                         : 1;
    float *from = f >= VALUES && f <= COUNTS ? OF(f, 0) : OF(f, first);
    const int64_t steps = f >= VALUES && f <= COUNTS ? before + first : 1;
    memset(from, 0, steps * q->memory.size[f] * BLOCK * sizeof *from);
  }
  float *age = OF(AGES, first), *prediction = OF(PREDICTION, 0);
  if (k->state) transfer(q, &q->memory, memory, first, (float *)k->state + row * q->state, num_rows, 0);
  LANE(i) if (!k->state || i >= num_rows) age[i] = -1, prediction[i] = NAN;
}

static void FN(season_forward)(const struct seasonal_task *k, const struct season_shape *q, const float *w,
                               int64_t row, int64_t num_rows, float *memory, float *scratch) {
  const int64_t T = q->steps, first = FN(first_step)(k, row, num_rows);
  const float *network = w + q->sums * q->quantities, *prediction = OF(PREDICTION, 0);
  float given[BLOCK], taken[BLOCK];
  struct FN(clock) now;
  for (int64_t i = row; i < row + num_rows; i++)
    for (int64_t t = 0; t < first; t++) k->predictions[i * T + t] = 0, k->values[i * T + t] = NAN;
  FN(begin)(k, q, memory, first, row, num_rows);
  FN(start_totals)(q, memory, first, &now);
  for (int64_t t = first; t < T; t++) {
    LANE(i) given[i] = i < num_rows ? k->x[(row + i) * T + t] : NAN;
    FN(take)(k, q, memory, t, given, taken, &now);
    FN(push)(k, q, w, memory, t, &now);
    FN(write_features)(k, q, memory, t, row, num_rows);
    int whole = 1;
    LANE(i) whole &= now.begun[i] > 0;
    FN(step_network)(q, network, memory, t, whole, scratch);
    FN(predict)(k, q, memory, t);
    for (int64_t i = 0; i < num_rows; i++) {
      k->predictions[(row + i) * T + t] = !k->continues && now.begun[i] == 0 ? 0 : prediction[i];
      k->values[(row + i) * T + t] = taken[i];
    }
  }
  transfer(q, &q->memory, memory, T, k->after + row * q->state, num_rows, 1);
}

/* ---- Backward ---- */

/* What the backward pass of a chunk of steps keeps for the weight gradients: numbers of a step. */
struct FN(chunk) {
  float *lstm, *lstm_both, *inner, *inner_both, *z, *gates; /* both: the differences and the sums */
};

static int64_t FN(chunk_numbers)(const struct season_shape *q) {
  return q->chunk * BLOCK * (16 * q->hidden + 4 * q->head + 2 * q->out + 2 * q->gates);
}

static struct FN(chunk) FN(chunk_of)(const struct season_shape *q, float *work) {
  const int64_t n = q->chunk * BLOCK;
  struct FN(chunk) c = {.lstm = work};
  c.lstm_both = c.lstm + 8 * q->hidden * n;
  c.inner = c.lstm_both + 8 * q->hidden * n;
  c.inner_both = c.inner + 2 * q->head * n;
  c.z = c.inner_both + 2 * q->head * n;
  c.gates = c.z + 2 * q->out * n;
  return c;
}

/* Gradients of rows and of their negatives, as the differences and the sums that features see. */
static void FN(split_signs)(int64_t n, const float *d, float *both) {
  for (int64_t i = 0; i < n; i += VL) {
    const V rows = LD(d + i), negatives = LD(d + n + i);
    ST(both + i, rows - negatives), ST(both + n + i, rows + negatives);
  }
}

/* Back over the network of a step, from the gradient of its prediction to those of the state before it, and
   of the features of a step whose values are no constants. */
static void FN(back_network)(const struct seasonal_task *k, const struct season_shape *q, const float *w,
                             const float *memory, float *adjoint, int64_t t, int64_t step,
                             const struct FN(chunk) * c, float *d_features) {
  const int64_t H = q->hidden, n = H * BLOCK, N = q->head * BLOCK, G = q->gates * BLOCK, moves = k->continues;
  const float *quantity = OF(QUANTITIES, t + 1), *gates = OF(GATES, t + 1), *a = OF(INNER, t + 1);
  const float *age = OF(AGES, t + 1);
  float *dh = TO(SLOTS, 0), *dc = TO(CELLS, 0), *d = TO(PREDICTION, 0),
        *d_quantity = moves ? TO(QUANTITIES, 0) : 0;
  float *lstm = c->lstm + step * 8 * n, *lstm_both = c->lstm_both + step * 8 * n;
  float *inner = c->inner + step * 2 * N, *inner_both = c->inner_both + step * 2 * N;
  float *z = c->z + step * 2 * (N + BLOCK), *d_gates = c->gates + step * 2 * G;
  for (int64_t i = 0; i < BLOCK; i += VL)
    for (int s = 0; s < 2; s++)
      FN(back_mix)(k, q, quantity + i, gates + s * G + i, s, LD(d + i), d_gates + s * G + i,
                   d_quantity ? d_quantity + i : 0);
  for (int s = 0; s < 2; s++) {
    float *d_inner = inner + s * N, *z_s = z + s * (N + BLOCK);
    FN(product)(BLOCK, q->head, q->gates, w, d_gates + s * G, d_inner, 0);
    for (int64_t i = 0; i < N; i += VL) {
      const V x = LD(a + s * N + i), sigmoid = FN(sigmoid)(x);
      ST(z_s + i, x * sigmoid), ST(d_inner + i, LD(d_inner + i) * sigmoid * (1 + x * (1 - sigmoid)));
    }
    LANE(i) z_s[N + i] = 1;
    FN(product)(BLOCK, H, q->head, w + q->head * q->gates, d_inner, dh + s * n, 1);
  }
  w += q->head * (q->gates + H);
  for (int64_t i = 0; i < 2 * n; i++)
    if (age[i % BLOCK] < 0) dh[i] = dc[i] = 0;
  for (int s = 0; s < 2; s++) {
    FN(cell_backward)(RNN_LSTM, n, OF(LSTM, t + 1) + s * 4 * n, 0, 0, OF(CELLS, t) + s * n,
                      OF(CELLS, t + 1) + s * n, dh + s * n, dc + s * n, lstm + s * 4 * n);
    FN(product)(BLOCK, H, 4 * H, w, lstm + s * 4 * n, dh + s * n, 0);
  }
  FN(split_signs)(N, inner, inner_both);
  FN(split_signs)(4 * n, lstm, lstm_both);
  if (!moves) return;
  w += 4 * H * H + q->sums * q->quantities;
  w = FN(product)(BLOCK, q->differences, q->head, w, inner_both, d_features, 0);
  w = FN(product)(BLOCK, q->differences, 4 * H, w, lstm_both, d_features, 1);
  d_features += q->differences * BLOCK;
  w = FN(product)(BLOCK, q->forecasts, q->head, w, inner_both + N, d_features, 0);
  FN(product)(BLOCK, q->forecasts, 4 * H, w, lstm_both + 4 * n, d_features, 1);
}

/* Add the weight gradients of a chunk of steps. */
static void FN(add_gradients)(const struct season_shape *q, const float *memory, int64_t t, int64_t steps,
                              const struct FN(chunk) * c, float *dw) {
  const int64_t H = q->hidden, n = H * BLOCK, N = q->head * BLOCK, D = q->differences,
                step = q->memory.step[SLOTS];
  const float *slot = OF(SLOTS, t), *next = OF(SLOTS, t + 1), *x = slot + 2 * n, *even = x + D * BLOCK;
  float *inner = dw + 4 * H * q->lstm, *out = inner + q->head * q->inner;
  for (int s = 0; s < 2; s++) {
    FN(gradient)(BLOCK, 4 * H, H, steps, c->lstm + s * 4 * n, 8 * n, slot + s * n, step, dw, q->lstm);
    FN(gradient)(BLOCK, q->head, H, steps, c->inner + s * N, 2 * N, next + s * n, step, inner, q->inner);
  }
  FN(gradient)(BLOCK, 4 * H, D, steps, c->lstm_both, 8 * n, x, step, dw + H, q->lstm);
  FN(gradient)(BLOCK, 4 * H, q->even + q->covariates, steps, c->lstm_both + 4 * n, 8 * n, even, step,
               dw + H + D, q->lstm);
  FN(gradient)(BLOCK, q->head, D, steps, c->inner_both, 2 * N, x, step, inner + H, q->inner);
  FN(gradient)(BLOCK, q->head, q->even, steps, c->inner_both + N, 2 * N, even, step, inner + H + D, q->inner);
  FN(gradient)(BLOCK, q->gates, q->out, 2 * steps, c->gates, q->gates * BLOCK, c->z, q->out * BLOCK, out,
               q->out);
}

static void FN(season_backward)(const struct seasonal_task *k, const struct season_shape *q, const float *w,
                                int64_t row, int64_t num_rows, float *memory, float *adjoint, float *dw) {
  const int64_t T = q->steps, first = FN(first_step)(k, row, num_rows), moves = k->continues;
  float *work = adjoint + q->adjoint.numbers, *d_features = work, d_total[BLOCK] = {0};
  const struct FN(chunk) chunk = FN(chunk_of)(q, work + q->sums * BLOCK);
  const float *to_quantities = w + q->head * (q->gates + q->hidden) + 4 * q->hidden * q->hidden;
  float *d = TO(PREDICTION, 0), innovations[BLOCK], d_taken[BLOCK];
  struct FN(clock) now;
  memset(adjoint, 0, q->adjoint.numbers * sizeof *adjoint);
  if (k->d_after) transfer(q, &q->adjoint, adjoint, T, (float *)k->d_after + row * q->state, num_rows, 0);
  for (int64_t end = T, t0; end > first; end = t0) {
    t0 = end - first > q->chunk ? end - q->chunk : first;
    for (int64_t t = end - 1; t >= t0; t--) {
      const float *age = OF(AGES, t + 1);
      LANE(i) {
        const int64_t at = (row + i) * T + t;
        d[i] += k->d_predictions && i < num_rows ? k->d_predictions[at] : 0;
        d[i] = age[i] >= 0 ? d[i] : 0;
        innovations[i] = i < num_rows ? k->x[at] : 0;
        d_taken[i] = k->d_values && i < num_rows ? k->d_values[at] : 0;
      }
      if (moves) memset(TO(QUANTITIES, 0), 0, q->quantities * BLOCK * sizeof *adjoint);
      FN(back_network)(k, q, w, memory, adjoint, t, t - t0, &chunk, d_features);
      LANE(i) d[i] = 0;
      if (!moves) continue;
      FN(back_features)(q, memory, adjoint, t, d_features, d_features + q->differences * BLOCK);
      FN(product)(BLOCK, q->quantities, q->sums, to_quantities, TO(SUMS, 0), TO(QUANTITIES, 0), 1);
      FN(pull)(k, q, memory, adjoint, t, innovations, d_taken, d_total, &now);
    }
    FN(add_gradients)(q, memory, t0, end - t0, &chunk, dw);
  }
  if (moves) FN(pull_totals)(q, adjoint, d_total);
  if (k->d_state) transfer(q, &q->adjoint, adjoint, first, k->d_state + row * q->state, num_rows, 1);
}

/* Add the weight gradients of some blocks to those of the caller. */
static void FN(season_collect)(const struct seasonal_task *k, const struct season_shape *q, const float *dw) {
  const int64_t H = q->hidden, D = q->differences, N = q->head;
  float *const *to = k->d_weights;
  for (int part = 0; part < 2; part++) {
    const int64_t rows = part ? N : 4 * H, inputs = (part ? q->inner : q->lstm) - H - 1, apart = part ? H : 0;
    for (int64_t j = 0; j < rows; j++, dw += H + inputs + 1) {
      float *hidden = part ? to[4] + j * (H + inputs) : to[1] + j * H;
      float *x = part ? hidden + apart : to[0] + j * inputs;
      for (int64_t i = 0; i < H; i++) hidden[i] += dw[i];
      for (int64_t i = 0; i < inputs; i++) x[i] += dw[H + i + (i >= D)];
      to[part ? 5 : 2][j] += dw[H + D];
      if (!part) to[3][j] += dw[H + D];
    }
  }
  for (int64_t g = 0; g < q->gates; g++, dw += q->out) {
    for (int64_t i = 0; i < N; i++) to[6][g * N + i] += dw[i];
    to[7][g] += dw[N];
  }
}
