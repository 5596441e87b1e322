"""The place from which scripts import the error types of ONNX Runtime."""
