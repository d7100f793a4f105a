/* How the work is cut and where its numbers lie.

   A unit of work is a block of rows, which are its innermost index (lanes), or a single row, whose
   innermost index are the hidden units (one lane). A layer's memory holds a slot [h | 1 | inputs] for
   each step: what the sums of a step read lies together, the 1 carries the biases, and the slot of step
   t + 1 begins with the state after step t. The gates and, of an LSTM, the cell states follow. Without a
   backward pass a chunk of slots and one step of the rest are used over and over. Layer 0 reads the
   inputs and all others the hidden state below: two kinds of layer, the index of the arrays here.

   A single row works on whole cache lines of units: a step writes up to a line too many behind h, before
   the 1 and the inputs of that slot are put there. */
struct shape {
  int64_t cell, lanes, layers, steps, hidden, outputs, line;
  int64_t padded;       /* units of a gate; those of a single row fill whole cache lines */
  int64_t n, one;       /* numbers of a gate, and of h in a slot, behind which the 1 is */
  int64_t gates, kept;  /* gates of a step, and those that the backward pass needs beside h */
  int64_t keeps;        /* whether there will be a backward pass */
  int64_t chunk, slots; /* steps that are worked on at a time; slots of a layer */
  int64_t inputs[2];
  int64_t length[2];         /* numbers of a slot a lane */
  int64_t memory[2];         /* numbers of a layer's memory */
  int64_t weights[2];        /* room for a layer's packed weights, of either pass */
  int64_t gradients[2];      /* numbers of a layer's weight gradients, [gate][unit][length] */
  int64_t out_step, in_step; /* numbers of a step of outputs, and of gradients of the inputs */
  int64_t g_step;            /* numbers of a step of gradients of the gates */
  int64_t readout;           /* room for the packed readout, of either pass, and for its gradient */
};

/* A unit of work: its rows, the memory that forward and backward pass share, room for the work of a pass, and
   the weight gradients that it adds to. */
struct unit {
  int64_t row, num_rows;
  void *memory, *work, *dw;
};

/* Units that go through the steps together, so that each step reads the weights once for all of them. */
#define TEAM 4
#define TEAM_BYTES 500000 /* of the weights: what is smaller stays in the second-level cache */

/* The gates [gate, gate + gates) of a layer that are one product: whether it reads h, and how many
   numbers of [1 | x]. */
struct piece {
  int64_t gate, gates, h, x;
};

/* Only the two parts of a GRU's new value, from the inputs and from the hidden state, have to stay apart. */
static int pieces_of(int64_t cell, int64_t inputs, struct piece pieces[3]) {
  if (cell == RNN_GRU) {
    pieces[0] = (struct piece){0, 1, 0, 1 + inputs};
    pieces[1] = (struct piece){1, 2, 1, 1 + inputs};
    pieces[2] = (struct piece){3, 1, 1, 1};
    return 3;
  }
  pieces[0] = (struct piece){0, cell == RNN_LSTM ? 4 : 1, 1, 1 + inputs};
  return 1;
}

/* The gates that read the hidden state begin at the first, those that read the inputs end at the second. */
static int64_t first_h_gate(const struct shape *q) { return q->cell == RNN_GRU; }
static int64_t last_x_gate(const struct shape *q) { return q->cell == RNN_GRU ? 3 : q->gates; }

/* The place of a gate among those of torch.nn. */
static int64_t gate_of_torch(const struct shape *q, int64_t gate) {
  static const int64_t gru[4] = {2, 0, 1, 2};
  return q->cell == RNN_GRU ? gru[gate] : gate;
}

static int64_t sum_of(const int64_t size[2], int64_t layers) {
  return layers ? size[0] + (layers - 1) * size[1] : 0;
}

#define CHUNK_BYTES 700000 /* what the weight gradient of a chunk reads stays in the second-level cache */

static struct shape shape_of(const struct rnn_task *task, int block, int keeps) {
  const int64_t line = 64 / task->size, H = task->hidden, outputs = task->outputs ? task->outputs : H;
  struct shape q = {.cell = task->cell,
                    .lanes = block ? line : 1,
                    .layers = task->layers,
                    .steps = task->steps,
                    .hidden = H,
                    .outputs = task->outputs,
                    .line = line,
                    .keeps = keeps};
  q.gates = q.cell == RNN_GRU || q.cell == RNN_LSTM ? 4 : 1;
  q.kept = q.gates == 4 ? 4 : 0;
  q.padded = block ? H : round_up(H, line);
  q.n = q.padded * q.lanes;
  q.one = H * q.lanes;
  for (int k = 0; k < 2; k++) {
    q.inputs[k] = k ? H : task->inputs;
    q.length[k] = block ? H + 1 + q.inputs[k] : round_up(H + 1 + q.inputs[k] + line, line);
  }
  const int64_t numbers = (sum_of(q.length, q.layers) + q.layers * q.gates * q.padded) * q.lanes;
  q.chunk = CHUNK_BYTES / (numbers * task->size);
  q.chunk = q.chunk < 16 ? 16 : q.chunk > 64 ? 64 : q.chunk;
  if (q.chunk > q.steps) q.chunk = q.steps;
  q.slots = (keeps ? q.steps : q.chunk) + 1;
  const int64_t kept_steps = keeps ? q.steps : 1, cells = q.cell == RNN_LSTM ? kept_steps + keeps : 0;
  for (int k = 0; k < 2; k++) {
    q.memory[k] = q.slots * q.length[k] * q.lanes + (kept_steps * q.kept + cells) * q.n;
    q.weights[k] = q.gates * round_up(H, line) * (round_up(H, line) + round_up(1 + q.inputs[k], line));
    q.gradients[k] = q.gates * q.padded * q.length[k];
  }
  q.out_step = round_up(outputs, line) * q.lanes;
  q.in_step = round_up(q.inputs[0], line) * q.lanes;
  q.g_step = q.gates * q.n + 4 * line; /* no power of two: a unit's steps would share a set of the cache */
  q.readout = round_up(outputs, line) * (round_up(H, line) + 2 * line);
  return q;
}

/* The step at which the last of the rows begins. */
static int64_t latest(const int64_t *begin, int64_t num_rows) {
  int64_t last = 0;
  for (int64_t row = 0; begin && row < num_rows; row++) last = begin[row] > last ? begin[row] : last;
  return last;
}
