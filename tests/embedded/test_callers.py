"""Callers and limits as they are deployed: routes, authorizers, the function and the table, over HTTP."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import openai
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256

from spotune.local.deployment import CODE_BUCKET, STACK, client
from spotune.local.stack import TEMPLATE
from spotune.local.state import StackState
from tests.polling import wait_for

pytestmark = pytest.mark.embedded

JOBS = "/v1/fine_tuning/jobs"
AUDIENCE = "spotune"


def order(stack: StackState, **wanted: object) -> dict[str, Any]:
    """What the deployed keys function makes of it."""
    functions = client("lambda", stack.emulator_url)
    names = [one["FunctionName"] for one in functions.list_functions()["Functions"]]
    name = next(name for name in names if "KeysFunction" in name)
    answer: dict[str, Any] = json.loads(
        functions.invoke(FunctionName=name, Payload=json.dumps(wanted))["Payload"].read()
    )
    return answer


def user(stack: StackState, name: str) -> tuple[str, Credentials]:
    """An IAM user's ARN and access key."""
    iam = client("iam", stack.emulator_url)
    arn = str(iam.create_user(UserName=name)["User"]["Arn"])
    made = iam.create_access_key(UserName=name)["AccessKey"]
    return arn, Credentials(made["AccessKeyId"], made["SecretAccessKey"])


def signed(stack: StackState, path: str, credentials: Credentials, method: str = "GET") -> httpx.Response:
    request = AWSRequest(method, f"{stack.api_url}{path}", data=b"{}" if method == "POST" else b"")
    SigV4Auth(credentials, "execute-api", "us-east-1").add_auth(request)
    headers = {**dict(request.headers), "content-type": "application/json"}
    return httpx.request(method, request.url, headers=headers, content=request.data, timeout=60)


def code(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, str(answer.json()["error"]["code"])


def test_who_does_not_sign_is_refused_below_iam(stack: StackState) -> None:
    assert httpx.get(f"{stack.api_url}/iam{JOBS}", timeout=60).status_code == 403
    bearer = {"authorization": f"Bearer {stack.api_key}"}
    assert code(httpx.get(f"{stack.api_url}/iam{JOBS}", headers=bearer, timeout=60)) == (401, "identity_missing")
    forged = {**bearer, "x-amzn-iam-user-arn": "arn:aws:iam::000000000000:user/ada"}
    assert code(httpx.get(f"{stack.api_url}/iam/v1/keys", headers=forged, timeout=60)) == (401, "identity_missing")


def test_a_signed_request_of_a_mapped_user_asks_for_its_tenant_within_its_scopes(stack: StackState) -> None:
    arn, credentials = user(stack, "reader")
    assert code(signed(stack, f"/iam{JOBS}", credentials)) == (401, "identity_unknown")
    assert order(stack, tenant="local", principal=arn, name="reader", scopes=["read"])["principal"] == arn
    answer = signed(stack, f"/iam{JOBS}", credentials)
    assert (answer.status_code, answer.json()["object"]) == (200, "list")
    assert code(signed(stack, f"/iam{JOBS}", credentials, "POST")) == (403, "scope_missing")
    assert code(signed(stack, JOBS, credentials)) == (401, "missing_api_key")


def test_a_key_s_requests_are_counted_exactly_over_the_real_table(stack: StackState) -> None:
    def statuses() -> list[int]:
        """Of twelve requests at once; empty where the minute turned meanwhile."""
        minute = time.time() // 60
        key = order(stack, tenant="local", name="limited", scopes=["read"], requests_per_minute=5)["key"]
        headers = {"authorization": f"Bearer {key}"}
        with httpx.Client(base_url=stack.api_url, headers=headers, timeout=60) as http, ThreadPoolExecutor(6) as pool:
            answers = list(pool.map(lambda _: http.get("/v1/keys"), range(12)))
        assert all(int(answer.headers["retry-after"]) > 0 for answer in answers if answer.status_code == 429)
        return [answer.status_code for answer in answers] if time.time() // 60 == minute else []

    seen = wait_for(lambda: statuses() or None, "a minute that lasts long enough")
    assert (seen.count(403), seen.count(429)) == (5, 7)


def test_openai_s_sdk_raises_its_rate_limit_error(stack: StackState) -> None:
    key = order(stack, tenant="local", name="limited", scopes=["read"], requests_per_minute=1)["key"]
    sdk = openai.OpenAI(base_url=f"{stack.api_url}/v1", api_key=key, max_retries=0)

    def ask_three_times() -> None:
        for _ in range(3):
            sdk.fine_tuning.jobs.list()

    with pytest.raises(openai.RateLimitError) as refused:
        ask_three_times()
    assert refused.value.code == "rate_limit_exceeded"
    assert 0 < int(refused.value.response.headers["retry-after"]) <= 60


class Issuer:
    """An identity provider on loopback: its keys' document, and tokens."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def documents(self) -> dict[str, object]:
        numbers = self._key.public_key().public_numbers()
        key = {"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k1"}
        key |= {"n": encoded(numbers.n.to_bytes(256, "big")), "e": encoded(numbers.e.to_bytes(3, "big"))}
        return {
            "/.well-known/openid-configuration": {"issuer": self.url, "jwks_uri": f"{self.url}/keys"},
            "/keys": {"keys": [key]},
        }

    def token(self, **claims: object) -> str:
        said = {"iss": self.url, "aud": AUDIENCE, "sub": "ada", "exp": int(time.time()) + 300, **claims}
        parts = (encoded(json.dumps(part).encode()) for part in ({"alg": "RS256", "kid": "k1"}, said))
        body = ".".join(parts)
        return f"{body}.{encoded(self._key.sign(body.encode(), padding.PKCS1v15(), SHA256()))}"


def encoded(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


@pytest.fixture(scope="module")
def issuer() -> Iterator[Issuer]:
    class Documents(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            found = made.documents().get(self.path)
            self.send_response(200 if found else 404)
            self.end_headers()
            self.wfile.write(json.dumps(found or {}).encode())

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Documents)
    made = Issuer(f"http://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    yield made
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def trusting(stack: StackState, issuer: Issuer) -> Iterator[StackState]:
    """The stack, deployed again with an issuer; afterwards without one, as it was."""
    stacks = client("cloudformation", stack.emulator_url)
    (before,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
    parameters = {one["ParameterKey"]: one["ParameterValue"] for one in before["Parameters"]}

    def deploy(**changes: str) -> None:
        wanted = [{"ParameterKey": k, "ParameterValue": v} for k, v in {**parameters, **changes}.items()]
        stacks.update_stack(
            StackName=STACK,
            TemplateURL=f"{stack.emulator_url}/{CODE_BUCKET}/{TEMPLATE.name}",
            Parameters=wanted,
            Capabilities=["CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        wait_for(complete, "the stack's update")

    def complete() -> bool | None:
        (now,) = stacks.describe_stacks(StackName=STACK)["Stacks"]
        assert not now["StackStatus"].endswith("FAILED"), now
        return True if now["StackStatus"] == "UPDATE_COMPLETE" else None

    deploy(JwtIssuer=issuer.url, JwtAudience=AUDIENCE)
    yield stack
    deploy(JwtIssuer="", JwtAudience="")


def test_below_jwt_tokens_of_the_issuer_ask_for_the_tenant_that_their_subject_is_mapped_to(
    trusting: StackState, issuer: Issuer
) -> None:
    def ask(token: str, path: str = f"/jwt{JOBS}") -> httpx.Response:
        return httpx.get(f"{trusting.api_url}{path}", headers={"authorization": f"Bearer {token}"}, timeout=60)

    assert code(ask(issuer.token())) == (401, "identity_unknown")
    made = order(trusting, tenant="local", principal=f"{issuer.url}#ada", name="ada", scopes=["read"])
    assert made["principal"] == f"{issuer.url}#ada"
    assert ask(issuer.token()).status_code == 200
    assert code(ask(issuer.token(sub="eve"))) == (401, "identity_unknown")
    assert code(ask(issuer.token(), "/jwt/v1/keys")) == (403, "scope_missing")
    for refused in (
        issuer.token(aud="another"),
        issuer.token(iss="http://127.0.0.1:1"),
        issuer.token(exp=int(time.time()) - 5),
        Issuer(issuer.url).token(),
        trusting.api_key,
    ):
        answer = ask(refused)
        assert answer.status_code == 401
        assert "error" not in answer.json(), "the gateway's own refusal: the function was not asked"
    assert code(ask(issuer.token(), JOBS)) == (401, "invalid_api_key")
