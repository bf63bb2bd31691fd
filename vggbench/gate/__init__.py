"""Base against head: what two sides were measured to differ by, the verdict on it, and how it is told.

Never imports torch, onnx, pandas or scipy: a job that only compares two runs must start at once.
"""
