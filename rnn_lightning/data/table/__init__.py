"""From tables to series: files and frames are read in chunks, checked, put on a grid of steps and stored."""
