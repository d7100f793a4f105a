"""The bundled network for series with seasons: its features, its prior, fine-tuning and weights."""
