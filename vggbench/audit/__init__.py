"""Whether a table of measurements agrees with itself and with what a VGG is.

Takes anybody's table: CSV, TSV or Markdown with a variant and a latency or throughput column. Never imports torch,
onnx, pandas or a backend's library.
"""
