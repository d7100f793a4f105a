"""Series, windows and batches."""
