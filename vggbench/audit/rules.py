"""What must hold in a table of VGG timings: one function a rule, each a comparison at a time.

Standard library only. Two figures contradict each other only where the ends that they are believed to lie between do;
a figure without an interval is believed to 3 % (`figures.ASSUMED_DOUBT`).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from itertools import combinations, pairwise

from vggbench.audit.comparison import Comparison, Rule
from vggbench.audit.figures import Figure
from vggbench.audit.single_rows import (
    end_to_end_takes_longer,
    ends_enclose,
    figures_keep_limits,
    percentiles_rise,
    speedups_agree,
)
from vggbench.audit.table import Entry, macs_of, published_parameters

# Backends that fold a batch norm into the convolution before it, so that it costs nothing.
COMPILED = ("onnxruntime", "ort", "openvino", "tensorrt", "trt", "tvm")
FOLDED_DOUBT = 0.05  # kernels are chosen anew for other weights; a batch norm that is left in costs far more
CHAINS = (("vgg11", "vgg13", "vgg16", "vgg19"), ("vgg11_bn", "vgg13_bn", "vgg16_bn", "vgg19_bn"))
LITTLE_DOUBT = 0.10  # latency and throughput are measured one after the other, on a machine that moves meanwhile
LEAST_BUSY = 0.5  # even one request at a time keeps a device at work but for the copies to and from it
THOUSAND_TIMES = (300.0, 3000.0)  # about a thousand, whatever else is off
FASTEST_FLOPS = 2e16  # a second: no single device of today does more in any precision
SLOWEST_FLOPS = 1e7  # a second: a thousandth of one slow core
MOST_BY_WINOGRAD = 400.0  # percent: F(4x4, 3x3) needs 36 multiplications for 144 (Lavin and Gray, CVPR 2016)
DIGITS_BEYOND_CHANCE = 4  # significant digits: with fewer, two networks may well have one figure


def deeper_takes_longer(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold vgg11 < vgg13 < vgg16 < vgg19 in time at equal settings: each has all layers of the one before, and more."""
    for group in _comparable(entries, with_batch=True):
        for chain in CHAINS:
            found = [entry for name in chain for entry in group if entry.variant == name]
            for shallow, deep in combinations(found, 2):
                if shallow.variant != deep.variant:
                    yield from _compare_times("order", shallow, deep, "has more layers and")


def batch_norm_folds(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold `_bn` equal to plain where a compiled backend folds it."""
    for group in _comparable(entries, with_batch=True):
        for plain, normalised in combinations(sorted(group, key=lambda entry: entry.variant), 2):
            if normalised.variant == f"{plain.variant}_bn" and _is_compiled(plain):
                yield _folded(plain, normalised)


def larger_batch_takes_longer(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold that a request of more images takes no less time."""
    for group in _comparable(entries, with_batch=False):
        sized = sorted((entry for entry in group if entry.batch and entry.latency), key=lambda entry: entry.batch or 0)
        for smaller, larger in pairwise(sized):
            if smaller.batch != larger.batch and smaller.variant == larger.variant:
                yield from _compare_times("batch", smaller, larger, "has more images and")


def latency_fits_throughput(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold throughput x latency / batch, the mean number of requests in flight, against those sent (Little's law)."""
    for entry in entries:
        if entry.latency and entry.latency.value > 0 and entry.throughput and entry.batch:
            yield _little(entry, entry.latency, entry.throughput, entry.batch)


def speed_is_possible(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold the operations a second that a row implies between what the slowest and the fastest device do."""
    for entry in entries:
        for name, figure in (("latency", entry.latency), ("throughput", entry.throughput)):
            if figure is not None and figure.value < 0:
                yield Comparison("units", (entry,), f"has a {name} of {figure.value:g}, below nothing")
        flops = _implied_flops(entry)
        if flops is not None:
            possible = SLOWEST_FLOPS <= flops <= FASTEST_FLOPS
            text = f"implies {flops:.1e} FLOP/s, which no device does; look at the figure's unit"
            yield Comparison("units", (entry,), "" if possible else text)


def share_of_ceiling_is_possible(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold the percent of the attainable against the most that fast convolutions can save."""
    for entry in entries:
        text = entry.cells.get("percent_of_attainable", "")
        percent = _number(text)
        if percent is not None:
            wrong = f"claims {text} % of what is attainable; between 0 and {MOST_BY_WINOGRAD:.0f} is possible"
            yield Comparison("ceiling", (entry,), "" if 0 < percent <= MOST_BY_WINOGRAD else wrong)


def counts_are_exact(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold parameters and MACs against the network's own, to the digits given."""
    for entry in entries:
        if entry.spec is None:
            continue
        if entry.parameters:
            exact = published_parameters(entry.spec)
            wrong = f"gives {entry.parameters.value:,.0f} parameters; it has {exact:,}"
            yield Comparison("parameters", (entry,), "" if _is(entry.parameters, exact) else wrong)
        if entry.macs:
            yield _macs(entry, entry.macs, macs_of(entry.spec))


def figures_differ(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Find one figure that stands for two different networks, to more digits than chance allows."""
    for group in _comparable(entries, with_batch=True):
        timed = [entry for entry in group if _time(entry) is not None]
        for one, other in combinations(timed, 2):
            if one.variant != other.variant:
                same = _text_of_time(one) == _text_of_time(other) and _digits(_text_of_time(one))
                text = f"has the very figure of {other.title}: one of them was copied"
                copied = same and same >= DIGITS_BEYOND_CHANCE
                yield Comparison("copied", (one, other), text if copied else "")


def ok_rows_are_ok(entries: Sequence[Entry]) -> Iterator[Comparison]:
    """Hold a row that says `ok` against its own proofs."""
    for entry in entries:
        if entry.cells.get("status") == "ok":
            yield Comparison("proof", (entry,), _broken_proof(entry))


RULES: tuple[Rule, ...] = (
    deeper_takes_longer,
    batch_norm_folds,
    larger_batch_takes_longer,
    latency_fits_throughput,
    speed_is_possible,
    share_of_ceiling_is_possible,
    counts_are_exact,
    figures_differ,
    ok_rows_are_ok,
    ends_enclose,
    percentiles_rise,
    end_to_end_takes_longer,
    figures_keep_limits,
    speedups_agree,
)


def compare_all(entries: Sequence[Entry]) -> list[Comparison]:
    """Return everything that was compared."""
    return [comparison for rule in RULES for comparison in rule(entries)]


def _comparable(entries: Iterable[Entry], *, with_batch: bool) -> list[list[Entry]]:
    """Return the entries in groups of equal settings, for all variants or, without the batch, for each."""
    groups: dict[object, list[Entry]] = defaultdict(list)
    for entry in entries:
        extra: object = entry.batch if with_batch else (entry.variant, entry.spec)
        groups[entry.settings, entry.in_flight, extra].append(entry)
    return [group for group in groups.values() if len(group) > 1]


def _compare_times(rule: str, less: Entry, more: Entry, why: str) -> Iterator[Comparison]:
    """Hold that `more` takes longer than `less`, by every figure that both have."""
    for name, one, other in (("latency", less.latency, more.latency), ("throughput", *_inverse(rule, less, more))):
        if one is not None and other is not None:
            shorter = other.high < one.low
            text = f"{why} a {'shorter latency' if name == 'latency' else 'higher throughput'} than {less.title}"
            yield Comparison(rule, (more, less), text if shorter else "")


def _inverse(rule: str, less: Entry, more: Entry) -> tuple[Figure | None, Figure | None]:
    """Return seconds an image from throughput; a larger batch may well have less of them."""
    if rule == "batch":
        return None, None
    return _seconds_an_image(less.throughput), _seconds_an_image(more.throughput)


def _seconds_an_image(rate: Figure | None) -> Figure | None:
    if rate is None or rate.low <= 0 or rate.value <= 0:
        return None
    return Figure(1 / rate.value, 1 / rate.high, 1 / rate.low, 0.0)


def _time(entry: Entry) -> Figure | None:
    return entry.latency or _seconds_an_image(entry.throughput)


def _is_compiled(entry: Entry) -> bool:
    texts = " ".join(text.lower() for _name, text in entry.settings)
    return any(word.startswith(COMPILED) for word in texts.replace("(", " ").split())


def _folded(plain: Entry, normalised: Entry) -> Comparison:
    one, other = _time(plain), _time(normalised)
    if one is None or other is None:
        return Comparison("fold", (normalised, plain))
    ratio = other.value / one.value
    apart = other.low > one.high or other.high < one.low
    text = f"takes {ratio:.2f} times as long as {plain.title}, where a compiled backend folds the batch norm away"
    return Comparison("fold", (normalised, plain), text if apart and abs(ratio - 1) > FOLDED_DOUBT else "")


def _little(entry: Entry, latency: Figure, throughput: Figure, batch: int) -> Comparison:
    busy = throughput.value * latency.value / batch
    least = throughput.low * latency.low / batch
    most = throughput.high * latency.high / batch
    text = ""
    for name, factor in (("a thousand times too long", busy), ("a thousand times too short", 1 / busy if busy else 0)):
        if THOUSAND_TIMES[0] < factor / (entry.in_flight or 1) < THOUSAND_TIMES[1]:
            text = f"has a latency that is {name} for its throughput; look at the latency's unit"
    if not text and entry.in_flight and least > entry.in_flight * (1 + LITTLE_DOUBT):
        text = f"keeps {busy:.2f} requests in flight by throughput x latency, {entry.in_flight} were"
    if not text and most < LEAST_BUSY:
        text = f"completes {throughput.value:g} images/s where its latency alone allows {batch / latency.value:.3g}"
    return Comparison("throughput", (entry,), text)


def _implied_flops(entry: Entry) -> float | None:
    if entry.spec is None:
        return None
    if entry.throughput and entry.throughput.value > 0:
        return 2 * macs_of(entry.spec) * entry.throughput.value
    if entry.latency and entry.latency.value > 0:
        return 2 * macs_of(entry.spec) * (entry.batch or 1) / entry.latency.value
    return None


def _macs(entry: Entry, given: Figure, exact: int) -> Comparison:
    """Compare with MACs and with FLOPs, which tables call each other; in units or in 10^9."""
    fits = any(_is(given.scaled(unit), factor * exact) for unit in (1.0, 1e9) for factor in (1, 2))
    text = f"gives {given.value:g} for its multiply-accumulates; it has {exact / 1e9:.3f} x 10^9"
    return Comparison("macs", (entry,), "" if fits else text)


def _is(figure: Figure, exact: float) -> bool:
    # A hair more than half a unit: binary fractions.
    return abs(figure.value - exact) <= figure.half_digit * (1 + 1e-6)


def _text_of_time(entry: Entry) -> str:
    figure = _time(entry)
    return f"{figure.value:.12g}" if figure else ""


def _digits(text: str) -> int:
    return len(text.partition("e")[0].replace(".", "").strip("-0"))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _broken_proof(entry: Entry) -> str:
    cells = entry.cells
    error, allowed = _number(cells.get("parity_error", "")), _number(cells.get("parity_tolerance", ""))
    if error is not None and allowed is not None and not error <= allowed:  # NaN passes nothing
        return f"is ok with an error of {error:g} where {allowed:g} passes"
    timed, verified = cells.get("artefact_sha256"), cells.get("verified_sha256")
    if timed and verified and timed != verified:
        return "is ok though the files timed are not those verified"
    ran, asked = cells.get("precision_ran", ""), cells.get("precision", "")
    return f"is ok in {asked} though {ran} ran" if ran and asked and not ran.startswith(f"{asked}:") else ""
