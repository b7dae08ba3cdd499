# The platform and everything its workloads need. EXTRAS picks less: --build-arg EXTRAS=serving
FROM python:3.11.14-slim-bookworm AS build
ARG EXTRAS=all
# For PyTorch without CUDA, name the index of its CPU wheels here.
ARG PIP_EXTRA_INDEX_URL
WORKDIR /src
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY core core
COPY plugins plugins
RUN python -m venv /opt/bottega \
    && /opt/bottega/bin/pip install --no-cache-dir -c constraints.txt ".[${EXTRAS}]"

FROM python:3.11.14-slim-bookworm
RUN useradd --system --uid 8390 --create-home bottega \
    && install -d -o bottega -g bottega -m 0700 /data /authority \
    && install -d -o bottega -g bottega /nats
COPY --from=build /opt/bottega /opt/bottega
ENV PATH=/opt/bottega/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    BOTTEGA_CREDENTIALS=/data/credentials.json \
    BOTTEGA__DATA_DIR=/data \
    BOTTEGA__SERVER__HOST=0.0.0.0
USER bottega
WORKDIR /home/bottega
EXPOSE 8390
STOPSIGNAL SIGTERM
CMD ["bottega", "up"]
