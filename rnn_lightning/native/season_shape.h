/* Sizes of the seasonal network, and where the numbers of a block of rows lie.

   A block has BLOCK rows, its innermost index. A slot [h | h of the negatives | differences | 1 | even
   features | covariates] of a step holds what its sums read; the slot of step t + 1 begins with the state
   after step t. Rows and their negatives share the features: the differences change sign, the others do
   not. Histories begin with the steps that the state brings along. Without a backward pass one step of all
   but the histories is used over and over. */
#define BLOCK 16
#define NUM_FIRST 8  /* quantities before the profiles */
#define NUM_COUNTS 7 /* features that tell of time alone */

enum field {
  SLOTS,
  LSTM,
  CELLS,
  INNER,
  GATES,
  QUANTITIES,
  SUMS,
  ERRORS,
  AGES,
  KNOWN,
  VALUES,
  AVERAGES,
  ADJUSTED,
  PROFILES,
  COUNTS, /* histories */
  SMOOTHED,
  PREDICTION,
  SPREAD,
  FREE,
  NUM_FIELDS
};

struct layout {
  int64_t size[NUM_FIELDS]; /* numbers a lane at a step; 0: the field is not there */
  int64_t offset[NUM_FIELDS], step[NUM_FIELDS], numbers;
};

struct season_shape {
  int64_t steps, season, half, length, kept;
  int64_t hidden, head, covariates, differences, forecasts, even, sums, profiles, smoothed, levels;
  int64_t quantities, gates, mixed_levels, mixed_slopes;
  int64_t slot;               /* numbers a lane of a slot */
  int64_t lstm, inner, out;   /* length of a row of weights: of the LSTM, the head, the readout */
  int64_t weights, gradients; /* numbers */
  int64_t state, keeps, chunk;
  struct layout memory, adjoint; /* of the forward pass, and of the gradients of the states of a block */
};

static void lay_out(struct layout *layout, int64_t steps, const int64_t size[NUM_FIELDS],
                    const int64_t before[NUM_FIELDS], int keeps) {
  layout->numbers = 0;
  for (int f = 0; f < NUM_FIELDS; f++) {
    const int history = f >= VALUES && f <= COUNTS, stepping = history || (keeps && f < VALUES);
    layout->size[f] = size[f];
    layout->offset[f] = layout->numbers;
    layout->step[f] = stepping ? size[f] * BLOCK : 0;
    layout->numbers += ((stepping ? steps : 0) + before[f]) * size[f] * BLOCK;
  }
}

static struct season_shape season_shape_of(const struct seasonal_task *k, int keeps) {
  const int64_t m = k->season, H = k->hidden, P = k->profiles;
  struct season_shape q = {.steps = k->steps,
                           .season = m,
                           .half = m / 2,
                           .length = m >= 4 ? m : 8 / m * m,
                           .hidden = H,
                           .head = k->head,
                           .covariates = k->covariates,
                           .differences = k->differences,
                           .forecasts = k->forecasts,
                           .even = 1 + k->forecasts + NUM_COUNTS,
                           .sums = k->differences + k->forecasts,
                           .profiles = P,
                           .levels = k->levels,
                           .smoothed = k->levels + 1 + k->slopes,
                           .mixed_levels = k->mixed_levels,
                           .mixed_slopes = k->mixed_slopes,
                           .gates = k->mixed_levels + P + 1 + k->mixed_slopes + 4,
                           .keeps = keeps};
  q.kept = 2 * m > q.length + 1 ? 2 * m : q.length + 1;
  q.quantities = NUM_FIRST + P + q.smoothed + 2;
  q.inner = H + q.differences + q.even;
  q.lstm = q.inner + q.covariates;
  q.out = q.head + 1;
  q.slot = H + q.lstm;
  q.weights = 2 * (4 * H * q.lstm + q.head * q.inner + q.gates * q.out + q.sums * q.quantities);
  q.gradients = 4 * H * q.lstm + q.head * q.inner + q.gates * q.out;
  q.state = 4 * H + 3 + 3 * q.kept + m * (P + 1) + q.smoothed + 2 * q.forecasts + 2;
  q.chunk = q.steps < 16 ? q.steps : 16;
  const int64_t size[NUM_FIELDS] = {[SLOTS] = q.slot,
                                    [LSTM] = 8 * H,
                                    [CELLS] = 2 * H,
                                    [INNER] = 2 * q.head,
                                    [GATES] = 2 * q.gates,
                                    [QUANTITIES] = q.quantities,
                                    [SUMS] = q.sums,
                                    [ERRORS] = q.forecasts,
                                    [AGES] = 1,
                                    [KNOWN] = 1,
                                    [VALUES] = 1,
                                    [AVERAGES] = 1,
                                    [ADJUSTED] = 1,
                                    [PROFILES] = P,
                                    [COUNTS] = 1,
                                    [SMOOTHED] = q.smoothed,
                                    [PREDICTION] = 1,
                                    [SPREAD] = 1,
                                    [FREE] = 1};
  const int64_t before[NUM_FIELDS] = {1, 1, 1, 1, 1, 1, 1, 1, 1, 1, q.kept, q.kept, q.kept, m, m, 1, 1, 1, 1};
  lay_out(&q.memory, q.steps, size, before, keeps);
  const int moves = k->continues != 0; /* values that the network made pass gradients on */
  const int64_t adjoint[NUM_FIELDS] = {[SLOTS] = 2 * H,
                                       [CELLS] = 2 * H,
                                       [PREDICTION] = 1,
                                       [QUANTITIES] = moves * q.quantities,
                                       [SUMS] = moves * q.sums,
                                       [ERRORS] = moves * q.forecasts,
                                       [VALUES] = moves,
                                       [AVERAGES] = moves,
                                       [ADJUSTED] = moves,
                                       [PROFILES] = moves * P,
                                       [SMOOTHED] = moves * q.smoothed,
                                       [SPREAD] = moves};
  lay_out(&q.adjoint, q.steps, adjoint, before, 0);
  return q;
}

/* The numbers [..][BLOCK] of a field at a step; of a history, `kept` or `season` steps earlier. */
#define AT(layout, memory, field, t) ((memory) + (layout).offset[field] + (t) * (layout).step[field])

/* Copy the state of rows, [row][number], to a block at a step, or from it; a number that is not in the
   layout is zero. */
static void transfer(const struct season_shape *q, const struct layout *layout, float *memory, int64_t t,
                     float *rows, int64_t num_rows, int store) {
  const int64_t H = q->hidden, kept = q->kept, m = q->season;
  const struct {
    enum field field;
    int64_t skip, size;
  } parts[] = {{SLOTS, 0, 2 * H},
               {CELLS, 0, 2 * H},
               {PREDICTION, 0, 1},
               {SPREAD, 0, 1},
               {NUM_FIELDS, 0, 1},
               {VALUES, 0, kept},
               {AVERAGES, 0, kept},
               {ADJUSTED, 0, kept},
               {PROFILES, 0, m * q->profiles},
               {COUNTS, 0, m},
               {SMOOTHED, 0, q->smoothed},
               {ERRORS, 0, q->forecasts},
               {SUMS, q->differences, q->forecasts},
               {AGES, 0, 1},
               {FREE, 0, 1}};
  int64_t place = 0;
  for (size_t p = 0; p < sizeof parts / sizeof *parts; place += parts[p++].size) {
    const int there = parts[p].field < NUM_FIELDS && layout->size[parts[p].field] > 0;
    float *block = there ? AT(*layout, memory, parts[p].field, t) + parts[p].skip * BLOCK : 0;
    for (int64_t i = 0; i < parts[p].size; i++)
      for (int64_t row = 0; row < BLOCK; row++) {
        if (store && row < num_rows) rows[row * q->state + place + i] = there ? block[i * BLOCK + row] : 0;
        if (!store && there) block[i * BLOCK + row] = row < num_rows ? rows[row * q->state + place + i] : 0;
      }
  }
}
