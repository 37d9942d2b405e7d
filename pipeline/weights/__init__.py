"""Weights in and out: other people's files into our networks, and ours into ONNX and safetensors."""

from pipeline.weights.reading import Weights, read_weights

__all__ = ["Weights", "read_weights"]
