"""What a tenant may ask of trackers: its own secrets alone, and no address that only machines of the account reach."""

from __future__ import annotations

from urllib.parse import urlsplit

from spotune.contracts.addresses import ANYWHERE, forbidden
from spotune.contracts.errors import RequestRefused
from spotune.contracts.request import Integration, JobRequest
from spotune.planner.trackers import tracker_configs
from spotune.service.installation import Settings


def secrets_folder(stage: str, tenant: str) -> str:
    """What the names of a tenant's secrets begin with; the training role may read those of all tenants."""
    return f"spotune/{stage}/trackers/{tenant}/"


def check_integrations(request: JobRequest, settings: Settings, tenant: str) -> None:
    """Refuse a secret of somebody else, an address that is not to be reached, a tracker named twice, and one that
    needs a network where containers have none.

    Raises:
        RequestRefused: names the field, the rule and the way out.
    """
    integrations = request.integrations or ()
    for integration in integrations:
        _check_once(integration, integrations)
        _check_secret(integration, secrets_folder(settings.stage, tenant))
        _check_server(integration)
    if settings.network_isolation:
        _check_offline(request)


def _check_once(integration: Integration, integrations: tuple[Integration, ...]) -> None:
    if sum(one.type == integration.type for one in integrations) > 1:
        raise RequestRefused(
            f"The integration {integration.type} is given more than once.",
            code="integration_repeated",
            param="integrations",
            remedy="Give one of each type.",
        )


def _check_secret(integration: Integration, folder: str) -> None:
    secret = _field(integration, "secret")
    if secret is None:
        return
    # arn:<partition>:secretsmanager:<region>:<account>:secret:<name>-<six letters>
    name = secret.split(":", 6)[-1] if secret.startswith("arn:") else secret
    if not name.startswith(folder) or name == folder:
        raise RequestRefused(
            f"The secret {secret} is not one of this tenant's.",
            code="secret_not_yours",
            param=f"integrations.{integration.type}.secret",
            remedy=f"Name a secret whose name begins with {folder}.",
        )


def _check_server(integration: Integration) -> None:
    server = _field(integration, "tracking_uri") or _field(integration, "server")
    if server is None or server.startswith("arn:"):
        return
    secret = _field(integration, "secret") is not None
    problem = _problem(server, secret=secret)
    if integration.type == "wandb" and not secret:
        problem = "without a secret that holds its key the run is kept offline, and nothing reaches it"
    if problem:
        raise RequestRefused(
            f"The tracking server is refused: {problem}.",
            code="tracking_server_invalid",
            param=f"integrations.{integration.type}",
            remedy="Write https://host or https://host/path; keys belong into a secret.",
        )


def _check_offline(request: JobRequest) -> None:
    for tracker in tracker_configs(request):
        if tracker.online:
            raise RequestRefused(
                f"{tracker.type} needs a network, and training containers of this installation have none.",
                code="tracker_needs_network",
                param=f"integrations.{tracker.type}",
                remedy="Take tensorboard, or wandb without a secret, whose run is kept offline; or have the "
                "installation deployed with NetworkIsolation=false.",
            )


def _problem(server: str, *, secret: bool) -> str:
    try:
        parts = urlsplit(server)
        host, _ = parts.hostname or "", parts.port
    except ValueError as error:
        return f"its address cannot be read ({error})"
    if not host or "@" in parts.netloc or parts.query or parts.fragment:
        return "its address has no host, or has a user, a password, a query or a fragment"
    if secret and parts.scheme != "https":
        return "a key is sent over https only"
    try:
        return forbidden(host, ANYWHERE)
    except ValueError:
        return ""  # a name: the container looks at the addresses that it stands for


def _field(integration: Integration, name: str) -> str | None:
    """A field of whichever object the integration has."""
    value: str | None = getattr(integration.wandb or integration.mlflow, name, None)
    return value
