"""What code calls of TensorRT 10, 11 and TensorRT for RTX, against what their own Python bindings take."""
