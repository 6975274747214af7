"""What holds for every test: nothing of the developer's own environment reaches it."""

from __future__ import annotations

import os
import sys
from typing import Any

import pytest

from tests import programs

HIDDEN = ("AWS_", "BUILDAH_", "CONTAINER", "DOCKER_", "EDGEPROXY_", "HELM_", "OCI_", "OTEL_", "REGISTRY_")

for name in [name for name in os.environ if name.startswith(HIDDEN) or name.lower().endswith("_proxy")]:
    del os.environ[name]
# Botocore would otherwise ask a cloud's metadata service, or read the developer's profile.
os.environ |= {
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": os.devnull,
    "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
}
os.environ["PATH"] = programs.PATH


def pytest_exception_interact(report: Any) -> None:
    """Show the logs of what runs beside a test that fails, while its fixtures still stand."""
    running = sys.modules.get("tests.running")
    if running is not None and isinstance(report, pytest.TestReport) and (text := running.logs()):
        report.sections.append(("logs", text))
