"""HTTP service, endpoint handler, plain export, ONNX."""
