"""`catalog`, from the API and from the bundle."""

import json

import pytest

from spotune.cli.main import run
from spotune.contracts.market import Quotas
from spotune.planner import load_catalog
from spotune.service.market import refresh


def test_the_bundle_has_every_type_with_its_price(capsys):
    assert run(["catalog", "--offline", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert body["quotes"].keys() == load_catalog().instances.keys()
    assert run(["catalog", "--offline", "--gpu", "l4"]) == 0
    shown = capsys.readouterr().out
    assert "ml.g6.xlarge" in shown
    assert "ml.g5.xlarge" not in shown
    assert "days old" in shown


def test_an_unknown_card_is_refused_with_those_there_are(capsys):
    assert run(["catalog", "--offline", "--gpu", "L5"]) == 2
    assert "L40S" in capsys.readouterr().err


@pytest.mark.usefixtures("service")
def test_the_installations_own_prices_and_quotas_are_shown(service, capsys):
    service.world.market.values = {
        "sagemaker_prices": {"ml.g5.xlarge": 1_500_000},
        "quotas": {"ml.g5.xlarge": Quotas(spot=7, on_demand=0)},
    }
    refresh(service.world.here)
    service.world.clock.now += 301
    assert run(["catalog", "--gpu", "A10G"]) == 0
    shown = capsys.readouterr().out
    assert "$1.50" in shown
    assert "7 / 0" in shown
    assert "gave no answer" in shown


@pytest.mark.usefixtures("service")
def test_a_region_that_the_installation_lacks_is_refused_with_those_it_has(service, capsys):
    assert run(["catalog", "--region", "eu-west-1"]) == 2
    assert "us-east-1" in capsys.readouterr().err
