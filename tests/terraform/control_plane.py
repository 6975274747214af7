"""Runs moto's server, a stand-in for the control plane of AWS, with two answers mended. Run by the Python of `.venv-clouds`.

It checks no signature and no permission, so nothing about security is asked of it.
"""

from __future__ import annotations

import json
from typing import Any

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.iam.access_control import IAMPolicyStatement, PermissionResult
from moto.server import main

_is_permitted = IAMPolicyStatement.is_action_permitted


def _no_tags(_: Any) -> str:
    """Answer what it does not know: the provider asks for the tags of everything that it made."""
    return json.dumps({"Tags": {}})


def _is_permitted_by(statement: Any, *words: Any, **named: Any) -> Any:
    """Leave out denials that have a condition: it does not look at conditions, and would deny everything where plain HTTP is denied."""
    held = statement._statement
    if held["Effect"] == "Deny" and "Condition" in held:
        return PermissionResult.NEUTRAL
    return _is_permitted(statement, *words, **named)


if __name__ == "__main__":
    ApplicationAutoScalingResponse.list_tags_for_resource = _no_tags
    IAMPolicyStatement.is_action_permitted = _is_permitted_by
    main()
