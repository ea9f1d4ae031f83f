# Salus in a container: for a look at it. Until there is authorization it serves only on the
# container's own loopback address, so it is reached from inside, or with the host's network.
FROM python:3.11-slim

RUN useradd --create-home --uid 10001 salus
WORKDIR /opt/salus
COPY requirements.lock pyproject.toml README.md ./
RUN python -m venv /opt/venv \
    && /opt/venv/bin/pip install --no-cache-dir --disable-pip-version-check -r requirements.lock
COPY conformance conformance
COPY terminology terminology
COPY smart_auth smart_auth
COPY fhir_server fhir_server
COPY adapters adapters
COPY telehealth_ext telehealth_ext
COPY salus salus
RUN /opt/venv/bin/pip install --no-cache-dir --no-deps --no-build-isolation . \
    && install -d -o salus -g salus -m 700 /var/lib/salus/data /var/lib/salus/keys

USER salus
ENV PATH=/opt/venv/bin:$PATH SALUS_DATA=/var/lib/salus/data SALUS_KEYS=/var/lib/salus/keys
VOLUME ["/var/lib/salus/data", "/var/lib/salus/keys"]
STOPSIGNAL SIGTERM
ENTRYPOINT ["salus"]
CMD ["serve", "--open"]
