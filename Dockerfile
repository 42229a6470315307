# segbench in a container: `docker build --target cpu -t segbench .`, or `--target cuda` for NVIDIA cards.
#   docker run --rm -v "$PWD:/work" segbench run quickstart
# The target `check` runs the quickstart while it is built.
FROM python:3.11-slim-bookworm AS base
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PYTHONUNBUFFERED=1
RUN useradd --create-home --uid 1000 segbench && install -d -o segbench /work

FROM base AS cpu
RUN pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.6" "torchvision>=0.21"
COPY . /src
RUN pip install "/src[tables]" && rm -rf /src
USER segbench
WORKDIR /work
ENTRYPOINT ["segbench"]
CMD ["--help"]

FROM base AS cuda
COPY . /src
RUN pip install "/src[tables]" && rm -rf /src
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
USER segbench
WORKDIR /work
ENTRYPOINT ["segbench"]
CMD ["--help"]

FROM cpu AS check
RUN segbench run quickstart --quiet && test -s runs/reports/quickstart/report.html
