"""What was measured, as stored: frozen records, the journal, and the rows derived from them.

Never imports torch, onnx, pandas or a backend's library: a job that only compares two runs must start at once.
"""
