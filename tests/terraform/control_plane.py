"""Runs moto's server, a stand-in for the control plane of AWS, with the one answer that it lacks. Run by the Python of `.venv-clouds`.

It checks no signature, so nothing about security is asked of it.
"""

from __future__ import annotations

import json

from moto.applicationautoscaling.responses import ApplicationAutoScalingResponse
from moto.server import main


def _no_tags(_: ApplicationAutoScalingResponse) -> str:
    return json.dumps({"Tags": {}})


if __name__ == "__main__":
    # The provider asks for the tags of everything that it made; nothing here has any.
    ApplicationAutoScalingResponse.list_tags_for_resource = _no_tags
    main()
