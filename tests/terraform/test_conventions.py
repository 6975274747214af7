"""What every module and example under terraform/ keeps to. They are found by looking, so that a new one is held to it as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.programs import program, run
from tests.terraform import module_docs
from tests.terraform.conftest import Terraform

FOLDERS = module_docs.folders()
MODULES = [folder for folder in FOLDERS if folder.parent.name == "modules"]
EXAMPLES = [folder for folder in FOLDERS if folder.parent.name == "examples"]
FILES = {"main.tf", "variables.tf", "outputs.tf", "versions.tf", "README.md"}

pytestmark = pytest.mark.timeout(300)


def of(folders: list[Path]) -> pytest.MarkDecorator:
    """Run a test for each of these folders."""
    return pytest.mark.parametrize("folder", folders, ids=[f"{path.parent.name}/{path.name}" for path in folders])


def place(terraform: Terraform, folder: Path) -> Path:
    """Find a folder in the copy that tests work in."""
    return terraform.tree / folder.relative_to(module_docs.ROOT)


def test_there_are_modules_and_examples() -> None:
    assert MODULES
    assert EXAMPLES


async def test_the_files_are_formatted(terraform: Terraform) -> None:
    assert await terraform(terraform.tree, "fmt", "-check", "-diff", "-recursive") == ""


@of(MODULES)
def test_a_module_has_its_files_and_tests(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} >= FILES
    assert list((folder / "tests").glob("*.tftest.hcl"))


@of(EXAMPLES)
def test_an_example_says_cost_time_and_how_to_take_it_down(folder: Path) -> None:
    text = (folder / "README.md").read_text()

    assert re.findall(r"^## (Cost|Time|Take it down)$", text, re.MULTILINE) == ["Cost", "Time", "Take it down"]
    assert re.search(r"\$[0-9]", text)
    assert re.search(r"20[0-9]{2}-[0-9]{2}", text), "prices have a date"
    assert "terraform init" in text
    assert "terraform apply" in text
    assert "terraform destroy" in text


@of(MODULES)
def test_the_generated_part_of_a_readme_is_of_this_state(folder: Path) -> None:
    written = (folder / "README.md").read_text()

    assert module_docs.renewed(folder) == written, "run: python -m tests.terraform.module_docs"


@of(FOLDERS)
def test_everything_that_goes_in_or_out_is_described(folder: Path) -> None:
    for block in module_docs.blocks(folder):
        assert block.description.endswith("."), f"{block.kind} {block.name}"
        assert block.kind == "output" or "type" in block.attributes, block.name


@of(FOLDERS)
async def test_a_folder_is_valid(terraform: Terraform, folder: Path) -> None:
    there = await terraform.ready(place(terraform, folder))

    assert "Success! The configuration is valid" in await terraform(there, "validate", "-no-color")


@of([folder for folder in FOLDERS if (folder / "tests").is_dir()])
async def test_its_own_tests_pass(terraform: Terraform, folder: Path) -> None:
    there = await terraform.ready(place(terraform, folder))
    told = await terraform(there, "test", "-no-color")
    passed = re.search(r"Success! ([0-9]+) passed, 0 failed", told)

    assert passed, told
    assert int(passed[1]) > 0


@of(FOLDERS)
def test_every_validation_has_a_test_that_it_refuses_and_one_that_it_accepts(folder: Path) -> None:
    """A variable has at least as many refusing runs as validations, and is set for a run that is not refused."""
    text = "\n".join(file.read_text() for file in (folder / "tests").glob("*.tftest.hcl"))
    runs = re.findall(r'^run "\w+" \{\n(.*?)^\}', text, re.MULTILINE | re.DOTALL)
    for block in module_docs.blocks(folder):
        if not block.validations:
            continue
        refused = [run for run in runs if re.search(rf"expect_failures = \[[^\]]*\bvar\.{block.name}\b", run)]
        given = [
            *re.findall(r"^variables \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL),
            *(run for run in runs if "expect_failures" not in run),
        ]
        accepting = [values for values in given if re.search(rf"^ +{block.name} +=", values, re.MULTILINE)]
        assert len(refused) >= block.validations, f"{block.name}: {len(refused)} runs refuse, {block.validations} can"
        assert accepting, f"{block.name}: no run sets it to a value that is accepted"


@of(FOLDERS)
async def test_tflint_finds_nothing(terraform: Terraform, folder: Path) -> None:
    binary = program("tflint")

    assert await run(binary, f"--chdir={place(terraform, folder)}", environment=terraform.environment) == ""
