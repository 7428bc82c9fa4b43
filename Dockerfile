# The image of every part of oathbulk: worker, beat, flower and the commands. docs/deployment.md says how it is run.
# The same bytes each time, if SOURCE_DATE_EPOCH is given (.ci/image): so the base stands here with its digest.
ARG BASE=docker.io/library/python:3.13-slim-trixie@sha256:9d2e5553305c7c7b0097999bb17187c69b921ccd6bc9d40e4bb5ebe652c00285

# Built in a stage of its own, so that neither pip nor a build tool of ours is left in the image.
FROM ${BASE} AS build
# Which packages, by the name of a lock: `local` makes an image in which `oathbulk run` and `rehearse` work too.
ARG NEED=run
ARG SOURCE_DATE_EPOCH
WORKDIR /build
RUN python3 -m venv /opt/builder && python3 -m venv --without-pip /opt/oathbulk
# First what changes seldom. Each file is checked against the hash in its lock.
COPY .ci/locks .ci/locks
RUN /opt/builder/bin/pip install --no-cache-dir --no-deps --require-hashes -r .ci/locks/build.txt \
    && /opt/builder/bin/pip --python /opt/oathbulk install --no-cache-dir --no-compile --no-deps --require-hashes \
        -r .ci/locks/${NEED}.txt
COPY pyproject.toml README.md LICENSE ./
COPY models models
COPY migrations migrations
COPY worker worker
RUN /opt/builder/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && /opt/builder/bin/pip --python /opt/oathbulk install --no-cache-dir --no-compile --no-deps --no-index dist/*.whl
# Otherwise it would have the times of its sources in it, which are those of this build.
RUN /opt/oathbulk/bin/python -m compileall -q --invalidation-mode unchecked-hash /opt/oathbulk/lib

FROM ${BASE}
ARG SOURCE_DATE_EPOCH
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
