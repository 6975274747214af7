"""`edgeproxy audit summary`: who pulled how much of what."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from edgeproxy import audit_summary
from edgeproxy.audit_summary import MAX_LINE_BYTES, Counted, Key, Summary
from edgeproxy.cli import app

ALICE = {"issuer": "staff", "subject": "alice", "repository": "acme/app", "outcome": "allowed"}
MANIFEST = {"media_type": "application/vnd.oci.image.manifest.v1+json", "digest": "sha256:00"}


def line(event: str, **facts: Any) -> str:
    return json.dumps({"time": 1.5, "event": event, **ALICE, **facts}) + "\n"


def counted(*lines: str) -> Summary:
    summary = Summary()
    summary.read("audit.log", io.BytesIO("".join(lines).encode()))
    return summary


def only(*lines: str) -> Counted:
    ((_, row),) = counted(*lines).rows()
    return row


def test_a_pull_is_a_manifest_and_blobs_of_which_the_redirected_ones_count_by_their_size() -> None:
    row = only(
        line("pull", **MANIFEST, bytes=500),
        line("pull", bytes=20_000_000, delivery="redirect"),
        line("pull", bytes=1000, delivery="proxy"),
    )
    assert row == Counted(pulls=1, blobs=2, bytes=20_001_500)


def test_a_look_hands_out_nothing() -> None:
    assert counted(line("pull", **MANIFEST), line("pull")).rows() == []


def test_a_pull_that_failed_is_none() -> None:
    assert counted(line("pull", outcome="failed", bytes=5)).rows() == []


def test_a_push_is_a_manifest_whatever_the_number_of_its_blobs() -> None:
    assert only(line("push", **MANIFEST, bytes=500), line("push", digest="sha256:01")) == Counted(pushes=1)


def test_a_delete_and_a_denial_are_counted() -> None:
    row = only(line("delete"), line("denied", outcome="denied", reason="no_rule", status=403))
    assert row == Counted(deletes=1, denials=1)


def test_a_token_that_was_refused_is_a_denial_and_one_that_was_given_is_nothing() -> None:
    assert counted(line("token")).rows() == []
    assert only(line("token", outcome="denied", reason="expired", repository=None)) == Counted(denials=1)


def test_the_question_for_a_credential_is_no_denial_but_its_answer_for_a_repository_is() -> None:
    facts = {"outcome": "denied", "status": 401, "reason": "UNAUTHORIZED: sign in to use this registry"}
    anonymous = {"event": "denied", **facts}
    assert counted(json.dumps(anonymous) + "\n").rows() == []
    assert only(json.dumps({**anonymous, "repository": "acme/app"}) + "\n") == Counted(denials=1)


def test_callers_and_repositories_are_kept_apart_and_the_most_bytes_come_first() -> None:
    summary = counted(
        line("pull", bytes=1),
        line("pull", bytes=3, subject="bob"),
        line("pull", bytes=2, repository="acme/base"),
        json.dumps({"event": "pull", "outcome": "allowed", "repository": "public/app", "bytes": 4}) + "\n",
        line("pull", bytes=1, issuer="other"),
    )
    assert [(key, row.bytes) for key, row in summary.rows()] == [
        (Key("", "", "public/app"), 4),
        (Key("staff", "bob", "acme/app"), 3),
        (Key("staff", "alice", "acme/base"), 2),
        (Key("other", "alice", "acme/app"), 1),
        (Key("staff", "alice", "acme/app"), 1),
    ]


@pytest.mark.parametrize(
    "wrong", ["nonsense", '{"event": 1}', "[]", '{"time": 1}', '{"event": "pull"', "\x00", "x" * (MAX_LINE_BYTES + 1)]
)
def test_a_malformed_line_is_counted_told_by_its_number_and_ends_nothing(wrong: str) -> None:
    summary = counted(line("pull", bytes=1), wrong + "\n", line("pull", bytes=2))
    assert (summary.lines, summary.malformed, summary.malformed_places) == (3, 1, ["audit.log:2"])
    assert [row.bytes for _, row in summary.rows()] == [3]


def test_only_the_first_malformed_lines_are_told() -> None:
    summary = counted(*["nonsense\n"] * 7)
    assert summary.malformed == 7
    assert summary.malformed_places == [f"audit.log:{number}" for number in range(1, 6)]


def test_values_of_other_types_do_no_harm() -> None:
    assert counted(line("pull", bytes="many"), line("pull", bytes=-1)).rows() == []
    assert only(line("pull", bytes=1, subject=["a"], repository=7)).bytes == 1


def test_an_empty_line_is_none_and_the_last_needs_no_end() -> None:
    summary = counted("\n", line("pull", bytes=1).rstrip())
    assert (summary.lines, summary.malformed) == (1, 0)


def test_rows_are_bounded_and_nothing_is_lost_from_the_totals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_summary, "MAX_ROWS", 3)
    summary = counted(*(line("pull", bytes=1, repository=f"r/{number}") for number in range(10)))
    assert len(summary.rows()) == 4
    assert sum(row.bytes for _, row in summary.rows()) == 10


class TestCommand:
    def test_it_prints_a_table(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").write_text(line("pull", **MANIFEST, bytes=1024) + line("pull", bytes=1024 * 1024))
        result = CliRunner().invoke(app, ["audit", "summary", str(tmp_path / "a.log")])
        assert result.exit_code == 0
        rows = [text.split() for text in result.stdout.splitlines()]
        assert rows[0] == ["ISSUER", "SUBJECT", "REPOSITORY", "PULLS", "BLOBS", "BYTES", "PUSHES", "DELETES", "DENIED"]
        assert rows[1] == ["staff", "alice", "acme/app", "1", "1", "1.0", "MiB", "0", "0", "0"]
        assert result.stdout.splitlines()[-1] == "2 lines, 0 malformed"

    def test_files_and_standard_input_add_up(self, tmp_path: Path) -> None:
        (tmp_path / "a.log").write_text(line("pull", bytes=1) + "nonsense\n")
        result = CliRunner().invoke(
            app, ["audit", "summary", "--json", str(tmp_path / "a.log"), "-"], input=line("pull", bytes=2)
        )
        assert result.exit_code == 0
        report = json.loads(result.stdout)
        assert [(row["subject"], row["bytes"]) for row in report["rows"]] == [("alice", 3)]
        assert report["malformed_lines"] == [f"{tmp_path / 'a.log'}:2"]
        assert f"{tmp_path / 'a.log'}:2: not an audit line" in result.stderr

    def test_a_file_that_is_not_there_is_told(self, tmp_path: Path) -> None:
        result = CliRunner().invoke(app, ["audit", "summary", str(tmp_path / "none")])
        assert result.exit_code == 2
        assert "No such file" in result.stderr
