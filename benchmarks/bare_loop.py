"""The loop one would write by hand around ONNX Runtime or OpenVINO: what the harness is compared with.

Shares nothing with vggbench. Reads lines from stdin: a number of iterations to time; writes their times in ns as one
JSON list a line. Usage: bare_loop.py onnxruntime|openvino MODEL THREADS IMAGES.npy
"""

import json
import sys
import time

import numpy as np


def open_onnxruntime(model: str, threads: int):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return lambda batch: session.run(None, {"input": batch})


def open_openvino(model: str, threads: int):
    import openvino

    core = openvino.Core()
    read = core.read_model(model)
    read.reshape({"input": [1, 3, 224, 224]})
    settings = {
        "INFERENCE_PRECISION_HINT": "f32",
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": threads,
    }
    compiled = core.compile_model(read, "CPU", settings)
    request = compiled.create_infer_request()
    return lambda batch: request.infer({"input": batch})


def main() -> None:
    backend, model, threads, images = sys.argv[1:]
    infer = {"onnxruntime": open_onnxruntime, "openvino": open_openvino}[backend](model, int(threads))
    batches = [image[None] for image in np.load(images)]
    for batch in batches:
        infer(batch)
    print("ready", flush=True)
    for line in sys.stdin:
        samples = []
        for iteration in range(int(line)):
            batch = batches[iteration % len(batches)]
            start = time.perf_counter_ns()
            infer(batch)
            samples.append(time.perf_counter_ns() - start)
        print(json.dumps(samples), flush=True)


if __name__ == "__main__":
    main()
