from __future__ import annotations

import ast

from tests.meta.repository import ROOT, python_files

LONGEST_FILE = 400
LONGEST_FUNCTION = 60


def test_no_file_is_too_long() -> None:
    lengths = {str(path.relative_to(ROOT)): len(path.read_text().splitlines()) for path in python_files()}
    assert {name: length for name, length in lengths.items() if length > LONGEST_FILE} == {}


def test_no_function_is_too_long() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno}: {node.name} has {length} lines"
        for path in python_files()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and (length := (node.end_lineno or node.lineno) - node.lineno + 1) > LONGEST_FUNCTION
    ]
    assert long == []


def test_no_module_is_a_drawer_for_everything() -> None:
    drawers = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}
    assert [str(path.relative_to(ROOT)) for path in python_files() if path.stem in drawers] == []
