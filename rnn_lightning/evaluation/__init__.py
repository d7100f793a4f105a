"""What forecasts are worth: baselines, scores, backtests and prediction intervals."""
