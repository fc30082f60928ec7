# Builds datasets, trains and evaluates, as a user without privileges: docs/install.md has the commands.
FROM python:3.11-slim-bookworm AS build
ARG EXTRAS=train
WORKDIR /src
COPY . .
RUN --mount=type=cache,target=/root/.cache/pip \
  python -m venv /opt/kinetics-sounds && \
  /opt/kinetics-sounds/bin/pip install --constraint constraints.txt ".[$EXTRAS]"

FROM python:3.11-slim-bookworm
COPY --from=build /opt/kinetics-sounds /opt/kinetics-sounds
ENV PATH=/opt/kinetics-sounds/bin:$PATH HOME=/home/ks
# Any user may write to both folders, for docker run --user.
RUN useradd --create-home --uid 1000 ks && install --directory --owner ks --mode 1777 /home/ks /work
USER 1000
WORKDIR /work
HEALTHCHECK --interval=1h --timeout=5m --start-period=5m CMD ["ks-doctor"]
CMD ["ks-doctor"]
