"""helm: push a chart, pull it back."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from tests.clients.journeys import pulls
from tests.images import LARGE
from tests.programs import clean_environment, program, run
from tests.running import Observed

pytestmark = pytest.mark.timeout(300)


async def test_helm_pushes_and_pulls_a_chart(place: Observed, folder: Path) -> None:
    binary, environment = program("helm"), clean_environment(folder)

    async def helm(*arguments: str) -> str:
        return await run(binary, *arguments, environment=environment)

    (folder / "chart" / "files").mkdir(parents=True)
    (folder / "chart" / "Chart.yaml").write_text("apiVersion: v2\nname: hello\nversion: 1.2.3+build.4\n")
    (folder / "out").mkdir()
    # helm refuses files above 5 MiB.
    for number in range(5):
        (folder / "chart" / "files" / f"{number}").write_bytes(Random(number).randbytes(LARGE // 5 + 1000))
    await helm("package", str(folder / "chart"), "--destination", str(folder))
    chart = f"oci://{place.host}/charts"
    await helm("push", "--plain-http", str(folder / "hello-1.2.3+build.4.tgz"), chart)
    await pulls(
        place,
        lambda: helm(
            "pull", "--plain-http", f"{chart}/hello", "--version", "1.2.3+build.4", "--destination", str(folder / "out")
        ),
    )

    names = [path.name for path in (folder / "out").iterdir()]
    assert names == ["hello-1.2.3+build.4.tgz"]
    assert (folder / "out" / names[0]).read_bytes() == (folder / names[0]).read_bytes()
