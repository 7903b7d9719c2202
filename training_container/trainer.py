"""The training loop: optimizer steps, evaluations and checkpoints, each at a step that can be taken up again."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal, cast

import torch

from spotune.contracts.checkpoint import RunState
from spotune.contracts.training import TrainingConfig
from training_container.accumulation import Accumulation
from training_container.checkpoints import Checkpoint, Checkpoints, state_of
from training_container.corpus import Corpus, DataOrder, Loader, tokens_in
from training_container.device import Machine, fitting
from training_container.evaluation.comparison import Measurement
from training_container.evaluation.evaluator import Evaluator
from training_container.faults import Stopped, TooLarge, TrainingFault, out_of_memory
from training_container.memory import probed
from training_container.model import check_gradients
from training_container.objectives import objective_of
from training_container.progress import Clock, Reporter
from training_container.saving import Saver
from training_container.schedule import evaluation_steps, learning_rate
from training_container.sharding import Engine
from training_container.sharding.engine import State
from training_container.stop import StopRequest
from training_container.watchdog import Watchdog, step_hangs

WEIGHTS_NAME = "weights.safetensors"
EarlyEnd = Literal["time", "no_improvement"]
MAX_OVERFLOWS = 20
"""fp16 steps in a row whose gradients overflowed before the run is called diverged."""


class Trainer:
    """Trains one model on one corpus, on this rank of as many as the engine spans.

    All ranks see the same global batches and take their shares of each; whatever ends or interrupts the loop is agreed
    by all before anybody acts on it. A step's data and dropout follow from seed, step and rank; so weights, optimizer
    and `RunState` are all there is to save, and a run that was killed and taken up again makes the same weights as one
    that was not.
    """

    def __init__(
        self,
        engine: Engine,
        corpus: Corpus,
        config: TrainingConfig,
        *,
        machine: Machine,
        evaluator: Evaluator,
        checkpoints: Checkpoints,
        reporter: Reporter,
        stop: StopRequest,
        end: Callable[[TrainingFault], None],
        reserve_seconds: float,
        clock: Clock,
    ) -> None:
        self.state = RunState()
        self.order = DataOrder(
            corpus.training,
            global_batch=config.optimization.global_batch_size,
            epochs=config.optimization.epochs,
            seed=config.seed,
            grouped=not config.data.packing,
        )
        self._engine = engine
        self._world = engine.world
        self._loader = Loader(self.order)
        self._config = config
        self._machine = machine
        self._evaluator = evaluator
        self._checkpoints = checkpoints
        self._reporter = reporter
        self._stop = stop
        self._end = end
        self._watchdog = Watchdog(self._hangs)
        self._accumulation = Accumulation(
            engine,
            objective_of(config.objective),
            machine,
            pad=evaluator.tokenizer.pad_token_id,
            seed=config.seed,
        )
        self._deadline = config.limits.max_runtime_seconds - reserve_seconds
        self._clock = clock
        self._micro_batch = evaluator.lines
        self._evaluate_at = evaluation_steps(self.order, config.evaluation.evaluations_per_epoch)
        self._saver = Saver(checkpoints, clock, config.checkpoint.interval_seconds)
        self._measured: tuple[int, Measurement] | None = None
        self._interval = self._saver.interval
        self._saved = RunState()
        self._step_seconds = 0.0
        self._overflows = 0
        self._checked_gradients = False
        self._turned_at = reporter.counted
        self._speed: float | None = None

    def resume(self, checkpoint: Checkpoint) -> None:
        """Go on from a checkpoint.

        Raises:
            TrainingFault: the optimizer's state is spread over other ranks than these.
        """
        self.state = self._saved = self._world.from_first(lambda: state_of(checkpoint))
        if self.state.micro_batch and self.state.micro_batch_on == self._machine.name:
            self._micro_batch = min(self._micro_batch, self.state.micro_batch)
        self.load_weights(checkpoint)
        self._engine.load_optimizer_state(self._optimizer_state(checkpoint), self.state.loss_scale)

    def load_weights(self, checkpoint: Checkpoint) -> None:
        """Put a checkpoint's weights into the model. They may lie on the first rank's host alone."""
        self._engine.load_weights(self._world.tensors_of_first(checkpoint.folder / WEIGHTS_NAME))

    def _optimizer_state(self, checkpoint: Checkpoint) -> State:
        names = {file.name for file in checkpoint.manifest.files}
        name = self._engine.optimizer_name
        if name not in names:
            raise TrainingFault(
                "checkpoint_of_other_ranks",
                f"{checkpoint.folder.name} cannot be resumed with {self._config.hardware.sharding}"
                f" over {self._world.size} processes.",
                evidence=f"it has {', '.join(sorted(names))}; needed is {name}",
                remedy="Resume it with the sharding and the number of GPUs that wrote it.",
            )
        if not self._engine.sharded:
            return self._world.from_first(lambda: _read_optimizer(checkpoint.folder / name))
        return _read_optimizer(self._checkpoints.here(checkpoint) / name)

    def probe(self) -> None:
        """Take a step with the longest sequences that changes nothing, before anything is resumed or trained.

        What does not fit fails in the first minute, or goes on with a smaller micro-batch. Ranks that compute together
        find out in their first step, and all begin again.

        Raises:
            TrainingFault: a single sequence does not fit into memory.
        """
        if not probed(self._machine.device) or self._world.size > 1:
            return
        self._reporter.phase("training")
        _, size = fitting(self._micro_batch, self._try_step)
        self._engine.begin()
        self._engine.forget()
        self._fit(size)

    def _try_step(self, micro_batch: int) -> None:
        """As a step of a run that is under way: with gradients of another micro-batch, and the optimizer's state."""
        sequences = self.order.longest(min(2 * micro_batch, self._config.optimization.global_batch_size))
        self._accumulation.gradients(self.state.step, sequences, micro_batch)
        self._engine.rehearse()
        self._accumulation.gradients(self.state.step, sequences, micro_batch)

    def train(self) -> EarlyEnd | None:
        """Train to the end; returns why it ended early, if it did. The last state is saved and evaluated.

        Raises:
            Stopped: the process was asked to stop; the last state is saved.
            TrainingFault: the loss is not finite, or a single sequence does not fit into memory.
            OSError: the disk is full.
        """
        self._saver.start()
        self._turned_at = self._reporter.counted
        try:
            with self._watchdog:
                return self._train()
        except Stopped:
            self._save(beside=False)
            raise
        finally:
            self._saver.close()

    def _train(self) -> EarlyEnd | None:
        while True:
            self._stop.check()
            finished = self.state.step == self.order.total_steps
            out_of_time, save_due = self._world.any(not finished and self._out_of_time(), self._save_due())
            last = finished or out_of_time
            if last or self.state.step in self._evaluate_at:
                self._evaluate(beside=not last)
            gives_up = not finished and self._gives_up()
            ends = last or gives_up
            if ends or save_due:
                self._save(beside=not ends)
            if ends:
                return "no_improvement" if gives_up else "time" if out_of_time else None
            self._saver.keep_up(self._step_seconds)
            try:
                with self._watchdog.step():
                    self._step()
                continue
            except torch.OutOfMemoryError as error:
                reason = str(error)
            self._go_back(reason)  # outside the handler, which holds the step's memory

    def measured(self, step: int) -> Measurement | None:
        """The held-out loss at the best step, where this process was there."""
        return self._measured[1] if self._measured is not None and self._measured[0] == step else None

    def _save(self, *, beside: bool) -> None:
        """Keep a checkpoint of this very state, unless it is kept already or nothing was trained yet."""
        if self.state == self._saved:
            self._saver.wait()
            return
        state = self.state.with_(
            loss_scale=self._engine.loss_scale,
            peak_memory_bytes=self.peak_memory(),
            micro_batch=self._micro_batch,
            micro_batch_on=self._machine.name,
        )
        self._saver.save(state, self._files(), beside=beside)
        self._saved = self.state
        self._tell_interval()

    def _tell_interval(self) -> None:
        """Log where the disk has stretched the interval between checkpoints, or allows it again as it was."""
        interval = self._saver.interval
        if interval != self._interval:
            self._interval = interval
            self._reporter.log(step=self.state.step, save_interval_seconds=round(interval, 1))

    def _files(self) -> dict[str, Any]:
        """What this rank keeps: the first one the weights, and each its own part of the optimizer's state."""
        weights = self._engine.weights()
        files: dict[str, Any] = {WEIGHTS_NAME: weights} if self._world.first else {}
        if self._world.first or self._engine.sharded:
            files[self._engine.optimizer_name] = self._engine.optimizer_state()
        return files

    @property
    def warnings(self) -> tuple[str, ...]:
        """What was otherwise than planned."""
        planned, slow = self._evaluator.lines, self._saver.warnings
        if self._micro_batch == planned:
            return slow
        halved = f"Memory ended at the micro-batch of {planned} sequences; {self._micro_batch} were computed at once."
        return (halved, *slow)

    def peak_memory(self) -> int:
        """Bytes at the highest point of all attempts."""
        return max(self.state.peak_memory_bytes, self._machine.peak_memory())

    def _step(self) -> None:
        """One optimizer step over one global batch."""
        began = self._clock()
        step = self.state.step
        sequences = self._loader.at(step)
        rate = learning_rate(step, self.order.total_steps, self._config.optimization)
        with self._stop.at_once():
            loss, size = fitting(
                self._micro_batch,
                lambda size: self._accumulation.gradients(step, sequences, size),
                alone=self._world.size == 1,
            )
        self._fit(size)
        self._update(loss, rate)
        self._step_seconds = seconds = self._clock() - began
        tokens = sum(tokens_in(sequence) for sequence in sequences)
        self.state = self.state.with_(
            step=step + 1,
            tokens_seen=self.state.tokens_seen + tokens,
            train_seconds=self.state.train_seconds + seconds,
            train_loss=loss,
        )
        self._report(rate, tokens / seconds if seconds else 0.0)

    def _update(self, loss: float, rate: float) -> None:
        """Clip and apply the gradients.

        Raises:
            TrainingFault: loss or gradients are not finite.
        """
        if not self._checked_gradients:
            check_gradients(self._engine.model, self._engine.with_gradient())
            self._checked_gradients = True
        norm = self._engine.step(rate)
        self._overflows = 0 if math.isfinite(norm) else self._overflows + 1
        allowed = MAX_OVERFLOWS if self._engine.overflows_allowed else 0
        if not math.isfinite(loss) or self._overflows > allowed:
            raise TrainingFault(
                "loss_not_finite",
                f"Training diverged at step {self.state.step + 1}: loss {loss}, gradient norm {norm}.",
                evidence=f"rate {rate:.3g}, last loss {self.state.train_loss}",
                remedy="Lower the learning rate; check the data for rows that are not text.",
            )

    def _fit(self, micro_batch: int) -> None:
        """Go on with this micro-batch; the accumulation keeps the global batch."""
        if micro_batch != self._micro_batch:
            self._micro_batch = micro_batch
            self._reporter.log(step=self.state.step, micro_batch=micro_batch)

    def _go_back(self, reason: str) -> None:
        """Memory ended in the optimizer's step, and weights may be half new: go on from the last checkpoint.

        Raises:
            TrainingFault: there is none, or no smaller micro-batch.
            TooLarge: other ranks have taken the step, so that all have to begin again.
        """
        if self._micro_batch == 1:
            raise out_of_memory(reason)
        if self._world.size > 1:
            raise TooLarge(reason)
        self._saver.wait()
        newest = self._checkpoints.newest()
        if newest is None:
            raise out_of_memory(reason)
        torch.cuda.empty_cache()
        self.resume(newest)
        self._fit(self._micro_batch // 2)

    def _evaluate(self, *, beside: bool) -> None:
        """The held-out loss of this very state, once; a new best one is saved at once."""
        if self.state.evaluated_step == self.state.step:
            return
        self._reporter.phase("evaluating")
        with self._stop.at_once():
            measured = self._evaluator.measure_loss(self._engine.model)
        loss = measured.loss
        self._saver.wait()
        best = self._checkpoints.would_be_best(loss)
        if best:
            self._measured = self.state.step, measured
        self.state = self.state.with_(
            evaluated_step=self.state.step,
            eval_loss=loss,
            best_step=self.state.step if best else self.state.best_step,
            evaluations_without_gain=0 if best else self.state.evaluations_without_gain + 1,
        )
        if best:
            self._save(beside=beside)
        self._reporter.log(step=self.state.step, eval_loss=round(loss, 6))
        self._reporter.phase("training", eval_loss=loss)

    def _gives_up(self) -> bool:
        """True where as many evaluations in a row as the config has patience for brought no lower loss."""
        patience = self._config.evaluation.early_stopping_patience
        return patience is not None and self.state.evaluations_without_gain >= patience

    def _hangs(self, stacks: str) -> None:
        self._end(step_hangs(self.state.step + 1, self._watchdog.limit, stacks))

    def _save_due(self) -> bool:
        ends_epoch = self.state.step % self.order.steps_per_epoch == 0
        return self.state.step > 0 and (ends_epoch or self._saver.due(self._step_seconds))

    def _out_of_time(self) -> bool:
        """True where another turn of the loop, as long as the last one, might end after publication has to begin."""
        now = self._reporter.counted
        turn, self._turned_at = now - self._turned_at, now
        if now + turn < self._deadline:
            return False
        if self.state.step == 0:
            raise TrainingFault(
                "runtime_too_short",
                f"The time limit of {self._config.limits.max_runtime_seconds} s leaves no time for a single step.",
                evidence=f"{now:.0f} s have passed, {self._reporter.unseen:.0f} s of them by plan before the container"
                f" ran; training must end after {self._deadline:.0f} s",
                remedy="Allow more time or money, or a faster GPU.",
            )
        return True

    def _report(self, rate: float, speed: float) -> None:
        state = self.state
        self._speed = speed if self._speed is None else 0.9 * self._speed + 0.1 * speed
        left = self.order.total_steps - state.step
        self._reporter.log(
            step=state.step,
            train_loss=round(state.train_loss or 0.0, 6),
            learning_rate=rate,
            tokens_per_second=round(self._speed, 1),
        )
        self._reporter.update(
            step=state.step,
            epoch=round(state.step / self.order.steps_per_epoch, 4),
            loss=state.train_loss,
            tokens_per_second=round(self._speed, 1),
            eta_seconds=round(left * state.train_seconds / state.step, 1),
            peak_memory_bytes=self.peak_memory(),
            train_seconds=round(state.train_seconds, 3),
        )


def _read_optimizer(path: Path) -> State:
    return cast(State, torch.load(path, map_location="cpu", weights_only=True))
