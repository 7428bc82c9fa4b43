# The image of every part of oathbulk: worker, beat, flower and the commands. docs/deployment.md says how it is run.
ARG BASE=python:3.13-slim-trixie

# Built in a stage of its own, so that neither pip nor a build tool of ours is left in the image.
FROM ${BASE} AS build
# Further parts of the package: "[embedded,rehearsal]" makes an image in which `oathbulk rehearse` works too.
ARG EXTRAS=""
WORKDIR /build
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/oathbulk
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY migrations migrations
COPY worker worker
RUN /opt/pip/bin/pip wheel --no-cache-dir --no-deps --wheel-dir dist . \
    && /opt/pip/bin/pip --python /opt/oathbulk install --no-cache-dir "$(echo dist/*.whl)${EXTRAS}"

FROM ${BASE}
# The numbers are part of the interface: volumes and files belong to them.
RUN groupadd --gid 10001 oathbulk \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /var/lib/oathbulk --shell /usr/sbin/nologin oathbulk \
    && install -d -m 0700 -o oathbulk -g oathbulk /var/lib/oathbulk
COPY --from=build /opt/oathbulk /opt/oathbulk
ENV PATH=/opt/oathbulk/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    OATHBULK_HOME=/var/lib/oathbulk
USER 10001:10001
# Not the home: flowerconfig.py is read from the working directory, and nothing may be written here.
WORKDIR /opt/oathbulk
CMD ["oathbulk", "--help"]
