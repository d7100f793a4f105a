/* What is known of a block of rows, step by step, and back: `pretrained/season_track.py` and
   `season_clock.py` are the definition. All lanes are independent; loops over them are vectorised. */
#define LANE(i) for (int i = 0; i < BLOCK; i++)
#define OF(field, t) AT(q->memory, memory, field, t)
#define TO(field, t) AT(q->adjoint, adjoint, field, t)

/* What is not a field: sums over the last values, and for a step what its age decides. */
struct FN(clock) {
  double total[BLOCK];
  float begun[BLOCK], known[BLOCK], number[BLOCK], least[BLOCK]; /* least: of the rates, 1 / number */
};

/* The clock of a step with the age and whether it is known. */
static void FN(set_clock)(const float *age, const float *known, struct FN(clock) * now) {
  LANE(i) {
    now->known[i] = known[i];
    now->begun[i] = age[i] >= 0;
    now->number[i] = age[i] + 1;
    now->least[i] = 1 / (now->number[i] > 1 ? now->number[i] : 1);
  }
}

INLINE float FN(rate)(const struct seasonal_task *k, const struct FN(clock) * now, int64_t kind, int i) {
  const float rate = k->constants[kind], least = now->least[i];
  const int used = kind < k->levels    ? now->begun[i] > 0
                   : kind == k->levels ? now->known[i] > 0
                                       : now->number[i] > 1;
  return (rate > least ? rate : least) * (float)used;
}

INLINE float FN(error_rate)(const struct seasonal_task *k, const struct season_shape *q,
                            const struct FN(clock) * now, int i) {
  const float rate = k->constants[q->smoothed + q->profiles], least = now->least[i];
  const float kept = now->number[i] == 2 ? 1 : rate > least ? rate : least;
  return now->number[i] > 1 && now->known[i] > 0 ? kept : 0;
}

INLINE float FN(least_spread)(const struct seasonal_task *k, const struct season_shape *q) {
  return k->constants[q->smoothed + q->profiles + 1];
}

/* The value of a step: given, or the prediction and an innovation; and the clock and the spread. */
static void FN(take)(const struct seasonal_task *k, const struct season_shape *q, float *memory, int64_t t,
                     const float *given, float *taken, struct FN(clock) * now) {
  const float *age_before = OF(AGES, t), *prediction = OF(PREDICTION, 0);
  float *age = OF(AGES, t + 1), *known = OF(KNOWN, t + 1), *spread = OF(SPREAD, 0), *free = OF(FREE, 0);
  float *value = OF(VALUES, q->kept + t);
  const float least = FN(least_spread)(k, q);
  LANE(i) {
    known[i] = !k->free && given[i] == given[i];
    age[i] = known[i] > 0 || age_before[i] >= 0 ? age_before[i] + 1 : -1;
  }
  FN(set_clock)(age, known, now);
  LANE(i) {
    const float innovation = given[i] == given[i] || k->free ? given[i] : 0;
    const float own = prediction[i] + (spread[i] + least) * innovation;
    const float error = fabsf(given[i] - prediction[i]), rate = FN(error_rate)(k, q, now, i);
    spread[i] += rate > 0 && error == error ? rate * (error - spread[i]) : -rate * spread[i];
    free[i] = known[i] > 0 ? 0 : now->begun[i] > 0 ? free[i] + 1 : 0;
    const float now_taken = known[i] > 0 ? given[i] : own;
    value[i] = now->begun[i] > 0 ? now_taken : 0;
    taken[i] = now->begun[i] > 0 ? now_taken : NAN;
  }
}

/* The deviation of half a season ago from the average centred on it goes into its profile. */
static void FN(push_profile)(const struct seasonal_task *k, const struct season_shape *q, float *memory,
                             int64_t t, const struct FN(clock) * now) {
  const int64_t m = q->season, P = q->profiles;
  const float *last = OF(VALUES, q->kept + t);
  const float *before = OF(PROFILES, t), *count = OF(COUNTS, t), *limits = k->constants + q->smoothed;
  float *profile = OF(PROFILES, t + m), *counted = OF(COUNTS, t + m);
  float total[BLOCK], deviation[BLOCK];
  LANE(i) total[i] = m == q->length ? (float)now->total[i] : 0;
  for (int64_t lag = 0; lag < m && m != q->length; lag++) LANE(i) total[i] += last[i - lag * BLOCK];
  if (m % 2 == 0) LANE(i) total[i] += (last[i - m * BLOCK] - last[i]) / 2;
  LANE(i) {
    deviation[i] = last[i - q->half * BLOCK] - total[i] / m;
    counted[i] = count[i] + (now->number[i] - 1 - q->half >= q->half);
  }
  for (int64_t p = 0; p < P; p++) LANE(i) {
      const float most = counted[i] < 1 ? 1 : counted[i], seasons = most < limits[p] ? most : limits[p];
      const float change = counted[i] > count[i] ? (deviation[i] - before[p * BLOCK + i]) / seasons : 0;
      profile[p * BLOCK + i] = before[p * BLOCK + i] + change;
    }
}

/* Everything that is known after the value of a step. */
static void FN(push)(const struct seasonal_task *k, const struct season_shape *q, const float *sum_weights,
                     float *memory, int64_t t, struct FN(clock) * now) {
  const int64_t m = q->season, length = q->length, P = q->profiles, R = q->smoothed;
  const float *last = OF(VALUES, q->kept + t), *forecasts = OF(SUMS, t) + q->differences * BLOCK;
  const float *profile = OF(PROFILES, t + q->half), *count = OF(COUNTS, t + q->half);
  float *average = OF(AVERAGES, q->kept + t), *adjusted = OF(ADJUSTED, q->kept + t);
  float *smoothed = OF(SMOOTHED, 0), *errors = OF(ERRORS, t + 1), *quantity = OF(QUANTITIES, t + 1);
  const float *errors_before = OF(ERRORS, t);
  float change[BLOCK];
  LANE(i) {
    const float averaged = now->number[i] < 1 ? 1 : now->number[i] < length ? now->number[i] : length;
    now->total[i] += (double)last[i] - last[i - length * BLOCK];
    average[i] = (float)now->total[i] / averaged;
    adjusted[i] = count[i] > 0 ? last[i] - profile[BLOCK + i] : average[i];
    change[i] = now->number[i] > 1 ? adjusted[i] - adjusted[i - BLOCK] : 0;
  }
  for (int64_t r = 0; r < R; r++) {
    const float *part = r < q->levels ? adjusted : r == q->levels ? last : change;
    LANE(i) smoothed[r * BLOCK + i] += FN(rate)(k, now, r, i) * (part[i] - smoothed[r * BLOCK + i]);
  }
  for (int64_t f = 0; f < q->forecasts; f++) LANE(i) {
      const float error = fabsf(last[i] - forecasts[f * BLOCK + i]), before = errors_before[f * BLOCK + i];
      errors[f * BLOCK + i] = before + FN(error_rate)(k, q, now, i) * (error - before);
    }
  FN(push_profile)(k, q, memory, t, now);
  float *first[NUM_FIRST];
  for (int j = 0; j < NUM_FIRST; j++) first[j] = quantity + j * BLOCK;
  LANE(i) {
    const float age = now->number[i] - 1, value = last[i];
    first[0][i] = value;
    first[1][i] = age >= 1 ? last[i - BLOCK] : value;
    first[2][i] = adjusted[i];
    first[3][i] = age >= 1 ? adjusted[i - BLOCK] : adjusted[i];
    first[4][i] = age >= m ? adjusted[i - m * BLOCK] : adjusted[i];
    first[5][i] = age >= m - 1 ? last[i - (m - 1) * BLOCK] : value;
    first[6][i] = age >= m ? last[i - m * BLOCK] : value;
    first[7][i] = age >= 2 * m - 1 ? last[i - (2 * m - 1) * BLOCK] : first[5][i];
  }
  quantity += NUM_FIRST * BLOCK;
  memcpy(quantity, OF(PROFILES, t + 1 + q->half), P * BLOCK * sizeof *quantity);
  memcpy(quantity + P * BLOCK, smoothed, R * BLOCK * sizeof *quantity);
  quantity += (P + R) * BLOCK;
  LANE(i) {
    quantity[i] = average[i];
    quantity[BLOCK + i] = now->number[i] >= 2 * length ? (average[i] - average[i - length * BLOCK]) / length
                                                       : smoothed[(R - 1) * BLOCK + i];
  }
  FN(product)(BLOCK, q->sums, q->quantities, sum_weights, OF(QUANTITIES, t + 1), OF(SUMS, t + 1), 0);
}

/* Sums over the values that the average and the profiles read before a step. */
static void FN(start_totals)(const struct season_shape *q, const float *memory, int64_t t,
                             struct FN(clock) * now) {
  const float *next = OF(VALUES, q->kept + t);
  LANE(i) now->total[i] = 0;
  for (int64_t lag = 1; lag <= q->length; lag++) LANE(i) now->total[i] += next[i - lag * BLOCK];
}

/* ---- Backward: from the gradients of what is known after a step to those of before it ---- */

/* The gradients of quantities go to what they are made of. */
static void FN(pull_quantities)(const struct season_shape *q, float *adjoint, int64_t t,
                                const struct FN(clock) * now) {
  const int64_t m = q->season, length = q->length, P = q->profiles, R = q->smoothed;
  const float *d = TO(QUANTITIES, 0), *d_last = d + (NUM_FIRST + P + R) * BLOCK;
  float *value = TO(VALUES, q->kept + t), *adjusted = TO(ADJUSTED, q->kept + t);
  float *average = TO(AVERAGES, q->kept + t), *smoothed = TO(SMOOTHED, 0);
  float *profile = TO(PROFILES, t + 1 + q->half);
  LANE(i) {
    const float age = now->number[i] - 1, twice = age >= 2 * m - 1;
    const float d_lag = d[5 * BLOCK + i] + (1 - twice) * d[7 * BLOCK + i];
    value[i] += d[i];
    *(age >= 1 ? &value[i - BLOCK] : &value[i]) += d[BLOCK + i];
    adjusted[i] += d[2 * BLOCK + i];
    *(age >= 1 ? &adjusted[i - BLOCK] : &adjusted[i]) += d[3 * BLOCK + i];
    *(age >= m ? &adjusted[i - m * BLOCK] : &adjusted[i]) += d[4 * BLOCK + i];
    *(age >= m - 1 ? &value[i - (m - 1) * BLOCK] : &value[i]) += d_lag;
    *(age >= m ? &value[i - m * BLOCK] : &value[i]) += d[6 * BLOCK + i];
    value[i - (2 * m - 1) * BLOCK] += twice * d[7 * BLOCK + i];
    average[i] += d_last[i];
    if (age >= 2 * length - 1) {
      average[i] += d_last[BLOCK + i] / length;
      average[i - length * BLOCK] -= d_last[BLOCK + i] / length;
    } else {
      smoothed[(R - 1) * BLOCK + i] += d_last[BLOCK + i];
    }
  }
  for (int64_t p = 0; p < P * BLOCK; p++) profile[p] += d[NUM_FIRST * BLOCK + p];
  for (int64_t r = 0; r < R * BLOCK; r++) smoothed[r] += d[(NUM_FIRST + P) * BLOCK + r];
}

/* The gradient of a profile goes to the one before, to the deviation, and to the `total` of the values. */
static void FN(pull_profile)(const struct seasonal_task *k, const struct season_shape *q, const float *memory,
                             float *adjoint, int64_t t, float *d_total) {
  const int64_t m = q->season;
  const float *count = OF(COUNTS, t), *counted = OF(COUNTS, t + m), *limits = k->constants + q->smoothed;
  const float *d = TO(PROFILES, t + m);
  float *before = TO(PROFILES, t), *value = TO(VALUES, q->kept + t), d_own[BLOCK];
  LANE(i) {
    float d_deviation = 0;
    for (int64_t p = 0; p < q->profiles; p++) {
      const float most = counted[i] < 1 ? 1 : counted[i], seasons = most < limits[p] ? most : limits[p];
      const float moved = counted[i] > count[i] ? d[p * BLOCK + i] / seasons : 0;
      d_deviation += moved;
      before[p * BLOCK + i] += d[p * BLOCK + i] - moved;
    }
    value[i - q->half * BLOCK] += d_deviation;
    d_own[i] = -d_deviation / m;
    if (m % 2 == 0) value[i - m * BLOCK] += d_own[i] / 2, value[i] -= d_own[i] / 2;
    if (m == q->length) d_total[i] += d_own[i];
  }
  for (int64_t lag = 0; lag < m && m != q->length; lag++) LANE(i) value[i - lag * BLOCK] += d_own[i];
}

/* Back over `push` and `take`; `d_total` is the gradient of the sum over the last values. */
static void FN(pull)(const struct seasonal_task *k, const struct season_shape *q, const float *memory,
                     float *adjoint, int64_t t, const float *innovations, const float *d_taken,
                     float *d_total, struct FN(clock) * now) {
  const int64_t length = q->length, R = q->smoothed;
  const float *last = OF(VALUES, q->kept + t), *forecasts = OF(SUMS, t) + q->differences * BLOCK;
  const float *count = OF(COUNTS, t + q->half);
  float *value = TO(VALUES, q->kept + t), *adjusted = TO(ADJUSTED, q->kept + t);
  float *average = TO(AVERAGES, q->kept + t), *smoothed = TO(SMOOTHED, 0), *errors = TO(ERRORS, 0);
  float *d_forecasts = TO(SUMS, 0) + q->differences * BLOCK, *profile = TO(PROFILES, t + q->half);
  FN(set_clock)(OF(AGES, t + 1), OF(KNOWN, t + 1), now);
  FN(pull_quantities)(q, adjoint, t, now);
  FN(pull_profile)(k, q, memory, adjoint, t, d_total);
  for (int64_t f = 0; f < q->forecasts; f++) LANE(i) {
      const float d = FN(error_rate)(k, q, now, i) * errors[f * BLOCK + i];
      const float way = last[i] > forecasts[f * BLOCK + i] ? d : last[i] < forecasts[f * BLOCK + i] ? -d : 0;
      errors[f * BLOCK + i] -= d;
      value[i] += way;
      d_forecasts[f * BLOCK + i] = -way;
    }
  for (int64_t r = 0; r < R; r++) LANE(i) {
      const float d = FN(rate)(k, now, r, i) * smoothed[r * BLOCK + i];
      smoothed[r * BLOCK + i] -= d;
      if (r == q->levels)
        value[i] += d;
      else
        adjusted[i] += d;
      if (r > q->levels) adjusted[i - BLOCK] -= d;
    }
  LANE(i) {
    const float averaged = now->number[i] < 1 ? 1 : now->number[i] < length ? now->number[i] : length;
    if (count[i] > 0) {
      value[i] += adjusted[i];
      profile[BLOCK + i] -= adjusted[i];
    } else {
      average[i] += adjusted[i];
    }
    d_total[i] += average[i] / averaged;
    value[i] += d_total[i];
    value[i - length * BLOCK] -= d_total[i];
  }
  const float *known = OF(KNOWN, t + 1);
  float *prediction = TO(PREDICTION, 0), *spread = TO(SPREAD, 0);
  LANE(i) {
    const float own = known[i] > 0 || !(now->begun[i] > 0) ? 0 : value[i] + d_taken[i];
    const float innovation = innovations[i] == innovations[i] ? innovations[i] : 0;
    spread[i] += own * innovation - FN(error_rate)(k, q, now, i) * spread[i];
    prediction[i] = own;
  }
}

/* At the beginning, the sum over the last values is one of those of the state. */
static void FN(pull_totals)(const struct season_shape *q, float *adjoint, const float *d_total) {
  float *next = TO(VALUES, q->kept);
  for (int64_t lag = 1; lag <= q->length; lag++) LANE(i) next[i - lag * BLOCK] += d_total[i];
}
