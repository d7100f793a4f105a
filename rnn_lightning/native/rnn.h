/* The C interface of the recurrence: plain pointers to contiguous arrays, checked by the caller. */
#ifndef RNN_H
#define RNN_H
#include <stdint.h>

enum rnn_cell { RNN_TANH, RNN_RELU, RNN_GRU, RNN_LSTM };

/* What becomes of the first `outputs` inputs of a step, the values; `readout` is that of the state
   before the step. */
enum rnn_feedback {
  RNN_GIVEN, /* they are inputs as they are */
  RNN_FILL,  /* NaN is a value that is not known: the readout takes its place, a constant for the gradient */
  RNN_FREE   /* they are innovations: readout + innovation is the input, and the output */
};

/* Arrays of float (size 4) or double (size 8); pointers may be NULL where "or none" is said. */
struct rnn_task {
  int64_t cell, feedback, size, threads;
  int64_t rows, steps, inputs, hidden, layers;
  int64_t outputs;      /* of the readout; 0: there is none and y holds the hidden state */
  int64_t first;        /* the first step whose output is wanted, up to `steps` for none */
  const void *x;        /* rows, steps, inputs */
  const void *h0, *c0;  /* layers, rows, hidden; or none for zero */
  const int64_t *begin; /* rows: until this step the state of a row stays zero; or none */
  const void *const *weights; /* of a layer w_input, w_hidden, b_input, b_hidden; of the readout w, b */
  void *y;      /* rows, steps - first, outputs (or hidden) */
  void *filled; /* rows, steps, outputs: the values without gaps; or none */
  void *h, *c;  /* the state after the last step; c only of an LSTM */
  void *saved;  /* rnn_saved() numbers for the backward pass; or none */
  const void *dy, *dh, *dc; /* gradients of y, h, c; or none for zero */
  void *dx, *dh0, *dc0;     /* gradients of x, h0, c0; or none where they are not wanted */
  void *const *dweights;    /* gradients of the weights, added to what is there */
};

/* Bytes of the structure above, for whoever declares it in another language. */
extern const int64_t rnn_task_size;

int64_t rnn_saved(const struct rnn_task *task);
int rnn_forward(const struct rnn_task *task); /* 0, or 1 for want of memory, also below */
int rnn_backward(const struct rnn_task *task);

/* The instruction set in use. Asking for one, 0 (any machine), 1 (AVX2 and FMA) or 2 (AVX-512), gives it
   or the best one below that the machine has; -1 asks for the best. */
const char *rnn_instruction_set(int wanted);

int rnn_level(void); /* its number */

/* tanh and sigmoid of n float32, n a multiple of 16: for the test of their errors. */
void rnn_activations(int64_t n, const float *x, float *tanh, float *sigmoid);
#endif
