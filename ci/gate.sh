#!/usr/bin/env bash
# Any CI system: gates the environment of one file of requirements against that of another. Its exit code is the verdict
# (0 good, 1 slower or other outputs, 3 not decided, see README), its report is gate.xml in JUnit's form.
#
#     BASE=old-requirements.txt HEAD=requirements.txt CELLS="--variant vgg16_bn --precision fp32" ci/gate.sh
#
# Run again after it was stopped, it goes on where it was.
set -euo pipefail

if [ ! -e gate-run/gate.json ]; then
    python3 -m venv base
    base/bin/python -m pip install --requirement "$BASE"
    python3 -m venv head
    head/bin/python -m pip install --requirement "$HEAD"
    python3 -m venv gate
    gate/bin/python -m pip install "${VGGBENCH:-vggbench}"
    gate/bin/vggbench gate --base base --head head $CELLS --output gate-run --format junit > gate.xml
else
    gate/bin/vggbench gate --resume --output gate-run --format junit > gate.xml
fi
