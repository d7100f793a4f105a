/* Calls functions of the kernel for a process on another processor: `arm.py` says how they talk. */
#include <stdio.h>
#include <stdlib.h>
#include "rnn.h"
#include "seasonal.h"

enum kind { NUMBER, MEMORY, POINTERS };

struct piece {
  void *memory;
  int64_t bytes;
};

static struct piece pieces[4096];
static int num_pieces;

static void in(void *to, int64_t bytes) {
  if (bytes && fread(to, bytes, 1, stdin) != 1) exit(0); /* the other process has ended */
}
static void out(const void *from, int64_t bytes) {
  if (bytes) fwrite(from, bytes, 1, stdout);
}
static int64_t number(void) {
  int64_t value;
  in(&value, sizeof value);
  return value;
}

static int64_t word(void) {
  const int64_t kind = number(), size = number();
  if (kind == NUMBER) return size;
  if (kind == POINTERS) {
    int64_t *addresses = malloc(8 * size);
    for (int64_t i = 0; i < size; i++) addresses[i] = word();
    return (int64_t)addresses;
  }
  /* Of just this size, and no more aligned than its numbers. */
  char *memory = malloc(size + 8);
  in(memory + 8, size);
  pieces[num_pieces++] = (struct piece){memory + 8, size};
  return (int64_t)(memory + 8);
}

int main(void) {
  for (;;) {
    const int64_t function = number(), count = number();
    int64_t words[64], result = 0;
    num_pieces = 0;
    for (int64_t i = 0; i < count; i++) words[i] = word();
    const void *task = words;
    switch (function) {
    case 0: result = rnn_saved(task); break;
    case 1: result = rnn_forward(task); break;
    case 2: result = rnn_backward(task); break;
    case 3: result = seasonal_state(task); break;
    case 4: result = seasonal_saved(task); break;
    case 5: result = seasonal_forward(task); break;
    case 6: result = seasonal_backward(task); break;
    case 7: rnn_activations(words[0], (float *)words[1], (float *)words[2], (float *)words[3]); break;
    case 8: rnn_instruction_set(words[0]), result = rnn_level(); break;
    }
    out(&result, sizeof result);
    for (int i = 0; i < num_pieces; i++) {
      out(pieces[i].memory, pieces[i].bytes);
      free((char *)pieces[i].memory - 8);
    }
    fflush(stdout);
  }
}
