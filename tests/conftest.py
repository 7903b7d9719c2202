"""What tests of every room share."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import botocore.session
import pytest
from hypothesis import settings

from spotune.local import stack as embedded
from spotune.local.state import StackState

# How long an example takes says more of the machine than of the code.
settings.register_profile("spotune", deadline=None)
settings.load_profile("spotune")

# botocore reads what it knows of a service anew for every session: most of the time that a client takes to be made.
botocore.session.create_loader = cache(botocore.session.create_loader)


@pytest.fixture(scope="session")
def stack(pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StackState]:
    """A stack of this session's own: real handlers, emulator, double. Tests that use it are marked `embedded`.

    They share it, so each works under names of its own.
    """
    home = tmp_path_factory.mktemp("stack")
    (home / "cache").mkdir()
    # Later sessions find the bundle made.
    (home / "cache" / "bundles").symlink_to(pytestconfig.cache.mkdir("bundles"), target_is_directory=True)
    state = embedded.up(home, emulator_port=0, double_port=0)
    yield state
    embedded.down(home)
