/* The cells, element by element: n numbers of a gate, gates n apart. `a` holds the sums of a step and
   becomes the gates.

   gru: new (input part), reset, update, new (hidden part); lstm: input, forget, new, output. */
static void FN(cell_forward)(int64_t cell, int64_t n, REAL *a, const REAL *h_before, REAL *h,
                             const REAL *c_before, REAL *c) {
  switch (cell) {
  case RNN_TANH:
    for (int64_t i = 0; i < n; i += VL) ST(h + i, FN(tanh)(LD(a + i)));
    break;
  case RNN_RELU:
    for (int64_t i = 0; i < n; i += VL) ST(h + i, FN(relu)(LD(a + i)));
    break;
  case RNN_GRU:
    for (int64_t i = 0; i < n; i += VL) {
      const V reset = FN(sigmoid)(LD(a + n + i)), update = FN(sigmoid)(LD(a + 2 * n + i));
      const V new = FN(tanh)(LD(a + i) + reset * LD(a + 3 * n + i));
      ST(a + i, new), ST(a + n + i, reset), ST(a + 2 * n + i, update);
      ST(h + i, new + update *(LD(h_before + i) - new));
    }
    break;
  case RNN_LSTM:
    for (int64_t i = 0; i < n; i += VL) {
      const V input = FN(sigmoid)(LD(a + i)), forget = FN(sigmoid)(LD(a + n + i));
      const V new = FN(tanh)(LD(a + 2 * n + i)), output = FN(sigmoid)(LD(a + 3 * n + i));
      const V kept = forget * LD(c_before + i) + input * new;
      ST(a + i, input), ST(a + n + i, forget), ST(a + 2 * n + i, new), ST(a + 3 * n + i, output);
      ST(c + i, kept), ST(h + i, output * FN(tanh)(kept));
    }
  }
}

/* From the gradients dh and dc of the state after a step to those of its sums, in g, and to what reaches
   the state before it past the sums: in dh of a GRU, in dc of an LSTM. */
static void FN(cell_backward)(int64_t cell, int64_t n, const REAL *a, const REAL *h_before, const REAL *h,
                              const REAL *c_before, const REAL *c, REAL *dh, REAL *dc, REAL *g) {
  switch (cell) {
  case RNN_TANH:
    for (int64_t i = 0; i < n; i += VL) ST(g + i, LD(dh + i) * (1 - LD(h + i) * LD(h + i)));
    break;
  case RNN_RELU:
    for (int64_t i = 0; i < n; i += VL) ST(g + i, PICK(LD(h + i) > (V){0}, LD(dh + i), (V){0}));
    break;
  case RNN_GRU:
    for (int64_t i = 0; i < n; i += VL) {
      const V new = LD(a + i), reset = LD(a + n + i), update = LD(a + 2 * n + i),
              recalled = LD(a + 3 * n + i);
      const V d = LD(dh + i), d_new = d * (1 - update) * (1 - new *new);
      ST(g + i, d_new), ST(g + n + i, d_new * recalled * reset * (1 - reset));
      ST(g + 2 * n + i, d * (LD(h_before + i) - new) * update * (1 - update)),
          ST(g + 3 * n + i, d_new * reset);
      ST(dh + i, d * update);
    }
    break;
  case RNN_LSTM:
    for (int64_t i = 0; i < n; i += VL) {
      const V input = LD(a + i), forget = LD(a + n + i), new = LD(a + 2 * n + i), output = LD(a + 3 * n + i);
      const V kept = FN(tanh)(LD(c + i)), d = LD(dh + i),
              d_kept = LD(dc + i) + d * output * (1 - kept * kept);
      ST(g + i, d_kept * new * input * (1 - input)),
          ST(g + n + i, d_kept * LD(c_before + i) * forget * (1 - forget));
      ST(g + 2 * n + i, d_kept * input * (1 - new *new)), ST(g + 3 * n + i, d * kept * output * (1 - output));
      ST(dc + i, d_kept * forget);
    }
  }
}
