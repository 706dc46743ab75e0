# A server for one model, whose folder is mounted at /model or baked in; docs/how-to/container.md has the commands.
#   docker build --tag product-relevance .                            for a CPU
#   docker build --tag product-relevance:cuda --build-arg DEVICE=cuda .
#   docker build --tag my-model --target baked --build-context model=runs/quickstart .
ARG PYTHON=3.11

FROM python:${PYTHON}-slim-bookworm AS build
ARG DEVICE=cpu
ARG EXTRAS=serve,quickstart
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
WORKDIR /src
COPY constraints.txt ./
RUN python -m venv /opt/relevance
# torch alone, and first: this layer holds most of the bytes and seldom changes. PyPI has torch with CUDA
RUN case "$DEVICE" in \
      cpu) set -- --extra-index-url https://download.pytorch.org/whl/cpu ;; \
      cuda) set -- ;; \
      *) echo "DEVICE=$DEVICE: expected cpu or cuda"; exit 1 ;; \
    esac; \
    /opt/relevance/bin/python -m pip install --no-cache-dir --constraint constraints.txt "$@" torch
COPY . ./
RUN /opt/relevance/bin/python -m pip install --no-cache-dir --constraint constraints.txt ".[$EXTRAS]"

FROM python:${PYTHON}-slim-bookworm AS runtime
RUN groupadd --gid 10001 relevance \
    && useradd --uid 10001 --gid relevance --no-log-init --no-create-home --home-dir /tmp relevance \
    && install --directory --owner relevance --group relevance /cache
COPY --from=build /opt/relevance /opt/relevance
# The root may be read-only: what is written goes to /tmp and, for models of the Hub, to /cache
# (hadolint takes TOKENIZERS for a token)
# hadolint ignore=DL3064
ENV PATH=/opt/relevance/bin:$PATH HF_HOME=/cache HF_HUB_DISABLE_TELEMETRY=1 MPLCONFIGDIR=/tmp \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
USER 10001:10001
WORKDIR /tmp
EXPOSE 8000
# The start is long enough to load a large model
HEALTHCHECK --interval=30s --timeout=10s --start-period=600s --retries=3 \
    CMD ["python", "-m", "product_relevance.serving.http.healthcheck", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["relevance", "serve", "--host", "0.0.0.0"]
CMD ["/model"]

# Built with --target baked alone; `model` is a build context, a folder of this machine
FROM runtime AS baked
# hadolint ignore=DL3022
COPY --from=model . /model

# The default
FROM runtime AS mounted
