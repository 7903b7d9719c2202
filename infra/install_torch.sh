#!/bin/sh
# Installs torch as a CPU build, never a CUDA one by accident.
#   sh infra/install_torch.sh PYTHON
# SPOTUNE_TORCH=cuda takes the package index's default build instead.
set -eu
python=$1
version=2.13.0

installed() {
    "$python" -W ignore - "$version" <<'END'
import importlib.util, sys
if importlib.util.find_spec("torch") is None:
    sys.exit(1)
import torch
if torch.__version__.split("+")[0] != sys.argv[1]:
    sys.exit(1)
END
}

cpu_only() {
    "$python" -W ignore -c 'import sys, torch; sys.exit(torch.version.cuda is not None)'
}

if ! installed; then
    if [ "${SPOTUNE_TORCH:-cpu}" = cuda ]; then
        "$python" -m pip install --quiet "torch==$version"
        exit 0
    fi
    # pip takes the CPU build where its own settings lead to one; uv knows where PyTorch keeps them.
    "$python" -m pip install --quiet "torch==$version+cpu" 2>/dev/null || {
        "$python" -m pip install --quiet uv
        "$python" -m uv pip install --quiet --python "$python" --torch-backend cpu "torch==$version"
    } || {
        echo "No CPU build of torch $version can be had. Point pip at one (PIP_FIND_LINKS or PIP_EXTRA_INDEX_URL;" >&2
        echo "see PyTorch's installation page), or accept the CUDA build with SPOTUNE_TORCH=cuda." >&2
        exit 1
    }
fi
if [ "${SPOTUNE_TORCH:-cpu}" != cuda ] && ! cpu_only; then
    echo "$python holds a CUDA build of torch. Remove .venv and run make setup again, or set SPOTUNE_TORCH=cuda." >&2
    exit 1
fi
