from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest
import yaml
from botocore.config import Config

from spotune.store.base import Store
from spotune.store.dynamo import DynamoStore
from spotune.store.memory import MemoryStore
from tests.emulator import credentials, running_emulator

TEMPLATE = Path(__file__).parents[2] / "infra" / "template.yaml"


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with running_emulator(tmp_path_factory.mktemp("emulator"), "dynamodb") as url:
        yield url


@pytest.fixture(scope="session")
def dynamodb(emulator: str) -> Any:
    return boto3.client("dynamodb", config=Config(max_pool_connections=64), **credentials(emulator))


@pytest.fixture(scope="session")
def made_table(dynamodb: Any) -> str:
    """A table with the keys and indexes of the template that is deployed."""
    dynamodb.create_table(TableName="spotune", BillingMode="PAY_PER_REQUEST", **table_keys())
    return "spotune"


@pytest.fixture
def table(dynamodb: Any, made_table: str) -> str:
    """The table, empty."""
    for page in dynamodb.get_paginator("scan").paginate(TableName=made_table, ProjectionExpression="pk, sk"):
        for key in page["Items"]:
            dynamodb.delete_item(TableName=made_table, Key=key)
    return made_table


@pytest.fixture(params=["memory", "dynamo"])
def store(request: pytest.FixtureRequest) -> Store:
    if request.param == "memory":
        return MemoryStore()
    return DynamoStore(request.getfixturevalue("table"), request.getfixturevalue("dynamodb"))


def table_keys() -> dict[str, Any]:
    """The key part of the template's table."""

    class Loader(yaml.SafeLoader):
        """Reads CloudFormation's tags as nothing."""

    Loader.add_multi_constructor("!", lambda *_: None)
    resources = yaml.load(TEMPLATE.read_text(), Loader)["Resources"].values()  # SafeLoader with one constructor more
    properties = next(r["Properties"] for r in resources if r["Type"] == "AWS::DynamoDB::Table")
    return {name: properties[name] for name in ("AttributeDefinitions", "KeySchema", "GlobalSecondaryIndexes")}
