"""What the base model, the champion and the tuned model are worth on the held-out rows and the golden prompts.

Base and champion are measured once: what is known of them lies beside the checkpoints.

    the champion is              the base is measured             the champion is measured
    not there                    inside the model, adapter off    -
    an adapter to go on from     inside the model, adapter off    as the model before its first step
    whole weights to go on from  as a guest                       as the model before its first step
    only to be compared with     inside the model, adapter off    as a guest
"""

from __future__ import annotations

import hashlib
from dataclasses import replace
from functools import partial
from typing import Any

from spotune.contracts.base import Contract
from spotune.contracts.checkpoint import BASE_SCORES_NAME, CHAMPION_SCORES_NAME
from training_container.champion import Champion
from training_container.device import Machine
from training_container.evaluation.comparison import Measurement
from training_container.evaluation.evaluator import Evaluator
from training_container.faults import TrainingFault
from training_container.folders import read_if_whole, replace_file
from training_container.guests import ask_guest
from training_container.loading import load_base
from training_container.methods import base_of
from training_container.objectives import objective_of
from training_container.objectives.reference import Reference
from training_container.objectives.supervised import Supervised
from training_container.run import Run

PUBLICATION_SHARE = 0.5
"""Share of the publication reserve that writing the model keeps for itself."""


class KeptScores(Contract):
    """`checkpoints/base_scores.json` and `champion_scores.json`: what a model did, so that it is measured once."""

    identity: str
    measured: Measurement
    seconds: float


class _OutOfTime(Exception):
    """The tuned model's answers would take time that publication needs."""


def ask_guests(this: Run) -> None:
    """Measure what is not inside the model that is trained, before that one is loaded.

    Raises:
        TrainingFault: the champion does not fit the base model, or the time limit leaves no time to train after it.
    """
    champion = this.champion
    if champion is None:
        return
    if began_whole(this):
        if _uses_reference(this) or _known(this, BASE_SCORES_NAME, _base_identity(this)) is None:
            ask_guest(this, partial(_load_base, this), partial(_ask_base, this), packed=this.config.data.packing)
    elif not champion.start and _known(this, CHAMPION_SCORES_NAME, _champion_identity(this, champion)) is None:
        _ask_champion(this, champion)
    this.stop.check()
    this.reporter.phase("loading")


def ask_reference(this: Run) -> None:
    """Give each row what the base model gives to it, where the objective is measured from there."""
    if _uses_reference(this) and not began_whole(this):
        with base_of(this.engine.model):
            _complete_reference(this, this.engine.model)


def base_scores(this: Run) -> KeptScores:
    """The base model's scores, from an earlier attempt or a guest where there was one."""
    known = _known(this, BASE_SCORES_NAME, _base_identity(this))
    if known is not None:
        return known
    if began_whole(this):
        raise RuntimeError("the base model was to be asked before the champion took its place")
    with base_of(this.engine.model):
        return _score_base(this, this.engine.model)


def champion_scores(this: Run) -> KeptScores | None:
    """The champion's, None where there is none. One that training goes on from is the model before its first step."""
    champion = this.champion
    if champion is None:
        return None
    known = _known(this, CHAMPION_SCORES_NAME, _champion_identity(this, champion))
    return known or _score_champion(this, champion, this.evaluator, this.engine.model)


def began_whole(this: Run) -> bool:
    """True where the model that is trained began as a champion of whole weights: the base model is not in it."""
    return this.champion is not None and this.champion.start and this.champion.whole


def in_time(this: Run, measured: Measurement) -> Measurement:
    """The tuned model's loss, with answers and choices but for what the time limit leaves out: publication matters more
    than a score."""
    limits = this.config.limits
    latest = limits.max_runtime_seconds - PUBLICATION_SHARE * limits.publication_reserve_seconds
    hurried, model = _until(this, this.evaluator, latest, _OutOfTime()), this.engine.model
    try:
        measured = measured.with_(choices=hurried.choose(model))
        measured = measured.with_(golden=hurried.golden_answers(model))
        return measured.with_(answers=hurried.answers(model))
    except _OutOfTime:
        return measured


def _ask_champion(this: Run, champion: Champion) -> None:
    """As a guest; before it the base model, where the champion is measured from there."""
    this.reporter.phase("evaluating_champion")
    packed = this.config.data.packing
    if _uses_reference(this):
        ask_guest(this, partial(_load_base, this), partial(_complete_reference, this), packed=packed)
    apart = packed and champion.alone_in_line and isinstance(this.evaluator.objective, Supervised)
    evaluator = this.evaluator.apart() if apart else this.evaluator
    score = partial(_score_champion, this, champion, evaluator)
    ask_guest(this, champion.load, score, packed=packed and not apart)


def _ask_base(this: Run, model: Any) -> None:
    if _uses_reference(this):
        _complete_reference(this, model)
    if _known(this, BASE_SCORES_NAME, _base_identity(this)) is None:
        _score_base(this, model)


def _load_base(this: Run, machine: Machine) -> Any:
    return load_base(this.inputs.model, this.config, machine)


def _uses_reference(this: Run) -> bool:
    return objective_of(this.config.objective).uses_reference


def _complete_reference(this: Run, model: Any) -> None:
    this.reporter.phase("evaluating_base")
    reference = Reference(
        this.inputs.folders.checkpoints,
        this.identity.sha256,
        this.machine,
        this.world,
        this.evaluator.lines,
        this.evaluator.tokenizer.pad_token_id,
        this.stop.check,
        this.clock,
        this.config.checkpoint.interval_seconds,
    )
    this.corpus = reference.complete(model, this.corpus)
    this.evaluator = replace(this.evaluator, corpus=this.corpus)


def _score_base(this: Run, model: Any) -> KeptScores:
    this.reporter.phase("evaluating_base")
    return _measure(this, BASE_SCORES_NAME, _base_identity(this), this.evaluator, model)


def _score_champion(this: Run, champion: Champion, evaluator: Evaluator, model: Any) -> KeptScores:
    """Not beyond the time that is left for training.

    Raises:
        TrainingFault: it takes longer.
    """
    this.reporter.phase("evaluating_champion")
    limits = this.config.limits
    late = TrainingFault(
        "runtime_too_short",
        f"The time limit of {limits.max_runtime_seconds} s leaves no time to train after the champion was scored.",
        evidence=f"{limits.publication_reserve_seconds} s of it are kept for publication",
        remedy="Allow more time or money, a faster GPU, or fewer rows to evaluate.",
    )
    latest = limits.max_runtime_seconds - limits.publication_reserve_seconds
    hurried = _until(this, evaluator, latest, late)
    return _measure(this, CHAMPION_SCORES_NAME, _champion_identity(this, champion), hurried, model)


def _until(this: Run, evaluator: Evaluator, latest: float, late: Exception) -> Evaluator:
    """An evaluator that is left with `late` when so many seconds count towards the limit, by all ranks at once."""

    def check() -> None:
        this.stop.check()
        if this.world.any(this.reporter.counted > latest)[0]:
            raise late

    return evaluator.checking(check)


def _known(this: Run, name: str, identity: str) -> KeptScores | None:
    path = this.inputs.folders.checkpoints / name
    known = this.world.from_first(lambda: read_if_whole(KeptScores, path))
    return known if known is not None and known.identity == identity else None


def _measure(this: Run, name: str, identity: str, evaluator: Evaluator, model: Any) -> KeptScores:
    began = this.clock()
    measured = evaluator.measure(model)
    made = KeptScores(identity=identity, measured=measured, seconds=this.clock() - began)
    if this.world.first:
        replace_file(this.inputs.folders.checkpoints / name, made.model_dump_json(indent=1).encode())
    return made


def _base_identity(this: Run) -> str:
    """What the scores depend on: whatever is learnt from, the base, and what is asked."""
    answers = {"generation_examples", "max_new_tokens", "golden_new_tokens"}
    asked = this.config.evaluation.model_dump_json(include=answers)
    golden = this.inputs.golden
    prompts = hashlib.sha256(golden.read_bytes()).hexdigest() if golden is not None else ""
    return f"{this.identity.sha256} {this.checkpoints.base} {this.machine.precision} {asked} {prompts}"


def _champion_identity(this: Run, champion: Champion) -> str:
    return f"{_base_identity(this)} {champion.sha256}"
