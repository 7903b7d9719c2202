import pytest

from spotune.contracts.dataset import DatasetReport
from spotune.contracts.errors import DatasetRefused, RequestRefused
from spotune.contracts.request import JobRequest
from spotune.planner import known_config, read_architecture, sequence_limit
from spotune.planner.volume import measure_volume
from tests.planner.cases import LARGE, SMALL, dataset, plan_for


def settings(prepared):
    return {setting.name: setting for setting in prepared.settings}


def test_every_auto_is_resolved_with_its_reason():
    prepared = plan_for()
    found = settings(prepared)
    assert set(found) == {
        "max_sequence_length",
        "n_epochs",
        "batch_size",
        "seed",
        "target_modules",
        "adapter.type",
        "optimizer",
        "learning_rate",
        "gradient_checkpointing",
        "save_interval_seconds",
    }
    assert all(setting.reason for setting in found.values())
    assert found["max_sequence_length"].value == str(prepared.config.data.max_sequence_length) == "256"
    assert found["batch_size"].value == str(prepared.config.optimization.global_batch_size)
    assert found["learning_rate"].value == "0.0005"
    assert prepared.config.adapter.alpha == 32


def test_what_the_request_fixes_is_taken_and_not_listed():
    prepared = plan_for(
        seed=7,
        hyperparameters={"batch_size": 12, "n_epochs": 4},
        adapter={"type": "qlora", "rank": 4, "alpha": 4, "dropout": 0.1, "target_modules": ["q_proj"]},
        choice={
            "max_sequence_length": 128,
            "learning_rate": 0.001,
            "gradient_checkpointing": True,
            "optimizer": "adamw",
            "save_interval_seconds": 30,
            "generation_examples": 40,
            "packing": False,
        },
    )
    config = prepared.config
    assert prepared.settings == ()
    assert (config.seed, config.method, config.data.max_sequence_length, config.data.packing) == (
        7,
        "qlora",
        128,
        False,
    )
    assert (config.optimization.epochs, config.optimization.global_batch_size) == (4, 12)
    assert (config.optimization.learning_rate, config.optimization.optimizer) == (0.001, "adamw")
    assert (config.adapter.rank, config.adapter.alpha, config.adapter.target_modules) == (4, 4, ("q_proj",))
    assert config.hardware.gradient_checkpointing
    assert config.checkpoint.interval_seconds == 30
    assert config.evaluation.generation_examples == 40
    assert 12 % config.hardware.micro_batch_size == 0


@pytest.mark.parametrize("rows", [1, 2, 10, 60, 400, 5000, 50_000])
def test_an_epoch_of_a_small_dataset_has_enough_optimizer_steps(rows):
    config = plan_for(training=dataset(rows)).config
    sequences = max(rows * 0.9 * 120 / (config.data.max_sequence_length * 0.95), 1)
    steps = sequences / config.optimization.global_batch_size
    assert steps >= 15 or config.optimization.global_batch_size == 1


def test_smaller_datasets_are_read_more_often():
    epochs = [plan_for(training=dataset(rows)).config.optimization.epochs for rows in (50, 400, 5000, 50_000, 500_000)]
    assert epochs == sorted(epochs, reverse=True)
    assert epochs[-1] == 1


def test_the_learning_rate_goes_by_method_and_size_times_the_multiplier():
    doubled = {"hyperparameters": {"learning_rate_multiplier": 2}}
    assert plan_for(LARGE).config.optimization.learning_rate == 2e-4
    assert plan_for(LARGE, **doubled).config.optimization.learning_rate == 4e-4
    assert plan_for(SMALL, adapter={"type": "full"}).config.optimization.learning_rate == 5e-5


def test_a_rate_and_a_multiplier_together_are_refused():
    with pytest.raises(RequestRefused) as refused:
        plan_for(hyperparameters={"learning_rate_multiplier": 2}, choice={"learning_rate": 0.001})
    assert refused.value.code == "conflicting_settings"


def test_full_training_has_no_adapter():
    config = plan_for(adapter={"type": "full"}).config
    assert config.adapter is None
    assert config.method == "full"


def test_long_rows_are_cut_where_nobody_asked_and_the_plan_says_so():
    prepared = plan_for(LARGE, training=dataset(rows=1000, mean=900, longest=30_000))
    assert prepared.config.data.max_sequence_length == 4096
    assert any("cut" in warning for warning in prepared.plan.warnings)


@pytest.mark.parametrize("model", [SMALL, LARGE, "openai-community/gpt2"])
def test_files_are_checked_with_the_length_at_which_the_run_cuts_them(model):
    """Checked with a longer one, a file whose answers all come later would pass, and fail on a paid GPU."""
    request = JobRequest(model=model, training_file="file-1")
    limit = sequence_limit(request, read_architecture(known_config(model)))
    long_rows = plan_for(model, training=dataset(longest=100_000))
    assert long_rows.config.data.max_sequence_length == limit


def test_the_sequence_is_never_longer_than_the_models_context():
    prepared = plan_for("openai-community/gpt2", training=dataset(rows=1000, mean=900, longest=3000))
    assert prepared.config.data.max_sequence_length == 1024
    with pytest.raises(RequestRefused) as refused:
        plan_for("openai-community/gpt2", choice={"max_sequence_length": 1025})
    assert refused.value.param == "training.max_sequence_length"


def test_without_a_tokenizer_lengths_are_guessed_from_bytes_with_a_warning():
    prepared = plan_for(training=dataset(counted=False))
    assert any("guessed from bytes" in warning for warning in prepared.plan.warnings)
    assert prepared.config.data.max_sequence_length == 512


def test_a_dataset_without_rows_is_refused():
    empty = DatasetReport(uri="s3://data/empty.jsonl", sha256="0" * 64, bytes=0, rows=0, format=None)
    with pytest.raises(DatasetRefused, match="no rows"):
        plan_for(training=empty)


def test_a_validation_file_leaves_all_rows_for_training():
    apart = plan_for(validation=dataset(rows=80))
    held_out = plan_for()
    assert "400 training rows" in settings(apart)["n_epochs"].reason
    assert "360 training rows" in settings(held_out)["n_epochs"].reason


def test_both_answers_of_a_preference_are_counted_once():
    pairs = dataset(rows=100, mean=200, longest=150)  # the mean is of both answers, the longest of one
    volume = measure_volume(pairs, pairs, sequence_length=160, packing=False, eval_fraction=0.1, row_sequences=2)
    assert (volume.tokens, volume.evaluation_tokens) == (pairs.tokens.total, pairs.tokens.total)
    assert volume.typical_length == 100
    cut = measure_volume(pairs, pairs, sequence_length=64, packing=False, eval_fraction=0.1, row_sequences=2)
    assert cut.tokens == 100 * 2 * 64
