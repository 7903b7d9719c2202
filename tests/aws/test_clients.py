from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from botocore.exceptions import ConnectionClosedError, EndpointConnectionError, ReadTimeoutError

from spotune.aws.clients import call, client
from spotune.contracts.errors import Unavailable


def test_importing_the_edges_does_not_import_boto3() -> None:
    code = (
        "import sys, spotune.aws.objects, spotune.aws.training_jobs, spotune.aws.queue, spotune.aws.memory;"
        "sys.exit('boto3' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_importing_what_the_service_needs_does_not_import_botocore() -> None:
    code = "import sys, spotune.aws.base, spotune.store.memory; sys.exit('botocore' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_a_client_is_made_once(aws: str) -> None:
    assert client("sqs") is client("sqs")
    assert client("sqs").meta.endpoint_url == aws


@pytest.mark.parametrize("failure", [EndpointConnectionError, ReadTimeoutError, ConnectionClosedError])
def test_no_answer_is_unavailable(failure: Any) -> None:
    def fails(**_: Any) -> Any:
        raise failure(endpoint_url="http://aws")

    with pytest.raises(Unavailable) as refused:
        call(fails)
    assert refused.value.code == "aws_unavailable"
