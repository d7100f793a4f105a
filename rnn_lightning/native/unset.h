/* The end of the kernels of an instruction set and number type. */
#undef VL
#undef RB
#undef NV
#undef V
#undef I
#undef LD
#undef ST
#undef PICK
#undef LANES
#undef SHUFFLE
#undef UNITS
#undef CHAINS
#undef REAL
#undef SIZE
#undef FN
