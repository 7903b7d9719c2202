"""What the tuned model does worse than the one that its training began from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from spotune.contracts.scores import METRIC_NAMES, Comparison, Forgotten
from spotune.contracts.training import TrainingConfig

NO_REPLAY = (
    "Training went on from the champion, and no row of the champion's own data is known to stand beside the new ones: "
    "a share of them (train_on.replay_share) keeps what it had learnt."
)


def forgotten(overall: Sequence[Comparison], slices: Mapping[str, Sequence[Comparison]]) -> tuple[Forgotten, ...]:
    """The comparisons whose interval lies wholly on the worse side: over all rows first, then slice by slice.

    Of twenty that are truly equal one looks worse, or better, by chance.
    """
    parts = {"": overall, **slices}
    return tuple(
        Forgotten(slice=name, comparison=each) for name, compared in parts.items() for each in compared if each.worse
    )


def warnings_of(found: Sequence[Forgotten], config: TrainingConfig) -> Iterator[str]:
    """The same in a sentence; and after a warm start what would have helped, where slices are among it."""
    if not found:
        return
    champion = config.champion if config.champion is not None and config.champion.start else None
    origin = f"the champion {champion.name}" if champion is not None else "the base model"
    names = dict.fromkeys(each.slice for each in found)
    parts = "; ".join(f"{_words(name)} in {', '.join(_metrics(found, name))}" for name in names)
    yield f"Worse than {origin}, which training began from: {parts}."
    if champion is not None and any(names) and not champion.replayed_rows:
        yield NO_REPLAY


def _words(name: str) -> str:
    return f"slice {name}" if name else "all rows"


def _metrics(found: Sequence[Forgotten], name: str) -> list[str]:
    return [METRIC_NAMES[each.comparison.metric] for each in found if each.slice == name]
