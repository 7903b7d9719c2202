"""Who may train: everybody with a key, or those whose training jobs have a role of their own."""

from __future__ import annotations

from spotune.contracts.errors import NotAllowed
from spotune.service.installation import Settings


def check_may_train(settings: Settings, tenant: str) -> None:
    """Refuse a tenant that has no role where tenants have roles: no other's is handed to its jobs.

    Raises:
        NotAllowed: it has none.
    """
    if settings.tenants and tenant not in settings.tenants:
        raise NotAllowed(
            f"Training jobs of tenant {tenant} have no role in this installation.",
            code="tenant_without_role",
            remedy="Have the operator add it to the tenants of spotune-deploy.yaml, and deploy.",
        )
