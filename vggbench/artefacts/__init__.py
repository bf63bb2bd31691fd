"""From a model spec to files that a backend opens: weights, ONNX, and the store that keeps them."""
