#!/bin/sh
# Install a package into /opt/pool from the wheels beside this script; no registry is asked.
set -eu
python3 -m venv --without-pip /opt/pool
# pip runs from its own wheel and is not installed.
PYTHONPATH=$(echo /wheels/pip-*.whl) /opt/pool/bin/python -m pip install \
    --quiet --no-index --find-links /wheels "$1"
