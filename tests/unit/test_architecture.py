"""The rules of the house that no linter knows. Every exception stands here by name with its reason, and the lists may only shrink:
an entry that is no longer needed fails as well.
"""

from __future__ import annotations

import ast
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "edgeproxy"
MODULES = {path.relative_to(PACKAGE).as_posix(): ast.parse(path.read_bytes()) for path in sorted(PACKAGE.rglob("*.py"))}

MAX_FUNCTION_LINES = 60
MAX_FILE_LINES = 300

BROAD_HANDLERS = {
    "forever.py:every": "the boundary of a step that nobody waits for: a watch that ended would never take a narrowed policy into force",
    "web/registry.py:_answer": "the boundary of a request: the client gets an answer and the operator the traceback",
    "workers.py:_worker": "the last line of a worker process: its exit code tells the supervisor",
}

AWAITING_NOTHING = {
    "health.py:of_policy": "is one of the checks behind /readyz, of which others wait for the store",
    "health.py:of_process": "is one of the checks behind /readyz, of which others wait for the store",
    "registry/fsck.py:listed": "stands in for a listing of the store",
    "storage/file_presign.py:presign": "Presigner: others may have to fetch credentials",
    "web/blobs.py:start": "a handler: all are awaited alike",
    "web/operations.py:_healthz": "a handler: all are awaited alike",
    "web/operations.py:_metrics_page": "a handler: all are awaited alike",
    "web/registry.py:_can_i": "a handler: all are awaited alike",
    "web/registry.py:_ping": "a handler: all are awaited alike",
    "web/registry.py:_who_am_i": "a handler: all are awaited alike",
    "web/token.py:configuration": "a handler: all are awaited alike",
    "web/token.py:jwks": "a handler: all are awaited alike",
}

LIBRARIES = {
    "aiobotocore": ("storage/s3",),
    "botocore": ("storage/s3",),
    "hypercorn": ("serving_hypercorn.py",),
    "granian": ("serving_granian.py",),
}

VAGUE_NAMES = {"base", "common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}

IMPURE = {
    "aiohttp",
    "asyncio",
    "io",
    "os",
    "pathlib",
    "random",
    "secrets",
    "socket",
    "subprocess",
    "threading",
    "time",
    "uuid",
}


def functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def own_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """Everything inside a function that is not inside another one."""
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda | ast.ClassDef):
            yield child
            yield from own_nodes(child)


def broad_handlers(tree: ast.AST) -> Iterator[str]:
    """Functions that catch everything and do not end by raising again."""
    for function in functions(tree):
        for node in own_nodes(function):
            if (
                isinstance(node, ast.ExceptHandler)
                and catches_everything(node)
                and not isinstance(node.body[-1], ast.Raise)
            ):
                yield function.name


def catches_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(
        kind is None or (isinstance(kind, ast.Name) and kind.id in {"Exception", "BaseException"}) for kind in kinds
    )


def awaiting_nothing(tree: ast.AST) -> Iterator[str]:
    """Functions that are async without need. A docstring alone is a method of a protocol; a generator is async to be iterated so."""
    for function in functions(tree):
        is_stub = all(
            isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant) for statement in function.body
        )
        if isinstance(function, ast.AsyncFunctionDef) and not is_stub and not any(map(suspends, own_nodes(function))):
            yield function.name


def suspends(node: ast.AST) -> bool:
    if isinstance(node, ast.comprehension):
        return bool(node.is_async)
    return isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith | ast.Yield)


def long_functions(tree: ast.AST) -> Iterator[str]:
    for function in functions(tree):
        assert function.end_lineno is not None
        if function.end_lineno - function.lineno + 1 > MAX_FUNCTION_LINES:
            yield function.name


def environment_readers(tree: ast.AST) -> Iterator[str]:
    names = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in names
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        ):
            yield f"os.{node.attr}"
        if isinstance(node, ast.ImportFrom) and node.module == "os":
            yield from (f"os.{alias.name}" for alias in node.names if alias.name in names)


def imported(tree: ast.AST) -> Iterator[str]:
    """The first parts of the names of all modules that are imported, wherever it is done."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            yield node.module.partition(".")[0]


def found(check: Callable[[ast.AST], Iterator[str]]) -> set[str]:
    return {f"{name}:{function}" for name, tree in MODULES.items() for function in check(tree)}


def test_everything_is_caught_only_where_it_must_be() -> None:
    assert found(broad_handlers) == set(BROAD_HANDLERS)


def test_what_awaits_nothing_is_a_plain_function() -> None:
    assert found(awaiting_nothing) == set(AWAITING_NOTHING)


def test_no_function_is_longer_than_a_screen() -> None:
    assert found(long_functions) == set()


def test_no_file_knows_too_much() -> None:
    long = {name for name in MODULES if (PACKAGE / name).read_bytes().count(b"\n") > MAX_FILE_LINES}
    assert long == set()


def test_only_the_configuration_reads_the_environment() -> None:
    assert {name.partition(":")[0] for name in found(environment_readers)} == {"config.py"}


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_is_imported_only_where_its_exceptions_stay(library: str) -> None:
    importers = [name for name, tree in MODULES.items() if library in imported(tree)]
    assert importers
    assert [name for name in importers if not name.startswith(LIBRARIES[library])] == []


def test_no_module_has_a_name_that_says_nothing() -> None:
    assert {
        name for name in MODULES if VAGUE_NAMES & set(name.removesuffix(".py").replace("_", "/").split("/"))
    } == set()


def test_the_words_of_the_specifications_are_pure() -> None:
    words = {name: tree for name, tree in MODULES.items() if name.startswith("oci/")}
    assert len(words) > 1
    for name, tree in words.items():
        assert IMPURE.isdisjoint(imported(tree)), name
        assert not any(isinstance(function, ast.AsyncFunctionDef) for function in functions(tree)), name


@pytest.mark.parametrize(
    ("check", "guilty", "innocent"),
    [
        (broad_handlers, "def f():\n try: g()\n except Exception: h()", "def f():\n try: g()\n except ValueError: h()"),
        (
            broad_handlers,
            "def f():\n try: g()\n except: h()",
            "def f():\n try: g()\n except BaseException:\n  h()\n  raise",
        ),
        (
            broad_handlers,
            "def f():\n try: g()\n except (A, Exception): h()",
            "def f():\n try: g()\n except (A, B): h()",
        ),
        (awaiting_nothing, "async def f():\n return 1", "async def f():\n return await g()"),
        (
            awaiting_nothing,
            "async def f():\n async def g(): await h()\n return g",
            "async def f():\n return [x async for x in g()]",
        ),
        (awaiting_nothing, "async def f():\n 'Words.'\n return 1", "async def f():\n 'A method of a protocol.'"),
        (long_functions, "def f():\n" + " g()\n" * 60, "def f():\n" + " g()\n" * 59),
        (environment_readers, "import os\nos.getenv('A')", "import os\nos.getpid()"),
        (environment_readers, "from os import environ", "from os import sep"),
        (imported, "def f():\n import botocore.session", "from .botocore import session"),
    ],
)
def test_each_check_tells_the_guilty_from_the_innocent(
    check: Callable[[ast.AST], Iterator[str]], guilty: str, innocent: str
) -> None:
    assert list(check(ast.parse(guilty)))
    assert not list(check(ast.parse(innocent)))


def lint_imports(directory: Path) -> subprocess.CompletedProcess[str]:
    program = Path(sys.executable).with_name("lint-imports")
    assert program.exists(), "import-linter is not installed; install the dependency group 'lint'"
    return subprocess.run(
        [program, "--no-cache"], cwd=directory, capture_output=True, text=True, check=False, timeout=50
    )


def test_the_rooms_import_only_what_they_may() -> None:
    run = lint_imports(ROOT)
    assert run.returncode == 0, run.stdout + run.stderr
    assert "Contracts: 6 kept, 0 broken." in run.stdout


@pytest.mark.parametrize(
    ("module", "statement"),
    [
        ("oci/names.py", "from edgeproxy.storage import keys"),
        ("storage/keys.py", "import edgeproxy.access.decisions"),
        ("access/decisions.py", "from edgeproxy.storage import Store"),
        ("registry/newcomer.py", "from edgeproxy.storage import s3"),
        ("registry/newcomer.py", "from edgeproxy.access import policy"),
        ("registry/newcomer.py", "import edgeproxy.web.answers"),
        ("web/newcomer.py", "from edgeproxy.storage.filesystem import FilesystemStore"),
        ("web/newcomer.py", "from edgeproxy import config"),
        ("client/newcomer.py", "from edgeproxy.access import decisions"),
    ],
)
def test_a_room_that_reaches_too_far_is_found(tmp_path: Path, module: str, statement: str) -> None:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    shutil.copytree(PACKAGE, tmp_path / "edgeproxy", ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "edgeproxy" / "client").mkdir(exist_ok=True)
    (tmp_path / "edgeproxy" / "client" / "__init__.py").touch()
    with (tmp_path / "edgeproxy" / module).open("a") as file:
        file.write(f"\n{statement}\n")
    run = lint_imports(tmp_path)
    assert run.returncode == 1, run.stdout + run.stderr
    assert "Contracts: 5 kept, 1 broken." in run.stdout


def test_no_module_holds_bytes_for_the_life_of_a_process() -> None:
    code = """
import importlib, pkgutil, sys
import edgeproxy
names = [each.name for each in pkgutil.walk_packages(edgeproxy.__path__, "edgeproxy.") if not each.name.endswith("__main__")]
large = [
    f"{name}.{constant}"
    for name in names
    for constant, value in vars(importlib.import_module(name)).items()
    if isinstance(value, (bytes, bytearray, str)) and sys.getsizeof(value) > 64 * 1024
]
print(len(names), *large)
"""
    number, *large = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    ).stdout.split()
    assert int(number) > 80
    assert large == []
