/* From what is known after a step to the features, and by the gates to a forecast, and back:
   `pretrained/season_features.py` is the definition. */
#define ERROR_FLOOR 0.02f

/* The features of a step in its slot; the differences of the negatives have the other sign. */
static void FN(write_features)(const struct seasonal_task *k, const struct season_shape *q, float *memory,
                               int64_t t, int64_t row, int64_t num_rows) {
  const int64_t D = q->differences * BLOCK, E = q->forecasts * BLOCK, C = q->covariates;
  const float *sums = OF(SUMS, t + 1), *errors = OF(ERRORS, t + 1), *age = OF(AGES, t + 1);
  const float *free = OF(FREE, 0), *count = OF(COUNTS, t + 1 + q->half);
  float *x = OF(SLOTS, t) + 2 * q->hidden * BLOCK, *even = x + D + BLOCK, *counts = even + E;
  for (int64_t i = 0; i < D; i += VL) ST(x + i, FN(asinh)(LD(sums + i)));
  for (int64_t i = 0; i < E; i += VL) ST(even + i, 0.5f * FN(log)(LD(errors + i) + ERROR_FLOOR));
  const float of_season = logf(q->season) / 4;
  float old[BLOCK], since[BLOCK];
  LANE(i) {
    x[D + i] = 1;
    counts[i] = age[i] + 1 >= q->season;
    counts[BLOCK + i] = age[i] + 1 >= 2 * q->season;
    counts[2 * BLOCK + i] = count[i] > 0;
    counts[3 * BLOCK + i] = of_season;
    counts[5 * BLOCK + i] = free[i] > 0;
    old[i] = (age[i] > 0 ? age[i] : 0) + 2;
    since[i] = (free[i] < 60 ? free[i] : 60) + 1;
  }
  for (int64_t i = 0; i < BLOCK; i += VL) {
    ST(counts + 4 * BLOCK + i, FN(log)(LD(old + i)) / 5);
    ST(counts + 6 * BLOCK + i, FN(log)(LD(since + i)) / 3);
  }
  float *next = counts + NUM_COUNTS * BLOCK;
  for (int64_t c = 0; c < C; c++)
    LANE(i) next[c * BLOCK + i] = i < num_rows ? k->next[((row + i) * q->steps + t) * C + c] : 0;
}

/* Numbers of NaN and of others to weights that sum to one, VL lanes of `count` classes. */
static void FN(softmax)(int64_t count, const float *x, float *weights) {
  V most = LD(x), sum = {0};
  for (int64_t j = 1; j < count; j++) most = PICK(LD(x + j * BLOCK) > most, LD(x + j * BLOCK), most);
  for (int64_t j = 0; j < count; j++) {
    const V power = FN(exp)(LD(x + j * BLOCK) - most);
    ST(weights + j * BLOCK, power);
    sum += power;
  }
  for (int64_t j = 0; j < count; j++) ST(weights + j * BLOCK, LD(weights + j * BLOCK) / sum);
}

/* What the gates of VL lanes make of the quantities: the weights of levels, profiles and slopes, in the
   place of the gates, and the rest. */
struct FN(mix) {
  V smooth, seasonal, part, change, free, is_free;
};

static struct FN(mix) FN(mixed)(const struct seasonal_task *k, const struct season_shape *q,
                                const float *quantity, const float *gates, float *weights) {
  const int64_t L = q->mixed_levels, P = q->profiles, S = q->mixed_slopes;
  struct FN(mix) mix = {.smooth = {0}};
  FN(softmax)(L, gates, weights);
  FN(softmax)(P + 1, gates + L * BLOCK, weights + L * BLOCK);
  gates += (L + P + 1) * BLOCK;
  for (int64_t j = 0; j < S; j++)
    ST(weights + (L + P + 1 + j) * BLOCK, FN(sigmoid)(LD(gates + j * BLOCK) - 1.5f));
  for (int64_t j = 0; j < L + P + S; j++)
    mix.smooth += LD(weights + (j + (j >= L)) * BLOCK) * LD(quantity + k->mixed[j] * BLOCK);
  gates += S * BLOCK;
  mix.part = FN(sigmoid)(LD(gates) - 1);
  mix.change = FN(sigmoid)(LD(gates + BLOCK));
  mix.free = LD(gates + 2 * BLOCK);
  mix.is_free = FN(sigmoid)(LD(gates + 3 * BLOCK));
  mix.seasonal =
      LD(quantity + 5 * BLOCK) + mix.change * (LD(quantity + 2 * BLOCK) - LD(quantity + 4 * BLOCK));
  return mix;
}

/* The prediction after a step: the mean of those of the rows and of their negatives, NaN before the first
   value. */
static void FN(predict)(const struct seasonal_task *k, const struct season_shape *q, float *memory,
                        int64_t t) {
  const float *quantity = OF(QUANTITIES, t + 1), *gates = OF(GATES, t + 1), *age = OF(AGES, t + 1);
  float *prediction = OF(PREDICTION, 0), weights[q->gates * BLOCK];
  for (int64_t i = 0; i < BLOCK; i += VL) {
    struct FN(mix) mix[2];
    V sum = {0};
    for (int s = 0; s < 2; s++) {
      mix[s] = FN(mixed)(k, q, quantity + i, gates + s * q->gates * BLOCK + i, weights + i);
      sum += 0.5f * (mix[s].smooth + mix[s].part * (mix[s].seasonal - mix[s].smooth));
    }
    /* The difference of free * is_free, exactly zero where both are alike, whatever is contracted. */
    sum += 0.125f * ((mix[0].free - mix[1].free) * (mix[0].is_free + mix[1].is_free) +
                     (mix[0].free + mix[1].free) * (mix[0].is_free - mix[1].is_free));
    ST(prediction + i, PICK(LD(age + i) >= (V){0}, sum, NUMBER(NAN)));
  }
}

/* ---- Backward ---- */

/* From the gradient of VL lanes of the prediction, to those of the gates of rows or of their negatives, and,
   unless `d_quantity` is none, to those of the quantities. */
static void FN(back_mix)(const struct seasonal_task *k, const struct season_shape *q, const float *quantity,
                         const float *gates, int negative, V d, float *d_gates, float *d_quantity) {
  const int64_t L = q->mixed_levels, P = q->profiles, S = q->mixed_slopes;
  float weights[q->gates * BLOCK];
  const struct FN(mix) mix = FN(mixed)(k, q, quantity, gates, weights);
  const V d_smooth = 0.5f * d * (1 - mix.part), d_seasonal = 0.5f * d * mix.part;
  const V d_free = (negative ? -0.25f : 0.25f) * d;
  V mean_level = {0}, mean_profile = {0};
  for (int64_t j = 0; j < L + P; j++) {
    const V part = LD(weights + (j + (j >= L)) * BLOCK) * LD(quantity + k->mixed[j] * BLOCK);
    if (j < L)
      mean_level += part;
    else
      mean_profile += part;
  }
  ST(d_gates + L * BLOCK, -d_smooth * LD(weights + L * BLOCK) * mean_profile);
  for (int64_t j = 0; j < L + P + S; j++) {
    const int64_t gate = j + (j >= L);
    const V weight = LD(weights + gate * BLOCK), value = LD(quantity + k->mixed[j] * BLOCK);
    V way = weight * (value - (j < L ? mean_level : mean_profile)); /* of a softmax, or of a sigmoid */
    if (j >= L + P) way = value * weight * (1 - weight);
    ST(d_gates + gate * BLOCK, d_smooth * way);
    if (d_quantity)
      ST(d_quantity + k->mixed[j] * BLOCK, LD(d_quantity + k->mixed[j] * BLOCK) + d_smooth * weight);
  }
  d_gates += (L + P + 1 + S) * BLOCK;
  const V changed = LD(quantity + 2 * BLOCK) - LD(quantity + 4 * BLOCK);
  ST(d_gates, 0.5f * d * (mix.seasonal - mix.smooth) * mix.part * (1 - mix.part));
  ST(d_gates + BLOCK, d_seasonal * changed * mix.change * (1 - mix.change));
  ST(d_gates + 2 * BLOCK, d_free * mix.is_free);
  ST(d_gates + 3 * BLOCK, d_free * mix.free * mix.is_free * (1 - mix.is_free));
  if (!d_quantity) return;
  ST(d_quantity + 5 * BLOCK, LD(d_quantity + 5 * BLOCK) + d_seasonal);
  ST(d_quantity + 2 * BLOCK, LD(d_quantity + 2 * BLOCK) + d_seasonal * mix.change);
  ST(d_quantity + 4 * BLOCK, LD(d_quantity + 4 * BLOCK) - d_seasonal * mix.change);
}

/* From the gradients of the features of a step, in `d_differences` and `d_errors`, to those of the sums and
   errors. */
static void FN(back_features)(const struct season_shape *q, const float *memory, float *adjoint, int64_t t,
                              const float *d_differences, const float *d_errors) {
  const float *sums = OF(SUMS, t + 1), *errors = OF(ERRORS, t + 1);
  float *to_sums = TO(SUMS, 0), *to_errors = TO(ERRORS, 0);
  for (int64_t i = 0; i < q->differences * BLOCK; i += VL) {
    const V x = LD(sums + i), root = SQRT(x * x + 1);
    ST(to_sums + i, LD(d_differences + i) / root);
  }
  for (int64_t i = 0; i < q->forecasts * BLOCK; i += VL)
    ST(to_errors + i, LD(to_errors + i) + 0.5f * LD(d_errors + i) / (LD(errors + i) + ERROR_FLOOR));
}
