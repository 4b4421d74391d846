# Two images of one program: `cpu` (slim, the default) and `gpu`. How they are run: compose.yaml, docs/containers.md.
#   docker build --target cpu -t lit_maprops:cpu .
#   docker build --target gpu -t lit_maprops:gpu .
# Both start from one slim Python. A CUDA base image would only double the gpu image: torch's wheels bring CUDA, cuDNN and
# NCCL of the versions they were built for, and the driver comes from the host (NVIDIA Container Toolkit).
# The tag names one Python and one Debian release; to pin the bytes too, give PYTHON_IMAGE with the @sha256 you trust.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS base
ARG UID=1000
ARG GID=1000
ENV PATH=/opt/venv/bin:$PATH \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PYTHONUNBUFFERED=1
# Any user may write caches and runs, so that `docker run --user` works; nothing else in the image is writable.
# /app/runs is the volume: commands and paths are those of the README.
RUN groupadd --non-unique --gid "$GID" maprops \
    && useradd --non-unique --no-log-init --uid "$UID" --gid "$GID" --home-dir /home/maprops maprops \
    && install -d -m 1777 /home/maprops /runs \
    && install -d /app \
    && ln -s /runs /app/runs \
    && python -m venv /opt/venv
WORKDIR /app
VOLUME ["/runs"]
ENTRYPOINT ["python", "-m", "lit_maprops"]
CMD ["--help"]
# A tenth of a second of CPU, so that it costs a training run nothing; the build runs the same command with --fit.
HEALTHCHECK --interval=1m --timeout=30s --start-period=30s CMD ["python", "-m", "lit_maprops", "health"]

# What changes least comes first: torch, then the other packages, then our own code.
# requirements*.lock name every package with its version and hashes, so pip resolves nothing (--no-deps).
FROM base AS torch-cpu
ARG TORCH_CPU_LINKS=https://download.pytorch.org/whl/cpu/torch/
RUN --mount=type=bind,source=requirements-cpu.lock,target=/locks/requirements-cpu.lock \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --find-links "$TORCH_CPU_LINKS" -r /locks/requirements-cpu.lock

FROM base AS torch-gpu
ENV NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility
# For --model.behavior.compile true. This package's version names the release's compiler and stays through its updates.
RUN apt-get update \
    && apt-get install -y --no-install-recommends g++=4:12.2.0-3 \
    && rm -rf /var/lib/apt/lists/*
RUN --mount=type=bind,source=requirements-gpu.lock,target=/locks/requirements-gpu.lock \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes -r /locks/requirements-gpu.lock

# Our own package as a wheel, built by the locked setuptools.
FROM base AS wheel
RUN --mount=type=bind,source=requirements.lock,target=/locks/requirements.lock \
    --mount=type=cache,target=/root/.cache/pip \
    sed -n '/^setuptools==/,/^ *#/p' /locks/requirements.lock > /tmp/setuptools.lock \
    && pip install --no-deps --require-hashes -r /tmp/setuptools.lock
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY lit_maprops lit_maprops
COPY conf conf
COPY sweeps sweeps
RUN pip wheel --no-deps --no-build-isolation --wheel-dir /wheels .

FROM torch-gpu AS gpu
RUN --mount=type=bind,source=requirements.lock,target=/locks/requirements.lock \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --no-build-isolation -r /locks/requirements.lock
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl \
    && pip check
COPY conf conf
COPY sweeps sweeps
ENV HOME=/home/maprops \
    USER=maprops \
    MPLCONFIGDIR=/home/maprops/.config/matplotlib
ARG UID=1000
USER ${UID}
RUN python -m lit_maprops health --fit

# The same steps on the slim base (tests/test_containers.py holds the two equal); last, so that it is the default.
FROM torch-cpu AS cpu
RUN --mount=type=bind,source=requirements.lock,target=/locks/requirements.lock \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --no-deps --require-hashes --no-build-isolation -r /locks/requirements.lock
COPY --from=wheel /wheels /wheels
RUN pip install --no-cache-dir --no-deps /wheels/*.whl \
    && pip check
COPY conf conf
COPY sweeps sweeps
ENV HOME=/home/maprops \
    USER=maprops \
    MPLCONFIGDIR=/home/maprops/.config/matplotlib
ARG UID=1000
USER ${UID}
RUN python -m lit_maprops health --fit
