"""The calculators at the command line: no API, no account, no files."""

import json
from typing import get_args

import pytest

from spotune.cli.main import run
from spotune.contracts.request import Method

LLAMA = "meta-llama/Llama-3.1-8B"


def answer(capsys, *arguments):
    code = run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().out)


def refusal(capsys, *arguments):
    code = run([*arguments, "--json"])
    return code, json.loads(capsys.readouterr().err)["error"]


def test_one_configuration_is_worked_out(capsys):
    code, body = answer(capsys, "estimate", "--model", LLAMA, "--method", "qlora", "--gpu", "A10G", "--seq-len", "1024")
    assert code == 0
    assert body["fits"]
    assert body["parameters"]["total"] == 8_030_261_248
    assert sum(body["memory"]["parts"].values()) == body["memory"]["mid"] < body["memory"]["p95"]
    assert body["rents"][0]["instance_type"].startswith("ml.g5.")
    prices = [rent["million_tokens"]["mid"] for rent in body["rents"]]
    assert prices == sorted(prices)
    speed, rent = body["tokens_per_second"]["mid"], body["rents"][0]
    assert rent["million_tokens"]["mid"] == pytest.approx(rent["price"] / 3600 * 1e6 / speed)


def test_what_does_not_fit_is_still_worked_out_and_exits_2(capsys):
    code, body = answer(capsys, "estimate", "--model", LLAMA, "--method", "full", "--gpu", "A10G")
    assert code == 2
    assert not body["fits"]
    assert body["memory"]["p95"] > body["memory"]["usable"]


def test_several_gpus_share_what_sharding_shares(capsys):
    common = ("estimate", "--model", LLAMA, "--method", "full", "--gpu", "A100-80", "--gpus", "8")
    _, replicated = answer(capsys, *common, "--sharding", "ddp")
    _, sharded = answer(capsys, *common)
    assert sharded["configuration"]["sharding"] == "fsdp"
    assert sharded["memory"]["mid"] < replicated["memory"]["mid"] / 3


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--gpu", "A11G"], "unknown_gpu", "Known: A100-40"),
        (["--gpu", "A10G", "--gpus", "0"], "invalid_value", "greater than or equal to 1"),
        (["--gpu", "A10G", "--seq-len", "-5"], "invalid_value", "seq-len"),
        (["--gpu", "A10G", "--seq-len", "9999999"], "sequence_too_long", "context is 131072"),
        (["--gpu", "T4", "--precision", "bf16"], "precision_not_supported", "T4 has no bf16"),
        (["--gpu", "A10G", "--gpus", "3"], "gpu_count_not_possible", "Possible: 1, 4, 8"),
        (["--gpu", "A10G", "--gpus", "4", "--sharding", "none"], "sharding_not_possible", "idle"),
        (["--gpu", "A10G", "--sharding", "zero3"], "sharding_not_possible", "one GPU"),
        (["--gpu", "A10G", "--gpus", "4", "--sharding", "ddp", "--offload"], "sharding_not_possible", "offload"),
        (["--gpu", "A10G", "--method", "magic"], "invalid_value", "method"),
        (["--gpu", "A10G", "--target", "q_proj,w_proj"], "unknown_target_module", "w_proj"),
    ],
)
def test_what_cannot_be_is_refused_with_what_can(capsys, options, code, says):
    exit_code, error = refusal(capsys, "estimate", "--model", LLAMA, *options)
    assert (exit_code, error["code"]) == (2, code)
    assert says in error["message"]


def test_an_unknown_model_is_refused_with_near_names(capsys):
    code, error = refusal(capsys, "compare-methods", "--model", "meta-llama/Lama-3.1-8B")
    assert (code, error["code"]) == (2, "unknown_model")
    assert "meta-llama/Llama-3.1-8B" in error["message"]


def test_all_methods_stand_side_by_side(capsys):
    code, body = answer(capsys, "compare-methods", "--model", "Qwen/Qwen2.5-7B", "--seq-len", "1024")
    assert code == 0
    by_name = {one["method"]: one for one in body["methods"]}
    assert tuple(by_name) == get_args(Method)
    assert by_name["full"]["trainable"] == body["parameters"]
    assert by_name["ia3"]["trainable"] < by_name["lora"]["trainable"] < by_name["dora"]["trainable"]
    assert by_name["qlora"]["memory"]["mid"] < by_name["lora"]["memory"]["mid"] < by_name["full"]["memory"]["mid"]
    assert by_name["qlora"]["smallest_gpu"] is not None


def test_people_get_tables(capsys):
    assert run(["estimate", "--model", LLAMA, "--gpu", "L4", "--method", "qlora", "--seq-len", "512"]) == 0
    shown = capsys.readouterr().out
    assert "weights" in shown
    assert "fits" in shown
    assert run(["compare-methods", "--model", LLAMA]) == 0
    assert "bottleneck" in capsys.readouterr().out
