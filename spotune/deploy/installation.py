"""An installation and its stacks: the one place that knows what they are called and what each is given.

spotune-<stage>-code      in the home region     infra/code.yaml      the code bucket
spotune-<stage>-further   in each further one    infra/region.yaml    buckets, and the way of events to the home
spotune-<stage>           in the home region     infra/template.yaml  everything else
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from spotune.contracts.errors import RequestRefused
from spotune.deploy.account import Account
from spotune.deploy.drawer import Drawer
from spotune.deploy.image_name import ImageName
from spotune.deploy.settings import (
    CODE,
    FURTHER,
    Settings,
    parameters,
    region_parameters,
    stack_name,
)
from spotune.deploy.stacks import Stack

REGIONS = "regions"
"""The note of the further regions that it was ever deployed in: jobs may run there that the settings name no more."""


@dataclass(frozen=True)
class Installation:
    """One installation in one account, deployed or not.

    Attributes:
        overrides: parameters of template.yaml in place of what the settings say; an emulator's.
        pause: seconds between two looks at CloudFormation.
    """

    account: Account
    settings: Settings
    overrides: Mapping[str, str] = field(default_factory=dict)
    pause: float = 3.0

    @property
    def stage(self) -> str:
        """Its name."""
        return self.settings.stage

    @property
    def home(self) -> Stack:
        """The stack of template.yaml."""
        return self._stack(stack_name(self.stage), self.settings.region)

    @property
    def code(self) -> Stack:
        """The stack of code.yaml."""
        return self._stack(stack_name(self.stage, CODE), self.settings.region)

    def further(self, region: str) -> Stack:
        """The stack of region.yaml in a further region."""
        return self._stack(stack_name(self.stage, FURTHER), region)

    @property
    def drawer(self) -> Drawer | None:
        """The code bucket; None before the first deployment."""
        bucket = self.code.outputs().get("CodeBucket")
        return None if bucket is None else Drawer(self.account.client("s3"), bucket)

    def home_parameters(self, bucket: str, code_key: str) -> dict[str, str]:
        """What template.yaml is given."""
        return parameters(self.settings) | {"CodeBucket": bucket, "CodeKey": code_key} | dict(self.overrides)

    def further_parameters(self, region: str) -> dict[str, str]:
        """What region.yaml is given in a further region."""
        source = {key: value for key, value in self.overrides.items() if key == "EventSource"}
        return region_parameters(self.settings, region) | source

    def check_image(self) -> None:
        """Refuse settings whose image no training job could pull.

        Raises:
            RequestRefused: none is named, or it lies in another account.
        """
        image = self.settings.image
        if image is None:
            raise RequestRefused(
                "The settings name no training image.",
                code="image_missing",
                param="image",
                remedy="`spotune image build` makes one; `spotune image push` sends it and names it in the settings.",
            )
        if (owner := ImageName.of(image).account) != self.account.id:
            raise RequestRefused(
                f"The training image lies in the account {owner}; your credentials belong to {self.account.id}.",
                code="image_of_another_account",
                param="image",
                remedy="Sign in to that account, or send one to yours: `spotune image build`, `spotune image push`.",
            )

    def _stack(self, name: str, region: str) -> Stack:
        return Stack(self.account.client("cloudformation", region), name, self.pause)
