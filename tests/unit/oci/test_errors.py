"""Every error that can become an answer speaks the specification's codes."""

from __future__ import annotations

import pytest

from edgeproxy.oci import errors
from edgeproxy.oci.errors import RegistryError

# distribution-spec, "Error codes".
SPEC_CODES = {
    "BLOB_UNKNOWN",
    "BLOB_UPLOAD_INVALID",
    "BLOB_UPLOAD_UNKNOWN",
    "DIGEST_INVALID",
    "MANIFEST_BLOB_UNKNOWN",
    "MANIFEST_INVALID",
    "MANIFEST_UNKNOWN",
    "NAME_INVALID",
    "NAME_UNKNOWN",
    "SIZE_INVALID",
    "UNAUTHORIZED",
    "DENIED",
    "UNSUPPORTED",
    "TOOMANYREQUESTS",
}
# The specification has no word for what is the server's own fault.
OUR_FAULT = {"UNKNOWN": 500, "UNAVAILABLE": 503}

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, RegistryError)]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_has_a_code_of_the_specification_and_a_status_that_fits(kind: type[RegistryError]) -> None:
    if kind.code in OUR_FAULT:
        assert kind.status == OUR_FAULT[kind.code]
    else:
        assert kind.code in SPEC_CODES
        assert 400 <= kind.status < 500
    assert kind.__doc__


def test_every_code_of_the_specification_has_an_error() -> None:
    assert {kind.code for kind in KINDS} - set(OUR_FAULT) == SPEC_CODES


def test_an_error_carries_its_message_detail_and_headers() -> None:
    plain = RegistryError("no")
    assert (str(plain), plain.message, plain.detail, dict(plain.headers)) == ("no", "no", None, {})
    full = errors.Unsupported("no", detail="method", headers={"Allow": "GET"})
    assert (full.message, full.detail, dict(full.headers)) == ("no", "method", {"Allow": "GET"})
