"""What a guarded emulator adds to ministack: one place where every policy is judged, for the SageMaker double too.

With `AUTH=true` ministack checks signatures and evaluates the policies of roles and buckets, as AWS does. Services that
only the double has are asked about here, with the request as it was signed and what AWS would check of it. Where an
installation has a key of its own, callers need the key, too, for what lies encrypted with it (encryption.py). And what
each role asked for is kept, so that a test can say which grants were used and whether anything was denied.

Requests on loopback count as sent over TLS, which the buckets' own policies want; one that says otherwise does not.
"""

from __future__ import annotations

import contextvars
import hashlib
import json
from collections.abc import Callable
from typing import Any

from spotune.local.encryption import uses_of_key
from spotune.local.state import ACCOUNT

CHECK_PATH = "/_spotune/check"
ASSUME_PATH = "/_spotune/assume"
DECISIONS_PATH = "/_spotune/decisions"

MOST_DECISIONS = 100_000
"""That are kept, of different roles, actions and resources: what a test asks for, and no stack's whole life."""

_ON_STREAMS = frozenset({"logs:CreateLogStream", "logs:PutLogEvents"})
"""AWS checks them on a stream; ministack does on its group."""

_App = Callable[[Any, Any, Any], Any]
_Json = dict[str, Any]


class Guard:
    """ASGI middleware around ministack. Its own paths take and answer JSON, from this machine alone."""

    def __init__(self, app: _App) -> None:
        self._app = app
        self._decisions: dict[tuple[str, str, str, bool], None] = {}
        self._doors: dict[str, Callable[[_Json], _Json]] = {
            CHECK_PATH: _check,
            ASSUME_PATH: _assume,
            DECISIONS_PATH: self._told,
        }
        self._listen()
        _know_more()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer what is asked of the guard; pass on everything else."""
        door = self._doors.get(scope["path"]) if scope["type"] == "http" else None
        if door is None:
            await self._app({**scope, "scheme": "https"} if scope["type"] == "http" else scope, receive, send)
            return
        document = json.loads(await _body(receive) or b"{}")
        answer = contextvars.copy_context().run(door, document)
        headers = [(b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps(answer).encode()})

    def _listen(self) -> None:
        """Keep every decision on a role, whoever asked for it, and decide on the use of its key as well."""
        from ministack.core import iam_evaluator
        from ministack.services import cloudformation

        judge = iam_evaluator.enforce

        def heard(access_key: str, action: str, service: str, region: str, **known: Any) -> Any:
            if action in _ON_STREAMS:
                request = iam_evaluator._signed_request.get()
                known["resource_arn"] += f":log-stream:{stream_named(request.body) if request else ''}"
            resource = known.get("resource_arn", "*")
            denied = judge(access_key, action, service, region, **known)
            if isinstance(denied, iam_evaluator.AuthError):
                return denied
            self._keep(access_key, action, resource, denied is None)
            for use in uses_of_key(action, resource, region, cloudformation._stacks.values()):
                if denied is None:
                    known = {"resource_arn": use.key, "service_context": dict(use.context)}
                    denied = judge(access_key, use.action, "kms", region, **known)
                    self._keep(access_key, use.action, use.key, denied is None)
            return denied

        iam_evaluator.enforce = heard

    def _keep(self, access_key: str, action: str, resource: str, allowed: bool) -> None:
        from ministack.core import iam_evaluator

        caller = iam_evaluator.resolve_caller_identity(access_key)
        if caller is not None and ":assumed-role/" in caller["userArn"] and len(self._decisions) < MOST_DECISIONS:
            self._decisions[caller["userArn"].split("/")[1], action, resource, allowed] = None

    def _told(self, _: _Json) -> _Json:
        names = ("role", "action", "resource", "allowed")
        return {"decisions": [dict(zip(names, one, strict=True)) for one in self._decisions]}


def _know_more() -> None:
    """Let ministack know the condition keys of the template's policies that it leaves out."""
    from ministack.core import iam_actions

    known = iam_actions.request_tag_context

    def context(service: str, action: str, body: bytes, params: _Json) -> _Json:
        found: _Json = known(service, action, body, params)
        return found | condition_keys(action, body)

    iam_actions.request_tag_context = context


def condition_keys(action: str, body: bytes) -> _Json:
    """`dynamodb:LeadingKeys` of what names items of our table, and `cloudwatch:namespace`."""
    if not action.startswith(("dynamodb:", "cloudwatch:")) or body[:1] != b"{":
        return {}
    try:
        return _keys_of(action, json.loads(body))
    except (AttributeError, TypeError, ValueError):
        return {}  # whoever carries it out says what is wrong with it


def _keys_of(action: str, asked: _Json) -> _Json:
    if action == "cloudwatch:PutMetricData":
        return {"cloudwatch:namespace": asked.get("Namespace", "")}
    items = [part for item in asked.get("TransactItems", ()) for part in item.values()] or [asked]
    named = [item.get("Key") or item.get("Item") or {} for item in items]
    leading = [key["pk"]["S"] for key in named if "S" in key.get("pk", {})]
    # A request whose items are not all named by key has none: a policy that asks for them does not hold then.
    return {"dynamodb:LeadingKeys": leading} if leading and len(leading) == len(items) else {}


def stream_named(body: bytes) -> str:
    """The log stream that a request is about; empty where it names none."""
    try:
        return str(json.loads(body).get("logStreamName", ""))
    except (AttributeError, ValueError):
        return ""  # as above


def _check(asked: _Json) -> _Json:
    """Whether a signed request to a service of the double's may be carried out.

    The request comes as it arrived (`method`, `path`, `headers`, `body`), with `service`, `region` and `checks`: each
    an `action`, a `resource` and a `context` of condition keys.
    """
    from ministack import app
    from ministack.core import iam_evaluator, responses, router

    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in asked["headers"]]
    by_name = {name.lower(): value for name, value in asked["headers"]}
    key = router.extract_access_key_id(by_name, {})
    responses.set_request_account_id(app._request_account_scope(key) if key else ACCOUNT)
    responses.set_request_region(asked["region"])
    iam_evaluator.pin_request_origin("127.0.0.1", True)
    iam_evaluator.pin_signed_request(asked["method"], asked["path"], {}, headers)
    iam_evaluator.pin_signed_body(asked["body"].encode("latin-1"))
    for check in asked["checks"]:
        denied = iam_evaluator.enforce(
            key,
            check["action"],
            asked["service"],
            asked["region"],
            resource_arn=check["resource"],
            service_context=check["context"],
        )
        if isinstance(denied, iam_evaluator.AuthError):
            return {"denied": {"code": denied.code, "message": denied.message}}
        if denied is not None:
            words = f"User: {denied.principal_arn} is not authorized to perform: {check['action']} on resource: "
            return {"denied": {"code": "AccessDenied", "message": words + check["resource"]}}
    return {"denied": None}


def _assume(asked: _Json) -> _Json:
    """Credentials of a role for the service that its trust policy lets have them, as AWS hands them to itself."""
    from ministack.core import iam_evaluator
    from ministack.services import iam, sts

    name = asked["role"].rsplit("/", 1)[-1]
    role = iam._roles.get_scoped(ACCOUNT, None, name)
    if role is None or role["Arn"] != asked["role"] or not _trusts(role, asked["service"], iam_evaluator):
        return {"denied": f"The role {asked['role']} is not there, or does not let {asked['service']} assume it."}
    told = f"{asked['role']} for {asked['service']}"
    key, secret, token = (hashlib.sha256(f"{what} {told}".encode()).hexdigest() for what in ("key", "secret", "token"))
    session = {
        "Arn": f"arn:aws:sts::{ACCOUNT}:assumed-role/{name}/SageMaker",
        "UserId": f"{name}:SageMaker",
        "SecretAccessKey": secret,
        "SessionToken": token,
    }
    sts.register_session(f"ASIA{key[:16].upper()}", session)
    return {"access_key": f"ASIA{key[:16].upper()}", "secret_key": secret, "token": token}


def _trusts(role: _Json, service: str, iam_evaluator: Any) -> bool:
    """Whether a statement of the role's trust policy names the service, on conditions that it meets."""
    document = role["AssumeRolePolicyDocument"]
    document = json.loads(document) if isinstance(document, str) else document
    context = iam_evaluator.EvalContext(
        principal_arn=service,
        principal_type="Service",
        principal_account=ACCOUNT,
        action="sts:AssumeRole",
        resource_arn=role["Arn"],
        region="",
        service_context={"aws:sourceaccount": ACCOUNT},
    )
    return any(
        statement["Effect"] == "Allow"
        and iam_evaluator._service_principal_matches(statement.get("Principal"), service)
        and iam_evaluator._conditions_met(statement.get("Condition", {}), context)
        for statement in document["Statement"]
    )


async def _body(receive: Any) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body, more = body + message.get("body", b""), bool(message.get("more_body"))
    return body
