"""A fold as a folder that other programs load: plain transformers or ONNX."""
