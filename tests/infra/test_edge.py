"""The API's edge, read from the template: throttling, and CloudFront with a web ACL where one is named."""

from __future__ import annotations

import re

from handlers.edge import HEADER
from tests.infra.test_template import DOCUMENT, FUNCTIONS, RESOURCES, of_type, policy_of, shared_statements

CONDITION = "HasWebAcl"
REFERENCE = "{{resolve:secretsmanager:${EdgeSecret}:SecretString:::${EdgeSecretVersion}}}"
"""CloudFormation reads a secret again where this text changes."""


def test_every_route_is_throttled() -> None:
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    limits = stage["DefaultRouteSettings"]
    assert 0 < limits["ThrottlingRateLimit"] <= limits["ThrottlingBurstLimit"] <= 1000
    assert "RouteSettings" not in stage, "no route has more"


def test_the_access_log_has_who_and_what_and_neither_query_nor_header_nor_body() -> None:
    (stage,) = of_type("AWS::ApiGatewayV2::Stage").values()
    logged = set(re.findall(r"\$context\.[a-zA-Z.]+", stage["AccessLogSettings"]["Format"]))
    assert {"$context.identity.sourceIp", "$context.requestId", "$context.status"} <= logged
    assert logged <= {f"$context.{name}" for name in ALLOWED}


ALLOWED = ("requestId", "routeKey", "path", "status", "responseLatency", "identity.sourceIp")


def test_the_edge_is_there_where_a_web_acl_is_named_and_nothing_of_it_where_none_is() -> None:
    assert DOCUMENT["Parameters"]["WebAclArn"]["Default"] == ""
    assert DOCUMENT["Conditions"][CONDITION] == {"Fn::Not": [{"Fn::Equals": [{"Ref": "WebAclArn"}, ""]}]}
    assert {name for name, body in RESOURCES.items() if body.get("Condition") == CONDITION} == {
        "Edge",
        "EdgeSecret",
        "ReadEdgeSecretPolicy",
    }
    url = DOCUMENT["Outputs"]["ApiUrl"]["Value"]["Fn::If"]
    assert (url[0], url[2]) == (CONDITION, {"Fn::GetAtt": "HttpApi.ApiEndpoint"})
    arn = FUNCTIONS["ApiFunction"]["Environment"]["Variables"]["SPOTUNE_EDGE_SECRET_ARN"]
    assert arn == {"Fn::If": [CONDITION, {"Ref": "EdgeSecret"}, ""]}


def test_cloudfront_proves_itself_by_the_secret_that_the_api_alone_can_read() -> None:
    edge = RESOURCES["Edge"]["Properties"]["DistributionConfig"]
    (origin,) = edge["Origins"]
    (header,) = origin["OriginCustomHeaders"]
    assert header["HeaderName"] == HEADER
    assert header["HeaderValue"] == {"Fn::Sub": REFERENCE}
    assert origin["CustomOriginConfig"]["OriginProtocolPolicy"] == "https-only"
    assert edge["DefaultCacheBehavior"]["ViewerProtocolPolicy"] == "https-only"
    assert edge["WebACLId"] == {"Ref": "WebAclArn"}
    (grant,) = shared_statements("ReadEdgeSecretPolicy")
    assert (grant["Action"], grant["Resource"]) == ("secretsmanager:GetSecretValue", {"Fn::GetAtt": "EdgeSecret.Id"})
    roles = of_type("AWS::IAM::Role").items()
    readers = [n for n, role in roles if "ReadEdgeSecretPolicy" in map(policy_of, role.get("ManagedPolicyArns", ()))]
    assert readers == ["ApiRole"]


def test_the_web_acl_is_one_for_cloudfront() -> None:
    pattern = re.compile(DOCUMENT["Parameters"]["WebAclArn"]["AllowedPattern"])
    assert pattern.fullmatch("arn:aws:wafv2:us-east-1:123456789012:global/webacl/api/0a1b2c3d")
    assert not pattern.fullmatch("arn:aws:wafv2:eu-west-1:123456789012:regional/webacl/api/0a1b2c3d")
