"""Serve an ensemble: HTTP service, endpoint handler, plain export, ONNX."""
