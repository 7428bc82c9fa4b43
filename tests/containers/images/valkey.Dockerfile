# Debian's Valkey, with the official image's user and data directory.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends valkey-server \
    && rm -rf /var/lib/apt/lists/* \
    && install -d -o valkey -g valkey /data
