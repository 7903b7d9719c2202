# The training image. Build it from the repository's root:
#   docker build -t spotune-training .
# A base image that has torch (a CUDA one for GPUs) keeps the download small:
#   docker build --build-arg BASE_IMAGE=pytorch/pytorch:<version with CUDA> -t spotune-training .
ARG BASE_IMAGE=python:3.11-slim
FROM ${BASE_IMAGE}

ENV PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PIP_NO_CACHE_DIR=1 \
    HF_HUB_OFFLINE=1 \
    DS_BUILD_OPS=0 \
    PYTHONPATH=/opt/spotune

# DeepSpeed and Triton compile at run time.
RUN apt-get update \
    && apt-get install --yes --no-install-recommends g++ \
    && rm -rf /var/lib/apt/lists/*

WORKDIR /opt/spotune
COPY training_container/requirements.txt training_container/requirements.txt
COPY training_container/requirements-cuda.txt training_container/requirements-cuda.txt
RUN pip install -r training_container/requirements.txt
# Where torch was built for CUDA. Nothing but the packages themselves: torch, Triton and transformers are there.
RUN if python -c "import sys, torch; sys.exit(torch.version.cuda is None)"; then \
        pip install --no-deps -r training_container/requirements-cuda.txt; \
    fi
COPY spotune/__init__.py spotune/py.typed spotune/
COPY spotune/contracts spotune/contracts
COPY spotune/data spotune/data
COPY training_container training_container

# Exec form: the trainer is process 1 and gets SIGTERM itself.
ENTRYPOINT ["python", "-m", "training_container"]
