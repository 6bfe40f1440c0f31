# SeedSeg on a CPU; docs/running.md says how to use it. BASE: an image with Python 3.10 or newer and apt.
ARG BASE=python:3.12-slim-bookworm
FROM ${BASE}
# hadolint ignore=DL3008
RUN apt-get update && apt-get install -y --no-install-recommends g++ && rm -rf /var/lib/apt/lists/*
WORKDIR /seedseg
COPY requirements.txt ./
COPY CRF CRF
COPY script script
RUN PIP_EXTRA_INDEX_URL=https://download.pytorch.org/whl/cpu PIP_NO_CACHE_DIR=1 bash script/setup.sh
COPY . .
ENV PATH=/seedseg/.venv/bin:$PATH
