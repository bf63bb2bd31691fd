from __future__ import annotations

import re

from tests.meta.repository import ROOT
from vggbench.version import VERSION


def test_version_is_the_changelogs_first_release() -> None:
    releases = re.findall(r"^## \[?(\d[^\s\]]*)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert releases[0] == VERSION
