"""Export of a forecast as an ONNX graph; all modules but ``export`` need the package ``onnx``."""
