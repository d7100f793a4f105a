/* All of the seasonal network for one instruction set. */
#include "vectors.h"
#include "products.h"
#include "cells.h"
#include "season_math.h"
#include "season_products.h"
#include "season_track.h"
#include "season_mix.h"
#include "season_block.h"

static const struct season_kernels FN(season_kernels) = {
    FN(season_prepare), FN(season_forward), FN(season_backward), FN(season_collect), FN(chunk_numbers)};

#undef MU
#undef SQRT
#undef NUMBER
#undef ABS
#undef WITH_SIGN
#undef LANE
#undef OF
#undef TO
#undef ERROR_FLOOR
#include "unset.h"
