import json
import os
import time

import pytest

from tests.artefacts.test_store import REQUEST, Writer
from vggbench.artefacts.store import UNFINISHED, prepare
from vggbench.cli.exports import _age


@pytest.fixture
def exports(tmp_path):
    """Return a folder with a whole artefact, a broken one, and what a killed export left ten days ago."""
    whole = prepare(REQUEST, tmp_path, Writer()).path.parent
    broken = tmp_path / "vgg13" / whole.name
    whole.parent.with_name("vgg13").mkdir()
    broken.mkdir()
    for path in whole.iterdir():
        (broken / path.name).write_bytes(path.read_bytes())
    (broken / "b.bin").unlink()
    left = whole.with_name(UNFINISHED + whole.name)
    left.mkdir()
    (left / "a.bin").write_bytes(bytes(2**20))
    ten_days_ago = time.time() - 10 * 86_400
    os.utime(left, (ten_days_ago, ten_days_ago))
    return tmp_path


def folders(exports):
    return sorted(path.parent.name for path in exports.glob("*/*/a.bin"))


def test_a_table_of_every_artefact_and_the_total(command_line, exports):
    said = command_line("exports", "list", "--exports", exports)
    assert said.code == 0
    lines = [line.split() for line in said.out.splitlines()]
    assert lines[0] == ["variant", "precision", "input", "format", "MiB", "age", "state", "SHA-256"]
    assert ["vgg11", "fp32", "224", "raw", "1.0", "10", "d", "unfinished"] in lines
    (whole,) = [line for line in lines if "whole" in line]
    assert whole[:5] == ["vgg11", "fp32", "224", "raw", "0.0"]
    assert len(whole[-1]) == 12
    assert ["total", "1.0", "3"] in lines
    assert "b.bin: the file is missing" in said.out.splitlines()[-1]


def test_the_list_as_json(command_line, exports):
    document = json.loads(command_line("exports", "list", "--exports", exports, "--json").out)
    states = {(record["variant"], record["state"]) for record in document["artefacts"]}
    assert states == {("vgg11", "whole"), ("vgg11", "unfinished"), ("vgg13", "broken")}
    assert document["total_mib"] == pytest.approx(sum(record["artefact_mib"] for record in document["artefacts"]))
    whole = next(record for record in document["artefacts"] if record["state"] == "whole")
    assert whole["reason"] is None
    assert 0 <= whole["age_days"] < 1
    assert len(whole["artefact_sha256"]) == 64


def test_check_reads_the_files(command_line, exports):
    (exports / "vgg11" / REQUEST.folder.name / "a.bin").write_bytes(b"FIRST")
    assert "whole" in command_line("exports", "list", "--exports", exports).out
    assert "whole" not in command_line("exports", "list", "--exports", exports, "--check").out


def test_an_empty_folder_has_an_empty_list(command_line, tmp_path):
    said = command_line("exports", "list", "--exports", tmp_path)
    assert said.code == 0
    assert said.out.splitlines()[-1].split() == ["total", "0.0", "0"]


@pytest.mark.parametrize(
    ("chosen", "gone"),
    [
        (("--all",), {"whole", "broken", "unfinished"}),
        (("--unfinished",), {"broken", "unfinished"}),
        (("--variant", "vgg13"), {"broken"}),
        (("--variant", "vgg13,vgg11"), {"whole", "broken", "unfinished"}),
        (("--variant", "vgg11", "--unfinished"), {"unfinished"}),
        (("--older-than", "9.9"), {"unfinished"}),
        (("--older-than", "11"), set()),
    ],
)
def test_what_is_chosen_is_removed_and_said(command_line, exports, chosen, gone):
    planned = command_line("exports", "prune", *chosen, "--exports", exports, "--dry-run", "--json")
    assert len(folders(exports)) == 3
    said = command_line("exports", "prune", *chosen, "--exports", exports, "--json")
    assert (planned.code, said.code) == (0, 0)
    document = json.loads(said.out)
    assert {record["state"] for record in document["removed"]} == gone
    assert document["freed_mib"] == pytest.approx(sum(record["artefact_mib"] for record in document["removed"]))
    assert document["dry_run"] is False
    foreseen = json.loads(planned.out)
    assert foreseen["dry_run"] is True
    assert [record["path"] for record in foreseen["removed"]] == [record["path"] for record in document["removed"]]
    assert len(folders(exports)) == 3 - len(gone)


def test_a_person_reads_what_was_freed(command_line, exports):
    arguments = ("exports", "prune", "--older-than", "5", "--exports", exports)
    (line, total) = command_line(*arguments, "--dry-run").out.splitlines()
    assert line == f"{exports / 'vgg11' / (UNFINISHED + REQUEST.folder.name)} (unfinished, 1.0 MiB)"
    assert total == "1 would be removed, and free 1.0 MiB"
    assert command_line(*arguments).out.splitlines() == [line, "1 removed, freed 1.0 MiB"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "say what to remove: --older-than, --variant, --unfinished or --all"),
        (("--all", "--unfinished"), "--all removes every artefact; give it alone"),
        (("--older-than", "-1"), "--older-than is -1; it must be a number of days from 0"),
        (("--older-than", "nan"), "--older-than is nan"),
        (("--older-than", "inf"), "--older-than is inf"),
        (("--variant", "vgg19"), "has no artefact of 'vgg19'; there are vgg11, vgg13"),
        (("--variant", "vgg11,"), "an item is empty"),
    ],
)
def test_a_wrong_request_removes_nothing(command_line, exports, arguments, said):
    answer = command_line("exports", "prune", *arguments, "--exports", exports)
    assert answer.code == 2
    assert said in answer.message
    assert len(folders(exports)) == 3


@pytest.mark.parametrize("command", [("list",), ("prune", "--all")])
def test_an_exports_folder_that_is_not_there_ends_in_one_line(command_line, tmp_path, command):
    answer = command_line("exports", *command, "--exports", tmp_path / "absent")
    assert answer.code == 2
    assert answer.err.splitlines() == [answer.message]
    assert "absent' cannot be read: No such file or directory" in answer.message


def test_ages_are_told_in_the_unit_that_fits():
    told = [_age(days) for days in (0, 0.5 / 24, 1, 1.9, 2.4, 400)]
    assert told == ["0 min", "30 min", "24 h", "46 h", "2 d", "400 d"]


def test_without_a_command_there_is_help_and_2(command_line):
    answer = command_line("exports")
    assert answer.code == 2
    assert "prune" in answer.err
