"""A world in this process for each test, and two tenants in it."""

from __future__ import annotations

import pytest

from spotune.service.installation import install
from tests.in_process import Client, World, client_of
from tests.in_process import world as make_world


@pytest.fixture
def world() -> World:
    made = make_world()
    install(made.here)
    return made


@pytest.fixture
def client(world: World) -> Client:
    return client_of(world.here, "acme")


@pytest.fixture
def stranger(world: World) -> Client:
    return client_of(world.here, "globex")
