"""The columns of a row: names, units and meaning, in one place. Standard library only.

`reports/README.md` is this table as a page; a test holds the two against each other.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any


def _column(description: str) -> Any:
    return field(default=None, metadata={"description": description})


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """What a cell became. Missing is None, never 0."""

    variant: str | None = _column(
        "Named architecture; `custom` or `custom_bn` for a configuration of one's own; an ONNX file's name."
    )
    configuration: str | None = _column("Layers in order: channels of a 3x3 convolution, `@1` for 1x1, `M` a pool.")
    backend: str | None = _column("What ran the artefact.")
    options: str | None = _column("Backend options as `name=value`, separated by spaces.")
    precision: str | None = _column("Precision that was asked for.")
    export_options: str | None = _column(
        "What else decides the file that was opened, as `name=value`, separated by spaces: `keep_fp32` names the "
        "layers that stay fp32; `calibration`, `calibration_method` and `calibration_images` say what the ranges of an "
        "int8 or fp8 file are from, and for other images than synthetic ones their hash."
    )
    device: str | None = _column("Device that was asked for.")
    batch_size: int | None = _column("Images in a request.")
    replica: int | None = _column("Number among equal cells, where `--replicas` asked for several; else empty.")
    input_size: int | None = _column("Side of the square input in pixels.")
    num_classes: int | None = _column("Number of outputs.")
    head: str | None = _column("`adaptive` (7x7 average pool) or `flatten`.")
    classifier_width: int | None = _column("Width of the hidden linear layers.")
    local_response_norm: str | None = _column("`none`, or how AlexNet's formula is read: `literal`, `divided`.")
    outputs: str | None = _column("What the timed network returns: `logits` or `probabilities`.")
    weights: str | None = _column(
        "`random` or `init` with the seed, `imagenet` with the published file's name, or `file` with its hash."
    )
    inputs: str | None = _column(
        "Images that requests are made of: `synthetic 1/f` with its seed, or a data set with the start of its hash."
    )
    status: str | None = _column("The gravest finding, or `ok`.")
    reasons: str | None = _column("Every finding: why, and what to do; separated by `; `.")
    latency_ms: float | None = _column(
        "Compute latency of a request: fp32 input on the device to fp32 logits on the device. "
        "The estimate of the pseudomedian over launches of a launch's figure, the median of its blocks' medians: "
        "Hodges-Lehmann over rounds."
    )
    latency_low_ms: float | None = _column(
        "Lower end of its 95 % interval over rounds (exact signed-rank); empty under 6 rounds."
    )
    latency_high_ms: float | None = _column("Upper end of that interval.")
    between_rounds_percent: float | None = _column(
        "Spread of the rounds' median latencies in percent of their median: robust standard deviation (1.4826 x median "
        "absolute deviation)."
    )
    within_round_percent: float | None = _column(
        "The same of the requests of one round about their median; the median over rounds."
    )
    latency_p50_ms: float | None = _column(
        "Median of a request's compute latency. A percentile is the Hodges-Lehmann estimate over rounds of every "
        "round's own (median-unbiased), where each has the samples for it; else that of all samples together, where "
        "these suffice; else empty."
    )
    latency_p50_low_ms: float | None = _column(
        "Lower end of its 95 % interval over rounds; empty under 6 rounds, or where `samples_needed` names it."
    )
    latency_p50_high_ms: float | None = _column("Upper end of that interval.")
    latency_p90_ms: float | None = _column("90th percentile of a request's compute latency: see `latency_p50_ms`.")
    latency_p90_low_ms: float | None = _column("Lower end of its 95 % interval over rounds.")
    latency_p90_high_ms: float | None = _column("Upper end of that interval.")
    latency_p95_ms: float | None = _column("95th percentile of a request's compute latency: see `latency_p50_ms`.")
    latency_p95_low_ms: float | None = _column("Lower end of its 95 % interval over rounds.")
    latency_p95_high_ms: float | None = _column("Upper end of that interval.")
    latency_p99_ms: float | None = _column("99th percentile of a request's compute latency: see `latency_p50_ms`.")
    latency_p99_low_ms: float | None = _column("Lower end of its 95 % interval over rounds.")
    latency_p99_high_ms: float | None = _column("Upper end of that interval.")
    latency_mean_ms: float | None = _column("Mean of all compute samples.")
    latency_min_ms: float | None = _column("Fastest compute sample.")
    latency_max_ms: float | None = _column("Slowest compute sample.")
    end_to_end_ms: float | None = _column("From an array on the host to logits on the host: estimate over rounds.")
    throughput_img_s: float | None = _column(
        "Images completed a second with `requests_in_flight` requests in flight: estimate over rounds."
    )
    throughput_low_img_s: float | None = _column("Lower end of its 95 % interval over rounds.")
    throughput_high_img_s: float | None = _column("Upper end of that interval.")
    requests_in_flight: int | None = _column(
        "Requests in flight while throughput was measured: those that completed the most images before the rounds."
    )
    in_flight_tried: str | None = _column("What was tried for that: requests in flight, and images a second of each.")
    rounds: int | None = _column("Rounds (fresh processes) that finished.")
    samples: int | None = _column("Compute samples over all rounds, warm-up not counted.")
    samples_per_round: int | None = _column("Compute samples of the round that has the fewest.")
    samples_needed: str | None = _column(
        "Samples a round that an interval needs, by the percentile that has none for want of them: `p95:130 p99:662` "
        "(MLPerf LoadGen's early-stopping floor)."
    )
    effective_samples: float | None = _column(
        "Independent samples that would show the mean as well as all compute samples in the order of time do: what one "
        "round has in common counts once."
    )
    stop_reason: str | None = _column(
        "What ended the compute blocks: `time`, or `samples` where one went on for the eight that show movement."
    )
    warmup: str | None = _column("Rounds whose warm-up got steady, of all: `6/6`.")
    warmup_requests: float | None = _column(
        "Requests of a round's warm-up, those of the verification included: median over rounds."
    )
    warmup_ms: float | None = _column("Time of these requests: median over rounds.")
    timing: str | None = _column(
        "Whose clock timed `latency_ms`: `host`; `cuda`, by events on the session's stream behind a backlog, so that "
        "the device does not wait for the host; or `scripted`."
    )
    host_latency_ms: float | None = _column(
        "On a GPU, what `latency_ms` is by the host's clock, from the call that enqueues to the end of the wait."
    )
    enqueue_ms: float | None = _column("On a GPU timed by events, what the host takes to enqueue a request.")
    copy_in_ms: float | None = _column("On a GPU, the way of a batch there from pinned memory, by events.")
    copy_out_ms: float | None = _column("On a GPU, the way of the logits back to pinned memory, by events.")
    held_back_by: str | None = _column(
        "The longest of `latency_ms` (`gpu-bound`), `enqueue_ms` (`launch-bound`: a CUDA graph helps) and both copies "
        "(`copy-bound`)."
    )
    other_cpu_percent: float | None = _column(
        "CPU time that other processes had on the worker's cores while blocks were timed, in percent of all they had."
    )
    steal_percent: float | None = _column("Time that a hypervisor kept those cores for other guests, likewise.")
    throttled_ms: float | None = _column("Time that the worker's threads waited for the cgroup's CPU quota, in all.")
    switches_per_s: float | None = _column(
        "Times a second that a thread of the worker had to give way to another, on each CPU."
    )
    clock_mhz: float | None = _column(
        "Clock of the worker's CPUs, or of the GPU's multiprocessors, right after a block: median over timed blocks."
    )
    clock_moved_percent: float | None = _column("How far the slowest timed block's clock was below the fastest's.")
    precision_ran: str | None = _column("Share of the multiply-accumulates by the type they really ran in.")
    placement: str | None = _column("Graph nodes by the provider or device that ran them.")
    threads: int | None = _column("Threads that the backend was found set to use, total over all requests in flight.")
    pinned_cpus: str | None = _column("CPUs that the worker's threads were kept to; empty if they were not.")
    reference: str | None = _column(
        "What outputs are held against: `float64 module` is PyTorch's network in float64; `against itself` is the ONNX "
        "file that was given, evaluated in float64 without optimisation; `quantised file in float64` is the int8 or "
        "fp8 file's own graph, so that what quantisation costs is not taken for an error of the backend."
    )
    parity_error: float | None = _column("Largest error of a session, relative to what the inputs change.")
    quantization_error: float | None = _column(
        "The same against PyTorch's network in float64: what quantisation cost; empty where nothing was quantised."
    )
    parity_tolerance: float | None = _column("Largest such error that passes.")
    parity_cosine: float | None = _column("Smallest cosine of a session's centred outputs with the reference's.")
    top1_agreement: float | None = _column("Share of images with the reference's class; empty if all share one.")
    artefact_sha256: str | None = _column("Hash of the files that were timed.")
    verified_sha256: str | None = _column("Hash of the files whose outputs were compared with the reference.")
    artefact_mib: float | None = _column("Size of the artefact's files in MiB.")
    export_s: float | None = _column("Seconds that writing the artefact took, when it was made.")
    import_s: float | None = _column("Seconds to import the backend's library: median over rounds.")
    load_s: float | None = _column("Seconds to open the artefact, compiling apart: median over rounds.")
    compile_s: float | None = _column(
        "Seconds to compile, where a backend tells that apart from loading: of the trial before the rounds and of "
        "every round, the median of those that found no compiled graph in the backend's cache, of all if every one did."
    )
    compile_cache: str | None = _column("How many of those found their graph in the backend's cache, of all: `6/7`.")
    first_inference_ms: float | None = _column("The first request after opening: median over rounds.")
    peak_memory_mib: float | None = _column(
        "Largest resident memory of a worker process and its children, in MiB; on a GPU one process measures all "
        "batches of an engine."
    )
    device_memory_mib: float | None = _column(
        "On a GPU, the most memory that NVML saw a worker process hold there, libraries and workspaces included, in "
        "MiB."
    )
    device_allocated_mib: float | None = _column(
        "On a GPU, the most that PyTorch's allocator gave out, in MiB: weights and activations of PyTorch's own "
        "backends, inputs and outputs of all."
    )
    gpu_temperature_c: float | None = _column("Highest temperature of the GPU at an edge of a timed block.")
    power_w: float | None = _column("Mean power of the device while throughput was measured, in W.")
    idle_power_w: float | None = _column("Mean power of the device before the run, in W.")
    energy_j_per_image: float | None = _column("Energy of the device per image while throughput was measured, in J.")
    energy_above_idle_j_per_image: float | None = _column("The same without what the device draws when idle.")
    energy_note: str | None = _column("Why the columns of energy are empty.")
    flops_per_byte: float | None = _column(
        "Arithmetic intensity: FLOPs of a request over the least bytes it moves: each weight, image and logit once."
    )
    ceiling_gflop_s: float | None = _column(
        "Fastest product of the row's precision seen on this machine, in 10^9 FLOP/s."
    )
    ceiling_gb_s: float | None = _column("Memory bandwidth of a large copy seen on this machine, in 10^9 bytes/s.")
    attainable_ms: float | None = _column(
        "Least latency under these ceilings: each layer takes the longer of its arithmetic and its weights' way."
    )
    percent_of_attainable: float | None = _column(
        "100 x attainable_ms / latency_ms; over 100 where Winograd's convolutions multiply less than is counted."
    )
    bound_by: str | None = _column("What binds for the longer part of attainable_ms: `compute` or `bandwidth`.")
    speedup: float | None = _column("Latency of the `torch` fp32 row with the same model, batch and threads over this.")
    parameters: int | None = _column("Weights and biases of the model.")
    gmacs: float | None = _column("Multiply-accumulates of one image, in 10^9 (FLOPs are twice that).")
    device_name: str | None = _column("The processor or GPU.")
    driver: str | None = _column("GPU driver; empty on a CPU.")
    backend_version: str | None = _column("Version of the backend's library.")
    vggbench_version: str | None = _column("Version of vggbench.")
    commit: str | None = _column("Commit of vggbench's checkout; empty if it was not run from one.")
    started_at: str | None = _column("When the run began (UTC).")
    cell_id: str | None = _column("Identity of the cell: equal for equal requests on any machine.")
    spec_hash: str | None = _column("Identity of the model spec.")


COLUMNS: Mapping[str, str] = {column.name: str(column.metadata["description"]) for column in fields(Row)}


def column_dictionary() -> str:
    """Return the columns as a Markdown table."""
    return columns_table({found.name: (str(found.type), COLUMNS[found.name]) for found in fields(Row)})


def columns_table(columns: Mapping[str, tuple[str, str]]) -> str:
    """Return columns, each with its annotated type and its meaning, as a Markdown table."""
    names = {"str": "text", "int": "integer", "float": "number"}
    lines = [f"| `{name}` | {names[kind.removesuffix(' | None')]} | {text} |" for name, (kind, text) in columns.items()]
    return "\n".join(["| column | type | meaning |", "| --- | --- | --- |", *lines]) + "\n"
