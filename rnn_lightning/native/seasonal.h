/* The C interface of the seasonal network, float32: plain pointers to contiguous arrays, checked by the
   caller. `pretrained/seasonal.py` is its definition.

   Quantities of a step stand in this order: value, previous, adjusted, adjusted_before, adjusted_lag, lag,
   lag_before, lag_twice, the profiles, the levels, the mean, the slopes, the average, its slope. All that is
   made of them is described by the tables below. */
#ifndef SEASONAL_H
#define SEASONAL_H
#include <stdint.h>

struct seasonal_task {
  int64_t threads, rows, steps, season, hidden, head, covariates;
  int64_t continues; /* whether there is a state: without one a row begins with its first known value, and
                        values are constants for the gradient */
  int64_t free;      /* whether all values are innovations */
  int64_t levels, slopes, profiles;   /* rates of smoothing, and lengths of profiles */
  int64_t differences, forecasts;     /* sums of quantities */
  int64_t mixed_levels, mixed_slopes; /* what the gates weigh, beside the profiles */
  const float *constants; /* rates of the levels, the mean and the slopes, seasons of the profiles, rate of
                             the errors, least spread */
  const float *sums;      /* differences + forecasts, quantities: the weights of the sums */
  const int64_t *mixed;   /* the quantities that the gates weigh: levels, profiles, slopes */
  const float *x;         /* rows, steps: values, NaN where unknown, or innovations */
  const float *next;      /* rows, steps, covariates: those of the step after each; or none */
  const float *state;     /* rows, seasonal_state(); or none */
  const float *const *weights; /* w_input, w_hidden, b_input, b_hidden, and w, b of the head and readout */
  float *predictions, *values; /* rows, steps: of the value after each step, and the values without gaps */
  float *after;                /* the state after the last step */
  float *saved;                /* seasonal_saved() numbers for the backward pass; or none */
  const float *d_predictions, *d_values, *d_after; /* gradients; or none for zero */
  float *d_state;                                  /* or none where it is not wanted */
  float *const *d_weights;                         /* added to what is there */
};

/* Bytes of the structure above, for whoever declares it in another language. */
extern const int64_t seasonal_task_size;

int64_t seasonal_state(const struct seasonal_task *task); /* numbers of a row */
int64_t seasonal_saved(const struct seasonal_task *task);
int seasonal_forward(const struct seasonal_task *task); /* 0, or 1 for want of memory, also below */
int seasonal_backward(const struct seasonal_task *task);
#endif
