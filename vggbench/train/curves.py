"""Loss, accuracy and learning rate over the epochs as one self-contained page. Imports plotly inside its function."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from vggbench.train.scores import EpochScore

TRAIN_COLOUR, VALIDATION_COLOUR, RATE_COLOUR = "#1f77b4", "#d62728", "#7f7f7f"
PANELS = ("cross-entropy", "accuracy %", "learning rate")


def curves_html(title: str, history: Sequence[EpochScore]) -> str:
    """Return the page; it needs no network."""
    from plotly.subplots import make_subplots

    figure = make_subplots(rows=1, cols=len(PANELS), subplot_titles=PANELS)
    epochs = [row.epoch for row in history]
    for column, part, factor in ((1, "loss", 1), (2, "accuracy", 100)):
        for kind, colour in (("train", TRAIN_COLOUR), ("validation", VALIDATION_COLOUR)):
            values = [getattr(row, f"{kind}_{part}") for row in history]
            if any(value is not None for value in values):
                heights = [None if value is None else factor * value for value in values]
                figure.add_trace(_line(kind, epochs, heights, colour, shown=column == 1), row=1, col=column)
    rates = [row.learning_rate for row in history]
    figure.add_trace(_line("learning rate", epochs, rates, RATE_COLOUR, shown=False), row=1, col=3)
    figure.update_xaxes(title_text="epoch", rangemode="tozero")
    figure.update_yaxes(rangemode="tozero")
    figure.update_layout(title_text=title, template="plotly_white", legend={"orientation": "h", "y": -0.2})
    return str(figure.to_html(include_plotlyjs=True, full_html=True))


def _line(name: str, epochs: Sequence[int], values: Sequence[float | None], colour: str, *, shown: bool) -> Any:
    from plotly.graph_objects import Scatter

    return Scatter(
        x=epochs,
        y=values,
        name=name,
        legendgroup=name,
        showlegend=shown,
        mode="lines+markers",
        line={"color": colour},
    )
