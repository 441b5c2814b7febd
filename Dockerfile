# docs/install.md says how to build and run it. The checkout is mounted over /app; the environment lies beside it.
FROM python:3.12-slim
# DVC needs git; on a GPU torch.compile needs a C++ compiler.
RUN apt-get update && apt-get install -y --no-install-recommends git g++ && rm -rf /var/lib/apt/lists/*
RUN pip install --no-cache-dir uv
ENV UV_PROJECT_ENVIRONMENT=/opt/environment UV_NO_DEV=1 UV_LINK_MODE=copy
WORKDIR /app
COPY . .
RUN uv sync
ENV UV_NO_SYNC=1
RUN git config --system --add safe.directory /app && git init --quiet
CMD ["uv", "run", "dvc", "repro"]
