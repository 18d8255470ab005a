# syntax=docker/dockerfile:1
# Scoring server:  docker build -t zreward .
#                  docker run -p 127.0.0.1:5001:5001 -v "$PWD/data/champion/student:/model:ro" zreward
# Whole pipeline:  docker build -t zreward-pipeline --build-arg EXTRAS='[pipeline]' .
#                  docker run -it -v "$PWD/project:/work" zreward-pipeline init . (then: run)
FROM python:3.12-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY .dvc .dvc
COPY .dvcignore dagster.yaml dvc.yaml launch.yaml params.yaml workspace.yaml ./
COPY data data
COPY docs/runs docs/runs
COPY docs/tutorial.ipynb docs/tutorial.ipynb
COPY params params
COPY pipelines pipelines
COPY zreward_core zreward_core
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.12-slim
ARG EXTRAS=""
COPY constraints.txt /tmp/constraints.txt
COPY --from=build /wheels /tmp/wheels
RUN pip install --no-cache-dir --constraint /tmp/constraints.txt "$(ls /tmp/wheels/zreward-*.whl)${EXTRAS}" \
    && rm -r /tmp/wheels /tmp/constraints.txt \
    && useradd --create-home zreward \
    && mkdir /work && chown zreward /work
USER zreward
WORKDIR /work
ENV HF_HUB_DISABLE_TELEMETRY=1 PYTHONUNBUFFERED=1
EXPOSE 5001
ENTRYPOINT ["zreward"]
CMD ["serve", "/model", "--host", "0.0.0.0"]
