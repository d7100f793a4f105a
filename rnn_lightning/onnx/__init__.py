"""The forecast as an ONNX graph; every module here needs the package ``onnx``."""
